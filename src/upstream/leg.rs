//! The steps of a leg and its waits between them, in the poller, from the first look for a line to the head of the answer.

use std::sync::Arc;
use std::time::Instant;

use super::answer::Answer;
use super::connecting::{Connecting, Reached};
use super::line::Line;
use super::looking::{Looked, Looking};
use super::outbound::Outbound;
use super::reading::{Reading, early};
use super::response::{INTERIM_ANSWERS_MAX, protocol};
use super::sending::Progress;
use super::{Lines, Outgoing};
use crate::message::Outcome;
use crate::race::CancelToken;

/// How far a leg has come.
pub enum Step {
    /// The head of the answer has come.
    Answered(Answer),
    /// The leg has to wait, and does so in the poller.
    Waits(Waits),
}

/// A leg that is about to wait in the poller.
pub struct Waits(Wait);

/// What for.
enum Wait {
    /// For the answer to a request that is yet to be sent, on a line that is ready for it.
    Answer(Sent, Outbound),
    /// For its turn to go on with a long request.
    Turn(Sent),
    /// For room in the connection, which hasn't taken all of the request, until then.
    Room(Sent, Instant),
    /// For more of the answer.
    Head(Sent),
    Addresses(Looking),
    Connection(Connecting),
}

/// A leg whose wait is over.
pub struct Woken(News);

enum News {
    Answer(Sent),
    Addresses(Looking),
    Connection(Connecting),
}

/// A leg whose request is on the wire, or on its way there.
pub(super) struct Sent {
    pub(super) line: Line,
    pub(super) lines: Arc<Lines>,
    /// By then the whole head must have come.
    head_by: Instant,
    /// How many interim answers have come.
    interim: usize,
}

impl Waits {
    fn for_answer(mut line: Line, request: &Outgoing, lines: &Arc<Lines>) -> Waits {
        if request.binds_connection() {
            line.bind();
        }
        let head_by = Instant::now() + lines.timeout();
        let sent = Sent { line, lines: lines.clone(), head_by, interim: 0 };
        Waits(Wait::Answer(sent, request.outbound(lines.address())))
    }

    /// Begins the wait, for which a request may be sent. The leg goes on when something has happened, or when it is hung up on, or
    /// when the time is over; at once, if it needn't wait. Doesn't block. An error: the leg won't go on, and nothing was sent.
    pub fn begin(self, token: &CancelToken, go_on: impl FnOnce(Woken) + Send + 'static) -> Result<(), Outcome> {
        match self.0 {
            Wait::Answer(mut sent, outbound) => {
                sent.line.arm(token)?;
                let (wire, head_by) = (sent.line.wire().clone(), sent.head_by);
                wire.send_ahead(outbound, head_by, Box::new(move || go_on(Woken(News::Answer(sent)))));
            }
            Wait::Turn(sent) => go_on(Woken(News::Answer(sent))),
            Wait::Room(sent, until) => sent.wait(until, |sent| go_on(Woken(News::Answer(sent)))),
            Wait::Head(sent) => {
                let head_by = sent.head_by;
                sent.wait(head_by, |sent| go_on(Woken(News::Answer(sent))));
            }
            Wait::Addresses(looking) => return looking.wait(token, |looking| go_on(Woken(News::Addresses(looking)))),
            Wait::Connection(connecting) => {
                return connecting.wait(token, |connecting| go_on(Woken(News::Connection(connecting))));
            }
        }
        Ok(())
    }
}

impl Woken {
    /// Whether the next step reads the request's body from a file.
    pub fn reads_file(&self, request: &Outgoing) -> bool {
        match &self.0 {
            News::Answer(sent) => request.holds_file() && !sent.line.wire().is_request_out(),
            News::Addresses(_) | News::Connection(_) => false,
        }
    }

    /// Does the next step, as far as that goes without waiting: goes on with the request, or reads the head of the answer. The leg
    /// may have to wait once more. `has_lost`: nobody needs more of the answer than that it has come. Blocks on the disk alone.
    pub fn go_on(self, request: &Outgoing, token: &CancelToken, has_lost: bool) -> Result<Step, Outcome> {
        match self.0 {
            News::Answer(sent) => sent.go_on(request, token, has_lost),
            News::Addresses(looking) => {
                let (lines, deadline) = (looking.lines.clone(), looking.deadline);
                lines.after_looking(looking.go_on(token)?, deadline, request)
            }
            News::Connection(connecting) => {
                let lines = connecting.lines.clone();
                let deadline = connecting.deadline;
                lines.after_connecting(connecting.go_on(token)?, deadline, request)
            }
        }
    }
}

impl Sent {
    fn wait(self, until: Instant, go_on: impl FnOnce(Sent) + Send + 'static) {
        let wire = self.line.wire().clone();
        wire.wait(until, Box::new(move || go_on(self)));
    }

    /// Goes on with the request or, if it is out or nothing more of it will be, reads the answer.
    fn go_on(mut self, request: &Outgoing, token: &CancelToken, has_lost: bool) -> Result<Step, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        let wire = self.line.wire().clone();
        if !wire.is_request_out() {
            match wire.send_more(Some(early), self.lines.idle_timeout()) {
                Progress::Out => self.head_by = Instant::now() + self.lines.timeout(),
                Progress::Turn => return Ok(Step::Waits(Waits(Wait::Turn(self)))),
                Progress::Full(until) => return Ok(Step::Waits(Waits(Wait::Room(self, until)))),
                Progress::Late => return Err(failed(token, Outcome::Timeout)),
                Progress::Answered => {}
                // The backend needs no more of it.
                Progress::Over => wire.reset_at_close(),
            }
        }
        self.read_answer(request, token, has_lost)
    }

    fn read_answer(mut self, request: &Outgoing, token: &CancelToken, has_lost: bool) -> Result<Step, Outcome> {
        let wire = self.line.wire().clone();
        let mut here = 0;
        loop {
            match wire.peek(|peeked| Reading::of(&peeked, request.method(), has_lost)) {
                Reading::Interim(length) if self.interim < INTERIM_ANSWERS_MAX => {
                    wire.consume(length);
                    (self.interim, here) = (self.interim + 1, 0);
                }
                Reading::Interim(_) => {
                    return Err(failed(token, protocol("it sends too many interim answers")));
                }
                Reading::Failed(outcome) => return Err(failed(token, outcome)),
                Reading::Ended { outcome, is_unanswered } => {
                    let died =
                        is_unanswered && self.interim == 0 && matches!(outcome, Outcome::Reset | Outcome::Closed);
                    return match failed(token, outcome) {
                        Outcome::Cancelled => Err(Outcome::Cancelled),
                        _ if died && self.line.may_repeat(request) => self.lines.start_afresh(request),
                        outcome => Err(outcome),
                    };
                }
                // There may be an end behind them, of which no other event tells.
                Reading::Partial(count) if count > here => here = count,
                Reading::Partial(_) if Instant::now() >= self.head_by => {
                    return Err(failed(token, Outcome::Timeout));
                }
                Reading::Partial(_) => return Ok(Step::Waits(Waits(Wait::Head(self)))),
                Reading::Head(head, whole) => {
                    // The request crossed it: the backend gave up the idle connection just when it was used (RFC 9110 §15.5.9).
                    if head.is_request_timeout_at_close() && self.line.may_repeat(request) {
                        return self.lines.start_afresh(request);
                    }
                    return Answer::of(self.line, &self.lines, request, token, &head, whole).map(Step::Answered);
                }
            }
        }
    }
}

/// How the leg ends whose answer failed: hanging up on it looks like a failure, too.
fn failed(token: &CancelToken, outcome: Outcome) -> Outcome {
    if token.disarm().is_err() { Outcome::Cancelled } else { outcome }
}

impl Lines {
    /// Reaches the backend. Doesn't block; the token hangs up at any time.
    pub fn start(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.take(request.is_idempotent(), Instant::now()) {
            Some(line) => Ok(self.start_on(line, request)),
            None => self.start_afresh(request),
        }
    }

    fn start_afresh(self: &Arc<Lines>, request: &Outgoing) -> Result<Step, Outcome> {
        let deadline = Instant::now() + self.timeout();
        self.after_looking(Looking::begin(self, deadline)?, deadline, request)
    }

    fn after_looking(
        self: &Arc<Lines>,
        looked: Looked,
        deadline: Instant,
        request: &Outgoing,
    ) -> Result<Step, Outcome> {
        match looked {
            Looked::Found { addresses, is_again } => {
                let reached = Connecting::begin(self, addresses, is_again, deadline)?;
                self.after_connecting(reached, deadline, request)
            }
            Looked::Waits(looking) => Ok(Step::Waits(Waits(Wait::Addresses(looking)))),
        }
    }

    fn after_connecting(
        self: &Arc<Lines>,
        reached: Reached,
        deadline: Instant,
        request: &Outgoing,
    ) -> Result<Step, Outcome> {
        match reached {
            Reached::Connected(line) => Ok(self.start_on(line, request)),
            Reached::Waits(connecting) => Ok(Step::Waits(Waits(Wait::Connection(connecting)))),
            Reached::LooksAgain(looked) => self.after_looking(looked, deadline, request),
        }
    }

    fn start_on(self: &Arc<Lines>, line: Line, request: &Outgoing) -> Step {
        Step::Waits(Waits::for_answer(line, request, self))
    }
}
