//! Connections to backends: used again, given up, never mixed up.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use red_tentacle::config::Statuses;

use crate::harness::{
    BRIEFLY, Backend, Client, Deaf, Framing, Gate, Proxy, Raw, Received, SOON, beside_each_other, eventually,
    patiently, pattern, reply_to, ways,
};

/// A proxy before this backend alone, in which nothing ends by itself.
fn proxy_before(backend: &Raw) -> Proxy {
    Proxy::with(std::slice::from_ref(&backend.url), patiently)
}

/// What came in one read behind the first request was forgotten there: no edge tells of it again.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Raw::echoing();
    let proxy = proxy_before(&backend);
    let mut client = Client::connect(proxy.address);
    // More than the proxy reads in one go, and pieces that end within a request.
    let targets: Vec<String> = (0..600).map(|number| format!("/{number}/{}", "x".repeat(number % 100))).collect();
    let requests = targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.send(requests.collect::<String>());
    for target in targets {
        assert_eq!(client.reply().text(), target);
    }
}

/// A backend that answers `/Sized`, `/Chunked` and `/UntilClose` with this body, in two halves with a gate between them, and all
/// else with its target.
fn framing(is_tls: bool, body: &Arc<Vec<u8>>, gate: &Gate) -> Backend {
    let (body, gate) = (body.clone(), gate.clone());
    Backend::serving(is_tls, move |mut far| {
        while let Some(request) = far.request() {
            let Received { target, .. } = Received::parse(&request);
            let Some(framing) = Framing::ALL.into_iter().find(|framing| target == format!("/{framing:?}")) else {
                far.send(format!("{}{target}", Framing::Sized.head(target.len())));
                continue;
            };
            let (begin, rest) = body.split_at(body.len() / 2);
            far.send(framing.head(body.len()));
            begin.chunks(10_000).for_each(|piece| far.send(framing.piece(piece)));
            gate.pass();
            rest.chunks(10_000).for_each(|piece| far.send(framing.piece(piece)));
            let Some(open) = far.finish(framing) else { return };
            far = open;
        }
    })
}

#[test]
fn requests_that_wait_behind_a_streamed_answer_are_answered_in_order_when_it_has_ended() {
    let body = Arc::new(pattern(100_000));
    beside_each_other(ways(), |(is_tls, how)| {
        let label = format!("TLS: {is_tls}, {how:?}");
        let gate = Gate::new();
        let backend = framing(is_tls, &body, &gate);
        let proxy = backend.proxy(|_| {});
        let mut client = Client::connect(proxy.address);
        let targets: Vec<String> = (0..50).map(|number| format!("/{number}")).collect();
        let further = |target: &String| match target.as_str() {
            "/7" => format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000)),
            _ => format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        let requests: String = targets.iter().map(further).collect();
        client.send(format!("GET /{how:?} HTTP/1.1\r\nHost: a\r\n\r\n{requests}"));
        let mut reply = client.reply_to_head();
        assert_eq!(backend.raw.accepted(), 1, "{label}: the others wait");
        gate.open();
        client.read_body(&mut reply);
        assert!(reply.whole && reply.body == *body, "{label}: {} bytes", reply.body.len());
        for target in targets {
            assert_eq!(client.reply().text(), target, "{label}");
        }
    });
}

/// Moved by the kernel, or copied, or taken whole: whatever has been before, what follows is right.
#[test]
fn a_clients_connection_goes_on_behind_answers_of_every_framing_and_length() {
    let (long, open) = (Arc::new(pattern(2 << 20)), Gate::new());
    open.open();
    beside_each_other([false, true], |is_tls| {
        let backend = framing(is_tls, &long, &open);
        let proxy = backend.proxy(|_| {});
        let mut client = Client::connect(proxy.address);
        let orders =
            ["Sized Chunked short", "short Chunked Sized", "Chunked Sized UntilClose", "short UntilClose short"];
        for target in orders.iter().flat_map(|order| order.split(' ')) {
            client.send_request("GET", &format!("/{target}"), &[], None);
            let reply = client.reply();
            let expected = if target == "short" { b"/short" } else { long.as_slice() };
            assert!(reply.whole && reply.body == expected, "TLS: {is_tls}, {target}: {} bytes", reply.body.len());
        }
    });
}

#[test]
fn a_client_of_http_1_0_gets_a_long_body_until_its_end_however_it_is_framed() {
    let (long, open) = (Arc::new(pattern(2 << 20)), Gate::new());
    open.open();
    beside_each_other(ways(), |(is_tls, how)| {
        let label = format!("TLS: {is_tls}, {how:?}");
        let backend = framing(is_tls, &long, &open);
        let proxy = backend.proxy(|_| {});
        let mut client = Client::connect(proxy.address);
        client.send(format!("GET /{how:?} HTTP/1.0\r\n\r\n"));
        let reply = client.reply();
        let length = (how == Framing::Sized).then(|| long.len().to_string());
        assert_eq!(
            (reply.value("content-length"), reply.value("transfer-encoding")),
            (length.as_deref(), None),
            "{label}"
        );
        assert!(reply.whole && reply.body == *long && client.is_closed(), "{label}: {} bytes", reply.body.len());
    });
}

#[test]
fn one_connection_serves_any_number_of_requests_in_turn() {
    let rows = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (method, answer) in rows {
        let backend = Raw::answering(answer);
        let proxy = proxy_before(&backend);
        let mut client = Client::connect(proxy.address);
        for _ in 0..50 {
            client.send_request(method, "/", &[], None);
            let reply = if method == "HEAD" { client.reply_to_head() } else { client.reply() };
            assert!(matches!(reply.status, 200 | 204) && reply.whole, "{answer}");
        }
        assert_eq!(backend.accepted(), 1, "{method}: {answer}");
    }
}

/// Its bytes go past ureq, which is told nothing of their end.
#[test]
fn the_connection_of_a_long_answer_is_used_again_unless_the_backend_says_otherwise() {
    const LENGTH: usize = 3 << 20;
    const ROUNDS: usize = 6;
    for (version, fields, behind, lines) in [
        ("1.1", "", "", 1),
        ("1.1", "Connection: keep-alive\r\n", "", 1),
        ("1.1", "Connection: close\r\n", "", ROUNDS),
        ("1.0", "Connection: keep-alive\r\n", "", ROUNDS),
        ("1.1", "", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", ROUNDS),
    ] {
        let body = pattern(LENGTH);
        let backend = Raw::serving({
            let body = body.clone();
            move |mut connection| {
                while connection.request().is_some() {
                    connection.send(format!("HTTP/{version} 200 OK\r\n{fields}Content-Length: {LENGTH}\r\n\r\n"));
                    connection.send([&body, behind.as_bytes()].concat());
                }
            }
        });
        let proxy = proxy_before(&backend);
        let mut client = Client::connect(proxy.address);
        for _ in 0..ROUNDS {
            client.send_request("GET", "/", &[], None);
            assert!(client.reply().body == body, "{fields}");
        }
        assert_eq!(backend.accepted(), lines, "HTTP/{version} {fields}{behind}");
    }
}

#[test]
fn bytes_behind_an_answer_reach_no_client() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let rows = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (method, answer) in rows {
        for at_once in [true, false] {
            let (gate, (sender, sent)) = (Gate::new(), unbounded());
            let answered = gate.clone();
            let backend = Raw::serving(move |mut connection| {
                connection.request();
                if connection.number > 0 {
                    return connection.reply(200, "clean");
                }
                if at_once {
                    connection.send([answer, EVIL].concat());
                } else {
                    connection.send(answer);
                    answered.pass();
                    connection.send(EVIL);
                }
                let _ = sender.send(());
                connection.wait_for_hang_up();
            });
            let proxy = proxy_before(&backend);
            let mut client = Client::connect(proxy.address);
            client.send_request(method, "/", &[], None);
            let reply = if method == "HEAD" { client.reply_to_head() } else { client.reply() };
            assert!(matches!(reply.status, 200 | 204) && !reply.text().contains("evil"), "{method}: {answer}");
            gate.open();
            sent.recv_timeout(SOON).expect("the backend goes on");
            client.send_request("GET", "/", &[], None);
            assert_eq!(client.reply().text(), "clean", "{method}: {answer}, at once: {at_once}");
            assert_eq!(backend.accepted(), 2);
        }
    }
}

/// Was seen as: a backend that sent the body of a HEAD in a second write poisoned the answers of other clients, one in five.
#[test]
fn a_connection_rests_for_a_moment_after_a_head_that_tells_of_a_body_that_may_not_be() {
    let rows = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
    ];
    for (method, answer) in rows {
        let backend = Raw::serving(move |mut connection| {
            if connection.number > 0 {
                connection.request();
                return connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nother");
            }
            connection.request();
            connection.send(answer);
            while connection.request().is_some() {
                connection.reply(200, "first");
            }
        });
        let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
            patiently(config);
            config.success = Statuses::parse("200-299,304").expect("statuses");
        });
        let mut client = Client::connect(proxy.address);
        client.send_request(method, "/", &[], None);
        assert!(matches!(client.reply_to_head().status, 200 | 204 | 304), "{method}: {answer}");
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "other", "{method}: {answer}");
        // The connection is used again in time, so that a HEAD doesn't cost a connection each.
        eventually("the first line is used again", || proxy.get("/").text() == "first");
    }
}

/// Was seen as: a client without credentials got the mailbox of another, whom IIS knew by the connection.
#[test]
fn a_connection_that_belongs_to_a_user_is_given_to_no_other_client() {
    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nmailbox";
    let answer = |status: &str, field: &str| {
        format!("HTTP/1.1 {status} X\r\nContent-Length: 7\r\nConnection: keep-alive\r\n{field}\r\n\r\nmailbox")
    };
    let rows = [
        ("Negotiate", "Authorization: Negotiate YIIZ", PLAIN.to_owned(), 2),
        ("NTLM", "authorization: ntlm TlRM", PLAIN.to_owned(), 2),
        ("an offer", "X-A: b", answer("200", "WWW-Authenticate: Basic realm=\"a\", NTLM"), 2),
        ("an offer that loses", "X-A: b", answer("401", "www-authenticate: Negotiate"), 2),
        ("persistent", "X-A: b", answer("200", "Persistent-Auth: true"), 2),
        ("support", "X-A: b", answer("200", "Proxy-Support: Session-Based-Authentication"), 2),
        ("Basic", "Authorization: Basic YTpi", PLAIN.to_owned(), 1),
        ("Bearer", "Authorization: Bearer ntlm-like", answer("401", "WWW-Authenticate: Bearer"), 1),
    ];
    for (label, field, answer, connections) in rows {
        let backend = Raw::answering(answer);
        let proxy = proxy_before(&backend);
        for fields in [&[field][..], &[]] {
            reply_to(proxy.address, "GET", "/", fields, None);
        }
        assert_eq!(backend.accepted(), connections, "{label}");
    }
}

/// A backend that closes an idle connection may say so just when it is used (RFC 9110 §15.5.9). Was seen as: 502, though a
/// fresh connection would have been served.
#[test]
fn a_request_timeout_that_crosses_a_request_is_tried_again_on_a_fresh_connection() {
    const CLOSING: &str = "HTTP/1.1 408 X\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate";
    const KEPT: &str = "HTTP/1.1 408 X\r\nContent-Length: 4\r\n\r\nlate";
    let rows = [
        ("GET", 1, CLOSING, 200, 2),
        ("PUT", 1, CLOSING, 200, 2),
        ("POST", 1, CLOSING, 502, 1),
        ("GET", 1, KEPT, 502, 1),
        ("GET", 0, CLOSING, 502, 1),
    ];
    for (method, requests_before, answer, status, connections) in rows {
        let backend = Raw::serving(move |mut connection| {
            if connection.number > 0 {
                connection.request();
                return connection.reply(200, "fresh");
            }
            for _ in 0..requests_before {
                connection.request();
                connection.reply(200, "first");
            }
            connection.request();
            connection.send(answer);
        });
        let proxy = proxy_before(&backend);
        for _ in 0..requests_before {
            assert_eq!(proxy.get("/").text(), "first");
        }
        let reply = reply_to(proxy.address, method, "/", &[], Some(b"body"));
        assert_eq!(reply.status, status, "{method}: {answer}: {}", reply.text());
        assert_eq!(backend.accepted(), connections, "{method}: {answer}");
    }
}

#[test]
fn a_backend_that_closes_between_requests_is_no_error() {
    let backend = Raw::serving(|mut connection| {
        let request = connection.request().expect("a request");
        connection.reply(200, Received::parse(&request).target);
    });
    let proxy = proxy_before(&backend);
    let mut client = Client::connect(proxy.address);
    for number in 0..50 {
        let target = format!("/{number}");
        client.send_request("GET", &target, &[], None);
        let reply = client.reply();
        assert_eq!((reply.status, reply.text()), (200, target));
    }
    assert_eq!(backend.accepted(), 50);
}

#[test]
fn a_post_to_a_backend_that_closes_between_requests_arrives_exactly_once() {
    let (sender, closed) = unbounded();
    let backend = Raw::serving(move |mut connection| {
        connection.request().expect("a request");
        connection.reply(200, "ok");
        drop(connection);
        let _ = sender.send(());
    });
    let proxy = proxy_before(&backend);
    let mut client = Client::connect(proxy.address);
    for number in 0..20 {
        let target = format!("/{number}");
        client.send_request("POST", &target, &[], Some(b"hello"));
        assert_eq!(client.reply().status, 200);
        closed.recv_timeout(SOON).expect("the backend closes");
        let received = Received::parse(&backend.next());
        assert_eq!((received.target, received.body), (target, b"hello".to_vec()));
    }
    assert_eq!(backend.accepted(), 20);
}

#[test]
fn only_what_may_be_repeated_is_repeated_when_a_used_connection_dies() {
    let rows = [
        ("GET", "", 200, 2),
        ("PUT", "", 200, 2),
        ("POST", "", 502, 1),
        ("PATCH", "", 502, 1),
        // Part of an answer has come: the backend has begun to serve the request.
        ("GET", "HTTP/1.1 200 OK\r\nX: ", 502, 1),
    ];
    for (method, begin, status, connections) in rows {
        let backend = Raw::serving(move |mut connection| {
            connection.request();
            connection.reply(200, "ok");
            if connection.number == 0 && connection.request().is_some() {
                return connection.send(begin);
            }
            connection.wait_for_hang_up();
        });
        let proxy = proxy_before(&backend);
        let mut client = Client::connect(proxy.address);
        client.send_request("GET", "/1", &[], None);
        assert_eq!(client.reply().text(), "ok");
        client.send_request(method, "/2", &[], None);
        let reply = client.reply();
        assert_eq!(reply.status, status, "{method} {begin:?}");
        assert_eq!(backend.accepted(), connections, "{method} {begin:?}");
        // The first request, and the second on each connection that it was tried on.
        for _ in 0..=connections {
            backend.next();
        }
    }
}

#[test]
fn a_fresh_connection_that_dies_is_an_answer_and_not_tried_again() {
    let backend = Raw::serving(|mut connection| {
        connection.request();
    });
    let proxy = proxy_before(&backend);
    let reply = proxy.get("/");
    assert!(reply.status == 502 && reply.text().contains(" closed: "), "{}", reply.text());
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn a_connection_lasts_as_long_as_the_backend_says() {
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 3),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 3),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
    ];
    for (answer, connections) in rows {
        // It never closes by itself.
        let backend = Raw::answering(answer);
        let proxy = proxy_before(&backend);
        let mut client = Client::connect(proxy.address);
        for _ in 0..3 {
            client.send_request("GET", "/", &[], None);
            let reply = client.reply();
            assert!(reply.status == 200 && reply.text() == "ok" && reply.whole, "{answer}");
            assert_eq!(reply.value("connection"), None, "the client's own connection stays");
        }
        assert_eq!(backend.accepted(), connections, "{answer}");
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_whole() {
    let body = pattern(300_000);
    for version in ["1.0", "1.1"] {
        let sent = [format!("HTTP/{version} 200 OK\r\n\r\n").as_bytes(), &body].concat();
        let backend = Raw::serving(move |mut connection| {
            connection.request();
            connection.send(&sent);
        });
        let proxy = proxy_before(&backend);
        let mut client = Client::connect(proxy.address);
        for _ in 0..3 {
            client.send_request("GET", "/", &[], None);
            let reply = client.reply();
            assert!(reply.whole && reply.body == body);
            assert_eq!(reply.value("transfer-encoding"), Some("chunked"));
            assert!(reply.values("via").concat().starts_with(&format!("{version} ")));
        }
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert!(reply.whole && reply.body == body);
        assert_eq!((reply.value("transfer-encoding"), reply.value("connection")), (None, Some("close")));
    }
}

#[test]
fn chunks_of_any_shape_make_the_same_body() {
    let rows = [
        ("one", "5\r\nhello\r\n0\r\n\r\n"),
        ("bytes", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("extensions", "2;a=b\r\nhe\r\n3;c=\"d\"\r\nllo\r\n0;e\r\n\r\n"),
        ("trailers", "5\r\nhello\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n"),
    ];
    for (label, body) in rows {
        for in_pieces in [false, true] {
            let backend = Raw::serving(move |mut connection| {
                while connection.request().is_some() {
                    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let size = if in_pieces { 1 } else { body.len() };
                    for piece in body.as_bytes().chunks(size) {
                        connection.send(piece);
                    }
                }
            });
            let proxy = proxy_before(&backend);
            let mut client = Client::connect(proxy.address);
            for _ in 0..3 {
                client.send_request("GET", "/", &[], None);
                let reply = client.reply();
                assert!(reply.text() == "hello" && reply.whole, "{label}, in pieces: {in_pieces}");
            }
            assert_eq!(backend.accepted(), 1, "{label}, in pieces: {in_pieces}");
        }
    }
}

#[test]
fn interim_answers_are_not_taken_for_the_answer() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let rows: &[&[&str]] = &[
        &["HTTP/1.1 100 Continue\r\n\r\n"],
        &["HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"],
        &["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"],
        &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"],
    ];
    for interim in rows {
        for method in ["GET", "POST"] {
            let begin: Vec<&str> = interim.to_vec();
            let backend = Raw::serving(move |mut connection| {
                while connection.request().is_some() {
                    if connection.number == 0 {
                        connection.send([&begin.concat(), OK].concat());
                    }
                }
            });
            let proxy = proxy_before(&backend);
            let mut client = Client::connect(proxy.address);
            for _ in 0..3 {
                client.send_request(method, "/", &[], None);
                let reply = client.reply();
                assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "{method} {interim:?}");
                assert_eq!(reply.value("link"), None);
            }
            assert_eq!(backend.accepted(), 1);
        }
    }
}

#[test]
fn what_is_no_http_loses() {
    let rows = [
        ("noise", "nonsense\r\n\r\n"),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n"),
        ("a TLS alert", "\x15\x03\x01\x00\x02\x02\x28"),
        ("another version", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("no status", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
        ("no colon", "HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\nok"),
        ("a bad length", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        (
            "two framings",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ];
    for (label, bytes) in rows {
        let (backend, _) = Raw::stuck_behind(bytes);
        let proxy = proxy_before(&backend);
        let reply = proxy.get("/");
        assert!(reply.status == 502 && reply.text().contains(" protocol: "), "{label}: {}", reply.text());
        backend.expect_hang_up();
    }
}

#[test]
fn pieces_of_a_head_make_a_head() {
    let answer = "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok";
    let backend = Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            for byte in answer.as_bytes() {
                connection.send([*byte]);
            }
        }
    });
    let proxy = proxy_before(&backend);
    let mut client = Client::connect(proxy.address);
    for _ in 0..10 {
        client.send_request("GET", "/", &[], None);
        let reply = client.reply();
        assert_eq!((reply.text().as_str(), reply.value("x-a")), ("ok", Some("1")));
    }
}

/// Its begin is waited for as long as it may take, in which pieces it may come.
#[test]
fn a_long_head_that_pauses_in_the_middle_arrives_whole() {
    let numbered =
        |count: usize| (0..count).map(|number| format!("X-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    let rows = [
        ("after the 65th field", numbered(65), "X-65: last\r\nContent-Length: 2\r\n\r\nok", "x-65"),
        ("after the 126th field", numbered(126), "X-126: last\r\nContent-Length: 2\r\n\r\nok", "x-126"),
        ("before its end", numbered(99) + "X-99: last\r\nContent-Length: 2", "\r\n\r\nok", "x-99"),
        (
            "after 20 KiB",
            format!("X: {}", "x".repeat(20 * 1024)),
            "\r\nX-0: last\r\nContent-Length: 2\r\n\r\nok",
            "x-0",
        ),
    ];
    for (label, begin, rest, last) in rows {
        for is_tls in [false, true] {
            let gate = Gate::new();
            let (held, begin) = (gate.clone(), format!("HTTP/1.1 200 OK\r\n{begin}"));
            let (sender, sent) = unbounded();
            let backend = Backend::serving(is_tls, move |mut far| {
                while far.request().is_some() {
                    far.send(&begin);
                    let _ = sender.send(());
                    held.pass();
                    far.send(rest);
                }
            });
            let proxy = backend.proxy(|_| {});
            let mut client = Client::connect(proxy.address);
            client.send_request("GET", "/", &[], None);
            sent.recv_timeout(SOON).expect("half a head");
            client.stream.set_read_timeout(Some(BRIEFLY)).expect("a timeout");
            assert!(client.stream.peek(&mut [0]).is_err(), "{label}: nothing is known yet");
            client.stream.set_read_timeout(Some(SOON)).expect("a timeout");
            gate.open();
            let reply = client.reply();
            assert_eq!((reply.status, reply.text().as_str(), reply.value(last)), (200, "ok", Some("last")), "{label}");
            client.send_request("GET", "/", &[], None);
            assert_eq!(client.reply().value(last), Some("last"), "{label}: its connection is used again");
            assert_eq!(backend.raw.accepted(), 1, "{label}");
        }
    }
}

#[test]
fn a_head_that_is_too_large_loses() {
    for (kibibytes, status) in [(20, 200), (30, 502), (100, 502)] {
        let field = format!("X-Long: {}\r\n", "x".repeat(1024 - 10));
        let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", field.repeat(kibibytes));
        let backend = Raw::answering(head);
        let reply = proxy_before(&backend).get("/");
        assert_eq!(reply.status, status, "{kibibytes} KiB");
        assert_eq!(reply.text().contains(" too-large: "), status == 502, "{}", reply.text());
    }
}

#[test]
fn a_backend_that_does_not_answer_in_time_loses() {
    let timeout = Duration::from_millis(200);
    let (silent, half, unanswering) = (Raw::hanging(), Raw::stuck_behind("HTTP/1.1 200 OK\r\nX: ").0, Deaf::new());
    let rows = [
        ("silent", &silent.url, " timeout: the backend's answer didn't come in time"),
        ("half a head", &half.url, " timeout: the backend's answer didn't come in time"),
        ("unanswering", &unanswering.url, " connect-timeout: the backend couldn't be reached in time"),
    ];
    for (label, url, line) in rows {
        let proxy = Proxy::with(std::slice::from_ref(url), |config| {
            patiently(config);
            config.timeout = timeout;
        });
        let reply = proxy.get("/");
        assert!(reply.status == 502 && reply.text().contains(line), "{label}: {}", reply.text());
    }
    silent.expect_hang_up();
    half.expect_hang_up();
}

/// A pause that is longer than the idle timeout is the end, and never looks like the end of the body.
#[test]
fn a_body_that_stalls_is_cut() {
    let rows = ways().flat_map(|(is_tls, framing)| ["1.0", "1.1"].map(|version| (is_tls, framing, version)));
    beside_each_other(rows, |(is_tls, framing, version)| {
        let label = format!("TLS: {is_tls}, {framing:?}, HTTP/{version}");
        let backend = Backend::serving(is_tls, move |mut far| {
            far.request();
            far.send(framing.head(10));
            far.send(framing.piece("hello"));
            far.wait_for_hang_up();
        });
        let program = backend.program(&["--timeout", "1s", "--idle-timeout", "1s"]);
        let mut client = Client::connect(program.address());
        let asked = Instant::now();
        client.send(format!("GET /stalls HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "hello", false), "{label}");
        let took = asked.elapsed();
        assert!(took >= Duration::from_secs(1) && took < SOON / 4, "{label}: {took:?}");
        assert!(client.is_closed(), "{label}");
        backend.raw.expect_hang_up();
        let line = program.line("/stalls");
        assert!(
            line.contains(" 200 in ") && line.contains("(cut, since the backend's body broke off: "),
            "{label}: {line}"
        );
    });
}

#[test]
fn many_clients_at_once_are_all_answered_every_time() {
    const CLIENTS: usize = 64;
    const ROUNDS: usize = 10;
    let backends = [Raw::echoing(), Raw::echoing()];
    let urls: Vec<String> = backends.iter().map(|raw| raw.url.clone()).collect();
    let proxy = Proxy::with(&urls, patiently);
    let (barrier, address) = (Arc::new(Barrier::new(CLIENTS)), proxy.address);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                barrier.wait();
                for round in 0..ROUNDS {
                    let target = format!("/{number}/{round}");
                    client.send_request("GET", &target, &[], None);
                    let reply = client.reply();
                    assert_eq!((reply.status, reply.text(), reply.whole), (200, target, true));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is answered");
    }
}
