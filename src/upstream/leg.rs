//! The steps of a leg and its waits between them, in the poller, from the first look for a line to the head of the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::answer::Answer;
use super::connecting::{Connecting, Reached};
use super::line::Line;
use super::looking::{Looked, Looking};
use super::reading::{Reading, early};
use super::response::{INTERIM_ANSWERS_MAX, protocol};
use super::sending::Progress;
use super::slot::Events;
use super::{Lines, Outgoing};
use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;

/// How far a leg has come.
pub enum Step {
    /// The head of the answer has come.
    Answered(Answer),
    /// The leg has to wait, and does so in the poller.
    Waits(Waiting),
    /// It could go on, but others wait for the thread.
    Turn(Waiting),
}

/// A leg on its way to its answer. What it does, its text says.
pub struct Waiting(Stage);

enum Stage {
    /// The addresses of the backend's name are looked up.
    Looks(Arc<Lines>, Looking),
    Connects(Arc<Lines>, Connecting),
    /// The request hasn't gone out whole, and must by then have gone on.
    Sends(Sent, Instant),
    /// The head of the answer hasn't come whole.
    Awaits(Sent),
}

/// A leg whose request is on the wire, or on its way there.
struct Sent {
    line: Line,
    lines: Arc<Lines>,
    /// By then the whole head must have come.
    head_by: Instant,
    /// How many interim answers have come.
    interim: usize,
}

impl Waiting {
    /// What tells when the leg can go on, or that it is hung up on, or that its time is over. An error: the leg won't go on.
    pub fn events(&mut self, token: &CancelToken) -> Result<Arc<dyn Events>, Outcome> {
        let (sent, until) = match &mut self.0 {
            Stage::Looks(_, looking) => return looking.events(token),
            Stage::Connects(_, connecting) => return connecting.events(token),
            Stage::Sends(sent, until) => (&*sent, *until),
            Stage::Awaits(sent) => (&*sent, sent.head_by),
        };
        sent.line.wire().set_deadline(until);
        Ok(sent.line.wire().clone())
    }

    /// Whether the next step reads the request's body from a file.
    pub fn reads_file(&self, request: &Outgoing) -> bool {
        matches!(self.0, Stage::Sends(..)) && request.holds_file()
    }

    /// Whether it is hung up on, or its request should have gone on by now: then the next step reads no file.
    pub fn is_over(&self, token: &CancelToken) -> bool {
        token.is_cancelled() || matches!(self.0, Stage::Sends(_, until) if Instant::now() >= until)
    }

    /// It goes on for another reason than an event.
    pub fn forget_events(&self) {
        if let Stage::Sends(sent, _) | Stage::Awaits(sent) = &self.0 {
            sent.line.wire().forget();
        }
    }

    /// Does the next step, as far as that goes without waiting: goes on with the request, or reads the head of the answer. The leg
    /// may have to wait once more. `has_lost`: nobody needs more of the answer than that it has come. Blocks on the disk alone.
    pub fn go_on(self, request: &Outgoing, token: &CancelToken, has_lost: bool) -> Result<Step, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.0 {
            Stage::Looks(lines, looking) => {
                let deadline = looking.deadline;
                lines.after_looking(looking.go_on(token)?, deadline, request, token)
            }
            Stage::Connects(lines, connecting) => {
                let deadline = connecting.deadline;
                lines.after_connecting(connecting.go_on(token)?, deadline, request, token)
            }
            Stage::Sends(_, until) if Instant::now() >= until => Err(failed(token, Outcome::Timeout)),
            Stage::Sends(sent, _) => sent.send(request, token, has_lost),
            Stage::Awaits(sent) => sent.read_answer(request, token, has_lost),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Stage::Looks(..) => "looks its name up",
            Stage::Connects(..) => "connects",
            Stage::Sends(..) => "sends the request",
            Stage::Awaits(_) => "awaits the answer",
        })
    }
}

impl Sent {
    /// Begins with the request, if the leg isn't hung up on; from now on the token hangs up on the line.
    fn begin(mut line: Line, lines: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        if request.binds_connection() {
            line.bind();
        }
        line.arm(token)?;
        let sent = Sent { line, lines: lines.clone(), head_by: Instant::now() + lines.timeout(), interim: 0 };
        sent.line.wire().begin(request.outbound(lines.address()));
        if sent.line.wire().is_request_out() {
            return Ok(Step::Waits(Waiting(Stage::Awaits(sent))));
        }
        // Files aren't read here.
        Ok(sent.turn())
    }

    /// There is more to send, when others have had their turn.
    fn turn(self) -> Step {
        let until = Instant::now() + self.lines.idle_timeout();
        Step::Turn(Waiting(Stage::Sends(self, until)))
    }

    /// Goes on with the request; if it is out, or nothing more of it will be, reads the answer.
    fn send(mut self, request: &Outgoing, token: &CancelToken, has_lost: bool) -> Result<Step, Outcome> {
        let wire = self.line.wire().clone();
        match wire.send_more(Some(early), self.lines.idle_timeout()) {
            Progress::Out => self.head_by = Instant::now() + self.lines.timeout(),
            Progress::Turn => return Ok(self.turn()),
            Progress::Full(until) => return Ok(Step::Waits(Waiting(Stage::Sends(self, until)))),
            Progress::Late => return Err(failed(token, Outcome::Timeout)),
            Progress::Answered => {}
            // The backend needs no more of it.
            Progress::Over => wire.reset_at_close(),
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
                        _ if died && self.line.may_repeat(request) => self.lines.start_afresh(request, token),
                        outcome => Err(outcome),
                    };
                }
                // There may be an end behind them, of which no other event tells.
                Reading::Partial(count) if count > here => here = count,
                Reading::Partial(_) if Instant::now() >= self.head_by => {
                    return Err(failed(token, Outcome::Timeout));
                }
                Reading::Partial(_) => return Ok(Step::Waits(Waiting(Stage::Awaits(self)))),
                Reading::Head(head, whole) => {
                    // The request crossed it: the backend gave up the idle connection just when it was used (RFC 9110 §15.5.9).
                    if head.is_request_timeout_at_close() && self.line.may_repeat(request) {
                        return self.lines.start_afresh(request, token);
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
            Some(line) => Sent::begin(line, self, request, token),
            None => self.start_afresh(request, token),
        }
    }

    fn start_afresh(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        let deadline = Instant::now() + self.timeout();
        self.after_looking(Looking::begin(self.endpoint(), deadline)?, deadline, request, token)
    }

    fn after_looking(
        self: &Arc<Lines>,
        looked: Looked,
        deadline: Instant,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match looked {
            Looked::Found { addresses, is_again } => {
                let reached = Connecting::begin(self.endpoint(), addresses, is_again, deadline)?;
                self.after_connecting(reached, deadline, request, token)
            }
            Looked::Waits(looking) => Ok(Step::Waits(Waiting(Stage::Looks(self.clone(), looking)))),
        }
    }

    pub(super) fn after_connecting(
        self: &Arc<Lines>,
        reached: Reached,
        deadline: Instant,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match reached {
            Reached::Connected(connection) => Sent::begin(self.adopt(connection), self, request, token),
            Reached::Waits(connecting) => Ok(Step::Waits(Waiting(Stage::Connects(self.clone(), connecting)))),
            Reached::LooksAgain(looked) => self.after_looking(looked, deadline, request, token),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use http::{HeaderMap, Method};

    use super::super::slot::wait_for;
    use super::super::{Reach, SystemLookup, Upstream};
    use super::*;
    use crate::message::{Address, Target};
    use crate::runtime::poller::Poller;

    #[test]
    fn what_a_leg_does_can_be_told_and_hung_up_on() {
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let upstream = Upstream::new(Reach::default(), Arc::new(SystemLookup), poller).expect("no roots of its own");
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let (told, token) = (
            |step: &Result<Step, Outcome>| match step {
                Ok(Step::Waits(waiting) | Step::Turn(waiting)) => waiting.to_string(),
                Ok(Step::Answered(_)) => "is answered".to_owned(),
                Err(outcome) => outcome.to_string(),
            },
            CancelToken::default(),
        );
        let lines = Lines::new(Address::parse(&format!("http://localhost:{port}")).expect("an address"), upstream);
        let target = Target::parse(&Method::GET, "/").expect("a target");
        let request = Outgoing::new(Method::GET, target, HeaderMap::new(), None, None);
        let mut step = lines.start(&request, &token);
        let mut course = vec![told(&step)];
        while course.last().is_some_and(|last| last != "awaits the answer") {
            let Ok(Step::Waits(mut waiting) | Step::Turn(mut waiting)) = step else { panic!("{course:?}") };
            wait_for(&waiting.events(&token).expect("a wait"));
            step = waiting.go_on(&request, &token, false);
            course.push(told(&step));
        }
        assert_eq!(course[0], "looks its name up");
        let Ok(Step::Waits(waiting)) = step else { panic!("{course:?}") };
        token.cancel();
        assert_eq!(told(&waiting.go_on(&request, &token, false)), "cancelled");
    }
}
