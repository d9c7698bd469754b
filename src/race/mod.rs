//! Decides a race: who won, who lost, when all have, and how long losers may linger. Every step is one look under one
//! lock, so that there is one winner, and every leg is accounted for.
//! Knows nothing of HTTP or sockets: what the winner gets is any value, so its tests need no network.

mod cancel;
mod legs;
mod reaper;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use cancel::{CancelToken, Cancelled, HangUp};
pub use legs::{Foreman, Job, Legs, QueueFull};
pub use reaper::Reaper;

/// How a race ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A leg has won: its number.
    Won(usize),
    /// Every leg has lost.
    Lost,
    /// The client left before the race was decided.
    Abandoned,
}

/// One request against all backends. `P` is the prize: what the winner needs to answer, or the last loser.
/// `O` is how a leg ended.
pub struct Race<P, O> {
    began: Instant,
    tokens: Vec<CancelToken>,
    state: Mutex<State<P, O>>,
}

struct State<P, O> {
    verdict: Option<Verdict>,
    prize: Option<P>,
    results: Vec<Option<LegResult<O>>>,
    running: usize,
}

/// How one leg ended, and after how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegResult<O> {
    /// The outcome.
    pub outcome: O,
    /// From the race's begin to the outcome.
    pub after: Duration,
}

/// What the end of a leg means for its race.
#[derive(Debug, PartialEq, Eq)]
pub enum End<P, O> {
    /// Other legs are still running.
    Running,
    /// All legs have lost, and this was the last: it answers the client.
    LastLost(P, Vec<LegResult<O>>),
    /// This was the last leg of a race that had been decided before: everything is known now.
    Over(Verdict, Vec<LegResult<O>>),
}

impl<P, O: Clone> Race<P, O> {
    /// A race of that many legs, at least one.
    pub fn new(legs: usize, prize: P, now: Instant) -> Race<P, O> {
        assert!(legs > 0, "a race needs a leg");
        let state = State { verdict: None, prize: Some(prize), results: vec![None; legs], running: legs };
        let tokens = std::iter::repeat_with(CancelToken::default).take(legs).collect();
        Race { began: now, tokens, state: Mutex::new(state) }
    }

    /// A leg's token: cancelled when the leg is to be hung up on.
    pub fn token(&self, leg: usize) -> &CancelToken {
        &self.tokens[leg]
    }

    /// How long the race has lasted.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// A leg has succeeded. The first gets the prize; for all others it is too late.
    pub fn claim(&self, leg: usize) -> Option<P> {
        let mut state = self.state();
        if state.verdict.is_some() {
            return None;
        }
        state.verdict = Some(Verdict::Won(leg));
        state.prize.take()
    }

    /// A leg has ended, exactly once each; the winner after it has delivered.
    pub fn end(&self, leg: usize, outcome: O, after: Duration) -> End<P, O> {
        let mut state = self.state();
        assert!(state.results[leg].is_none(), "a leg ends once");
        state.results[leg] = Some(LegResult { outcome, after });
        state.running -= 1;
        if state.running > 0 {
            return End::Running;
        }
        let results = state.results.iter().flatten().cloned().collect();
        match state.verdict {
            Some(verdict) => End::Over(verdict, results),
            None => {
                state.verdict = Some(Verdict::Lost);
                match state.prize.take() {
                    Some(prize) => End::LastLost(prize, results),
                    None => End::Over(Verdict::Lost, results),
                }
            }
        }
    }

    /// The client has left: every leg is hung up on; after the verdict only the winner is, for how long its losers may
    /// linger has been settled with it. The prize, if nobody has taken it.
    pub fn abandon(&self) -> Option<P> {
        let (verdict, prize) = {
            let mut state = self.state();
            (*state.verdict.get_or_insert(Verdict::Abandoned), state.prize.take())
        };
        match verdict {
            Verdict::Won(winner) => self.token(winner).cancel(),
            Verdict::Abandoned => self.hang_up_all(),
            Verdict::Lost => {}
        }
        prize
    }

    /// Hangs up on every leg that is still running.
    pub fn hang_up_all(&self) {
        for token in &self.tokens {
            token.cancel();
        }
    }

    /// Hangs up on everybody but the winner.
    pub fn hang_up_losers(&self, winner: usize) {
        for (leg, token) in self.tokens.iter().enumerate() {
            if leg != winner {
                token.cancel();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<P, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The losers of a decided race, whatever the race was about.
pub trait Losers: Send + Sync {
    /// Hangs up on everybody but the winner.
    fn hang_up(&self, winner: usize);
}

impl<P: Send, O: Clone + Send> Losers for Race<P, O> {
    fn hang_up(&self, winner: usize) {
        self.hang_up_losers(winner);
    }
}

/// How long losers may linger after the verdict. None at all hangs up on them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    /// After a safe method (RFC 9110 §9.2.1): nobody needs their answers, but their lines can be used again.
    pub safe: Duration,
    /// After any other method: the request should reach every backend whole.
    pub not_safe: Duration,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a leg does, in the order in which the steps happen.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Succeed(usize),
        Fail(usize),
        Abandon,
    }

    fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
        (1..=8usize).prop_flat_map(|legs| {
            let leg = prop_oneof![Just(Step::Succeed as fn(usize) -> Step), Just(Step::Fail as fn(usize) -> Step)];
            let outcomes = proptest::collection::vec(leg, legs);
            let order = Just((0..legs).collect::<Vec<_>>()).prop_shuffle();
            let abandoned_at = proptest::option::of(0..=legs);
            (outcomes, order, abandoned_at).prop_map(move |(outcomes, order, abandoned_at)| {
                let mut steps: Vec<Step> = order.into_iter().map(|leg| outcomes[leg](leg)).collect();
                if let Some(at) = abandoned_at {
                    steps.insert(at, Step::Abandon);
                }
                (legs, steps)
            })
        })
    }

    proptest! {
        /// In any order of outcomes there is one winner, the first to succeed; the prize is given once; every leg is
        /// accounted for; nobody but the losers is hung up on, unless the client leaves.
        #[test]
        fn any_order_of_outcomes_has_one_right_end((legs, steps) in steps()) {
            let race: Race<&str, usize> = Race::new(legs, "prize", Instant::now());
            let first = steps.iter().find(|step| !matches!(step, Step::Fail(_))).copied();
            let all_fail_first = steps.iter().take_while(|step| matches!(step, Step::Fail(_))).count() == legs;
            let expected = match first {
                _ if all_fail_first => Verdict::Lost,
                Some(Step::Succeed(leg)) => Verdict::Won(leg),
                _ => Verdict::Abandoned,
            };
            let (mut prizes, mut ends) = (0, Vec::new());
            for step in &steps {
                match *step {
                    Step::Succeed(leg) => {
                        let prize = race.claim(leg);
                        prop_assert_eq!(prize.is_some(), expected == Verdict::Won(leg));
                        prizes += usize::from(prize.is_some());
                        if prize.is_some() {
                            race.hang_up_losers(leg);
                            prop_assert!(!race.token(leg).is_cancelled());
                        }
                        ends.push(race.end(leg, leg, Duration::ZERO));
                    }
                    Step::Fail(leg) => ends.push(race.end(leg, leg, Duration::ZERO)),
                    Step::Abandon => prizes += usize::from(race.abandon().is_some()),
                }
            }
            let last = ends.pop();
            prop_assert!(ends.iter().all(|end| *end == End::Running), "only the last leg ends the race");
            let results = match last {
                Some(End::LastLost(_, results)) => {
                    prizes += 1;
                    prop_assert_eq!(expected, Verdict::Lost);
                    results
                }
                Some(End::Over(verdict, results)) => {
                    prop_assert_eq!(verdict, expected);
                    results
                }
                other => return Err(TestCaseError::fail(format!("the last leg says {other:?}"))),
            };
            prop_assert_eq!(prizes, 1, "the prize is given exactly once");
            let accounted: Vec<usize> = results.iter().map(|result| result.outcome).collect();
            prop_assert_eq!(accounted, (0..legs).collect::<Vec<_>>());
        }
    }
}
