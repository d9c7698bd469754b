//! Certificates to trust, out of a PEM file. Knows nothing of TLS.

use std::fs::File;
use std::io::{self, Read};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The longest file. All roots that browsers trust are 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the certificates of a PEM file in DER, at least one. Other things in the file don't count. Blocks on the disk.
pub(super) fn read(path: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = read_start(path).map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("not a PEM file: {error}"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate; name a PEM file that does".to_owned());
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}

fn read_start(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
