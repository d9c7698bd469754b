//! The flags' values while they are read.

use std::time::Duration;

use url::Url;

use super::settings::Config;
use crate::message::Address;

/// The configuration while flags are read, and all that only matters until it is complete.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// The value given, if any; the default depends on the timeout.
    pub(super) idle_timeout: Option<Duration>,
    /// The value given, if any; the default depends on the timeout.
    pub(super) linger_unsafe: Option<Duration>,
    pub(super) check: bool,
    pub(super) demo: bool,
    pub(super) health: Option<Health>,
    /// The list for another proxy; empty if no update is asked for.
    pub(super) update: Vec<Address>,
    /// The admin port to ask, unless it is the configuration's own.
    pub(super) admin: Option<Url>,
}

impl Draft {
    /// A draft of nothing but defaults.
    pub(super) fn new() -> Draft {
        Draft {
            config: Config::new(Vec::new()),
            idle_timeout: None,
            linger_unsafe: None,
            check: false,
            demo: false,
            health: None,
            update: Vec::new(),
            admin: None,
        }
    }
}

/// The proxy whose health is asked for.
#[derive(Debug)]
pub(super) enum Health {
    /// The one that listens where these flags and variables say.
    Own,
    /// Whatever answers at this URL.
    At(Url),
}
