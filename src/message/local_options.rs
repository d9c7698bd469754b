//! The options of a backend that name files of this host, or trust it blindly: they can't be set over HTTP. Knows nothing of what
//! is in the files.

use std::fmt;

use super::Excerpt;

/// The options that only a file, a flag or the environment may set. The default sets none. `Display` writes a blank before each:
/// paths, never what is in the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalOptions {
    /// Where the fields are that each request to it has.
    pub header_file: Option<String>,
    /// Where the certificates are that are trusted in place of all others.
    pub ca: Option<String>,
    /// Where the certificate is that is shown to it, with its key.
    pub cert: Option<String>,
    /// Whether its certificate isn't checked.
    pub is_insecure: bool,
}

impl LocalOptions {
    /// Takes an option, and gives whether it was given before; `None` if it is none of these.
    pub(super) fn take(&mut self, option: &str, value: Option<&str>) -> Option<Result<bool, String>> {
        let path = match option {
            "header-file" => &mut self.header_file,
            "ca" => &mut self.ca,
            "cert" => &mut self.cert,
            "insecure" => {
                return Some(match value {
                    None => Ok(std::mem::replace(&mut self.is_insecure, true)),
                    Some(_) => Err("'insecure' takes no value; write it alone, or leave it out".to_owned()),
                });
            }
            _ => return None,
        };
        Some(match value {
            Some(value) if !value.is_empty() && !value.contains(['"', '\'']) => {
                Ok(path.replace(value.to_owned()).is_some())
            }
            Some(value) if !value.is_empty() => Err(format!("'{option}={}': a path without quotes", Excerpt(value))),
            _ => Err(format!("'{option}' has no value; write {option}=/etc/red-tentacle/{option}, say")),
        })
    }

    /// Checks whether they go with each other, and with a backend that has TLS or not.
    pub(super) fn check(&self, is_tls: bool) -> Result<(), String> {
        match self.of_tls() {
            Some(option) if !is_tls => Err(format!("'{option}' is for https://; leave it out, or write https://")),
            _ if self.is_insecure && self.ca.is_some() => {
                Err("'ca' says whom to trust, 'insecure' that nothing is checked; leave one out".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn of_tls(&self) -> Option<&'static str> {
        let is_insecure = self.is_insecure.then_some("insecure");
        self.ca.as_ref().map(|_| "ca").or(self.cert.as_ref().map(|_| "cert")).or(is_insecure)
    }

    /// The first of them that is set.
    pub fn first(&self) -> Option<&'static str> {
        self.header_file.as_ref().map(|_| "header-file").or_else(|| self.of_tls())
    }

    /// Whether they name a file.
    pub fn names_file(&self) -> bool {
        self.header_file.is_some() || self.ca.is_some() || self.cert.is_some()
    }
}

impl fmt::Display for LocalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (option, path) in [("header-file", &self.header_file), ("ca", &self.ca), ("cert", &self.cert)] {
            if let Some(path) = path {
                write!(f, " {option}={path}")?;
            }
        }
        f.write_str(if self.is_insecure { " insecure" } else { "" })
    }
}
