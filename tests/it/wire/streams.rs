//! What passes while it comes: streams, and answers that don't wait for the end of their request.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never, unbounded};

use crate::harness::{
    BRIEFLY, Backend, Client, Framing, Gate, Proxy, Raw, SOON, Told, beside_each_other, patiently, pattern, ways,
};

/// A proxy before a backend that sends the next of these pieces each time its gate opens.
fn in_steps(pieces: &'static [&'static str]) -> (Proxy, Raw, Vec<Gate>) {
    let gates: Vec<Gate> = pieces.iter().map(|_| Gate::new()).collect();
    let steps = gates.clone();
    let backend = Raw::serving(move |mut connection| {
        connection.request();
        for (gate, piece) in steps.iter().zip(pieces) {
            gate.pass();
            connection.send(piece);
        }
        connection.wait_for_hang_up();
    });
    (Proxy::with(std::slice::from_ref(&backend.url), patiently), backend, gates)
}

#[test]
pub(super) fn an_event_reaches_the_client_before_the_backend_sends_the_next() {
    let (proxy, _backend, gates) = in_steps(&[
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "9\r\ndata: 1\n\n\r\n",
        "9\r\ndata: 2\n\n\r\n",
        "1\r\nd\r\n",
        "8\r\nata: 3\n\n\r\n0\r\n\r\n",
    ]);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &["Accept: text/event-stream"], None);
    gates[0].open();
    let head = client.reply_to_head();
    assert_eq!(
        (head.status, head.value("content-type")),
        (200, Some("text/event-stream")),
        "before the first byte of the body"
    );
    for (gate, chunk) in gates[1..].iter().zip(["data: 1\n\n", "data: 2\n\n", "d", "ata: 3\n\n"]) {
        gate.open();
        assert_eq!(client.chunk().as_deref(), Some(chunk.as_bytes()));
    }
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
}

#[test]
pub(super) fn events_of_known_length_and_until_the_close_are_passed_at_once() {
    let heads = ["HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"];
    for head in heads {
        let (gate, (sender, sent)) = (Gate::new(), bounded(1));
        let held = gate.clone();
        let backend = Raw::serving(move |mut connection| {
            connection.request();
            connection.send(head);
            connection.send("data: 1\n\n");
            held.pass();
            let _ = sender.send(());
            connection.send("data: 2\n\n");
        });
        let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
        let mut client = Client::connect(proxy.address);
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.reply_to_head().status, 200);
        assert_eq!(client.read_exact(9), b"data: 1\n\n");
        assert!(sent.is_empty());
        gate.open();
        assert_eq!(client.read_exact(9), b"data: 2\n\n");
        assert!(client.is_closed());
    }
}

/// All together take longer than the idle timeout: that bounds each silence, and no body.
#[test]
pub(super) fn each_piece_of_a_slow_body_arrives_before_the_next_is_sent_however_it_is_framed() {
    const PIECES: [&str; 6] = ["a", "piece", "of", "a", "slow", "body"];
    const IDLE: Duration = Duration::from_millis(1500);
    let rows = ways().flat_map(|(is_tls, framing)| ["1.0", "1.1"].map(|version| (is_tls, framing, version)));
    beside_each_other(rows, |(is_tls, framing, version)| {
        let label = format!("TLS: {is_tls}, {framing:?}, HTTP/{version}");
        let gates = PIECES.map(|_| Gate::new());
        let steps = gates.clone();
        let backend = Backend::serving(is_tls, move |mut far| {
            far.request();
            far.send(framing.head(PIECES.concat().len()));
            for (gate, piece) in steps.iter().zip(PIECES) {
                gate.pass();
                far.send(framing.piece(piece));
            }
            far.finish(framing);
        });
        let proxy = backend.proxy(|config| (config.timeout, config.idle_timeout) = (IDLE, IDLE));
        let mut client = Client::connect(proxy.address);
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        let head = client.reply_to_head();
        let is_chunked = head.value("transfer-encoding") == Some("chunked");
        assert_eq!(is_chunked, version == "1.1" && framing != Framing::Sized, "{label}");
        let begun = Instant::now();
        for (gate, piece) in gates.iter().zip(PIECES) {
            // A silence of the backend's.
            let _ = never::<()>().recv_timeout(IDLE / 5);
            gate.open();
            let found = if is_chunked { client.chunk().unwrap_or_default() } else { client.read_exact(piece.len()) };
            assert_eq!(String::from_utf8_lossy(&found), piece, "{label}");
        }
        assert!(begun.elapsed() > IDLE, "{label}");
        if is_chunked {
            assert_eq!(client.chunk().as_deref(), Some(&b""[..]), "{label}");
        }
        let ends = version == "1.0";
        assert!(!ends || client.is_closed(), "{label}");
    });
}

/// Nothing but `--timeout` ends the wait for an answer.
#[test]
pub(super) fn a_long_poll_is_answered_when_its_time_has_come() {
    let (proxy, backend, gates) =
        in_steps(&["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews"]);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/poll", &[], None);
    backend.next();
    gates[0].open();
    client.stream.set_read_timeout(Some(10 * BRIEFLY)).expect("a timeout");
    let silence = client.stream.peek(&mut [0]).expect_err("no word before").kind();
    assert_eq!(silence, ErrorKind::WouldBlock);
    client.stream.set_read_timeout(Some(SOON)).expect("a timeout");
    gates[1].open();
    assert_eq!(client.reply().text(), "news");
}

#[test]
pub(super) fn an_early_refusal_of_an_upload_is_not_the_end_of_the_race() {
    let body = pattern(4 << 20);
    for status in ["413 Content Too Large", "401 Unauthorized"] {
        let (sender, refused) = unbounded();
        let early = Raw::serving(move |mut connection| {
            connection.head();
            connection.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"));
            drop(connection);
            let _ = sender.send(());
        });
        let expected = body.clone();
        let good = Raw::serving(move |mut connection| {
            let request = connection.request().expect("a request");
            let _ = refused.recv_timeout(SOON);
            connection.reply(200, if request.ends_with(&expected) { "all of it" } else { "not all" });
        });
        let proxy = Proxy::with(&[early.url.clone(), good.url.clone()], patiently);
        assert_eq!(proxy.post("/", &body).text(), "all of it");
        let alone = Proxy::with(std::slice::from_ref(&early.url), patiently);
        let reply = alone.post("/", &body);
        let words = ["reset", "closed", &status[..3]];
        let is_named = words.iter().any(|word| reply.text().contains(&format!(" {word}: ")));
        assert!(reply.status == 502 && is_named, "{}", reply.text());
    }
}

#[test]
pub(super) fn an_early_refusal_of_a_short_upload_is_told() {
    let early = Raw::serving(|mut connection| {
        connection.head();
        connection.reply(413, "no");
        connection.rest();
    });
    let proxy = Proxy::with(std::slice::from_ref(&early.url), patiently);
    let reply = proxy.post("/", &pattern(10_000));
    assert!(reply.status == 502 && reply.text().contains(" 413: "), "{}", reply.text());
}

const LONG: usize = 5 << 20;

#[test]
pub(super) fn long_answers_arrive_whole_one_after_another() {
    let body = pattern(LONG);
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").as_bytes(), &body].concat();
    let backend = Raw::answering(answer);
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut client = Client::connect(proxy.address);
    for _ in 0..3 {
        client.send_request("GET", "/", &[], None);
        let reply = client.reply();
        assert!(reply.status == 200 && reply.body == body, "{} bytes", reply.body.len());
    }
}

#[test]
pub(super) fn an_answer_that_breaks_off_far_from_its_begin_does_not_look_whole() {
    let (gate, body) = (Gate::new(), pattern(LONG));
    let held = gate.clone();
    let backend = Raw::serving(move |mut connection| {
        connection.request();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
        connection.send(&body[..LONG - 1]);
        held.pass();
    });
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let told = Told::about("GET /breaks ");
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/breaks", &[], None);
    assert_eq!(client.reply_to_head().status, 200);
    assert!(client.read_exact(LONG - 1) == pattern(LONG)[..LONG - 1]);
    gate.open();
    assert!(client.stream.read(&mut [0]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock), "a reset");
    let line = told.line();
    assert!(line.contains(" (cut, since "), "{line}");
}
