//! The place in which one leg waits for its wire, and from which it goes on once. Knows nothing of sockets.

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// So often in a row a leg goes on at once that has missed an event. It does so within its own last step, and a backend that keeps
/// making events would have it go deeper and deeper.
const AT_ONCE_MAX: usize = 4;

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
    /// How often in a row the leg has gone on at once.
    at_once: usize,
}

impl Slot {
    /// Something may have come that no event will tell of.
    pub(super) fn miss(&self) {
        self.state().missed = true;
    }

    /// Somebody is about to look: what happened before is missed by nobody.
    pub(super) fn forget_missed(&self) {
        let mut state = self.state();
        (state.missed, state.at_once) = (false, 0);
    }

    /// The leg waits; if an event was missed, it goes on at once, on this thread, or is to be woken soon: whether it is.
    #[must_use]
    pub(super) fn put(&self, wake: Wake) -> bool {
        let mut state = self.state();
        let missed = std::mem::take(&mut state.missed);
        if !missed || state.at_once == AT_ONCE_MAX {
            state.waiting = Some(wake);
            return missed;
        }
        state.at_once += 1;
        drop(state);
        wake();
        false
    }

    /// Something has come, or there is room, or the time is over: the leg goes on.
    pub(super) fn wake(&self) {
        let wake = {
            let mut state = self.state();
            let wake = state.waiting.take();
            state.missed = wake.is_none();
            if wake.is_some() {
                state.at_once = 0;
            }
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
            let is_due = slot.put(Box::new(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }));
            assert!(!is_due);
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

    /// Was seen as: an answer that came byte by byte had its leg go on within itself for each of them.
    #[test]
    fn a_leg_that_misses_an_event_in_every_step_goes_on_at_once_a_few_times_only() {
        fn step(slot: &Arc<Slot>, steps: &Arc<AtomicUsize>) {
            steps.fetch_add(1, Ordering::Relaxed);
            slot.wake();
            let (same, count) = (slot.clone(), steps.clone());
            if slot.put(Box::new(move || step(&same, &count))) {
                assert_eq!(steps.load(Ordering::Relaxed) % (AT_ONCE_MAX + 1), 0);
            }
        }
        let (slot, steps) = (Arc::new(Slot::default()), Arc::new(AtomicUsize::new(0)));
        for round in 1..=3 {
            if round == 1 {
                step(&slot, &steps);
            } else {
                slot.wake();
            }
            assert_eq!(steps.load(Ordering::Relaxed), round * (AT_ONCE_MAX + 1), "it waits to be woken");
        }
        slot.state().waiting = None;
    }
}
