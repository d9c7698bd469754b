//! Some listeners with common limits, and what their clients have in common. Knows nothing of what clients send.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::downstream::connection_table::ConnectionTable;
use crate::downstream::disk_thread::DiskThread;
use crate::downstream::limits::Limits;
use crate::downstream::splice::Pipes;
use crate::message::{ReplyTo, Request};
use crate::runtime::poller::Poller;

/// Handles the complete requests of a listener's clients. Both methods are called on a poller's thread, and don't block.
pub trait Handler: Send + Sync {
    /// Whether the request can be taken now; else its client is told to come again later.
    fn has_room(&self, request: &Request) -> bool;

    /// Answers the request, now or later.
    fn handle(&self, request: Request, reply_to: Box<dyn ReplyTo>);
}

impl<F: Fn(Request, Box<dyn ReplyTo>) + Send + Sync> Handler for F {
    fn has_room(&self, _: &Request) -> bool {
        true
    }

    fn handle(&self, request: Request, reply_to: Box<dyn ReplyTo>) {
        self(request, reply_to);
    }
}

/// A front: some listeners with common limits.
pub struct Frontend {
    pub(crate) poller: Poller,
    pub(crate) limits: Arc<Limits>,
    /// How long a client may take nothing of a reply, or less than its share.
    pub(crate) write_timeout: Duration,
    pub(crate) pipes: Pipes,
    pub(crate) table: ConnectionTable,
    pub(crate) disk: Arc<DiskThread>,
    pub(crate) exchanges: AtomicUsize,
    draining: AtomicBool,
}

impl Frontend {
    /// A front without listeners.
    pub fn new(poller: Poller, limits: Limits, connections_max: usize, write_timeout: Duration) -> Arc<Frontend> {
        let table = ConnectionTable::new(connections_max, &limits);
        let disk: Arc<DiskThread> = Arc::default();
        let closer = disk.clone();
        limits.spool_memory.close_files_by(move |file| closer.run(Box::new(move || drop(file))));
        Arc::new(Frontend {
            poller,
            limits: Arc::new(limits),
            write_timeout,
            pipes: Pipes::default(),
            table,
            disk,
            exchanges: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        })
    }

    /// Requests that are complete and not yet answered.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.table.count()
    }

    /// Replies say `Connection: close` from now on, and no connection idles. Who tells the poller's owners to drain
    /// calls this first.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// Where a client came in, and what happens to its requests.
pub(crate) struct ListenerContext {
    pub(crate) frontend: Arc<Frontend>,
    pub(crate) handler: Arc<dyn Handler>,
}
