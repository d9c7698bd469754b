//! The steps of a leg and its waits between them, in the poller, from taking a connection to the head of the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::conn::request_writer::Progress;
use crate::upstream::connect::connecting::{Connecting, Reached};
use crate::upstream::connect::resolving::{Resolution, Resolving};
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::answer::Answer;
use crate::upstream::response::head::{INTERIM_ANSWERS_MAX, protocol};
use crate::upstream::response::received::{Received, early};

/// The result of a leg's step.
pub enum LegStep {
    /// The head of the answer has been received.
    Answered(Answer),
    /// The leg has to wait, which it does parked in the poller.
    Blocked(PendingAnswer),
    /// The leg could take another step, but others wait for the thread.
    Yield(PendingAnswer),
}

/// A leg on its way to its answer. Its text says what it does.
pub struct PendingAnswer(Stage);

enum Stage {
    /// The addresses of the backend's name are being looked up.
    Resolving(Arc<Pool>, Resolving),
    Connecting(Arc<Pool>, Connecting),
    /// The request isn't out whole, and more of it must have gone out by this time.
    Sending(InFlight, Instant),
    /// The head of the answer hasn't been received whole.
    Awaiting(InFlight),
}

/// A leg whose request is on the wire, or on its way there.
struct InFlight {
    pooled: PooledConnection,
    pool: Arc<Pool>,
    /// The time by which the whole head must have been received.
    head_by: Instant,
    /// The count of interim answers that have been received.
    interim: usize,
}

impl PendingAnswer {
    /// The place where the leg parks: it is woken when it can take a step, or is hung up on, or its time is over. An error ends
    /// the leg.
    pub fn readiness(&mut self, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        let (leg, until) = match &mut self.0 {
            Stage::Resolving(_, resolving) => return resolving.readiness(token),
            Stage::Connecting(_, connecting) => return connecting.readiness(token),
            Stage::Sending(leg, until) => (&*leg, *until),
            Stage::Awaiting(leg) => (&*leg, leg.head_by),
        };
        leg.pooled.connection().set_deadline(until);
        Ok(leg.pooled.connection().clone())
    }

    /// Whether the next step reads the request's body from a file.
    pub fn reads_file(&self, request: &UpstreamRequest) -> bool {
        matches!(self.0, Stage::Sending(..)) && request.holds_file()
    }

    /// Whether the leg is hung up on, or more of its request should have gone out by now: then its next step reads no file.
    pub fn is_over(&self, token: &CancelToken) -> bool {
        token.is_cancelled() || matches!(self.0, Stage::Sending(_, until) if Instant::now() >= until)
    }

    /// Takes the parked leg out, so that no event wakes it: it takes its next step for another reason.
    pub fn withdraw(&self) {
        if let Stage::Sending(leg, _) | Stage::Awaiting(leg) = &self.0 {
            leg.pooled.connection().withdraw();
        }
    }

    /// Takes the next step, as far as that goes without waiting: sends more of the request, or reads the head of the answer.
    /// The leg may have to wait once more. A leg that `has_lost` needs no more of the answer than that it has been received.
    /// Blocks on the disk alone.
    pub fn step(self, request: &UpstreamRequest, token: &CancelToken, has_lost: bool) -> Result<LegStep, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.0 {
            Stage::Resolving(pool, resolving) => {
                let deadline = resolving.deadline;
                pool.after_resolving(resolving.resume(token)?, deadline, request, token)
            }
            Stage::Connecting(pool, connecting) => {
                let deadline = connecting.deadline;
                pool.after_connecting(connecting.resume(token)?, deadline, request, token)
            }
            Stage::Sending(_, until) if Instant::now() >= until => Err(failed(token, Outcome::Timeout)),
            Stage::Sending(leg, _) => leg.send(request, token, has_lost),
            Stage::Awaiting(leg) => leg.read_answer(request, token, has_lost),
        }
    }
}

impl fmt::Display for PendingAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Stage::Resolving(..) => "looks its name up",
            Stage::Connecting(..) => "connects",
            Stage::Sending(..) => "sends the request",
            Stage::Awaiting(_) => "awaits the answer",
        })
    }
}

impl InFlight {
    /// Sends the request, unless the leg is hung up on; from now on the token hangs up on this connection.
    fn begin(
        mut pooled: PooledConnection,
        pool: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
    ) -> Result<LegStep, Outcome> {
        if request.binds_connection() {
            pooled.bind();
        }
        pooled.arm(token)?;
        let leg = InFlight { pooled, pool: pool.clone(), head_by: Instant::now() + pool.timeout(), interim: 0 };
        leg.pooled.connection().begin_request(request.bytes_for(pool.address()));
        if leg.pooled.connection().is_request_out() {
            return Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(leg))));
        }
        // Files aren't read here.
        Ok(leg.yielded())
    }

    /// Gives the thread to other legs; the rest of the request is sent in the next step.
    fn yielded(self) -> LegStep {
        let until = Instant::now() + self.pool.idle_timeout();
        LegStep::Yield(PendingAnswer(Stage::Sending(self, until)))
    }

    /// Sends more of the request; if it is out, or no more of it will be sent, reads the answer.
    fn send(mut self, request: &UpstreamRequest, token: &CancelToken, has_lost: bool) -> Result<LegStep, Outcome> {
        let connection = self.pooled.connection().clone();
        match connection.send_more(Some(early), self.pool.idle_timeout()) {
            Progress::Done => self.head_by = Instant::now() + self.pool.timeout(),
            Progress::Yield => return Ok(self.yielded()),
            Progress::Blocked(until) => return Ok(LegStep::Blocked(PendingAnswer(Stage::Sending(self, until)))),
            Progress::TimedOut => return Err(failed(token, Outcome::Timeout)),
            Progress::Answered => {}
            // The backend needs no more of it.
            Progress::Aborted => connection.reset_at_close(),
        }
        self.read_answer(request, token, has_lost)
    }

    fn read_answer(
        mut self,
        request: &UpstreamRequest,
        token: &CancelToken,
        has_lost: bool,
    ) -> Result<LegStep, Outcome> {
        let connection = self.pooled.connection().clone();
        let mut seen = 0;
        loop {
            match connection.peek(|peeked| Received::of(&peeked, request.method(), has_lost)) {
                Received::Interim(length) if self.interim < INTERIM_ANSWERS_MAX => {
                    connection.consume(length);
                    (self.interim, seen) = (self.interim + 1, 0);
                }
                Received::Interim(_) => {
                    return Err(failed(token, protocol("it sends too many interim answers")));
                }
                Received::Failed(outcome) => return Err(failed(token, outcome)),
                Received::Ended { outcome, is_unanswered } => {
                    let is_repeatable =
                        is_unanswered && self.interim == 0 && matches!(outcome, Outcome::Reset | Outcome::Closed);
                    return match failed(token, outcome) {
                        Outcome::Cancelled => Err(Outcome::Cancelled),
                        _ if is_repeatable && self.pooled.may_repeat(request) => self.pool.start_afresh(request, token),
                        outcome => Err(outcome),
                    };
                }
                // An end may stand behind these bytes, of which no other event tells.
                Received::Partial(count) if count > seen => seen = count,
                Received::Partial(_) if Instant::now() >= self.head_by => {
                    return Err(failed(token, Outcome::Timeout));
                }
                Received::Partial(_) => return Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(self)))),
                Received::Head(head, whole) => {
                    // The request crossed it: the backend gave up the idle connection just when it was used (RFC 9110 §15.5.9).
                    if head.is_request_timeout_at_close() && self.pooled.may_repeat(request) {
                        return self.pool.start_afresh(request, token);
                    }
                    return Answer::of(self.pooled, &self.pool, request, token, &head, whole).map(LegStep::Answered);
                }
            }
        }
    }
}

/// The outcome of a leg whose answer failed: hanging up on it looks like a failure, too.
fn failed(token: &CancelToken, outcome: Outcome) -> Outcome {
    if token.disarm().is_err() { Outcome::Cancelled } else { outcome }
}

impl Pool {
    /// Starts a leg: on an idle connection, or on a new one. Doesn't block; the token hangs up at any time.
    pub fn start(self: &Arc<Pool>, request: &UpstreamRequest, token: &CancelToken) -> Result<LegStep, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.take(request.is_idempotent(), Instant::now()) {
            Some(pooled) => InFlight::begin(pooled, self, request, token),
            None => self.start_afresh(request, token),
        }
    }

    fn start_afresh(self: &Arc<Pool>, request: &UpstreamRequest, token: &CancelToken) -> Result<LegStep, Outcome> {
        let deadline = Instant::now() + self.timeout();
        self.after_resolving(Resolving::begin(self.endpoint(), deadline)?, deadline, request, token)
    }

    fn after_resolving(
        self: &Arc<Pool>,
        resolution: Resolution,
        deadline: Instant,
        request: &UpstreamRequest,
        token: &CancelToken,
    ) -> Result<LegStep, Outcome> {
        match resolution {
            Resolution::Found { addresses, is_retry } => {
                let reached = Connecting::begin(self.endpoint(), addresses, is_retry, deadline)?;
                self.after_connecting(reached, deadline, request, token)
            }
            Resolution::Pending(resolving) => {
                Ok(LegStep::Blocked(PendingAnswer(Stage::Resolving(self.clone(), resolving))))
            }
        }
    }

    pub(crate) fn after_connecting(
        self: &Arc<Pool>,
        reached: Reached,
        deadline: Instant,
        request: &UpstreamRequest,
        token: &CancelToken,
    ) -> Result<LegStep, Outcome> {
        match reached {
            Reached::Connected(connection) => InFlight::begin(self.adopt(connection), self, request, token),
            Reached::Pending(connecting) => {
                Ok(LegStep::Blocked(PendingAnswer(Stage::Connecting(self.clone(), connecting))))
            }
            Reached::ResolvesAgain(resolution) => self.after_resolving(resolution, deadline, request, token),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::message::{Address, Target};
    use crate::runtime::poller::Poller;
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::connect::lookup::SystemLookup;
    use crate::upstream::shared::ConnectOptions;
    use crate::upstream::shared::Upstream;

    #[test]
    fn what_a_leg_does_can_be_told_and_hung_up_on() {
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let upstream =
            Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller).expect("no roots of its own");
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let (told, token) = (
            |step: &Result<LegStep, Outcome>| match step {
                Ok(LegStep::Blocked(pending) | LegStep::Yield(pending)) => pending.to_string(),
                Ok(LegStep::Answered(_)) => "is answered".to_owned(),
                Err(outcome) => outcome.to_string(),
            },
            CancelToken::default(),
        );
        let pool = Pool::new(Address::parse(&format!("http://localhost:{port}")).expect("an address"), upstream);
        let target = Target::parse(&Method::GET, "/").expect("a target");
        let request = UpstreamRequest::new(Method::GET, target, HeaderMap::new(), None, None);
        let mut step = pool.start(&request, &token);
        let mut course = vec![told(&step)];
        while course.last().is_some_and(|last| last != "awaits the answer") {
            let Ok(LegStep::Blocked(mut pending) | LegStep::Yield(mut pending)) = step else { panic!("{course:?}") };
            wait_for(&pending.readiness(&token).expect("a wait"));
            step = pending.step(&request, &token, false);
            course.push(told(&step));
        }
        assert_eq!(course[0], "looks its name up");
        let Ok(LegStep::Blocked(pending)) = step else { panic!("{course:?}") };
        token.cancel();
        assert_eq!(told(&pending.step(&request, &token, false)), "cancelled");
    }
}
