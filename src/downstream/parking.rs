//! A parking place for what threads carry on in steps, one thread at a time: a relay, a tunnel. An event that arrives while a thread
//! has the value isn't lost: that thread gets the value back at once when it wants to park it. Knows nothing of what the value is,
//! nor of what wakes it.

use crate::runtime::sync::Mutex;

/// A place for one value. The thread that takes it out owns it until it parks it again.
pub(crate) struct Parking<T>(Mutex<Space<T>>);

struct Space<T> {
    /// `None` while a thread has it, and once it has ended.
    parked: Option<Box<T>>,
    /// An event arrived while a thread had it.
    notified: bool,
    /// Nothing is parked here any more.
    closed: bool,
}

impl<T> Parking<T> {
    /// The place of a value that the calling thread has.
    pub(crate) fn new() -> Parking<T> {
        Parking(Mutex::new(Space { parked: None, notified: false, closed: false }))
    }

    /// Takes the value out for an event, or notifies the thread that has it.
    pub(crate) fn take_or_notify(&self) -> Option<Box<T>> {
        let mut space = self.0.lock();
        let taken = space.parked.take();
        space.notified |= taken.is_none();
        taken
    }

    /// Parks the value until the next event, or returns it if one has arrived meanwhile. `parked` is run before another thread can
    /// take it out: the deadline that it sets is never set over a later one.
    pub(crate) fn park(&self, value: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        let mut space = self.0.lock();
        let notified = std::mem::take(&mut space.notified);
        if notified { Some(value) } else { space.put(value, parked) }
    }

    /// Parks a value that continues in any case, and soon: unlike [`Parking::park`] only a closed place returns it.
    pub(crate) fn park_to_yield(&self, value: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        self.0.lock().put(value, parked)
    }

    /// Closes the place and takes the value out. A thread that has it gets it back when it parks it.
    pub(crate) fn close(&self) -> Option<Box<T>> {
        let mut space = self.0.lock();
        space.closed = true;
        space.parked.take()
    }

    /// Closes the place and takes the value out if it is parked and `may_take` allows it.
    pub(crate) fn close_if(&self, may_take: impl FnOnce(&T) -> bool) -> Option<Box<T>> {
        let mut space = self.0.lock();
        let taken = space.parked.take_if(|value| may_take(value));
        space.closed |= taken.is_some();
        taken
    }

    /// Whether the thread that has the value must end it.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// The result of `inspect` for the value, if it is parked.
    pub(crate) fn inspect<R>(&self, inspect: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.lock().parked.as_deref().map(inspect)
    }
}

impl<T> Space<T> {
    fn put(&mut self, value: Box<T>, parked: impl FnOnce()) -> Option<Box<T>> {
        if self.closed {
            return Some(value);
        }
        self.parked = Some(value);
        parked();
        None
    }
}
