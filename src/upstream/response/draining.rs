//! The rest of a loser's body. Only its end is needed, which frees the connection, so it is waited for in the poller.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::upstream::conn::parking::Readiness;
use crate::upstream::response::body::{AnswerBody, StreamedBody};

/// The bytes of one read: most rests are shorter.
const PIECE_BYTES: usize = 4096;

/// A body that is being read to its end.
pub struct Draining {
    body: StreamedBody,
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
            AnswerBody::Streamed(body) => Draining::begin(*body, bytes_max, silence_max),
        }
    }
}

impl Draining {
    fn begin(body: StreamedBody, bytes_max: u64, silence_max: Duration) -> Option<Draining> {
        let is_worth_it = body.left.is_none_or(|left| left <= bytes_max);
        let silence_max = silence_max.min(body.pool.idle_timeout());
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
