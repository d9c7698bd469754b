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
    /// Those that are spared for a long look or as probes: a few, since each backend has one of each at a time. In no order.
    looks: Vec<Lingering>,
    /// Whether a shutdown has begun: no look begins any more.
    is_draining: bool,
    /// Whether a shutdown has cut them all: none may linger any more.
    is_cut: bool,
}

/// A race's losers. They don't keep it alive: once all legs have ended there is none to hang up on.
struct Lingering {
    until: Instant,
    winner: Option<usize>,
    is_safe: bool,
    is_look: bool,
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
        queue.push_back(Lingering { until: now + linger, winner, is_safe, is_look: false, race });
        if queue.len() == 1 {
            self.update_deadline(&queues);
        }
    }

    /// Whether losers may have a long look after a method that is safe, or isn't.
    pub fn has_looks(&self, is_safe: bool) -> bool {
        !self.linger.look.is_zero() && !self.linger.after(is_safe).is_zero()
    }

    /// Takes the losers of a decided race that are spared for this long, for a long look: they are hung up on when that is over, or at
    /// a shutdown's begin, unless the request should reach their backends.
    pub fn take_looks(&self, losers: &Arc<impl Losers + 'static>, is_safe: bool, now: Instant, time: Duration) {
        let mut queues = self.lingering.lock();
        if queues.is_cut || (queues.is_draining && is_safe) {
            drop(queues);
            return losers.hang_up_spared();
        }
        let race: Weak<dyn Losers> = Arc::<_>::downgrade(losers) as Weak<dyn Losers>;
        // Most have ended by themselves.
        queues.looks.retain(|look| look.race.strong_count() > 0);
        queues.looks.push(Lingering { until: now + time, winner: None, is_safe, is_look: true, race });
        self.update_deadline(&queues);
    }

    fn update_deadline(&self, queues: &Queues) {
        let first = |queue: &VecDeque<Lingering>| queue.front().map(|first| first.until);
        let looks = queues.looks.iter().map(|look| look.until).min();
        let next = [first(&queues.safe), first(&queues.not_safe), looks].into_iter().flatten().min();
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
        over.extend(self.looks.extract_if(.., |look| look.until <= now));
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
                Event::Drain => {
                    queues.is_draining = true;
                    let Queues { safe, looks, .. } = &mut *queues;
                    safe.drain(..).chain(looks.extract_if(.., |look| look.is_safe)).collect()
                }
                Event::Cut => {
                    queues.is_cut = true;
                    let Queues { safe, not_safe, looks, .. } = &mut *queues;
                    safe.drain(..).chain(not_safe.drain(..)).chain(looks.drain(..)).collect()
                }
                Event::Ready { .. } => Vec::new(),
            };
            self.update_deadline(&queues);
            over
        };
        for lingering in over {
            match lingering.race.upgrade() {
                Some(race) if lingering.is_look => race.hang_up_spared(),
                Some(race) => race.hang_up(lingering.winner),
                None => {}
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
    pub const NONE: Linger = Linger { safe: Duration::ZERO, not_safe: Duration::ZERO, look: Duration::ZERO };

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
        let reaper = Reaper::new(Linger { safe: second, not_safe: second * 10, ..Linger::NONE }, &poller);
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
    fn a_look_ends_when_its_time_is_over_or_with_the_others_at_a_shutdown() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let long_ago = now.checked_sub(second * 6).expect("the clock runs for six seconds");
        let spared = || {
            let race = race();
            assert!(race.claim(0).is_some());
            race.spare(&[1]);
            race
        };
        let reaper = Reaper::new(Linger { safe: second, not_safe: second, look: second * 5 }, &poller);
        let [over, get, post, late] = [(); 4].map(|()| spared());
        for (race, is_safe, at) in [(&over, true, long_ago), (&get, true, now), (&post, false, now)] {
            reaper.take(race, Some(0), is_safe, long_ago);
            reaper.take_looks(race, is_safe, at, 5 * second);
        }
        let cancelled = || [&over, &get, &post, &late].map(|race| race.token(1).is_cancelled());
        reaper.clone().on_event(Event::Expired);
        assert_eq!(cancelled(), [true, false, false, false]);
        reaper.clone().on_event(Event::Drain);
        assert_eq!(cancelled(), [true, true, false, false], "the request still reaches its backend during a drain");
        reaper.take_looks(&late, true, now, second);
        assert_eq!(cancelled(), [true, true, false, true], "none begins any more");
        reaper.clone().on_event(Event::Cut);
        assert_eq!(cancelled(), [true; 4]);
        assert!(!over.token(0).is_cancelled());
        let none = Reaper::new(Linger { safe: second, ..Linger::NONE }, &poller);
        let no_linger = Reaper::new(Linger { not_safe: second, look: second, ..Linger::NONE }, &poller);
        assert!(!none.has_looks(true) && !no_linger.has_looks(true) && no_linger.has_looks(false));
    }

    #[test]
    fn no_deadline_is_lost_between_taking_and_reaping() {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let linger = Duration::from_micros(200);
        let reaper = Reaper::new(Linger { safe: linger, not_safe: linger, ..Linger::NONE }, &poller);
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
