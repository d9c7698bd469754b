//! Brings connections and legs into a state, for tests: over pairs of sockets, with a real poller, and without a network. A leg
//! that would need a new connection ends with [`Outcome::NoSocket`]. Knows nothing of what a test asserts.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::message::{Address, Outcome, Spool, SpoolMemory, SpoolWriter, Target};
use crate::runtime::cancel::CancelToken;
use crate::runtime::poller::{EventLoop, Poller};
use crate::upstream::conn::connection::Connection;
use crate::upstream::conn::parking::{Readiness, wait_for};
use crate::upstream::connect::connecting::{Established, Reached};
use crate::upstream::connect::lookup::SystemLookup;
use crate::upstream::connect::timer::Timer;
use crate::upstream::endpoint::Place;
use crate::upstream::leg::{LegStep, PendingAnswer, Reaching};
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::answer::Answer;
use crate::upstream::response::body::{AnswerBody, StreamedBody};
use crate::upstream::shared::{ConnectOptions, Upstream};

/// Longer than any test waits.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// The bound of every wait.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// One backend's pool, and a poller.
pub(crate) struct Scenario {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) pool: Arc<Pool>,
    poller: Poller,
    /// The poller's side, if no thread runs it: then the test gives events by hand.
    event_loop: Option<EventLoop>,
}

impl Scenario {
    /// A pool whose poller runs, and whose times are never over.
    pub(crate) fn new() -> Scenario {
        Scenario::with(|_| {})
    }

    /// A pool with options that differ from those of [`Scenario::new`].
    pub(crate) fn with(set: impl FnOnce(&mut ConnectOptions)) -> Scenario {
        let mut scenario = Scenario::made(set);
        let event_loop = scenario.event_loop.take().expect("a poller");
        thread::spawn(move || event_loop.run());
        scenario
    }

    /// A pool whose poller gives no events: the test does.
    pub(crate) fn still() -> Scenario {
        Scenario::made(|_| {})
    }

    fn made(set: impl FnOnce(&mut ConnectOptions)) -> Scenario {
        let (poller, event_loop) = Poller::new().expect("a poller");
        // The permits of pairs are counted only; any other connection would be one too many.
        let mut options =
            ConnectOptions { timeout: LONG, idle_timeout: LONG, connections_max: 0, ..ConnectOptions::default() };
        set(&mut options);
        let upstream = Upstream::new(options, Arc::new(SystemLookup), poller.clone()).expect("no roots of its own");
        let pool = pool_of("http://127.0.0.1:1", upstream.clone());
        Scenario { upstream, pool, poller, event_loop: Some(event_loop) }
    }

    /// A new connection without a pooled one around it, and the backend's end.
    pub(crate) fn connection(&self) -> (Established, Backend) {
        let (established, far) = Established::over_pair(self.pool.endpoint());
        (established, Backend::new(far))
    }

    /// A new connection of the pool.
    pub(crate) fn pooled(&self) -> (PooledConnection, Backend) {
        let (established, backend) = self.connection();
        (self.pool.adopt(established), backend)
    }

    /// A connection that was used once, and idles in the pool.
    pub(crate) fn idle(&self) -> Backend {
        idle(&self.pool)
    }

    /// A leg that has sent its request, or what is in memory of it, on a new connection.
    pub(crate) fn leg(&self, request: UpstreamRequest) -> (TestLeg, Backend) {
        leg(&self.pool, request)
    }

    /// A leg that has sent its request, or what is in memory of it, on a connection that was used before.
    pub(crate) fn leg_on_used(&self, request: UpstreamRequest) -> (TestLeg, Backend) {
        let backend = self.idle();
        let token = CancelToken::default();
        let step = self.pool.start(&request, &token, Instant::now());
        (TestLeg { request, token, pending: pending(step) }, backend)
    }

    /// An answer to GET of which these bytes have been received, and whose body is still coming.
    pub(crate) fn streamed(&self, received: impl AsRef<[u8]>) -> (Box<StreamedBody>, CancelToken, Backend) {
        let (leg, mut backend) = self.leg(get());
        backend.sends(received);
        let token = leg.token.clone();
        match leg.answer().expect("a head").body {
            AnswerBody::Streamed(body) => (body, token, backend),
            AnswerBody::Whole(_) => panic!("the whole answer has been received"),
        }
    }

    /// Waits until the poller has given the events of all that was sent before, and the legs have acted on them.
    pub(crate) fn settle(&self) {
        // The first may come in a round that had begun before; what was sent is seen in the next at the latest.
        for _ in 0..2 {
            self.wait_until(Instant::now());
        }
    }

    /// Waits until the poller has given all events of deadlines that are over within this time.
    pub(crate) fn outlast(&self, time: Duration) {
        self.wait_until(Instant::now() + time);
        self.settle();
    }

    fn wait_until(&self, deadline: Instant) {
        let timer = Timer::new(&self.poller, deadline);
        let readiness: Arc<dyn Readiness> = timer.clone();
        wait_for(&readiness);
        timer.end();
    }

    /// The count of connections that idle in the pool; they leave it.
    pub(crate) fn take_idle(&self) -> usize {
        std::iter::from_fn(|| self.pool.take_last()).count()
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.poller.stop();
    }
}

/// A pool without connections to the backend of this address.
pub(crate) fn pool_of(address: &str, upstream: Arc<Upstream>) -> Arc<Pool> {
    Pool::at(Address::parse(address).expect("an address"), Place::Url, upstream, None)
}

/// A connection that was used once, and idles in this pool.
pub(crate) fn idle(pool: &Arc<Pool>) -> Backend {
    let (leg, mut backend) = leg(pool, get());
    backend.receives_head();
    backend.sends("HTTP/1.1 204 No Content\r\n\r\n");
    assert!(leg.answer().is_ok_and(|answer| answer.status == 204));
    backend
}

/// A leg on a new connection of this pool.
fn leg(pool: &Arc<Pool>, request: UpstreamRequest) -> (TestLeg, Backend) {
    let (established, far) = Established::over_pair(pool.endpoint());
    let token = CancelToken::default();
    let step = Reaching::new(pool.clone(), None).after_connecting(Reached::Connected(established), &request, &token);
    (TestLeg { request, token, pending: pending(step) }, Backend::new(far))
}

fn pending(step: Result<LegStep, Outcome>) -> PendingAnswer {
    match step {
        Ok(LegStep::Blocked(pending) | LegStep::Yield(pending)) => pending,
        Ok(LegStep::Answered(answer)) => panic!("it is answered with {}", answer.status),
        Err(outcome) => panic!("it ends: {outcome}"),
    }
}

/// A leg without a race.
pub(crate) struct TestLeg {
    pub(crate) request: UpstreamRequest,
    pub(crate) token: CancelToken,
    pub(crate) pending: PendingAnswer,
}

impl TestLeg {
    /// Takes one step, once what it needs of a file has been read.
    pub(crate) fn step(self) -> Result<LegStep, Outcome> {
        step(self.pending, &self.request, &self.token, false)
    }

    /// Takes steps, and parks between them, until the leg has an answer or ends.
    pub(crate) fn answer(self) -> Result<Answer, Outcome> {
        self.answer_as(false)
    }

    /// Takes steps like [`TestLeg::answer`], in a race that is decided.
    pub(crate) fn answer_as_loser(self) -> Result<Answer, Outcome> {
        self.answer_as(true)
    }

    fn answer_as(self, has_lost: bool) -> Result<Answer, Outcome> {
        let until = Instant::now() + SOON;
        let take = |pending| step(pending, &self.request, &self.token, has_lost);
        let mut step = take(self.pending);
        loop {
            assert!(Instant::now() < until, "the leg takes steps without end");
            step = match step? {
                LegStep::Answered(answer) => return Ok(*answer),
                LegStep::Yield(pending) => take(pending),
                LegStep::Blocked(mut pending) => {
                    wait_for(&pending.readiness(&self.token)?);
                    take(pending)
                }
            }
        }
    }
}

fn step(
    pending: PendingAnswer,
    request: &UpstreamRequest,
    token: &CancelToken,
    has_lost: bool,
) -> Result<LegStep, Outcome> {
    if let Some((read, _)) = pending.file_read() {
        read.run();
    }
    pending.step(request, token, has_lost)
}

/// A backend's end of a connection. Its calls fail the test rather than wait for longer than [`SOON`].
pub(crate) struct Backend(UnixStream);

impl Backend {
    fn new(socket: UnixStream) -> Backend {
        socket.set_read_timeout(Some(SOON)).expect("a socket");
        socket.set_write_timeout(Some(SOON)).expect("a socket");
        Backend(socket)
    }

    pub(crate) fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("room");
    }

    /// The head of a request, to its empty line.
    pub(crate) fn receives_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.receives(1));
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// The next bytes.
    pub(crate) fn receives(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("what the leg sends");
        bytes
    }

    /// All that the leg sends until the connection ends.
    pub(crate) fn receives_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("no end: {error}"),
            _ => bytes,
        }
    }

    /// Whether the connection is open, and nothing has been received on it.
    pub(crate) fn is_left_alone(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("a socket");
        let read = self.0.read(&mut [0]);
        self.0.set_nonblocking(false).expect("a socket");
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Ends its side in order.
    pub(crate) fn ends(&self) {
        self.0.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Resets the connection, on which the leg has sent something: closing it unread does that.
    pub(crate) fn resets(self) {
        drop(self.0);
    }
}

/// Has the kernel take few bytes of what the leg sends before the backend reads.
pub(crate) fn narrow(connection: &Connection) {
    connection.socket().set_send_buffer_size(4096).expect("a small buffer");
}

/// A request for `/` without fields or body.
pub(crate) fn get() -> UpstreamRequest {
    request(Method::GET, &[], None)
}

/// A POST with a body in memory.
pub(crate) fn post(body: &[u8]) -> UpstreamRequest {
    request(Method::POST, &[], Some(spool(body, 1 << 20)))
}

/// A POST with a body in a file.
pub(crate) fn post_of_file(body: &[u8]) -> UpstreamRequest {
    request(Method::POST, &[], Some(spool(body, 0)))
}

/// A request for `/`.
pub(crate) fn request(method: Method, fields: &[(&'static str, &'static str)], body: Option<Spool>) -> UpstreamRequest {
    let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let target = Target::parse(&method, "/").expect("a target");
    UpstreamRequest::new(method, target, fields.collect::<HeaderMap>(), None, body)
}

/// A body, in memory if that has room for it.
pub(crate) fn spool(body: &[u8], memory_bytes: usize) -> Spool {
    let memory = Arc::new(SpoolMemory::of(memory_bytes));
    let mut writer = SpoolWriter::sharing(memory, std::env::temp_dir().into(), body.len() as u64);
    writer.append(body).expect("room");
    writer.write_out().expect("room");
    writer.finish()
}
