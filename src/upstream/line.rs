//! Lines: connections to one backend that are used again. The last one to be given back is the first to be taken.
//! Knows nothing of what travels on them beyond one call.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Error, Timeout};

use super::dial::dial;
use super::resolve::Resolver;
use super::transport::{OneConnection, Wire};
use super::{Answer, AnswerBody, Outgoing, Upstream, request_for};
use crate::message::{Address, Outcome};
use crate::race::CancelToken;

/// Node closes idle connections after 5 s, others later: a line that is younger is probably alive.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
/// What can't be repeated goes out only on a line that was used just now.
const IDLE_TIME_MAX_ONCE: Duration = Duration::from_secs(1);
/// As many as a busy client keeps; each holds up to 56 KiB of buffers.
const IDLE_LINES_MAX: usize = 64;

/// All lines to one backend.
pub struct Lines {
    address: Address,
    upstream: Arc<Upstream>,
    resolver: Resolver,
    idle: Mutex<Vec<Idle>>,
    opened: AtomicU64,
    reused: AtomicU64,
}

struct Idle {
    line: Line,
    since: Instant,
}

/// One connection, with the ureq agent that speaks on it and on no other.
pub(super) struct Line {
    agent: Agent,
    wire: Arc<Wire>,
    was_used: bool,
}

/// Why a call brought no answer.
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// The line had been used before and died without one byte of an answer.
    pub(super) died_unanswered: bool,
}

impl Lines {
    /// No lines yet to this backend.
    pub fn new(address: Address, upstream: Arc<Upstream>) -> Arc<Lines> {
        let resolver = Resolver::new(address.host(), address.port(), upstream.lookup.clone());
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Lines { address, upstream, resolver, idle: Mutex::default(), opened, reused })
    }

    /// The backend's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many lines have been opened, and how often an open one was used again.
    pub fn counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed))
    }

    /// An idle line that may be used: young enough, and silent since its last answer.
    pub(super) fn take(&self, repeatable: bool, now: Instant) -> Option<Line> {
        let idle_time_max = if repeatable { IDLE_TIME_MAX } else { IDLE_TIME_MAX_ONCE };
        loop {
            let idle = {
                let mut idle = self.idle();
                let youngest = idle.last()?;
                if now.saturating_duration_since(youngest.since) > idle_time_max {
                    return None;
                }
                idle.pop()?
            };
            if idle.line.wire.is_quiet() {
                self.reused.fetch_add(1, Ordering::Relaxed);
                return Some(idle.line);
            }
        }
    }

    /// Keeps a line for the next call, if its last answer came to its end.
    pub(super) fn keep(&self, mut line: Line, now: Instant) {
        if !line.wire.is_reusable() {
            return;
        }
        line.was_used = true;
        let aged: Vec<Idle> = {
            let mut idle = self.idle();
            let is_old = |idle: &Idle| now.saturating_duration_since(idle.since) > IDLE_TIME_MAX;
            let old = idle.iter().take_while(|idle| is_old(idle)).count();
            let too_many = (idle.len() + 1).saturating_sub(IDLE_LINES_MAX);
            let aged = idle.drain(..old.max(too_many)).collect();
            idle.push(Idle { line, since: now });
            aged
        };
        drop(aged);
    }

    /// Opens a line. Blocks until it is connected or the timeout is over; the token hangs up.
    pub(super) fn open(&self, token: &CancelToken) -> Result<Line, Outcome> {
        let deadline = Instant::now() + self.upstream.timeout;
        let addresses = self.resolver.addresses(deadline, token)?;
        let socket = dial(&addresses, deadline, token)?;
        if let Some(peer) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) {
            self.resolver.prefer(peer);
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let wire = Wire::new(socket, deadline);
        let connection = OneConnection::new(wire.clone(), self.upstream.tls.clone());
        let agent = Agent::with_parts(self.upstream.config.clone(), connection, Resolved);
        Ok(Line { agent, wire, was_used: false })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn has_buffered(&self) -> bool {
        self.wire.has_buffered()
    }

    /// Sends the request and waits for the head of the answer.
    pub(super) fn call(self, lines: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Answer, Failure> {
        let failed = |outcome| Failure { outcome, died_unanswered: false };
        self.wire.begin();
        token.arm(self.wire.clone()).map_err(|_| failed(Outcome::Cancelled))?;
        let response = match self.agent.run(request_for(&lines.address, request)) {
            Ok(response) => response,
            Err(error) => return Err(self.failure(error, token)),
        };
        let (head, body) = response.into_parts();
        if head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH) {
            let _ = token.disarm();
            return Err(failed(Outcome::Protocol("both Transfer-Encoding and Content-Length are given".to_owned())));
        }
        let told = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            length: body.content_length().or(told),
            body: AnswerBody {
                reader: body.into_reader(),
                line: Some(self),
                lines: lines.clone(),
                token: token.clone(),
            },
        })
    }

    fn failure(self, error: Error, token: &CancelToken) -> Failure {
        if token.disarm().is_err() {
            return Failure { outcome: Outcome::Cancelled, died_unanswered: false };
        }
        let outcome = if self.wire.was_reset() { Outcome::Reset } else { outcome_of(error) };
        let died = matches!(outcome, Outcome::Reset | Outcome::Closed);
        Failure { outcome, died_unanswered: died && self.was_used && !self.wire.was_answered() }
    }
}

/// What an error of ureq's means.
fn outcome_of(error: Error) -> Outcome {
    match error {
        Error::Timeout(Timeout::Connect) => Outcome::ConnectTimeout,
        Error::Timeout(_) => Outcome::Timeout,
        Error::LargeResponseHeader(..) => Outcome::TooLarge,
        Error::Rustls(error) => Outcome::Tls(error.to_string()),
        Error::Tls(reason) => Outcome::Tls(reason.to_owned()),
        Error::Io(error) => outcome_of_io(&error),
        Error::Other(error) => match error.downcast_ref::<io::Error>() {
            Some(error) => outcome_of_io(error),
            None => Outcome::Protocol(error.to_string()),
        },
        Error::Protocol(error) => Outcome::Protocol(error.to_string()),
        other => Outcome::Protocol(other.to_string()),
    }
}

fn outcome_of_io(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Outcome::Reset,
        io::ErrorKind::UnexpectedEof => Outcome::Closed,
        // rustls wraps its errors in this kind.
        io::ErrorKind::InvalidData => Outcome::Tls(error.to_string()),
        _ => Outcome::Protocol(error.to_string()),
    }
}

/// ureq resolves before it looks for a connection. Ours is connected already, so any address will do.
#[derive(Debug)]
struct Resolved;

impl UreqResolver for Resolved {
    fn resolve(&self, _: &http::Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}
