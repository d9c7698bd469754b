//! The double of what clients share, without listeners and without a disk.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::downstream::client::socket::Client;
use crate::downstream::connection_table::ConnectionTable;
use crate::downstream::limits::{Eviction, Limits};
use crate::message::{ReplyTo, Request};
use crate::net::server_tls::ServerTls;
use crate::runtime::poller::Poller;
use crate::runtime::sync::atomic::AtomicBool;
use crate::runtime::sync::{Arc, Weak};

/// Takes every request.
pub trait Handler: Send + Sync {
    fn has_room(&self, _: &Request) -> bool {
        true
    }

    fn handle(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>);
}

impl<F: Fn(Box<Request>, Box<dyn ReplyTo>) + Send + Sync> Handler for F {
    fn handle(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        self(request, reply_to);
    }
}

pub struct Frontend {
    pub poller: Poller,
    pub limits: Arc<Limits>,
    pub write_timeout: Duration,
    pub table: ConnectionTable,
    pub disk_thread: NoDisk,
    pub exchanges: AtomicUsize,
    pub relays: Arc<()>,
    pub tunnels: Arc<()>,
    pub draining: AtomicBool,
}

pub struct ListenerContext {
    pub frontend: Arc<Frontend>,
    pub handler: Arc<dyn Handler>,
    pub tls: Option<Arc<ServerTls>>,
}

/// The double of the disk thread: no model's body is long enough to need it.
pub struct NoDisk;

#[allow(clippy::unused_self)] // The real one has a thread.
impl NoDisk {
    pub fn start(&self) -> bool {
        false
    }

    pub fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

impl Frontend {
    pub fn new(write_timeout: Duration) -> Arc<Frontend> {
        let limits = Limits { eviction: Eviction::Oldest, ..Limits::new(1024, 0, &std::env::temp_dir()) };
        Arc::new(Frontend {
            poller: Poller::with_sockets(),
            table: ConnectionTable::new(8, &limits),
            limits: Arc::new(limits),
            write_timeout,
            disk_thread: NoDisk,
            exchanges: AtomicUsize::new(0),
            relays: Arc::default(),
            tunnels: Arc::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// Accepts a client. Returns the client's own side of the connection, which holds little and doesn't wait.
    pub fn accept(self: &Arc<Frontend>, handler: Arc<dyn Handler>) -> (Socket, Weak<Client>) {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
        near.set_nonblocking(true).expect("a socket");
        near.set_send_buffer_size(4096).expect("a small buffer");
        far.set_nonblocking(true).expect("a socket");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let context = Arc::new(ListenerContext { frontend: self.clone(), handler, tls: None });
        let client = Client::open(context, near, peer.into()).expect("a place in the poller");
        (far, Arc::downgrade(&client))
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
