//! A connection that is being made, TLS handshake included: its leg waits in the poller. Knows nothing of what is said on the
//! connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;

use super::Lines;
use super::dial::{Attempt, Dialed, Dialing, prepare};
use super::line::Line;
use super::looking::{Looked, Looking, Tried};
use super::permit::Permit;
use super::slot::Events;
use super::tls::shake;
use super::wire::Wire;
use crate::message::Outcome;
use crate::race::CancelToken;

/// A connection on the way.
pub(super) struct Connecting {
    pub(super) lines: Arc<Lines>,
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

/// A wire's place in the poller, given up at the end.
pub(super) struct Watched(Arc<Wire>);

/// How far it has come.
pub(super) enum Reached {
    Connected(Line),
    Waits(Connecting),
    /// No address can be reached: the name may have others by now.
    LooksAgain(Looked),
}

impl Connecting {
    /// Begins to connect to one of the addresses, of which there is one at least. Doesn't block.
    pub(super) fn begin(
        lines: &Arc<Lines>,
        addresses: Vec<SocketAddr>,
        is_again: bool,
        deadline: Instant,
    ) -> Result<Reached, Outcome> {
        let now = Instant::now();
        let phase = Phase::Dials(Dialing::new(lines, addresses, deadline, now));
        // On a short way it connects at once.
        Connecting { lines: lines.clone(), phase, is_again, deadline }.advance(now)
    }

    /// What tells when there is news, or that the leg is hung up on. Doesn't block.
    pub(super) fn events(&mut self, token: &CancelToken) -> Result<Arc<dyn Events>, Outcome> {
        let made = match &mut self.phase {
            Phase::Dials(dialing) => return dialing.events(token),
            Phase::Shakes(made) => made,
        };
        let wire = made.wire.get();
        wire.join_poller(self.lines.poller()).map_err(|_| Outcome::NoSocket)?;
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
        let Connecting { lines, phase, is_again, deadline } = self;
        let waits = |lines, phase| Ok(Reached::Waits(Connecting { lines, phase, is_again, deadline }));
        let mut made = match phase {
            Phase::Shakes(made) => made,
            Phase::Dials(dialing) => match dialing.advance(now) {
                Dialed::Connected(attempt) => Made::new(attempt, &lines)?,
                Dialed::Waits(dialing) => return waits(lines, Phase::Dials(dialing)),
                Dialed::Failed(tried) => return look_again(&lines, tried, is_again, deadline, now),
            },
        };
        if made.shake()? {
            return made.into_line(&lines).map(Reached::Connected);
        }
        if now >= deadline { Err(Outcome::ConnectTimeout) } else { waits(lines, Phase::Shakes(made)) }
    }
}

impl Made {
    fn new(attempt: Attempt, lines: &Lines) -> Result<Made, Outcome> {
        let (socket, peer, permit) = attempt.into_connected();
        prepare(&socket, lines.idle_timeout())?;
        lines.resolver().prefer(peer);
        Ok(Made { wire: Watched::new(Wire::new(socket)), peer, permit, tls: lines.handshake()? })
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

    fn into_line(self, lines: &Lines) -> Result<Line, Outcome> {
        let Made { wire, peer, permit, tls } = self;
        if let Some(tls) = tls {
            wire.get().stream().begin(tls);
        }
        wire.get().note_made();
        lines.line_on(wire, peer, permit)
    }
}

/// A leg that can't reach any address has the name looked up anew, and if its time isn't over, tries what is found. Once: an
/// answer that leads nowhere either is the truth.
fn look_again(
    lines: &Arc<Lines>,
    tried: Tried,
    is_again: bool,
    deadline: Instant,
    now: Instant,
) -> Result<Reached, Outcome> {
    match tried.outcome {
        Outcome::Refused | Outcome::Unreachable if !is_again => {
            Looking::again(lines, deadline, tried).map(Reached::LooksAgain)
        }
        Outcome::ConnectTimeout => {
            lines.resolver().doubt(now);
            Err(tried.outcome)
        }
        outcome => Err(outcome),
    }
}

impl Watched {
    pub(super) fn new(wire: Arc<Wire>) -> Watched {
        Watched(wire)
    }

    pub(super) fn get(&self) -> &Arc<Wire> {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.leave_poller();
    }
}
