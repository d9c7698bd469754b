//! Holds the losers of decided races until their time is over, then hangs up on them.
//! Driven by the poller's clock; knows nothing of what the races were about.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Linger, Losers};
use crate::poller::{Owner, Poller, Turn, Watch};

/// The losers that linger. A constant linger makes deadlines first in, first out: one queue for each kind.
pub struct Reaper {
    linger: Linger,
    safe: Mutex<VecDeque<Lingering>>,
    not_safe: Mutex<VecDeque<Lingering>>,
    watch: OnceLock<Watch>,
}

/// A race's losers. It is not kept alive by them: once all legs have ended there is nobody to hang up on.
struct Lingering {
    until: Instant,
    winner: usize,
    race: Weak<dyn Losers>,
}

impl Reaper {
    /// A reaper that gets its turns from the poller.
    pub fn new(linger: Linger, poller: &Poller) -> Arc<Reaper> {
        let (safe, not_safe) = (Mutex::default(), Mutex::default());
        let reaper = Arc::new(Reaper { linger, safe, not_safe, watch: OnceLock::new() });
        let _ = reaper.watch.set(poller.alarm(reaper.clone()));
        reaper
    }

    /// The race is decided: its losers are hung up on at once or when their linger is over.
    pub fn take(&self, losers: &Arc<impl Losers + 'static>, winner: usize, is_safe: bool, now: Instant) {
        let linger = if is_safe { self.linger.safe } else { self.linger.not_safe };
        if linger.is_zero() {
            return losers.hang_up(winner);
        }
        let race: Weak<dyn Losers> = Arc::<_>::downgrade(losers) as Weak<dyn Losers>;
        let mut queue = lock(if is_safe { &self.safe } else { &self.not_safe });
        queue.push_back(Lingering { until: now + linger, winner, race });
        if queue.len() == 1 {
            drop(queue);
            self.set_alarm();
        }
    }

    /// Hangs up on every loser of a safe method, whatever time it has left.
    pub fn reap_safe(&self) {
        reap(&self.safe, None);
    }

    fn set_alarm(&self) {
        let first = |queue: &Mutex<VecDeque<Lingering>>| lock(queue).front().map(|first| first.until);
        let next = first(&self.safe).into_iter().chain(first(&self.not_safe)).min();
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(next);
        }
    }
}

impl Owner for Reaper {
    fn turn(self: Arc<Self>, turn: Turn) {
        match turn {
            Turn::Expired => {
                let now = Instant::now();
                reap(&self.safe, Some(now));
                reap(&self.not_safe, Some(now));
                self.set_alarm();
            }
            Turn::Drain => self.reap_safe(),
            Turn::Cut => {
                self.reap_safe();
                reap(&self.not_safe, None);
            }
            Turn::Ready { .. } => {}
        }
    }
}

/// Hangs up on those whose time is over at `now`, or on all.
fn reap(queue: &Mutex<VecDeque<Lingering>>, now: Option<Instant>) {
    loop {
        let lingering = {
            let mut queue = lock(queue);
            match queue.front() {
                Some(first) if now.is_none_or(|now| first.until <= now) => queue.pop_front(),
                _ => None,
            }
        };
        let Some(lingering) = lingering else { return };
        if let Some(race) = lingering.race.upgrade() {
            race.hang_up(lingering.winner);
        }
    }
}

fn lock(queue: &Mutex<VecDeque<Lingering>>) -> MutexGuard<'_, VecDeque<Lingering>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Reaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaper").field("linger", &self.linger).finish_non_exhaustive()
    }
}

/// The linger of a race without lingering losers.
impl Linger {
    /// Losers are hung up on at once.
    pub const NONE: Linger = Linger { safe: Duration::ZERO, not_safe: Duration::ZERO };
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
        reaper.take(&get, 0, true, then);
        reaper.take(&post, 0, false, then);
        assert!(!get.token(1).is_cancelled());
        reaper.clone().turn(Turn::Expired);
        assert!(get.token(1).is_cancelled() && !get.token(0).is_cancelled());
        assert!(!post.token(1).is_cancelled());
        reaper.clone().turn(Turn::Drain);
        assert!(!post.token(1).is_cancelled(), "the request still reaches its backend while the house drains");
        reaper.clone().turn(Turn::Cut);
        assert!(post.token(1).is_cancelled());
    }

    #[test]
    fn without_linger_losers_are_hung_up_on_at_once() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let reaper = Reaper::new(Linger::NONE, &poller);
        let race = race();
        reaper.take(&race, 1, true, Instant::now());
        assert!(race.token(0).is_cancelled() && !race.token(1).is_cancelled());
    }
}
