//! The place in which one leg waits for an event, and from which each event wakes it once. Knows nothing of sockets, nor of
//! what a leg is.

use crate::runtime::sync::{Arc, Mutex};

/// The most times in a row that a leg with an event to look at isn't parked. It looks within its own last step, and a backend
/// that keeps making events would have it recurse deeper and deeper.
const AT_ONCE_MAX: usize = 4;

/// The owner of legs that park, by their numbers.
pub trait Waiter: Send + Sync {
    /// Takes the leg's next step: an event has arrived, or its time is over. Any thread may call it; it doesn't block.
    fn wake(self: Arc<Self>, leg: usize);
}

/// A place in which a leg waits for events: of a socket, a timer, or several.
pub trait Readiness: Send + Sync {
    /// Parks the leg, which the next event wakes, once. `false`: an event arrived while no leg was parked, and the leg must
    /// look at once. Doesn't block.
    #[must_use]
    fn park(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool;

    /// Takes the parked leg out, so that no event wakes it: it takes its next step for another reason.
    fn withdraw(&self);
}

/// The place. It is empty while the leg runs.
#[derive(Default)]
pub(crate) struct LegParking(Mutex<State>);

#[derive(Default)]
struct State {
    /// The parked leg; the thread that takes it out wakes it.
    parked: Option<(Arc<dyn Waiter>, usize)>,
    /// An event arrived while nothing was parked. epoll is edge-triggered, so the next leg must look at the socket before it
    /// parks.
    notified: bool,
    /// The times in a row that the leg was kept from parking.
    at_once: usize,
}

impl LegParking {
    /// Has the next leg look before it parks: something may have arrived of which no event will tell.
    pub(crate) fn notify(&self) {
        self.0.lock().notified = true;
    }

    /// Forgets earlier events, and the leg before if that is still here, for a leg that looks at the socket after this.
    pub(crate) fn clear(&self) {
        let before = std::mem::take(&mut *self.0.lock());
        drop(before);
    }

    /// Parks the leg, unless an event arrived before. A leg that was kept from parking too often in a row is parked all the
    /// same, and `wake_soon` has it woken.
    pub(crate) fn park(&self, waiter: Arc<dyn Waiter>, leg: usize, wake_soon: impl FnOnce()) -> bool {
        let mut state = self.0.lock();
        let was_notified = std::mem::take(&mut state.notified);
        if was_notified && state.at_once < AT_ONCE_MAX {
            state.at_once += 1;
            return false;
        }
        state.parked = Some((waiter, leg));
        drop(state);
        if was_notified {
            wake_soon();
        }
        true
    }

    /// Takes the parked leg out, so that no event wakes it.
    pub(crate) fn withdraw(&self) {
        let parked = self.0.lock().parked.take();
        drop(parked);
    }

    /// Wakes the parked leg, or has the next one look before it parks.
    pub(crate) fn wake(&self) {
        let parked = {
            let mut state = self.0.lock();
            let parked = state.parked.take();
            state.notified = parked.is_none();
            if parked.is_some() {
                state.at_once = 0;
            }
            parked
        };
        if let Some((waiter, leg)) = parked {
            waiter.wake(leg);
        }
    }
}

/// Waits on the test's thread, as no leg does.
#[cfg(test)]
pub(crate) fn wait_for(readiness: &Arc<dyn Readiness>) {
    struct Sender(crossbeam_channel::Sender<()>);
    impl Waiter for Sender {
        fn wake(self: Arc<Self>, _: usize) {
            let _ = self.0.send(());
        }
    }
    let (sender, woken) = crossbeam_channel::bounded(1);
    if readiness.park(Arc::new(Sender(sender)), 0) {
        woken.recv_timeout(std::time::Duration::from_secs(10)).expect("an event");
    }
}

/// Counts how often a leg has been woken.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Count(std::sync::atomic::AtomicUsize);

#[cfg(test)]
impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Waiter for Count {
    fn wake(self: Arc<Self>, _: usize) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn park(parking: &LegParking, woken: &Arc<Count>) -> bool {
        parking.park(woken.clone(), 0, || panic!("it isn't to be woken yet"))
    }

    #[test]
    fn an_event_without_a_parked_leg_keeps_the_next_leg_from_parking_and_no_other() {
        let (parking, woken) = (LegParking::default(), Arc::new(Count::default()));
        let count = || woken.get();
        parking.wake();
        assert!(!park(&parking, &woken), "it must look at once");
        assert!(park(&parking, &woken), "nothing has happened since");
        assert_eq!(count(), 0);
        parking.wake();
        parking.wake();
        assert_eq!(count(), 1);
        parking.wake();
        parking.clear();
        assert!(park(&parking, &woken), "the leg has looked");
    }

    /// Was seen as: an answer that came byte by byte had its leg take a step within the last for each of them.
    #[test]
    fn a_leg_with_an_event_in_every_step_is_kept_from_parking_a_few_times_only() {
        let (parking, woken) = (LegParking::default(), Arc::new(Count::default()));
        for _ in 0..3 {
            for _ in 0..AT_ONCE_MAX {
                parking.wake();
                assert!(!park(&parking, &woken), "it must look at once");
            }
            parking.wake();
            let mut is_woken_soon = false;
            assert!(parking.park(woken.clone(), 0, || is_woken_soon = true), "it is parked");
            assert!(is_woken_soon);
            parking.wake();
        }
    }
}
