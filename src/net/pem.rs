//! Certificates and keys in PEM, out of files or what was read from them. Knows nothing of connections.

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::file;

/// The longest file, in bytes. All roots that browsers trust are 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file that should be in PEM. Blocks on the disk.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    file::read(path, FILE_BYTES_MAX)
}

/// Takes the certificates, at least one. Other things don't count.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.map_err(|error| format!("not a PEM file: {error}"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate; name a PEM file that does".to_owned());
    }
    Ok(certificates)
}

/// Takes the certificates as authorities that are trusted, at least one.
pub(crate) fn roots(bytes: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(bytes)?) {
        roots.add(certificate).map_err(|error| format!("certificate {number} can't be trusted: {error}"))?;
    }
    Ok(roots)
}

/// Takes the first private key. `elsewhere` says where else it could be given.
pub(crate) fn key(bytes: &[u8], elsewhere: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("it holds no private key (an encrypted one cannot be read){elsewhere}")
        }
        error => format!("not a PEM file: {error}"),
    })
}
