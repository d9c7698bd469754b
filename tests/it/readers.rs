//! Clients that take their replies slowly, or not at all.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never};

use crate::harness::{Client, Proxy, Raw, SOON};

/// More than the kernel takes off the proxy's hands.
const LENGTH: usize = 32 << 20;
/// So short that it comes whole.
const SHORT: usize = 12 << 10;
/// Of the whole house in these tests.
const IDLE: Duration = Duration::from_secs(1);

/// A proxy before a backend that sends a long answer and tells when it was hung up on, or has sent it all.
fn sending() -> (Proxy, Raw, Receiver<Instant>) {
    let (sender, ended) = bounded(1);
    let backend = Raw::serving(move |mut connection| {
        connection.request();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        connection.send(vec![b'x'; LENGTH]);
        let _ = sender.send(Instant::now());
        connection.wait_for_hang_up();
    });
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
        (config.timeout, config.idle_timeout) = (IDLE, IDLE);
    });
    (proxy, backend, ended)
}

/// What a client gets in all that has asked, and how it ends.
fn asking(address: SocketAddr) -> TcpStream {
    let mut client = Client::cramped(address);
    client.send_request("GET", "/", &["Connection: close"], None);
    client.stream
}

/// Takes so many bytes each twentieth of a second, until then or to the end: how many they were.
fn take_slowly(stream: &mut TcpStream, each: usize, until: Instant) -> usize {
    let mut bytes = vec![0; each];
    let mut taken = 0;
    while Instant::now() < until {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => taken += count,
        }
        let _ = never::<()>().recv_timeout(Duration::from_millis(50));
    }
    taken
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_after_the_idle_timeout() {
    let (proxy, _backend, ended) = sending();
    let asked = Instant::now();
    let stream = asking(proxy.address);
    let took = ended.recv_timeout(SOON).expect("the backend is hung up on").duration_since(asked);
    assert!(took >= IDLE && took < SOON / 2, "after {took:?}");
    assert!(io::copy(&mut &stream, &mut io::sink()).is_err(), "what it has got looks whole");
}

#[test]
fn a_client_that_takes_less_than_a_kibibyte_a_second_is_cut_off() {
    let (proxy, _backend, ended) = sending();
    let mut stream = asking(proxy.address);
    let asked = Instant::now();
    let taken = take_slowly(&mut stream, 25, asked + 3 * IDLE);
    ended.recv_timeout(SOON).expect("the backend is hung up on");
    assert!(taken < 3 * 1024, "{taken} bytes");
    assert!(io::copy(&mut stream, &mut io::sink()).is_err(), "what it has got looks whole");
}

/// Was seen as: a client that took half a megabyte a second was cut off, since the kernel holds megabytes and tells only when
/// a third of them have gone.
#[test]
fn a_client_that_takes_its_reply_slowly_but_steadily_gets_it_all() {
    let (proxy, _backend, _ended) = sending();
    let mut stream = asking(proxy.address);
    let taken = take_slowly(&mut stream, 25_000, Instant::now() + 4 * IDLE);
    let rest = io::copy(&mut stream, &mut io::sink()).expect("an end in order");
    assert!(taken as u64 + rest > LENGTH as u64, "{rest} bytes after {taken} that were taken slowly");
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
