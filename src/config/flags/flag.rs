//! One row of the table of flags.

use crate::config::draft::Draft;

/// The most entries of a list of names or networks: an operator writes them.
pub(in crate::config) const ENTRIES_MAX: usize = 64;

/// One flag: all that help, environment, checks and `--check` need of it.
pub(in crate::config) struct Flag {
    /// Its name, without the hyphens before it.
    pub(in crate::config) name: &'static str,
    /// The environment variable that stands in for it.
    pub(in crate::config) env: &'static str,
    /// The placeholder of its value, in help; in brackets if the flag may go without, which means `on`; empty for a
    /// flag that is given or not.
    pub(in crate::config) value: &'static str,
    /// Its default, in help.
    pub(in crate::config) default: &'static str,
    /// Its effect, in help.
    pub(in crate::config) help: &'static str,
    /// Takes its value; the error quotes what is bad about it and says what would be right.
    pub(in crate::config) set: fn(&mut Draft, &str) -> Result<(), String>,
    /// Shows the value in effect.
    pub(in crate::config) show: fn(&Draft) -> String,
}
