//! Models of `race/mod.rs` and `upstream/breaker.rs`. The exchange below does what `proxy` does with its race.

use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex as Cell, MutexGuard};
use std::time::{Duration, Instant};

use crate::race::{Abandoned, Kept, LegResult, Next, Race, Start, Timetable, Verdict, Won};
use crate::runtime::cancel::Losers;
use crate::runtime::sync::thread::{Scope, scope};
use crate::runtime::sync::{chance, pick};
use crate::upstream::bench::{Admission, Bench, BenchChange, BenchTicket, Finding};
use crate::upstream::breaker::{Breaker, PathKey, PendingRequest};
use crate::upstream::look::{Look, LookLease};

/// The plan of a leg, if it isn't stopped.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    Succeed,
    /// Its answer is no success, and ends the race.
    Final,
    /// Its success is second-best.
    Hold,
    /// Its failure has this rank.
    Keep(u8),
    Fail,
    Panic,
}

const PLANS: [Plan; 7] =
    [Plan::Succeed, Plan::Final, Plan::Hold, Plan::Keep(1), Plan::Keep(2), Plan::Fail, Plan::Panic];

/// The age at which legs start by time.
const AGE: Duration = Duration::from_millis(10);

struct Exchange {
    race: Race<(), usize>,
    began: Instant,
    plans: Vec<Plan>,
    breaker: Breaker,
    pending: Vec<PendingRequest>,
    told: Cell<Told>,
}

/// All that the race has told its legs.
#[derive(Default)]
struct Told {
    prizes: usize,
    abandoned: bool,
    ends: Vec<(Verdict, Vec<LegResult<usize>>)>,
}

pub fn a_race_has_one_winner_and_one_end() {
    let legs = 2 + pick(2) as usize;
    let began = Instant::now();
    let exchange = Exchange {
        race: Race::new(legs, (), began),
        began,
        plans: (0..legs).map(|_| PLANS[pick(7) as usize]).collect(),
        breaker: Breaker::default(),
        pending: (0..legs).map(|_| PendingRequest::default()).collect(),
        told: Cell::default(),
    };
    let first_deferred = 1 + pick(u32::try_from(legs).expect("few")) as usize;
    // Only where nothing is refused: a deferred leg that is started may be refused as well, but that changes nothing.
    let first_refused = if chance(4) { pick(u32::try_from(first_deferred).expect("few")) as usize } else { legs };
    let mut timetable = Timetable::default();
    for leg in first_deferred..legs {
        let start = if chance(2) { Start::LastResort } else { Start::Budgeted(AGE, 2 * AGE) };
        timetable.add(leg, start);
    }
    // One that runs beside the others: these start without it.
    if first_refused == legs && first_deferred > 1 && chance(3) {
        timetable.add_beside(first_deferred - 1);
    }
    exchange.race.keep_back(timetable);
    scope(|scope| {
        let exchange = &exchange;
        if chance(3) {
            exchange.told().abandoned = true;
            scope.spawn(move || exchange.abandon(scope));
        }
        if chance(3) {
            scope.spawn(move || exchange.stop_waiting(scope));
        }
        scope.spawn(move || exchange.pass(scope));
        (0..first_deferred.min(first_refused)).for_each(|leg| exchange.start(scope, leg));
        if first_refused < first_deferred {
            exchange.refuse(scope, first_refused..first_deferred);
        }
    });
    exchange.check();
}

impl Exchange {
    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize) {
        scope.spawn(move || self.run(scope, leg));
    }

    /// Starts legs by time, with and without a budget.
    fn pass<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for age in [AGE, 2 * AGE] {
            let legs = self.race.start_due(self.began + age, |_| chance(2));
            for leg in legs {
                self.start(scope, leg);
            }
        }
    }

    fn run<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize) {
        let plan = catch_unwind(|| match self.plans[leg] {
            // The panic's own hook would write a line each time.
            Plan::Panic => resume_unwind(Box::new("meant")),
            plan => plan,
        });
        let is_stopped = chance(2) && self.race.token(leg).is_cancelled();
        let plan = if is_stopped { Plan::Fail } else { plan.unwrap_or(Plan::Panic) };
        if matches!(plan, Plan::Succeed | Plan::Final) {
            self.claim(scope, leg);
        } else if plan == Plan::Hold
            && let Some(next) = self.race.hold(leg)
        {
            return self.act_on(scope, next);
        } else if let Plan::Keep(rank) = plan {
            return self.keep(scope, leg, rank);
        }
        self.end(scope, leg);
    }

    fn keep<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize, rank: u8) {
        match self.race.keep(leg, rank) {
            Kept::No => self.end(scope, leg),
            Kept::Yes { instead_of } => {
                self.skip(scope, instead_of);
                self.act_on(scope, self.race.next());
            }
        }
    }

    /// Has failures wait no longer.
    fn stop_waiting<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        if let Some(leg) = self.race.stop_waiting(1) {
            self.pass_on(scope, leg);
        }
    }

    fn pass_on<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize) {
        let won = self.race.claim(leg, Verdict::Best);
        self.win(scope, leg, won);
        self.end(scope, leg);
    }

    fn claim<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize) {
        let is_final = self.plans[leg] == Plan::Final;
        let won = self.race.claim(leg, if is_final { Verdict::Final } else { Verdict::Won });
        self.win(scope, leg, won);
    }

    fn win<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize, won: Option<Won<()>>) {
        let Some(won) = won else { return };
        self.told().prizes += 1;
        won.losers.iter().for_each(|loser| self.breaker.add(&self.pending[*loser], path()));
        self.race.hang_up(Some(leg));
        self.skip(scope, won.unneeded.into_iter().chain(won.candidates));
    }

    fn end<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, leg: usize) {
        self.breaker.remove(&self.pending[leg]);
        self.act_on(scope, self.race.end(leg, leg, Duration::ZERO));
    }

    fn act_on<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, next: Next<(), usize>) {
        match next {
            Next::Running => {}
            Next::Choose(legs) => {
                self.skip(scope, legs[1..].iter().copied());
                self.claim(scope, legs[0]);
                self.end(scope, legs[0]);
            }
            Next::PassOn(leg) => self.pass_on(scope, leg),
            Next::Start(legs) => legs.into_iter().for_each(|leg| self.start(scope, leg)),
            Next::LastLost((), results) => {
                self.told().prizes += 1;
                self.told().ends.push((Verdict::Lost, results));
            }
            Next::Over(verdict, results) => self.told().ends.push((verdict, results)),
        }
    }

    /// Ends legs that don't run.
    fn skip<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, legs: impl IntoIterator<Item = usize>) {
        legs.into_iter().for_each(|leg| self.end(scope, leg));
    }

    /// Abandons the race: the client leaves.
    fn abandon<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let Abandoned { prize, unneeded, candidates } = self.race.abandon();
        self.told().prizes += usize::from(prize.is_some());
        self.race.hang_up_abandoned();
        self.skip(scope, unneeded.into_iter().chain(candidates));
    }

    /// Abandons the race: there is no room for these legs.
    fn refuse<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, legs: Range<usize>) {
        let Abandoned { prize, unneeded, candidates } = self.race.abandon();
        if prize.is_some() {
            self.told().prizes += 1;
            self.race.hang_up_abandoned();
        }
        self.skip(scope, unneeded.into_iter().chain(candidates).chain(legs));
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    fn check(&self) {
        let told = self.told();
        assert_eq!(told.prizes, 1, "the prize is given exactly once");
        assert_eq!(told.ends.len(), 1, "the race ends exactly once");
        let (verdict, results) = &told.ends[0];
        let accounted: Vec<usize> = results.iter().map(|result| result.outcome).collect();
        assert_eq!(accounted, (0..self.plans.len()).collect::<Vec<_>>(), "every leg is accounted for");
        assert_eq!(self.breaker.count(), 0, "no leg is pending once all have ended");
        let is_cancelled = |leg: &usize| self.race.token(*leg).is_cancelled();
        let cancelled: Vec<usize> = (0..self.plans.len()).filter(is_cancelled).collect();
        match *verdict {
            Verdict::Won(winner) | Verdict::Final(winner) | Verdict::Best(winner) => {
                let is_right = match self.plans[winner] {
                    Plan::Succeed | Plan::Hold => *verdict == Verdict::Won(winner),
                    Plan::Final => *verdict == Verdict::Final(winner),
                    Plan::Keep(_) => *verdict == Verdict::Best(winner),
                    Plan::Fail | Plan::Panic => false,
                };
                assert!(is_right, "{verdict:?}");
                let spared = if told.abandoned { None } else { Some(winner) };
                assert!(accounted.iter().filter(|leg| Some(**leg) != spared).eq(&cancelled), "{cancelled:?}");
            }
            Verdict::Abandoned => assert_eq!(cancelled, accounted, "no leg works without a client"),
            Verdict::Lost => assert!(told.abandoned || cancelled.is_empty()),
        }
    }
}

fn path() -> PathKey {
    PathKey::of("/")
}

pub fn losers_without_an_answer_are_counted_until_they_end() {
    let breaker = Breaker::default();
    let pending = [PendingRequest::default(), PendingRequest::default()];
    scope(|scope| {
        for pending in &pending {
            scope.spawn(|| breaker.add(pending, path()));
            scope.spawn(|| breaker.remove(pending));
        }
        scope.spawn(|| breaker.note_answer(path(), Instant::now()));
    });
    assert_eq!(breaker.count(), 0);
}

pub fn one_leg_is_the_probe() {
    let (breaker, now) = (Breaker::default(), Instant::now());
    let admitted = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| admitted.fetch_add(usize::from(breaker.try_admit(0, path(), now)), Ordering::Relaxed));
        }
    });
    assert_eq!(admitted.into_inner(), 1);
}

/// Legs end while they are given the look, or after it, or before.
pub fn one_leg_has_the_look_and_gives_it_back() {
    let now = Instant::now();
    let look = Look::new(now);
    let leases: Vec<LookLease> = (0..3).map(|_| LookLease::default()).collect();
    scope(|scope| {
        for lease in &leases {
            let look = &look;
            scope.spawn(move || look.try_take(lease, now));
            scope.spawn(move || look.end(lease));
        }
    });
    assert!(look.try_take(&LookLease::default(), now), "no end keeps it");
}

/// Legs start while others end, and an operator interferes.
pub fn one_leg_is_the_probe_of_a_bench_and_each_end_counts_once() {
    let (bench, now) = (Bench::default(), Instant::now());
    let benches = AtomicUsize::new(0);
    let count = |change| {
        if matches!(change, Some(BenchChange::Failed(..))) {
            benches.fetch_add(1, Ordering::Relaxed);
        }
    };
    let first: Vec<BenchTicket> = (0..3).map(|_| BenchTicket::default()).collect();
    for ticket in &first {
        assert_eq!(bench.admit(ticket, AGE, true, now), Admission::Racing);
    }
    scope(|scope| {
        for ticket in &first {
            scope.spawn(|| count(bench.note(ticket, Finding::Failure(None), 2, 0, now)));
            scope.spawn(|| count(bench.note(ticket, Finding::Failure(None), 2, 0, now)));
        }
    });
    assert!(bench.is_benched() && benches.load(Ordering::Relaxed) == 1, "by the second of them, once");
    let (later, probes) = (now + Duration::from_secs(2), AtomicUsize::new(0));
    let tickets: Vec<BenchTicket> = (0..3).map(|_| BenchTicket::default()).collect();
    let resumes = chance(2);
    scope(|scope| {
        for ticket in &tickets {
            scope.spawn(|| {
                let is_probe = bench.admit(ticket, AGE, true, later) == Admission::Probe;
                probes.fetch_add(usize::from(is_probe), Ordering::Relaxed);
            });
        }
        if resumes {
            scope.spawn(|| bench.resume());
        }
    });
    assert!(probes.load(Ordering::Relaxed) <= 1 && (resumes || probes.load(Ordering::Relaxed) == 1));
    scope(|scope| {
        for ticket in &tickets {
            scope.spawn(|| bench.note(ticket, Finding::Nothing, 2, 0, later));
        }
    });
    let next = bench.admit(&BenchTicket::default(), AGE, true, later);
    assert_eq!(next, if resumes { Admission::Racing } else { Admission::Probe }, "no end keeps the place");
}
