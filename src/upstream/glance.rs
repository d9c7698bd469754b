//! A glance at an answer's first bytes, before anybody takes them: whether its head is here, and for a loser whether all of
//! it is, so that its line is free without more ado. Knows nothing of connections.

use std::time::Duration;

use http::{Method, StatusCode};

use super::idle_time_hint;
use super::inspector::{INTERIM_ANSWERS_MAX, interim_length, lie_of_head};
use super::sending::Early;
use super::session::LOOK_BYTES;
use crate::message::binds_connection;

const HEADERS_MAX: usize = 64;
/// As many as ureq takes.
const ALL_HEADERS_MAX: usize = 128;

/// Whether the head of the final answer is here whole, or something that can't become one.
pub(super) fn is_head_here(here: &[u8]) -> bool {
    behind_interim(here).is_none_or(|here| !is_begin_of_head(here))
}

/// What the head of a final answer means for a request that isn't out: a success takes it, any other status, or what can't become
/// a head, ends it (RFC 9112 §9.5).
pub(super) fn early(here: &[u8]) -> Option<Early> {
    behind_interim(here).map_or(Some(Early::Ends), early_of_head)
}

/// What follows interim answers, unless there are too many of them.
fn behind_interim(mut here: &[u8]) -> Option<&[u8]> {
    for _ in 0..INTERIM_ANSWERS_MAX {
        let Some(length) = interim_length(here) else { return Some(here) };
        here = &here[length..];
    }
    None
}

fn early_of_head(here: &[u8]) -> Option<Early> {
    let mut headers = [httparse::EMPTY_HEADER; ALL_HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(here) {
        // The rest of a head that is longer than a look is sure to come, or its leg loses.
        Ok(httparse::Status::Partial) if here.len() < LOOK_BYTES => None,
        Ok(_) if matches!(head.code, Some(200..=299)) => Some(Early::Takes),
        Ok(_) | Err(_) => Some(Early::Ends),
    }
}

/// Whether an answer is here whole, or its end, or anything but the begin of a short and plain one: a head, and then so many
/// bytes, or chunks up to the last. Knows nothing of the method: what answers HEAD has no rest.
pub(super) fn is_more_than_begin(here: &[u8]) -> bool {
    if here.is_empty() || here.len() >= LOOK_BYTES {
        return true;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let head_length = match head.parse(here) {
        Ok(httparse::Status::Complete(head_length)) => head_length,
        Ok(httparse::Status::Partial) => return false,
        Err(_) => return true,
    };
    if head.code.is_none_or(has_no_body) {
        return true;
    }
    let value_of = |name| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let Some(coding) = value_of("transfer-encoding") {
        // There may be trailers. A chunk whose data ends with an empty line only looks like the end; ureq sees the difference.
        return !coding.value.eq_ignore_ascii_case(b"chunked") || here[head_length..].ends_with(b"\r\n\r\n");
    }
    let length = value_of("content-length").and_then(|length| digits(length.value));
    let end = length.and_then(|length| head_length.checked_add(length));
    end.is_none_or(|end| here.len() >= end || end >= LOOK_BYTES)
}

fn is_begin_of_head(here: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    matches!(httparse::Response::new(&mut headers).parse(here), Ok(httparse::Status::Partial))
}

/// An answer of which nobody needs more than this.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    /// How long the backend keeps the connection, if it says so.
    pub(super) idle_time: Option<Duration>,
    /// It has no body, but its head tells the length of one, which a backend may send by mistake.
    pub(super) is_suspect: bool,
}

/// The answer, if it is here whole, nothing is behind it, and it is of the plainest form: one length, one connection that
/// goes on. For all others there is ureq.
pub(super) fn whole(here: &[u8], method: &Method) -> Option<Whole> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(here).ok()? else { return None };
    let status = StatusCode::from_u16(head.code?).ok()?;
    if head.version != Some(1) || status.is_informational() || status == StatusCode::LOOP_DETECTED {
        return None;
    }
    let (mut length, mut idle_time) = (None, None);
    for header in head.headers.iter() {
        match header.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                let is_first = length.replace(digits(header.value)?).is_none();
                is_first.then_some(())?;
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => return None,
            name if name.eq_ignore_ascii_case("connection") => {
                header.value.eq_ignore_ascii_case(b"keep-alive").then_some(())?;
            }
            name if name.eq_ignore_ascii_case("keep-alive") => idle_time = idle_time_hint(header.value),
            name if binds_connection(name, header.value) => return None,
            _ => {}
        }
    }
    let is_bare = is_bare(method, status);
    let body_length = if is_bare { 0 } else { length? };
    let is_whole = here.len() == head_length.checked_add(body_length)?;
    let is_suspect = is_bare && length.is_some_and(|length| length > 0);
    (is_whole && lie_of_head(&here[..head_length]).is_none()).then_some(Whole { status, idle_time, is_suspect })
}

/// Whether an answer has no body, whatever its head says of one (RFC 9112 §6.3).
pub(super) fn is_bare(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || has_no_body(status.as_u16())
}

fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn digits(value: &[u8]) -> Option<usize> {
    let is_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if is_digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_here_with_its_last_byte_and_interim_answers_are_none() {
        let rows = [
            ("HTTP/1.1 200 OK\r\n\r", false),
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", true),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", false),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", true),
            ("", false),
            ("garbage", true),
            ("HTTP/1.1 200 OK\n\n", true),
        ];
        for (here, expected) in rows {
            assert_eq!(is_head_here(here.as_bytes()), expected, "{here}");
        }
    }

    #[test]
    fn a_whole_head_decides_over_a_request_that_is_not_out() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(128));
        let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(LOOK_BYTES));
        let rows = [
            ("", None),
            ("HTTP/1.1 413 Too Large\r\n\r", None),
            ("HTTP/1.1 413 Too Large\r\n\r\n", Some(Early::Ends)),
            ("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nhel", Some(Early::Ends)),
            ("HTTP/1.0 503 Busy\r\n\r\n", Some(Early::Ends)),
            ("HTTP/1.1 301 Moved\r\n\r\n", Some(Early::Ends)),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 Who\r\n\r\n", Some(Early::Ends)),
            ("HTTP/1.1 200 OK\r\n\r", None),
            ("HTTP/1.1 200 OK\r\n\r\n", Some(Early::Takes)),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n", Some(Early::Takes)),
            (&many, Some(Early::Takes)),
            (&too_many, Some(Early::Ends)),
            (&long, Some(Early::Takes)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Some(Early::Ends)),
            ("garbage", Some(Early::Ends)),
        ];
        for (here, expected) in rows {
            assert_eq!(early(here.as_bytes()), expected, "{here}");
        }
    }

    #[test]
    fn the_rest_of_a_short_and_plain_answer_is_worth_a_wait() {
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 3\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 3\r\n\r\n", true),
            ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true),
            ("garbage", true),
            ("", true),
        ];
        for (here, expected) in rows {
            assert_eq!(is_more_than_begin(here.as_bytes()), expected, "{here}");
        }
    }

    #[test]
    fn only_a_plain_answer_that_is_here_to_its_last_byte_is_whole() {
        let whole_of = |here: &str| whole(here.as_bytes(), &Method::GET).map(|whole| whole.status.as_u16());
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some(200)),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nConnection: Keep-Alive\r\n\r\n", Some(503)),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some(204)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Some(304)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello", None),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", None),
            ("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n", None),
            ("HTTP/1.1 508 Loop Detected\r\nContent-Length: 0\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\n\r\nhello", None),
            ("HTTP/1.1 401 Who\r\nContent-Length: 0\r\nWWW-Authenticate: NTLM\r\n\r\n", None),
            ("garbage\r\n\r\n", None),
        ];
        for (here, expected) in rows {
            assert_eq!(whole_of(here), expected, "{here}");
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body_and_a_backend_may_say_how_long_it_waits() {
        let here = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=3, max=9\r\n\r\n";
        let expected = Whole { status: StatusCode::OK, idle_time: Some(Duration::from_secs(3)), is_suspect: true };
        assert_eq!(whole(here, &Method::HEAD), Some(expected));
        assert_eq!(whole(here, &Method::GET), None);
    }
}
