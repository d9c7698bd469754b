//! The rest of a loser's body. Nobody needs it but for its end, which frees the line, so it is waited for in the poller.

use std::io::Read;
use std::time::Instant;

use super::AnswerBody;
use super::session::Seen;
use super::slot::Wake;
use crate::message::Source;

/// Read at once: most rests are shorter.
const PIECE_BYTES: usize = 4096;

/// A body that is being read to its end.
pub struct Draining {
    body: AnswerBody,
    /// No more is read than this.
    bytes_max: u64,
}

impl Draining {
    pub(super) fn begin(body: AnswerBody, bytes_max: u64) -> Option<Draining> {
        let is_worth_it = body.left.is_none_or(|left| left <= bytes_max);
        if is_worth_it { Draining { body, bytes_max }.go_on() } else { None }
    }

    /// Reads what is here. Gives nothing back after the end, or if the body is too long.
    pub fn go_on(mut self) -> Option<Draining> {
        let mut piece = [0; PIECE_BYTES];
        while self.body.left == Some(0) || self.body.is_here() || self.has_come() {
            let count = self.body.read(&mut piece).ok().filter(|count| *count > 0)?;
            self.bytes_max = self.bytes_max.checked_sub(count as u64)?;
        }
        Some(self)
    }

    /// Has `go_on` called when more may have come, or an end, or nothing for the idle timeout. Doesn't block.
    pub fn wait(mut self, go_on: impl FnOnce(Draining) + Send + 'static) {
        let until = Instant::now() + self.body.lines.idle_timeout();
        let Some(line) = &mut self.body.line else { return };
        let wire = line.wire().clone();
        if line.watch().is_err() {
            return;
        }
        wire.await_event(until, Wake { is_due: None, go_on: Box::new(move || go_on(self)) });
    }

    /// Whether no more will come before its time is over.
    pub fn is_over(&self) -> bool {
        self.body.line.as_ref().is_none_or(|line| line.wire().is_over())
    }

    fn has_come(&self) -> bool {
        self.body.line.as_ref().is_some_and(|line| line.wire().look(|seen| seen != Seen::Nothing))
    }
}
