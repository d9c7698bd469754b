//! What is known of a backend, and what isn't. Knows nothing of how the page looks.

use std::time::{Duration, SystemTime};

use crate::metrics::{ANSWERS, BackendMinute, BackendSample};

const MINUTE: Duration = Duration::from_secs(60);

/// What is said of a backend whose losers were all hung up on, where none may have a long look.
pub(super) const NOT_KNOWN: &str = "not known: losers don't linger";

/// Whether each address of its name is a backend, and none is known.
pub(super) fn has_no_address(backend: &BackendSample) -> bool {
    backend.addresses.as_ref().is_some_and(Vec::is_empty)
}

/// Whether it has answered in the last minute. Legs count at their end: a stream, or a tunnel, may have begun and last for hours.
pub(super) fn has_answered(backend: &BackendSample, minute: &BackendMinute, now: SystemTime) -> bool {
    let is_new = |at: SystemTime| now.duration_since(at).is_ok_and(|ago| ago <= MINUTE);
    minute.count_of(&ANSWERS) > 0 || backend.stats.last_success().is_some_and(is_new)
}

/// Whether a leg of the last minute was sent there, and not only deferred.
pub(super) fn was_asked(minute: &BackendMinute) -> bool {
    minute.asked() > 0
}

/// Whether its legs were all hung up on, and none could have a long look: it may hang, or be only slower than the winners.
pub(super) fn is_unknown(minute: &BackendMinute, has_looks: bool) -> bool {
    let is_cut = |word: &str| ["cancelled", "skipped"].contains(&word);
    !has_looks && minute.count_of(&["cancelled"]) > 0 && minute.ends.iter().all(|(word, _)| is_cut(word))
}

/// Whether a success of its may have gone unseen.
pub(super) fn has_hidden_ends(backend: &BackendSample, has_looks: bool) -> bool {
    !has_looks && backend.stats.ends().any(|(word, count)| word == "cancelled" && count > 0)
}
