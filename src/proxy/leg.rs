//! One backend's part of a race: who it is, and between two of its steps what it waits for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backends::Backend;
use crate::message::Outcome;
use crate::race::Mark;
use crate::upstream::{Answer, AnswerBody, Draining, FilePlace, Outgoing, Upload, Waiting};

/// A leg.
pub(super) struct Leg {
    pub(super) backend: Arc<Backend>,
    /// Whether it waits in vain.
    pub(super) mark: Mark,
    /// For the file of the request's body, if that is in one.
    pub(super) file: Option<FilePlace>,
    state: Mutex<Option<State>>,
}

/// What a leg does while no thread works for it.
pub(super) enum State {
    /// It is on its way to its answer.
    Waiting(Waiting),
    /// It has an answer since then that would do if nothing better came.
    Candidate(Answer, Duration),
    /// Its answer has decided, and the rest of its request goes on; then a loser's body is read to its end.
    Uploading(Upload, Option<AnswerBody>),
    /// It has lost, and its body is read to its end; how it has ended then, if that is still open.
    Draining(Draining, Option<(Outcome, Duration)>),
}

impl Leg {
    pub(super) fn new(backend: Arc<Backend>, file: Option<FilePlace>) -> Leg {
        Leg { backend, mark: Mark::default(), file, state: Mutex::default() }
    }

    /// Leaves it until an event.
    pub(super) fn put(&self, state: State) {
        *self.state() = Some(state);
    }

    /// Whoever takes it goes on with it.
    pub(super) fn take(&self) -> Option<State> {
        self.state().take()
    }

    /// Takes the answer that waits for what the others say.
    pub(super) fn take_candidate(&self) -> Option<(Answer, Duration)> {
        let state = self.state().take_if(|state| matches!(state, State::Candidate(..)));
        if let Some(State::Candidate(answer, after)) = state { Some((answer, after)) } else { None }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether going on reads the request's body from a file.
    pub(super) fn reads_file(&self, request: &Outgoing) -> bool {
        match self {
            State::Waiting(waiting) => waiting.reads_file(request),
            State::Uploading(upload, ..) => upload.reads_file(),
            State::Candidate(..) | State::Draining(..) => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Waiting(waiting) => waiting.fmt(f),
            State::Candidate(answer, _) => {
                write!(f, "has {}, and waits for what the others say", answer.status.as_u16())
            }
            State::Uploading(..) => f.write_str("sends the rest of the request"),
            State::Draining(..) => f.write_str("has lost, and reads the rest of the answer"),
        }
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state().as_ref().map_or_else(|| "runs, or has ended".to_owned(), State::to_string);
        f.debug_struct("Leg").field("backend", self.backend.address()).field("state", &state).finish_non_exhaustive()
    }
}
