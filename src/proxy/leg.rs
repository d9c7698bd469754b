//! One backend's part of a race: who it is, and between two of its steps what it waits for.

use crate::runtime::sync::{Arc, Mutex};
use std::fmt;
use std::time::Duration;

use crate::message::Outcome;
use crate::upstream::{Answer, AnswerBody, Backend, Draining, FilePermit, PendingAnswer, PendingRequest, Upload};

/// A leg.
pub(super) struct Leg {
    pub(super) backend: Arc<Backend>,
    /// Whether it waits in vain.
    pub(super) pending: PendingRequest,
    /// For the file of the request's body, if that is in one.
    pub(super) file: Option<FilePermit>,
    parked: Mutex<Parked>,
}

/// Where a leg is between two steps.
#[derive(Default)]
struct Parked {
    /// `None` while a thread works for it, and once it has ended.
    state: Option<LegState>,
    /// An event came meanwhile.
    is_notified: bool,
    /// It has a turn on a thread for the disk.
    is_queued: bool,
}

/// What a leg does while no thread works for it.
pub(super) enum LegState {
    /// It is on its way to its answer.
    Pending(PendingAnswer),
    /// It has an answer since then that would do if nothing better came.
    Candidate(Answer, Duration),
    /// Its answer has decided, and the rest of its request goes on; then a loser's body is read to its end.
    Uploading(Upload, Option<AnswerBody>),
    /// It has lost, and its body is read to its end; how it has ended then, if that is still open.
    Draining(Draining, Option<(Outcome, Duration)>),
}

impl Leg {
    pub(super) fn new(backend: Arc<Backend>, file: Option<FilePermit>) -> Leg {
        Leg { backend, pending: PendingRequest::default(), file, parked: Mutex::default() }
    }

    /// Leaves it until an event, or gives it back if one came while a thread worked for it.
    pub(super) fn park(&self, state: LegState) -> Option<LegState> {
        let mut parked = self.parked.lock();
        if std::mem::take(&mut parked.is_notified) {
            return Some(state);
        }
        parked.state = Some(state);
        None
    }

    /// Leaves it with its answer until the race says what becomes of it.
    pub(super) fn hold(&self, answer: Answer, after: Duration) {
        self.parked.lock().state = Some(LegState::Candidate(answer, after));
    }

    /// Whoever takes it goes on with it. If a thread works for it, that hears of the event.
    pub(super) fn take_or_notify(&self) -> Option<LegState> {
        let mut parked = self.parked.lock();
        let state = parked.state.take();
        parked.is_notified |= state.is_none();
        state
    }

    /// It is to have a turn on a thread for the disk: whether it hasn't one already.
    pub(super) fn try_queue(&self) -> bool {
        !std::mem::replace(&mut self.parked.lock().is_queued, true)
    }

    /// That turn has come; there may be nothing left to do.
    pub(super) fn dequeue(&self) -> Option<LegState> {
        let mut parked = self.parked.lock();
        parked.is_queued = false;
        parked.state.take()
    }

    /// Takes the answer that waits for what the others say.
    pub(super) fn take_candidate(&self) -> Option<(Answer, Duration)> {
        let state = self.parked.lock().state.take_if(|state| matches!(state, LegState::Candidate(..)));
        if let Some(LegState::Candidate(answer, after)) = state { Some((answer, after)) } else { None }
    }
}

impl fmt::Display for LegState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LegState::Pending(pending) => pending.fmt(f),
            LegState::Candidate(answer, _) => {
                write!(f, "has {}, and waits for what the others say", answer.status.as_u16())
            }
            LegState::Uploading(..) => f.write_str("sends the rest of the request"),
            LegState::Draining(..) => f.write_str("has lost, and reads the rest of the answer"),
        }
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state =
            self.parked.lock().state.as_ref().map_or_else(|| "runs, or has ended".to_owned(), LegState::to_string);
        f.debug_struct("Leg").field("backend", self.backend.address()).field("state", &state).finish_non_exhaustive()
    }
}
