//! Some listeners with common limits, and what their clients have in common. Knows nothing of what clients send.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::crowd::Crowd;
use super::limits::Limits;
use super::pipe::Pipes;
use super::spooler::Spooler;
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
pub struct Front {
    pub(super) poller: Poller,
    pub(super) limits: Arc<Limits>,
    /// How long a client may take nothing of a reply, or less than its share.
    pub(super) write_timeout: Duration,
    pub(super) pipes: Pipes,
    pub(super) crowd: Crowd,
    pub(super) spooler: Arc<Spooler>,
    pub(super) exchanges: AtomicUsize,
    draining: AtomicBool,
}

impl Front {
    /// A front without listeners.
    pub fn new(poller: Poller, limits: Limits, connections_max: usize, write_timeout: Duration) -> Arc<Front> {
        let yielding = limits.yielding;
        let spooler: Arc<Spooler> = Arc::default();
        let closer = spooler.clone();
        limits.spool_memory.close_files_by(move |file| closer.run(Box::new(move || drop(file))));
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

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// Where a client came in, and what happens to its requests.
pub(super) struct Door {
    pub(super) front: Arc<Front>,
    pub(super) handler: Arc<dyn Handler>,
}
