//! What travels between the wings of the house: requests, replies and outcomes, as plain data.
//! Knows nothing of sockets or threads, nor of who sends what to whom.

mod address;
mod addresses;
mod authentication;
mod chunks;
mod excerpt;
mod field;
pub mod forwards;
mod framing;
pub mod headers;
mod networks;
pub mod origin;
mod outcome;
mod refusal;
mod spool;
mod target;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode, Version};

pub use address::{Address, BadAddress};
pub use addresses::{
    ADDRESSES_MAX, BadEntry, EMPTY_ENTRY, OFFER_BYTES_MAX, bracketed, meant_host, not_between_commas, parse_addresses,
    separator_in,
};
pub use authentication::{bind_connection, binds_connection};
pub use chunks::{BadChunks, Chunks, Piece};
pub use excerpt::{Excerpt, Printable, Reason, ShownTarget};
pub(crate) use field::put_field;
pub use framing::BodyLength;
pub(crate) use framing::parse_content_length;
pub(crate) use headers::has_listed;
pub use networks::Networks;
pub use outcome::{Elapsed, Outcome};
pub use refusal::Refusal;
pub use spool::{Spool, SpoolMemory, SpoolReader, SpoolWriter, Spooling};
pub use target::Target;
pub(crate) use target::is_host_field;

/// A client's request, complete: its body has arrived whole.
#[derive(Debug)]
pub struct Request {
    /// The method, of any name that is a token (RFC 9110 §9.1).
    pub method: Method,
    /// What is asked for, as the client wrote it.
    pub target: Target,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields, repeated ones apart and in order.
    pub headers: HeaderMap,
    /// The body, or `None` if the message has none (no Content-Length, no Transfer-Encoding).
    pub body: Option<Spool>,
    /// The client's address.
    pub peer: SocketAddr,
    /// When the request was complete.
    pub received: Instant,
}

/// The first line of the answer to an update that was taken.
pub const UPDATED: &str = "Backends updated successfully";

/// An answer to a client.
pub struct Reply {
    /// The final status: 101 or 200 and above.
    pub status: StatusCode,
    /// The end-to-end fields. Framing (Content-Length, Transfer-Encoding, Connection) is the front's work.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// All of it is here.
    Whole(Vec<u8>),
    /// It comes as a backend sends it.
    Stream {
        /// Its length in bytes, if the backend told it.
        length: Option<u64>,
        /// Where it comes from.
        source: Box<dyn Source>,
    },
    /// None is sent, but the head tells the length that it would have (HEAD and 304, RFC 9110 §8.6).
    Withheld {
        /// The length in bytes, if it is known.
        length: Option<u64>,
    },
}

/// A body that arrives over time. Reading never waits: an error of kind `WouldBlock` means that nothing has come, one of kind
/// `Interrupted` that more may be read without another event, and any other is a body cut short.
pub trait Source: Read + Send {
    /// Has `ready` called whenever more may have come, as long as the source is there.
    fn when_ready(&mut self, ready: Ready);
    /// Whether what follows can be moved instead of read.
    fn is_movable(&self) -> bool {
        false
    }
    /// Moves at most so many bytes, of those that are known to follow, into a pipe that has room for them, and says how many;
    /// from then on the rest can only be moved. Errors as a read.
    fn move_into(&mut self, _pipe: BorrowedFd, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Told, on any thread, that there may be something to read, or room to write.
pub type Ready = Arc<dyn Fn() + Send + Sync>;

impl Reply {
    /// A short text of the proxy's own.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
        let mut text = text.into();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Reply { status, headers, body: ReplyBody::Whole(text.into_bytes()) }
    }
}

/// What became of a reply on its way to the client.
#[derive(Debug)]
pub enum Delivery {
    /// The client's socket took every byte.
    Whole,
    /// The backend's body broke off; the client's connection was cut, so that nobody takes the body for complete.
    BodyBroke(io::Error),
    /// The client went away or stopped reading.
    ClientGone(io::Error),
    /// The proxy was stopped before it was through.
    Stopped,
    /// Little moved, and others wanted the client's place: its tunnel was closed, or its connection cut.
    GaveWay,
    /// A bug in the proxy; the log has the details.
    Panicked,
}

/// Told once, on any thread, what became of a reply or of a tunnel.
pub type Delivered = Box<dyn FnOnce(Delivery) + Send>;

/// The way back to the client, good for one reply. If it is dropped unused, the client gets 500.
pub trait ReplyTo: Send {
    /// Sends the reply, its body as that comes and the client takes it. Doesn't block.
    fn send(self: Box<Self>, reply: Reply, delivered: Delivered);

    /// Sends a head with status 101 and joins the client with the backend until both have ended. Doesn't block; who can't do
    /// it refuses.
    fn join(self: Box<Self>, _head: Reply, _far: Box<dyn FarSide>, ended: Delivered) {
        self.send(Refusal::NotImplemented("Upgrades aren't implemented here").reply(), ended);
    }

    /// What tells when the client leaves.
    fn departure(&self) -> Arc<dyn Departure>;
}

/// The backend's side of a connection that speaks another protocol from now on (RFC 9110 §7.8). Reading and writing don't
/// wait: what can't be done at once is an error of kind `WouldBlock`.
pub trait FarSide: Read + Write + AsFd + Send {
    /// Whether bytes that it has taken are still to be sent, by `flush`.
    fn has_unsent(&self) -> bool;

    /// Nothing more will be written. Its end is told once what it has taken is sent, by `flush` if need be.
    fn end_writing(&mut self);

    /// It ends with a reset once it is dropped: nobody must take what was sent for complete.
    fn abort(&mut self);

    /// Has `ready` called whenever there may be something to read, or room, as long as this side is there.
    fn when_ready(&mut self, ready: Ready);
}

/// Notices that a client leaves before its reply is through.
pub trait Departure: Send + Sync {
    /// Has `abandon` run once if the client leaves; at once if it has left already.
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>);
}
