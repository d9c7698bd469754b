//! What has come of an answer, by a look at its bytes. Knows nothing of connections.

use http::{HeaderMap, Method, StatusCode};

use super::byte_stream::{End, Peeked};
use super::chunked;
use super::failure::outcome_of_io;
use super::response::{self, BodyEnd, Fields, Front, INTERIM_ANSWERS_MAX, ResponseHead, header_map, protocol};
use super::sending::Early;
use crate::message::Outcome;

/// What has come of an answer.
pub(super) enum Reading {
    /// An interim answer of that length is in front of it.
    Interim(usize),
    /// So many bytes of the head, but not all.
    Partial(usize),
    /// The connection ended within the head, or before its first byte.
    Ended { outcome: Outcome, is_unanswered: bool },
    /// It can't become an answer.
    Failed(Outcome),
    /// The whole head, and more if the body has come whole as well.
    Head(Box<ResponseHead>, Option<Whole>),
}

/// An answer that has come whole.
pub(super) struct Whole {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// How long it is in all, in bytes.
    pub(super) bytes: usize,
}

impl Reading {
    /// Of the answer to a request with that method. If it has lost, its fields and its body aren't needed.
    pub(super) fn of(peeked: &Peeked, method: &Method, has_lost: bool) -> Reading {
        let here = peeked.bytes;
        let mut fields = Fields::new();
        let (head, fields) = match response::read(here, method, &mut fields) {
            Ok(Front::Final(head, fields)) => (head, fields),
            Ok(Front::Interim(length)) => return Reading::Interim(length),
            Ok(Front::Partial) => return Reading::of_partial(peeked),
            Err(outcome) => return Reading::Failed(outcome),
        };
        let body_bytes = match head.body {
            BodyEnd::Bare => 0,
            BodyEnd::After(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyEnd::UntilClose => return Reading::Head(Box::new(head), None),
            // As long as nobody has the head, the leg loses by them.
            BodyEnd::Chunked => {
                let violation = chunked::violation(&here[head.bytes..]);
                return violation
                    .map_or(Reading::Head(Box::new(head), None), |violation| Reading::Failed(protocol(violation)));
            }
        };
        let Some(body) = here[head.bytes..].get(..body_bytes) else { return Reading::Head(Box::new(head), None) };
        // By them it is known whose loop it is, and what the connection becomes.
        let are_needed =
            !has_lost || matches!(head.status, StatusCode::LOOP_DETECTED | StatusCode::SWITCHING_PROTOCOLS);
        let headers = if are_needed { header_map(fields) } else { Ok(HeaderMap::new()) };
        let body = if has_lost { Vec::new() } else { body.to_vec() };
        match headers {
            Ok(headers) => {
                let bytes = head.bytes + body_bytes;
                Reading::Head(Box::new(head), Some(Whole { headers, body, bytes }))
            }
            Err(outcome) => Reading::Failed(outcome),
        }
    }

    fn of_partial(peeked: &Peeked) -> Reading {
        let outcome = match peeked.end {
            None => return Reading::Partial(peeked.bytes.len()),
            Some(End::Closed) => Outcome::Closed,
            Some(End::Failed(error)) => outcome_of_io(error),
        };
        Reading::Ended { outcome, is_unanswered: peeked.bytes.is_empty() }
    }
}

/// What the head of a final answer means for a request that isn't out: a success takes it, any other status, or what can't become
/// a head, ends it (RFC 9112 §9.5).
#[expect(clippy::needless_pass_by_value, reason = "the form of a `Judge`")]
pub(super) fn early(peeked: Peeked) -> Option<Early> {
    let mut here = peeked.bytes;
    for _ in 0..=INTERIM_ANSWERS_MAX {
        match response::read(here, &Method::GET, &mut Fields::new()) {
            Ok(Front::Interim(length)) => here = &here[length..],
            Ok(Front::Partial) if peeked.end.is_none() => return None,
            Ok(Front::Final(head, _)) if head.status.is_success() => return Some(Early::Takes),
            Ok(_) | Err(_) => break,
        }
    }
    Some(Early::Ends)
}
