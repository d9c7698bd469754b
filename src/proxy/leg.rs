//! One backend's part of a race: its backend, and the state in which it is between two steps.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::judging::Judging;
use super::parked::Parked;
use crate::message::Outcome;
use crate::message::proxy_status::How;
use crate::runtime::sync::Arc;
use crate::upstream::{
    Answer, AnswerBody, Backend, BenchTicket, Draining, FilePermit, LookLease, PendingAnswer, PendingRequest, Prospect,
    Upload,
};

/// One backend's part of a race.
pub(super) struct Leg {
    pub(super) backend: Arc<Backend>,
    /// Whether it counts as pending at its backend.
    pub(super) pending: PendingRequest,
    /// Whether it has its backend's long look.
    pub(super) look: LookLease,
    /// What it has of its backend's bench.
    pub(super) ticket: BenchTicket,
    /// The permit for the file of the request's body, if that is in one.
    pub(super) file: Option<FilePermit>,
    /// When it started, counted from the race's begin; unset if it was kept back and isn't needed.
    pub(super) started: OnceLock<Duration>,
    role: AtomicU8,
    pub(super) parked: Parked<LegState>,
}

/// The part that a leg has in its race: when it starts, or why it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It starts with the race.
    First,
    /// It waits for its time, or for those before it to lose.
    Later,
    /// It starts only if all others lose.
    Deferred,
    /// It starts with the race, as a probe mostly, and no other leg waits for it.
    Probe,
    /// It has started since its time had come.
    Hedge,
    /// It has started since all legs before it had lost.
    Failover,
}

/// By their numbers.
const ROLES: [Role; 6] = [Role::First, Role::Later, Role::Deferred, Role::Probe, Role::Hedge, Role::Failover];

/// The state of a leg while no thread runs it.
pub(super) enum LegState {
    /// It is on its way to its answer.
    Pending(PendingAnswer),
    /// It has an answer, since this long after the race's begin, that would do if nothing better came.
    Candidate(Box<Answer>, Duration),
    /// It has an answer that would win, and more of its body decides whether it does.
    Judging(Box<Judging>),
    /// Its answer has decided, and the rest of its request is sent; then a loser's body is read to its end.
    Uploading(Upload, Option<AnswerBody>),
    /// It has lost, and its body is read to its end; its outcome then, if that is still open.
    Draining(Draining, Option<(Outcome, Duration)>),
}

impl Leg {
    pub(super) fn new(backend: Arc<Backend>, file: Option<FilePermit>) -> Leg {
        Leg {
            backend,
            pending: PendingRequest::default(),
            look: LookLease::default(),
            ticket: BenchTicket::default(),
            file,
            started: OnceLock::new(),
            role: AtomicU8::new(Role::First as u8),
            parked: Parked::default(),
        }
    }

    /// Whether it isn't hung up on with other losers.
    pub(super) fn is_spared(&self) -> bool {
        self.look.is_taken() || self.ticket.is_probe()
    }

    pub(super) fn role(&self) -> Role {
        ROLES[usize::from(self.role.load(Ordering::Relaxed))]
    }

    pub(super) fn set_role(&self, role: Role) {
        self.role.store(role as u8, Ordering::Relaxed);
    }

    /// How it has won, if it has.
    pub(super) fn how(&self) -> How {
        match self.role() {
            Role::Hedge => How::Hedge,
            Role::Failover => How::Failover,
            Role::First | Role::Later | Role::Deferred | Role::Probe => How::Won,
        }
    }

    /// Parks the leg with its answer until the race says what becomes of it.
    pub(super) fn hold(&self, answer: Box<Answer>, after: Duration) {
        self.parked.hold(LegState::Candidate(answer, after));
    }

    /// The prospect of the answer that is held.
    pub(super) fn prospect(&self) -> Option<Prospect> {
        self.parked.with(|state| match state {
            Some(LegState::Candidate(answer, _)) => Some(answer.body.prospect()),
            _ => None,
        })
    }

    /// Takes the answer that is held until the others have answered.
    pub(super) fn take_candidate(&self) -> Option<(Box<Answer>, Duration)> {
        let state = self.parked.take_if(|state| matches!(state, LegState::Candidate(..)));
        if let Some(LegState::Candidate(answer, after)) = state { Some((answer, after)) } else { None }
    }
}

impl LegState {
    /// Whether the request may still be on its way out.
    pub(super) fn sends(&self) -> bool {
        matches!(self, LegState::Pending(_) | LegState::Judging(_) | LegState::Uploading(..))
    }
}

impl fmt::Display for LegState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LegState::Pending(pending) => pending.fmt(f),
            LegState::Candidate(answer, _) => {
                write!(f, "has {}, and waits for what the others say", answer.status.as_u16())
            }
            LegState::Judging(_) => f.write_str("has an answer, and waits for what its body says"),
            LegState::Uploading(..) => f.write_str("sends the rest of the request"),
            LegState::Draining(..) => f.write_str("has lost, and reads the rest of the answer"),
        }
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state =
            self.parked.with(|state| state.map_or_else(|| "runs, or has ended".to_owned(), LegState::to_string));
        f.debug_struct("Leg").field("backend", self.backend.address()).field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{LINGER, Scenario};
    use super::*;
    use crate::upstream::scenario;

    /// A leg of no race, on its way to its answer, and what keeps its state.
    fn leg() -> (Leg, LegState, impl Sized) {
        let race = Scenario::of(1, LINGER);
        let backend = race.list.snapshot().remove(0);
        let upstream = scenario::Scenario::still();
        let (test_leg, end) = upstream.leg(scenario::get());
        (Leg::new(backend, None), LegState::Pending(test_leg.pending), (race, upstream, end))
    }

    fn candidate() -> (LegState, impl Sized) {
        let upstream = scenario::Scenario::still();
        let (test_leg, mut end) = upstream.leg(scenario::get());
        end.sends("HTTP/1.1 204 No Content\r\n\r\n");
        let answer = test_leg.answer().expect("an answer");
        (LegState::Candidate(Box::new(answer), Duration::ZERO), (upstream, end))
    }

    #[test]
    fn only_a_held_answer_is_a_candidate() {
        let (leg, state, _kept) = leg();
        assert!(leg.parked.park(state, false).is_ok() && leg.take_candidate().is_none());
        assert!(leg.parked.take_or_notify(|_| true).is_some(), "it stays where it is");
        let (LegState::Candidate(answer, after), _held) = candidate() else { panic!("an answer") };
        leg.hold(answer, after);
        assert!(leg.take_candidate().is_some_and(|(answer, _)| answer.status == 204));
        assert!(leg.take_candidate().is_none());
    }

    #[test]
    fn a_leg_says_what_it_does() {
        let (leg, state, _kept) = leg();
        assert!(format!("{leg:?}").contains("runs, or has ended"));
        assert!(leg.parked.park(state, false).is_ok());
        assert!(format!("{leg:?}").contains("awaits the answer"));
        assert_eq!(candidate().0.to_string(), "has 204, and waits for what the others say");
    }
}
