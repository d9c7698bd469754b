//! What the flags say so far.

use std::time::Duration;

use url::Url;

use super::settings::Config;
use crate::message::Address;

/// What the flags say so far: the configuration, and what only matters until it is complete.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// As given; its default depends on the timeout.
    pub(super) idle_timeout: Option<Duration>,
    /// Likewise.
    pub(super) linger_unsafe: Option<Duration>,
    pub(super) check: bool,
    pub(super) demo: bool,
    pub(super) health: Option<Health>,
    /// Empty if none is asked for.
    pub(super) update: Vec<Address>,
    /// If it isn't the configuration's own admin port.
    pub(super) admin: Option<Url>,
}

impl Draft {
    /// Nothing but defaults.
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

/// Whose health is asked for.
#[derive(Debug)]
pub(super) enum Health {
    /// The proxy's that listens where these flags and variables say.
    Own,
    /// Whatever answers there.
    At(Url),
}
