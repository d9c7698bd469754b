//! Where a leg waits that has no connection yet: for the addresses of a name, or for the first of several connections that are
//! being made. Knows nothing of what it waits for.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::slot::{Events, Slot, Waiter};
use crate::message::Outcome;
use crate::poller::{Owner, Poller, Turn, Watch};
use crate::race::{CancelToken, HangUp};

/// The leg's place in the poller. Sockets may be watched for it; other threads wake it by way of its deadline.
pub(super) struct Alarm {
    slot: Slot,
    watch: OnceLock<Watch>,
}

impl Alarm {
    /// One that wakes its leg then at the latest. It stays in the poller until [`Alarm::end`].
    pub(super) fn new(poller: &Poller, until: Instant) -> Arc<Alarm> {
        let alarm = Arc::new(Alarm { slot: Slot::default(), watch: OnceLock::new() });
        let watch = poller.alarm(alarm.clone());
        watch.set_deadline(Some(until));
        let _ = alarm.watch.set(watch);
        alarm
    }

    /// Wakes its leg then at the latest. Before the leg can be hung up on, or that would be forgotten.
    pub(super) fn set(&self, until: Instant) {
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(Some(until));
        }
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
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
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

impl Owner for Alarm {
    fn turn(self: Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { .. } | Turn::Expired => self.slot.wake(),
            // Its own deadline ends the wait, or the leg's token.
            Turn::Drain | Turn::Cut => {}
        }
    }
}
