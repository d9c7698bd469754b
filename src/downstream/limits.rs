//! What clients may send, as plain data. Knows nothing of sockets, nor of what happens to a request that is taken.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::downstream::timeouts::Timeouts;
use crate::message::{Refusal, Request, SpoolMemory};

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
    /// How long they are waited for.
    pub timeouts: Timeouts,
    /// On which terms a request's body is taken. Asked on the poller's thread when the head is here and nothing of the body has
    /// been kept; the request has none yet.
    pub body_policy: Arc<BodyPolicyOf>,
    /// Who gives way when there are too many.
    pub eviction: Eviction,
}

/// Says on which terms the body of a request is taken.
pub type BodyPolicyOf = dyn Fn(&Request) -> BodyPolicy + Send + Sync;

/// On which terms a request's body is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPolicy {
    /// As long as `max_body`, and for as long as enough of it comes.
    Default,
    /// A short one, and in a short time from its head on.
    Limited {
        /// The longest, in bytes.
        bytes_max: u64,
        /// What a longer one gets.
        too_long: Refusal,
    },
    /// Not at all: the request is handed on without it, to be refused, and the connection ends with the reply.
    Reject,
}

/// Who gives way when a front is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
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
            timeouts: Timeouts::DEFAULT,
            body_policy: Arc::new(|_| BodyPolicy::Default),
            eviction: Eviction::Slowest,
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("max_body", &self.max_body).finish_non_exhaustive()
    }
}
