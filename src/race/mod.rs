//! Decides a race: which legs start when, who won, who lost, when all have, and how long losers may linger. Every step is one look
//! under one lock, so that there is one winner, and every leg is accounted for. Knows nothing of HTTP or sockets: what the winner
//! gets is any value, so its tests need no network.

mod reaper;
mod starter;
mod timetable;

use std::time::{Duration, Instant};

use crate::runtime::cancel::{CancelToken, Losers};
use crate::runtime::sync::Mutex;

pub use reaper::{Linger, LingerPlace, Reaper};
pub use starter::{Starter, StarterPlace, Starts};
pub use timetable::{Start, Timetable};

/// The end of a race for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The leg of this number has won.
    Won(usize),
    /// The leg of this number has an answer that ends the race, though it is no success.
    Final(usize),
    /// No leg has won, and the client gets the answer of the leg of this number all the same.
    Best(usize),
    /// Every leg has lost.
    Lost,
    /// The client went away before the race was decided.
    Abandoned,
}

impl Verdict {
    /// The leg whose answer the client gets.
    pub fn winner(self) -> Option<usize> {
        match self {
            Verdict::Won(leg) | Verdict::Final(leg) | Verdict::Best(leg) => Some(leg),
            Verdict::Lost | Verdict::Abandoned => None,
        }
    }
}

/// One request against all backends. `P` is the prize: the means to answer, for the winner or the last loser. `O` is the
/// outcome of a leg.
pub struct Race<P, O> {
    began: Instant,
    tokens: Vec<CancelToken>,
    state: Mutex<State<P, O>>,
}

struct State<P, O> {
    verdict: Option<Verdict>,
    prize: Option<P>,
    results: Vec<Option<LegResult<O>>>,
    /// The count of legs without a result, those that haven't started included.
    running: usize,
    /// The legs that haven't started.
    timetable: Timetable,
    /// Losers that aren't hung up on with the others.
    spared: Vec<usize>,
    /// Those that aren't spared any more, also if they were to be just now.
    unspared: Vec<usize>,
    /// Legs whose success is second-best, the earliest first: one of them wins if no leg can do better any more.
    candidates: Vec<usize>,
    /// The leg whose failure says most, and its rank: the client gets that if no leg succeeds.
    best: Option<(usize, u8)>,
}

/// The outcome of one leg, and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegResult<O> {
    /// The outcome.
    pub outcome: O,
    /// From the race's begin to the outcome.
    pub after: Duration,
}

/// The prize of a race, and the legs that have lost it.
#[derive(Debug, PartialEq, Eq)]
pub struct Won<P> {
    /// The prize.
    pub prize: P,
    /// Legs that are still running: they have lost.
    pub losers: Vec<usize>,
    /// Legs that haven't started and needn't any more; they haven't ended yet.
    pub unneeded: Vec<usize>,
    /// Legs that hold an answer: they have lost, and haven't ended yet.
    pub candidates: Vec<usize>,
}

/// The rest of a race without a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Abandoned<P> {
    /// The prize, if no leg has taken it.
    pub prize: Option<P>,
    /// Legs that haven't started; they haven't ended yet.
    pub unneeded: Vec<usize>,
    /// Legs that hold an answer; they haven't ended yet.
    pub candidates: Vec<usize>,
}

/// The consequence of a leg's end, or of its second-best success, for the race.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<P, O> {
    /// Other legs are still running.
    Running,
    /// No leg that was started runs any more: these are next, and are to run now.
    Start(Vec<usize>),
    /// No leg can do better than these candidates any more, the earliest first: all but one of them are to end, and that one
    /// is to claim.
    Choose(Vec<usize>),
    /// No leg can succeed any more: the failure of this one, which said most, is to go to the client.
    PassOn(usize),
    /// All legs have lost, and this was the last: it answers the client.
    LastLost(P, Vec<LegResult<O>>),
    /// This was the last leg of a race that had been decided before: everything is known now.
    Over(Verdict, Vec<LegResult<O>>),
}

/// Whether a leg's failure is kept for the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is, and another that was kept before is to end.
    Yes {
        /// That other leg.
        instead_of: Option<usize>,
    },
    /// It isn't: the race is decided, or what is kept says more.
    No,
}

impl<P: Send, O: Clone + Send> Race<P, O> {
    /// Makes a race of that many legs, at least one.
    pub fn new(legs: usize, prize: P, now: Instant) -> Race<P, O> {
        assert!(legs > 0, "a race needs a leg");
        // What allocates comes first: the rest is then made where it stays.
        let tokens = std::iter::repeat_with(CancelToken::default).take(legs).collect();
        let results = vec![None; legs];
        let state = State {
            verdict: None,
            prize: Some(prize),
            results,
            running: legs,
            timetable: Timetable::default(),
            spared: Vec::new(),
            unspared: Vec::new(),
            candidates: Vec::new(),
            best: None,
        };
        Race { began: now, tokens, state: Mutex::new(state) }
    }

    /// A leg's token: cancelled when the leg is to be hung up on.
    pub fn token(&self, leg: usize) -> &CancelToken {
        &self.tokens[leg]
    }

    /// The time since the race's begin.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Whether it is known how the race ends for its client.
    pub fn is_decided(&self) -> bool {
        self.state.lock().verdict.is_some()
    }

    /// Keeps legs back, before any leg has started or the race can be abandoned.
    pub fn keep_back(&self, timetable: Timetable) {
        let mut state = self.state.lock();
        assert!(state.verdict.is_none(), "a decided race starts no legs");
        assert!(timetable.len() + timetable.beside() < state.running, "one leg runs at least");
        state.timetable = timetable;
    }

    /// Starts by time: gives the legs whose time has come. `has_budget` is asked for each leg that needs one to start at its first
    /// time.
    pub fn start_due(&self, now: Instant, has_budget: impl FnMut(usize) -> bool) -> Vec<usize> {
        let mut state = self.state.lock();
        if state.verdict.is_some() {
            return Vec::new();
        }
        state.timetable.take_due(self.elapsed(now), has_budget)
    }

    /// Has legs that would start by time, and are such ones, start only if all others lose.
    pub fn defer(&self, is_meant: impl FnMut(usize) -> bool) {
        self.state.lock().timetable.defer(is_meant);
    }

    /// Has no other leg wait for the end of this one, which is about to start late.
    pub fn run_beside(&self, leg: usize) {
        self.state.lock().timetable.add_beside(leg);
    }

    /// Takes the legs that haven't started, so that none of them does: their ends are the caller's.
    pub fn take_unstarted(&self) -> Vec<usize> {
        self.state.lock().timetable.take_all()
    }

    /// When the next leg starts by time, if one does.
    pub fn next_start(&self) -> Option<Instant> {
        self.state.lock().timetable.next_age().map(|age| self.began + age)
    }

    /// Claims the race for a leg whose answer is to go to the client, by the verdict that says why. The first has it; for all
    /// others it is too late.
    pub fn claim(&self, leg: usize, verdict: fn(usize) -> Verdict) -> Option<Won<P>> {
        let mut state = self.state.lock();
        if state.verdict.is_some() {
            return None;
        }
        state.verdict = Some(verdict(leg));
        let (unneeded, candidates) = (state.timetable.take_all(), state.take_held());
        let is_loser = |other: &usize| {
            let is_idle = unneeded.contains(other) || candidates.contains(other);
            *other != leg && state.results[*other].is_none() && !is_idle
        };
        let losers = (0..state.results.len()).filter(is_loser).collect();
        state.prize.take().map(|prize| Won { prize, losers, unneeded, candidates })
    }

    /// Holds a leg with a second-best success: it is a candidate until another leg claims, or none can any more. `None`: the
    /// race is decided, and the leg has lost.
    pub fn hold(&self, leg: usize) -> Option<Next<P, O>> {
        let mut state = self.state.lock();
        if state.verdict.is_some() {
            return None;
        }
        state.timetable.end_beside(leg);
        state.candidates.push(leg);
        Some(state.next())
    }

    /// Keeps a leg that has failed with an answer of this rank, if that says more than what is kept: the client gets it if no leg
    /// succeeds.
    pub fn keep(&self, leg: usize, rank: u8) -> Kept {
        let mut state = self.state.lock();
        match state.best {
            _ if state.verdict.is_some() => Kept::No,
            Some((_, best)) if best >= rank => Kept::No,
            best => {
                state.timetable.end_beside(leg);
                state.best = Some((leg, rank));
                Kept::Yes { instead_of: best.map(|(other, _)| other) }
            }
        }
    }

    /// The leg whose failure is kept for the client.
    pub fn best(&self) -> Option<usize> {
        self.state.lock().best.map(|(leg, _)| leg)
    }

    /// Keeps this leg no more, and gives whether it was kept: from now on it is its caller's.
    pub fn try_release(&self, leg: usize) -> bool {
        self.state.lock().best.take_if(|(best, _)| *best == leg).is_some()
    }

    /// Takes the failure that is kept, if it has this rank at least, since it is to wait for no other leg any more: it is its
    /// caller's, and goes to the client. While a leg has a second-best success it stays: that is better.
    pub fn stop_waiting(&self, rank_min: u8) -> Option<usize> {
        let mut state = self.state.lock();
        if !state.candidates.is_empty() {
            return None;
        }
        state.best.take_if(|(_, rank)| *rank >= rank_min).map(|(leg, _)| leg)
    }

    /// The next step, once a leg has been kept.
    pub fn next(&self) -> Next<P, O> {
        self.state.lock().next()
    }

    /// Notes the end of a leg, exactly once each; of the winner after it has delivered.
    pub fn end(&self, leg: usize, outcome: O, after: Duration) -> Next<P, O> {
        let mut state = self.state.lock();
        assert!(state.results[leg].is_none(), "a leg ends once");
        state.results[leg] = Some(LegResult { outcome, after });
        state.timetable.end_beside(leg);
        state.running -= 1;
        if state.running > 0 {
            return state.next();
        }
        let results = state.results.iter().flatten().cloned().collect();
        let verdict = *state.verdict.get_or_insert(Verdict::Lost);
        match state.prize.take() {
            Some(prize) => Next::LastLost(prize, results),
            None => Next::Over(verdict, results),
        }
    }

    /// The race as far as it has come: how it is decided, and the outcomes of the legs that have ended.
    pub fn progress(&self) -> (Option<Verdict>, Vec<Option<LegResult<O>>>) {
        let state = self.state.lock();
        (state.verdict, state.results.clone())
    }

    /// Abandons the race: no client is left to answer. Gives what is left; the legs that run are still to be hung up on.
    pub fn abandon(&self) -> Abandoned<P> {
        let mut state = self.state.lock();
        state.verdict.get_or_insert(Verdict::Abandoned);
        let candidates = state.take_held();
        Abandoned { prize: state.prize.take(), unneeded: state.timetable.take_all(), candidates }
    }

    /// Hangs up on the legs that no client waits for any more after [`Race::abandon`]: on every leg; in a decided race on the
    /// winner alone, since the losers' time is the reaper's.
    pub fn hang_up_abandoned(&self) {
        let verdict = self.state.lock().verdict;
        match verdict.and_then(Verdict::winner) {
            Some(winner) => self.tokens[winner].cancel(),
            None => self.hang_up(None),
        }
    }

    /// Spares losers from being hung up on with the others.
    pub fn spare(&self, losers: &[usize]) {
        let State { spared, unspared, .. } = &mut *self.state.lock();
        spared.extend(losers.iter().filter(|loser| !unspared.contains(loser)));
    }

    /// Spares a loser no more, also if another thread is about to. Gives the winner, if it was spared.
    pub fn stop_sparing(&self, loser: usize) -> Option<usize> {
        let mut state = self.state.lock();
        state.unspared.push(loser);
        let at = state.spared.iter().position(|spared| *spared == loser)?;
        state.spared.remove(at);
        state.verdict.and_then(Verdict::winner)
    }
}

impl<P, O> State<P, O> {
    /// Decides the next step of the legs without a result.
    fn next(&mut self) -> Next<P, O> {
        let held = self.candidates.len() + usize::from(self.best.is_some());
        let idle = self.timetable.len() + held;
        if self.verdict.is_some() || self.running > idle + self.timetable.beside() {
            return Next::Running;
        }
        if let Some(legs) = self.timetable.take_next() {
            return Next::Start(legs);
        }
        if !self.candidates.is_empty() {
            return Next::Choose(std::mem::take(&mut self.candidates));
        }
        // One that runs beside the race may still win it: a success waits for no such leg, but a failure does.
        match self.best.take_if(|_| self.timetable.beside() == 0) {
            Some((leg, _)) => Next::PassOn(leg),
            None => Next::Running,
        }
    }

    /// Takes the legs that hold an answer.
    fn take_held(&mut self) -> Vec<usize> {
        let mut held = std::mem::take(&mut self.candidates);
        held.extend(self.best.take().map(|(leg, _)| leg));
        held
    }
}

impl<P: Send, O: Clone + Send> Losers for Race<P, O> {
    fn hang_up(&self, winner: Option<usize>) {
        let spared = self.state.lock().spared.clone();
        for (leg, token) in self.tokens.iter().enumerate() {
            if Some(leg) != winner && !spared.contains(&leg) {
                token.cancel();
            }
        }
    }

    fn hang_up_spared(&self) {
        let spared = std::mem::take(&mut self.state.lock().spared);
        for leg in spared {
            self.tokens[leg].cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A step of a leg, of the client, or of the clock.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        Succeed(usize),
        /// Its answer is no success, and ends the race.
        Final(usize),
        /// It succeeds, but is second-best.
        Hold(usize),
        Fail(usize),
        /// It fails with an answer of this rank, which the client may get.
        Keep(usize, u8),
        /// A failure of this rank waits for nothing more.
        StopWaiting(u8),
        Abandon,
        /// The race is this old, and a leg's budget, if it is asked, is there or not.
        Age(Duration, bool),
    }

    /// When a leg starts.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Begin {
        AtOnce,
        Beside,
        Later(Start),
    }

    fn begins() -> impl Strategy<Value = Begin> {
        let ages = (1..4_u64).prop_map(|ten| Duration::from_millis(10 * ten));
        prop_oneof![
            3 => Just(Begin::AtOnce),
            1 => Just(Begin::Beside),
            3 => ages.clone().prop_map(|age| Begin::Later(Start::At(age))),
            2 => (ages.clone(), ages).prop_map(|(age, more)| Begin::Later(Start::Budgeted(age, age + more))),
            1 => Just(Begin::Later(Start::LastResort)),
        ]
    }

    /// Races: when each leg starts, the first of them at once, and the steps in their order.
    fn races() -> impl Strategy<Value = (Vec<Begin>, Vec<Step>)> {
        (1..=8usize).prop_flat_map(|legs| {
            let begins = proptest::collection::vec(begins(), legs);
            let does = proptest::collection::vec(0..14_u8, legs);
            let order = Just((0..legs).collect::<Vec<_>>()).prop_shuffle();
            let at = || proptest::option::weighted(0.3, 0..=legs);
            let bounds = proptest::collection::vec((0..=legs, 0..4_u8), 0..3);
            let ages = proptest::collection::vec((0..=legs, any::<bool>()), 0..4);
            (begins, does, order, bounds, at(), ages).prop_map(
                move |(mut begins, does, order, bounds, abandoned_at, ages)| {
                    begins[0] = Begin::AtOnce;
                    let step = |leg| match does[leg] {
                        0 => Step::Succeed(leg),
                        1 => Step::Final(leg),
                        2..4 => Step::Hold(leg),
                        rank @ 4..8 => Step::Keep(leg, rank - 4),
                        _ => Step::Fail(leg),
                    };
                    let mut steps: Vec<Step> = order.into_iter().map(step).collect();
                    for (at, rank) in bounds {
                        steps.insert(at, Step::StopWaiting(rank));
                    }
                    if let Some(at) = abandoned_at {
                        steps.insert(at, Step::Abandon);
                    }
                    for (number, (at, has_budget)) in (1..).zip(ages) {
                        steps.insert(at, Step::Age(Duration::from_millis(15 * number), has_budget));
                    }
                    (begins, steps)
                },
            )
        })
    }

    /// Runs a race by a script, as a caller must, and counts what the race has told.
    struct Runner {
        race: Race<&'static str, usize>,
        began: Instant,
        age: Duration,
        begins: Vec<Begin>,
        has_started: Vec<bool>,
        /// The legs that have no budget at their first age.
        refused: Vec<usize>,
        /// The legs that wait to be chosen.
        candidates: Vec<usize>,
        /// The leg whose failure is kept, and its rank.
        best: Option<(usize, u8)>,
        prizes: usize,
        ends: Vec<(Verdict, Vec<LegResult<usize>>)>,
    }

    impl Runner {
        fn of(begins: Vec<Begin>) -> Runner {
            let began = Instant::now();
            let race = Race::new(begins.len(), "prize", began);
            let mut timetable = Timetable::default();
            for (leg, begin) in begins.iter().enumerate() {
                match begin {
                    Begin::AtOnce => {}
                    Begin::Beside => timetable.add_beside(leg),
                    Begin::Later(start) => timetable.add(leg, *start),
                }
            }
            race.keep_back(timetable);
            let has_started = begins.iter().map(|begin| !matches!(begin, Begin::Later(_))).collect();
            let (age, refused, candidates, best) = (Duration::ZERO, Vec::new(), Vec::new(), None);
            Runner { race, began, age, begins, has_started, refused, candidates, best, prizes: 0, ends: Vec::new() }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Succeed(leg) => {
                    let won = self.race.claim(leg, Verdict::Won);
                    self.win(leg, won);
                }
                Step::Final(leg) => {
                    let won = self.race.claim(leg, Verdict::Final);
                    self.win(leg, won);
                }
                Step::Keep(leg, rank) => match self.race.keep(leg, rank) {
                    Kept::No => self.end(leg),
                    Kept::Yes { instead_of } => {
                        let before = self.best.replace((leg, rank));
                        assert_eq!(instead_of, before.map(|(other, _)| other));
                        assert!(before.is_none_or(|(_, other)| other < rank), "it says more");
                        if let Some(other) = instead_of {
                            self.end(other);
                        }
                        let next = self.race.next();
                        self.act_on(next);
                    }
                },
                Step::StopWaiting(rank_min) => {
                    if let Some(leg) = self.race.stop_waiting(rank_min) {
                        let (best, rank) = self.best.take().expect("it is kept");
                        assert!(best == leg && rank >= rank_min);
                        self.pass_on(leg);
                    }
                }
                Step::Hold(leg) => match self.race.hold(leg) {
                    None => self.end(leg),
                    Some(next) => {
                        self.candidates.push(leg);
                        self.act_on(next);
                    }
                },
                Step::Fail(leg) => self.end(leg),
                Step::Abandon => {
                    let Abandoned { prize, unneeded, candidates } = self.race.abandon();
                    self.prizes += usize::from(prize.is_some());
                    (self.candidates, self.best) = (Vec::new(), None);
                    self.end_all(unneeded, candidates);
                }
                Step::Age(age, has_budget) => self.pass(age, has_budget),
            }
        }

        /// The legs that needn't start are all that haven't.
        fn end_all(&mut self, unneeded: Vec<usize>, candidates: Vec<usize>) {
            let mut waiting: Vec<usize> = self.waiting().map(|(leg, _)| leg).collect();
            waiting.sort_unstable();
            let mut told = unneeded.clone();
            told.sort_unstable();
            assert_eq!(told, waiting);
            for leg in unneeded.into_iter().chain(candidates) {
                self.end(leg);
            }
        }

        /// The legs that haven't started nor ended, and when they do by time.
        fn waiting(&self) -> impl Iterator<Item = (usize, Duration)> {
            let is_waiting = |leg: &usize| !self.has_started[*leg] && !self.has_ended(*leg);
            (0..self.begins.len()).filter(is_waiting).map(|leg| match self.begins[leg] {
                Begin::Later(Start::At(age)) => (leg, age),
                Begin::Later(Start::Budgeted(first, second)) => {
                    (leg, if self.refused.contains(&leg) { second } else { first })
                }
                _ => (leg, Duration::MAX),
            })
        }

        fn has_ended(&self, leg: usize) -> bool {
            self.race.state.lock().results[leg].is_some()
        }

        fn pass(&mut self, age: Duration, has_budget: bool) {
            let mut refused = Vec::new();
            let legs = self.race.start_due(self.began + age, |leg| {
                if !has_budget {
                    refused.push(leg);
                }
                has_budget
            });
            self.age = age;
            self.refused.extend(refused);
            let next = self.race.next_start().map(|at| at - self.began);
            if self.race.is_decided() {
                return assert_eq!((legs, next), (vec![], None), "a decided race starts nothing");
            }
            let due: Vec<usize> = self.waiting().filter(|(_, at)| *at <= age).map(|(leg, _)| leg).collect();
            let mut told = legs.clone();
            told.sort_unstable();
            assert_eq!(told, due, "exactly those that are due");
            self.note_starts(&legs);
            assert_eq!(next, self.waiting().map(|(_, at)| at).min().filter(|at| *at < Duration::MAX));
        }

        fn note_starts(&mut self, legs: &[usize]) {
            for leg in legs {
                self.has_started[*leg] = true;
            }
        }

        fn win(&mut self, leg: usize, won: Option<Won<&'static str>>) {
            if let Some(won) = won {
                self.prizes += 1;
                self.race.hang_up(Some(leg));
                assert!(!self.race.token(leg).is_cancelled(), "the winner runs on");
                assert!(won.losers.iter().all(|loser| self.race.token(*loser).is_cancelled()));
                let mut held = std::mem::take(&mut self.candidates);
                held.extend(self.best.take().map(|(best, _)| best));
                assert_eq!(won.candidates, held, "all of them lose");
                assert!(won.losers.iter().all(|loser| !won.candidates.contains(loser)));
                self.end_all(won.unneeded, won.candidates);
            }
            self.end(leg);
        }

        fn pass_on(&mut self, leg: usize) {
            let won = self.race.claim(leg, Verdict::Best);
            self.win(leg, won);
        }

        fn end(&mut self, leg: usize) {
            let next = self.race.end(leg, leg, Duration::ZERO);
            self.act_on(next);
        }

        /// No leg may do better any more, but those that run beside.
        fn assert_idle(&self) {
            let is_running = |leg: &usize| {
                self.has_started[*leg]
                    && self.begins[*leg] != Begin::Beside
                    && !self.has_ended(*leg)
                    && !self.candidates.contains(leg)
                    && self.best.is_none_or(|(best, _)| best != *leg)
            };
            assert!((0..self.begins.len()).find(is_running).is_none(), "a leg that was started may win");
        }

        fn act_on(&mut self, next: Next<&'static str, usize>) {
            match next {
                Next::Running => {}
                Next::Choose(legs) => {
                    self.assert_idle();
                    assert_eq!(self.waiting().count(), 0, "others might do better");
                    assert_eq!(legs, std::mem::take(&mut self.candidates), "all of them, the earliest first");
                    legs[1..].iter().for_each(|leg| self.end(*leg));
                    self.take(Step::Succeed(legs[0]));
                }
                Next::PassOn(leg) => {
                    self.assert_idle();
                    let is_running = |other: &usize| *other != leg && !self.has_ended(*other);
                    assert!(!(0..self.begins.len()).any(|other| is_running(&other)), "another might do better");
                    assert_eq!(self.best.take().map(|(best, _)| best), Some(leg));
                    self.pass_on(leg);
                }
                Next::Start(legs) => {
                    self.assert_idle();
                    assert!(!self.race.is_decided());
                    let age = self.waiting().map(|(_, at)| at).min().expect("one waits");
                    let tier: Vec<usize> = self.waiting().filter(|(_, at)| *at == age).map(|(leg, _)| leg).collect();
                    let mut told = legs.clone();
                    told.sort_unstable();
                    assert_eq!(told, tier, "exactly the next tier is started");
                    self.note_starts(&legs);
                }
                Next::LastLost(_, results) => {
                    assert!(self.has_started.iter().all(|has_started| *has_started), "no leg is left");
                    self.prizes += 1;
                    self.ends.push((Verdict::Lost, results));
                }
                Next::Over(verdict, results) => self.ends.push((verdict, results)),
            }
        }
    }

    #[test]
    fn a_loser_that_is_spared_is_hung_up_on_by_itself() {
        let race: Race<&str, usize> = Race::new(4, "prize", Instant::now());
        assert!(race.claim(1, Verdict::Won).is_some());
        race.spare(&[2, 3]);
        race.hang_up(Some(1));
        let cancelled = || [0, 1, 2, 3].map(|leg| race.token(leg).is_cancelled());
        assert_eq!(cancelled(), [true, false, false, false]);
        assert_eq!((race.stop_sparing(2), race.stop_sparing(2), race.stop_sparing(0)), (Some(1), None, None));
        race.hang_up(Some(1));
        assert_eq!(cancelled(), [true, false, true, false]);
        race.hang_up_spared();
        assert_eq!(cancelled(), [true, false, true, true]);
    }

    /// A probe may lose with its answer between the verdict and the step that would spare it.
    #[test]
    fn a_loser_that_has_answered_is_spared_no_more() {
        let race: Race<&str, usize> = Race::new(2, "prize", Instant::now());
        assert!(race.claim(0, Verdict::Won).is_some());
        assert_eq!(race.stop_sparing(1), None);
        race.spare(&[1]);
        race.hang_up(Some(0));
        assert!(race.token(1).is_cancelled());
    }

    #[test]
    fn a_client_that_leaves_after_the_verdict_shortens_no_losers_linger() {
        let race: Race<&str, usize> = Race::new(3, "prize", Instant::now());
        assert!(race.claim(1, Verdict::Won).is_some());
        assert_eq!(race.abandon().prize, None);
        race.hang_up_abandoned();
        assert_eq!([0, 1, 2].map(|leg| race.token(leg).is_cancelled()), [false, true, false]);
        let race: Race<&str, usize> = Race::new(2, "prize", Instant::now());
        assert_eq!(race.abandon().prize, Some("prize"));
        race.hang_up_abandoned();
        assert!(race.token(0).is_cancelled() && race.token(1).is_cancelled());
    }

    proptest! {
        /// In any order of outcomes and times there is one winner: the first to succeed, or to have an answer that is final; or
        /// else the first that is second-best; or else the first of those whose failure says most, which waits for all others, or
        /// to its bound. The prize is given once; no leg starts before it may, nor in a decided race; every leg is accounted for.
        #[test]
        fn any_order_of_outcomes_has_one_right_end((begins, steps) in races()) {
            let legs = begins.len();
            let mut runner = Runner::of(begins);
            let mut steps = std::collections::VecDeque::from(steps);
            let (mut first, mut second, mut third) = (None, None, None::<(usize, u8)>);
            while let Some(step) = steps.pop_front() {
                // A leg does nothing until it is started; one that wasn't needed does nothing at all.
                if let Step::Succeed(leg)
                | Step::Final(leg)
                | Step::Hold(leg)
                | Step::Keep(leg, _)
                | Step::Fail(leg) = step
                {
                    if runner.has_ended(leg) {
                        continue;
                    }
                    if !runner.has_started[leg] {
                        steps.push_back(step);
                        continue;
                    }
                }
                if matches!(step, Step::Age(age, _) if age < runner.age) {
                    continue;
                }
                // Abandoned after the last leg has ended, or while it delivers, it is decided already.
                let is_decided = runner.race.is_decided();
                match step {
                    Step::Succeed(leg) if !is_decided => first = Some(Verdict::Won(leg)),
                    Step::Final(leg) if !is_decided => first = Some(Verdict::Final(leg)),
                    Step::Abandon if !is_decided => first = Some(Verdict::Abandoned),
                    Step::Hold(leg) if !is_decided => second = second.or(Some(Verdict::Won(leg))),
                    Step::Keep(leg, rank) if !is_decided => {
                        third = third.filter(|(_, best)| *best >= rank).or(Some((leg, rank)));
                    }
                    Step::StopWaiting(rank_min) if !is_decided && second.is_none() => {
                        let kept = third.filter(|(_, rank)| *rank >= rank_min);
                        first = first.or(kept.map(|(leg, _)| Verdict::Best(leg)));
                    }
                    _ => {}
                }
                runner.take(step);
            }
            let third = third.map(|(leg, _)| Verdict::Best(leg));
            let expected = first.or(second).or(third).unwrap_or(Verdict::Lost);
            prop_assert_eq!(runner.prizes, 1, "the prize is given exactly once");
            prop_assert_eq!(runner.ends.len(), 1, "the race ends exactly once");
            let (verdict, results) = &runner.ends[0];
            prop_assert_eq!(*verdict, expected);
            let accounted: Vec<usize> = results.iter().map(|result| result.outcome).collect();
            prop_assert_eq!(accounted, (0..legs).collect::<Vec<_>>());
        }
    }
}
