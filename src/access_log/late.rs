//! The exchanges whose client has its reply while legs are still out: their lines don't wait for those for long. Driven by the
//! poller's clock; knows nothing of what the lines say.

use std::time::{Duration, Instant};

use crate::runtime::delay_queue::{DelayPlace, DelayQueue};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// The longest time from the reply to its line: losers of most requests have been hung up on by then, so that the line can say
/// so, and who looks at a log for a request of a moment ago finds it.
pub const LINE_WAIT: Duration = Duration::from_millis(200);

/// An exchange whose line may not have been written.
pub trait Untold: Send + Sync {
    /// Writes its line as it is now, unless that has been done.
    fn tell(&self);
}

/// Writes the lines of exchanges whose legs take their time.
pub struct LateLines {
    /// They don't keep their exchanges alive: without legs that are out they have written their lines.
    waiting: Mutex<Waiting>,
    registration: Registration,
}

#[derive(Default)]
struct Waiting {
    lines: DelayQueue<Weak<dyn Untold>>,
    /// When the poller wakes this: what waited for that may have been withdrawn since.
    wakes_at: Option<Instant>,
}

impl LateLines {
    /// Makes a queue that gets its events from the poller.
    pub fn new(poller: &Poller) -> Arc<LateLines> {
        let late = Arc::new(LateLines { waiting: Mutex::default(), registration: poller.reserve() });
        late.registration.start(late.clone());
        late
    }

    /// Has the exchange's line written in [`LINE_WAIT`]. Doesn't block.
    pub fn add(&self, exchange: &Arc<impl Untold + 'static>, now: Instant) -> DelayPlace {
        let exchange: Weak<dyn Untold> = Arc::<_>::downgrade(exchange) as Weak<dyn Untold>;
        let mut waiting = self.waiting.lock();
        let place = waiting.lines.push(now + LINE_WAIT, exchange);
        if waiting.wakes_at.is_none() {
            self.wake_for_next(&mut waiting);
        }
        place
    }

    /// Frees an exchange that has written its line: even a weak reference keeps its memory.
    pub fn withdraw(&self, place: DelayPlace) {
        let exchange = self.waiting.lock().lines.withdraw(place);
        // Out of the lock: it may free memory.
        drop(exchange);
    }

    fn wake_for_next(&self, waiting: &mut Waiting) {
        waiting.wakes_at = waiting.lines.next_due();
        self.registration.set_deadline(waiting.wakes_at);
    }

    fn tell_due(&self, now: Instant) {
        let due: Vec<Weak<dyn Untold>> = {
            let mut waiting = self.waiting.lock();
            let due = std::iter::from_fn(|| waiting.lines.pop_due(now)).collect();
            self.wake_for_next(&mut waiting);
            due
        };
        due.iter().filter_map(Weak::upgrade).for_each(|exchange| exchange.tell());
    }
}

impl EventHandler for LateLines {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => self.tell_due(Instant::now()),
            // All legs end soon, and with the last of them each line is written.
            Event::Ready { .. } | Event::Drain | Event::Cut => {}
        }
    }
}

impl std::fmt::Debug for LateLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateLines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Untold for Count {
        fn tell(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_exchange_is_told_when_its_time_has_come_and_no_more_is_waited_for() {
        let (poller, _event_loop) = Poller::new().expect("a poller");
        let late = LateLines::new(&poller);
        let now = Instant::now();
        let [first, second, gone] = [(); 3].map(|()| Arc::new(Count::default()));
        late.add(&first, now);
        late.add(&gone, now);
        late.add(&second, now + LINE_WAIT);
        drop(gone);
        let told = || [&first, &second].map(|count| count.0.load(Ordering::SeqCst));
        late.tell_due(now + LINE_WAIT / 2);
        assert_eq!(told(), [0, 0]);
        late.tell_due(now + LINE_WAIT);
        late.tell_due(now + LINE_WAIT);
        assert_eq!(told(), [1, 0]);
        late.tell_due(now + LINE_WAIT * 2);
        assert_eq!(told(), [1, 1]);
        assert_eq!(late.waiting.lock().wakes_at, None);
    }

    #[test]
    fn an_exchange_that_is_withdrawn_is_freed_at_once_and_keeps_no_other_from_being_told() {
        let (poller, _event_loop) = Poller::new().expect("a poller");
        let late = LateLines::new(&poller);
        let now = Instant::now();
        let [first, second, third] = [(); 3].map(|()| Arc::new(Count::default()));
        late.add(&first, now);
        late.tell_due(now + LINE_WAIT);
        let place = late.add(&second, now);
        late.add(&third, now);
        late.withdraw(place);
        assert_eq!((Arc::weak_count(&second), Arc::weak_count(&third)), (0, 1));
        late.tell_due(now + LINE_WAIT);
        late.withdraw(place);
        assert_eq!([&first, &second, &third].map(|count| count.0.load(Ordering::SeqCst)), [1, 0, 1]);
    }

    #[test]
    fn no_deadline_is_lost_between_adding_and_telling() {
        let (poller, event_loop) = Poller::new().expect("a poller");
        let thread = std::thread::spawn(move || event_loop.run());
        let late = LateLines::new(&poller);
        let long_ago = Instant::now().checked_sub(LINE_WAIT).expect("the clock runs for a moment");
        for _ in 0..2000 {
            let count = Arc::new(Count::default());
            late.add(&count, long_ago);
            let deadline = Instant::now() + Duration::from_secs(10);
            while count.0.load(Ordering::SeqCst) == 0 {
                assert!(Instant::now() < deadline, "the exchange is never told");
                std::thread::yield_now();
            }
        }
        poller.stop();
        thread.join().expect("no panic").expect("no error");
    }
}
