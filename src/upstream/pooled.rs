//! A connection of a pool, and what its last answer says of its next use. Knows nothing of what travels on it beyond one
//! answer, nor of which leg gets it next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::connection::{Connection, OwnedConnection};
use crate::upstream::connect::connecting::Established;
use crate::upstream::permit::Permit;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::head::ResponseHead;

/// The longest time that a connection idles. Node closes idle connections after 5 s, others later: a connection that has idled
/// for less is probably alive.
pub(crate) const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// One connection, as the pool and its leg have it.
pub(crate) struct PooledConnection {
    connection: OwnedConnection,
    /// The backend's address at the other end.
    peer: SocketAddr,
    was_used: bool,
    /// Its last answer came to its end, and the backend keeps the connection open.
    is_free: bool,
    /// The longest that it may idle: the backend may have said that.
    idle_time_max: Duration,
    next_use: NextUse,
    _permit: Permit,
}

/// The time at which the next request may be sent on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextUse {
    AtOnce,
    /// Not at once: its last answer had no body, but declared one.
    AfterRest,
    /// Never, since the backend may take what follows for a request of the same user.
    Never,
}

impl PooledConnection {
    /// Wraps a connection that has just been made.
    pub(crate) fn new(connection: Established) -> PooledConnection {
        let Established { connection, peer, permit } = connection;
        let (was_used, is_free, next_use) = (false, true, NextUse::AtOnce);
        PooledConnection {
            connection,
            peer,
            was_used,
            is_free,
            idle_time_max: IDLE_TIME_MAX,
            next_use,
            _permit: permit,
        }
    }

    /// Whether its last answer came to its end, and nothing speaks against another request.
    pub(crate) fn is_reusable(&self) -> bool {
        let connection = self.connection.get();
        // The rest of a request that isn't out would be taken for the begin of the next one.
        let is_through = self.is_free && connection.is_request_out() && self.next_use != NextUse::Never;
        // And bytes behind the answer for the next answer.
        is_through && connection.with_peeked(<[u8]>::is_empty)
    }

    /// Notes whether its answer came to its end.
    pub(crate) fn freed(mut self, is_free: bool) -> PooledConnection {
        self.is_free = is_free;
        self
    }

    /// Readies it for idling: memory and files of the last request's body are free from now on.
    pub(crate) fn make_idle(&mut self) {
        self.was_used = true;
        self.connection.get().drop_request();
    }

    /// The backend's address at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The longest that it may idle.
    pub(crate) fn idle_time_max(&self) -> Duration {
        self.idle_time_max
    }

    /// Whether its last answer may be followed by a body that mustn't be sent.
    pub(crate) fn is_suspect(&self) -> bool {
        self.next_use == NextUse::AfterRest
    }

    /// Whether a request that finds the connection dead may be sent once more: a backend may close an idle connection just when
    /// it is used.
    pub(crate) fn may_repeat(&self, request: &UpstreamRequest) -> bool {
        self.was_used && (request.is_idempotent() || self.connection.get().is_request_untouched())
    }

    /// Binds the connection to one user: it is never given to another from now on.
    pub(crate) fn bind(&mut self) {
        self.next_use = NextUse::Never;
    }

    /// Takes over what the head of an answer says of the connection.
    pub(crate) fn apply_head(&mut self, head: &ResponseHead) {
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

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.connection.get()
    }

    /// Readies it for a new request; from now on the token hangs up on this connection.
    pub(crate) fn arm(&mut self, token: &CancelToken) -> Result<(), Outcome> {
        self.is_free = false;
        token.arm(self.connection.get().clone()).map_err(|_| Outcome::Cancelled)
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        log::debug!("closes a connection to {}", self.peer);
    }
}
