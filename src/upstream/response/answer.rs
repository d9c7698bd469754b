//! A backend's answer: a complete head, and a body that has been received or is still coming.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, Version};

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::body::{AnswerBody, StreamedBody};
use crate::upstream::response::head::{BodyFraming, ResponseHead};
use crate::upstream::response::received::CompleteAnswer;
use crate::upstream::response::representation::Representation;
use crate::upstream::response::upgraded::Upgraded;
use crate::upstream::upload::Upload;

/// A backend's answer.
pub struct Answer {
    /// The final status; 1xx have been swallowed.
    pub status: StatusCode,
    /// The backend's version of HTTP.
    pub version: Version,
    /// All fields; of an answer that lost they may be missing.
    pub headers: HeaderMap,
    /// The body's length in bytes if it is known, or the one that it would have (HEAD, 304).
    pub length: Option<u64>,
    /// The body.
    pub body: AnswerBody,
    /// The connection, if the status is 101: it speaks another protocol now.
    pub upgraded: Option<Upgraded>,
    /// The rest of the request, if the answer was received before that was out.
    pub upload: Option<Upload>,
    /// What its head says of its content.
    pub representation: Representation,
    /// The time by which its head had to be received.
    pub head_by: Instant,
}

impl ResponseHead {
    /// Whether the backend says that no request arrived in time, and closes the connection.
    pub(crate) fn is_request_timeout_at_close(&self) -> bool {
        self.status == StatusCode::REQUEST_TIMEOUT && !self.is_persistent
    }
}

impl Answer {
    /// Makes the answer with this head, which is the next on the connection. An answer that has been received whole is taken as
    /// it is, and its connection put back; of any other ureq reads the head, and the body unless that has a known length.
    pub(crate) fn of(
        mut pooled: PooledConnection,
        pool: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        head: &ResponseHead,
        complete: Option<CompleteAnswer>,
        head_by: Instant,
    ) -> Result<Answer, Outcome> {
        pooled.apply_head(head);
        let is_out = pooled.connection().is_request_out();
        match complete {
            Some(complete) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                pooled.connection().stream().consume(head.bytes);
                let upgraded = Upgraded::new(pooled, token.clone());
                Ok(Answer { upgraded: Some(upgraded), ..Answer::complete(head, complete.headers, Vec::new(), head_by) })
            }
            Some(complete) if is_out => {
                let mut body = pooled.connection().stream().take_first(complete.bytes);
                body.drain(..head.bytes);
                token.disarm().map_err(|_| Outcome::Cancelled)?;
                pool.put(pooled.with_end(head.is_persistent), Instant::now());
                Ok(Answer::complete(head, complete.headers, body, head_by))
            }
            _ => Answer::streamed(pooled, pool, request, token, head, head_by),
        }
    }

    fn complete(head: &ResponseHead, headers: HeaderMap, body: Vec<u8>, head_by: Instant) -> Answer {
        let length = if head.framing == BodyFraming::None { head.declared_length } else { Some(body.len() as u64) };
        Answer {
            status: head.status,
            version: head.version,
            headers,
            length,
            body: AnswerBody::Whole(body),
            upgraded: None,
            upload: None,
            representation: head.representation,
            head_by,
        }
    }

    fn streamed(
        pooled: PooledConnection,
        pool: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        head: &ResponseHead,
        head_by: Instant,
    ) -> Result<Answer, Outcome> {
        let called = pool.endpoint().upstream().caller.call(request.method(), pooled.connection(), head);
        let (headers, reader) = called.map_err(|outcome| token.disarm().map_or(Outcome::Cancelled, |()| outcome))?;
        let is_upload_wanted = head.status.is_success() && !pooled.connection().is_request_out();
        let upload = is_upload_wanted.then(|| Upload::new(&pooled, pool, request.holds_file()));
        let left = match head.framing {
            BodyFraming::None => Some(0),
            BodyFraming::Sized(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        };
        let body = StreamedBody {
            begin: std::io::Cursor::default(),
            reader: left.is_none().then_some(reader),
            pooled: Some(pooled),
            pool: pool.clone(),
            token: token.clone(),
            left,
            has_ended: false,
            is_persistent: head.is_persistent,
            shared: upload.as_ref().map(Upload::pooled),
        };
        let (length, body) = (head.declared_length, AnswerBody::Streamed(Box::new(body)));
        Ok(Answer { length, body, upload, ..Answer::complete(head, headers, Vec::new(), head_by) })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::upstream::response::head::{Fields, ParsedHead, read};
    use crate::upstream::response::received::Received;
    use crate::upstream::scenario::{Scenario, get, request};

    /// The answer of a backend that has sent these bytes, whether its body is whole, and how many connections idle then.
    fn answered(request: UpstreamRequest, bytes: &str) -> (Answer, bool, usize) {
        let scenario = Scenario::still();
        let (leg, mut backend) = scenario.leg(request);
        backend.sends(bytes);
        let answer = leg.answer().expect("an answer");
        let is_whole = matches!(answer.body, AnswerBody::Whole(_));
        (answer, is_whole, scenario.take_idle())
    }

    #[test]
    fn an_answer_that_has_been_received_whole_frees_its_connection_before_it_is_used() {
        let head = request(Method::HEAD, &[], None);
        let rows = [
            ("sized", get(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("no body", get(), "HTTP/1.1 204 No Content\r\n\r\n", true),
            ("to HEAD", head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
            ("half a body", get(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", false),
            ("in chunks", get(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
            ("until the end", get(), "HTTP/1.1 200 OK\r\n\r\nok", false),
        ];
        for (label, request, bytes, is_whole) in rows {
            let (_answer, was_whole, idle) = answered(request, bytes);
            assert_eq!((was_whole, idle), (is_whole, usize::from(is_whole)), "{label}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_body_or_the_one_that_it_would_have() {
        let head = || request(Method::HEAD, &[], None);
        let rows = [
            ("sized", get(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(2)),
            ("half a body", get(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", Some(2)),
            ("HEAD", head(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Some(2)),
            ("HEAD, unknown", head(), "HTTP/1.1 200 OK\r\n\r\n", None),
            ("304", get(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Some(9)),
            ("until the end", get(), "HTTP/1.1 200 OK\r\n\r\nok", None),
        ];
        for (label, request, bytes, expected) in rows {
            assert_eq!(answered(request, bytes).0.length, expected, "{label}");
        }
    }

    /// Was seen as: a method of 500 bytes made a healthy backend lose as `protocol`.
    #[test]
    fn every_method_but_head_gets_the_chunks_that_answer_it() {
        let long = "X".repeat(2000);
        for (method, expected) in [("HEAD", ""), ("head", "ok"), ("GET", "ok"), ("POST", "ok"), (&*long, "ok")] {
            let request = request(method.parse().expect("a method"), &[], None);
            let (mut answer, ..) =
                answered(request, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
            answer.body.look(100);
            assert_eq!(answer.body.begin(), expected.as_bytes(), "{method}");
        }
    }

    #[test]
    fn fields_are_kept_as_they_came_by_both_ways_of_reading() {
        for bytes in
            ["HTTP/1.1 200 OK\r\nA: b\r\na: c\r\nContent-Length: 2\r\n\r\n", "HTTP/1.0 200 OK\r\nA: b\r\na: c\r\n\r\n"]
        {
            for rest in ["ok", "o"] {
                let (answer, ..) = answered(get(), &[bytes, rest].concat());
                assert!(answer.headers.get_all("a").iter().eq(["b", "c"]), "{bytes}{rest}");
            }
        }
    }

    #[test]
    fn a_leg_that_is_hung_up_on_while_its_answer_is_read_is_cancelled_and_loses_its_connection() {
        let scenario = Scenario::still();
        let (pooled, mut backend) = scenario.pooled();
        pooled.connection().begin_request(scenario.pool.bytes_of(&get()));
        backend.sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let token = CancelToken::default();
        let received = pooled.connection().stream().peek(|peeked| Received::of(&peeked, &Method::GET, false));
        let Received::Head(head, complete) = received else { panic!("a head") };
        token.cancel();
        let answer = Answer::of(pooled, &scenario.pool, &get(), &token, &head, complete, Instant::now());
        assert_eq!((answer.err(), scenario.take_idle()), (Some(Outcome::Cancelled), 0));
    }

    #[test]
    fn only_a_request_timeout_that_closes_tells_of_a_connection_that_was_given_up() {
        for (fields, status, expected) in
            [("Connection: close", 408, true), ("A: b", 408, false), ("Connection: close", 400, false)]
        {
            let bytes = format!("HTTP/1.1 {status} \r\n{fields}\r\nContent-Length: 0\r\n\r\n");
            let mut parsed = Fields::new();
            let read = read(bytes.as_bytes(), &Method::GET, &mut parsed);
            let Ok(ParsedHead::Final(head, _)) = read else { panic!("a head") };
            assert_eq!(head.is_request_timeout_at_close(), expected, "{status}, {fields}");
        }
    }
}
