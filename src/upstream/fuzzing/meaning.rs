//! What an answer means, as plain data, and what its bytes say of that without the rest of the program.

use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::message::headers::has_token;
use crate::message::{BodyLength, Chunks, Outcome, Piece, bind_connection};
use crate::upstream::response::head::{FIELDS_MAX, INTERIM_ANSWERS_MAX, idle_time_hint};

/// The meaning of an answer.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    pub(crate) head: Option<Head>,
    /// The body's length, if it is known before its end.
    pub(crate) length: Option<u64>,
    pub(crate) body: Vec<u8>,
    /// The outcome, if the answer didn't come to its end.
    pub(crate) failed: Option<Outcome>,
    /// The bytes that were sent behind it.
    pub(crate) rest: Vec<u8>,
    /// Whether the connection would be used again.
    pub(crate) is_reused: bool,
    pub(crate) kept: Option<Kept>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
}

/// The pool's knowledge of a connection that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) idle_time_max: Duration,
    pub(crate) is_suspect: bool,
}

impl Head {
    /// Whether its framing is against the rules, which are those of requests.
    pub(crate) fn is_refused(&self) -> bool {
        BodyLength::of_request(self.version, &self.headers).is_err()
    }

    pub(crate) fn allows_more(&self) -> bool {
        let closes = has_token(&self.headers, &CONNECTION, "close");
        self.version == Version::HTTP_11 && !closes && !bind_connection(&self.headers)
    }

    pub(crate) fn idle_time(&self) -> Option<Duration> {
        self.headers.get("keep-alive").and_then(|value| idle_time_hint(value.as_bytes()))
    }

    pub(crate) fn declared(&self) -> BodyLength {
        BodyLength::of_request(self.version, &self.headers).expect("framing within the rules")
    }

    pub(crate) fn declared_bytes(&self) -> Option<u64> {
        if let BodyLength::Sized(bytes) = self.declared() { Some(bytes) } else { None }
    }

    /// Whether a body may follow by mistake, or the end of the connection.
    pub(crate) fn is_suspect(&self, method: &Method) -> bool {
        match self.declared() {
            BodyLength::None => *method == Method::HEAD && !is_bare(&Method::GET, self.status),
            declared => is_bare(method, self.status) && declared != BodyLength::Sized(0),
        }
    }
}

/// Whether there is no body, whatever the head says of one.
pub(crate) fn is_bare(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// The heads at the front of an answer's bytes, by the parser alone.
#[derive(Default)]
pub(crate) struct Begin {
    /// The count of interim answers.
    pub(crate) interim: usize,
    /// Their length in bytes.
    pub(crate) bytes: usize,
    /// The length of the head behind them, or zero if it isn't whole.
    pub(crate) head_bytes: usize,
    /// Whether one of these heads doesn't begin with a status line, or has a bare LF.
    is_malformed: bool,
}

impl Begin {
    pub(crate) fn of(input: &[u8]) -> Begin {
        let mut begin = Begin::default();
        loop {
            let rest = &input[begin.bytes..];
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut head = httparse::Response::new(&mut fields);
            let Ok(httparse::Status::Complete(bytes)) = head.parse(rest) else { return begin };
            let has_bare_lf = (0..bytes).any(|at| rest[at] == b'\n' && !rest[..at].ends_with(b"\r"));
            begin.is_malformed |= has_bare_lf || !rest.starts_with(b"HTTP/");
            if !matches!(head.code, Some(100 | 102..=199)) {
                begin.head_bytes = bytes;
                return begin;
            }
            begin.interim += 1;
            begin.bytes += bytes;
        }
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.is_malformed || self.interim > INTERIM_ANSWERS_MAX
    }
}

/// The data of an answer's chunks, as far as they go.
pub fn data_of(mut input: &[u8]) -> Vec<u8> {
    let (mut chunks, mut data) = (Chunks::of_answer(usize::MAX), Vec::new());
    loop {
        let count = match chunks.take(input) {
            Ok(Piece::Size { line, .. }) => line,
            Ok(Piece::Framing(count)) => count,
            Ok(Piece::Data(count)) => {
                data.extend_from_slice(&input[..count]);
                count
            }
            Ok(Piece::More) | Err(_) => return data,
        };
        input = &input[count..];
    }
}
