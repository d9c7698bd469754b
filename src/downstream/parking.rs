//! Where a thing waits that threads carry on in turns, one at a time. What happens while a thread has it is not lost: the thread
//! gets it back at once when it wants to park it. Knows nothing of what the thing is, nor of who wakes whom.

use crate::runtime::sync::{Mutex, MutexGuard};

/// A place for one thing. The thread that takes it out owns it until it parks it again.
pub(crate) struct Parking<T>(Mutex<State<T>>);

struct State<T> {
    /// `None` while a thread has it, and once it is gone for good.
    parked: Option<Box<T>>,
    /// Something has happened while a thread had it.
    notified: bool,
    /// Nothing is parked here any more.
    closed: bool,
}

impl<T> Parking<T> {
    /// The place of a thing that a thread has now.
    pub(crate) fn new() -> Parking<T> {
        Parking(Mutex::new(State { parked: None, notified: false, closed: false }))
    }

    /// Something has happened: takes the thing out, or leaves word for the thread that has it.
    pub(crate) fn take_or_notify(&self) -> Option<Box<T>> {
        let mut state = self.state();
        let taken = state.parked.take();
        state.notified |= taken.is_none();
        taken
    }

    /// Parks it until something happens, or gives it back if something has. `parked` is run before another thread can take it
    /// out: the deadline that it sets is never set over a later one.
    pub(crate) fn park(&self, thing: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        let mut state = self.state();
        let notified = std::mem::take(&mut state.notified);
        if notified { Some(thing) } else { state.put(thing, parked) }
    }

    /// The same for a thing that is to be carried on in any case, and soon: only a closed place gives it back.
    pub(crate) fn park_to_yield(&self, thing: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        self.state().put(thing, parked)
    }

    /// Takes it out for good. The thread that has it gets it back when it parks it.
    pub(crate) fn close(&self) -> Option<Box<T>> {
        let mut state = self.state();
        state.closed = true;
        state.parked.take()
    }

    /// The same if it is here, and `goes` says so of it.
    pub(crate) fn take_for_eviction(&self, goes: impl FnOnce(&T) -> bool) -> Option<Box<T>> {
        let mut state = self.state();
        let taken = state.parked.take_if(|thing| goes(thing));
        state.closed |= taken.is_some();
        taken
    }

    /// Whether the thread that has it must end it.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// What `look` makes of it, if it is here.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.state().parked.as_deref().map(look)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock()
    }
}

impl<T> State<T> {
    fn put(&mut self, thing: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        if self.closed {
            return Some(thing);
        }
        self.parked = Some(thing);
        parked();
        None
    }
}
