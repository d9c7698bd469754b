//! The bound of the time for which a failure waits for better answers. Driven by the poller's clock; knows nothing of races.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// A race whose failures wait for better answers, but not for ever.
pub(super) trait Bounded: Send + Sync {
    /// Passes on the failure that is kept, since no better answer has come by then.
    fn stop_waiting(self: Arc<Self>, until: Instant);
}

/// Ends the wait of races that have a failure for their client, and hope for better.
pub(super) struct Patience {
    bound: Duration,
    /// The oldest first, since all wait equally long.
    waiting: Mutex<VecDeque<(Instant, Weak<dyn Bounded>)>>,
    registration: Registration,
}

impl Patience {
    /// Patience of this length, by the poller's clock.
    pub(super) fn new(bound: Duration, poller: &Poller) -> Arc<Patience> {
        let patience = Arc::new(Patience { bound, waiting: Mutex::default(), registration: poller.reserve() });
        patience.registration.start(patience.clone());
        patience
    }

    /// Has the race wait no longer than the bound from now on, and gives until when. Doesn't block.
    pub(super) fn add(&self, exchange: &Arc<impl Bounded + 'static>, now: Instant) -> Instant {
        let exchange: Weak<dyn Bounded> = Arc::<_>::downgrade(exchange) as Weak<dyn Bounded>;
        let mut waiting = self.waiting.lock();
        // What is over takes no room: of a long bound most are.
        while waiting.front().is_some_and(|(_, exchange)| exchange.strong_count() == 0) {
            waiting.pop_front();
        }
        let until = now + self.bound;
        waiting.push_back((until, exchange));
        if waiting.len() == 1 {
            self.update_deadline(&waiting);
        }
        until
    }

    fn update_deadline(&self, waiting: &VecDeque<(Instant, Weak<dyn Bounded>)>) {
        self.registration.set_deadline(waiting.front().map(|(until, _)| *until));
    }

    fn run_out(&self, now: Instant) {
        let due: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let count = waiting.iter().take_while(|(until, _)| *until <= now).count();
            let due = waiting.drain(..count).collect();
            self.update_deadline(&waiting);
            due
        };
        for (until, exchange) in due {
            if let Some(exchange) = Weak::upgrade(&exchange) {
                exchange.stop_waiting(until);
            }
        }
    }
}

impl EventHandler for Patience {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => self.run_out(Instant::now()),
            // Races go on through a drain, and a cut ends their legs.
            Event::Ready { .. } | Event::Drain | Event::Cut => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Bounded for Count {
        fn stop_waiting(self: Arc<Self>, _: Instant) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_race_stops_waiting_once_its_time_is_over_and_one_that_is_over_takes_no_room() {
        let (poller, _event_loop) = Poller::new().expect("a poller");
        let bound = Duration::from_secs(60);
        let patience = Patience::new(bound, &poller);
        let now = Instant::now();
        let [first, gone, last] = [(); 3].map(|()| Arc::new(Count::default()));
        patience.add(&gone, now);
        drop(gone);
        patience.add(&first, now);
        patience.add(&last, now + bound);
        assert_eq!(patience.waiting.lock().len(), 2);
        patience.run_out(now + bound);
        patience.run_out(now + bound);
        assert_eq!([&first, &last].map(|count| count.0.load(Ordering::SeqCst)), [1, 0]);
    }
}
