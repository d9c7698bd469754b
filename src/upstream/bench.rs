//! The bench of one backend: after some failures in a row it sits races out, for longer each time, until one live request that is sent
//! along as a probe has an answer. Knows nothing of backends, nor of what a leg does.

use std::time::{Duration, Instant};

use crate::runtime::sync::Mutex;
use crate::runtime::sync::atomic::{AtomicU64, Ordering};

/// The length of a first bench. In a race no client waits for the probe, so that probing early costs a request and nothing else.
const LENGTH_MIN: Duration = Duration::from_secs(1);
/// The length up to which it doubles.
const LENGTH_MAX: Duration = Duration::from_secs(60);
/// The doublings between the two.
const DOUBLINGS_MAX: u32 = 6;
/// The share by which each is longer or shorter, in percent, so that several proxies don't probe at once.
const JITTER: u64 = 20;
/// How much longer than the timeout a probe may be out before another is sent: whatever became of it, the backend isn't forgotten.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// One backend's bench.
#[derive(Debug, Default)]
pub struct Bench {
    /// Grows when a bench begins, ends, or is served anew: odd while the backend is benched. Changes under the lock.
    generation: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row, while it isn't benched.
    failures: u32,
    /// How often the next bench is twice as long.
    doublings: u32,
    /// The benches in a row so far.
    times: u32,
    /// Whether the backend has asked for this one.
    was_asked_for: bool,
    /// From when on a probe is due.
    until: Option<Instant>,
    /// The probe that is out, and until when its place is its own.
    probe: Option<(u64, Instant)>,
    /// Tells probes apart.
    probes: u64,
}

/// How a backend is benched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// From when on a probe is due: past, if none has come since.
    pub until: Instant,
    /// Whether a probe is out.
    pub is_probed: bool,
    /// Whether the backend has asked for it.
    pub was_asked_for: bool,
    /// The benches in a row so far.
    pub times: u32,
}

/// What one leg has of its backend's bench: the generation in which it started, and whether it is the probe. Whatever ends the leg
/// gives it back, once.
#[derive(Debug, Default)]
pub struct BenchTicket {
    /// One more than the generation; 0 before, and after the leg's end.
    generation: AtomicU64,
    /// Its number as a probe, from 1.
    probe: AtomicU64,
}

/// Whether a leg may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may: the backend isn't benched.
    Racing,
    /// It may, as the one probe of a benched backend.
    Probe,
    /// It may only if all others lose.
    Benched,
}

/// What a leg's end says of its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It answers.
    Answer,
    /// It has failed, and may have said for how long it wants to be left alone.
    Failure(Option<Duration>),
    /// Nothing.
    Nothing,
}

/// A change of the bench, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchChange {
    /// The backend is benched for this long, since it has failed this many times in a row.
    Failed(Duration, u32),
    /// The backend is benched for this long, as it has asked to be.
    Asked(Duration),
    /// It races again.
    Back,
}

impl Bench {
    /// Whether the backend sits races out.
    pub fn is_benched(&self) -> bool {
        is_odd(self.generation.load(Ordering::Acquire))
    }

    /// Whether the backend is benched, and its time isn't over, or a probe is out.
    pub fn sits_out(&self, now: Instant) -> bool {
        self.is_benched() && !self.state.lock().needs_probe(now)
    }

    /// How the backend is benched, if it is.
    pub fn told(&self, now: Instant) -> Option<Told> {
        let state = self.state.lock();
        let told = Told {
            until: state.until.unwrap_or(now),
            is_probed: state.probe.is_some_and(|(_, lease)| lease > now),
            was_asked_for: state.was_asked_for,
            times: state.times,
        };
        self.is_benched().then_some(told)
    }

    /// Says whether a leg may start, and gives it its ticket, in place of one from when its race began. `timeout` is the leg's; it isn't
    /// made the probe unless it may be.
    pub fn admit(&self, ticket: &BenchTicket, timeout: Duration, may_probe: bool, now: Instant) -> Admission {
        let generation = self.generation.load(Ordering::Acquire);
        ticket.generation.store(generation + 1, Ordering::Relaxed);
        if !is_odd(generation) {
            return Admission::Racing;
        }
        let mut state = self.state.lock();
        if !(may_probe && state.needs_probe(now)) || self.generation.load(Ordering::Acquire) != generation {
            return Admission::Benched;
        }
        state.probes += 1;
        state.probe = Some((state.probes, now + timeout + LEASE_MARGIN));
        ticket.probe.store(state.probes, Ordering::Relaxed);
        Admission::Probe
    }

    /// Notes the end of a leg, or what its answer says; only the first note of a leg counts. After `failures_max` failures in a row
    /// the backend is benched. `random` makes the length uneven.
    pub fn note(
        &self,
        ticket: &BenchTicket,
        finding: Finding,
        failures_max: u32,
        random: u64,
        now: Instant,
    ) -> Option<BenchChange> {
        let began = ticket.generation.swap(0, Ordering::AcqRel).checked_sub(1)?;
        let mut state = self.state.lock();
        let is_probe = state.probe.is_some_and(|(number, _)| number == ticket.probe.load(Ordering::Relaxed));
        if is_probe {
            state.probe = None;
        }
        let generation = self.generation.load(Ordering::Acquire);
        if began != generation {
            // What it says is of before.
            return None;
        }
        match finding {
            Finding::Nothing => None,
            Finding::Answer if is_odd(generation) => {
                self.end(&mut state);
                Some(BenchChange::Back)
            }
            Finding::Answer => {
                state.failures = 0;
                None
            }
            Finding::Failure(asked) if is_odd(generation) && !is_probe => {
                // All are benched, or all others have lost. It is left alone for no shorter than it asks for.
                let until = asked.map(|asked| now + asked);
                state.was_asked_for |= until > state.until;
                state.until = state.until.max(until);
                None
            }
            Finding::Failure(asked) => {
                state.failures += 1;
                let is_over = is_probe || asked.is_some() || state.failures >= failures_max;
                is_over.then(|| self.begin(&mut state, asked, random, now))
            }
        }
    }

    /// Has the backend race again, as an operator has said. Gives whether it was benched.
    pub fn resume(&self) -> bool {
        let mut state = self.state.lock();
        let was_benched = self.is_benched();
        if was_benched {
            self.end(&mut state);
        }
        was_benched
    }

    fn begin(&self, state: &mut State, asked: Option<Duration>, random: u64, now: Instant) -> BenchChange {
        let own = length(state.doublings, random);
        let length = asked.map_or(own, |asked| asked.max(own));
        let failures = std::mem::take(&mut state.failures);
        state.doublings = (state.doublings + 1).min(DOUBLINGS_MAX);
        (state.times, state.was_asked_for) = (state.times.saturating_add(1), asked.is_some());
        state.until = state.until.max(Some(now + length));
        let generation = self.generation.load(Ordering::Acquire);
        self.generation.store(generation + if is_odd(generation) { 2 } else { 1 }, Ordering::Release);
        if asked.is_some() { BenchChange::Asked(length) } else { BenchChange::Failed(length, failures) }
    }

    fn end(&self, state: &mut State) {
        *state = State { probes: state.probes, ..State::default() };
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

impl BenchTicket {
    /// Whether the leg is, or was, its backend's probe.
    pub fn is_probe(&self) -> bool {
        self.probe.load(Ordering::Relaxed) > 0
    }
}

impl State {
    /// Whether the bench's time is over, and no probe is out.
    fn needs_probe(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now) && self.probe.is_none_or(|(_, lease)| lease <= now)
    }
}

fn is_odd(generation: u64) -> bool {
    generation % 2 == 1
}

/// The length of a bench, the first of a row or doubled.
fn length(doublings: u32, random: u64) -> Duration {
    let length = LENGTH_MAX.min(LENGTH_MIN * 2_u32.pow(doublings.min(DOUBLINGS_MAX)));
    let percent = 100 - JITTER + random % (2 * JITTER + 1);
    length * u32::try_from(percent).unwrap_or(100) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(5);
    /// Neither longer nor shorter.
    const EVEN: u64 = JITTER;
    const FAILURE: Finding = Finding::Failure(None);

    /// A bench of three failures.
    struct Tried {
        bench: Bench,
        now: Instant,
    }

    impl Tried {
        fn new() -> Tried {
            Tried { bench: Bench::default(), now: Instant::now() }
        }

        fn admit(&self) -> (Admission, BenchTicket) {
            let ticket = BenchTicket::default();
            (self.bench.admit(&ticket, TIMEOUT, true, self.now), ticket)
        }

        fn note(&self, ticket: &BenchTicket, finding: Finding) -> Option<BenchChange> {
            self.bench.note(ticket, finding, 3, EVEN, self.now)
        }

        /// A leg that starts and ends so.
        fn leg(&self, finding: Finding) -> Option<BenchChange> {
            self.note(&self.admit().1, finding)
        }

        /// One that is benched after three failures.
        fn benched() -> Tried {
            let tried = Tried::new();
            assert_eq!([(); 3].map(|()| tried.leg(FAILURE)), [None, None, Some(BenchChange::Failed(SECOND, 3))]);
            tried
        }

        fn probe(&mut self, after: Duration) -> BenchTicket {
            self.now += after;
            let (admission, ticket) = self.admit();
            assert!(admission == Admission::Probe && ticket.is_probe());
            ticket
        }
    }

    #[test]
    fn failures_in_a_row_bench_a_backend_and_any_other_answer_ends_the_row() {
        let tried = Tried::new();
        for finding in [FAILURE, FAILURE, Finding::Answer, FAILURE, FAILURE, Finding::Nothing] {
            assert_eq!((tried.leg(finding), tried.bench.is_benched()), (None, false));
        }
        assert_eq!(tried.leg(FAILURE), Some(BenchChange::Failed(SECOND, 3)));
        assert_eq!((tried.bench.is_benched(), tried.admit().0), (true, Admission::Benched));
    }

    #[test]
    fn one_request_is_the_probe_and_its_success_ends_bench_and_doubling() {
        let mut tried = Tried::benched();
        tried.now += Duration::from_millis(999);
        assert_eq!(tried.admit().0, Admission::Benched);
        let probe = tried.probe(Duration::from_millis(1));
        assert_eq!(tried.admit().0, Admission::Benched, "one at a time");
        assert_eq!(tried.note(&probe, Finding::Answer), Some(BenchChange::Back));
        assert_eq!((tried.bench.is_benched(), tried.admit().0), (false, Admission::Racing));
        assert_eq!([(); 3].map(|()| tried.leg(FAILURE))[2], Some(BenchChange::Failed(SECOND, 3)), "as if it were new");
    }

    #[test]
    fn a_failed_probe_benches_for_twice_as_long_up_to_a_minute() {
        let mut tried = Tried::benched();
        let mut length = 1;
        for next in [2, 4, 8, 16, 32, 60, 60] {
            let probe = tried.probe(length * SECOND);
            assert_eq!(tried.note(&probe, FAILURE), Some(BenchChange::Failed(next * SECOND, 1)));
            assert_eq!(tried.admit().0, Admission::Benched);
            length = next;
        }
    }

    #[test]
    fn each_length_is_a_fifth_longer_or_shorter_at_most() {
        for (random, millis) in [(0, 800), (JITTER, 1000), (2 * JITTER, 1200), (2 * JITTER + 1, 800), (u64::MAX, 1000)]
        {
            let found = length(0, random);
            assert!((800..=1200).contains(&found.as_millis()), "{random}: {found:?}");
            if random <= 2 * JITTER + 1 {
                assert_eq!(found.as_millis(), millis, "{random}");
            }
        }
    }

    #[test]
    fn a_probe_that_ends_without_a_verdict_changes_nothing_and_the_next_request_probes() {
        let mut tried = Tried::benched();
        let probe = tried.probe(SECOND);
        assert_eq!((tried.note(&probe, Finding::Nothing), tried.bench.is_benched()), (None, true));
        let next = tried.probe(Duration::ZERO);
        assert_eq!(tried.note(&next, FAILURE), Some(BenchChange::Failed(2 * SECOND, 1)));
    }

    #[test]
    fn a_probe_has_its_place_for_its_timeout_and_a_second_and_ends_once() {
        let mut tried = Tried::benched();
        let lost = tried.probe(SECOND);
        tried.now += TIMEOUT;
        assert_eq!(tried.admit().0, Admission::Benched);
        let next = tried.probe(SECOND);
        assert_eq!(tried.note(&lost, FAILURE), None, "it isn't the probe any more");
        assert_eq!(tried.admit().0, Admission::Benched, "and frees no other's place");
        assert_eq!(tried.note(&next, Finding::Answer), Some(BenchChange::Back));
        assert_eq!((tried.note(&next, FAILURE), tried.note(&lost, FAILURE)), (None, None), "each counts once");
    }

    #[test]
    fn late_ends_of_what_began_before_count_no_more() {
        let mut tried = Tried::new();
        let early: Vec<BenchTicket> = (0..9).map(|_| tried.admit().1).collect();
        for ticket in &early[..3] {
            tried.note(ticket, FAILURE);
        }
        assert!(tried.bench.is_benched());
        assert_eq!(tried.note(&early[3], Finding::Answer), None, "the backend was well then");
        let probe = tried.probe(SECOND);
        assert_eq!(tried.note(&early[4], FAILURE), None);
        assert_eq!(tried.admit().0, Admission::Benched, "the probe is still out");
        tried.note(&probe, Finding::Answer);
        for ticket in &early[5..] {
            assert_eq!(tried.note(ticket, FAILURE), None);
        }
        assert!(!tried.bench.is_benched());
    }

    #[test]
    fn a_leg_that_is_asked_though_benched_may_end_the_bench_and_not_lengthen_it() {
        let mut tried = Tried::benched();
        let (last_resort, ticket) = tried.admit();
        assert_eq!((last_resort, tried.note(&ticket, FAILURE)), (Admission::Benched, None));
        let probe = tried.probe(SECOND);
        tried.note(&probe, Finding::Nothing);
        assert_eq!(tried.leg(FAILURE), Some(BenchChange::Failed(2 * SECOND, 1)), "that was a probe");
        assert_eq!(tried.leg(Finding::Answer), Some(BenchChange::Back));
    }

    #[test]
    fn what_a_backend_asks_for_is_the_least_that_it_gets() {
        let asked = |seconds: u64| Finding::Failure(Some(Duration::from_secs(seconds)));
        let mut tried = Tried::new();
        assert_eq!(tried.leg(asked(30)), Some(BenchChange::Asked(30 * SECOND)), "at once");
        let probe = tried.probe(30 * SECOND);
        assert_eq!(tried.note(&probe, asked(1)), Some(BenchChange::Asked(2 * SECOND)), "the doubling is longer");
        assert_eq!(tried.leg(asked(10)), None, "it is benched already");
        tried.now += 9 * SECOND;
        assert_eq!(tried.admit().0, Admission::Benched, "it gets no probe meanwhile");
        assert_eq!(tried.leg(asked(1)), None, "that shortens nothing");
        tried.probe(SECOND);
    }

    #[test]
    fn an_operator_may_end_a_bench() {
        let tried = Tried::benched();
        let late = tried.admit().1;
        assert!(tried.bench.resume() && !tried.bench.is_benched() && !tried.bench.resume());
        assert_eq!((tried.note(&late, FAILURE), tried.admit().0), (None, Admission::Racing));
    }

    #[test]
    fn a_leg_that_may_not_probe_leaves_that_to_the_next() {
        let mut tried = Tried::benched();
        tried.now += SECOND;
        let ticket = BenchTicket::default();
        assert_eq!(tried.bench.admit(&ticket, TIMEOUT, false, tried.now), Admission::Benched);
        tried.probe(Duration::ZERO);
    }

    #[test]
    fn a_bench_tells_until_when_it_is_and_why_and_how_many_there_were() {
        let mut tried = Tried::benched();
        let told = |tried: &Tried| {
            let told = tried.bench.told(tried.now)?;
            Some((told.until, told.is_probed, told.was_asked_for, told.times))
        };
        let due = tried.now + SECOND;
        assert_eq!(told(&tried), Some((due, false, false, 1)));
        tried.now += 2 * SECOND;
        assert_eq!(told(&tried), Some((due, false, false, 1)), "no request has come since");
        let probe = tried.probe(Duration::ZERO);
        assert_eq!(told(&tried), Some((due, true, false, 1)));
        tried.now += TIMEOUT + SECOND;
        assert_eq!(told(&tried), Some((due, false, false, 1)), "it is given up");
        tried.note(&probe, Finding::Failure(Some(30 * SECOND)));
        assert_eq!(told(&tried), Some((tried.now + 30 * SECOND, false, true, 2)));
        tried.bench.resume();
        assert_eq!(told(&tried), None);
    }
}
