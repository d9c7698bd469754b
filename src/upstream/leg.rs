//! The steps of a leg and its waits between them, in the poller, from the first look for a line to the head of the answer.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};

use super::ahead::Ahead;
use super::connecting::{Connecting, Progress};
use super::line::{Failure, Line};
use super::looking::{Looked, Looking};
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

/// A leg whose request is on the wire.
struct Sent {
    line: Line,
    lines: Arc<Lines>,
}

impl Waits {
    fn for_answer(line: Line, ahead: Ahead, lines: &Arc<Lines>) -> Waits {
        Waits(Wait::Answer { sent: Sent { line, lines: lines.clone() }, ahead })
    }

    /// Begins the wait, for which a request may be sent. The leg goes on when there is enough for its next step, or when it
    /// is hung up on, or when the time is over. Doesn't block. An error: the leg won't go on, and nothing was sent that a
    /// backend could act on.
    pub fn begin(self, token: &CancelToken, go_on: impl FnOnce(Woken) + Send + 'static) -> Result<(), Outcome> {
        match self.0 {
            Wait::Answer { sent, ahead } => sent.wait(ahead, token, |sent| go_on(Woken(News::Answer(sent)))),
            Wait::Rest(sent) => {
                sent.wait_for_rest(|sent| go_on(Woken(News::Answer(sent))));
                Ok(())
            }
            Wait::Addresses(looking) => looking.wait(token, |looking| go_on(Woken(News::Addresses(looking)))),
            Wait::Connection(connecting) => {
                connecting.wait(token, |connecting| go_on(Woken(News::Connection(connecting))))
            }
        }
    }
}

impl Woken {
    /// Does the next step: reads the head of the answer, say, which blocks only if not all of it is here. The leg may have to
    /// wait once more.
    pub fn finish(self, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match self.0 {
            News::Answer(Sent { line, lines }) => lines.after(line.finish(&lines, request, token), request, token),
            News::Addresses(looking) => {
                let (lines, deadline) = (looking.lines.clone(), looking.deadline);
                lines.after_looking(looking.go_on(token)?, deadline, request, token)
            }
            News::Connection(connecting) => {
                let lines = connecting.lines.clone();
                lines.after_connecting(connecting.go_on(token)?, request, token)
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
        let wire = self.line.wire();
        self.line.arm(token)?;
        let head_by = Instant::now() + self.lines.timeout();
        let wake = Wake { is_due: Some(glance::is_head_here), go_on: Box::new(move || go_on(self)) };
        wire.send_ahead(ahead, head_by, wake).map_err(|unsent| {
            // The line ends with it, and so does the wait that the token knows.
            drop(unsent);
            if token.disarm().is_err() { Outcome::Cancelled } else { Outcome::Closed }
        })
    }

    fn wait_for_rest(self, go_on: impl FnOnce(Sent) + Send + 'static) {
        let wire = self.line.wire();
        wire.await_more(Wake { is_due: Some(glance::is_more_than_begin), go_on: Box::new(move || go_on(self)) });
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
        let ahead = request.ahead(self.address())?;
        let line = self.take(request.is_idempotent(), Instant::now())?;
        Some(Waits::for_answer(line, ahead, self))
    }

    /// Reaches the backend; what can't be sent ahead is sent and answered here. Blocks; the token hangs up at any time.
    pub fn start(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.take(request.is_idempotent(), Instant::now()) {
            Some(line) => self.start_on(line, request, token),
            None => self.start_afresh(request, token),
        }
    }

    fn start_afresh(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        let deadline = Instant::now() + self.timeout();
        self.after_looking(Looking::begin(self, deadline)?, deadline, request, token)
    }

    fn after_looking(
        self: &Arc<Lines>,
        looked: Looked,
        deadline: Instant,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match looked {
            Looked::Found(addresses) => {
                self.after_connecting(Connecting::begin(self, addresses, deadline, token)?, request, token)
            }
            Looked::Waits(looking) => Ok(Step::Waits(Waits(Wait::Addresses(looking)))),
        }
    }

    fn after_connecting(
        self: &Arc<Lines>,
        progress: Progress,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match progress {
            Progress::Connected(line) => self.start_on(line, request, token),
            Progress::Waits(connecting) => Ok(Step::Waits(Waits(Wait::Connection(connecting)))),
        }
    }

    fn start_on(self: &Arc<Lines>, line: Line, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match request.ahead(self.address()) {
            Some(ahead) => Ok(Step::Waits(Waits::for_answer(line, ahead, self))),
            None => self.after(line.call(self, request, token), request, token),
        }
    }

    /// What a call means for its leg: a backend may close an idle connection just when it is used; then the request goes
    /// out once more, on a fresh one.
    fn after(
        self: &Arc<Lines>,
        called: Result<Answer, Failure>,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match called {
            Err(failure) if failure.died_unanswered && request.is_idempotent() => self.start_afresh(request, token),
            called => called.map(Step::Answered).map_err(|failure| failure.outcome),
        }
    }
}
