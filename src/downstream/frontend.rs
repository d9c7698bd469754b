//! Some listeners with common limits, and what their clients share. Knows nothing of what clients send.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::downstream::connection_table::ConnectionTable;
use crate::downstream::disk_thread::DiskThread;
use crate::downstream::limits::Limits;
use crate::message::{ReplyTo, Request};
use crate::net::server_tls::ServerTls;
use crate::runtime::poller::Poller;

/// Handles the complete requests of a listener's clients. Both methods are called on a poller's thread, the disk thread or, in a
/// drain, main's, and don't block.
pub trait Handler: Send + Sync {
    /// Whether the request can be taken now; else its client gets a `503`. Asked before each call of [`Handler::handle`].
    fn has_room(&self, request: &Request) -> bool;

    /// Answers the request, now or later.
    fn handle(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>);
}

impl<F: Fn(Box<Request>, Box<dyn ReplyTo>) + Send + Sync> Handler for F {
    fn has_room(&self, _: &Request) -> bool {
        true
    }

    fn handle(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        self(request, reply_to);
    }
}

/// Some listeners with common limits, and what their clients share.
pub struct Frontend {
    pub(crate) poller: Poller,
    pub(crate) limits: Arc<Limits>,
    /// How long a client may take nothing of a reply, or less of it than the least rate.
    pub(crate) write_timeout: Duration,
    pub(crate) table: ConnectionTable,
    pub(crate) disk_thread: Arc<DiskThread>,
    /// The number of responders.
    pub(crate) exchanges: AtomicUsize,
    /// Shared by every relay.
    pub(crate) relays: Arc<()>,
    /// Shared by every tunnel.
    pub(crate) tunnels: Arc<()>,
    draining: AtomicBool,
}

impl Frontend {
    /// A frontend without listeners.
    pub fn new(poller: Poller, limits: Limits, connections_max: usize, write_timeout: Duration) -> Arc<Frontend> {
        let table = ConnectionTable::new(connections_max, &limits);
        let disk_thread: Arc<DiskThread> = Arc::default();
        let closer = disk_thread.clone();
        limits.spool_memory.close_files_by(move |file| closer.run(Box::new(move || drop(file))));
        Arc::new(Frontend {
            poller,
            limits: Arc::new(limits),
            write_timeout,
            table,
            disk_thread,
            exchanges: AtomicUsize::new(0),
            relays: Arc::default(),
            tunnels: Arc::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// The number of requests that are complete and whose reply isn't sent yet.
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// The number of replies that couldn't be written at once, and are carried on.
    pub fn relays(&self) -> usize {
        Arc::strong_count(&self.relays) - 1
    }

    /// The number of clients that are joined with a backend.
    pub fn tunnels(&self) -> usize {
        Arc::strong_count(&self.tunnels) - 1
    }

    /// The number of open client connections.
    pub fn connections(&self) -> usize {
        self.table.count()
    }

    /// The most open client connections.
    pub fn connections_max(&self) -> usize {
        self.table.places()
    }

    /// Whether new clients wait, since all places are taken and none can be given up.
    pub fn has_waiting_clients(&self, now: Instant) -> bool {
        self.table.was_told_full(now)
    }

    /// Has replies say `Connection: close` from now on, and lets no connection idle. To be called before [`Event::Drain`] is
    /// broadcast to the poller's handlers: a client that is parked in between would hear of neither.
    ///
    /// [`Event::Drain`]: crate::runtime::poller::Event::Drain
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frontend").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// What a listener's clients share: the frontend, the handler of their requests, and TLS.
pub(crate) struct ListenerContext {
    pub(crate) frontend: Arc<Frontend>,
    pub(crate) handler: Arc<dyn Handler>,
    /// Speaks TLS with them, where they are to.
    pub(crate) tls: Option<Arc<ServerTls>>,
}
