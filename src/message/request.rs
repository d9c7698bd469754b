//! A client's request.

use std::time::Instant;

use http::{HeaderMap, Method, Version};

use super::peer::Peer;
use super::spool::Spool;
use super::target::Target;

/// A client's request, complete: its body has arrived whole.
#[derive(Debug)]
pub struct Request {
    /// The method, of any name that is a token (RFC 9110 §9.1).
    pub method: Method,
    /// The target, as the client wrote it.
    pub target: Target,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields, repeated ones apart and in order.
    pub headers: HeaderMap,
    /// The body, or `None` if the message has none (no Content-Length, no Transfer-Encoding).
    pub body: Option<Spool>,
    /// The client's end of the connection.
    pub peer: Peer,
    /// The instant at which the request was complete.
    pub received: Instant,
}
