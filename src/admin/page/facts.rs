//! What the page shows, as plain data.

use std::sync::Arc;
use std::time::SystemTime;

use crate::metrics::{LastMinute, RecentRace, Sample};

/// All that the page shows.
pub struct Facts {
    /// The figures of this moment.
    pub sample: Sample,
    /// Those of the last minute.
    pub minute: LastMinute,
    /// The last races, the newest first.
    pub races: Vec<Arc<RecentRace>>,
    /// This host's name.
    pub host: String,
    /// The address by which the page was asked for.
    pub authority: String,
    /// The file in which the list is kept, if it is in one.
    pub kept_in: Option<String>,
    /// The list in its own grammar, a line for each backend.
    pub list: String,
    /// Why no change could be kept, if none could, and what to do.
    pub not_kept: Option<String>,
    /// Whether a loser of any request may have a long look. Else one that hangs and one that is only slower are told apart by nothing.
    pub has_looks: bool,
}

impl Facts {
    /// Whether a client has got a backend's answer in the last minute. It may still be on its way: a stream, say.
    pub(super) fn has_answers(&self, now: SystemTime) -> bool {
        let is_new = |at: SystemTime| now.duration_since(at).is_ok_and(|ago| ago.as_secs() <= self.minute.seconds);
        self.minute.has_answers()
            || self.sample.backends.iter().any(|backend| backend.stats.last_success().is_some_and(is_new))
    }
}
