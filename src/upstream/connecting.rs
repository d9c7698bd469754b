//! A connection that is being made: its leg waits in the poller. Where that isn't simple, because a name must be looked up or
//! other addresses be tried beside the first, a thread waits. Knows nothing of what is said on the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Lines;
use super::dial::{ATTEMPT_DELAY, begin, dial, is_connected};
use super::line::Line;
use super::permit::Permit;
use super::slot::Wake;
use super::wire::Wire;
use crate::message::Outcome;
use crate::race::CancelToken;

/// The first of a backend's addresses, on the way.
pub(super) struct Connecting {
    pub(super) lines: Arc<Lines>,
    wire: Watched,
    permit: Permit,
    /// The other addresses.
    others: Vec<SocketAddr>,
    /// When the others are tried, too.
    until: Instant,
    deadline: Instant,
}

/// A wire's place in the poller, given up at the end.
pub(super) struct Watched(Arc<Wire>);

/// How far it has come.
pub(super) enum Progress {
    Connected(Line),
    Waits(Connecting),
}

impl Connecting {
    /// Begins to connect, if the backend's addresses are known.
    pub(super) fn begin(lines: &Arc<Lines>, now: Instant) -> Result<Option<Connecting>, Outcome> {
        let Some(addresses) = lines.addresses_at_once(now)? else { return Ok(None) };
        let Some((first, others)) = addresses.split_first() else { return Ok(None) };
        let permit = lines.permit()?;
        let socket = match begin(*first) {
            Ok(socket) => socket,
            Err(_) if !others.is_empty() => return Ok(None),
            Err(outcome) => return Err(outcome),
        };
        let deadline = now + lines.timeout();
        let until = if others.is_empty() { deadline } else { deadline.min(now + ATTEMPT_DELAY) };
        let wire = Watched(Wire::new(socket));
        Ok(Some(Connecting { lines: lines.clone(), wire, permit, others: others.to_vec(), until, deadline }))
    }

    /// Has the leg go on when there is news, or when it is hung up on. Doesn't block.
    pub(super) fn wait(
        self,
        token: &CancelToken,
        go_on: impl FnOnce(Connecting) + Send + 'static,
    ) -> Result<(), Outcome> {
        let (wire, poller, until) = (self.wire.get().clone(), self.lines.poller().clone(), self.until);
        token.arm(wire.clone()).map_err(|_| Outcome::Cancelled)?;
        let wake = Wake { is_due: None, go_on: Box::new(move || go_on(self)) };
        let is_watched = wire.await_event(&poller, until, wake).is_ok();
        if is_watched && is_connected(wire.now()) == Ok(false) {
            return Ok(());
        }
        // It was quicker, or nobody will tell. If an event has taken the leg already, it goes on.
        match wire.take_waiting() {
            Some(wake) if is_watched => (wake.go_on)(),
            Some(_) => return Err(Outcome::NoSocket),
            None => {}
        }
        Ok(())
    }

    /// Goes on after a wait. Blocks if other addresses are to be tried, or for the TLS handshake.
    pub(super) fn go_on(self, token: &CancelToken) -> Result<Progress, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        let state = is_connected(self.wire.get().now());
        if state == Ok(false) && Instant::now() < self.until {
            return Ok(Progress::Waits(self));
        }
        let Connecting { lines, wire, permit, others, deadline, .. } = self;
        match state {
            Ok(true) => lines.line_on(wire, permit, deadline, token).map(Progress::Connected),
            Ok(false) if others.is_empty() => Err(Outcome::ConnectTimeout),
            Err(outcome) if others.is_empty() => Err(outcome),
            state => {
                let begun = state.ok().and_then(|_| wire.get().now().try_clone().ok());
                drop(wire);
                let socket = dial(&others, begun, deadline, token)?;
                lines.line_on(Watched(Wire::new(socket)), permit, deadline, token).map(Progress::Connected)
            }
        }
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
