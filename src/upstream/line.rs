//! A line: one connection to a backend, and the ureq agent that speaks on it. Knows nothing of what travels on it beyond one call,
//! nor of who gets it next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Error};

use super::connecting::Watched;
use super::failure::Failure;
use super::glance::{Whole, is_bare, is_more_than_begin, whole};
use super::inspector::Inspector;
use super::permit::Permit;
use super::session::Seen;
use super::wire::Wire;
use super::{Answer, AnswerBody, Lines, Outgoing, Switched, Upload};
use crate::message::headers::has_token;
use crate::message::{Outcome, bind_connection, content_length};
use crate::race::CancelToken;

/// Node closes idle connections after 5 s, others later: a line that is younger is probably alive.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
/// A body that is longer comes in many pieces, and a turn of the poller for each would be for nothing.
const LONG_BODY_BYTES: u64 = 64 * 1024;

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

impl Line {
    /// On a connection that has just been made, with an agent that knows nothing of what has been said on it.
    pub(super) fn new(wire: Watched, peer: SocketAddr, (agent, inspector): (Agent, Inspector), permit: Permit) -> Line {
        let (was_used, rests, next_use) = (false, false, NextUse::AtOnce);
        Line { agent, wire, peer, inspector, was_used, rests, idle_time_max: IDLE_TIME_MAX, next_use, _permit: permit }
    }

    /// Whether its last answer came to its end, and nothing stands against another.
    pub(super) fn is_reusable(&self) -> bool {
        let wire = self.wire.get();
        // The rest of a request that isn't out would be taken for the next one's begin.
        let is_through = wire.story().is_reusable() && wire.is_request_out();
        is_through && self.lie().is_none() && self.next_use != NextUse::Never
    }

    /// It idles. Memory and files of the last request's body are free from now on.
    pub(super) fn rest(&mut self) {
        self.was_used = true;
        self.wire.get().let_go();
    }

    /// The backend's address at the other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// How long it may idle.
    pub(super) fn idle_time_max(&self) -> Duration {
        self.idle_time_max
    }

    /// Whether more may come of its last answer than may.
    pub(super) fn is_suspect(&self) -> bool {
        self.next_use == NextUse::AfterRest
    }

    /// Whether the next read of the body won't wait: of one of known length any byte that is here will do.
    pub(super) fn has_buffered(&self, is_sized: bool) -> bool {
        self.wire.get().story().has_buffered() || (is_sized && self.wire.get().story().held() > 0)
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
        (self.agent, self.inspector) = lines.agent_on(self.wire().clone());
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

    pub(super) fn wire(&self) -> &Arc<Wire> {
        self.wire.get()
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
        let response = self.agent.run(request.for_ureq(lines.address())).map_err(|error| {
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
