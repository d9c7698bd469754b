//! What is known of a backend, and what isn't. Knows nothing of how the page looks.

use crate::metrics::{BackendMinute, BackendSample};

/// What is said of a backend whose losers were all hung up on, where none may have a long look.
pub(super) const NOT_KNOWN: &str = "not known: losers don't linger";

/// Whether each address of its name is a backend, and none is known.
pub(super) fn has_no_address(backend: &BackendSample) -> bool {
    backend.addresses.as_ref().is_some_and(Vec::is_empty)
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
