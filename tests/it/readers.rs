//! Clients that take their replies slowly, or not at all.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never};

use crate::harness::{Backend, Client, Framing, Proxy, Raw, SOON, beside_each_other, pattern, ways};

/// More than the kernel takes off the proxy's hands.
const LENGTH: usize = 32 << 20;
/// So short that it comes whole.
const SHORT: usize = 12 << 10;
/// Of the whole house in these tests.
const IDLE: Duration = Duration::from_secs(1);

/// A backend that sends this body in pieces, and tells how that ended: whether all was taken.
fn sending(is_tls: bool, framing: Framing, body: &Arc<Vec<u8>>) -> (Backend, Receiver<bool>) {
    let (sender, ended) = bounded(1);
    let body = body.clone();
    let backend = Backend::serving(is_tls, move |mut far| {
        far.request();
        far.send(framing.head(body.len()));
        let is_taken = body.chunks(10_000).all(|piece| far.try_send(framing.piece(piece)).is_ok());
        let _ = sender.send(is_taken);
        if let Some(far) = far.finish(framing) {
            far.wait_for_hang_up();
        }
    });
    (backend, ended)
}

/// A moment between two reads.
fn dawdle() {
    let _ = never::<()>().recv_timeout(Duration::from_millis(50));
}

/// The reset says that what it has got isn't whole, however the end of a body is told.
#[test]
fn a_client_that_takes_nothing_is_cut_off_with_a_reset_after_the_idle_timeout() {
    let body = Arc::new(vec![b'x'; LENGTH]);
    let rows = ways().flat_map(|(is_tls, framing)| ["1.0", "1.1"].map(|version| (is_tls, framing, version)));
    beside_each_other(rows, |(is_tls, framing, version)| {
        let label = format!("TLS: {is_tls}, {framing:?}, HTTP/{version}");
        let (backend, ended) = sending(is_tls, framing, &body);
        let program = backend.program(&["--timeout", "1s", "--idle-timeout", "1s"]);
        let mut client = Client::cramped(program.address());
        let asked = Instant::now();
        client.send(format!("GET /stops HTTP/{version}\r\nHost: a\r\n\r\n"));
        assert_eq!(client.reply_to_head().status, 200, "{label}");
        let is_taken = ended.recv_timeout(SOON).expect("the backend is hung up on");
        let took = asked.elapsed();
        assert!(!is_taken && took >= IDLE && took < SOON / 2, "{label}: {took:?}");
        let line = program.line("/stops");
        assert!(line.contains(" 200 in ") && line.contains(" (cut, since the client went away: "), "{label}: {line}");
        let end = io::copy(&mut client.stream, &mut io::sink()).map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "{label}: what it has got looks whole");
    });
}

#[test]
fn a_client_that_takes_less_than_a_kibibyte_a_second_is_cut_off() {
    let body = Arc::new(vec![b'x'; LENGTH]);
    beside_each_other(ways(), |(is_tls, framing)| {
        let label = format!("TLS: {is_tls}, {framing:?}");
        let (backend, ended) = sending(is_tls, framing, &body);
        let proxy = backend.proxy(|config| (config.timeout, config.idle_timeout) = (IDLE, IDLE));
        let mut client = Client::cramped(proxy.address);
        client.send_request("GET", "/", &[], None);
        client.reply_to_head();
        let mut is_taken = None;
        let mut reads = 0;
        while is_taken.is_none() && reads < 200 && client.take(25).is_ok() {
            dawdle();
            is_taken = ended.try_recv().ok();
            reads += 1;
        }
        let is_taken = is_taken.or_else(|| ended.recv_timeout(SOON).ok());
        assert_eq!(is_taken, Some(false), "{label}: the backend isn't hung up on");
        let end = io::copy(&mut client.stream, &mut io::sink());
        let is_broken = end.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
        assert!(is_broken, "{label}: what it has got looks whole");
    });
}

/// Was seen as: a client that took half a megabyte a second was cut off, since the kernel holds megabytes and tells only when
/// a third of them have gone.
#[test]
fn a_client_that_takes_its_reply_slowly_but_steadily_gets_every_byte() {
    let body = Arc::new(pattern(4 << 20));
    // A kibibyte a second is enough by the minute, and a hundred by the second.
    let paces = [(52, Duration::from_secs(60)), (5200, IDLE)];
    let rows = ways().flat_map(|way| paces.map(|pace| (way, pace)));
    beside_each_other(rows, |((is_tls, framing), (each, idle_timeout))| {
        let label = format!("TLS: {is_tls}, {framing:?}, {each} bytes each time");
        let (backend, _) = sending(is_tls, framing, &body);
        let proxy = backend.proxy(|config| (config.timeout, config.idle_timeout) = (IDLE, idle_timeout));
        let mut client = Client::cramped(proxy.address);
        client.send_request("GET", "/", &[], None);
        let mut reply = client.reply_to_head();
        let until = Instant::now() + 4 * IDLE;
        while Instant::now() < until {
            client.take(each).expect("it goes on");
            dawdle();
        }
        client.read_body(&mut reply);
        assert!(reply.whole && reply.body == *body, "{label}: {} bytes", reply.body.len());
    });
}

/// Such answers are passed on by a thread that all clients share.
#[test]
fn a_client_that_does_not_take_short_answers_keeps_no_other_from_its_own_and_loses_none() {
    const ANSWERS: usize = 2000;
    let backend = Raw::serving(|mut connection| {
        while connection.request().is_some() {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SHORT}\r\n\r\n{}", "x".repeat(SHORT)));
        }
    });
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut lazy = Client::cramped(proxy.address);
    for _ in 0..ANSWERS {
        lazy.send_request("GET", "/", &[], None);
    }
    let mut others: Vec<Client> = (0..8).map(|_| Client::connect(proxy.address)).collect();
    for _ in 0..20 {
        for other in &mut others {
            other.send_request("GET", "/", &[], None);
            assert_eq!(other.reply().text().len(), SHORT);
        }
    }
    for _ in 0..ANSWERS {
        assert_eq!(lazy.reply().text().len(), SHORT);
    }
}
