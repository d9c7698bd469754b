//! Does something each time that a while is over. Knows nothing of what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::poller::{Event, EventHandler, Poller, Registration};

pub(super) struct Ticker {
    every: Duration,
    tick: Box<dyn Fn() + Send + Sync>,
    registration: Registration,
}

impl Ticker {
    /// Ticks from the first time on, until the cut, on a thread of the poller.
    pub(super) fn start(poller: &Poller, first: Instant, every: Duration, tick: impl Fn() + Send + Sync + 'static) {
        let ticker = Arc::new(Ticker { every, tick: Box::new(tick), registration: poller.reserve() });
        ticker.registration.start(ticker.clone());
        ticker.registration.set_deadline(Some(first));
    }
}

impl EventHandler for Ticker {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => {
                (self.tick)();
                self.registration.set_deadline(Some(Instant::now() + self.every));
            }
            Event::Cut => self.registration.end(),
            Event::Ready { .. } | Event::Drain => {}
        }
    }
}
