//! A leg and a backend that keeps to a script, on both ends of a connection and on one thread: the leg is the real one, and the
//! backend's end takes the poller's part as well.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, Method};

use super::meaning::{Head, Kept, Meaning};
use crate::message::{Address, Outcome, Target};
use crate::runtime::cancel::CancelToken;
use crate::runtime::poller::{Event, EventHandler, Poller};
use crate::upstream::client::error::outcome_of;
use crate::upstream::conn::connection::Connection;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::conn::parking::Waiter;
use crate::upstream::connect::connecting::{Established, Reached};
use crate::upstream::connect::lookup::SystemLookup;
use crate::upstream::endpoint::Place;
use crate::upstream::leg::{LegStep, Reaching};
use crate::upstream::pool::Pool;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::answer::Answer;
use crate::upstream::response::body::AnswerBody;
use crate::upstream::shared::ConnectOptions;
use crate::upstream::shared::Upstream;

/// The most pieces; more come as one, since each costs calls of the kernel.
const PIECES_MAX: usize = 64;
/// A time that no test lasts.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The bytes of one read, of an answer's rest and of a tunnel.
const READ_BYTES: usize = 4096;

/// The bytes that a backend sends, and their times.
pub struct Script<'a> {
    pub input: &'a [u8],
    /// The ends of its pieces.
    pub ends: &'a [usize],
    /// Whether the connection ends with the last of them, or only when more is waited for.
    pub ends_at_once: bool,
}

/// Reads an answer as a leg that may win, at most `room` bytes of the body at a time.
pub(crate) fn read(method: &Method, script: &Script, room: usize) -> Meaning {
    let mut exchange = Exchange::begin(method, script);
    let mut read = Meaning::default();
    match exchange.answer(false) {
        Err(outcome) => read.failed = Some(outcome),
        Ok(mut answer) => {
            let headers = std::mem::take(&mut answer.headers);
            read.head = Some(Head { status: answer.status, version: answer.version, headers });
            read.length = answer.length;
            match &mut answer.body {
                AnswerBody::Whole(body) => read.body = std::mem::take(body),
                AnswerBody::Streamed(body) => {
                    let ended = exchange.backend.read_beside(body, room, &mut read.body);
                    read.failed = ended.err().map(|error| outcome_of(error.into()));
                }
            }
            exchange.backend.send_rest();
            if let Some(upgraded) = &mut answer.upgraded {
                read.rest = what_came(|buffer| upgraded.read(buffer));
            }
        }
    }
    exchange.end(&mut read);
    read
}

/// Reads an answer as a leg that has lost, and needs neither the fields nor the body.
pub(crate) fn read_loser(method: &Method, script: &Script) -> Meaning {
    let mut exchange = Exchange::begin(method, script);
    let mut read = Meaning::default();
    match exchange.answer(true) {
        Err(outcome) => read.failed = Some(outcome),
        Ok(answer) => {
            read.head = Some(Head { status: answer.status, version: answer.version, headers: HeaderMap::new() });
            exchange.drain(answer.body);
        }
    }
    exchange.end(&mut read);
    read
}

/// A request and its answer on a connection of their own.
struct Exchange<'a> {
    pool: Arc<Pool>,
    request: UpstreamRequest,
    token: CancelToken,
    established: Option<Established>,
    backend: Backend<'a>,
}

impl<'a> Exchange<'a> {
    fn begin(method: &Method, script: &Script<'a>) -> Exchange<'a> {
        // No socket is opened for it, and no name looked up.
        let address = Address::parse("http://127.0.0.1:1").expect("an address");
        let pool = Pool::at(address, Place::Url, upstream(), None);
        let (established, far) = Established::over_pair(pool.endpoint());
        let connection = established.connection.get().clone();
        let target = Target::parse(method, "/").expect("a target");
        Exchange {
            pool,
            request: UpstreamRequest::new(method.clone(), target, HeaderMap::new(), None, None),
            token: CancelToken::default(),
            established: Some(established),
            backend: Backend::new(far, connection, script),
        }
    }

    fn answer(&mut self, has_lost: bool) -> Result<Answer, Outcome> {
        let reached = Reached::Connected(self.established.take().expect("the one connection"));
        let mut step = Reaching::new(self.pool.clone(), None).after_connecting(reached, &self.request, &self.token)?;
        loop {
            let pending = match step {
                LegStep::Answered(answer) => return Ok(*answer),
                LegStep::Yield(pending) => pending,
                LegStep::Blocked(mut pending) => {
                    self.backend.wake(&pending.readiness(&self.token)?);
                    pending
                }
            };
            step = pending.step(&self.request, &self.token, has_lost)?;
        }
    }

    fn drain(&mut self, body: AnswerBody) {
        let mut draining = body.drain(u64::MAX, Duration::MAX);
        while let Some(body) = draining {
            self.backend.wake(&body.readiness());
            draining = body.read_more();
        }
    }

    /// Drops the answer, and notes whether the next request may have the connection, and what was received behind the answer.
    fn end(mut self, read: &mut Meaning) {
        self.backend.send_rest();
        let pooled = self.pool.take_last().filter(|pooled| pooled.connection().probe_idle());
        read.is_reused = pooled.is_some();
        read.kept =
            pooled.map(|pooled| Kept { idle_time_max: pooled.idle_time_max(), is_suspect: pooled.is_suspect() });
        read.rest.extend(what_came(|buffer| self.backend.connection.stream().read(buffer)));
    }
}

/// The settings and the poller of all exchanges. No time is ever over.
fn upstream() -> Arc<Upstream> {
    static UPSTREAM: OnceLock<Arc<Upstream>> = OnceLock::new();
    let new = || {
        let (poller, _) = Poller::new().expect("a poller");
        let options = ConnectOptions { timeout: NEVER, idle_timeout: NEVER, ..ConnectOptions::default() };
        Upstream::new(options, Arc::new(SystemLookup), poller).expect("no roots of its own")
    };
    UPSTREAM.get_or_init(new).clone()
}

/// The backend's end of the connection.
struct Backend<'a> {
    socket: UnixStream,
    /// The leg's end of it.
    connection: Arc<Connection>,
    pieces: VecDeque<&'a [u8]>,
    ends_at_once: bool,
    has_ended: bool,
}

impl<'a> Backend<'a> {
    fn new(socket: UnixStream, connection: Arc<Connection>, script: &Script<'a>) -> Backend<'a> {
        let (mut pieces, mut begin) = (VecDeque::new(), 0);
        for end in script.ends.iter().copied().take(PIECES_MAX - 1).chain([script.input.len()]) {
            if end > begin {
                pieces.push_back(&script.input[begin..end]);
            }
            begin = end;
        }
        Backend { socket, connection, pieces, ends_at_once: script.ends_at_once, has_ended: false }
    }

    /// Sends the next piece, which wakes the parked leg.
    fn wake(&mut self, readiness: &Arc<dyn Readiness>) {
        let woken = Arc::new(Woken::default());
        if readiness.park(woken.clone(), 0) {
            self.send_next();
            assert!(woken.0.load(Ordering::Relaxed), "an event wakes the leg");
        }
    }

    /// Sends the next piece, or ends the connection behind the last. The poller's event is given here.
    fn send_next(&mut self) {
        assert!(!self.has_ended, "more is waited for than the end");
        let piece = self.pieces.pop_front();
        if let Some(piece) = piece {
            self.socket.write_all(piece).expect("room");
        }
        self.has_ended = piece.is_none() || (self.ends_at_once && self.pieces.is_empty());
        if self.has_ended {
            self.socket.shutdown(Shutdown::Write).expect("a connection");
        }
        self.connection.clone().on_event(Event::Ready { read_closed: self.has_ended, dead: false });
    }

    fn send_rest(&mut self) {
        while !self.pieces.is_empty() {
            self.send_next();
        }
    }

    /// Reads the body, and sends the next piece whenever it would have to wait.
    fn read_beside(&mut self, body: &mut impl io::Read, room: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut piece = vec![0; room];
        loop {
            match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => into.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.send_next(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a leg has been woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Waiter for Woken {
    fn wake(self: Arc<Self>, _: usize) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads all that has been received.
fn what_came(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Vec<u8> {
    let (mut piece, mut bytes) = ([0; READ_BYTES], Vec::new());
    while let Ok(count @ 1..) = read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}
