//! What goes on for the sake of a leg's connection once its answer has decided: the rest of its request, the rest of its body.
//! Nothing of it concerns the client.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Exchange;
use crate::upstream::{Draining, Upload, UploadStop, Uploaded};

impl Exchange {
    /// The rest of a request whose answer is over goes on for as long as a loser may linger.
    pub(super) fn let_linger(&self, upload: &Arc<UploadStop>) {
        self.proxy.reaper.take(upload, None, self.request.method().is_safe(), Instant::now());
    }

    /// Sends the rest of a request to a backend that has answered, and then does what is to be done. Doesn't block.
    pub(super) fn upload(self: &Arc<Self>, upload: Upload, then: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let (reads_file, exchange) = (upload.reads_file(), self.clone());
        self.run(reads_file, move || match upload.go_on() {
            Uploaded::Turn(upload) => exchange.upload(upload, then),
            Uploaded::Full(upload, until) => upload.wait(until, move |upload| exchange.upload(upload, then)),
            Uploaded::Over => then(&exchange),
        });
    }

    /// The rest of a loser's body. The reaper hangs up on it, which it can do as long as the race is there. A head whose short body
    /// doesn't come is no answer: its backend isn't heard, and a leg that has lost to another's is told by `ended` whether it has.
    pub(super) fn drain(
        self: &Arc<Self>,
        leg: usize,
        draining: Option<Draining>,
        ended: impl FnOnce(&Arc<Self>, bool) + Send + 'static,
    ) {
        let Some(draining) = draining else {
            self.hear(leg);
            return ended(self, true);
        };
        let exchange = self.clone();
        draining.wait(move |draining| {
            if draining.is_over() {
                drop(draining);
                return ended(&exchange, false);
            }
            exchange.drain(leg, draining.go_on(), ended);
        });
    }
}
