//! A connection that is being made, TLS handshake included: its leg waits in the poller. Knows nothing of what is said on the
//! connection.

use std::net::SocketAddr;
#[cfg(any(test, fuzzing))]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::connection::{Connection, OwnedConnection};
use crate::upstream::conn::parking::Readiness;
use crate::upstream::connect::dial::{Attempt, Dialed, Dialing, prepare};
use crate::upstream::connect::resolving::{Resolution, Resolving, Tried};
use crate::upstream::connect::tls::handshake;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::permit::Permit;

/// A connection that is being made.
pub(crate) struct Connecting {
    pub(crate) endpoint: Arc<Endpoint>,
    phase: Phase,
    /// Whether other addresses were tried before.
    is_retry: bool,
    deadline: Instant,
}

enum Phase {
    Dialing(Dialing),
    Handshaking(Handshaking),
}

/// A TCP connection, with a TLS handshake if the backend wants one.
struct Handshaking {
    connection: OwnedConnection,
    peer: SocketAddr,
    connected_at: Instant,
    permit: Permit,
    /// The handshake that is under way, if there is one.
    tls: Option<Box<rustls::Connection>>,
}

/// A connection that has just been made.
pub(crate) struct Established {
    pub(crate) connection: OwnedConnection,
    /// The backend's address at the other end.
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
}

/// The result of a step of connecting.
pub(crate) enum Reached {
    Connected(Established),
    Pending(Connecting),
    /// No address can be reached: the name may have others by now.
    ResolvesAgain(Resolution),
}

#[cfg(any(test, fuzzing))]
impl Established {
    /// A connection to this backend over a pair of sockets, and the backend's end, for tests.
    pub(crate) fn over_pair(endpoint: &Endpoint) -> (Established, UnixStream) {
        let (near, far) = UnixStream::pair().expect("two sockets");
        near.set_nonblocking(true).expect("a socket");
        let connection =
            Connection::open(OwnedFd::from(near).into(), endpoint.poller()).expect("a place in the poller");
        let (connection, peer) = (OwnedConnection::new(connection), SocketAddr::from(([127, 0, 0, 1], 1)));
        (Established { connection, peer, permit: endpoint.counted_permit() }, far)
    }
}

impl Connecting {
    /// Begins to connect to one of the addresses, of which there is one at least. Doesn't block.
    pub(crate) fn begin(
        endpoint: &Arc<Endpoint>,
        addresses: Vec<SocketAddr>,
        permit: Option<Permit>,
        is_retry: bool,
        deadline: Instant,
    ) -> Result<Reached, Outcome> {
        let now = Instant::now();
        let phase = Phase::Dialing(Dialing::new(endpoint, addresses, permit, deadline, now));
        // To a near backend it connects at once.
        Connecting { endpoint: endpoint.clone(), phase, is_retry, deadline }.advance(now)
    }

    /// The place where the leg parks: it is woken when it can take a step, or is hung up on. Doesn't block.
    pub(crate) fn readiness(&mut self, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        let handshaking = match &mut self.phase {
            Phase::Dialing(dialing) => return dialing.readiness(token),
            Phase::Handshaking(handshaking) => handshaking,
        };
        let connection = handshaking.connection.get();
        token.arm(connection.clone()).map_err(|_| Outcome::Cancelled)?;
        connection.set_deadline(self.deadline);
        Ok(connection.clone())
    }

    /// Takes the next step, after a wait. Doesn't block.
    pub(crate) fn resume(self, token: &CancelToken) -> Result<Reached, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        self.advance(Instant::now())
    }

    fn advance(self, now: Instant) -> Result<Reached, Outcome> {
        let Connecting { endpoint, phase, is_retry, deadline } = self;
        let pending = |endpoint, phase| Ok(Reached::Pending(Connecting { endpoint, phase, is_retry, deadline }));
        let mut handshaking = match phase {
            Phase::Handshaking(handshaking) => handshaking,
            Phase::Dialing(dialing) => match dialing.advance(now) {
                Dialed::Connected(attempt) => Handshaking::new(attempt, &endpoint, now)?,
                Dialed::Pending(dialing) => return pending(endpoint, Phase::Dialing(dialing)),
                Dialed::Failed(tried) => return resolve_again(&endpoint, tried, is_retry, deadline, now),
            },
        };
        let (resolver, peer) = (endpoint.resolver(), handshaking.peer);
        let failed = match handshaking.handshake(endpoint.authorities_option()) {
            Ok(true) => {
                resolver.prefer(peer);
                return Ok(Reached::Connected(handshaking.into_established()));
            }
            Ok(false) if now < deadline => return pending(endpoint, Phase::Handshaking(handshaking)),
            Ok(false) => Outcome::ConnectTimeout,
            Err(outcome) => outcome,
        };
        let had_time = deadline.saturating_duration_since(handshaking.connected_at) >= endpoint.timeout() / 2;
        if had_time || failed != Outcome::ConnectTimeout {
            resolver.distrust(peer);
        } else {
            // Behind others that don't answer it came late: next time it has all of the time.
            resolver.prefer(peer);
        }
        Err(failed)
    }
}

impl Handshaking {
    fn new(attempt: Attempt, endpoint: &Endpoint, connected_at: Instant) -> Result<Handshaking, Outcome> {
        let (socket, peer, permit) = attempt.into_connected();
        prepare(&socket, endpoint.idle_timeout())?;
        let connection = Connection::open(socket, endpoint.poller()).map_err(|_| Outcome::NoSocket)?;
        let connection = OwnedConnection::new(connection);
        Ok(Handshaking { connection, peer, connected_at, permit, tls: endpoint.tls_session()? })
    }

    /// Shakes hands as far as the socket allows, and gives whether that is done.
    fn handshake(&mut self, authorities: &str) -> Result<bool, Outcome> {
        let socket = self.connection.get().socket();
        self.tls.as_mut().map_or(Ok(true), |tls| handshake(tls, socket, authorities))
    }

    fn into_established(self) -> Established {
        let Handshaking { connection, peer, permit, tls, .. } = self;
        if let Some(tls) = tls {
            connection.get().stream().start_tls(tls);
        }
        connection.get().note_established();
        Established { connection, peer, permit }
    }
}

/// Has the name of a leg that can't reach any address looked up anew, and if its time isn't over, tries what is found. Once: an
/// answer that leads nowhere either is the truth.
fn resolve_again(
    endpoint: &Arc<Endpoint>,
    tried: Tried,
    is_retry: bool,
    deadline: Instant,
    now: Instant,
) -> Result<Reached, Outcome> {
    match tried.outcome {
        Outcome::Refused | Outcome::Unreachable if !is_retry => {
            Resolving::retry(endpoint, deadline, tried).map(Reached::ResolvesAgain)
        }
        Outcome::ConnectTimeout => {
            endpoint.resolver().doubt(now);
            // It had most of the time.
            tried.addresses.first().into_iter().for_each(|first| endpoint.resolver().distrust(*first));
            Err(tried.outcome)
        }
        outcome => Err(outcome),
    }
}
