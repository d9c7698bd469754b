//! A connection that is being made, TLS handshake included: its leg waits in the poller. Knows nothing of what is said on the
//! connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;

use super::dial::{Attempt, Dialed, Dialing, prepare};
use super::endpoint::Endpoint;
use super::looking::{Looked, Looking, Tried};
use super::permit::Permit;
use super::slot::Events;
use super::tls::shake;
use super::wire::{Watched, Wire};
use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;

/// A connection on the way.
pub(super) struct Connecting {
    pub(super) endpoint: Arc<Endpoint>,
    phase: Phase,
    /// Other addresses were tried before.
    is_again: bool,
    pub(super) deadline: Instant,
}

enum Phase {
    Dials(Dialing),
    Shakes(Made),
}

/// A TCP connection.
struct Made {
    wire: Watched,
    peer: SocketAddr,
    permit: Permit,
    /// The handshake that is under way, if there is one.
    tls: Option<Box<ClientConnection>>,
}

/// A connection that has just been made.
pub(super) struct NewConnection {
    pub(super) wire: Watched,
    /// The backend's address at the other end.
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// How far it has come.
pub(super) enum Reached {
    Connected(NewConnection),
    Waits(Connecting),
    /// No address can be reached: the name may have others by now.
    LooksAgain(Looked),
}

impl Connecting {
    /// Begins to connect to one of the addresses, of which there is one at least. Doesn't block.
    pub(super) fn begin(
        endpoint: &Arc<Endpoint>,
        addresses: Vec<SocketAddr>,
        is_again: bool,
        deadline: Instant,
    ) -> Result<Reached, Outcome> {
        let now = Instant::now();
        let phase = Phase::Dials(Dialing::new(endpoint, addresses, deadline, now));
        // On a short way it connects at once.
        Connecting { endpoint: endpoint.clone(), phase, is_again, deadline }.advance(now)
    }

    /// What tells when there is news, or that the leg is hung up on. Doesn't block.
    pub(super) fn events(&mut self, token: &CancelToken) -> Result<Arc<dyn Events>, Outcome> {
        let made = match &mut self.phase {
            Phase::Dials(dialing) => return dialing.events(token),
            Phase::Shakes(made) => made,
        };
        let wire = made.wire.get();
        token.arm(wire.clone()).map_err(|_| Outcome::Cancelled)?;
        wire.set_deadline(self.deadline);
        Ok(wire.clone())
    }

    /// Goes on after a wait. Doesn't block.
    pub(super) fn go_on(self, token: &CancelToken) -> Result<Reached, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        self.advance(Instant::now())
    }

    fn advance(self, now: Instant) -> Result<Reached, Outcome> {
        let Connecting { endpoint, phase, is_again, deadline } = self;
        let waits = |endpoint, phase| Ok(Reached::Waits(Connecting { endpoint, phase, is_again, deadline }));
        let mut made = match phase {
            Phase::Shakes(made) => made,
            Phase::Dials(dialing) => match dialing.advance(now) {
                Dialed::Connected(attempt) => Made::new(attempt, &endpoint)?,
                Dialed::Waits(dialing) => return waits(endpoint, Phase::Dials(dialing)),
                Dialed::Failed(tried) => return look_again(&endpoint, tried, is_again, deadline, now),
            },
        };
        if made.shake()? {
            return Ok(Reached::Connected(made.into_new()));
        }
        if now >= deadline { Err(Outcome::ConnectTimeout) } else { waits(endpoint, Phase::Shakes(made)) }
    }
}

impl Made {
    fn new(attempt: Attempt, endpoint: &Endpoint) -> Result<Made, Outcome> {
        let (socket, peer, permit) = attempt.into_connected();
        prepare(&socket, endpoint.idle_timeout())?;
        endpoint.resolver().prefer(peer);
        let wire = Wire::open(socket, endpoint.poller()).map_err(|_| Outcome::NoSocket)?;
        Ok(Made { wire: Watched::new(wire), peer, permit, tls: endpoint.handshake()? })
    }

    /// Goes as far with the handshake as the socket allows: whether it is over.
    fn shake(&mut self) -> Result<bool, Outcome> {
        if let Some(tls) = &mut self.tls
            && !shake(tls, self.wire.get().socket())?
        {
            return Ok(false);
        }
        Ok(true)
    }

    fn into_new(self) -> NewConnection {
        let Made { wire, peer, permit, tls } = self;
        if let Some(tls) = tls {
            wire.get().stream().begin(tls);
        }
        wire.get().note_made();
        NewConnection { wire, peer, permit }
    }
}

/// A leg that can't reach any address has the name looked up anew, and if its time isn't over, tries what is found. Once: an
/// answer that leads nowhere either is the truth.
fn look_again(
    endpoint: &Arc<Endpoint>,
    tried: Tried,
    is_again: bool,
    deadline: Instant,
    now: Instant,
) -> Result<Reached, Outcome> {
    match tried.outcome {
        Outcome::Refused | Outcome::Unreachable if !is_again => {
            Looking::again(endpoint, deadline, tried).map(Reached::LooksAgain)
        }
        Outcome::ConnectTimeout => {
            endpoint.resolver().doubt(now);
            Err(tried.outcome)
        }
        outcome => Err(outcome),
    }
}
