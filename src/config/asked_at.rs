//! The address of a proxy that runs already. Knows nothing of what it is asked.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::message::shown_path;

/// Where a proxy that runs already is asked. `Display` writes it as flags take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedAt {
    /// A URL of HTTP.
    Url(Url),
    /// The path of a Unix socket, at which HTTP is spoken, too.
    Socket(PathBuf),
}

impl fmt::Display for AskedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedAt::Url(url) => url.fmt(f),
            AskedAt::Socket(path) => write!(f, "unix:{}", shown_path(path)),
        }
    }
}
