//! A line: one connection to a backend, and what its last answer says of its next use. Knows nothing of what travels on it beyond
//! one answer, nor of who gets it next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Outgoing;
use super::connecting::NewConnection;
use super::permit::Permit;
use super::response::ResponseHead;
use super::wire::{Watched, Wire};
use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;

/// Node closes idle connections after 5 s, others later: a line that is younger is probably alive.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// One connection.
pub(super) struct Line {
    wire: Watched,
    /// The backend's address at the other end.
    peer: SocketAddr,
    was_used: bool,
    /// Its last answer came to its end, and the backend goes on with it.
    is_free: bool,
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
    /// On a connection that has just been made.
    pub(super) fn new(connection: NewConnection) -> Line {
        let NewConnection { wire, peer, permit } = connection;
        let (was_used, is_free, next_use) = (false, true, NextUse::AtOnce);
        Line { wire, peer, was_used, is_free, idle_time_max: IDLE_TIME_MAX, next_use, _permit: permit }
    }

    /// Whether its last answer came to its end, and nothing stands against another.
    pub(super) fn is_reusable(&self) -> bool {
        let wire = self.wire.get();
        // The rest of a request that isn't out would be taken for the next one's begin.
        let is_through = self.is_free && wire.is_request_out() && self.next_use != NextUse::Never;
        // And bytes behind the answer for the next one.
        is_through && wire.peek_again(<[u8]>::is_empty)
    }

    /// The same line, of which it is known now whether its answer came to its end.
    pub(super) fn freed(mut self, is_free: bool) -> Line {
        self.is_free = is_free;
        self
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

    /// Whether a request that finds it dead may go out once more: a backend may close an idle connection just when it is used.
    pub(super) fn may_repeat(&self, request: &Outgoing) -> bool {
        self.was_used && (request.is_idempotent() || self.wire.get().is_request_untouched())
    }

    /// The connection belongs to one user from now on, and is never given to another.
    pub(super) fn bind(&mut self) {
        self.next_use = NextUse::Never;
    }

    /// Heeds what the head of an answer says of the connection.
    pub(super) fn heed(&mut self, head: &ResponseHead) {
        if let Some(idle_time) = head.idle_time {
            self.idle_time_max = IDLE_TIME_MAX.min(idle_time);
        }
        if head.binds_connection {
            self.bind();
        }
        if self.next_use != NextUse::Never {
            self.next_use = if head.is_suspect { NextUse::AfterRest } else { NextUse::AtOnce };
        }
    }

    pub(super) fn wire(&self) -> &Arc<Wire> {
        self.wire.get()
    }

    /// A new request goes out; from now on the token hangs up on this line.
    pub(super) fn arm(&mut self, token: &CancelToken) -> Result<(), Outcome> {
        self.is_free = false;
        token.arm(self.wire.get().clone()).map_err(|_| Outcome::Cancelled)
    }
}
