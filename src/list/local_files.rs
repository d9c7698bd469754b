//! What is in the files that a backend's options name: fields for its requests, whom to trust, what to show to it. Everything is
//! checked when it is read. Knows nothing of connections. None of it is ever shown.

use std::fmt;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use crate::message::{ListEntry, LocalOptions, Printable, is_host_field};
use crate::net::pem::Unusable;
use crate::net::{file, pem};

/// The longest file with fields, in bytes, and the most fields: backends take heads of 8 KiB.
const FIELDS_BYTES_MAX: u64 = 8 * 1024;
const FIELDS_MAX: usize = 16;

/// Fields that say how a message travels, or whence it comes: they aren't an operator's to set.
const NOT_TO_BE_SET: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "via",
    "forwarded",
    "cdn-loop",
    "proxy-status",
];

/// What the files of one backend hold. `Debug` shows none of it.
#[derive(Default)]
pub struct LocalFiles {
    /// The fields that each request to it has.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// The roots that are trusted in place of all others.
    pub roots: Option<Arc<RootCertStore>>,
    /// The certificate that is shown to it, and its key.
    pub client: Option<Arc<CertifiedKey>>,
    /// Whether its certificate isn't checked.
    pub is_insecure: bool,
    /// The bytes as they were read, by which a change is seen.
    read: [Option<Vec<u8>>; 3],
}

/// The files of all backends that name some, by the options that do.
pub type LoadedFiles = Vec<(LocalOptions, Arc<LocalFiles>)>;

/// What is wrong with the files that an entry names. `Display` writes the entry, the option and the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFiles {
    /// The entry's place in the list, from 0.
    pub index: usize,
    /// The entry and the reason.
    pub reason: String,
}

impl fmt::Display for BadFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Reads the files that entries name. An error holds all entries with bad ones. Blocks on the disk.
pub fn load_files(entries: &[ListEntry]) -> Result<LoadedFiles, Vec<BadFiles>> {
    let (mut loaded, mut bad) = (LoadedFiles::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.options.local.first().is_some()) {
        match LocalFiles::read(&entry.options.local) {
            Ok(files) => loaded.push((entry.options.local.clone(), Arc::new(files))),
            Err(reason) => {
                let reason = format!("'{}': {reason}", Printable(&entry.to_string()));
                bad.push(BadFiles { index, reason });
            }
        }
    }
    if bad.is_empty() { Ok(loaded) } else { Err(bad) }
}

impl LocalFiles {
    /// Reads the files that these options name.
    fn read(options: &LocalOptions) -> Result<LocalFiles, String> {
        let bytes = |option: &str, path: &Option<String>, read: &dyn Fn(&str) -> Result<Vec<u8>, String>| match path {
            Some(path) => read(path).map(Some).map_err(|reason| bad(option, path, &reason)),
            None => Ok(None),
        };
        let read = [
            bytes("header-file", &options.header_file, &|path| file::read(path, FIELDS_BYTES_MAX))?,
            bytes("ca", &options.ca, &pem::read)?,
            bytes("cert", &options.cert, &pem::read)?,
        ];
        let of = |option: &str, path: &Option<String>, reason: String| {
            bad(option, path.as_deref().unwrap_or_default(), &reason)
        };
        let [fields, ca, cert] = &read;
        let fields = fields.as_ref().map_or(Ok(Vec::new()), |bytes| fields_of(bytes));
        let roots = ca.as_ref().map(|bytes| pem::roots(bytes).map(Arc::new)).transpose();
        let client = cert.as_ref().map(|bytes| client_of(bytes)).transpose();
        Ok(LocalFiles {
            fields: fields.map_err(|reason| of("header-file", &options.header_file, reason))?,
            roots: roots.map_err(|reason| of("ca", &options.ca, reason))?,
            client: client.map_err(|reason| of("cert", &options.cert, reason))?,
            is_insecure: options.is_insecure,
            read,
        })
    }

    /// Whether they hold the same.
    pub fn is_same(&self, other: &LocalFiles) -> bool {
        self.read == other.read && self.is_insecure == other.is_insecure
    }
}

impl fmt::Debug for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFiles").field("is_insecure", &self.is_insecure).finish_non_exhaustive()
    }
}

fn bad(option: &str, path: &str, reason: &str) -> String {
    format!("{option}={}: {reason}", Printable(path))
}

/// Reads `Name: value` lines. A reason names the line, and never the value.
fn fields_of(bytes: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it isn't text".to_owned())?;
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |reason: &str| format!("line {number}: {reason}");
        let (name, value) = line.split_once(':').ok_or_else(|| at("no field; write Name: value"))?;
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| at("its name is no field's; write Name: value"))?;
        let value =
            HeaderValue::from_str(value.trim()).map_err(|_| at("its value has bytes that no field may have"))?;
        if NOT_TO_BE_SET.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-") {
            return Err(at(&format!("{name} isn't to be set: the proxy writes it, or leaves it out")));
        }
        if name == HOST && (value.is_empty() || !value.to_str().is_ok_and(is_host_field)) {
            return Err(at("no host; write Host: a.example or Host: a.example:8080, say"));
        }
        if fields.iter().any(|(other, _)| *other == name) {
            return Err(at(&format!("{name} is given twice")));
        }
        fields.push((name, value));
    }
    match fields.len() {
        0 => Err("there is no field in it; write Name: value".to_owned()),
        1..=FIELDS_MAX => Ok(fields),
        count => Err(format!("{count} fields; write at most {FIELDS_MAX}")),
    }
}

fn client_of(bytes: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let (chain, key) = (pem::chain(bytes)?, pem::key(bytes, " behind the certificate")?);
    pem::certified(chain, key).map(Arc::new).map_err(|unusable| match unusable {
        Unusable::Pair => "its private key isn't that of its first certificate".to_owned(),
        Unusable::Key => pem::UNUSABLE_KEY.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_or_the_line_is_named_and_never_its_value() {
        let good = "# ours\nAuthorization: Bearer secret\n\nhost: other.example\nX-Empty:\n";
        let fields = fields_of(good.as_bytes()).expect(good);
        let texts: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect();
        assert_eq!(texts, ["authorization=Bearer secret", "host=other.example", "x-empty="]);
        let many: Vec<String> = (0..17).map(|number| format!("x-{number}: secret")).collect();
        let many = many.join("\n");
        let rows = [
            ("", "there is no field in it"),
            ("# secret\n", "there is no field in it"),
            ("secret", "line 1: no field; write Name: value"),
            ("A: b\n secret: x", "line 2: its name is no field's"),
            ("a: secret\u{7}", "line 1: its value has bytes that no field may have"),
            ("Connection: secret", "line 1: connection isn't to be set"),
            ("Transfer-Encoding: secret", "line 1: transfer-encoding isn't to be set"),
            ("Content-Length: secret", "line 1: content-length isn't to be set"),
            ("Host:", "line 1: no host; write Host: a.example"),
            ("Host: secret secret", "line 1: no host"),
            ("Host: http://secret/", "line 1: no host"),
            ("Host: user@secret", "line 1: no host"),
            ("Via: secret", "line 1: via isn't to be set"),
            ("X-Forwarded-For: secret", "line 1: x-forwarded-for isn't to be set"),
            ("A: secret\na: secret", "line 2: a is given twice"),
            (&many, "17 fields; write at most 16"),
        ];
        for (text, begin) in rows {
            let reason = fields_of(text.as_bytes()).expect_err(text);
            assert!(reason.starts_with(begin) && !reason.contains("secret"), "{text}: {reason}");
        }
    }

    #[test]
    fn what_no_certificate_or_key_is_in_is_refused() {
        let signed = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let other = rcgen::KeyPair::generate().expect("a key");
        let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
        assert_eq!(pem::roots(certificate.as_bytes()).expect("a root").len(), 1);
        assert!(client_of([certificate.as_str(), &key].concat().as_bytes()).is_ok());
        let rows = [
            (pem::roots(b"x").err(), "it holds no certificate"),
            (pem::roots(key.as_bytes()).err(), "it holds no certificate"),
            (client_of(certificate.as_bytes()).err(), "it holds no private key"),
            (client_of(key.as_bytes()).err(), "it holds no certificate"),
            (
                client_of([certificate.as_str(), &other.serialize_pem()].concat().as_bytes()).err(),
                "its private key isn't that of its first certificate",
            ),
        ];
        for (reason, begin) in rows {
            assert!(reason.as_deref().is_some_and(|reason| reason.starts_with(begin)), "{reason:?}");
        }
    }
}
