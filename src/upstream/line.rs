//! Lines: connections to one backend that are used again. The last one to be given back is the first to be taken.
//! Knows nothing of what travels on them beyond one call.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use rustls::ClientConnection;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Error};

use super::connecting::Watched;
use super::failure::Failure;
use super::glance::{Whole, is_bare, is_more_than_begin, whole};
use super::inspector::Inspector;
use super::permit::Permit;
use super::resolve::Resolver;
use super::session::Seen;
use super::transport::{Connected, OneConnection};
use super::wire::Wire;
use super::{Answer, AnswerBody, Outgoing, Switched, Upload, Upstream};
use crate::message::headers::has_token;
use crate::message::{Address, Outcome, bind_connection, content_length};
use crate::poller::{Owner, Poller, Turn, Watch};
use crate::race::CancelToken;

/// Node closes idle connections after 5 s, others later: a line that is younger is probably alive.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
/// What can't be repeated goes out only on a line that was used just now.
const IDLE_TIME_MAX_ONCE: Duration = Duration::from_secs(1);

/// Where more lines are idle, there is work for every core: then the last one whose answer has its turn on the same thread is
/// taken, since the thread is awake.
const FEW_LINES: usize = 8;
/// Bytes that a backend sends behind an answer, by a mistake of its own, come soon after it. A line that has been idle for so
/// long is looked at once more before it is used, and those are seen.
const RIPE_TIME: Duration = Duration::from_millis(10);
/// The same where they are to be feared: behind a head that tells the length of a body that isn't to be sent.
const SUSPECT_TIME: Duration = Duration::from_millis(100);
/// A body that is longer comes in many pieces, and a turn of the poller for each would be for nothing.
const LONG_BODY_BYTES: u64 = 64 * 1024;

/// All lines to one backend.
pub struct Lines {
    address: Address,
    upstream: Arc<Upstream>,
    resolver: Resolver,
    idle: Mutex<Vec<Idle>>,
    sweep: Watch,
    open: Arc<AtomicUsize>,
}

struct Idle {
    line: Line,
    since: Instant,
    /// Until then it isn't used: more may come of its last answer than may.
    from: Instant,
    /// From then on it is probably closed at the other end.
    until: Instant,
}

/// Drops idle lines when their time is over, also if nobody asks for one.
struct Sweeper(Weak<Lines>);

impl Owner for Sweeper {
    fn turn(self: Arc<Self>, turn: Turn) {
        match (turn, self.0.upgrade()) {
            (Turn::Expired, Some(lines)) => lines.sweep(Instant::now()),
            (Turn::Ready { .. } | Turn::Expired | Turn::Drain | Turn::Cut, _) => {}
        }
    }
}

/// One connection, with the ureq agent that speaks on it and on no other.
pub(super) struct Line {
    agent: Agent,
    wire: Watched,
    /// The backend's address at the other end.
    peer: SocketAddr,
    inspector: Inspector,
    was_used: bool,
    /// The poller gives no turns for it.
    rests: bool,
    /// How long it may idle: the backend may have said it.
    idle_time_max: Duration,
    next_use: NextUse,
    _permit: Permit,
}

/// When the next request may have it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextUse {
    AtOnce,
    /// Not at once: its last answer had no body, but told of one.
    AfterRest,
    /// The backend may take what follows for the same user's.
    Never,
}

impl Lines {
    /// No lines yet to this backend.
    pub fn new(address: Address, upstream: Arc<Upstream>) -> Arc<Lines> {
        Arc::new_cyclic(|lines: &Weak<Lines>| Lines {
            resolver: Resolver::new(address.host(), address.port(), upstream.lookup.clone(), upstream.reach.dns_ttl, {
                let lines = lines.clone();
                move || lines.upgrade().iter().for_each(|lines| lines.sweep(Instant::now()))
            }),
            address,
            idle: Mutex::default(),
            sweep: upstream.poller.alarm(Arc::new(Sweeper(lines.clone()))),
            open: Arc::default(),
            upstream,
        })
    }

    /// The backend's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn timeout(&self) -> Duration {
        self.upstream.reach.timeout
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.upstream.reach.idle_timeout
    }

    /// An idle line that may be used: young enough, and silent since its last answer.
    pub(super) fn take(&self, repeatable: bool, now: Instant) -> Option<Line> {
        self.resolver.refresh(now);
        loop {
            let idle = {
                let mut idle = self.idle();
                let at = best_of(&idle, repeatable, now)?;
                idle.remove(at)
            };
            if idle.line.wire.get().is_quiet() {
                self.upstream.reused.fetch_add(1, Ordering::Relaxed);
                return Some(idle.line);
            }
        }
    }

    /// Keeps a line for the next call, if its last answer came to its end.
    pub(super) fn keep(&self, mut line: Line, now: Instant) {
        let idle_lines_max = self.upstream.reach.idle_lines_max;
        // The rest of a request that isn't out would be taken for the next one's begin.
        let is_reusable = line.wire.get().story().is_reusable() && line.wire.get().is_request_out();
        if !is_reusable || line.lie().is_some() || line.next_use == NextUse::Never || idle_lines_max == 0 {
            return;
        }
        if line.watch().is_err() {
            return;
        }
        line.was_used = true;
        let until = now + line.idle_time_max;
        let from = if line.next_use == NextUse::AfterRest { now + SUSPECT_TIME } else { now };
        let mut idle = self.idle();
        // Under the lock, or one that is given back while the name moves could stay.
        if !self.resolver.has(line.peer) {
            return;
        }
        let oldest = (idle.len() >= idle_lines_max).then(|| idle.remove(0));
        let is_next = idle.iter().all(|other| until < other.until);
        idle.push(Idle { line, since: now, from, until });
        if is_next {
            // Under the lock, or the sweeper could take an alarm back that it doesn't know of.
            self.sweep.set_deadline(Some(until));
        }
        drop(idle);
        drop(oldest);
    }

    /// Drops the idle lines whose time is over, and those to an address that has left the backend's name.
    fn sweep(&self, now: Instant) {
        let mut idle = self.idle();
        let is_over = |idle: &mut Idle| idle.until <= now || !self.resolver.has(idle.line.peer);
        let over: Vec<Idle> = idle.extract_if(.., is_over).collect();
        self.sweep.set_deadline(idle.iter().map(|idle| idle.until).min());
        drop(idle);
        drop(over);
    }

    /// A line on this connection, which has just been made.
    pub(super) fn line_on(&self, wire: Watched, peer: SocketAddr, permit: Permit) -> Result<Line, Outcome> {
        let connected = wire.get();
        self.upstream.opened.fetch_add(1, Ordering::Relaxed);
        connected.join_poller(&self.upstream.poller).map_err(|_| Outcome::NoSocket)?;
        let (agent, inspector) = self.agent_on(connected.clone());
        Ok(Line {
            agent,
            wire,
            peer,
            inspector,
            was_used: false,
            rests: false,
            idle_time_max: IDLE_TIME_MAX,
            next_use: NextUse::AtOnce,
            _permit: permit,
        })
    }

    /// An agent for this connection, which knows nothing of what has been said on it.
    fn agent_on(&self, wire: Arc<Wire>) -> (Agent, Inspector) {
        let inspector = Inspector::default();
        let connection = OneConnection::new(Connected {
            wire,
            is_tls: self.address.is_tls(),
            inspector: inspector.clone(),
            spare: self.upstream.spare.clone(),
        });
        (Agent::with_parts(self.upstream.config.clone(), connection, Resolved), inspector)
    }

    pub(super) fn permit(&self) -> Result<Permit, Outcome> {
        Permit::take(&self.upstream, &self.open)
    }

    /// For what counts as a line, whether there may be one or not.
    pub(super) fn counted_permit(&self) -> Permit {
        Permit::count(&self.upstream, &self.open).0
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(super) fn poller(&self) -> &Poller {
        &self.upstream.poller
    }

    /// Our side of a TLS handshake, if the backend wants one.
    pub(super) fn handshake(&self) -> Result<Option<Box<ClientConnection>>, Outcome> {
        if self.address.is_tls() { self.upstream.tls.connection(self.address.host()).map(Some) } else { Ok(None) }
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

impl Drop for Lines {
    fn drop(&mut self) {
        self.sweep.end();
    }
}

impl Line {
    /// Whether the next read of the body won't wait: of one of known length any byte that is here will do.
    pub(super) fn has_buffered(&self, is_sized: bool) -> bool {
        self.wire.get().story().has_buffered() || (is_sized && self.wire.get().story().is_held())
    }

    /// Whether the rest of the current answer's body is long and comes as it is.
    pub(super) fn is_movable(&self) -> bool {
        self.rests && self.wire.get().is_movable()
    }

    /// What is wrong with the current answer, as far as it has been read.
    pub(super) fn lie(&self) -> Option<&'static str> {
        self.inspector.lie()
    }

    /// The rest of an answer went past its agent, which will never know that it has ended: another one goes on.
    pub(super) fn renew(&mut self, lines: &Lines) {
        (self.agent, self.inspector) = lines.agent_on(self.wire());
        self.wire.get().story().note_reusable(true);
    }

    /// The poller gives turns for it, again if it rested.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.rests) { self.wire.get().wake_in_poller() } else { Ok(()) }
    }

    /// Whether a request that finds it dead may go out once more: a backend may close an idle connection just when it is used.
    pub(super) fn may_repeat(&self, request: &Outgoing) -> bool {
        self.was_used && (request.is_idempotent() || self.wire.get().is_request_untouched())
    }

    /// The connection belongs to one user from now on, and is never given to another.
    pub(super) fn bind(&mut self) {
        self.next_use = NextUse::Never;
    }

    /// Whether more may come of the current answer than may.
    fn suspect(&mut self, is_suspect: bool) {
        if self.next_use != NextUse::Never {
            self.next_use = if is_suspect { NextUse::AfterRest } else { NextUse::AtOnce };
        }
    }

    pub(super) fn wire(&self) -> Arc<Wire> {
        self.wire.get().clone()
    }

    /// A new request goes out; from now on the token hangs up on this line.
    pub(super) fn arm(&self, token: &CancelToken) -> Result<(), Outcome> {
        self.wire.get().begin();
        self.inspector.begin();
        token.arm(self.wire.get().clone()).map_err(|_| Outcome::Cancelled)
    }

    /// Has ureq make its call, for which the request has been sent: it reads the head of the answer.
    pub(super) fn finish(
        mut self,
        lines: &Arc<Lines>,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Answer, Failure> {
        if token.is_cancelled() {
            return Err(Failure::other(Outcome::Cancelled));
        }
        let response = self.agent.run(request.for_ureq(&lines.address)).map_err(|error| {
            let is_cancelled = token.disarm().is_err();
            if is_cancelled { Failure::other(Outcome::Cancelled) } else { Failure::new(error, self.wire.get().story()) }
        })?;
        let (head, body) = response.into_parts();
        if let Some(lie) = self.lie().or_else(|| framing_lie(head.version, &head.headers)) {
            let _ = token.disarm();
            return Err(Failure::other(Outcome::Protocol(lie.to_owned())));
        }
        self.heed(head.headers.get("keep-alive").and_then(|value| idle_time_hint(value.as_bytes())));
        let told = content_length(&head.headers).ok();
        let is_bare = is_bare(request.method(), head.status);
        if bind_connection(&head.headers) {
            self.bind();
        }
        let tells_body = told.is_some_and(|length| length > 0) || head.headers.contains_key(TRANSFER_ENCODING);
        self.suspect(is_bare && tells_body);
        let body_length = body.content_length();
        let length = body_length.or(told);
        let is_long = length.is_none_or(|length| length > LONG_BODY_BYTES);
        let upload = self.upload(lines, request, head.status);
        if head.status != StatusCode::SWITCHING_PROTOCOLS && is_long && upload.is_none() {
            self.wire.get().rest_in_poller();
            self.rests = true;
        }
        let reader = body.into_reader();
        let left = if head.status == StatusCode::SWITCHING_PROTOCOLS { self.wire.get().take_left() } else { None };
        let (line, switched) = match left {
            Some(left) => (None, Some(Switched::new(self, left, token.clone()))),
            None => (Some(self), None),
        };
        let body = AnswerBody {
            reader: Some(reader),
            line,
            lines: lines.clone(),
            token: token.clone(),
            // ureq knows no length of a body that isn't there.
            left: if is_bare || told == Some(0) { Some(0) } else { body_length },
            is_persistent: head.version == Version::HTTP_11 && !has_token(&head.headers, &CONNECTION, "close"),
            shared: upload.as_ref().map(Upload::line),
        };
        let (status, version, headers) = (head.status, head.version, head.headers);
        Ok(Answer { status, version, headers, length, body, switched, upload })
    }

    /// What is still to be sent of a request that the backend takes.
    fn upload(&self, lines: &Arc<Lines>, request: &Outgoing, status: StatusCode) -> Option<Upload> {
        let goes_on = status.is_success() && !self.wire.get().is_request_out();
        goes_on.then(|| Upload::new(self, lines, request.holds_file()))
    }

    /// The status of an answer that is here whole and plain.
    pub(super) fn whole_status(&self, method: &Method) -> Option<StatusCode> {
        self.wire.get().is_request_out().then_some(())?;
        self.wire.get().look_again(|here| whole(here, method)).map(|whole| whole.status)
    }

    /// Takes the answer, if it is here whole and plain, as ureq would: then the line is free. Not if the request isn't out
    /// whole: its rest would be taken for the next one's begin.
    pub(super) fn take_whole(&mut self, method: &Method) -> Option<StatusCode> {
        self.wire.get().is_request_out().then_some(())?;
        let look = |here: &[u8]| Some((whole(here, method)?, here.len()));
        let (Whole { status, idle_time, is_suspect }, length) = self.wire.get().look_again(look)?;
        self.wire.get().skip(length);
        self.wire.get().story().note_answered();
        self.wire.get().story().note_reusable(true);
        self.heed(idle_time);
        self.suspect(is_suspect);
        Some(status)
    }

    /// Whether more of a short answer will come: what is here is its begin.
    pub(super) fn is_rest_coming(&self, method: &Method) -> bool {
        let wire = self.wire.get();
        let is_begin = |seen: Seen| matches!(seen, Seen::Bytes(here) if !is_more_than_begin(here));
        *method != Method::HEAD && wire.is_request_out() && !wire.is_over() && wire.look(is_begin)
    }

    fn heed(&mut self, idle_time: Option<Duration>) {
        if let Some(idle_time) = idle_time {
            self.idle_time_max = IDLE_TIME_MAX.min(idle_time);
        }
    }
}

/// Which idle line is used next: one that has been idle for a moment if there is choice, and of these the last one to be given
/// back, so that those that aren't needed age.
fn best_of(idle: &[Idle], repeatable: bool, now: Instant) -> Option<usize> {
    let is_usable = |idle: &Idle| {
        let is_fresh = now.saturating_duration_since(idle.since) <= IDLE_TIME_MAX_ONCE;
        idle.from <= now && now < idle.until && (repeatable || is_fresh)
    };
    let is_near = |idle: &Idle| idle.line.wire.get().is_here();
    let is_ripe = |idle: &Idle| now.saturating_duration_since(idle.since) >= RIPE_TIME;
    let last = |wanted: &dyn Fn(&Idle) -> bool| idle.iter().rposition(|idle| is_usable(idle) && wanted(idle));
    let nearest = |wanted: &dyn Fn(&Idle) -> bool| {
        let among_many = || last(&|idle| wanted(idle) && is_near(idle));
        (idle.len() > FEW_LINES).then(among_many).flatten().or_else(|| last(wanted))
    };
    nearest(&is_ripe).or_else(|| nearest(&|_| true))
}

/// Framing that ureq would read in one way and somebody else in another.
fn framing_lie(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        // Read to the end of the connection if there is none.
        return headers.contains_key(CONTENT_LENGTH).then(|| content_length(headers).err())?.map(|lie| lie.sentence());
    };
    if headers.contains_key(CONTENT_LENGTH) {
        return Some("both Transfer-Encoding and Content-Length are given");
    }
    if version != Version::HTTP_11 {
        return Some("Transfer-Encoding doesn't exist in HTTP/1.0");
    }
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!is_chunked).then_some("Transfer-Encoding isn't exactly one chunked")
}

/// How long the backend keeps the connection: `Keep-Alive: timeout=5`, in seconds.
pub(super) fn idle_time_hint(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// ureq resolves before it looks for a connection. Ours is connected already, so any address will do.
#[derive(Debug)]
pub(super) struct Resolved;

impl UreqResolver for Resolved {
    fn resolve(&self, _: &http::Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}
