//! The flags' values while they are read.

use std::path::PathBuf;
use std::time::Duration;

use super::asked_at::AskedAt;
use super::settings::Config;
use crate::message::ListEntry;

/// The configuration while flags are read, and all that only matters until it is complete. The default is a draft of nothing but defaults.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// The value given, if any; the default depends on the timeout.
    pub(super) idle_timeout: Option<Duration>,
    /// The value given, if any; the default depends on the timeout.
    pub(super) linger_unsafe: Option<Duration>,
    pub(super) check: bool,
    pub(super) probe: bool,
    pub(super) demo: bool,
    /// The target of the one request to try, if that is asked for.
    pub(super) trial: Option<String>,
    pub(super) health: Option<Health>,
    /// The file that the list is kept in, if there is one.
    pub(super) backends_file: Option<PathBuf>,
    /// The update for another proxy, if one is asked for.
    pub(super) update: Option<Update>,
    /// The admin port to ask, unless it is the configuration's own.
    pub(super) admin: Option<AskedAt>,
}

/// What another proxy is told of its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// This is the list; it is never empty.
    List(Vec<ListEntry>),
    /// These are changes of it, as the fields of `POST /backends` have them.
    Changes(Vec<(&'static str, String)>),
}

/// The proxy whose health is asked for.
#[derive(Debug)]
pub(super) enum Health {
    /// The one that listens where these flags and variables say.
    Own,
    /// Whatever answers there.
    At(AskedAt),
}
