//! Certificates and keys in PEM, out of files or what was read from them. Knows nothing of connections.

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

use super::file;

/// The longest file, in bytes. All roots that browsers trust are 220 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a file in UTF-8 may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What a line begins with that begins a part of a file, or ends one.
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// Reads a file that should be in PEM. Blocks on the disk.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    Ok(parted(&file::read(path, FILE_BYTES_MAX)?))
}

/// Has each part begin a line of its own. `cat` puts it behind the end of another one where a file's last line has no end, and some
/// editors of Windows begin files with a mark, which `cat` keeps: the reader of PEM would pass over both parts.
fn parted(bytes: &[u8]) -> Vec<u8> {
    let mut parted = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let begin = line.windows(BEGIN.len()).position(|window| window == BEGIN);
        match begin.filter(|_| line.starts_with(END)) {
            Some(at) => parted.extend([&line[..at], b"\n", &line[at..]].concat()),
            None => parted.extend_from_slice(line),
        }
    }
    parted
}

/// Takes the certificates, at least one. Other things don't count.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.map_err(|error| no_pem(&error, bytes))?;
    if certificates.is_empty() && has(bytes, "-----BEGIN TRUSTED CERTIFICATE-----") {
        return Err(
            "its certificates are in a form of OpenSSL's own (TRUSTED); write each anew: openssl x509 -in OLD -out NEW"
                .to_owned(),
        );
    }
    if certificates.is_empty() {
        return Err("it holds no certificate; name a PEM file that does".to_owned());
    }
    Ok(certificates)
}

/// Takes the certificates of a chain, each of which can be read.
pub(crate) fn chain(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(bytes)?;
    for (number, certificate) in (1..).zip(&chain) {
        let parsed = ParsedCertificate::try_from(certificate);
        parsed.map_err(|error| format!("its certificate {number} {}", unreadable(&error)))?;
    }
    Ok(chain)
}

/// Takes the certificates as authorities that are trusted, at least one.
pub(crate) fn roots(bytes: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(bytes)?) {
        roots.add(certificate).map_err(|error| format!("its certificate {number} {}", unreadable(&error)))?;
    }
    Ok(roots)
}

/// Takes the first private key. `elsewhere` says where else it could be given.
pub(crate) fn key(bytes: &[u8], elsewhere: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if has(bytes, "-----BEGIN ENCRYPTED PRIVATE KEY-----") => ENCRYPTED.to_owned(),
        pem::Error::NoItemsFound => {
            format!("it holds no private key (an encrypted one cannot be read){elsewhere}")
        }
        error => no_pem(&error, bytes),
    })
}

/// What is wrong with a key that only its passphrase opens.
const ENCRYPTED: &str =
    "its private key is encrypted and cannot be read; write it without a passphrase: openssl pkey -in OLD -out NEW";

/// Why a chain and a key can't be used together.
pub(crate) enum Unusable {
    /// The key is another one than that of the first certificate.
    Pair,
    Key,
}

/// What is wrong with a key that can't be used.
pub(crate) const UNUSABLE_KEY: &str =
    "this private key can't be used: it must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits";

/// Joins a chain and its key.
pub(crate) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Unusable> {
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(_) => Unusable::Pair,
        _ => Unusable::Key,
    })
}

/// What is wrong with a certificate that can't be read, behind its name.
pub(crate) fn unreadable(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.to_string().as_str() {
            "UnsupportedCertVersion" => "is older than X.509 version 3; have a new one issued".to_owned(),
            name => format!("has a part that can't be read ({}); have a new one issued", words(name)),
        },
        _ => "is cut off, damaged, or none of X.509; export it again".to_owned(),
    }
}

fn no_pem(error: &pem::Error, bytes: &[u8]) -> String {
    let reason = match error {
        // The old form says so in fields above the Base64.
        pem::Error::Base64Decode(_) if has(bytes, "Proc-Type: 4,ENCRYPTED") => return ENCRYPTED.to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a line with -----BEGIN has no line with -----END behind it",
        pem::Error::IllegalSectionStart { .. } => "a line with -----BEGIN doesn't end with -----",
        pem::Error::Base64Decode(_) => "what is between -----BEGIN and -----END isn't Base64",
        error => return format!("not a PEM file: {error}"),
    };
    format!("not a PEM file: {reason}; export it again")
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// `a few words` of `AFewWords`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    /// Was seen as: `missing section end marker: [45, 45, 45, 45, 45, 69, …]`, `InvalidCertificate(BadEncoding)`.
    #[test]
    fn what_is_wrong_with_a_file_is_told_in_a_sentence() {
        let of = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let no_pem = |reason: &str| format!("not a PEM file: {reason}; export it again");
        let no_end = no_pem("a line with -----BEGIN has no line with -----END behind it");
        let damaged = "its certificate 1 is cut off, damaged, or none of X.509; export it again".to_owned();
        let rows = [
            ("cut off", "-----BEGIN CERTIFICATE-----\nAAAA".to_owned(), &no_end),
            ("another end", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END X-----".to_owned(), &no_end),
            (
                "no dashes",
                "-----BEGIN CERTIFICATE\nAAAA\n".to_owned(),
                &no_pem("a line with -----BEGIN doesn't end with -----"),
            ),
            ("not Base64", of("A~A"), &no_pem("what is between -----BEGIN and -----END isn't Base64")),
            ("noise", of("AAAA"), &damaged),
            ("half", of("MIIBszCCAVmgAwIBAgIUQQ=="), &damaged),
        ];
        for (label, text, expected) in rows {
            for told in [chain(text.as_bytes()).err(), roots(text.as_bytes()).err()] {
                assert_eq!(told.as_ref(), Some(expected), "{label}");
            }
        }
        let key = key(b"-----BEGIN PRIVATE KEY-----\nAAAA", "").err();
        assert_eq!(key, Some(no_end));
    }

    /// Was seen as: `what is between -----BEGIN and -----END isn't Base64; export it again`.
    #[test]
    fn an_encrypted_key_is_told_as_one() {
        let fields = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,1FA9\n\n";
        for (label, text) in [("EC", fields), ("RSA", fields), ("ENCRYPTED", "")] {
            let label = format!("{label} PRIVATE KEY");
            let text = format!("-----BEGIN {label}-----\n{text}AAAA\n-----END {label}-----\n");
            assert_eq!(key(text.as_bytes(), "").err().as_deref(), Some(ENCRYPTED), "{label}");
        }
        let both = format!("-----BEGIN EC PRIVATE KEY-----\n{fields}AAAA\n-----END EC PRIVATE KEY-----\n");
        assert_eq!(chain(both.as_bytes()).err().as_deref(), Some(ENCRYPTED), "in the chain's file");
    }

    #[test]
    fn a_form_of_openssl_alone_is_told_and_a_byte_order_mark_is_passed_over() {
        let trusted = "-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n";
        assert!(certificates(trusted.as_bytes()).is_err_and(|told| told.contains("openssl x509 -in OLD -out NEW")));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("marked.pem");
        let one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, format!("\u{feff}{one}")).expect("a file");
        assert_eq!(read(path.to_str().expect("UTF-8")), Ok(one.as_bytes().to_vec()));
    }

    /// Was seen as: an authority that isn't trusted, a chain without its second certificate.
    #[test]
    fn a_certificate_that_begins_in_the_line_of_another_s_end_is_read() {
        let one = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----");
        let file = tempfile::NamedTempFile::new().expect("a file");
        for glue in ["", " ", "\n", "\r\n", "\u{feff}", "\n\u{feff}"] {
            std::fs::write(file.path(), [one("AAAA"), one("AAEC"), one("AAED")].join(glue)).expect("written");
            let bytes = read(file.path().to_str().expect("UTF-8")).expect("a file");
            let found: Vec<Vec<u8>> = certificates(&bytes).expect(glue).iter().map(|der| der.to_vec()).collect();
            assert_eq!(found, [[0, 0, 0], [0, 1, 2], [0, 1, 3]], "{glue:?}");
        }
    }

    #[test]
    fn what_a_certificate_lacks_is_told_in_words() {
        let other = |name: &'static str| {
            let error = OtherError(Arc::new(std::io::Error::other(name)));
            unreadable(&Error::InvalidCertificate(CertificateError::Other(error)))
        };
        assert_eq!(other("UnsupportedCertVersion"), "is older than X.509 version 3; have a new one issued");
        let told = "has a part that can't be read (invalid serial number); have a new one issued";
        assert_eq!(other("InvalidSerialNumber"), told);
    }
}
