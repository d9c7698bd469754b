//! A line between the thread that logs and the one that writes.

use std::borrow::Cow;
use std::ops::Range;
use std::time::SystemTime;

use log::Level;

/// A line that waits for being written.
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) target: Cow<'static, str>,
    pub(super) text: String,
    /// The time that it carries.
    pub(super) at: SystemTime,
    pub(super) kind: Kind,
}

/// The kinds of lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// About anything.
    Plain,
    /// About an exchange, with the place of the list of its backends.
    Exchange(Range<usize>),
    /// An object of JSON, about an exchange.
    Object,
}
