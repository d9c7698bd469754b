//! What one backend has done and what it has bought, by number. Counts only grow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::histogram::{Changes, Histogram, micros_of};
use crate::message::Outcome;
use crate::runtime::sync::Mutex;

/// How legs end, as metrics call it: an answer that counts by whether it won, one that doesn't by whether it ended its race or
/// else by its class, all others by their outcome's word.
pub const ENDS: [&str; 22] = [
    "won",
    "final",
    "late",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "refused",
    "unreachable",
    "connect-timeout",
    "timeout",
    "reset",
    "closed",
    "protocol",
    "too-large",
    "unfit",
    "tls",
    "dns",
    "loop",
    "no-socket",
    "skipped",
    "cancelled",
];
/// The ends that are answers which count, or which ended their race.
pub const ANSWERS: [&str; 3] = ["won", "final", "late"];

/// Whether a leg that ended so has failed, by the word: its backend is to blame, or this host.
pub fn is_failure(end: &str) -> bool {
    !ANSWERS.contains(&end) && !["skipped", "cancelled"].contains(&end)
}

/// Why a backend is benched, as metrics call it: since it has failed often in a row, or since it has asked for a pause.
const BENCH_REASONS: [&str; 2] = ["failures", "retry-after"];

/// The word for one of the two.
pub fn bench_reason(was_asked_for: bool) -> &'static str {
    BENCH_REASONS[usize::from(was_asked_for)]
}

/// A bug in the proxy.
pub const PANIC: &str = "panic";
/// Ends that need an option: metrics tell them once there is one.
const RARE: [&str; 3] = ["final", "2xx", "unfit"];
/// A leg that wasn't started, which counts for nothing.
pub(super) const UNNEEDED: &str = "unneeded";

/// One leg of a race that is over.
#[derive(Debug, Clone, Copy)]
pub struct LegEnd<'a> {
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Whether its answer has decided the race, and is no failure of its backend by that.
    pub has_won: bool,
    /// Whether its answer would have won if it had been the first.
    pub is_success: bool,
    /// When it started, counted from the race's begin.
    pub started: Duration,
    /// When it ended, from the same instant: of an answer when its head was complete.
    pub ended: Duration,
}

/// The counts of one backend. Counting takes no lock, but for a failure.
#[derive(Debug)]
pub struct BackendStats {
    ends: [AtomicU64; ENDS.len() + 1],
    /// From a leg's start to the complete head of an answer that counts.
    answers: Histogram,
    /// In microseconds.
    saved: AtomicU64,
    rescues: AtomicU64,
    unmeasured: AtomicU64,
    /// What clients would have waited without it.
    without: Changes,
    differing: AtomicU64,
    broken: AtomicU64,
    /// Whether an answer has once had the `ETag` of the winner's: else each backend may have its own.
    has_had_same_etag: AtomicBool,
    /// How often it was benched: for failures, and as it has asked to be.
    benched: [AtomicU64; 2],
    listed: SystemTime,
    /// In milliseconds since 1970; 0 before the first.
    last_success: AtomicU64,
    last_failure: Mutex<Option<(SystemTime, &'static str)>>,
}

impl LegEnd<'_> {
    /// Its place in [`ENDS`], or behind them for a panic.
    fn index(&self) -> usize {
        let word = match self.outcome {
            Outcome::Status(_) if self.has_won => {
                if self.is_success {
                    "won"
                } else {
                    "final"
                }
            }
            Outcome::Status(_) if self.is_success => "late",
            Outcome::Status(status) => match status.as_u16() {
                100..=299 => "2xx",
                300..=399 => "3xx",
                400..=499 => "4xx",
                _ => "5xx",
            },
            other => other.word(),
        };
        ENDS.iter().position(|end| *end == word).unwrap_or(ENDS.len())
    }

    /// Whether its backend was asked, and had a part of the race's price.
    pub fn was_asked(&self) -> bool {
        !matches!(self.outcome, Outcome::Skipped | Outcome::Unneeded)
    }
}

impl BackendStats {
    /// Of a backend that is listed from now on.
    pub fn new(now: SystemTime) -> BackendStats {
        BackendStats {
            ends: [const { AtomicU64::new(0) }; ENDS.len() + 1],
            answers: Histogram::default(),
            saved: AtomicU64::new(0),
            rescues: AtomicU64::new(0),
            unmeasured: AtomicU64::new(0),
            without: Changes::default(),
            differing: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            has_had_same_etag: AtomicBool::new(false),
            benched: [const { AtomicU64::new(0) }; 2],
            listed: now,
            last_success: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    /// Counts a leg of a race that is over, unless it wasn't needed.
    pub fn count(&self, leg: &LegEnd, now: SystemTime) {
        if *leg.outcome == Outcome::Unneeded {
            return;
        }
        let index = leg.index();
        self.ends[index].fetch_add(1, Ordering::Relaxed);
        if leg.is_success {
            self.answers.add(leg.ended.saturating_sub(leg.started));
        } else if is_failure(end_at(index)) {
            *self.last_failure.lock() = Some((now, end_at(index)));
        }
    }

    /// Notes that an answer has come that counts, long before its leg has ended perhaps.
    pub fn note_success(&self, now: SystemTime) {
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.last_success.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts what its victory has bought, for which its client had `waited` so long.
    pub fn count_gain(&self, gain: Gain, waited: Duration) {
        match gain {
            Gain::Saved(time) => {
                self.saved.fetch_add(micros_of(time), Ordering::Relaxed);
                self.without.replace(waited, Some(waited + time));
            }
            Gain::Rescue => {
                self.rescues.fetch_add(1, Ordering::Relaxed);
                self.without.replace(waited, None);
            }
            Gain::Unknown => {
                self.unmeasured.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How often legs have ended in each way, with the words of [`ENDS`] and [`PANIC`]: what is rare only if it has happened.
    pub fn ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = self.ends.iter().enumerate().map(|(index, count)| (end_at(index), count.load(Ordering::Relaxed)));
        all.filter(|(end, count)| *count > 0 || !RARE.contains(end))
    }

    /// How long answers that count have taken.
    pub fn answers(&self) -> &Histogram {
        &self.answers
    }

    /// By how much it has beaten the next success at least, in all.
    pub fn saved(&self) -> Duration {
        Duration::from_micros(self.saved.load(Ordering::Relaxed))
    }

    /// Races that only it could win.
    pub fn rescues(&self) -> u64 {
        self.rescues.load(Ordering::Relaxed)
    }

    /// Victories of which it isn't known what they have bought.
    pub fn unmeasured(&self) -> u64 {
        self.unmeasured.load(Ordering::Relaxed)
    }

    /// What would be otherwise in what clients have waited, without its victories.
    pub fn without(&self) -> &Changes {
        &self.without
    }

    /// Counts an answer that says something else of its content than the winner's.
    pub fn count_differing(&self) {
        self.differing.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers that said something else of their content than the winner's.
    pub fn differing(&self) -> u64 {
        self.differing.load(Ordering::Relaxed)
    }

    /// Counts an answer that a client was getting when its body broke off, or stood still for too long for the client or for us.
    pub fn count_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers whose bodies broke off on their way to a client.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Notes that an answer had the `ETag` of the winner's.
    pub fn note_same_etag(&self) {
        if !self.has_had_same_etag() {
            self.has_had_same_etag.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an answer has once had the `ETag` of the winner's.
    pub fn has_had_same_etag(&self) -> bool {
        self.has_had_same_etag.load(Ordering::Relaxed)
    }

    /// Counts that it was benched: for its failures, or as it has asked to be.
    pub fn count_bench(&self, was_asked_for: bool) {
        self.benched[usize::from(was_asked_for)].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was benched, with the words of metrics.
    pub fn benched(&self) -> impl Iterator<Item = (&'static str, u64)> {
        BENCH_REASONS.into_iter().zip(self.benched.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Since when it is listed.
    pub fn listed(&self) -> SystemTime {
        self.listed
    }

    /// When it last gave an answer that counts.
    pub fn last_success(&self) -> Option<SystemTime> {
        let millis = self.last_success.load(Ordering::Relaxed);
        (millis > 0).then(|| UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// When a leg last failed at it, and how.
    pub fn last_failure(&self) -> Option<(SystemTime, &'static str)> {
        *self.last_failure.lock()
    }
}

fn end_at(index: usize) -> &'static str {
    ENDS.get(index).copied().unwrap_or(PANIC)
}

/// What a victory has bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// At least this much time: until the next success, or until a leg was hung up on that might have succeeded before.
    Saved(Duration),
    /// The answer itself: every other backend has failed.
    Rescue,
    /// It isn't known: there is no other, or some weren't asked, and might have succeeded, and the rest has failed.
    Unknown,
}

impl Gain {
    /// What the winner has bought, for which its client has `waited` so long, by how the legs of the others have ended.
    pub fn of<'a>(waited: Duration, mut others: impl Iterator<Item = &'a LegEnd<'a>> + Clone) -> Gain {
        // One that was cut might have succeeded just then.
        let is_next = |end: &LegEnd| end.is_success || *end.outcome == Outcome::Cancelled;
        match others.clone().filter(|end| is_next(end)).map(|end| end.ended).min() {
            Some(next) => Gain::Saved(next.saturating_sub(waited)),
            None if others.clone().next().is_some() && others.all(LegEnd::was_asked) => Gain::Rescue,
            None => Gain::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const OK: Outcome = Outcome::Status(StatusCode::OK);
    const FAILED: Outcome = Outcome::Status(StatusCode::BAD_GATEWAY);

    fn leg(outcome: &Outcome, ended: u64) -> LegEnd<'_> {
        let ended = Duration::from_millis(ended);
        LegEnd { outcome, has_won: false, is_success: *outcome == OK, started: Duration::ZERO, ended }
    }

    #[test]
    fn a_victory_buys_the_time_to_the_next_success_or_the_answer_itself() {
        let saved = |millis| Gain::Saved(Duration::from_millis(millis));
        let rows = [
            ("a late success", vec![leg(&OK, 10), leg(&OK, 25), leg(&OK, 40)], saved(15)),
            (
                "one was cut before a late success, that of a long look",
                vec![leg(&OK, 10), leg(&Outcome::Cancelled, 210), leg(&OK, 3000)],
                saved(200),
            ),
            (
                "one was cut after a late success",
                vec![leg(&OK, 10), leg(&Outcome::Cancelled, 210), leg(&OK, 40)],
                saved(30),
            ),
            ("all others were cut", vec![leg(&OK, 10), leg(&Outcome::Cancelled, 210), leg(&FAILED, 1)], saved(200)),
            ("all others failed", vec![leg(&OK, 10), leg(&FAILED, 1), leg(&Outcome::Refused, 2)], Gain::Rescue),
            (
                "no other was started",
                vec![leg(&OK, 10), leg(&Outcome::Skipped, 10), leg(&Outcome::Unneeded, 10)],
                Gain::Unknown,
            ),
            (
                "one has failed, and one wasn't asked",
                vec![leg(&OK, 10), leg(&FAILED, 1), leg(&Outcome::Unneeded, 10)],
                Gain::Unknown,
            ),
            ("there is no other", vec![leg(&OK, 10)], Gain::Unknown),
        ];
        for (label, legs, gain) in rows {
            assert_eq!(Gain::of(legs[0].ended, legs[1..].iter()), gain, "{label}");
        }
    }

    #[test]
    fn without_a_victory_its_client_would_have_waited_for_the_next_success_or_had_no_answer() {
        let waits = Histogram::default();
        let stats = BackendStats::new(UNIX_EPOCH);
        let (short, long) = (Duration::from_millis(1), Duration::from_millis(50));
        for gain in [Gain::Saved(long), Gain::Rescue, Gain::Unknown] {
            waits.add(short);
            stats.count_gain(gain, short);
        }
        let without = waits.snapshot().changed(&stats.without().snapshot());
        assert_eq!((without.count(), without.count_within(short * 2)), (2, 1));
        assert!(without.quantile(1.0).is_some_and(|longest| longest >= short + long));
        assert_eq!(stats.unmeasured(), 1);
    }

    #[test]
    fn each_leg_counts_once_under_one_word() {
        let stats = BackendStats::new(UNIX_EPOCH);
        let now = UNIX_EPOCH + Duration::from_secs(5);
        let tls = Outcome::Tls("x".to_owned());
        for outcome in [
            &FAILED,
            &Outcome::Cancelled,
            &Outcome::Skipped,
            &tls,
            &Outcome::Panic,
            &Outcome::TooLarge,
            &Outcome::Unneeded,
        ] {
            stats.count(&leg(outcome, 7), now);
        }
        assert_eq!((stats.last_success(), stats.last_failure()), (None, Some((now, "too-large"))));
        stats.note_success(now);
        stats.count(&leg(&OK, 7), now);
        stats.count(&LegEnd { has_won: true, ..leg(&OK, 9) }, now);
        let counted: Vec<_> = stats.ends().filter(|(_, count)| *count > 0).collect();
        let words = ["won", "late", "5xx", "too-large", "tls", "skipped", "cancelled", "panic"];
        assert_eq!(counted, words.map(|word| (word, 1)));
        assert_eq!((stats.last_success(), stats.answers().snapshot().count()), (Some(now), 2));
    }
}
