//! The parking place of a leg that has no connection yet: it waits for the addresses of a name, or for the first of several
//! connections that are being made. Knows nothing of what the leg waits for.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::upstream::conn::parking::{LegParking, Readiness, Waiter};

/// The leg's place in the poller. Sockets may be watched for it; other threads wake it by way of its deadline.
pub(crate) struct Timer {
    parking: LegParking,
    registration: Registration,
}

impl Timer {
    /// Makes a timer that wakes its leg at `until`, if nothing has before. It stays in the poller until [`Timer::end`].
    pub(crate) fn new(poller: &Poller, until: Instant) -> Arc<Timer> {
        let timer = Arc::new(Timer { parking: LegParking::default(), registration: poller.reserve_briefly() });
        timer.registration.start(timer.clone());
        timer.set_deadline(until);
        timer
    }

    /// Has the leg woken by what happens to this socket, too, until [`Timer::unwatch`] or the socket's end.
    pub(crate) fn watch(&self, socket: &impl AsFd) -> Result<(), Outcome> {
        self.registration.watch(socket).map_err(|_| Outcome::NoSocket)
    }

    /// Has the leg woken no more by what happens to the socket.
    pub(crate) fn unwatch(&self, socket: &impl AsFd) {
        self.registration.unwatch(socket);
    }

    /// Sets when the leg is woken at the latest. Called before the leg can be hung up on, or the hang-up would be forgotten.
    pub(crate) fn set_deadline(&self, until: Instant) {
        self.registration.set_deadline(Some(until));
    }

    /// Wakes the leg by a deadline that has passed. Any thread may call it; doesn't block.
    pub(crate) fn expire_now(&self) {
        self.set_deadline(Instant::now());
    }

    /// Has the token wake the leg from now on.
    pub(crate) fn arm(self: &Arc<Timer>, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        token.arm(self.clone()).map_err(|_| Outcome::Cancelled)?;
        Ok(self.clone())
    }

    /// Takes the timer out of the poller.
    pub(crate) fn end(&self) {
        self.registration.end();
    }
}

impl Readiness for Timer {
    fn park(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool {
        self.parking.park(waiter, leg, || self.expire_now())
    }

    fn withdraw(&self) {
        self.parking.withdraw();
    }
}

impl HangUp for Timer {
    fn hang_up(&self) {
        self.expire_now();
    }
}

impl EventHandler for Timer {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => self.parking.wake(),
            // The timer's deadline ends the wait, or the leg's token.
            Event::Drain | Event::Cut => {}
        }
    }
}
