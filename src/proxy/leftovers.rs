//! What goes on for the sake of a leg's connection once its answer has decided: the rest of its request, the rest of its body.
//! Nothing of it concerns the client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, LOSER_BODY_BYTES_MAX};
use super::leg::State;
use crate::message::Outcome;
use crate::upstream::{AnswerBody, Draining, Upload, UploadStop, Uploaded};

impl Exchange {
    /// The rest of a request whose answer is over goes on for as long as a loser may linger.
    pub(super) fn let_linger(&self, upload: &Arc<UploadStop>) {
        self.proxy.reaper.take(upload, None, self.request.method().is_safe(), Instant::now());
    }

    /// Sends the rest of a request to a backend that has answered; then a loser's body is read to its end. Doesn't block, but on the
    /// disk if the request is in a file.
    pub(super) fn upload(self: &Arc<Self>, leg: usize, upload: Upload, body: Option<AnswerBody>) {
        match upload.go_on() {
            Uploaded::Turn(upload) => self.resume(leg, State::Uploading(upload, body)),
            Uploaded::Full(upload, until) => {
                let events = upload.events(until);
                self.park(leg, State::Uploading(upload, body), &events);
            }
            Uploaded::Over => match body.and_then(|body| body.drain(LOSER_BODY_BYTES_MAX)) {
                Some(draining) => self.drain(leg, draining, None),
                None => self.hear(leg),
            },
        }
    }

    /// Reads the rest of a loser's body. The reaper hangs up on it, which it can do as long as the race is there. A head whose short
    /// body doesn't come is no answer: its backend isn't heard, and the leg, if it hasn't ended, is cancelled.
    pub(super) fn drain(self: &Arc<Self>, leg: usize, draining: Draining, ends: Option<(Outcome, Duration)>) {
        if draining.is_over() {
            // Its connection first: whoever reads the line of the log may count on it.
            drop(draining);
            let cancelled = ends.map(|(_, after)| (Outcome::Cancelled, after));
            return cancelled.map_or((), |(outcome, after)| self.end(leg, outcome, after));
        }
        match draining.go_on() {
            Some(draining) => {
                let events = draining.events();
                self.park(leg, State::Draining(draining, ends), &events);
            }
            None => self.drained(leg, ends),
        }
    }

    /// A loser's answer has been read as far as is worth it.
    pub(super) fn drained(self: &Arc<Self>, leg: usize, ends: Option<(Outcome, Duration)>) {
        self.hear(leg);
        if let Some((outcome, after)) = ends {
            self.end(leg, outcome, after);
        }
    }
}
