//! How slowly a client may take its reply. Knows nothing of sockets.

use std::time::Duration;

/// The rate at which a client must take its reply, on average, while it is waited for: no network is as slow.
const BYTES_PER_SECOND_MIN: u128 = 1024;

/// Measures the rate at which a client takes one reply. Only the time in which it was waited for counts.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    waited: Duration,
    taken: u128,
}

/// The client has taken less than the least rate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl RateMeter {
    /// Notes that the client took this number of bytes.
    pub(crate) fn note_taken(&mut self, bytes: u64) {
        self.taken += u128::from(bytes);
    }

    /// Notes that the client was waited for. Each `window` of such time is judged by itself: an error if the client has taken too
    /// little in it.
    pub(crate) fn note_wait(&mut self, waited: Duration, window: Duration) -> Result<(), TooSlow> {
        self.waited += waited;
        if self.waited < window {
            return Ok(());
        }
        let RateMeter { waited, taken } = std::mem::take(self);
        if taken < waited.as_millis() * BYTES_PER_SECOND_MIN / 1000 { Err(TooSlow) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_client_may_be_slow_but_not_too_slow() {
        let rows = [
            ("nothing", 0, WINDOW, Err(TooSlow)),
            ("too little", 61_439, WINDOW, Err(TooSlow)),
            ("just enough", 61_440, WINDOW, Ok(())),
            ("nothing, but not for long", 0, Duration::from_millis(59_999), Ok(())),
        ];
        for (label, bytes, waited, expected) in rows {
            let mut rate_meter = RateMeter::default();
            rate_meter.note_taken(bytes);
            assert_eq!(rate_meter.note_wait(waited, WINDOW), expected, "{label}");
        }
    }

    #[test]
    fn what_was_taken_long_ago_does_not_count() {
        let mut rate_meter = RateMeter::default();
        rate_meter.note_taken(10_000_000);
        assert_eq!(rate_meter.note_wait(WINDOW, WINDOW), Ok(()));
        for _ in 0..59 {
            rate_meter.note_taken(100);
            assert_eq!(rate_meter.note_wait(WINDOW / 60, WINDOW), Ok(()));
        }
        assert_eq!(rate_meter.note_wait(WINDOW / 60, WINDOW), Err(TooSlow));
    }
}
