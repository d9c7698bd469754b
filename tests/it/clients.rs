//! What clients may send, and what they get for it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::harness::{BRIEFLY, Client, Fake, Gate, Proxy, Raw, SOON, eventually};

/// A proxy before a backend that answers with the target, and tells what reaches it.
fn echoing() -> (Proxy, Fake) {
    let backend = Fake::answering(|request| Fake::reply(200, request.target.clone()));
    (Proxy::before(std::slice::from_ref(&backend.url)), backend)
}

#[test]
fn a_connection_is_kept_until_the_client_wants_it_closed() {
    let (proxy, _backend) = echoing();
    let mut client = Client::connect(proxy.address);
    for target in ["/1", "/2", "/3"] {
        client.send_request("GET", target, &[], None);
        let reply = client.reply();
        assert_eq!((reply.text().as_str(), reply.value("connection")), (target, None));
    }
    client.send_request("GET", "/last", &["Connection: close"], None);
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.value("connection")), ("/last", Some("close")));
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Fake::answering(move |request| {
        if request.target == "/1" {
            held.pass();
        }
        Fake::reply(200, [request.target.as_bytes(), &request.body].concat())
    });
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut client = Client::connect(proxy.address);
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n-body\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n-chu\r\n2\r\nnk\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(backend.next().target, "/1");
    gate.open();
    let replies: Vec<String> = (0..4).map(|_| client.reply().text()).collect();
    assert_eq!(replies, ["/1", "/2-body", "/3-chunk", "/4"]);
}

/// Was seen as: a client that had sent more than 16 KiB of requests at once got 408 after ten seconds, since nothing read
/// what was left in its socket.
#[test]
fn a_long_pipeline_is_read_to_its_end() {
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut client = Client::connect(proxy.address);
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2000)).repeat(40));
    for number in 0..40 {
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, "good"), "request {number}");
    }
    client.half_close();
    assert!(client.is_closed(), "its end is read, too");
}

/// Was seen as: the second of three requests was dropped. While the event that had begun the first was still at it, another
/// thread had answered it, and then the third's end looked like the first's.
#[test]
fn a_pipeline_with_an_end_behind_it_is_answered_but_for_its_last_request() {
    let backends: Vec<Raw> =
        (0..6).map(|_| Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")).collect();
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let proxy = Proxy::before(&urls);
    for _ in 0..500 {
        let mut client = Client::connect(proxy.address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
        client.half_close();
        for _ in 0..2 {
            assert_eq!(client.reply().text(), "good");
        }
    }
}

#[test]
fn an_http_1_0_client_is_told_what_becomes_of_its_connection() {
    let (proxy, _backend) = echoing();
    let mut client = Client::connect(proxy.address);
    client.send("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.value("connection")), ("/1", Some("keep-alive")));
    client.send("GET /2 HTTP/1.0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.value("connection")), ("/2", Some("close")));
    assert!(reply.head.starts_with("HTTP/1.1 200 "), "{}", reply.head);
    assert!(client.is_closed());
}

#[test]
fn an_http_1_0_client_gets_a_body_of_unknown_length_until_the_close() {
    let backend =
        Raw::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut client = Client::connect(proxy.address);
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.whole), ("abcde", true));
    assert_eq!((reply.value("connection"), reply.value("transfer-encoding")), (Some("close"), None));
}

#[test]
fn continue_is_said_once_and_never_asked_of_backends() {
    let (proxy, backend) = echoing();
    let mut client = Client::connect(proxy.address);
    for target in ["/1", "/2"] {
        client.send_request("POST", target, &["Expect: 100-Continue", "Content-Length: 4"], None);
        assert_eq!(client.reply_to_head().head, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(backend.received.is_empty(), "the race begins once the body is here");
        client.send("bo");
        client.send("dy");
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, target));
        let seen = backend.next();
        assert_eq!((seen.body.as_slice(), seen.values("expect")), (&b"body"[..], vec![]));
    }
    client.send_request("POST", "/3", &["Expect: 100-continue"], Some(b"at once"));
    assert_eq!(client.reply().status, 200, "who doesn't wait isn't told to go on");
}

#[test]
fn half_a_head_waits_for_the_other_half_and_delays_no_other_client() {
    let (proxy, _backend) = echoing();
    let mut slow = Client::connect(proxy.address);
    slow.send("GET /slow HTTP/1.1\r\nHo");
    for _ in 0..20 {
        assert_eq!(proxy.get("/quick").text(), "/quick");
    }
    slow.stream.set_read_timeout(Some(BRIEFLY)).expect("a timeout");
    let silence = slow.stream.peek(&mut [0]).expect_err("no 408 so early").kind();
    assert_eq!(silence, std::io::ErrorKind::WouldBlock);
    slow.stream.set_read_timeout(Some(SOON)).expect("a timeout");
    slow.send("st: a\r\n\r\n");
    assert_eq!(slow.reply().text(), "/slow");
}

#[test]
fn a_chunked_upload_reaches_the_backend_whole_with_its_length() {
    let (proxy, backend) = echoing();
    let mut client = Client::connect(proxy.address);
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n");
    let mut expected = Vec::new();
    for size in [1, 10, 1000, 70_000] {
        let chunk = vec![b'a' + u8::try_from(size % 7).expect("below 7"); size];
        client.send([format!("{size:x};ext=1\r\n").as_bytes(), &chunk, b"\r\n"].concat());
        expected.extend_from_slice(&chunk);
    }
    client.send("0\r\nX: y\r\n\r\n");
    assert_eq!(client.reply().text(), "/up");
    let seen = backend.next();
    assert!(seen.body == expected, "{} bytes of {}", seen.body.len(), expected.len());
    assert_eq!(seen.values("content-length"), [expected.len().to_string()]);
    assert!(seen.values("transfer-encoding").is_empty() && seen.values("x").is_empty());
}

#[test]
fn ten_thousand_requests_at_once_are_answered_one_by_one() {
    const COUNT: usize = 10_000;
    let backend = Raw::echoing();
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut client = Client::connect(proxy.address);
    let mut sending = client.stream.try_clone().expect("a socket");
    let sender = thread::spawn(move || {
        let requests = (0..COUNT).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let requests = requests.collect::<Vec<_>>().concat();
        sending.write_all(requests.as_bytes()).expect("the proxy reads");
    });
    for number in 0..COUNT {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    sender.join().expect("no panic");
}

/// Requests that are refused, each with its status. Another one is hidden behind each.
fn refused() -> Vec<(&'static str, String, u16)> {
    let many = "A: b\r\n".repeat(101);
    let row = |label, head: &str, status| (label, format!("{head}\r\n\r\n"), status);
    vec![
        row("no Host", "GET / HTTP/1.1", 400),
        row("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b", 400),
        row("a bare LF", "GET / HTTP/1.1\nHost: a", 400),
        row("a blank in a name", "GET / HTTP/1.1\r\nHost: a\r\nA : b", 400),
        row("a folded field", "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c", 400),
        row("a target that is none", "GET x HTTP/1.1\r\nHost: a", 400),
        row("both lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked", 400),
        row("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 0", 400),
        row("a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +9", 400),
        row("a bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1", 400),
        row("TLS", "\x16\x03\x01\x02\x00", 400),
        row("a long body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000000", 413),
        row(
            "a long chunk",
            &format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk(2048)),
            413,
        ),
        row("a long target", &format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(8192)), 414),
        row("an expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 9", 417),
        row("a long head", &format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "x".repeat(32 * 1024)), 431),
        row("many fields", &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}B: c"), 431),
        row("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443", 501),
        row("gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501),
        row("HTTP/2", "PRI * HTTP/2.0", 505),
        row("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a", 505),
    ]
}

fn chunk(size: usize) -> String {
    format!("{size:x}\r\n{}", "x".repeat(size))
}

#[test]
fn a_refusal_reaches_the_client_and_ends_the_connection_and_nothing_behind_it_is_served() {
    let backend = Fake::with(200, "served");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.max_body = 1024);
    for (label, bytes, status) in refused() {
        let mut client = Client::connect(proxy.address);
        client.send(&bytes);
        // Some are refused before this is sent; nothing of it may be served either way.
        let _ = client.stream.write_all("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3).as_bytes());
        let reply = client.reply();
        assert_eq!(reply.status, status, "{label}: {}", reply.text());
        assert_eq!(reply.values("connection"), ["close"], "{label}");
        assert!(reply.whole && reply.text().lines().count() == 1, "{label}: {}", reply.text());
        assert!(client.is_closed(), "{label}");
    }
    assert_eq!(proxy.get("/last").text(), "served");
    assert_eq!(backend.next().target, "/last", "no refused request, nor what was behind it, reached the backend");
    assert!(backend.received.is_empty());
}

/// Was seen as: a client that had sent an id got it back from races alone, so that nobody found its refusals.
#[test]
fn a_refused_request_keeps_its_id_if_its_head_has_come() {
    let proxy = Proxy::with(&["http://127.0.0.1:1".to_owned()], |config| config.max_body = 1024);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let rows = [
        ("a long body", format!("{post}Content-Length: 2000\r\n\r\n"), 413, vec!["mine"]),
        ("a long chunk", format!("{chunked}{}", chunk(2048)), 413, vec!["mine"]),
        ("a bad chunk", format!("{chunked}-1\r\n"), 400, vec!["mine"]),
        ("an expectation", format!("{post}Expect: more\r\n\r\n"), 417, vec!["mine"]),
        ("a loop", format!("{post}{}Content-Length: 0\r\n\r\n", "Via: 1.1 a\r\n".repeat(33)), 508, vec!["mine"]),
        ("a last proxy", format!("TRACE{}Max-Forwards: 0\r\n\r\n", &post[4..]), 200, vec!["mine"]),
        (
            "an update by a stranger",
            format!("{}Origin: http://b\r\n\r\n", post.replace(" / ", " /-update-backends ")),
            403,
            vec!["mine"],
        ),
        ("an id in a body", format!("{}-1\r\n{post}\r\n", chunked.replace("X-Request-ID: mine\r\n", "")), 400, vec![]),
        ("an id that is none", format!("{}Expect: more\r\n\r\n", post.replace("mine", "a b")), 417, vec![]),
        ("two ids", format!("{post}X-Request-ID: b\r\nExpect: more\r\n\r\n"), 417, vec![]),
        ("half a head", format!("{post}A: b\n"), 400, vec![]),
    ];
    for (label, bytes, status, ids) in rows {
        let mut client = Client::connect(proxy.address);
        client.send(&bytes);
        let reply = client.reply();
        assert_eq!((reply.status, reply.values("x-request-id")), (status, ids), "{label}: {}", reply.text());
    }
}

/// Refusals that a client gets while most of its request is still on its way: a label, the head, the status.
pub(crate) const REFUSED_EARLY: [(&str, &str, u16); 4] = [
    ("a long body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n", 413),
    ("a long chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000\r\n", 413),
    ("an expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 100000000\r\n\r\n", 417),
    ("an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
];

/// A proxy that refuses bodies above one kibibyte, before a backend that must hear of none.
fn refusing_long_bodies() -> (Proxy, Fake) {
    let backend = Fake::with(200, "served");
    (Proxy::with(std::slice::from_ref(&backend.url), |config| config.max_body = 1024), backend)
}

/// Was seen as: clients that send their whole request before they read met a reset instead of their 413, since no more than
/// 256 KiB were read after it.
#[test]
fn a_client_that_reads_when_it_has_sent_everything_reads_its_refusal_whole() {
    let ((proxy, backend), block) = (refusing_long_bodies(), vec![b'x'; 64 * 1024]);
    for (label, head, status) in REFUSED_EARLY {
        let mut client = Client::connect(proxy.address);
        client.send(head);
        // The last block only after the refusal has arrived and the proxy has said its last word.
        (0..256).for_each(|_| client.send(&block));
        client.stream.peek(&mut [0]).expect("a refusal");
        client.send(&block);
        let reply = client.reply();
        assert_eq!((reply.status, reply.whole), (status, true), "{label}");
        assert!(client.is_closed(), "{label}");
    }
    assert!(backend.received.is_empty());
}

#[test]
fn a_body_above_64_kib_waits_in_an_unlinked_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Fake::answering(move |request| {
        held.pass();
        Fake::reply(200, request.body.clone())
    });
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.spool_dir = directory.path().into());
    let body: Vec<u8> = (0..300_000_u32).map(|number| u8::try_from(number % 251).expect("below 251")).collect();
    let mut small = Client::connect(proxy.address);
    small.send_request("POST", "/", &[], Some(&body[..64 * 1024]));
    backend.next();
    assert_eq!(open_files_in(directory.path()), 0, "64 KiB stay in memory");
    let mut large = Client::connect(proxy.address);
    large.send_request("POST", "/", &[], Some(&body));
    backend.next();
    assert_eq!(open_files_in(directory.path()), 1);
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "the file has no name");
    gate.open();
    assert!(small.reply().body == body[..64 * 1024]);
    assert!(large.reply().body == body, "the backend got it all");
    eventually("the file is closed", || open_files_in(directory.path()) == 0);
    let connections_opened = proxy.totals().connections_opened;
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(proxy.totals().connections_opened, connections_opened, "though the line that it went out on is kept");
}

/// Files of this process, named or not, that are in a directory.
pub(crate) fn open_files_in(directory: &Path) -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|target| target.starts_with(directory))).count()
}

#[test]
fn a_backend_that_does_not_answer_costs_a_client_the_timeout_and_no_more() {
    let backend = Raw::hanging();
    let change = |config: &mut red_tentacle::config::Config| config.timeout = Duration::from_millis(300);
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), change);
    let reply = proxy.get("/");
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("timeout: the backend's answer didn't come in time"), "{}", reply.text());
}
