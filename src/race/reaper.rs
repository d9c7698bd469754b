//! Holds the losers of decided races until their time is over, then hangs up on them.
//! Driven by the poller's clock; knows nothing of what the races were about.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Linger;
use crate::runtime::cancel::Losers;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// Hangs up on losers that linger.
pub struct Reaper {
    linger: Linger,
    /// One lock for both queues and the deadline, or a deadline could be lost between them.
    lingering: Mutex<Queues>,
    registration: Registration,
}

/// The losers by their deadlines. A constant linger makes them first in, first out: one queue for each kind.
#[derive(Default)]
struct Queues {
    safe: VecDeque<Lingering>,
    not_safe: VecDeque<Lingering>,
    /// Whether a shutdown has cut them all: none may linger any more.
    is_cut: bool,
}

/// A race's losers. They don't keep it alive: once all legs have ended there is none to hang up on.
struct Lingering {
    until: Instant,
    winner: Option<usize>,
    race: Weak<dyn Losers>,
}

impl Reaper {
    /// Makes a reaper that gets its events from the poller.
    pub fn new(linger: Linger, poller: &Poller) -> Arc<Reaper> {
        let reaper = Arc::new(Reaper { linger, lingering: Mutex::default(), registration: poller.reserve() });
        reaper.registration.start(reaper.clone());
        reaper
    }

    /// The time for which losers may linger.
    pub fn linger(&self) -> Linger {
        self.linger
    }

    /// Takes the losers of a decided race: they are hung up on at once or when their linger is over.
    pub fn take(&self, losers: &Arc<impl Losers + 'static>, winner: Option<usize>, is_safe: bool, now: Instant) {
        let linger = self.linger.after(is_safe);
        let mut queues = self.lingering.lock();
        if linger.is_zero() || queues.is_cut {
            drop(queues);
            return losers.hang_up(winner);
        }
        let race: Weak<dyn Losers> = Arc::<_>::downgrade(losers) as Weak<dyn Losers>;
        let queue = if is_safe { &mut queues.safe } else { &mut queues.not_safe };
        queue.push_back(Lingering { until: now + linger, winner, race });
        if queue.len() == 1 {
            self.update_deadline(&queues);
        }
    }

    fn update_deadline(&self, queues: &Queues) {
        let first = |queue: &VecDeque<Lingering>| queue.front().map(|first| first.until);
        let next = first(&queues.safe).into_iter().chain(first(&queues.not_safe)).min();
        self.registration.set_deadline(next);
    }
}

impl Queues {
    /// Takes out the losers whose time is over.
    fn over(&mut self, now: Instant) -> Vec<Lingering> {
        let mut over = Vec::new();
        for queue in [&mut self.safe, &mut self.not_safe] {
            let count = queue.iter().take_while(|lingering| lingering.until <= now).count();
            over.extend(queue.drain(..count));
        }
        over
    }
}

impl EventHandler for Reaper {
    fn on_event(self: Arc<Self>, event: Event) {
        let over: Vec<Lingering> = {
            let mut queues = self.lingering.lock();
            let over = match event {
                Event::Expired => queues.over(Instant::now()),
                // Their connections won't be used again; a request that isn't safe still reaches its backends.
                Event::Drain => queues.safe.drain(..).collect(),
                Event::Cut => {
                    queues.is_cut = true;
                    let Queues { safe, not_safe, .. } = &mut *queues;
                    safe.drain(..).chain(not_safe.drain(..)).collect()
                }
                Event::Ready { .. } => Vec::new(),
            };
            self.update_deadline(&queues);
            over
        };
        for lingering in over {
            if let Some(race) = lingering.race.upgrade() {
                race.hang_up(lingering.winner);
            }
        }
    }
}

impl std::fmt::Debug for Reaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaper").field("linger", &self.linger).finish_non_exhaustive()
    }
}

impl Linger {
    /// No linger: losers are hung up on at once.
    pub const NONE: Linger = Linger { safe: Duration::ZERO, not_safe: Duration::ZERO };

    /// The time after a method that is safe, or isn't.
    pub fn after(self, is_safe: bool) -> Duration {
        if is_safe { self.safe } else { self.not_safe }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race::Race;

    fn race() -> Arc<Race<(), ()>> {
        Arc::new(Race::new(2, (), Instant::now()))
    }

    #[test]
    fn losers_are_hung_up_on_when_their_linger_is_over() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let second = Duration::from_secs(1);
        let reaper = Reaper::new(Linger { safe: second, not_safe: second * 10 }, &poller);
        let (get, post) = (race(), race());
        let then = Instant::now().checked_sub(second * 2).expect("the clock runs for two seconds");
        reaper.take(&get, Some(0), true, then);
        reaper.take(&post, Some(0), false, then);
        assert!(!get.token(1).is_cancelled());
        reaper.clone().on_event(Event::Expired);
        assert!(get.token(1).is_cancelled() && !get.token(0).is_cancelled());
        assert!(!post.token(1).is_cancelled());
        reaper.clone().on_event(Event::Drain);
        assert!(!post.token(1).is_cancelled(), "the request still reaches its backend during a drain");
        reaper.clone().on_event(Event::Cut);
        assert!(post.token(1).is_cancelled());
    }

    #[test]
    fn no_deadline_is_lost_between_taking_and_reaping() {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let linger = Duration::from_micros(200);
        let reaper = Reaper::new(Linger { safe: linger, not_safe: linger }, &poller);
        for _ in 0..2000 {
            let race = race();
            reaper.take(&race, Some(0), true, Instant::now());
            let deadline = Instant::now() + Duration::from_secs(10);
            while !race.token(1).is_cancelled() {
                assert!(Instant::now() < deadline, "the loser lingers for ever");
                std::thread::yield_now();
            }
        }
        poller.stop();
    }

    #[test]
    fn without_linger_losers_are_hung_up_on_at_once() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let reaper = Reaper::new(Linger::NONE, &poller);
        let race = race();
        reaper.take(&race, Some(1), true, Instant::now());
        assert!(race.token(0).is_cancelled() && !race.token(1).is_cancelled());
    }
}
