//! Writes the bytes of a reply: its head, and the framing of its body. Values in, bytes out: no socket.

use std::cell::Cell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::message::{ReplyBody, has_field, put_field};

/// The interim reply to `Expect: 100-continue`.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Ends a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Room in front of a chunk for its size: eight hex digits and CR LF.
pub(crate) const CHUNK_PREFIX_BYTES: usize = 10;

/// What the framing of a reply depends on in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestSummary {
    pub(crate) is_head: bool,
    pub(crate) version: Version,
    /// Whether the client can take another reply on this connection.
    pub(crate) persistent: bool,
    /// Whether the client has asked for nothing before and has said that it asks for nothing more, and all of its request has been
    /// read.
    pub(crate) is_only: bool,
}

impl RequestSummary {
    pub(crate) fn new(method: &Method, version: Version, persistent: bool, is_first: bool) -> RequestSummary {
        RequestSummary { is_head: method == Method::HEAD, version, persistent, is_only: is_first && !persistent }
    }

    /// The summary of a request that couldn't be read: the connection ends with the reply.
    pub(crate) const UNREADABLE: RequestSummary =
        RequestSummary { is_head: false, version: Version::HTTP_11, persistent: false, is_only: false };
}

/// How the end of the body is told (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body follows the head; a length may be told all the same.
    None { told: Option<u64> },
    /// This number of bytes follows.
    Sized(u64),
    /// Chunks follow.
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
}

impl Framing {
    /// Whether a body follows the head.
    pub(crate) fn has_body(self) -> bool {
        !matches!(self, Framing::None { .. })
    }

    /// The framing of a reply.
    pub(crate) fn of(summary: RequestSummary, status: StatusCode, body: &ReplyBody) -> Framing {
        let length = match body {
            ReplyBody::Whole(bytes) => Some(bytes.len() as u64),
            ReplyBody::Stream { length, .. } | ReplyBody::Withheld { length } => *length,
        };
        if status == StatusCode::NO_CONTENT || status.is_informational() {
            return Framing::None { told: None };
        }
        if summary.is_head || status == StatusCode::NOT_MODIFIED || matches!(body, ReplyBody::Withheld { .. }) {
            return Framing::None { told: length };
        }
        match length {
            Some(length) => Framing::Sized(length),
            None if summary.version == Version::HTTP_10 => Framing::UntilClose,
            None => Framing::Chunked,
        }
    }

    /// Whether another reply may follow on the connection.
    pub(crate) fn is_persistent(self, summary: RequestSummary) -> bool {
        summary.persistent && self != Framing::UntilClose
    }
}

/// Appends the head to `bytes`.
pub(crate) fn write_head(
    bytes: &mut Vec<u8>,
    summary: RequestSummary,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    now: impl FnOnce() -> SystemTime,
) {
    let reason = status.canonical_reason().unwrap_or("");
    // A server always names its own version, even to an HTTP/1.0 client (RFC 9110 §2.5).
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        put_field(bytes, name.as_str(), value.as_bytes());
    }
    if !has_field(headers, &DATE) {
        put_field(bytes, DATE.as_str(), &date(now()));
    }
    match framing {
        Framing::Sized(length) | Framing::None { told: Some(length) } => {
            put_field(bytes, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Chunked => put_field(bytes, TRANSFER_ENCODING.as_str(), b"chunked"),
        Framing::None { told: None } | Framing::UntilClose => {}
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // The fields say what the connection becomes.
    } else if !framing.is_persistent(summary) {
        put_field(bytes, CONNECTION.as_str(), b"close");
    } else if summary.version == Version::HTTP_10 {
        put_field(bytes, CONNECTION.as_str(), b"keep-alive");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// The date as the field has it (RFC 9110 §5.6.7), written once for each second and thread: that takes as long as the rest of a
/// head.
fn date(now: SystemTime) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (last, date) = LAST.get();
    if last == second {
        return date;
    }
    let date = httpdate::fmt_http_date(now).into_bytes().try_into().expect("a date of 29 bytes");
    LAST.set((second, date));
    date
}

/// The prefix of a chunk of `length` bytes. All eight digits are written, so that it has one length.
pub(crate) fn chunk_prefix(length: usize) -> [u8; CHUNK_PREFIX_BYTES] {
    let mut prefix = *b"00000000\r\n";
    write!(&mut prefix[..8], "{length:08x}").expect("a chunk is smaller than 4 GiB");
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: RequestSummary =
        RequestSummary { is_head: false, version: Version::HTTP_11, persistent: true, is_only: false };
    const HEAD: RequestSummary = RequestSummary { is_head: true, ..GET };
    const OLD: RequestSummary = RequestSummary { version: Version::HTTP_10, ..GET };

    #[test]
    fn the_date_is_that_of_its_own_second() {
        let second = std::time::Duration::from_secs(1);
        for now in [UNIX_EPOCH, UNIX_EPOCH + second * 784_111_777, UNIX_EPOCH + second * 784_111_778, UNIX_EPOCH] {
            assert_eq!(date(now), httpdate::fmt_http_date(now).as_bytes());
            assert_eq!(date(now + second / 2), httpdate::fmt_http_date(now).as_bytes());
        }
    }

    #[test]
    fn the_end_of_a_body_is_told_by_method_version_and_status() {
        let whole = || ReplyBody::Whole(b"abc".to_vec());
        let withheld = |length| ReplyBody::Withheld { length };
        let rows = [
            ("length known", GET, 200, whole(), Framing::Sized(3)),
            ("HEAD", HEAD, 200, whole(), Framing::None { told: Some(3) }),
            ("HEAD without length", HEAD, 200, withheld(None), Framing::None { told: None }),
            ("304", GET, 304, withheld(Some(9)), Framing::None { told: Some(9) }),
            ("204", GET, 204, whole(), Framing::None { told: None }),
        ];
        for (label, summary, status, body, expected) in rows {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Framing::of(summary, status, &body), expected, "{label}");
        }
        let stream = || ReplyBody::Stream { length: None, source: Box::new(Nothing) };
        assert_eq!(Framing::of(GET, StatusCode::OK, &stream()), Framing::Chunked);
        assert_eq!(Framing::of(OLD, StatusCode::OK, &stream()), Framing::UntilClose);
        assert!(!Framing::UntilClose.is_persistent(OLD));
    }

    struct Nothing;
    impl std::io::Read for Nothing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
    }
    impl crate::message::BodySource for Nothing {
        fn when_ready(&mut self, _: crate::message::OnReady) {}
    }

    fn head(summary: RequestSummary, headers: &HeaderMap, framing: Framing) -> String {
        let mut bytes = Vec::new();
        write_head(&mut bytes, summary, StatusCode::OK, headers, framing, || SystemTime::UNIX_EPOCH);
        String::from_utf8(bytes).expect("ASCII")
    }

    #[test]
    fn a_head_has_date_framing_and_connection() {
        let mut headers = HeaderMap::new();
        headers.insert("server", http::HeaderValue::from_static("b"));
        let date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        assert_eq!(
            head(GET, &headers, Framing::Sized(3)),
            format!("HTTP/1.1 200 OK\r\nServer: b\r\n{date}Content-Length: 3\r\n\r\n")
        );
        assert!(head(OLD, &headers, Framing::Sized(3)).ends_with("Connection: keep-alive\r\n\r\n"));
        assert!(head(OLD, &headers, Framing::UntilClose).ends_with("GMT\r\nConnection: close\r\n\r\n"));
        assert!(head(RequestSummary::UNREADABLE, &headers, Framing::Chunked).contains("Connection: close"));
        headers.insert("date", http::HeaderValue::from_static("its own"));
        assert_eq!(head(GET, &headers, Framing::Chunked).matches("Date: ").count(), 1);
    }

    #[test]
    fn a_chunk_prefix_has_eight_digits() {
        assert_eq!(&chunk_prefix(0x1f), b"0000001f\r\n");
    }
}
