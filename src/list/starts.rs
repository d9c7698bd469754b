//! Whether the starts of a list's legs make sense together. Knows nothing of where the list comes from.

use std::fmt;
use std::time::Duration;

use crate::message::{After, Excerpt, ListEntry, show_duration};

/// What is wrong with when a list's legs start. `Display` is safe to show, and says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadStart {
    /// Every backend waits for others.
    NoneAtOnce,
    /// This entry's leg starts when those before it are over in any case, which is this long after the race's begin.
    TooLate(String, Duration),
}

/// Checks when the legs start. `timeout` is the common one.
pub fn check_starts(entries: &[ListEntry], timeout: Duration) -> Result<(), BadStart> {
    let is_late =
        |entry: &&ListEntry| entry.options.after.and_then(After::longest).is_some_and(|longest| longest > timeout);
    if let Some(entry) = entries.iter().find(is_late) {
        return Err(BadStart::TooLate(entry.to_string(), timeout));
    }
    // A paused one counts: an operator pauses it for a while.
    let waits = |entry: &ListEntry| entry.options.after.is_some_and(|after| !after.is_at_once());
    if !entries.is_empty() && entries.iter().all(waits) { Err(BadStart::NoneAtOnce) } else { Ok(()) }
}

impl fmt::Display for BadStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadStart::NoneAtOnce => f.write_str("no backend starts at once: leave out one 'after'"),
            BadStart::TooLate(entry, timeout) => {
                let timeout = show_duration(*timeout);
                write!(f, "'{}': its 'after' is longer than --timeout; write at most {timeout}", Excerpt(entry))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse_entries;

    #[test]
    fn one_backend_starts_at_once_and_none_beyond_the_timeout() {
        let none = "no backend starts at once: leave out one 'after'";
        let rows = [
            ("", None),
            ("http://a", None),
            ("http://a,http://b after=5s", None),
            ("http://a,http://b after=p95 timeout=1s", None),
            ("http://a,http://b after=2s timeout=1s", None),
            ("http://a paused,http://b after=1s", None),
            ("http://a after=0s,http://b after=1s", None),
            ("http://a after=1s", Some(none)),
            ("http://a after=p95,http://b after=200ms paused", Some(none)),
            (
                "http://a,http://b after=5001ms",
                Some("'http://b after=5001ms': its 'after' is longer than --timeout; write at most 5s"),
            ),
            (
                "http://a,http://b after=p95..6s timeout=9s",
                Some("'http://b after=p95..6s timeout=9s': its 'after' is longer than --timeout; write at most 5s"),
            ),
        ];
        for (list, expected) in rows {
            let entries = parse_entries(list).expect(list);
            let found = check_starts(&entries, Duration::from_secs(5)).err().map(|bad| bad.to_string());
            assert_eq!(found.as_deref(), expected, "{list}");
        }
    }
}
