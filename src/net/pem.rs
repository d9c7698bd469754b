//! Certificates and keys out of PEM files. Knows nothing of TLS.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The longest file. All roots that browsers trust are 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the certificates of a PEM file in DER, at least one. Other things in the file don't count. Blocks on the disk.
pub fn certificates(path: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = read_start(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("not a PEM file: {error}"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate; name a PEM file that does".to_owned());
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// Reads the first private key of a PEM file. Blocks on the disk.
pub(super) fn key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read_start(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "it holds no private key (an encrypted one cannot be read); if another file does, write CHAIN,KEY"
                .to_owned()
        }
        error => format!("not a PEM file: {error}"),
    })
}

fn read_start(path: &str) -> Result<Vec<u8>, String> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Err("it is a pipe, which would be waited for; name a file".to_owned());
    }
    let mut bytes = Vec::new();
    let read =
        |bytes: &mut Vec<u8>| -> io::Result<usize> { File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(bytes) };
    read(&mut bytes).map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}
