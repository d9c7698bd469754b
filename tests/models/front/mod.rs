//! The front as the program has it, but for the room that accepts clients and the one that writes to the disk: these have
//! doubles here.

#[path = "../../../src/front/body.rs"]
mod body;

#[path = "../../../src/front/client.rs"]
mod client;

#[path = "../../../src/front/connection.rs"]
mod connection;

#[path = "../../../src/front/crowd.rs"]
mod crowd;

#[path = "../../../src/front/ends.rs"]
mod ends;

#[path = "../../../src/front/flow.rs"]
mod flow;

#[path = "../../../src/front/further.rs"]
mod further;

#[path = "../../../src/front/head.rs"]
mod head;

#[path = "../../../src/front/http2.rs"]
mod http2;

#[path = "../../../src/front/limits.rs"]
mod limits;

#[path = "../../../src/front/pace.rs"]
mod pace;

#[path = "../../../src/front/parking.rs"]
mod parking;

#[path = "../../../src/front/pipe.rs"]
mod pipe;

#[path = "../../../src/front/relay.rs"]
mod relay;

#[path = "../../../src/front/reply.rs"]
mod reply;

#[path = "../../../src/front/reply_to.rs"]
mod reply_to;

#[path = "../../../src/front/standing.rs"]
mod standing;

#[path = "../../../src/front/transfer.rs"]
mod transfer;

#[path = "../../../src/front/tunnel.rs"]
mod tunnel;

#[path = "../../../src/front/turns.rs"]
mod turns;

/// What both kinds of models have around them.
mod house;

/// Where both wait.
pub mod parkings;

/// A reply that can't be written at once.
pub mod relays;

/// A tunnel.
pub mod tunnels;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::message::Request;
use crate::poller::Poller;
use crate::sync::atomic::AtomicBool;
use crate::sync::{Arc, Weak};
use client::Client;
use connection::Connection;
use crowd::{Crowd, Yielding};
use limits::{Limits, Terms};
use pipe::Pipes;
use reply_to::ClientReply;

type Serve = dyn Fn(Request, ClientReply) -> Result<(), ClientReply> + Send + Sync;

struct Front {
    poller: Poller,
    limits: Arc<Limits>,
    write_timeout: Duration,
    pipes: Pipes,
    crowd: Crowd,
    spooler: NoDisk,
    exchanges: AtomicUsize,
    draining: AtomicBool,
}

struct Door {
    front: Arc<Front>,
    serve: Arc<Serve>,
}

/// No body of a model's is so long.
struct NoDisk;

#[allow(clippy::unused_self, clippy::unnecessary_wraps, clippy::needless_pass_by_value)] // The real one may take it.
impl NoDisk {
    fn take(&self, _: Arc<Client>, connection: Box<Connection>) -> Option<Box<Connection>> {
        Some(connection)
    }
}

impl Front {
    fn new(write_timeout: Duration) -> Arc<Front> {
        Arc::new(Front {
            poller: Poller::with_sockets(),
            limits: Arc::new(Limits::new(1024, 0, &std::env::temp_dir())),
            write_timeout,
            pipes: Pipes::default(),
            crowd: Crowd::new(8, Yielding::Oldest),
            spooler: NoDisk,
            exchanges: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        })
    }

    /// Lets a client in: its own side of the connection, which holds little and doesn't wait.
    fn let_in(self: &Arc<Front>, serve: Arc<Serve>) -> (Socket, Weak<Client>) {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
        near.set_nonblocking(true).expect("a socket");
        near.set_send_buffer_size(4096).expect("a small buffer");
        far.set_nonblocking(true).expect("a socket");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let door = Arc::new(Door { front: self.clone(), serve });
        let client = Client::open(door, TcpStream::from(near), peer).expect("a place in the poller");
        (far, Arc::downgrade(&client))
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
