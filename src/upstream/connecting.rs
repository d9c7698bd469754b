//! A connection that is being made, TLS handshake included: its leg waits in the poller. Where other addresses are tried
//! beside the first, a thread waits. Knows nothing of what is said on the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;

use super::Lines;
use super::dial::{ATTEMPT_DELAY, begin, dial, is_connected, prepare};
use super::line::Line;
use super::permit::Permit;
use super::slot::Wake;
use super::tls::shake;
use super::wire::Wire;
use crate::message::Outcome;
use crate::race::CancelToken;

/// A connection on the way.
pub(super) struct Connecting {
    pub(super) lines: Arc<Lines>,
    wire: Watched,
    permit: Permit,
    /// The backend's other addresses.
    others: Vec<SocketAddr>,
    /// It is connected, and this handshake is under way.
    handshake: Option<Box<ClientConnection>>,
    /// When the others are tried, too.
    until: Instant,
    deadline: Instant,
}

/// A wire's place in the poller, given up at the end.
pub(super) struct Watched(Arc<Wire>);

/// How far it has come.
pub(super) enum Reached {
    Connected(Line),
    Waits(Connecting),
}

impl Connecting {
    /// Begins to connect to one of the addresses, of which there is one at least. Blocks if the first fails at once and there
    /// are others.
    pub(super) fn begin(
        lines: &Arc<Lines>,
        mut addresses: Vec<SocketAddr>,
        deadline: Instant,
        token: &CancelToken,
    ) -> Result<Reached, Outcome> {
        let permit = lines.permit()?;
        let first = addresses.remove(0);
        let socket = match begin(first) {
            Ok(socket) => socket,
            Err(outcome) if addresses.is_empty() => return Err(outcome),
            Err(_) => dial(&addresses, None, deadline, token)?,
        };
        let until = if addresses.is_empty() { deadline } else { deadline.min(Instant::now() + ATTEMPT_DELAY) };
        let (lines, wire) = (lines.clone(), Watched(Wire::new(socket)));
        // On a short way it has connected by now.
        Connecting { lines, wire, permit, others: addresses, handshake: None, until, deadline }.connect(token)
    }

    /// Has the leg go on when there is news, or when it is hung up on. Doesn't block.
    pub(super) fn wait(
        self,
        token: &CancelToken,
        go_on: impl FnOnce(Connecting) + Send + 'static,
    ) -> Result<(), Outcome> {
        let (wire, poller, until) = (self.wire.get().clone(), self.lines.poller().clone(), self.until);
        token.arm(wire.clone()).map_err(|_| Outcome::Cancelled)?;
        // Before the leg waits, since it may go on and come back at once.
        wire.join_poller(&poller).map_err(|_| Outcome::NoSocket)?;
        wire.await_event(until, Wake { is_due: None, go_on: Box::new(move || go_on(self)) });
        Ok(())
    }

    /// Goes on after a wait. Blocks if other addresses are to be tried.
    pub(super) fn go_on(self, token: &CancelToken) -> Result<Reached, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        if self.handshake.is_some() { self.shake() } else { self.connect(token) }
    }

    fn connect(mut self, token: &CancelToken) -> Result<Reached, Outcome> {
        match is_connected(self.wire.get().now()) {
            Ok(true) => return self.connected(),
            Ok(false) if Instant::now() < self.until => return Ok(Reached::Waits(self)),
            Ok(false) if self.others.is_empty() => return Err(Outcome::ConnectTimeout),
            Err(outcome) if self.others.is_empty() => return Err(outcome),
            state => {
                let begun = state.ok().and_then(|_| self.wire.get().now().try_clone().ok());
                self.wire = Watched(Wire::new(dial(&self.others, begun, self.deadline, token)?));
            }
        }
        self.connected()
    }

    fn connected(mut self) -> Result<Reached, Outcome> {
        let socket = self.wire.get().now();
        prepare(socket)?;
        if let Some(peer) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) {
            self.lines.resolver().prefer(peer);
        }
        self.until = self.deadline;
        self.handshake = self.lines.handshake()?;
        self.shake()
    }

    /// Goes as far with the handshake, if there is one, as the socket allows.
    fn shake(mut self) -> Result<Reached, Outcome> {
        let Some(mut tls) = self.handshake.take() else { return self.into_line() };
        if shake(&mut tls, self.wire.get().now())? {
            self.wire.get().session().begin(tls);
            return self.into_line();
        }
        if Instant::now() >= self.deadline {
            return Err(Outcome::ConnectTimeout);
        }
        self.handshake = Some(tls);
        Ok(Reached::Waits(self))
    }

    fn into_line(self) -> Result<Reached, Outcome> {
        let Connecting { lines, wire, permit, .. } = self;
        wire.get().note_made();
        lines.line_on(wire, permit).map(Reached::Connected)
    }
}

impl Watched {
    pub(super) fn get(&self) -> &Arc<Wire> {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.leave_poller();
    }
}
