//! Counts the requests that one backend has left unanswered: beyond a bound its legs are deferred, so that a hung backend costs
//! nothing that grows. One that has also let a request wait to its timeout hangs, and is asked once a second until it answers: one
//! that is only slower than losers may linger never does. On a path that it hasn't been seen to leave unanswered it is given the
//! benefit of the doubt. Knows nothing of backends or of what a leg does.

use std::time::{Duration, Instant};

use crate::message::fnv1a;
use crate::runtime::sync::Mutex;
use crate::runtime::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The time after which a leg is admitted all the same: else the backend's recovery would go unnoticed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The count of path keys. Paths are told apart by a byte of their hash: of two paths one in 256 pairs counts as one.
const PATHS: usize = 256;
/// The shortest time between two findings that the backend hangs: one that answers every now and then would fill the log.
const HANG_INTERVAL: Duration = Duration::from_secs(10);
/// The share of the bound that a path may leave unanswered before its legs are deferred, too. A quick backend answers before
/// as many more legs have lost.
const PATH_SHARE: usize = 8;

/// A path, as far as the breaker remembers which requests for it were left unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathKey(u8);

/// The most losers that may be pending at a backend that answers now and then, as a multiple of the bound: each costs a
/// descriptor.
const PENDING_FACTOR: usize = 8;

/// One backend's circuit breaker: counts the legs that have lost their race there without an answer, and decides whether one
/// more may start.
#[derive(Debug)]
pub struct Breaker {
    /// The losers since the last answer. Both counts change under the lock.
    unanswered: AtomicUsize,
    /// All losers that haven't ended.
    pending: AtomicUsize,
    /// A request has waited to its timeout since the last answer, or its begin.
    has_timed_out: AtomicBool,
    /// Whether it was found that the backend hangs.
    is_hung: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Grows with each answer that came after unanswered losers.
    generation: u64,
    /// The time of the backend's last answer.
    last_answer: Option<Instant>,
    probed: Option<Instant>,
    /// When it was last found that the backend hangs.
    hung: Option<Instant>,
    /// Legs that were admitted beyond the bound since the last answer, for the sake of their path.
    guests: usize,
    paths: [Path; PATHS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Path {
    /// The count of losers that the backend has left unanswered since its last answer on this path.
    unanswered: u8,
    /// The backend has answered on this path, and no leg was deferred since. Half of the guests' places are for such paths.
    is_known: bool,
}

/// Whether one leg counts as pending. It does so from the verdict to its own end, and as unanswered up to the next answer of
/// its backend to any request.
#[derive(Debug, Default)]
pub struct PendingRequest(AtomicU64);

const RUNNING: u64 = 0;
const ENDED: u64 = 1;
/// From here on the leg is pending, since the generation that is added.
const PENDING: u64 = 2;

impl PathKey {
    /// The key of a path.
    pub fn of(path: &str) -> PathKey {
        let [first, second, ..] = fnv1a(path.as_bytes()).to_le_bytes();
        PathKey(first ^ second)
    }
}

impl Breaker {
    /// Admits one more leg if the backend doesn't hang and fewer than `max` wait unanswered since the last answer, or its path has
    /// hardly left any unanswered, or it is time to try again. However many paths there are, no more than twice `max` wait at a backend that
    /// doesn't answer, but for what is under way, and those that it has answered before have places of their own. Takes the
    /// place or the probe.
    pub fn try_admit(&self, max: usize, path: PathKey, now: Instant) -> bool {
        if !self.is_full(max) && !self.is_hung() {
            return true;
        }
        let mut state = self.state.lock();
        let guests = state.guests;
        let path = &mut state.paths[usize::from(path.0)];
        let guests_max = if path.is_known { max } else { max.div_ceil(2) };
        if usize::from(path.unanswered) >= (max / PATH_SHARE).clamp(1, usize::from(u8::MAX)) {
            path.is_known = false;
        } else if guests < guests_max {
            state.guests += 1;
            return true;
        }
        let is_due = state.probed.is_none_or(|at| now.saturating_duration_since(at) >= PROBE_INTERVAL);
        if is_due {
            state.probed = Some(now);
        }
        is_due
    }

    /// Whether legs may be deferred now: as many losers wait there as may.
    pub fn is_full(&self, max: usize) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= max || self.count() >= max.saturating_mul(PENDING_FACTOR)
    }

    /// Whether it hangs: until it answers, only probes and a few paths get through, however many wait there by then.
    pub fn is_hung(&self) -> bool {
        self.is_hung.load(Ordering::Relaxed)
    }

    /// Whether a request that one backend gets alone goes to another first: as many losers wait there as may, or it hangs and has been probed
    /// lately. Without probes nothing would tell that it answers again.
    pub fn is_last_choice(&self, max: usize, now: Instant) -> bool {
        let is_probed = || self.state.lock().probed.is_some_and(|at| now.saturating_duration_since(at) < HANG_INTERVAL);
        self.is_full(max) || (self.is_hung() && is_probed())
    }

    /// Finds that the backend hangs, if `max` requests wait there unanswered, and one has waited to its timeout, since the last answer. Gives
    /// whether that is news; it isn't again soon.
    pub fn try_find_hung(&self, max: usize, now: Instant) -> bool {
        if self.unanswered.load(Ordering::Relaxed) < max || self.is_hung() {
            return false;
        }
        let mut state = self.state.lock();
        let is_soon = state.hung.is_some_and(|at| now.saturating_duration_since(at) < HANG_INTERVAL);
        if is_soon || !self.has_timed_out.load(Ordering::Relaxed) || self.unanswered.load(Ordering::Relaxed) < max {
            return false;
        }
        state.hung = Some(now);
        !self.is_hung.swap(true, Ordering::Relaxed)
    }

    /// Notes that a request has waited to its timeout, since this time. If others were answered meanwhile, it says nothing.
    pub fn note_timeout(&self, since: Instant) {
        if self.last_answer().is_none_or(|at| at < since) {
            self.has_timed_out.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that an answer has begun, so the backend doesn't hang, whatever it leaves unanswered: of a loser that is as much as may be
    /// seen. Gives whether it was found to hang.
    pub fn note_head(&self) -> bool {
        // Mostly neither: a look is cheaper than a change.
        if self.has_timed_out.load(Ordering::Relaxed) {
            self.has_timed_out.store(false, Ordering::Relaxed);
        }
        self.is_hung() && self.is_hung.swap(false, Ordering::Relaxed)
    }

    /// Notes that the backend has answered a request for this path, so it isn't hung. Gives whether it was found to hang.
    pub fn note_answer(&self, path: PathKey, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.last_answer = Some(now);
        state.guests = 0;
        state.paths[usize::from(path.0)] = Path { unanswered: 0, is_known: true };
        // Mostly neither: a look is cheaper than a change. Both change under the lock alone.
        if self.unanswered.load(Ordering::Relaxed) > 0 {
            self.unanswered.store(0, Ordering::Relaxed);
            state.generation += 1;
        }
        self.note_head()
    }

    /// The time of the backend's last answer.
    pub fn last_answer(&self) -> Option<Instant> {
        self.state.lock().last_answer
    }

    /// The count of losers that haven't ended.
    pub fn count(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Counts a leg whose race is decided, unless it has ended.
    pub fn add(&self, pending: &PendingRequest, path: PathKey) {
        let mut state = self.state.lock();
        let since = PENDING + state.generation;
        if pending.0.compare_exchange(RUNNING, since, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let path = &mut state.paths[usize::from(path.0)];
            path.unanswered = path.unanswered.saturating_add(1);
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            self.pending.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the leg no more: it has ended.
    pub fn remove(&self, pending: &PendingRequest) {
        let was = pending.0.swap(ENDED, Ordering::AcqRel);
        if was < PENDING {
            return;
        }
        let state = self.state.lock();
        self.pending.fetch_sub(1, Ordering::Relaxed);
        if was == PENDING + state.generation {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        let paths = [Path::default(); PATHS];
        let state = State { generation: 0, last_answer: None, probed: None, hung: None, guests: 0, paths };
        Breaker {
            unanswered: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            has_timed_out: AtomicBool::new(false),
            is_hung: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: PathKey = PathKey(1);
    const QUICK: PathKey = PathKey(2);

    /// Adds `count` losers that wait on this path.
    fn add(breaker: &Breaker, path: PathKey, count: usize) -> Vec<PendingRequest> {
        let pending: Vec<PendingRequest> = std::iter::repeat_with(PendingRequest::default).take(count).collect();
        for pending in &pending {
            breaker.add(pending, path);
        }
        pending
    }

    /// Whether a leg is admitted that isn't a probe.
    fn try_admit(breaker: &Breaker, path: PathKey, now: Instant) -> bool {
        breaker.state.lock().probed = Some(now);
        breaker.try_admit(128, path, now)
    }

    #[test]
    fn a_loser_counts_from_the_verdict_to_its_end_whichever_comes_first() {
        let breaker = Breaker::default();
        let (late, early) = (PendingRequest::default(), PendingRequest::default());
        breaker.add(&late, SLOW);
        assert_eq!(breaker.count(), 1);
        breaker.remove(&late);
        breaker.remove(&early);
        breaker.add(&early, SLOW);
        assert_eq!(breaker.count(), 0);
    }

    #[test]
    fn beyond_the_bound_one_leg_a_second_is_a_probe() {
        let breaker = Breaker::default();
        let now = Instant::now();
        assert!(breaker.try_admit(2, SLOW, now));
        let pending = add(&breaker, SLOW, 2);
        assert!(breaker.try_admit(2, SLOW, now), "the first probe");
        assert!(!breaker.try_admit(2, SLOW, now + PROBE_INTERVAL / 2));
        assert!(breaker.try_admit(2, SLOW, now + PROBE_INTERVAL), "the second probe");
        breaker.remove(&pending[0]);
        assert!(breaker.try_admit(2, SLOW, now + PROBE_INTERVAL));
    }

    #[test]
    fn an_answer_to_anything_clears_the_backend_of_what_it_left_unanswered_before() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let before = add(&breaker, SLOW, 200);
        assert!(!try_admit(&breaker, SLOW, now));
        breaker.note_answer(QUICK, now);
        assert!(breaker.count() == 200 && try_admit(&breaker, SLOW, now));
        let after = add(&breaker, SLOW, 128);
        for pending in &before {
            breaker.remove(pending);
        }
        assert!(breaker.count() == 128 && !try_admit(&breaker, SLOW, now), "those of before don't count twice");
        for pending in &after {
            breaker.remove(pending);
        }
        assert_eq!(breaker.count(), 0);
    }

    #[test]
    fn a_backend_that_times_out_and_leaves_many_unanswered_hangs_until_it_answers_and_not_again_soon() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let soon = now + Duration::from_millis(1);
        let leaves_two_unanswered = || {
            breaker.note_timeout(soon);
            add(&breaker, SLOW, 2)
        };
        breaker.note_timeout(now);
        assert!(!breaker.try_find_hung(2, now) && !breaker.note_answer(SLOW, now));
        let _pending = leaves_two_unanswered();
        assert!(breaker.try_find_hung(2, now) && !breaker.try_find_hung(2, now + 2 * HANG_INTERVAL));
        assert!(breaker.note_answer(QUICK, now) && !breaker.note_answer(QUICK, now));
        let _pending = leaves_two_unanswered();
        assert!(!breaker.try_find_hung(2, now + HANG_INTERVAL / 2), "not soon");
        assert!(!breaker.note_answer(QUICK, now), "what wasn't found isn't over");
        let _pending = leaves_two_unanswered();
        assert!(breaker.try_find_hung(2, now + HANG_INTERVAL));
    }

    /// Was seen as: a backend that answered each request after 300 ms, beside a quick one, was called hung each ten seconds.
    #[test]
    fn a_backend_that_is_slower_than_losers_may_linger_is_not_hung_however_many_wait_there() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.note_timeout(now);
        breaker.note_answer(SLOW, now);
        breaker.note_timeout(now);
        for _ in 0..100 {
            let pending = add(&breaker, SLOW, 128);
            assert!(!breaker.try_find_hung(128, now) && !try_admit(&breaker, SLOW, now));
            for pending in &pending {
                breaker.remove(pending);
            }
            assert!(try_admit(&breaker, SLOW, now), "there is room again");
        }
    }

    /// Was seen as: of a hung backend's losers, which are hung up on after 200 ms, others took the places, hundreds a second.
    #[test]
    fn a_hung_backend_gets_one_leg_a_second_though_its_losers_have_ended() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let pending = add(&breaker, SLOW, 128);
        breaker.note_timeout(now);
        assert!(breaker.try_find_hung(128, now));
        for pending in &pending {
            breaker.remove(pending);
        }
        assert!(breaker.count() == 0 && breaker.try_admit(128, SLOW, now), "the probe");
        assert!(!breaker.try_admit(128, SLOW, now + PROBE_INTERVAL / 2));
        assert!(breaker.try_admit(128, SLOW, now + PROBE_INTERVAL));
        let asked_alone = |age| breaker.is_last_choice(128, now + age);
        assert!(asked_alone(PROBE_INTERVAL) && !asked_alone(PROBE_INTERVAL + HANG_INTERVAL), "it is probed no more");
        assert!(breaker.note_head() && !breaker.is_hung() && try_admit(&breaker, SLOW, now), "an answer has begun");
    }

    /// Was seen as: eight connections that asked often for what was slow at one backend had it skipped for everything else.
    #[test]
    fn a_path_that_is_left_unanswered_costs_no_other_path_its_legs() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..1000 {
            let _pending = add(&breaker, SLOW, 128);
            assert!(!try_admit(&breaker, SLOW, now) && try_admit(&breaker, QUICK, now));
            // It has lost before its answer is received.
            let pending = PendingRequest::default();
            breaker.add(&pending, QUICK);
            breaker.note_answer(QUICK, now);
            breaker.remove(&pending);
        }
        assert!(!try_admit(&breaker, SLOW, now), "thousands wait there by now");
    }

    #[test]
    fn a_path_that_has_been_answered_has_its_legs_however_many_others_are_not() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.note_answer(QUICK, now);
        let mut strangers = 0;
        for key in (0..=u8::MAX).map(PathKey).filter(|key| *key != QUICK) {
            if try_admit(&breaker, key, now) {
                strangers += 1;
                add(&breaker, key, 1);
            }
        }
        assert_eq!(strangers, 128 + 64);
        let known = std::iter::repeat_with(|| try_admit(&breaker, QUICK, now)).take_while(|admitted| *admitted).count();
        assert_eq!(known, 64);
        breaker.note_answer(QUICK, now);
        assert!(try_admit(&breaker, QUICK, now), "an answer frees all places");
    }

    #[test]
    fn a_backend_that_has_hung_gets_few_more_however_many_paths_there_are() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for key in 0..=u8::MAX {
            breaker.note_answer(PathKey(key), now);
        }
        let mut admitted = 0;
        for _ in 0..100 {
            for key in 0..=u8::MAX {
                if try_admit(&breaker, PathKey(key), now) {
                    admitted += 1;
                    add(&breaker, PathKey(key), 1);
                }
            }
        }
        assert_eq!(admitted, 2 * 128);
        assert!(try_admit(&Breaker::default(), SLOW, now));
    }

    #[test]
    fn paths_that_differ_a_little_have_keys_of_their_own() {
        let mut keys: Vec<u8> = (0..100).map(|number| PathKey::of(&format!("/item/{number}")).0).collect();
        keys.sort_unstable();
        keys.dedup();
        assert!(keys.len() > 70, "{} of 100", keys.len());
        let of = |path: &str| PathKey::of(path);
        assert!(of("/slow") != of("/fast") && of("/slow") != of("/") && of("/a") != of("/b") && of("") == of(""));
    }
}
