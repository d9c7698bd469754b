//! Request limits, as plain data. Knows nothing of sockets, nor of what happens to a request that is taken.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::downstream::timeouts::Timeouts;
use crate::message::proxy_status::{self, PROXY_STATUS};
use crate::message::{Refusal, Reply, Request, SpoolMemory};
use crate::metrics::ReplyStats;

/// Request limits, and which client is evicted when the connection table is full.
#[derive(Clone)]
pub struct Limits {
    /// The longest head, in bytes, line ends included.
    pub head_bytes_max: usize,
    /// The longest body, in bytes.
    pub body_bytes_max: u64,
    /// The memory that all bodies share.
    pub spool_memory: Arc<SpoolMemory>,
    /// The directory for the files of bodies that don't fit into it.
    pub spool_dir: Arc<Path>,
    /// The longest waits for a client.
    pub timeouts: Timeouts,
    /// The policy for a request's body. Asked on the poller's thread when the head has been received and nothing of the body has
    /// been kept; the request has none yet.
    pub body_policy: Arc<BodyPolicyOf>,
    /// Which client is evicted when the table is full.
    pub eviction: Eviction,
    /// The counts of replies, where they are counted.
    pub replies: Option<Arc<ReplyStats>>,
}

/// Gives the policy for the body of a request.
pub type BodyPolicyOf = dyn Fn(&Request) -> BodyPolicy + Send + Sync;

/// Whether a request's body is taken, and within which limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPolicy {
    /// Within `body_bytes_max`, and for as long as enough of it comes.
    Default,
    /// Within a lower limit, and within a time that counts from its head on.
    Limited {
        /// The longest, in bytes.
        bytes_max: u64,
        /// The refusal of a longer one.
        too_long: Refusal,
    },
    /// Not at all: the request is handled without it, to be refused, and the connection ends with the reply.
    Reject,
}

/// Which client is evicted when the connection table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// The client that makes least use of its place: one that idles between two requests, whose request arrives slowly, or in whose
    /// tunnel little moves. Each has some time before that.
    Slowest,
    /// The client that was accepted first, unless its request is being served just now; at once.
    Oldest,
}

impl Limits {
    /// The default limits, with the longest head and body in bytes, and the directory for the files of bodies.
    pub fn new(head_bytes_max: usize, body_bytes_max: u64, spool_dir: &Path) -> Limits {
        Limits {
            head_bytes_max,
            body_bytes_max,
            spool_memory: Arc::default(),
            spool_dir: spool_dir.into(),
            timeouts: Timeouts::DEFAULT,
            body_policy: Arc::new(|_| BodyPolicy::Default),
            eviction: Eviction::Slowest,
            replies: None,
        }
    }

    /// Makes the reply of a refusal. Where clients connect it counts from now on, and names the proxy as its source.
    pub(crate) fn refused(&self, refusal: &Refusal) -> Reply {
        let mut reply = refusal.reply();
        if let Some(replies) = &self.replies {
            replies.count_refusal(refusal.status());
            reply.headers.insert(PROXY_STATUS, proxy_status::of_refusal(refusal));
        }
        reply
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("body_bytes_max", &self.body_bytes_max).finish_non_exhaustive()
    }
}
