//! Tells the figures each second that one is over, for the last minute's. Knows nothing of what they make of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::figures::Figures;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};

const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Ticker {
    figures: Arc<Figures>,
    registration: Registration,
}

impl Ticker {
    /// Ticks from now on, until the cut.
    pub(super) fn start(figures: Arc<Figures>, poller: &Poller) {
        let ticker = Arc::new(Ticker { figures, registration: poller.reserve() });
        ticker.registration.start(ticker.clone());
        ticker.registration.set_deadline(Some(Instant::now()));
    }
}

impl EventHandler for Ticker {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => {
                self.figures.end_second();
                self.registration.set_deadline(Some(Instant::now() + SECOND));
            }
            Event::Cut => self.registration.end(),
            Event::Ready { .. } | Event::Drain => {}
        }
    }
}
