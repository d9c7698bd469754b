//! The place in which one leg waits for its wire, and from which it goes on once. Knows nothing of sockets.

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Whether enough of an answer is here, by its first bytes.
pub(super) type IsDue = fn(&[u8]) -> bool;

/// A leg that waits for its answer, or for its connection.
pub(super) struct Wake {
    /// An end, an error and the deadline are always enough. `None`: any event will do.
    pub(super) is_due: Option<IsDue>,
    /// Has it go on.
    pub(super) go_on: Box<dyn FnOnce() + Send>,
}

/// The place. It is empty while the leg runs.
#[derive(Default)]
pub(super) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whoever takes it out owns the leg.
    waiting: Option<Wake>,
    /// There was a turn and no leg to take it: the next one must not wait for what has come already.
    missed: bool,
    /// An end, an error or the deadline: no other turn is to be waited for.
    over: bool,
}

impl Slot {
    /// Another wait is to begin. What was missed stays missed.
    pub(super) fn begin(&self) {
        self.state().over = false;
    }

    /// Something may have come that no turn will tell of.
    pub(super) fn miss(&self) {
        self.state().missed = true;
    }

    /// Somebody is about to look: what happened before is missed by nobody.
    pub(super) fn forget_missed(&self) {
        self.state().missed = false;
    }

    /// The leg waits. Whether a turn was missed: then somebody must look.
    pub(super) fn put(&self, wake: Wake) -> bool {
        let mut state = self.state();
        state.waiting = Some(wake);
        std::mem::take(&mut state.missed)
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Something has come. The leg goes on if it is due, by a `look` at what is here; nobody else looks meanwhile.
    pub(super) fn wake_if(&self, look: impl FnOnce(IsDue) -> bool) {
        Slot::wake(self.state(), look);
    }

    /// Nothing more will come: the leg goes on.
    pub(super) fn wake_for_good(&self) {
        let mut state = self.state();
        state.over = true;
        Slot::wake(state, |_| true);
    }

    fn wake(mut state: MutexGuard<'_, State>, look: impl FnOnce(IsDue) -> bool) {
        let is_over = state.over;
        state.missed = state.waiting.is_none();
        let wake = state.waiting.take_if(|wake| is_over || wake.is_due.is_none_or(look));
        drop(state);
        if let Some(wake) = wake {
            (wake.go_on)();
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

    fn waits(slot: &Slot, woken: &Arc<AtomicUsize>) -> bool {
        let woken = woken.clone();
        let go_on = Box::new(move || {
            woken.fetch_add(1, Ordering::Relaxed);
        });
        slot.put(Wake { is_due: Some(|_| false), go_on })
    }

    #[test]
    fn an_end_that_came_while_nobody_waited_wakes_the_next_whatever_it_waits_for() {
        let (slot, woken) = (Slot::default(), Arc::new(AtomicUsize::new(0)));
        slot.wake_for_good();
        assert!(waits(&slot, &woken), "somebody must look");
        slot.wake_if(|is_due| is_due(b"begin"));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        slot.begin();
        assert!(!waits(&slot, &woken));
        slot.wake_if(|is_due| is_due(b"begin"));
        assert_eq!(woken.load(Ordering::Relaxed), 1, "what ended the last wait is over");
    }
}
