//! Requests, replies and outcomes, and the traits by which rooms hand them to each other. Knows nothing of sockets or
//! threads, nor of which room sends what to which.

mod accept;
mod address;
mod addresses;
mod authentication;
mod chunks;
mod excerpt;
mod field;
pub mod forwarded;
mod framing;
pub mod headers;
mod json;
pub mod max_forwards;
mod networks;
mod outcome;
mod refusal;
mod reply;
mod reply_to;
mod request;
mod request_id;
mod source;
mod spool;
mod target;

pub use accept::prefers_json;
pub use address::{Address, BadAddress};
pub use addresses::{
    ADDRESSES_MAX, BadEntry, EMPTY_ENTRY, OFFER_BYTES_MAX, bracketed, meant_host, not_between_commas, parse_addresses,
    separator_in,
};
pub use authentication::{bind_connection, binds_connection};
pub use chunks::{BadChunks, Chunks, Piece};
pub use excerpt::{Excerpt, Printable, Reason, ShownTarget};
pub(crate) use field::has_listed;
pub(crate) use field::put_field;
pub use framing::BodyLength;
pub(crate) use framing::parse_content_length;
pub use json::Json;
pub use networks::Networks;
pub use outcome::{Elapsed, Outcome};
pub use refusal::Refusal;
pub use reply::{Delivery, Reply, ReplyBody, UPDATED};
pub use reply_to::{Disconnect, OnDelivered, ReplyTo, TunnelPeer};
pub use request::Request;
pub use request_id::RequestId;
pub use source::{BodySource, OnReady};
pub use spool::{Spool, SpoolError, SpoolMemory, SpoolReader, SpoolWriter};
pub use target::Target;
pub(crate) use target::is_host_field;
