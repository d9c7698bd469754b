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
mod limits;
mod listener;
mod pace;
mod parking;
mod pipe;
mod relay;
#[cfg(test)]
mod relay_tests;
mod reply;
mod reply_to;
mod spooler;
mod standing;
mod transfer;
mod tunnel;
#[cfg(test)]
mod tunnel_tests;
mod turns;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use crate::message::Request;
use crate::poller::{Poller, Turn};

use crowd::Crowd;
pub use crowd::Yielding;
pub use limits::{Limits, Terms, TermsOf};
pub use listener::Listener;
use pipe::Pipes;
pub use reply_to::ClientReply;
use spooler::Spooler;

/// Takes a complete request, or gives the way back to the client back if too much is waiting already.
pub type Serve = dyn Fn(Request, ClientReply) -> Result<(), ClientReply> + Send + Sync;

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
