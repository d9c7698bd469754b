//! Where a leg waits that has no connection yet: for the addresses of a name, or for the first of several connections that are
//! being made. Knows nothing of what it waits for.

use std::sync::Arc;
use std::time::Instant;

use super::slot::{Events, Slot, Waiter};
use crate::message::Outcome;
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};

/// The leg's place in the poller. Sockets may be watched for it; other threads wake it by way of its deadline.
pub(super) struct Alarm {
    slot: Slot,
    registration: Registration,
}

impl Alarm {
    /// One that wakes its leg then at the latest. It stays in the poller until [`Alarm::end`].
    pub(super) fn new(poller: &Poller, until: Instant) -> Arc<Alarm> {
        let alarm = Arc::new(Alarm { slot: Slot::default(), registration: poller.reserve() });
        alarm.registration.start(alarm.clone());
        alarm.set(until);
        alarm
    }

    /// Wakes its leg then at the latest. Before the leg can be hung up on, or that would be forgotten.
    pub(super) fn set(&self, until: Instant) {
        self.registration.set_deadline(Some(until));
    }

    /// Wakes its leg. Any thread may call it; doesn't block.
    pub(super) fn ring(&self) {
        self.set(Instant::now());
    }

    /// From now on the token rings it.
    pub(super) fn arm(self: &Arc<Alarm>, token: &CancelToken) -> Result<Arc<dyn Events>, Outcome> {
        token.arm(self.clone()).map_err(|_| Outcome::Cancelled)?;
        Ok(self.clone())
    }

    /// Gives the place up.
    pub(super) fn end(&self) {
        self.registration.end();
    }
}

impl Events for Alarm {
    fn wait(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool {
        self.slot.put(waiter, leg, || self.ring())
    }

    fn forget(&self) {
        self.slot.forget();
    }
}

impl HangUp for Alarm {
    fn hang_up(&self) {
        self.ring();
    }
}

impl EventHandler for Alarm {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => self.slot.wake(),
            // Its own deadline ends the wait, or the leg's token.
            Event::Drain | Event::Cut => {}
        }
    }
}
