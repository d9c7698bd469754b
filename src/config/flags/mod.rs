//! The table of flags: one row each, with everything about it. Help, environment, checks and `--check` follow from it.
//! Knows nothing of how a command line is read.

mod admin_commands;
mod backends;
mod clients;
pub(super) mod flag;
mod https;
mod program;
mod race;
mod updates;

use flag::Flag;

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
    Group { heading: "HTTPS for clients", flags: https::FLAGS },
    Group { heading: "Updates", flags: updates::FLAGS },
    Group { heading: "Program", flags: program::FLAGS },
    Group { heading: "A proxy that runs already", flags: admin_commands::FLAGS },
];

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}
