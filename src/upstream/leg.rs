//! The steps of a leg and its waits between them, in the poller, from taking a connection to the head of the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::connection::FileRead;
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
    Answered(Box<Answer>),
    /// The leg has to wait, which it does parked in the poller.
    Blocked(PendingAnswer),
    /// The leg can take another step, once what that sends has been read.
    Yield(PendingAnswer),
}

/// A leg on its way to its answer. Its text says what it does.
pub struct PendingAnswer(Stage);

/// What is rare is boxed: a leg that takes an idle connection is moved often, from step to step.
enum Stage {
    /// The addresses of the backend's name are being looked up.
    Resolving(Reaching, Box<Resolving>),
    Connecting(Reaching, Box<Connecting>),
    /// The request isn't out whole, and more of it must have gone out by this time.
    Sending(InFlight, Instant),
    /// The head of the answer hasn't been received whole.
    Awaiting(InFlight),
}

/// A leg on its way to a new connection.
pub(crate) struct Reaching {
    pool: Arc<Pool>,
    deadline: Instant,
    /// The time by which the head must have been received, if the request is sent once more: it has the rest of its time alone.
    head_by: Option<Instant>,
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

    /// Whether bytes of the request may have gone out.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.0, Stage::Sending(..) | Stage::Awaiting(_))
    }

    /// What has to be read of a file before more is sent, and where the leg parks meanwhile: it is woken by its answer, a hang-up,
    /// or its deadline. Nothing if no file is needed, or the time for it is over.
    pub fn file_read(&self) -> Option<(FileRead, Arc<dyn Readiness>)> {
        let Stage::Sending(leg, until) = &self.0 else { return None };
        leg.pooled.connection().file_read_until(*until)
    }

    /// Takes the next step, as far as that goes without waiting: sends more of the request, or reads the head of the answer.
    /// The leg may have to wait once more. A leg that `has_lost` needs no more of the answer than that it has been received.
    /// Doesn't block.
    pub fn step(self, request: &UpstreamRequest, token: &CancelToken, has_lost: bool) -> Result<LegStep, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.0 {
            Stage::Resolving(leg, resolving) => leg.after_resolving(resolving.resume(token)?, request, token),
            Stage::Connecting(leg, connecting) => leg.after_connecting(connecting.resume(token)?, request, token),
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
        pool: Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        now: Instant,
        head_by: Option<Instant>,
    ) -> Result<LegStep, Outcome> {
        if request.binds_connection() {
            pooled.bind();
        }
        pooled.arm(token)?;
        let head_by = head_by.unwrap_or_else(|| now + pool.timeout());
        let leg = InFlight { pooled, pool, head_by, interim: 0 };
        leg.pooled.connection().begin_request(leg.pool.bytes_of(request));
        if leg.pooled.connection().is_request_out() {
            return Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(leg))));
        }
        let until = now + leg.pool.endpoint().idle_timeout();
        Ok(LegStep::Yield(PendingAnswer(Stage::Sending(leg, until))))
    }

    /// Sends more of the request; if it is out, or no more of it will be sent, reads the answer.
    fn send(mut self, request: &UpstreamRequest, token: &CancelToken, has_lost: bool) -> Result<LegStep, Outcome> {
        let connection = self.pooled.connection().clone();
        match connection.send_more(Some(early), self.pool.endpoint().idle_timeout()) {
            Progress::Done | Progress::Answered => {}
            Progress::Yield(until) => return Ok(LegStep::Yield(PendingAnswer(Stage::Sending(self, until)))),
            Progress::Blocked(until) => return Ok(LegStep::Blocked(PendingAnswer(Stage::Sending(self, until)))),
            Progress::TimedOut => return Err(failed(token, Outcome::Timeout)),
            // The backend needs no more of it.
            Progress::Aborted => connection.reset_at_close(),
        }
        // Also behind an early head: what comes after it has the time that it would have had behind a request that is out.
        self.head_by = Instant::now() + self.pool.timeout();
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
            match connection.stream().peek(|peeked| Received::of(&peeked, request.method(), has_lost)) {
                Received::Interim(length) if self.interim < INTERIM_ANSWERS_MAX => {
                    connection.stream().consume(length);
                    (self.interim, seen) = (self.interim + 1, 0);
                }
                Received::Interim(_) => {
                    return Err(failed(token, protocol("it sends too many interim answers")));
                }
                Received::Failed(outcome) => return Err(failed(token, outcome)),
                Received::Ended { outcome, is_unanswered } => {
                    return self.end(request, token, outcome, is_unanswered);
                }
                // An end may stand behind these bytes, of which no other event tells.
                Received::Partial(count) if count > seen => seen = count,
                Received::Partial(count) if Instant::now() >= self.head_by => {
                    let outcome = failed(token, Outcome::Timeout);
                    if outcome == Outcome::Timeout && count == 0 && self.interim == 0 {
                        self.distrust_if_new();
                    }
                    return Err(outcome);
                }
                Received::Partial(_) => return Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(self)))),
                Received::Head(head, whole) => {
                    // The request crossed it: the backend gave up the idle connection just when it was used (RFC 9110 §15.5.9).
                    if head.is_request_timeout_at_close() && self.may_repeat(request) {
                        drop(self.pooled);
                        return Reaching::new(self.pool, Some(self.head_by)).begin(request, token);
                    }
                    let answer = Answer::of(self.pooled, &self.pool, request, token, &head, whole, self.head_by);
                    return answer.map(Box::new).map(LegStep::Answered);
                }
            }
        }
    }

    /// Ends with a connection that has: the request is sent once more if that may be, and a new connection speaks against its address.
    fn end(
        self,
        request: &UpstreamRequest,
        token: &CancelToken,
        outcome: Outcome,
        is_unanswered: bool,
    ) -> Result<LegStep, Outcome> {
        let is_repeatable = is_unanswered && self.interim == 0 && matches!(outcome, Outcome::Reset | Outcome::Closed);
        match failed(token, outcome) {
            Outcome::Cancelled => return Err(Outcome::Cancelled),
            _ if is_repeatable && self.may_repeat(request) => {}
            outcome => {
                if is_unanswered {
                    self.distrust_if_new();
                }
                return Err(outcome);
            }
        }
        // Its permit first: there may be no other.
        drop(self.pooled);
        Reaching::new(self.pool, Some(self.head_by)).begin(request, token)
    }

    /// Has the address tried last from now on, if this connection to it is new and has brought no answer: some ways let the short
    /// packets of a handshake through, and none of an answer's.
    fn distrust_if_new(&self) {
        if !self.pooled.was_used() {
            self.pool.endpoint().resolver().distrust(self.pooled.peer());
        }
    }

    /// Whether the request may be sent once more. That its connection was given up while it was idle shows soon; later the backend
    /// may have died of the request.
    fn may_repeat(&self, request: &UpstreamRequest) -> bool {
        let time_left = self.head_by.saturating_duration_since(Instant::now());
        time_left > self.pool.timeout() / 2 && self.pooled.may_repeat(request)
    }
}

/// The outcome of a leg whose answer failed: hanging up on it looks like a failure, too.
fn failed(token: &CancelToken, outcome: Outcome) -> Outcome {
    if token.disarm().is_err() { Outcome::Cancelled } else { outcome }
}

impl Pool {
    /// Starts a leg: on an idle connection, or on a new one. Doesn't block; the token hangs up at any time.
    pub fn start(
        self: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        now: Instant,
    ) -> Result<LegStep, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.take(request.is_idempotent(), now) {
            Some(pooled) => InFlight::begin(pooled, self.clone(), request, token, now, None),
            None => Reaching::new(self.clone(), None).begin(request, token),
        }
    }
}

impl Reaching {
    /// A leg that begins. Of one that died on a used connection, the head is due when it was there.
    pub(crate) fn new(pool: Arc<Pool>, head_by: Option<Instant>) -> Reaching {
        let deadline = head_by.unwrap_or_else(|| Instant::now() + pool.timeout());
        Reaching { pool, deadline, head_by }
    }

    fn begin(self, request: &UpstreamRequest, token: &CancelToken) -> Result<LegStep, Outcome> {
        self.pool.make_room();
        let resolution = Resolving::begin(self.pool.endpoint(), self.deadline)?;
        self.after_resolving(resolution, request, token)
    }

    fn after_resolving(
        self,
        resolution: Resolution,
        request: &UpstreamRequest,
        token: &CancelToken,
    ) -> Result<LegStep, Outcome> {
        match resolution {
            Resolution::Found { addresses, permit, is_retry } => {
                let reached = Connecting::begin(self.pool.endpoint(), addresses, permit, is_retry, self.deadline)?;
                self.after_connecting(reached, request, token)
            }
            Resolution::Pending(resolving) => {
                Ok(LegStep::Blocked(PendingAnswer(Stage::Resolving(self, Box::new(resolving)))))
            }
        }
    }

    pub(crate) fn after_connecting(
        self,
        reached: Reached,
        request: &UpstreamRequest,
        token: &CancelToken,
    ) -> Result<LegStep, Outcome> {
        match reached {
            Reached::Connected(connection) => {
                let pooled = self.pool.adopt(connection);
                InFlight::begin(pooled, self.pool, request, token, Instant::now(), self.head_by)
            }
            Reached::Pending(connecting) => {
                Ok(LegStep::Blocked(PendingAnswer(Stage::Connecting(self, Box::new(connecting)))))
            }
            Reached::ResolvesAgain(resolution) => self.after_resolving(resolution, request, token),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::message::Target;
    use crate::runtime::poller::Poller;
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::connect::lookup::{Lookup, SystemLookup};
    use crate::upstream::scenario::{Scenario, TestLeg, get, idle, pool_of, post, post_of_file};
    use crate::upstream::shared::ConnectOptions;
    use crate::upstream::shared::Upstream;

    /// How a leg ends whose backend answers with these bytes, and then ends its side.
    fn outcome(bytes: impl AsRef<[u8]>) -> Result<u16, Outcome> {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        backend.receives_head();
        backend.sends(bytes);
        backend.ends();
        leg.answer().map(|answer| answer.status.as_u16())
    }

    #[test]
    fn a_leg_ends_with_the_final_answer_or_with_what_is_wrong_with_it() {
        let field = |bytes: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(bytes));
        let interim = |count| format!("{}HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 103 \r\n\r\n".repeat(count));
        let protocol = |reason: &str| Err(Outcome::Protocol(reason.to_owned()));
        let rows = [
            ("an answer", "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), Ok(404)),
            ("no byte", String::new(), Err(Outcome::Closed)),
            ("half a head", "HTTP/1.1 200 OK\r\nContent-".to_owned(), Err(Outcome::Closed)),
            ("an interim answer alone", "HTTP/1.1 100 Continue\r\n\r\n".to_owned(), Err(Outcome::Closed)),
            ("a hundred interim answers", interim(INTERIM_ANSWERS_MAX), Ok(200)),
            ("one more", interim(INTERIM_ANSWERS_MAX + 1), protocol("it sends too many interim answers")),
            ("a long head", field(20 * 1024), Ok(200)),
            ("a head that is too long", field(30 * 1024), Err(Outcome::TooLarge)),
            ("a bare LF", "HTTP/1.1 200 OK\n\n".to_owned(), protocol("a line of its head doesn't end with CR LF")),
        ];
        for (label, bytes, expected) in rows {
            assert_eq!(outcome(bytes), expected, "{label}");
        }
    }

    #[test]
    fn a_reset_is_told_from_an_end() {
        let scenario = Scenario::new();
        let (leg, backend) = scenario.leg(get());
        backend.resets();
        assert_eq!(leg.answer().err(), Some(Outcome::Reset));
    }

    #[test]
    fn a_parked_leg_is_woken_by_its_answer() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        let answering = thread::spawn(move || {
            backend.receives_head();
            backend.sends("HTTP/1.1 200 OK\r\n\r\n");
            backend
        });
        assert!(leg.answer().is_ok());
        drop(answering.join());
    }

    #[test]
    fn a_parked_leg_is_woken_by_a_hang_up() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        let token = leg.token.clone();
        let cancelling = thread::spawn(move || token.cancel());
        assert_eq!(leg.answer().err(), Some(Outcome::Cancelled));
        cancelling.join().expect("no panic");
        assert!(backend.receives_to_end().starts_with(b"GET"), "it is hung up on");
    }

    #[test]
    fn a_parked_leg_is_woken_by_its_deadline() {
        let scenario = Scenario::with(|options| options.timeout = Duration::from_millis(10));
        let (leg, _backend) = scenario.leg(get());
        assert_eq!(leg.answer().err(), Some(Outcome::Timeout));
    }

    /// A head that comes late is no answer, however near its end it is; one that has been received is, however late it is read.
    #[test]
    fn a_head_counts_if_it_is_whole_when_the_leg_looks_and_not_by_the_clock() {
        let scenario = Scenario::with(|options| options.timeout = Duration::ZERO);
        let (leg, mut backend) = scenario.leg(get());
        backend.sends("HTTP/1.1 200 OK\r\n\r\n");
        assert!(leg.step().is_ok());
        let (leg, mut backend) = scenario.leg(get());
        backend.sends("HTTP/1.1 200 OK\r\n\r");
        assert_eq!(leg.step().err(), Some(Outcome::Timeout));
    }

    #[test]
    fn a_leg_that_is_hung_up_on_sends_nothing() {
        let scenario = Scenario::new();
        let (established, mut backend) = scenario.connection();
        let token = CancelToken::default();
        token.cancel();
        let reaching = Reaching::new(scenario.pool.clone(), None);
        let step = reaching.after_connecting(Reached::Connected(established), &get(), &token);
        assert_eq!(step.err(), Some(Outcome::Cancelled));
        assert_eq!(backend.receives_to_end(), b"");
        let mut backend = scenario.idle();
        assert_eq!(scenario.pool.start(&get(), &token, Instant::now()).err(), Some(Outcome::Cancelled));
        assert!(backend.is_left_alone() && scenario.take_idle() == 1, "nor is an idle connection lost to it");
    }

    /// A backend that dies of a request is not sent it again.
    #[test]
    fn a_request_whose_used_connection_dies_late_is_not_sent_once_more() {
        let scenario = Scenario::new();
        let (backend, request, token) = (scenario.idle(), get(), CancelToken::default());
        let step = scenario.pool.start(&request, &token, Instant::now());
        let Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(mut leg)))) = step else { panic!("it is out") };
        leg.head_by = Instant::now() + scenario.pool.timeout() / 3;
        backend.ends();
        let mut pending = PendingAnswer(Stage::Awaiting(leg));
        wait_for(&pending.readiness(&token).expect("a wait"));
        assert_eq!(pending.step(&request, &token, false).err(), Some(Outcome::Closed));
    }

    /// A backend may give up an idle connection just when it is used (RFC 9110 §9.2.2 and §15.5.9). A scenario has no room for a
    /// new connection, which shows where one is wanted.
    #[test]
    fn a_request_that_finds_its_connection_given_up_starts_afresh_if_that_does_no_harm() {
        const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        const OPEN_TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
        let afresh = Err(Outcome::NoSocket);
        let rows = [
            ("GET, used, an end", get(), true, "", afresh.clone()),
            ("GET, new, an end", get(), false, "", Err(Outcome::Closed)),
            ("POST, used, an end", post(b"a"), true, "", Err(Outcome::Closed)),
            ("GET, used, half a head", get(), true, "HTTP/1.1", Err(Outcome::Closed)),
            ("GET, used, an interim answer", get(), true, "HTTP/1.1 103 \r\n\r\n", Err(Outcome::Closed)),
            ("GET, used, 408 and close", get(), true, TIMEOUT, afresh),
            ("GET, used, 408", get(), true, OPEN_TIMEOUT, Ok(408)),
            ("GET, new, 408 and close", get(), false, TIMEOUT, Ok(408)),
            ("POST, used, 408 and close", post(b"a"), true, TIMEOUT, Ok(408)),
        ];
        for (label, request, is_used, bytes, expected) in rows {
            let scenario = Scenario::new();
            let (leg, mut backend) = if is_used { scenario.leg_on_used(request) } else { scenario.leg(request) };
            backend.receives_head();
            if label.starts_with("POST") {
                backend.receives(1);
            }
            backend.sends(bytes);
            backend.ends();
            assert_eq!(leg.answer().map(|answer| answer.status.as_u16()), expected, "{label}");
        }
    }

    /// Was seen as: with a timeout of a second a request that died after 0.8 s on a used connection had its 502 after 1.8 s.
    #[test]
    fn a_request_that_is_sent_once_more_has_the_time_that_is_left() {
        let head_by = |step: &Result<LegStep, Outcome>, is_new: bool| match step {
            Ok(LegStep::Blocked(PendingAnswer(Stage::Awaiting(leg)))) if leg.pooled.was_used() != is_new => {
                Some(leg.head_by)
            }
            _ => None,
        };
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let upstream =
            Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller).expect("no roots of its own");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let pool = pool_of(&address, upstream);
        let (used, request, token) = (idle(&pool), get(), CancelToken::default());
        let mut step = pool.start(&request, &token, Instant::now());
        let due = head_by(&step, false).expect("it is out");
        used.ends();
        while head_by(&step, true).is_none() {
            let Ok(LegStep::Blocked(mut pending)) = step else { panic!("no connection") };
            wait_for(&pending.readiness(&token).expect("a wait"));
            step = pending.step(&request, &token, false);
        }
        assert_eq!(head_by(&step, true), Some(due));
        assert!(listener.accept().is_ok(), "it has come on a new connection");
    }

    /// The name's first answer leads nowhere, so that it is looked up once more.
    #[test]
    fn a_leg_has_one_permit_on_its_way_from_a_name_to_a_connection() {
        struct Moved(crossbeam_channel::Receiver<SocketAddr>);
        impl Lookup for Moved {
            fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                self.0.recv().map(|found| vec![found]).map_err(io::Error::other)
            }
        }
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let (answers, receiver) = crossbeam_channel::unbounded();
        // Room for one connection.
        let options = ConnectOptions { connections_max: 1, ..ConnectOptions::default() };
        let upstream = Upstream::new(options, Arc::new(Moved(receiver)), poller).expect("no roots of its own");
        let pool = pool_of("http://name.example", upstream.clone());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = listener.local_addr().expect("an address");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for found in [closed, open] {
            answers.send(found).expect("the lookups listen");
        }
        let (request, token, mut lookups) = (get(), CancelToken::default(), 0);
        let mut step = pool.start(&request, &token, Instant::now());
        loop {
            let Ok(LegStep::Blocked(mut pending)) = step else { panic!("no connection") };
            assert_eq!(upstream.connections.load(Ordering::Relaxed), 1, "it {pending}");
            match pending.0 {
                Stage::Resolving(..) => lookups += 1,
                Stage::Awaiting(_) => break,
                _ => {}
            }
            wait_for(&pending.readiness(&token).expect("a wait"));
            step = pending.step(&request, &token, false);
        }
        assert_eq!(lookups, 2);
    }

    #[test]
    fn a_leg_that_has_lost_keeps_fields_where_they_say_more_than_the_status() {
        let rows = [
            ("200 OK", 0),
            ("500 Internal Server Error", 0),
            ("508 Loop Detected", 2),
            ("101 Switching Protocols", 2),
            ("429 Too Many Requests", 2),
            ("503 Service Unavailable", 2),
        ];
        for (status, fields) in rows {
            let scenario = Scenario::new();
            let (leg, mut backend) = scenario.leg(get());
            backend.sends(format!("HTTP/1.1 {status}\r\nA: b\r\nContent-Length: 0\r\n\r\n"));
            let answer = leg.answer_as_loser().expect("an answer");
            assert_eq!(answer.headers.len(), fields, "{status}");
        }
    }

    #[test]
    fn a_body_in_a_file_is_read_in_a_step_of_its_own() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(post_of_file(b"abc"));
        backend.receives_head();
        assert!(backend.is_left_alone() && leg.pending.to_string() == "sends the request");
        let TestLeg { request, token, pending } = leg;
        let Ok(LegStep::Yield(pending)) = pending.step(&request, &token, false) else { panic!("no answer yet") };
        assert!(backend.is_left_alone(), "nothing was read");
        pending.file_read().expect("bytes to send").0.run();
        let Ok(LegStep::Blocked(pending)) = pending.step(&request, &token, false) else { panic!("no answer yet") };
        assert_eq!(backend.receives(3), b"abc");
        assert!(pending.file_read().is_none() && pending.to_string() == "awaits the answer");
    }

    #[test]
    fn a_leg_whose_time_to_send_is_over_reads_no_file() {
        let scenario = Scenario::with(|options| options.idle_timeout = Duration::ZERO);
        let (leg, mut backend) = scenario.leg(post_of_file(b"abc"));
        backend.receives_head();
        assert!(leg.pending.file_read().is_none());
        assert_eq!(leg.step().err(), Some(Outcome::Timeout));
        assert_eq!(backend.receives_to_end(), b"");
    }

    #[test]
    fn an_early_refusal_is_the_answer_and_the_rest_of_the_request_is_not_sent() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(post_of_file(b"abc"));
        backend.sends("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        let answer = leg.answer().expect("an answer");
        assert!(answer.status == 413 && answer.upload.is_none());
        drop(answer);
        assert!(backend.receives_to_end().ends_with(b"\r\n\r\n"), "without the body");
        assert_eq!(scenario.take_idle(), 0, "the rest would be taken for the next request");
    }

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
        let pool = pool_of(&format!("http://localhost:{port}"), upstream);
        let target = Target::parse(&Method::GET, "/").expect("a target");
        let request = UpstreamRequest::new(Method::GET, target, HeaderMap::new(), None, None);
        let mut step = pool.start(&request, &token, Instant::now());
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
