//! The place in which one leg waits for an event, and from which it goes on once. Knows nothing of sockets, nor of what a leg is.

use crate::runtime::sync::{Arc, Mutex, MutexGuard};

/// So often in a row a leg goes on at once that has missed an event. It does so within its own last step, and a backend that keeps
/// making events would have it go deeper and deeper.
const AT_ONCE_MAX: usize = 4;

/// Whose legs wait here, by their numbers.
pub trait Waiter: Send + Sync {
    /// Something has happened that the leg waits for, or its time is over. Any thread may call it; it doesn't block.
    fn wake(self: Arc<Self>, leg: usize);
}

/// What tells of events.
pub trait Readiness: Send + Sync {
    /// Has the leg woken at the next event, once. `false`: an event came while no leg waited, and the leg must look at once. Doesn't
    /// block.
    #[must_use]
    fn wait(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool;

    /// The leg that waits here is not to be woken any more: it goes on for another reason.
    fn forget(&self);
}

/// The place. It is empty while the leg runs.
#[derive(Default)]
pub(crate) struct LegParking(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whoever takes it out wakes the leg.
    waiting: Option<(Arc<dyn Waiter>, usize)>,
    /// An event came while no leg waited. The poller tells each only once, so the next leg must look before it waits.
    missed: bool,
    /// How often in a row the leg has gone on at once.
    at_once: usize,
}

impl LegParking {
    /// Something may have come that no event will tell of.
    pub(crate) fn miss(&self) {
        self.state().missed = true;
    }

    /// Somebody is about to look: what happened before is missed by nobody.
    pub(crate) fn forget_missed(&self) {
        let mut state = self.state();
        (state.missed, state.at_once) = (false, 0);
    }

    /// The leg waits, unless an event was missed. If it has gone on at once too often for that, it waits all the same, and `wake_soon`
    /// has it woken.
    pub(crate) fn put(&self, waiter: Arc<dyn Waiter>, leg: usize, wake_soon: impl FnOnce()) -> bool {
        let mut state = self.state();
        let missed = std::mem::take(&mut state.missed);
        if missed && state.at_once < AT_ONCE_MAX {
            state.at_once += 1;
            return false;
        }
        state.waiting = Some((waiter, leg));
        drop(state);
        if missed {
            wake_soon();
        }
        true
    }

    /// No leg waits here any more.
    pub(crate) fn forget(&self) {
        let waiting = self.state().waiting.take();
        drop(waiting);
    }

    /// Something has come, or there is room, or the time is over: the leg goes on.
    pub(crate) fn wake(&self) {
        let waiting = {
            let mut state = self.state();
            let waiting = state.waiting.take();
            state.missed = waiting.is_none();
            if waiting.is_some() {
                state.at_once = 0;
            }
            waiting
        };
        if let Some((waiter, leg)) = waiting {
            waiter.wake(leg);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// Waits on this thread, as no leg does.
#[cfg(test)]
pub(crate) fn wait_for(events: &Arc<dyn Readiness>) {
    struct Sender(crossbeam_channel::Sender<()>);
    impl Waiter for Sender {
        fn wake(self: Arc<Self>, _: usize) {
            let _ = self.0.send(());
        }
    }
    let (sender, woken) = crossbeam_channel::bounded(1);
    if events.wait(Arc::new(Sender(sender)), 0) {
        woken.recv_timeout(std::time::Duration::from_secs(10)).expect("the leg goes on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Waiter for Count {
        fn wake(self: Arc<Self>, _: usize) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(slot: &LegParking, woken: &Arc<Count>) -> bool {
        slot.put(woken.clone(), 0, || panic!("it isn't to be woken yet"))
    }

    #[test]
    fn an_event_that_came_while_nobody_waited_keeps_the_next_from_waiting_and_no_other() {
        let (slot, woken) = (LegParking::default(), Arc::new(Count::default()));
        let count = || woken.0.load(Ordering::Relaxed);
        slot.wake();
        assert!(!put(&slot, &woken), "it must look at once");
        assert!(put(&slot, &woken), "nothing has happened since");
        assert_eq!(count(), 0);
        slot.wake();
        slot.wake();
        assert_eq!(count(), 1);
        slot.forget_missed();
        assert!(put(&slot, &woken), "somebody has looked");
    }

    /// Was seen as: an answer that came byte by byte had its leg go on within itself for each of them.
    #[test]
    fn a_leg_that_misses_an_event_in_every_step_goes_on_at_once_a_few_times_only() {
        let (slot, woken) = (LegParking::default(), Arc::new(Count::default()));
        for _ in 0..3 {
            for _ in 0..AT_ONCE_MAX {
                slot.wake();
                assert!(!put(&slot, &woken), "it must look at once");
            }
            slot.wake();
            let mut is_woken_soon = false;
            assert!(slot.put(woken.clone(), 0, || is_woken_soon = true), "it waits");
            assert!(is_woken_soon);
            slot.wake();
        }
    }
}
