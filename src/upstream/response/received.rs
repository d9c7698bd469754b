//! The part of an answer that has been received, by a look at its bytes. Knows nothing of connections.

use http::{HeaderMap, Method};

use crate::message::Outcome;
use crate::net::byte_stream::{End, Peeked};
use crate::upstream::conn::request_writer::Early;
use crate::upstream::io_error::outcome_of_io;
use crate::upstream::response::chunked;
use crate::upstream::response::head::{
    self, BodyFraming, Fields, INTERIM_ANSWERS_MAX, ParsedHead, ResponseHead, header_map, protocol,
};

/// The part of an answer that has been received.
pub(crate) enum Received {
    /// An interim answer of this many bytes is in front of it.
    Interim(usize),
    /// This many bytes of the head, but not all.
    Partial(usize),
    /// The connection ended within the head, or before its first byte.
    Ended { outcome: Outcome, is_unanswered: bool },
    /// These bytes can't become an answer.
    Failed(Outcome),
    /// The whole head, and the whole answer if the body has been received as well.
    Head(Box<ResponseHead>, Option<CompleteAnswer>),
}

/// An answer that has been received whole.
pub(crate) struct CompleteAnswer {
    pub(crate) headers: HeaderMap,
    /// The length of the whole answer in bytes.
    pub(crate) bytes: usize,
}

impl Received {
    /// Reads the answer to a request with this method. Of an answer that `has_lost`, most fields aren't needed.
    pub(crate) fn of(peeked: &Peeked, method: &Method, has_lost: bool) -> Received {
        let bytes = peeked.bytes;
        let mut fields = Fields::new();
        let (head, fields) = match head::read(bytes, method, &mut fields) {
            Ok(ParsedHead::Final(head, fields)) => (head, fields),
            Ok(ParsedHead::Interim(length)) => return Received::Interim(length),
            Ok(ParsedHead::Partial) => return Received::of_partial(peeked),
            Err(outcome) => return Received::Failed(outcome),
        };
        let body_bytes = match head.framing {
            BodyFraming::None => 0,
            BodyFraming::Sized(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyFraming::UntilClose => return Received::Head(Box::new(head), None),
            // No client has the head yet, so a violation makes the leg lose.
            BodyFraming::Chunked => {
                let violation = chunked::violation(&bytes[head.bytes..]);
                return violation
                    .map_or(Received::Head(Box::new(head), None), |violation| Received::Failed(protocol(violation)));
            }
        };
        if bytes.len() - head.bytes < body_bytes {
            return Received::Head(Box::new(head), None);
        }
        // They say whose loop it is, what the connection becomes, and for how long the backend wants to be left alone.
        let are_needed = !has_lost || matches!(head.status.as_u16(), 101 | 429 | 503 | 508);
        let headers = if are_needed { header_map(fields) } else { Ok(HeaderMap::new()) };
        match headers {
            Ok(headers) => {
                let bytes = head.bytes + body_bytes;
                Received::Head(Box::new(head), Some(CompleteAnswer { headers, bytes }))
            }
            Err(outcome) => Received::Failed(outcome),
        }
    }

    fn of_partial(peeked: &Peeked) -> Received {
        let outcome = match peeked.end {
            None => return Received::Partial(peeked.bytes.len()),
            Some(End::Closed) => Outcome::Closed,
            Some(End::Failed(error)) => outcome_of_io(error),
        };
        Received::Ended { outcome, is_unanswered: peeked.bytes.is_empty() }
    }
}

/// Judges the head of a final answer to a request that isn't out: a success accepts it, any other status, or what can't become
/// a head, ends it (RFC 9112 §9.5).
#[expect(clippy::needless_pass_by_value, reason = "the form of a `Judge`")]
pub(crate) fn early(peeked: Peeked) -> Option<Early> {
    let mut rest = peeked.bytes;
    for _ in 0..=INTERIM_ANSWERS_MAX {
        match head::read(rest, &Method::GET, &mut Fields::new()) {
            Ok(ParsedHead::Interim(length)) => rest = &rest[length..],
            Ok(ParsedHead::Partial) if peeked.end.is_none() => return None,
            Ok(ParsedHead::Final(head, _)) if head.status.is_success() => return Some(Early::Accepts),
            Ok(_) | Err(_) => break,
        }
    }
    Some(Early::Ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look says of these bytes, in a word.
    fn look(bytes: &str, end: Option<&End>, has_lost: bool) -> String {
        match Received::of(&Peeked { bytes: bytes.as_bytes(), end }, &Method::GET, has_lost) {
            Received::Interim(length) => format!("interim {length}"),
            Received::Partial(count) => format!("partial {count}"),
            Received::Ended { outcome, is_unanswered: true } => format!("unanswered {outcome}"),
            Received::Ended { outcome, is_unanswered: false } => format!("ended {outcome}"),
            Received::Failed(outcome) => format!("failed {outcome}"),
            Received::Head(head, None) => format!("head {}", head.bytes),
            Received::Head(head, Some(complete)) => {
                format!("complete {} of {}, {} fields", head.bytes, complete.bytes, complete.headers.len())
            }
        }
    }

    #[test]
    fn a_look_tells_how_much_of_an_answer_has_been_received() {
        let reset = End::Failed(std::io::ErrorKind::ConnectionReset.into());
        let rows = [
            ("nothing", "", None, "partial 0"),
            ("half a head", "HTTP/1.1 200 O", None, "partial 14"),
            ("an interim answer", "HTTP/1.1 103 \r\n\r\nHTTP", None, "interim 17"),
            ("an end", "", Some(&End::Closed), "unanswered closed"),
            ("a reset", "", Some(&reset), "unanswered reset"),
            ("half a head, and an end", "HTTP/1.1 200 O", Some(&End::Closed), "ended closed"),
            ("a head", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\na", None, "head 36"),
            ("all", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nabc", None, "complete 36 of 38, 1 fields"),
            ("no body", "HTTP/1.1 304 \r\nContent-Length: 2\r\n\r\n", None, "complete 36 of 36, 1 fields"),
            ("until the end", "HTTP/1.1 200 \r\n\r\nabc", Some(&End::Closed), "head 17"),
            ("chunks", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, "head 45"),
            ("bad chunks", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", None, "failed protocol"),
            ("two lengths", "HTTP/1.1 200 \r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", None, "failed protocol"),
        ];
        for (label, bytes, end, expected) in rows {
            assert_eq!(look(bytes, end, false), expected, "{label}");
        }
    }

    #[test]
    fn of_an_answer_that_has_lost_no_field_is_kept() {
        let answer = "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(look(answer, None, true), "complete 36 of 38, 0 fields");
    }

    #[test]
    fn a_length_beyond_all_memory_is_no_whole_answer() {
        let answer = format!("HTTP/1.1 200 \r\nContent-Length: {}\r\n\r\n", u64::MAX);
        assert!(look(&answer, None, false).starts_with("head"));
    }
}
