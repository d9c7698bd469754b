//! The place of a leg's state between two steps, from which one thread at a time takes it. Knows nothing of what a leg is.

use crate::runtime::sync::Mutex;

/// The place. It is empty while a thread runs the leg, and once that has ended.
pub(crate) struct Parked<S>(Mutex<Place<S>>);

struct Place<S> {
    state: Option<S>,
    /// An event arrived while a thread ran the leg.
    is_notified: bool,
    /// A thread for the disk reads for the leg, or will.
    is_read_for: bool,
}

impl<S> Default for Parked<S> {
    fn default() -> Parked<S> {
        Parked(Mutex::new(Place { state: None, is_notified: false, is_read_for: false }))
    }
}

impl<S> Parked<S> {
    /// Parks the state until an event, or gives it back if one arrived while a thread ran the leg. If something `is_to_be_read` for
    /// the leg meanwhile, it says whether that has to be asked for: no thread for the disk reads for it, nor will.
    pub(crate) fn park(&self, state: S, is_to_be_read: bool) -> Result<bool, S> {
        let mut place = self.0.lock();
        if std::mem::take(&mut place.is_notified) {
            return Err(state);
        }
        place.state = Some(state);
        // Under one lock: a read that ends in between would take the leg, and the one asked for would find another state.
        Ok(is_to_be_read && !std::mem::replace(&mut place.is_read_for, true))
    }

    /// Parks the state, whatever has arrived: no event concerns it.
    pub(crate) fn hold(&self, state: S) {
        self.0.lock().state = Some(state);
    }

    /// Takes the state, for a thread that runs the leg from now on, unless events are no concern of such a state. If a thread runs the
    /// leg already, notes the event for that one.
    pub(crate) fn take_or_notify(&self, is_meant: impl FnOnce(&S) -> bool) -> Option<S> {
        let mut place = self.0.lock();
        place.is_notified |= place.state.is_none();
        place.state.take_if(|state| is_meant(state))
    }

    /// Takes the state if it is such a one.
    pub(crate) fn take_if(&self, is_meant: impl FnOnce(&S) -> bool) -> Option<S> {
        self.0.lock().state.take_if(|state| is_meant(state))
    }

    /// Shows the state to `look`.
    pub(crate) fn with<T>(&self, look: impl FnOnce(Option<&S>) -> T) -> T {
        look(self.0.lock().state.as_ref())
    }

    /// Notes that the thread for the disk has read, and takes the state if it is such a one; an event may have taken it before.
    pub(crate) fn end_read(&self, is_meant: impl FnOnce(&S) -> bool) -> Option<S> {
        let mut place = self.0.lock();
        place.is_read_for = false;
        place.state.take_if(|state| is_meant(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_state_is_taken_once() {
        let parked = Parked::default();
        assert_eq!(parked.park(1, false), Ok(false));
        assert_eq!(parked.take_or_notify(|state| *state == 2), None, "it isn't meant, and nothing is noted");
        let take = || parked.take_or_notify(|_| true);
        assert_eq!((take(), take()), (Some(1), None), "a thread runs the leg");
    }

    #[test]
    fn an_event_while_a_thread_runs_the_leg_keeps_it_from_parking_once() {
        let parked = Parked::default();
        assert_eq!(
            (parked.take_or_notify(|_| true), parked.park(1, true), parked.park(1, true)),
            (None, Err(1), Ok(true))
        );
    }

    #[test]
    fn a_leg_is_read_for_once_at_a_time() {
        let parked = Parked::default();
        assert_eq!((parked.park(1, true), parked.park(2, true)), (Ok(true), Ok(false)));
        assert_eq!(
            (parked.end_read(|state| *state == 1), parked.take_or_notify(|_| true)),
            (None, Some(2)),
            "it isn't meant"
        );
        assert_eq!(
            (parked.park(3, true), parked.end_read(|_| true), parked.end_read(|_| true)),
            (Ok(true), Some(3), None)
        );
    }
}
