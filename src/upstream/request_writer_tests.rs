//! Tests of a request on its way out. They don't stand in `conn`, which the models bring along without the scenarios.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use crate::message::Address;
use crate::upstream::conn::connection::OwnedConnection;
use crate::upstream::conn::request_bytes::RequestBytes;
use crate::upstream::conn::request_writer::Progress;
use crate::upstream::response::received::early;
use crate::upstream::scenario::{Backend, LONG, Scenario, get, narrow, spool};

/// More than a narrow connection takes at once.
const BODY_BYTES: usize = 64 * 1024;

/// A connection that takes few bytes at once, and has taken what it could of a request that it can't take whole.
fn full() -> (Scenario, OwnedConnection, Backend) {
    let scenario = Scenario::still();
    let (established, backend) = scenario.connection();
    narrow(established.connection.get());
    established.connection.get().begin_request(RequestBytes::new(b"head".to_vec(), Some(spool(&body(), 1 << 20))));
    assert!(!established.connection.get().is_request_out());
    (scenario, established.connection, backend)
}

fn body() -> Vec<u8> {
    (0..BODY_BYTES).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

#[test]
fn a_file_is_not_read_before_the_first_step() {
    let scenario = Scenario::still();
    let (established, mut backend) = scenario.connection();
    let connection = established.connection.get();
    connection.begin_request(RequestBytes::new(b"head".to_vec(), Some(spool(b"body", 0))));
    assert_eq!(backend.receives(4), b"head");
    assert!(!connection.is_request_out());
    assert!(matches!(connection.send_more(Some(early), LONG), Progress::Yield(_)));
    assert!(backend.is_left_alone() && connection.file_read_until(Instant::now()).is_none());
    connection.file_read_until(Instant::now() + LONG).expect("bytes to send").0.run();
    assert_eq!(connection.send_more(Some(early), LONG), Progress::Done);
    assert!(backend.receives(4) == b"body" && connection.is_request_out());
}

#[test]
fn a_request_goes_out_whole_as_the_backend_reads_it() {
    let (_scenario, connection, mut backend) = full();
    let (mut received, mut steps) = (backend.receives(4), 0);
    loop {
        match connection.get().send_more(Some(early), LONG) {
            Progress::Blocked(_) => received.extend(backend.receives(1024)),
            Progress::Done => break,
            progress => panic!("{progress:?}"),
        }
        steps += 1;
    }
    received.extend(backend.receives(4 + BODY_BYTES - received.len()));
    assert!(received == [b"head", &body()[..]].concat() && steps > 2, "in {steps} steps");
}

#[test]
fn a_socket_that_takes_nothing_blocks_until_it_has_been_silent_for_too_long() {
    let (_scenario, connection, _backend) = full();
    assert!(matches!(connection.get().send_more(None, LONG), Progress::Blocked(_)));
    let (_scenario, connection, _backend) = full();
    assert_eq!(connection.get().send_more(None, Duration::ZERO), Progress::TimedOut);
}

#[test]
fn the_time_to_go_on_is_put_off_by_bytes_that_go_out_and_by_no_step_without_any() {
    let (_scenario, connection, mut backend) = full();
    let until = || match connection.get().send_more(None, LONG) {
        Progress::Blocked(until) => until,
        progress => panic!("{progress:?}"),
    };
    let first = until();
    assert!(first <= Instant::now() + LONG);
    assert_eq!(until(), first, "nothing has gone out");
    backend.receives(4096);
    assert!(until() > first, "some has");
}

/// What an answer means that is received before its request is out (RFC 9112 §9.5).
#[test]
fn an_early_answer_stops_its_request_unless_it_accepts_that() {
    let blocked = || Progress::Blocked(Instant::now());
    let rows = [
        ("nothing", "", false, blocked()),
        ("an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", false, blocked()),
        ("the start of a head", "HTTP/1.1 413 Too", false, blocked()),
        ("a success", "HTTP/1.1 200 OK\r\n\r\n", false, Progress::Answered),
        ("a success behind an interim answer", "HTTP/1.1 100 \r\n\r\nHTTP/1.1 201 \r\n\r\n", false, Progress::Answered),
        ("a refusal", "HTTP/1.1 413 Too Large\r\n\r\n", false, Progress::Aborted),
        ("a redirection", "HTTP/1.1 307 Away\r\nLocation: /b\r\n\r\n", false, Progress::Aborted),
        ("a switch", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", false, Progress::Aborted),
        ("no answer", "SSH-2.0-x\r\n", false, Progress::Aborted),
        ("an end", "", true, Progress::Aborted),
        ("an end within a head", "HTTP/1.1 200", true, Progress::Aborted),
    ];
    for (label, bytes, ends, expected) in rows {
        let (_scenario, connection, mut backend) = full();
        backend.sends(bytes);
        if ends {
            backend.ends();
        }
        let progress = connection.get().send_more(Some(early), LONG);
        match expected {
            Progress::Blocked(_) => assert!(matches!(progress, Progress::Blocked(_)), "{label}: {progress:?}"),
            expected => assert_eq!(progress, expected, "{label}"),
        }
    }
}

/// Beside its own answer: what comes then is the body's.
#[test]
fn without_a_judge_no_bytes_are_looked_at() {
    let (_scenario, connection, mut backend) = full();
    backend.sends("HTTP/1.1 413 Too Large\r\n\r\n");
    assert!(matches!(connection.get().send_more(None, LONG), Progress::Blocked(_)));
    assert!(connection.get().stream().with_peeked(<[u8]>::is_empty));
}

/// Of a backend with fields of its own.
#[test]
fn a_plain_request_asks_for_no_encoding() {
    let own = [("accept-encoding", "gzip"), ("x-key", "1")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let address = Address::parse("http://127.0.0.1:1").expect("an address");
    for (request, expected) in [(get(), true), (get().plain(), false)] {
        let mut head = Vec::new();
        let sent = request.bytes_with(&address, false, &own).send(|parts| {
            head.extend_from_slice(&parts[0]);
            Ok(head.len())
        });
        let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
        assert!(sent.is_ok() && head.contains("\r\nx-key: 1\r\n"), "{head}");
        assert_eq!(head.contains("accept-encoding"), expected, "{head}");
    }
}

/// A CGI program would find the client's in the same variable.
#[test]
fn a_backends_own_field_takes_the_place_of_what_looks_like_it() {
    let own = [(HeaderName::from_static("x-api-key"), HeaderValue::from_static("secret"))];
    let mut headers = http::HeaderMap::new();
    for name in ["x-api-key", "x_api_key", "x_api-key", "x.api.key", "x-api-keys"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("mine"));
    }
    let target = crate::message::Target::parse(&http::Method::GET, "/").expect("a target");
    let request = crate::upstream::UpstreamRequest::new(http::Method::GET, target, headers, None, None);
    let address = Address::parse("http://127.0.0.1:1").expect("an address");
    let head =
        String::from_utf8(request.bytes_with(&address, false, &own).bytes()).expect("ASCII").to_ascii_lowercase();
    assert!(head.contains("\r\nx-api-key: secret\r\n") && head.contains("\r\nx-api-keys: mine\r\n"), "{head}");
    assert_eq!(head.matches("mine").count(), 1, "{head}");
}

#[test]
fn a_request_for_the_root_goes_to_an_exact_path_with_fields_of_the_backends_own_and_without() {
    let own = [(HeaderName::from_static("x-own"), HeaderValue::from_static("1"))];
    let address = Address::parse("http://127.0.0.1:1/v3/KEY").expect("an address");
    for (is_exact, expected) in [(true, "GET /v3/KEY HTTP/1.1\r\n"), (false, "GET /v3/KEY/ HTTP/1.1\r\n")] {
        for bytes in [get().bytes_for(&address, is_exact), get().bytes_with(&address, is_exact, &own)] {
            let head = String::from_utf8(bytes.bytes()).expect("ASCII");
            assert!(head.starts_with(expected), "{head}");
        }
    }
}

#[test]
fn a_request_is_aborted_when_the_backend_takes_no_more_bytes() {
    let (_scenario, connection, backend) = full();
    backend.resets();
    assert_eq!(connection.get().send_more(None, LONG), Progress::Aborted);
    assert!(!connection.get().is_request_out());
}

/// Was seen as: with `--host preserve` it was the last field.
#[test]
fn host_is_the_first_field_from_wherever_it_comes() {
    let address = Address::parse("http://backend.example").expect("an address");
    let own = [("x-own", "1"), ("host", "own.example")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    for (clients, own, expected) in [
        (None, &own[..0], "backend.example"),
        (Some("client.example"), &own[..0], "client.example"),
        (Some("client.example"), &own[..1], "client.example"),
        (Some("client.example"), &own[..], "own.example"),
        (None, &own[..], "own.example"),
    ] {
        let target = crate::message::Target::parse(&http::Method::GET, "/").expect("a target");
        let headers = [(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))].into_iter().collect();
        let host = clients.map(HeaderValue::from_static);
        let request = crate::upstream::UpstreamRequest::new(http::Method::GET, target, headers, host, None);
        let bytes =
            if own.is_empty() { request.bytes_for(&address, false) } else { request.bytes_with(&address, false, own) };
        let head = String::from_utf8(bytes.bytes()).expect("ASCII");
        assert!(head.starts_with(&format!("GET / HTTP/1.1\r\nHost: {expected}\r\nX-A: 1\r\n")), "{head}");
        assert_eq!(head.matches("\r\nHost: ").count(), 1, "{head}");
    }
}
