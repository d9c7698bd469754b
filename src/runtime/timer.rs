//! Values that each wait for a time. Driven by the poller's clock; knows nothing of what is done with them then.

use std::time::Instant;

use super::delay_queue::{DelayPlace, DelayQueue};
use super::poller::{Event, EventHandler, Poller, Registration};
use super::sync::{Arc, Mutex, Weak};

/// Calls a function with each value when it is due, unless nothing else holds the value any more.
pub struct Timer<T: ?Sized> {
    /// It is told the time, too, and doesn't block.
    on_due: fn(Arc<T>, Instant),
    waiting: Mutex<Waiting<T>>,
    registration: Registration,
}

struct Waiting<T: ?Sized> {
    values: DelayQueue<Weak<T>>,
    /// When the poller wakes this: what waited for that may have been withdrawn since.
    wakes_at: Option<Instant>,
}

impl<T: ?Sized + Send + Sync + 'static> Timer<T> {
    /// Makes a timer that gets its events from the poller.
    pub fn new(poller: &Poller, on_due: fn(Arc<T>, Instant)) -> Arc<Timer<T>> {
        let waiting = Mutex::new(Waiting { values: DelayQueue::default(), wakes_at: None });
        let timer = Arc::new(Timer { on_due, waiting, registration: poller.reserve() });
        timer.registration.start(timer.clone());
        timer
    }

    /// Has the function called then, or when those are due that were added before. Doesn't block.
    pub fn add(&self, value: Weak<T>, due: Instant) -> DelayPlace {
        let mut waiting = self.waiting.lock();
        let place = waiting.values.push(due, value);
        if waiting.wakes_at.is_none() {
            self.wake_for_next(&mut waiting);
        }
        place
    }

    /// Frees a value for which the function needn't be called any more: even a weak reference keeps its memory.
    pub fn withdraw(&self, place: DelayPlace) {
        let value = self.waiting.lock().values.withdraw(place);
        // Out of the lock: it may free memory.
        drop(value);
    }

    fn wake_for_next(&self, waiting: &mut Waiting<T>) {
        waiting.wakes_at = waiting.values.next_due();
        self.registration.set_deadline(waiting.wakes_at);
    }

    fn run_due(&self, now: Instant) {
        let due: Vec<Weak<T>> = {
            let mut waiting = self.waiting.lock();
            let due = std::iter::from_fn(|| waiting.values.pop_due(now)).collect();
            self.wake_for_next(&mut waiting);
            due
        };
        due.iter().filter_map(Weak::upgrade).for_each(|value| (self.on_due)(value, now));
    }
}

impl<T: ?Sized + Send + Sync + 'static> EventHandler for Timer<T> {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => self.run_due(Instant::now()),
            // A drain and a cut are for those that hold the values.
            Event::Ready { .. } | Event::Drain | Event::Cut => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    type Count = AtomicUsize;

    const WAIT: Duration = Duration::from_millis(200);

    fn timer(poller: &Poller) -> Arc<Timer<Count>> {
        Timer::new(poller, |count, _| _ = count.fetch_add(1, Ordering::SeqCst))
    }

    #[test]
    fn the_function_is_called_when_a_value_is_due_and_no_more_is_waited_for() {
        let (poller, _event_loop) = Poller::new().expect("a poller");
        let timer = timer(&poller);
        let now = Instant::now();
        let [first, second, gone] = [(); 3].map(|()| Arc::new(Count::default()));
        timer.add(Arc::downgrade(&first), now + WAIT);
        timer.add(Arc::downgrade(&gone), now + WAIT);
        timer.add(Arc::downgrade(&second), now + WAIT * 2);
        drop(gone);
        let called = || [&first, &second].map(|count| count.load(Ordering::SeqCst));
        timer.run_due(now + WAIT / 2);
        assert_eq!(called(), [0, 0]);
        timer.run_due(now + WAIT);
        timer.run_due(now + WAIT);
        assert_eq!(called(), [1, 0]);
        timer.run_due(now + WAIT * 2);
        assert_eq!(called(), [1, 1]);
        assert_eq!(timer.waiting.lock().wakes_at, None);
    }

    #[test]
    fn a_value_that_is_withdrawn_is_freed_at_once_and_keeps_no_other_waiting() {
        let (poller, _event_loop) = Poller::new().expect("a poller");
        let timer = timer(&poller);
        let due = Instant::now() + WAIT;
        let [first, second, third] = [(); 3].map(|()| Arc::new(Count::default()));
        timer.add(Arc::downgrade(&first), due);
        timer.run_due(due);
        let place = timer.add(Arc::downgrade(&second), due);
        timer.add(Arc::downgrade(&third), due);
        timer.withdraw(place);
        assert_eq!((Arc::weak_count(&second), Arc::weak_count(&third)), (0, 1));
        timer.run_due(due);
        timer.withdraw(place);
        assert_eq!([&first, &second, &third].map(|count| count.load(Ordering::SeqCst)), [1, 0, 1]);
    }

    #[test]
    fn no_deadline_is_lost_between_adding_and_calling() {
        let (poller, event_loop) = Poller::new().expect("a poller");
        let thread = std::thread::spawn(move || event_loop.run());
        let timer = timer(&poller);
        for _ in 0..2000 {
            let count = Arc::new(Count::default());
            timer.add(Arc::downgrade(&count), Instant::now());
            let deadline = Instant::now() + Duration::from_secs(10);
            while count.load(Ordering::SeqCst) == 0 {
                assert!(Instant::now() < deadline, "the function is never called");
                std::thread::yield_now();
            }
        }
        poller.stop();
        thread.join().expect("no panic").expect("no error");
    }
}
