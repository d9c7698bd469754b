//! Decides a race: who won, who lost, when all have, and how long losers may linger. Every step is one look under one
//! lock, so that there is one winner, and every leg is accounted for.
//! Knows nothing of HTTP or sockets: what the winner gets is any value, so its tests need no network.

mod cancel;
mod legs;
mod reaper;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
        Race { began: now, tokens: vec![CancelToken::default(); legs].into_iter().map(|_| CancelToken::default()).collect(), state: Mutex::new(state) }
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

    /// The client has left: every leg is hung up on. The prize, if nobody has taken it.
    pub fn abandon(&self) -> Option<P> {
        let prize = {
            let mut state = self.state();
            state.verdict.get_or_insert(Verdict::Abandoned);
            state.prize.take()
        };
        self.hang_up_all();
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

/// After a verdict, the losers of a race: what the [`Reaper`] holds until their time is over.
pub trait Losers: Send + Sync {
    /// Hangs up on them.
    fn hang_up(&self, winner: usize);
}

impl<P: Send, O: Clone + Send> Losers for Race<P, O> {
    fn hang_up(&self, winner: usize) {
        self.hang_up_losers(winner);
    }
}

/// How long losers may linger after the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Linger {
    /// After a safe method (RFC 9110 §9.2.1): nobody needs their answers, only their lines.
    pub safe: Duration,
    /// After any other method: the request should reach every backend whole.
    pub unsafe_: Duration,
}

/// Decides how long a winner's losers linger, and sees to it.
pub fn decided(losers: Arc<dyn Losers>, winner: usize, linger: Duration, reaper: &Reaper, now: Instant) {
    if linger.is_zero() {
        losers.hang_up(winner);
    } else {
        reaper.add(losers, winner, now + linger);
    }
}
