//! What has happened on a connection. Knows nothing of sockets: those who use them note it here.

use std::io;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A connection's story; all but its failure is told anew for each call.
#[derive(Debug)]
pub(super) struct Story {
    /// A byte of the current answer has come.
    answered: AtomicBool,
    /// The peer reset the connection.
    reset: AtomicBool,
    /// The peer acknowledged nothing for too long.
    timed_out: AtomicBool,
    /// So much of the answer is in the buffer that the next read won't wait.
    buffered: AtomicBool,
    /// How many bytes of the answer ureq holds that haven't been read.
    held: AtomicUsize,
    /// ureq has read an answer to its end and would use the connection again.
    reusable: AtomicBool,
}

impl Story {
    pub(super) fn new() -> Story {
        let [answered, reset, timed_out, buffered, reusable] = [(); 5].map(|()| AtomicBool::new(false));
        Story { answered, reset, timed_out, buffered, held: AtomicUsize::new(0), reusable }
    }

    /// A new request goes out.
    pub(super) fn begin(&self) {
        self.answered.store(false, Ordering::Release);
    }

    pub(super) fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    pub(super) fn has_buffered(&self) -> bool {
        self.buffered.load(Ordering::Acquire)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn is_reusable(&self) -> bool {
        self.reusable.load(Ordering::Acquire)
    }

    /// Notes that a byte of an answer has come.
    pub(super) fn note_answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// Notes how the connection has failed: the socket tells it only once.
    pub(super) fn note_failed(&self, kind: io::ErrorKind) {
        match kind {
            io::ErrorKind::ConnectionReset => self.reset.store(true, Ordering::Release),
            io::ErrorKind::TimedOut => self.timed_out.store(true, Ordering::Release),
            // What can't be written to any more has ended in order before.
            _ => {}
        }
    }

    /// Notes how many bytes of an answer ureq holds, and whether by these the next read of its body won't wait.
    pub(super) fn note_buffered(&self, held: usize, buffered: bool) {
        self.held.store(held, Ordering::Release);
        self.buffered.store(buffered, Ordering::Release);
    }

    /// Notes that ureq would use the connection again, or that it is using it.
    pub(super) fn note_reusable(&self, reusable: bool) {
        self.reusable.store(reusable, Ordering::Release);
    }
}
