//! How slowly a client may take its reply. Knows nothing of sockets.

use std::time::Duration;

/// What a client must take, on average, while it is waited for: slower is no line that anybody has.
const BYTES_PER_SECOND_MIN: u128 = 1024;

/// How a client takes one reply. Only the time counts in which it was waited for.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    waited: Duration,
    taken: u128,
}

impl RateMeter {
    /// The client took so many bytes.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.taken += bytes as u128;
    }

    /// Notes that the client was waited for: whether it has taken too little while it was for as long as `window`.
    pub(crate) fn note_wait(&mut self, waited: Duration, window: Duration) -> bool {
        self.waited += waited;
        if self.waited < window {
            return false;
        }
        let RateMeter { waited, taken } = std::mem::take(self);
        taken < waited.as_millis() * BYTES_PER_SECOND_MIN / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_client_may_be_slow_but_not_too_slow() {
        let rows = [
            ("nothing", 0, WINDOW, true),
            ("too little", 61_439, WINDOW, true),
            ("just enough", 61_440, WINDOW, false),
            ("nothing, but not for long", 0, Duration::from_millis(59_999), false),
        ];
        for (label, bytes, waited, expected) in rows {
            let mut rate_meter = RateMeter::default();
            rate_meter.took(bytes);
            assert_eq!(rate_meter.note_wait(waited, WINDOW), expected, "{label}");
        }
    }

    #[test]
    fn what_was_taken_long_ago_does_not_count() {
        let mut rate_meter = RateMeter::default();
        rate_meter.took(10_000_000);
        assert!(!rate_meter.note_wait(WINDOW, WINDOW));
        for _ in 0..59 {
            rate_meter.took(100);
            assert!(!rate_meter.note_wait(WINDOW / 60, WINDOW));
        }
        assert!(rate_meter.note_wait(WINDOW / 60, WINDOW));
    }
}
