//! Holds the losers of decided races until their time is over, then hangs up on them.
//! Driven by the poller's clock; knows nothing of what the races were about.

use std::time::{Duration, Instant};

use crate::runtime::cancel::Losers;
use crate::runtime::delay_queue::{DelayPlace, DelayQueue};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// The time for which losers may linger after the verdict. Zero hangs up on them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    /// After a safe method (RFC 9110 §9.2.1): no client needs their answers, but their connections can be used again.
    pub safe: Duration,
    /// After any other method: the request should reach every backend whole.
    pub not_safe: Duration,
    /// Of a loser that has its backend's long look, if the backend has no timeout of its own: more than that takes. Zero: there are
    /// no such looks.
    pub look: Duration,
}

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
    safe: DelayQueue<Lingering>,
    not_safe: DelayQueue<Lingering>,
    /// Those that are spared for a long look or as probes: a few, since each backend has one of each at a time. In no order.
    looks: Vec<Look>,
    /// When the poller wakes the reaper: what lingered until then may have ended since.
    wakes_at: Option<Instant>,
    /// Whether a shutdown has begun: no look begins any more.
    is_draining: bool,
    /// Whether a shutdown has cut them all: none may linger any more.
    is_cut: bool,
}

/// A race's losers. They don't keep it alive: once all legs have ended there is none to hang up on.
struct Lingering {
    winner: Option<usize>,
    race: Weak<dyn Losers>,
}

/// A race's losers that are spared for a time.
struct Look {
    until: Instant,
    is_safe: bool,
    race: Weak<dyn Losers>,
}

/// The place of a race's losers among those that linger.
#[derive(Debug, Clone, Copy)]
pub struct LingerPlace {
    is_safe: bool,
    place: DelayPlace,
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

    /// Takes the losers of a decided race: they are hung up on at once or when their linger is over. Gives their place, if they linger.
    pub fn take(
        &self,
        losers: &Arc<impl Losers + 'static>,
        winner: Option<usize>,
        is_safe: bool,
        now: Instant,
    ) -> Option<LingerPlace> {
        let linger = self.linger.after(is_safe);
        let mut queues = self.lingering.lock();
        if linger.is_zero() || queues.is_cut {
            drop(queues);
            losers.hang_up(winner);
            return None;
        }
        let race: Weak<dyn Losers> = Arc::<_>::downgrade(losers) as Weak<dyn Losers>;
        let place = queues.of(is_safe).push(now + linger, Lingering { winner, race });
        self.wake_by(&mut queues, now + linger);
        Some(LingerPlace { is_safe, place })
    }

    /// Frees a race that has no loser left: even a weak reference keeps its memory.
    pub fn withdraw(&self, place: LingerPlace) {
        let lingering = self.lingering.lock().of(place.is_safe).withdraw(place.place);
        // Out of the lock: it may free memory.
        drop(lingering);
    }

    /// How many races linger, with those that have ended before others did.
    pub fn count(&self) -> usize {
        let queues = self.lingering.lock();
        queues.safe.count() + queues.not_safe.count() + queues.looks.len()
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
        queues.looks.push(Look { until: now + time, is_safe, race });
        self.wake_by(&mut queues, now + time);
    }

    fn wake_by(&self, queues: &mut Queues, time: Instant) {
        if queues.wakes_at.is_none_or(|wakes_at| time < wakes_at) {
            self.wake_at(queues, Some(time));
        }
    }

    fn wake_at(&self, queues: &mut Queues, time: Option<Instant>) {
        queues.wakes_at = time;
        self.registration.set_deadline(time);
    }
}

impl Queues {
    fn of(&mut self, is_safe: bool) -> &mut DelayQueue<Lingering> {
        if is_safe { &mut self.safe } else { &mut self.not_safe }
    }

    /// Takes out the losers whose time is over by this event.
    fn over(&mut self, event: Event) -> (Vec<Lingering>, Vec<Look>) {
        let (mut over, now) = (Vec::new(), Instant::now());
        let looks = match event {
            Event::Expired => {
                for queue in [&mut self.safe, &mut self.not_safe] {
                    over.extend(std::iter::from_fn(|| queue.pop_due(now)));
                }
                self.looks.extract_if(.., |look| look.until <= now).collect()
            }
            // Their connections won't be used again; a request that isn't safe still reaches its backends.
            Event::Drain => {
                self.is_draining = true;
                over.extend(std::iter::from_fn(|| self.safe.pop()));
                self.looks.extract_if(.., |look| look.is_safe).collect()
            }
            Event::Cut => {
                self.is_cut = true;
                for queue in [&mut self.safe, &mut self.not_safe] {
                    over.extend(std::iter::from_fn(|| queue.pop()));
                }
                std::mem::take(&mut self.looks)
            }
            Event::Ready { .. } => Vec::new(),
        };
        (over, looks)
    }

    fn next_due(&self) -> Option<Instant> {
        let looks = self.looks.iter().map(|look| look.until).min();
        [self.safe.next_due(), self.not_safe.next_due(), looks].into_iter().flatten().min()
    }
}

impl EventHandler for Reaper {
    fn on_event(self: Arc<Self>, event: Event) {
        let (over, looks) = {
            let mut queues = self.lingering.lock();
            let over = queues.over(event);
            let next = queues.next_due();
            self.wake_at(&mut queues, next);
            over
        };
        for Lingering { winner, race } in over {
            if let Some(race) = race.upgrade() {
                race.hang_up(winner);
            }
        }
        for race in looks.into_iter().filter_map(|look| look.race.upgrade()) {
            race.hang_up_spared();
        }
    }
}

impl std::fmt::Debug for Reaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaper").field("linger", &self.linger).field("count", &self.count()).finish_non_exhaustive()
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
    use crate::race::{Race, Verdict};

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
    fn a_race_without_losers_is_freed_at_once_and_keeps_no_other_from_being_hung_up_on() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let second = Duration::from_secs(1);
        let reaper = Reaper::new(Linger { safe: second, not_safe: second * 2, ..Linger::NONE }, &poller);
        let (ended, get, post) = (race(), race(), race());
        let then = Instant::now().checked_sub(second * 2).expect("the clock runs for two seconds");
        let place = reaper.take(&ended, Some(0), true, then).expect("it lingers");
        reaper.take(&get, Some(0), true, then);
        reaper.take(&post, Some(0), false, then);
        reaper.withdraw(place);
        assert_eq!(([&ended, &get].map(Arc::weak_count), reaper.count()), ([0, 1], 2));
        reaper.clone().on_event(Event::Expired);
        reaper.withdraw(place);
        assert_eq!([&ended, &get, &post].map(|race| race.token(1).is_cancelled()), [false, true, true]);
        assert_eq!((reaper.count(), reaper.lingering.lock().wakes_at), (0, None));
    }

    #[test]
    fn a_look_ends_when_its_time_is_over_or_with_the_others_at_a_shutdown() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let long_ago = now.checked_sub(second * 6).expect("the clock runs for six seconds");
        let spared = || {
            let race = race();
            assert!(race.claim(0, Verdict::Won).is_some());
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
