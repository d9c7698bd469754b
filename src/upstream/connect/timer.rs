//! Where a leg waits that has no connection yet: for the addresses of a name, or for the first of several connections that are
//! being made. Knows nothing of what it waits for.

use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::upstream::conn::parking::{LegParking, Readiness, Waiter};

/// The leg's place in the poller. Sockets may be watched for it; other threads wake it by way of its deadline.
pub(crate) struct Timer {
    slot: LegParking,
    registration: Registration,
}

impl Timer {
    /// One that wakes its leg then at the latest. It stays in the poller until [`Timer::end`].
    pub(crate) fn new(poller: &Poller, until: Instant) -> Arc<Timer> {
        let timer = Arc::new(Timer { slot: LegParking::default(), registration: poller.reserve() });
        timer.registration.start(timer.clone());
        timer.set(until);
        timer
    }

    /// Wakes its leg then at the latest. Before the leg can be hung up on, or that would be forgotten.
    pub(crate) fn set(&self, until: Instant) {
        self.registration.set_deadline(Some(until));
    }

    /// Wakes its leg. Any thread may call it; doesn't block.
    pub(crate) fn ring(&self) {
        self.set(Instant::now());
    }

    /// From now on the token rings it.
    pub(crate) fn arm(self: &Arc<Timer>, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        token.arm(self.clone()).map_err(|_| Outcome::Cancelled)?;
        Ok(self.clone())
    }

    /// Gives the place up.
    pub(crate) fn end(&self) {
        self.registration.end();
    }
}

impl Readiness for Timer {
    fn wait(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool {
        self.slot.put(waiter, leg, || self.ring())
    }

    fn forget(&self) {
        self.slot.forget();
    }
}

impl HangUp for Timer {
    fn hang_up(&self) {
        self.ring();
    }
}

impl EventHandler for Timer {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => self.slot.wake(),
            // Its own deadline ends the wait, or the leg's token.
            Event::Drain | Event::Cut => {}
        }
    }
}
