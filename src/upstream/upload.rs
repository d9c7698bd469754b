//! The rest of a request whose answer is here already: it goes on to its backend beside the answer. Knows nothing of clients,
//! nor of why it may have to stop.

use crate::runtime::sync::{Arc, Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Lines;
use super::line::Line;
use super::permit::Permit;
use super::sending::Progress;
use super::slot::Events;
use super::wire::Wire;
use crate::runtime::cancel::Losers;

/// A request that still goes out. Dropping it ends it; then its connection isn't used again.
pub struct Upload {
    lines: Arc<Lines>,
    line: Arc<SharedLine>,
    stop: Arc<UploadStop>,
    /// For the file that its body may be in.
    file: Option<Permit>,
}

/// How far it has come.
pub enum Uploaded {
    /// It takes more, but others wait for their turn.
    Turn(Upload),
    /// The connection takes no more for now; until then it must.
    Full(Upload, Instant),
    /// It is out, or won't be.
    Over,
}

/// Stops an upload; its answer isn't touched.
pub struct UploadStop {
    wire: Arc<Wire>,
    is_stopped: AtomicBool,
    /// By then the connection may serve another request.
    is_over: AtomicBool,
}

/// The line of an answer whose request still goes out: whichever of both ends last gives it back.
#[derive(Default)]
pub(super) struct SharedLine(Mutex<Holder>);

#[derive(Default)]
enum Holder {
    #[default]
    Answer,
    /// The answer is over.
    Upload(Line),
    /// The upload is over.
    AnswerAlone,
}

impl Upload {
    /// The rest of the request that is on its way on this line.
    pub(super) fn new(line: &Line, lines: &Arc<Lines>, is_in_file: bool) -> Upload {
        let stop = Arc::new(UploadStop {
            wire: line.wire().clone(),
            is_stopped: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let file = is_in_file.then(|| lines.counted_permit());
        Upload { lines: lines.clone(), line: Arc::default(), stop, file }
    }

    pub(super) fn line(&self) -> Arc<SharedLine> {
        self.line.clone()
    }

    /// What ends it before its time.
    pub fn stop(&self) -> Arc<UploadStop> {
        self.stop.clone()
    }

    /// Whether it is read from a file.
    pub fn reads_file(&self) -> bool {
        self.file.is_some()
    }

    /// Sends what the connection takes. Blocks only on the disk.
    pub fn go_on(self) -> Uploaded {
        if self.stop.is_stopped.load(Ordering::Acquire) {
            return Uploaded::Over;
        }
        match self.stop.wire.send_more(None, self.lines.idle_timeout()) {
            Progress::Turn => Uploaded::Turn(self),
            Progress::Full(until) => Uploaded::Full(self, until),
            Progress::Out | Progress::Answered | Progress::Late | Progress::Over => Uploaded::Over,
        }
    }

    /// What tells when there may be room again, or that it is stopped, or that its time is over. Doesn't block.
    pub fn events(&self, until: Instant) -> Arc<dyn Events> {
        self.stop.wire.set_deadline(until);
        self.stop.wire.clone()
    }
}

impl UploadStop {
    /// Ends it now. Any thread, any number of times; doesn't block.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        if !self.is_over.load(Ordering::Acquire) {
            self.wire.wake();
        }
    }
}

impl Losers for UploadStop {
    fn hang_up(&self, _winner: Option<usize>) {
        self.stop();
    }
}

impl SharedLine {
    /// The answer is over: the line comes back if the upload is over as well.
    pub(super) fn leave(&self, line: Line) -> Option<Line> {
        let mut holder = self.holder();
        if matches!(*holder, Holder::AnswerAlone) {
            return Some(line);
        }
        *holder = Holder::Upload(line);
        None
    }

    /// The upload is over.
    fn end(&self, lines: &Lines) {
        let holder = std::mem::replace(&mut *self.holder(), Holder::AnswerAlone);
        if let Holder::Upload(line) = holder {
            lines.keep(line, Instant::now());
        }
    }

    fn holder(&self) -> MutexGuard<'_, Holder> {
        self.0.lock()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.stop.is_over.store(true, Ordering::Release);
        if !self.stop.wire.is_request_out() {
            // A backend mustn't take what it has got for the whole.
            self.stop.wire.reset_at_close();
        }
        self.line.end(&self.lines);
    }
}
