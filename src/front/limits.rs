//! What clients may send, as plain data. Knows nothing of sockets, nor of what happens to a request that is taken.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Refusal, Request, SpoolMemory};

/// From a head's first byte to its last. A head is one packet or two; ten seconds are for bad radio.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);

/// What clients may send, and who of them goes when there are too many.
#[derive(Clone)]
pub struct Limits {
    /// The longest head, in bytes, line ends included.
    pub max_head: usize,
    /// The longest body, in bytes.
    pub max_body: u64,
    /// What bodies have in memory.
    pub spool_memory: Arc<SpoolMemory>,
    /// Where bodies go that are too long for that.
    pub spool_dir: Arc<Path>,
    /// From a head's first byte to its last.
    pub head_time: Duration,
    /// On which terms a request's body is taken. Asked on the poller's thread when the head is here and nothing of the body has
    /// been kept; the request has none yet.
    pub terms: Arc<TermsOf>,
    /// Who gives way when there are too many.
    pub yielding: Yielding,
}

/// Says on which terms the body of a request is taken.
pub type TermsOf = dyn Fn(&Request) -> Terms + Send + Sync;

/// On which terms a request's body is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terms {
    /// As long as `max_body`, and for as long as enough of it comes.
    Usual,
    /// A short one, and in a short time from its head on.
    Short {
        /// The longest, in bytes.
        bytes_max: u64,
        /// The longest time.
        time: Duration,
        /// What a longer one gets.
        too_long: Refusal,
    },
    /// Not at all: the request is handed on without it, to be refused, and the connection ends with the reply.
    Unwanted,
}

/// Who gives way when a front is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yielding {
    /// Whoever makes least of its place: a client that idles between two requests, a request that arrives slowly, a tunnel in
    /// which little moves. None of them at once.
    Slowest,
    /// Whoever came first and isn't being answered just now, at once.
    Oldest,
}

impl Limits {
    /// The usual limits for heads and bodies of these lengths, in bytes; the bodies may all go to files in this directory.
    pub fn new(max_head: usize, max_body: u64, spool_dir: &Path) -> Limits {
        Limits {
            max_head,
            max_body,
            spool_memory: Arc::default(),
            spool_dir: spool_dir.into(),
            head_time: HEAD_TIME,
            terms: Arc::new(|_| Terms::Usual),
            yielding: Yielding::Slowest,
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("max_body", &self.max_body).finish_non_exhaustive()
    }
}
