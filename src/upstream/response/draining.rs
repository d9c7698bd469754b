//! The rest of a loser's body. Only its end is needed, which frees the connection, so it is waited for in the poller.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::upstream::conn::parking::Readiness;
use crate::upstream::response::body::{AnswerBody, StreamedBody};

/// The bytes of one read: most rests are shorter.
const PIECE_BYTES: usize = 8192;

/// A body that is being read to its end.
pub struct Draining {
    body: Box<StreamedBody>,
    /// The most bytes that are still read.
    bytes_max: u64,
    /// The longest silence.
    silence_max: Duration,
    /// Until when more must have been received.
    until: Instant,
}

impl AnswerBody {
    /// Reads what has been received of a loser's body, so that its connection can be used again, unless it is longer than
    /// `bytes_max`, or silent for longer than `silence_max` or the idle timeout. Gives what has to be waited for.
    pub fn drain(self, bytes_max: u64, silence_max: Duration) -> Option<Draining> {
        match self {
            AnswerBody::Whole(_) => None,
            AnswerBody::Streamed(body) => Draining::begin(body, bytes_max, silence_max),
        }
    }
}

impl Draining {
    fn begin(body: Box<StreamedBody>, bytes_max: u64, silence_max: Duration) -> Option<Draining> {
        let is_worth_it = body.left.is_none_or(|left| left <= bytes_max);
        let silence_max = silence_max.min(body.pool.endpoint().idle_timeout());
        let until = Instant::now() + silence_max;
        if is_worth_it { Draining { body, bytes_max, silence_max, until }.read_more() } else { None }
    }

    /// Reads what has been received. Gives nothing back after the end, or if the body is too long. Doesn't block.
    pub fn read_more(mut self) -> Option<Draining> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            match self.body.read(&mut piece) {
                Ok(count @ 1..) => {
                    self.bytes_max = self.bytes_max.checked_sub(count as u64)?;
                    self.until = Instant::now() + self.silence_max;
                }
                // Records without a byte in them, of which there may be more, are read on only with the next event: the time
                // runs.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Some(self);
                }
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The place where the leg parks: it is woken when more may have been received, or an end, or nothing for too long. Doesn't
    /// block.
    pub fn readiness(&self) -> Arc<dyn Readiness> {
        let pooled = self.body.pooled.as_ref().expect("a body that is still coming has its connection");
        pooled.connection().set_deadline(self.until);
        pooled.connection().clone()
    }

    /// Whether no more has been received in time, or the leg is hung up on.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until || self.body.token.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::scenario::{Backend, LONG, Scenario, get};

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// A loser whose head has been received, and its body as far as `begin`.
    fn loser(head: &str, begin: &str) -> (Scenario, AnswerBody, Backend) {
        let scenario = Scenario::new();
        let (body, _, mut backend) = scenario.streamed(head);
        backend.sends(begin);
        (scenario, AnswerBody::Streamed(body), backend)
    }

    #[test]
    fn a_body_that_has_been_received_is_read_at_once_and_frees_its_connection() {
        let (scenario, body, _backend) = loser(HEAD, "hello");
        assert!(body.drain(5, LONG).is_none());
        assert_eq!(scenario.take_idle(), 1);
    }

    #[test]
    fn a_body_that_is_still_coming_is_waited_for_in_the_poller() {
        let (scenario, body, mut backend) = loser(HEAD, "he");
        let mut draining = body.drain(5, LONG);
        let sending = std::thread::spawn(move || {
            backend.sends("llo");
            backend
        });
        while let Some(waiting) = draining {
            wait_for(&waiting.readiness());
            draining = waiting.read_more();
        }
        assert_eq!(scenario.take_idle(), 1);
        drop(sending.join());
    }

    #[test]
    fn a_body_that_is_too_long_hangs_up_as_soon_as_that_is_known() {
        for (label, head, begin, bytes_max) in
            [("by its head", HEAD, "", 4), ("by its bytes", CHUNKED, "5\r\nhello\r\n", 4)]
        {
            let (scenario, body, mut backend) = loser(head, begin);
            assert!(body.drain(bytes_max, LONG).is_none(), "{label}");
            assert!(backend.receives_to_end().ends_with(b"\r\n\r\n") && scenario.take_idle() == 0, "{label}");
        }
        let (_scenario, body, _backend) = loser(CHUNKED, "5\r\nhello\r\n");
        assert!(body.drain(5, LONG).is_some(), "it may end here");
    }

    #[test]
    fn a_body_is_over_when_it_has_been_silent_for_too_long() {
        let (_scenario, body, _backend) = loser(HEAD, "he");
        assert!(body.drain(5, LONG).is_some_and(|draining| !draining.is_over()));
        let (_scenario, body, _backend) = loser(HEAD, "he");
        let draining = body.drain(5, Duration::ZERO).expect("it isn't whole");
        wait_for(&draining.readiness());
        assert!(draining.is_over());
    }

    #[test]
    fn the_idle_timeout_bounds_a_loser_that_may_be_silent_for_longer() {
        let scenario = Scenario::with(|options| options.idle_timeout = Duration::ZERO);
        let (body, _, _backend) = scenario.streamed(HEAD);
        assert!(AnswerBody::Streamed(body).drain(5, LONG).is_some_and(|draining| draining.is_over()));
    }

    #[test]
    fn a_body_is_over_when_it_is_hung_up_on() {
        let scenario = Scenario::new();
        let (body, token, _backend) = scenario.streamed(HEAD);
        let draining = AnswerBody::Streamed(body).drain(5, LONG).expect("it isn't whole");
        token.cancel();
        wait_for(&draining.readiness());
        assert!(draining.is_over() && draining.read_more().is_none());
        assert_eq!(scenario.take_idle(), 0);
    }

    #[test]
    fn a_loser_that_has_been_received_whole_has_nothing_to_drain() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        backend.sends([HEAD, "hello"].concat());
        let answer = leg.answer_as_loser().expect("an answer");
        assert_eq!(scenario.take_idle(), 1, "its connection is free before its leg goes on");
        assert!(answer.body.drain(0, Duration::ZERO).is_none());
    }
}
