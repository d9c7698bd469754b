//! The last minute, by number: what the status page shows beside what has been since the start. Knows nothing of clocks: it is
//! told when a second is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{BackendStats, is_failure};
use super::histogram::{ChangesSnapshot, Snapshot};
use super::races::{RaceEnd, RaceStats};
use super::replies::ReplyStats;
use super::sample::{BackendSample, Sample};
use crate::runtime::few::sorted_few;

/// The seconds of a minute.
const SECONDS: usize = 60;
/// The seconds between two looks at the backends: their counts are many.
const STRIDE: usize = 10;

/// The fewest races of which a 99th percentile says something.
pub const P99_RACES_MIN: u64 = 200;

/// The figures of a minute's seconds, and those of the backends at every tenth.
#[derive(Debug, Default)]
pub struct Minute {
    seconds: VecDeque<Second>,
    /// One more than a minute has, the oldest first.
    tenths: VecDeque<Tenth>,
    /// Until the next of them.
    seconds_left: usize,
    before: Sums,
}

/// What came in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    /// Races that ended, but for those whose client left.
    pub races: u64,
    /// Those of them that no leg won.
    pub lost: u64,
    /// Races whose client left before an answer.
    pub abandoned: u64,
    /// Answers of backends whose heads went out: those that are still under way, too.
    pub answers: u64,
    /// Legs that ended, but for those that weren't asked.
    pub legs: u64,
    /// The 99th percentile of what clients waited.
    pub p99: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
struct Sums {
    races: u64,
    lost: u64,
    abandoned: u64,
    answers: u64,
    legs: u64,
    refused: [u64; 2],
    faulty: u64,
    durations: Snapshot,
}

#[derive(Debug)]
struct Tenth {
    totals: Sums,
    /// By what counts for it: its name may become another's.
    backends: Vec<(Arc<BackendStats>, Counts)>,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    ends: Vec<(&'static str, u64)>,
    answers: Snapshot,
    saved: Duration,
    rescues: u64,
    unmeasured: u64,
    differing: u64,
    broken: u64,
    without: ChangesSnapshot,
}

/// What came in the last minute.
#[derive(Debug, Default)]
pub struct LastMinute {
    /// How long it has been: up to ten seconds more than a minute, and less just after the start.
    pub seconds: u64,
    /// Races that ended, but for those whose client left.
    pub races: u64,
    /// Those of them that no leg won.
    pub lost: u64,
    /// Races whose client left before an answer.
    pub abandoned: u64,
    /// Legs that ended, but for those that weren't asked.
    pub legs: u64,
    /// Requests that the proxy refused since it, or its host, had no room for them: `503` and `507`.
    pub refused: [u64; 2],
    /// Requests that the proxy refused for what they are, or since they came too slowly. Scanners make some.
    pub faulty: u64,
    /// The median of what clients waited.
    pub p50: Option<Duration>,
    /// The 99th percentile.
    pub p99: Option<Duration>,
    /// Second by second, the oldest first: as many as there were, 60 at most.
    pub course: Vec<Second>,
    /// The backends of the sample, in its order.
    pub backends: Vec<BackendMinute>,
}

/// What one backend did in the last minute.
#[derive(Debug, Default)]
pub struct BackendMinute {
    /// How often its legs ended in each way in which one did.
    pub ends: Vec<(&'static str, u64)>,
    /// The median time of its answers that count.
    pub p50: Option<Duration>,
    /// Their 99th percentile.
    pub p99: Option<Duration>,
    /// By how much it beat the next success.
    pub saved: Duration,
    /// Races that only it could win.
    pub rescues: u64,
    /// Victories of which it isn't known what they bought.
    pub unmeasured: u64,
    /// Answers that said something else of their content than the winner's.
    pub differing: u64,
    /// Answers whose bodies broke off on their way to a client.
    pub broken: u64,
    /// The 99th percentile of what clients would have waited without it: at least, where all others were hung up on.
    pub p99_without: Option<Duration>,
}

impl Second {
    /// All that ended, whether or not the client stayed.
    pub fn requests(&self) -> u64 {
        self.races + self.abandoned
    }
}

impl LastMinute {
    /// All that ended, whether or not the client stayed.
    pub fn requests(&self) -> u64 {
        self.races + self.abandoned
    }

    /// Whether a client has got a backend's answer.
    pub fn has_answers(&self) -> bool {
        self.races > self.lost
    }
}

impl BackendMinute {
    /// How often its legs ended so.
    pub fn count_of(&self, words: &[&str]) -> u64 {
        self.ends.iter().filter(|(word, _)| words.contains(word)).map(|(_, count)| count).sum()
    }

    /// The legs by which it was asked: its part of the price.
    pub fn asked(&self) -> u64 {
        self.ends.iter().filter(|(word, _)| *word != "skipped").map(|(_, count)| count).sum()
    }

    /// The legs that failed, by their words, the most frequent first, but those that found no socket last: where a backend hangs these are
    /// what comes of it.
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        let failures = self.ends.iter().copied().filter(|(word, _)| is_failure(word));
        sorted_few(failures, |(word, count)| (*word == "no-socket", std::cmp::Reverse(*count)))
    }
}

impl Minute {
    /// Notes that a second is over, with the races' and replies' counts of this moment. `backends` gives the backends' every tenth time. Gives the
    /// 99th percentile of what clients have waited in the last minute, if there were enough of them to tell.
    pub fn end_second(
        &mut self,
        (races, replies): (&RaceStats, &ReplyStats),
        backends: impl FnOnce() -> Vec<BackendSample>,
    ) -> Option<Duration> {
        let now = Sums::of(races, replies);
        let durations = now.durations.since(&self.before.durations);
        push(
            &mut self.seconds,
            SECONDS,
            Second {
                races: now.races - self.before.races,
                lost: now.lost - self.before.lost,
                abandoned: now.abandoned - self.before.abandoned,
                answers: now.answers - self.before.answers,
                legs: now.legs - self.before.legs,
                p99: durations.quantile(0.99),
            },
        );
        if self.seconds_left == 0 {
            self.seconds_left = STRIDE;
            let backends = backends().into_iter().map(|backend| (backend.stats.clone(), Counts::of(&backend)));
            push(&mut self.tenths, SECONDS / STRIDE + 1, Tenth { totals: now.clone(), backends: backends.collect() });
        }
        self.seconds_left -= 1;
        self.before = now;
        let then = &self.tenths.front()?.totals;
        let durations = self.before.durations.since(&then.durations);
        (self.before.races - then.races >= P99_RACES_MIN).then(|| durations.quantile(0.99)).flatten()
    }

    /// What has come since a minute ago, up to the figures of this moment.
    pub fn last(&self, sample: &Sample) -> LastMinute {
        let Some(first) = self.tenths.front() else { return LastMinute::default() };
        let now = Sums::of(&sample.races, &sample.replies);
        let durations = now.durations.since(&first.totals.durations);
        let seconds = (self.tenths.len() - 1) * STRIDE + (STRIDE - 1 - self.seconds_left);
        LastMinute {
            seconds: (seconds as u64).max(1),
            races: now.races - first.totals.races,
            lost: now.lost - first.totals.lost,
            abandoned: now.abandoned - first.totals.abandoned,
            legs: now.legs - first.totals.legs,
            refused: [0, 1].map(|at| now.refused[at] - first.totals.refused[at]),
            faulty: now.faulty - first.totals.faulty,
            p50: durations.quantile(0.5),
            p99: durations.quantile(0.99),
            course: self.seconds.iter().copied().collect(),
            backends: sample.backends.iter().map(|backend| first.until(backend, &durations)).collect(),
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

impl Tenth {
    /// What a backend has done since then. `durations` are what clients have waited meanwhile.
    fn until(&self, backend: &BackendSample, durations: &Snapshot) -> BackendMinute {
        let then = self.backends.iter().find(|(stats, _)| Arc::ptr_eq(stats, &backend.stats));
        Counts::of(backend).since(then.map_or(&Counts::default(), |(_, counts)| counts), durations)
    }
}

impl Sums {
    fn of(races: &RaceStats, replies: &ReplyStats) -> Sums {
        let lost = races.count_of(RaceEnd::Lost);
        let answered = [RaceEnd::Won, RaceEnd::Final, RaceEnd::Best].map(|end| races.count_of(end));
        Sums {
            races: answered.iter().sum::<u64>() + lost,
            lost,
            abandoned: races.count_of(RaceEnd::Abandoned),
            answers: replies.classes().map(|(_, theirs, _)| theirs).sum(),
            legs: races.totals(0, 0).legs,
            refused: [503, 507]
                .map(|of| replies.refusals().filter(|(status, _)| *status == of).map(|(_, count)| count).sum()),
            faulty: (replies.refusals())
                .filter(|(status, _)| !matches!(status, 502 | 503 | 507))
                .map(|(_, count)| count)
                .sum(),
            durations: races.durations().snapshot(),
        }
    }
}

impl Counts {
    fn of(backend: &BackendSample) -> Counts {
        let stats = &backend.stats;
        Counts {
            ends: stats.ends().collect(),
            answers: stats.answers().snapshot(),
            saved: stats.saved(),
            rescues: stats.rescues(),
            unmeasured: stats.unmeasured(),
            differing: stats.differing(),
            broken: stats.broken(),
            without: stats.without().snapshot(),
        }
    }

    /// `durations` are what clients have waited since then.
    fn since(&self, then: &Counts, durations: &Snapshot) -> BackendMinute {
        let before = |word| then.ends.iter().find(|(other, _)| *other == word).map_or(0, |(_, count)| *count);
        let ends = self.ends.iter().map(|(word, count)| (*word, count.saturating_sub(before(*word))));
        let answers = self.answers.since(&then.answers);
        BackendMinute {
            ends: ends.filter(|(_, count)| *count > 0).collect(),
            p50: answers.quantile(0.5),
            p99: answers.quantile(0.99),
            saved: self.saved.saturating_sub(then.saved),
            rescues: self.rescues.saturating_sub(then.rescues),
            unmeasured: self.unmeasured.saturating_sub(then.unmeasured),
            differing: self.differing.saturating_sub(then.differing),
            broken: self.broken.saturating_sub(then.broken),
            p99_without: durations.changed(&self.without.since(&then.without)).quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::LegEnd;
    use super::super::sample::BackendState;
    use super::*;
    use crate::message::Outcome;

    fn sample(label: &str, stats: &Arc<BackendStats>) -> BackendSample {
        BackendSample {
            label: label.to_owned(),
            name: label.to_owned(),
            url: label.to_owned(),
            stats: stats.clone(),
            is_insecure: false,
            state: BackendState::Racing,
            benched: None,
            unanswered: 0,
            addresses: None,
        }
    }

    fn with_failures(count: usize) -> Arc<BackendStats> {
        let stats = Arc::new(BackendStats::new(SystemTime::UNIX_EPOCH));
        let time = Duration::ZERO;
        let end = LegEnd { outcome: &Outcome::Refused, has_won: false, is_success: false, started: time, ended: time };
        (0..count).for_each(|_| stats.count(&end, SystemTime::UNIX_EPOCH));
        stats
    }

    #[test]
    fn an_answer_is_of_the_second_in_which_it_begins() {
        let (races, replies, mut minute) = (RaceStats::default(), ReplyStats::default(), Minute::default());
        for answers in [0, 2, 1] {
            (0..answers).for_each(|_| replies.count_answer(http::StatusCode::OK));
            replies.count_refusal(http::StatusCode::BAD_GATEWAY);
            minute.end_second((&races, &replies), Vec::new);
        }
        assert_eq!(minute.seconds.iter().map(|second| second.answers).collect::<Vec<_>>(), [0, 2, 1]);
    }

    /// Was seen as: a backend that had got another's name had done nothing for a minute, and one that got a name had done all of its
    /// life's work in it.
    #[test]
    fn a_backend_is_its_counts_and_not_its_name() {
        let (old, new) = (with_failures(5), with_failures(2));
        let mut minute = Minute::default();
        minute.end_second((&RaceStats::default(), &ReplyStats::default()), || vec![sample("dc1", &old)]);
        let failed = |backend: &BackendSample| {
            let done = minute.tenths[0].until(backend, &Snapshot::default());
            done.ends.iter().map(|(_, count)| *count).sum::<u64>()
        };
        assert_eq!([failed(&sample("dc1", &new)), failed(&sample("renamed", &old))], [2, 0]);
    }
}
