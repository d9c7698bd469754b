//! The steps of a leg and its waits between them, in the poller, from the first look for a line to the head of the answer.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};

use super::ahead::Ahead;
use super::connecting::{Connecting, Reached};
use super::line::Line;
use super::looking::{Looked, Looking};
use super::sending::Progress;
use super::slot::Wake;
use super::{Answer, Lines, Outgoing, glance};
use crate::message::Outcome;
use crate::race::CancelToken;

/// How far a leg has come.
#[expect(clippy::large_enum_variant, reason = "it is made once for each leg and taken apart at once")]
pub enum Step {
    /// The head of the answer is here.
    Answered(Answer),
    /// The leg has to wait, and can do so in the poller.
    Waits(Waits),
}

/// A leg that is about to wait in the poller.
pub struct Waits(Wait);

/// What for.
enum Wait {
    /// For the answer to a request that is sent before ureq knows of it, on a line that is ready for it.
    Answer {
        sent: Sent,
        ahead: Ahead,
    },
    /// For its turn to go on with a long request.
    Turn(Sent),
    /// For room in the connection, which hasn't taken all of the request, until then.
    Room(Sent, Instant),
    /// For the answer to a request that took more than one go to send.
    Head(Sent),
    /// For the rest of an answer that has lost.
    Rest(Sent),
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
struct Sent {
    line: Line,
    lines: Arc<Lines>,
}

impl Waits {
    fn for_answer(mut line: Line, request: &Outgoing, lines: &Arc<Lines>) -> Waits {
        if request.binds_connection() {
            line.bind();
        }
        let ahead = request.ahead(lines.address());
        Waits(Wait::Answer { sent: Sent { line, lines: lines.clone() }, ahead })
    }

    /// Begins the wait, for which a request may be sent. The leg goes on when there is enough for its next step, or when it
    /// is hung up on, or when the time is over. Doesn't block. An error: the leg won't go on, and nothing was sent.
    pub fn begin(self, token: &CancelToken, go_on: impl FnOnce(Woken) + Send + 'static) -> Result<(), Outcome> {
        match self.0 {
            Wait::Answer { sent, ahead } => return sent.wait(ahead, token, |sent| go_on(Woken(News::Answer(sent)))),
            Wait::Turn(sent) => go_on(Woken(News::Answer(sent))),
            Wait::Room(sent, until) => sent.wait_for_room(until, |sent| go_on(Woken(News::Answer(sent)))),
            Wait::Head(sent) => sent.wait_for_head(|sent| go_on(Woken(News::Answer(sent)))),
            Wait::Rest(sent) => sent.wait_for_rest(|sent| go_on(Woken(News::Answer(sent)))),
            Wait::Addresses(looking) => return looking.wait(token, |looking| go_on(Woken(News::Addresses(looking)))),
            Wait::Connection(connecting) => {
                return connecting.wait(token, |connecting| go_on(Woken(News::Connection(connecting))));
            }
        }
        Ok(())
    }
}

impl Woken {
    /// Does the next step: goes on with the request, which never blocks but on the disk, or reads the head of the answer,
    /// which blocks only if not all of it is here. The leg may have to wait once more.
    pub fn finish(self, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match self.0 {
            News::Answer(sent) => sent.go_on(request, token),
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

    /// The status of the answer, if it is here whole and of the plainest form: then the next step doesn't wait.
    pub fn whole_status(&self, method: &Method) -> Option<StatusCode> {
        if let News::Answer(sent) = &self.0 { sent.line.whole_status(method) } else { None }
    }

    /// What becomes of a leg that has lost. Doesn't block.
    pub fn lose(self, request: &Outgoing, token: &CancelToken) -> Loss {
        if token.is_cancelled() {
            return Loss::Ended(Outcome::Cancelled);
        }
        match self.0 {
            News::Answer(sent) => sent.lose(request, token),
            reaching => Loss::GoesOn(Woken(reaching)),
        }
    }
}

/// What becomes of a leg that has lost.
pub enum Loss {
    /// It was hung up on, or its answer is here whole and its line free again.
    Ended(Outcome),
    /// The rest of its short answer is awaited, for the sake of the line.
    Waits(Waits),
    /// It takes its next step like any other.
    GoesOn(Woken),
}

impl Sent {
    fn wait(self, ahead: Ahead, token: &CancelToken, go_on: impl FnOnce(Sent) + Send + 'static) -> Result<(), Outcome> {
        let wire = self.line.wire().clone();
        self.line.arm(token)?;
        let head_by = Instant::now() + self.lines.timeout();
        let wake = Wake { is_due: Some(glance::is_head_here), go_on: Box::new(move || go_on(self)) };
        wire.send_ahead(ahead, head_by, wake);
        Ok(())
    }

    fn wait_for_room(self, until: Instant, go_on: impl FnOnce(Sent) + Send + 'static) {
        let wire = self.line.wire().clone();
        wire.await_event(until, Wake { is_due: None, go_on: Box::new(move || go_on(self)) });
    }

    fn wait_for_head(self, go_on: impl FnOnce(Sent) + Send + 'static) {
        let (wire, head_by) = (self.line.wire().clone(), Instant::now() + self.lines.timeout());
        wire.await_head(head_by, Wake { is_due: Some(glance::is_head_here), go_on: Box::new(move || go_on(self)) });
    }

    fn wait_for_rest(self, go_on: impl FnOnce(Sent) + Send + 'static) {
        let wire = self.line.wire().clone();
        wire.await_more(Wake { is_due: Some(glance::is_more_than_begin), go_on: Box::new(move || go_on(self)) });
    }

    /// Goes on with the request or, if it is out or nothing more of it will be, has ureq read the answer.
    fn go_on(self, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        let wire = self.line.wire().clone();
        if !wire.is_request_out() && !token.is_cancelled() {
            match wire.send_more(Some(glance::early), self.lines.idle_timeout()) {
                Progress::Out => return Ok(Step::Waits(Waits(Wait::Head(self)))),
                Progress::Turn => return Ok(Step::Waits(Waits(Wait::Turn(self)))),
                Progress::Full(until) => return Ok(Step::Waits(Waits(Wait::Room(self, until)))),
                Progress::Answered => {}
                // The backend needs no more of it.
                Progress::Over => wire.reset_at_close(),
            }
        }
        let Sent { line, lines } = self;
        let may_repeat = line.may_repeat(request);
        match line.finish(&lines, request, token) {
            Err(failure) if failure.died_unanswered && may_repeat => lines.start_afresh(request),
            // The request crossed it: the backend gave up the idle connection just when it was used (RFC 9110 §15.5.9).
            Ok(answer) if answer.is_request_timeout_at_close() && may_repeat => {
                drop(answer);
                lines.start_afresh(request)
            }
            called => called.map(Step::Answered).map_err(|failure| failure.outcome),
        }
    }

    fn lose(mut self, request: &Outgoing, token: &CancelToken) -> Loss {
        let Some(status) = self.line.take_whole(request.method()) else {
            if self.line.is_rest_coming(request.method()) {
                return Loss::Waits(Waits(Wait::Rest(self)));
            }
            return Loss::GoesOn(Woken(News::Answer(self)));
        };
        if token.disarm().is_err() {
            return Loss::Ended(Outcome::Cancelled);
        }
        self.lines.keep(self.line, Instant::now());
        Loss::Ended(Outcome::Status(status))
    }
}

impl Lines {
    /// A line on which the request can be sent at once. Doesn't block.
    pub fn at_once(self: &Arc<Lines>, request: &Outgoing) -> Option<Waits> {
        let line = self.take(request.is_idempotent(), Instant::now())?;
        Some(Waits::for_answer(line, request, self))
    }

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
