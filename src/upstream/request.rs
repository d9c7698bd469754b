//! The request as backends get it. Knows nothing of connections.

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::message::{Address, Spool, Target, bind_connection, of_variable, put_field};
use crate::upstream::conn::request_bytes::RequestBytes;

/// A guess at the room for the request line and `Host`, beside the target.
const REQUEST_LINES_BYTES: usize = 128;

/// A request on its way to every backend of a race.
#[derive(Debug)]
pub struct UpstreamRequest {
    method: Method,
    target: Target,
    /// All fields but `Host` as they go out, to the end of the head: written once for all backends.
    fields: Vec<u8>,
    /// `Host` for all backends: else each gets its own.
    host: Option<HeaderValue>,
    body: Option<Spool>,
    binds_connection: bool,
    /// Whether no backend is asked for an encoding, whatever fields of its own it has.
    is_plain: bool,
}

impl UpstreamRequest {
    /// Makes a request for all backends, each by its own address. `headers` are without `Host` and framing; `host` replaces the
    /// backends' own.
    pub fn new(
        method: Method,
        target: Target,
        mut headers: HeaderMap,
        host: Option<HeaderValue>,
        body: Option<Spool>,
    ) -> UpstreamRequest {
        // These methods are expected to have a body (RFC 9110 §8.6).
        let needs_length = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        if let Some(length) = body.as_ref().map(Spool::length).or(needs_length.then_some(0)) {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let (fields, binds_connection) = (fields(&headers), bind_connection(&headers));
        UpstreamRequest { method, target, fields, host, body, binds_connection, is_plain: false }
    }

    /// Asks no backend for an encoding of its answer, also where it has such a field of its own. `headers` were without one.
    #[must_use]
    pub fn plain(mut self) -> UpstreamRequest {
        self.is_plain = true;
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The target, as the client wrote it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// Whether a backend may take all that follows on the connection for requests of the same user.
    pub(crate) fn binds_connection(&self) -> bool {
        self.binds_connection
    }

    /// The request as one backend gets it. Whether its path is exact, the address can't say: that changes with the list.
    pub(crate) fn bytes_for(&self, address: &Address, is_exact: bool) -> RequestBytes {
        let mut head = self.start_of_head(address, is_exact, None);
        head.extend_from_slice(&self.fields);
        RequestBytes::new(head, self.body.clone())
    }

    /// The request as one backend gets it that has fields of its own: they take the place of the client's. `TRACE` would show them
    /// to the client (RFC 9110 §9.3.8), so that it gets none of them but `Host`.
    pub(crate) fn bytes_with(
        &self,
        address: &Address,
        is_exact: bool,
        own: &[(HeaderName, HeaderValue)],
    ) -> RequestBytes {
        let own = || own.iter().filter(|(name, _)| self.method != Method::TRACE || name == HOST);
        let is_own = |name: &[u8]| own().any(|(own, _)| are_alike(own.as_str().as_bytes(), name));
        let own_host = own().find(|(name, _)| name == HOST).map(|(_, value)| value);
        let mut head = self.start_of_head(address, is_exact, own_host);
        // A value has no line's end in it.
        for line in self.fields.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if line != b"\r\n" && !is_own(name) {
                head.extend_from_slice(line);
            }
        }
        for (name, value) in own().filter(|(name, _)| name != HOST && !(self.is_plain && *name == ACCEPT_ENCODING)) {
            put_field(&mut head, name.as_str(), value.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        RequestBytes::new(head, self.body.clone())
    }

    /// The request line, and first of all fields `Host` (RFC 9110 §7.2): that of the backend's own fields, if they have one.
    fn start_of_head(&self, address: &Address, is_exact: bool, own_host: Option<&HeaderValue>) -> Vec<u8> {
        let target = address.target_text(&self.target, is_exact);
        let mut head = Vec::with_capacity(REQUEST_LINES_BYTES + target.len() + self.fields.len());
        for part in [self.method.as_str(), " ", &*target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        let host = own_host.or(self.host.as_ref()).map_or(address.authority().as_bytes(), HeaderValue::as_bytes);
        put_field(&mut head, HOST.as_str(), host);
        head
    }

    /// Whether the body is in a file, which is open as long as this is.
    pub fn holds_file(&self) -> bool {
        self.body.as_ref().is_some_and(|spool| spool.bytes().is_none())
    }
}

/// Whether two names are one to CGI and its kin, which make a variable of them.
fn are_alike(name: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| of_variable(*byte);
    name.len() == other.len() && name.iter().map(plain).eq(other.iter().map(plain))
}

fn fields(headers: &HeaderMap) -> Vec<u8> {
    // Not a byte more: they stay as long as the last of the race's losers.
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    let mut bytes = Vec::with_capacity(length + 2);
    for (name, value) in headers {
        put_field(&mut bytes, name.as_str(), value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
