//! The table of flags: one row each, with everything about it. Help, environment, checks and `--check` follow from it.
//! Knows nothing of how a command line is read.

mod backends;
mod clients;
mod errands;
mod program;
mod race;
mod updates;

use std::time::Duration;

use url::Url;

use super::Config;
use super::errand::Health;
use crate::message::Address;

/// The most entries of a list of names or networks: a person wrote them.
const ENTRIES_MAX: usize = 64;

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

/// One flag.
pub(super) struct Flag {
    /// Its name, without the hyphens before it.
    pub(super) name: &'static str,
    /// The environment variable that stands in for it.
    pub(super) env: &'static str,
    /// What its value is, in help; in brackets if the flag may go without, which means `on`; empty for a flag that is given or not.
    pub(super) value: &'static str,
    /// Its default, in help.
    pub(super) default: &'static str,
    /// What it does, in help.
    pub(super) help: &'static str,
    /// Takes its value; the error quotes what is bad about it and says what would be right.
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
    /// The value in effect.
    pub(super) show: fn(&Draft) -> String,
}

/// Flags under a heading of the help.
pub(super) struct Group {
    pub(super) heading: &'static str,
    pub(super) flags: &'static [Flag],
}

/// All flags, in the order of help and checks.
pub(super) const GROUPS: &[Group] = &[
    Group { heading: "Races", flags: race::FLAGS },
    Group { heading: "Reaching backends", flags: backends::FLAGS },
    Group { heading: "Clients", flags: clients::FLAGS },
    Group { heading: "Updates", flags: updates::FLAGS },
    Group { heading: "Program", flags: program::FLAGS },
    Group { heading: "A proxy that runs already", flags: errands::FLAGS },
];

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}
