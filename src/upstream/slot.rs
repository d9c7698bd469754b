//! The place in which one leg waits for its wire, and from which it goes on once. Knows nothing of sockets.

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Has a leg go on that waits for its answer, for room, or for its connection.
pub(super) type Wake = Box<dyn FnOnce() + Send>;

/// The place. It is empty while the leg runs.
#[derive(Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whoever takes it out owns the leg.
    waiting: Option<Wake>,
    /// An event came while no leg waited. The poller tells each only once, so the next leg must look before it waits.
    missed: bool,
}

impl Slot {
    /// Something may have come that no event will tell of.
    pub(super) fn miss(&self) {
        self.state().missed = true;
    }

    /// Somebody is about to look: what happened before is missed by nobody.
    pub(super) fn forget_missed(&self) {
        self.state().missed = false;
    }

    /// The leg waits; if an event was missed, it goes on at once, on this thread.
    pub(super) fn put(&self, wake: Wake) {
        let mut state = self.state();
        if !std::mem::take(&mut state.missed) {
            state.waiting = Some(wake);
            return;
        }
        drop(state);
        wake();
    }

    /// Something has come, or there is room, or the time is over: the leg goes on.
    pub(super) fn wake(&self) {
        let wake = {
            let mut state = self.state();
            let wake = state.waiting.take();
            state.missed = wake.is_none();
            wake
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_event_that_came_while_nobody_waited_wakes_the_next_and_no_other() {
        let (slot, woken) = (Slot::default(), Arc::new(AtomicUsize::new(0)));
        let put = || {
            let woken = woken.clone();
            slot.put(Box::new(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }));
        };
        let count = |woken: &AtomicUsize| woken.load(Ordering::Relaxed);
        slot.wake();
        put();
        assert_eq!(count(&woken), 1, "it goes on at once");
        put();
        assert_eq!(count(&woken), 1, "nothing has happened since");
        slot.wake();
        slot.wake();
        assert_eq!(count(&woken), 2);
        slot.forget_missed();
        put();
        assert_eq!(count(&woken), 2, "somebody has looked");
    }
}
