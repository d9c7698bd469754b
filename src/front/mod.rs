//! HTTP/1.1 towards clients: accepts, reads requests whole, writes replies, keeps connections alive.
//! Knows nothing of backends: whoever takes complete requests is a closure.

mod body;
mod client;
mod connection;
mod crowd;
mod flow;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod listener;
mod patience;
mod pipe;
mod reply;
mod reply_to;
mod spooler;
mod tunnel;
mod turns;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use crate::message::{Request, SpoolMemory};
use crate::poller::{Poller, Turn};

use client::Client;
use crowd::Crowd;
pub use listener::Listener;
use patience::Waiting;
use pipe::Pipes;
pub use reply_to::ClientReply;
use spooler::Spooler;

/// Takes a complete request, or gives the way back to the client back if too much is waiting already.
pub type Serve = dyn Fn(Request, ClientReply) -> Result<(), ClientReply> + Send + Sync;

/// What clients may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest body, in bytes.
    pub max_body: u64,
    /// What bodies have in memory.
    pub spool_memory: Arc<SpoolMemory>,
    /// Where bodies go that are too long for that.
    pub spool_dir: Arc<Path>,
}

/// A front: some listeners with common limits.
pub struct Front {
    poller: Poller,
    limits: Arc<Limits>,
    connections_max: usize,
    /// How long a client may take nothing of a reply, or less than its share.
    write_timeout: Duration,
    /// The clients that threads wait for.
    waiting: Waiting<Client>,
    pipes: Pipes,
    crowd: Crowd,
    spooler: Spooler,
    exchanges: AtomicUsize,
    draining: AtomicBool,
}

impl Front {
    /// A front without listeners. Threads wait for at most `waiting_max` clients at once.
    pub fn new(
        poller: Poller,
        limits: Limits,
        connections_max: usize,
        write_timeout: Duration,
        waiting_max: usize,
    ) -> Arc<Front> {
        Arc::new(Front {
            poller,
            limits: Arc::new(limits),
            connections_max,
            write_timeout,
            waiting: Waiting::new(waiting_max),
            pipes: Pipes::default(),
            crowd: Crowd::default(),
            spooler: Spooler::default(),
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
