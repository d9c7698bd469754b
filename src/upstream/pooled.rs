//! A connection of a pool, and what its last answer says of its next use. Knows nothing of what travels on it beyond one
//! answer, nor of which leg gets it next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::connection::{Connection, OwnedConnection};
use crate::upstream::conn::parking::Readiness;
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
        // The rest of a request that isn't out would be taken for the start of the next one.
        let is_through = self.is_free && connection.is_request_out() && self.next_use != NextUse::Never;
        // And bytes behind the answer for the next answer.
        is_through && connection.stream().with_peeked(<[u8]>::is_empty)
    }

    /// Notes whether its answer came to its end.
    pub(crate) fn with_end(mut self, is_free: bool) -> PooledConnection {
        self.is_free = is_free;
        self
    }

    /// Readies it for idling: memory and files of the last request's body are free from now on.
    pub(crate) fn make_idle(&mut self) {
        self.was_used = true;
        let connection = self.connection.get();
        connection.drop_request();
        // A wake that was late may have left a leg behind, which would keep its race.
        connection.withdraw();
    }

    /// Whether an answer has come on it before.
    pub(crate) fn was_used(&self) -> bool {
        self.was_used
    }

    /// The backend's address at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The longest that it may idle.
    pub(crate) fn idle_time_max(&self) -> Duration {
        self.idle_time_max
    }

    /// Whether its last answer may be followed by a body that mustn't be sent, or by the end of the connection.
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

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::upstream::scenario::{Scenario, get, post, request};

    /// What an idle connection is allowed to do after this answer to this request; `None` if it isn't kept.
    fn kept(request: UpstreamRequest, answer: &str) -> Option<PooledConnection> {
        let scenario = Scenario::still();
        let (leg, mut backend) = scenario.leg(request);
        backend.sends(answer);
        leg.answer().expect("an answer");
        scenario.pool.take_last()
    }

    #[test]
    fn a_connection_is_kept_unless_its_answer_or_its_request_speaks_against_it() {
        let ntlm = request(Method::GET, &[("authorization", "NTLM x")], None);
        let rows = [
            ("a body of known length", get(), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", true),
            ("no body", get(), "HTTP/1.1 204 No Content\r\n\r\n", true),
            ("behind an interim answer", get(), "HTTP/1.1 103 \r\n\r\nHTTP/1.1 204 \r\n\r\n", true),
            ("a failure", get(), "HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", true),
            ("a body to a POST", post(b"abc"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("close", get(), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0", get(), "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("bytes behind it", get(), "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n", false),
            ("it authenticates the connection", get(), "HTTP/1.1 204 \r\nWWW-Authenticate: NTLM\r\n\r\n", false),
            ("so does the request", ntlm, "HTTP/1.1 204 No Content\r\n\r\n", false),
        ];
        for (label, request, answer, is_kept) in rows {
            assert_eq!(kept(request, answer).is_some(), is_kept, "{label}");
        }
    }

    #[test]
    fn a_connection_idles_for_4_s_or_for_less_if_the_backend_says_so() {
        let rows = [("", 4), ("timeout=2", 2), ("timeout=9, max=5", 4), ("max=5, timeout=1", 1), ("timeout=0", 0)];
        for (keep_alive, seconds) in rows {
            let answer = format!("HTTP/1.1 204 No Content\r\nKeep-Alive: {keep_alive}\r\n\r\n");
            let pooled = kept(get(), &answer).expect("it is kept");
            assert_eq!(pooled.idle_time_max(), Duration::from_secs(seconds), "{keep_alive:?}");
        }
    }

    /// Was seen as: behind a HEAD to a backend that ends its answers with the connection the next POST was lost.
    #[test]
    fn an_answer_is_suspect_that_declares_a_body_that_it_must_not_have_or_whose_body_would_end_with_the_connection() {
        let head = || request(Method::HEAD, &[], None);
        let rows = [
            ("HEAD", head(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true),
            ("HEAD, in chunks", head(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("HEAD, of nothing", head(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HEAD, of a body to the end", head(), "HTTP/1.1 200 OK\r\n\r\n", true),
            ("HEAD, 304", head(), "HTTP/1.1 304 Not Modified\r\n\r\n", false),
            ("304", get(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true),
            ("204", get(), "HTTP/1.1 204 No Content\r\n\r\n", false),
            ("a body", get(), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false),
        ];
        for (label, request, answer, is_suspect) in rows {
            assert_eq!(kept(request, answer).expect("it is kept").is_suspect(), is_suspect, "{label}");
        }
    }

    #[test]
    fn a_request_is_repeated_only_on_a_used_connection_and_if_that_does_no_harm() {
        let scenario = Scenario::new();
        let (new, _backend) = scenario.pooled();
        assert!(!new.may_repeat(&get()), "a new connection doesn't die of idling");
        let _backend = scenario.idle();
        let used = scenario.pool.take_last().expect("it idles");
        assert!(used.may_repeat(&get()));
        assert!(used.may_repeat(&post(b"a")), "no byte of it has gone out");
        used.connection().begin_request(scenario.pool.bytes_of(&post(b"a")));
        assert!(used.may_repeat(&get()) && !used.may_repeat(&post(b"a")), "the backend may have done it");
    }

    #[test]
    fn a_connection_is_not_reusable_while_its_answer_or_its_request_is_under_way() {
        let scenario = Scenario::new();
        let _backend = scenario.idle();
        let mut used = scenario.pool.take_last().expect("it idles");
        assert!(!used.is_reusable(), "no request is out");
        used.connection().begin_request(scenario.pool.bytes_of(&get()));
        assert!(used.is_reusable());
        used.arm(&CancelToken::default()).expect("it isn't hung up on");
        assert!(!used.is_reusable(), "its answer is under way");
        let used = used.with_end(true);
        assert!(used.is_reusable() && !used.with_end(false).is_reusable());
    }
}
