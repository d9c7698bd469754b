//! HTTP/1.1 towards clients: accepts, reads requests whole, writes replies, keeps connections alive.
//! Knows nothing of backends: whoever takes complete requests is a closure.

mod body;
mod client;
mod connection;
mod crowd;
mod ends;
mod flow;
mod further;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod http2;
mod listener;
mod pace;
mod parking;
mod pipe;
mod relay;
mod reply;
mod reply_to;
mod spooler;
mod standing;
mod transfer;
mod tunnel;
mod turns;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use crate::message::{Refusal, Request, SpoolMemory};
use crate::poller::{Poller, Turn};

use crowd::Crowd;
pub use crowd::Yielding;
pub use listener::Listener;
use pipe::Pipes;
pub use reply_to::ClientReply;
use spooler::Spooler;

/// From a head's first byte to its last. A head is one packet or two; ten seconds are for bad radio.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Takes a complete request, or gives the way back to the client back if too much is waiting already.
pub type Serve = dyn Fn(Request, ClientReply) -> Result<(), ClientReply> + Send + Sync;

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

/// A front: some listeners with common limits.
pub struct Front {
    poller: Poller,
    limits: Arc<Limits>,
    /// How long a client may take nothing of a reply, or less than its share.
    write_timeout: Duration,
    pipes: Pipes,
    crowd: Crowd,
    spooler: Arc<Spooler>,
    exchanges: AtomicUsize,
    draining: AtomicBool,
}

impl Front {
    /// A front without listeners.
    pub fn new(poller: Poller, limits: Limits, connections_max: usize, write_timeout: Duration) -> Arc<Front> {
        let yielding = limits.yielding;
        let spooler: Arc<Spooler> = Arc::default();
        let closer = spooler.clone();
        limits.spool_memory.close_files_by(move |file| closer.close(file));
        Arc::new(Front {
            poller,
            limits: Arc::new(limits),
            write_timeout,
            pipes: Pipes::default(),
            crowd: Crowd::new(connections_max, yielding),
            spooler,
            exchanges: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        })
    }

    /// Has the poller accept clients on this socket, from now until [`Turn::Drain`] or [`Turn::Cut`].
    pub fn listen(self: &Arc<Front>, socket: TcpListener, until: Turn, serve: Arc<Serve>) -> io::Result<()> {
        Listener::open(self.clone(), socket, until, serve)
    }

    /// Requests that are complete and not yet answered.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.crowd.count()
    }

    /// Replies say `Connection: close` from now on, and no connection idles. Who tells the poller's owners to drain
    /// calls this first.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// Where a client came in, and what happens to its requests.
struct Door {
    front: Arc<Front>,
    serve: Arc<Serve>,
}
