//! A full house: who goes, and who gets in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::never;
use red_tentacle::config::AdminToken;

use crate::clients::open_files_in;
use crate::harness::{
    BRIEFLY, Client, Fake, HURRIED, Proxy, Raw, SOON, Told, beside_each_other, eventually, get, is_alone, patiently,
};

const SWITCH: &str = "GET /crowded-chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A backend that says yes, and echoes what comes after a switch.
fn good() -> Raw {
    Raw::serving(|mut connection| {
        while let Some(head) = connection.request_head() {
            if head.starts_with("GET /crowded-chat ") {
                connection.send(SWITCHED);
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = connection.stream.read(&mut bytes) {
                    connection.send(&bytes[..count]);
                }
                return;
            }
            connection.reply(200, "good");
        }
    })
}

fn before(backend: &Raw, places: usize) -> Proxy {
    Proxy::hurried(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        config.max_connections = NonZeroUsize::new(places);
    })
}

/// A client in the middle of a body.
fn uploading(address: SocketAddr, length: usize, sent: usize) -> Client {
    let mut client = Client::connect(address);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; sent]);
    client
}

/// A client in a tunnel.
fn in_tunnel(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(SWITCH);
    assert_eq!(client.reply_to_head().status, 101);
    client
}

/// For what needs its time.
fn wait_for(time: Duration) {
    let _ = never::<()>().recv_timeout(time);
}

/// A client that is served, and stays.
fn served(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send_request("GET", "/", &[], None);
    assert_eq!(client.reply().text(), "good");
    client
}

/// Was seen as: as many uploads at 1.2 KB a second as there may be clients kept all others out for hours.
#[test]
fn slow_uploads_give_way_after_a_fair_time_and_a_fast_one_never_does() {
    const PLACES: usize = 8;
    const LENGTH: usize = 1 << 20;
    let backend = good();
    let proxy = before(&backend, PLACES);
    let mut fast = uploading(proxy.address, LENGTH, LENGTH - 1);
    let begun = Instant::now();
    let mut slow: Vec<Client> = (0..PLACES - 1).map(|_| uploading(proxy.address, LENGTH, 1200)).collect();
    let new: Vec<Client> = (0..PLACES - 1).map(|_| served(proxy.address)).collect();
    let took = begun.elapsed();
    assert!(took >= HURRIED.fair / 2 && took < SOON / 2, "{took:?}");
    for client in &mut slow {
        let reply = client.reply();
        assert_eq!((reply.status, reply.value("connection")), (408, Some("close")));
    }
    fast.send(b"x");
    assert_eq!(fast.reply().text(), "good");
    drop(new);
}

/// Was seen as: each client that was told to go and is read for a moment more let in another, so that they became ever more.
#[test]
fn those_who_are_told_to_go_let_in_one_other_each() {
    const PLACES: usize = 16;
    /// The number of clients that are read for a moment more, without a place.
    const LEAVING: usize = 8;
    if !is_alone("crowded::those_who_are_told_to_go_let_in_one_other_each") {
        return;
    }
    let backend = good();
    let proxy = before(&backend, PLACES);
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("Linux").count();
    let idle = descriptors();
    let slow: Vec<Client> = (0..5 * PLACES).map(|_| uploading(proxy.address, 1 << 20, 100)).collect();
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < HURRIED.fair * 2 {
        let _ = never::<()>().recv_timeout(HURRIED.fair / 100);
        most = most.max(descriptors() - idle - slow.len());
    }
    assert!(most > PLACES && most <= PLACES + LEAVING + 1, "{most} descriptors");
}

/// Was seen as: clients waited for minutes, and the log had no word of it, nor had `/metrics` a figure.
#[test]
fn that_new_clients_wait_is_told_and_how_many_there_may_be() {
    const PLACES: usize = 13;
    let (hanging, told) = (Raw::hanging(), Told::about("all 13 places are taken"));
    let proxy = before(&hanging, PLACES);
    let asking = || {
        let mut client = Client::connect(proxy.address);
        client.send_request("GET", "/", &[], None);
        client
    };
    let served: Vec<Client> = (0..PLACES).map(|_| asking()).collect();
    let _waits = asking();
    let line = told.line();
    assert_eq!(line, "new clients wait: all 13 places are taken, and none can be given up (--max-connections)");
    for series in ["red_tentacle_connections_max 13\n", "red_tentacle_connections{state=\"active\"} 13\n"] {
        eventually("it is counted", || get(proxy.admin, "/metrics").text().contains(series));
    }
    drop(served);
}

/// The same with heads that drip, which have ten seconds otherwise.
#[test]
fn the_slowest_goes_first() {
    let backend = good();
    let proxy = before(&backend, 3);
    let mut slow = uploading(proxy.address, 1 << 20, 30_000);
    let mut slower = uploading(proxy.address, 1 << 20, 3_000);
    let mut head = Client::connect(proxy.address);
    head.send("GET / HTTP/1.1\r\nHo");
    let _new = [served(proxy.address), served(proxy.address)];
    assert_eq!((head.reply().status, slower.reply().status), (408, 408));
    slow.send(vec![b'x'; (1 << 20) - 30_000]);
    assert_eq!(slow.reply().text(), "good");
}

/// Was seen as: as many silent tunnels as there may be clients kept all others out.
#[test]
fn the_tunnel_that_was_silent_for_longest_is_evicted_and_the_log_says_so() {
    let backend = good();
    let told = Told::about("GET /crowded-chat 101 in ");
    let proxy = before(&backend, 3);
    let address = proxy.address;
    let mut tunnels: Vec<Client> = (0..3).map(|_| in_tunnel(address)).collect();
    // Both have moved after the one between them was opened, whichever of the poller's threads each is on.
    for at in [0, 2] {
        tunnels[at].send("still here");
        assert_eq!(tunnels[at].read_exact(10), b"still here");
    }
    // All have had their time by then: else the first that has had it would go, whatever it does.
    wait_for(HURRIED.fair * 4 / 3);
    let begun = Instant::now();
    let _new = served(address);
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    assert!(tunnels[1].is_closed());
    let line = told.line();
    assert!(line.contains("(closed, since little moved and others wanted its place)"), "{line}");
    for at in [0, 2] {
        tunnels[at].send("and here");
        assert_eq!(tunnels[at].read_exact(8), b"and here");
    }
}

/// An event stream that is silent, and a client that doesn't read: as many of them as there may be clients would keep all others out.
#[test]
fn an_answer_in_which_nothing_moves_is_evicted_with_a_reset_and_the_log_says_so() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";
    let backend = Raw::serving(|mut connection| {
        while let Some(head) = connection.request_head() {
            if !head.starts_with("GET /crowded-") {
                connection.reply(200, "good");
                continue;
            }
            connection.send(HEAD);
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while head.starts_with("GET /crowded-unread ") && connection.stream.write_all(piece.as_bytes()).is_ok() {}
            return connection.wait_for_hang_up();
        }
    });
    beside_each_other(["/crowded-stream", "/crowded-unread"], |target| {
        let told = Told::about(&format!("GET {target} 200 in "));
        let proxy = before(&backend, 2);
        let address = proxy.address;
        let mut streams: Vec<Client> = (0..2)
            .map(|_| {
                let mut client = Client::cramped(address);
                client.send_request("GET", target, &[], None);
                assert_eq!(client.head().map(|head| head.status), Some(200));
                client
            })
            .collect();
        let _new = served(address);
        let line = told.line();
        assert!(line.contains("(closed, since little moved and others wanted its place)"), "{line}");
        let cut = streams.iter_mut().map(is_reset).filter(|is_reset| *is_reset).count();
        assert_eq!(cut, 1, "{target}: one makes room, and can't look whole");
    });
}

/// Whether the connection has ended with a reset; its bytes aren't wanted any more.
fn is_reset(client: &mut Client) -> bool {
    client.stream.set_nonblocking(true).expect("a socket");
    let mut piece = [0; 16 * 1024];
    loop {
        match client.stream.read(&mut piece) {
            Ok(1..) => {}
            Ok(0) => return false,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Places for requests that are served at once: clients that idle between two of them don't pay for slow bodies.
#[test]
fn beyond_three_quarters_of_the_places_a_slow_body_goes_before_an_idle_client() {
    let backend = good();
    let proxy = before(&backend, 5);
    let mut idle = served(proxy.address);
    let slow: Vec<Client> = (0..4).map(|_| uploading(proxy.address, 1 << 20, 1)).collect();
    wait_for(HURRIED.fair * 4 / 3);
    let _new = served(proxy.address);
    idle.send_request("GET", "/", &[], None);
    assert_eq!(idle.reply().text(), "good");
    drop(slow);
}

fn guarded(backend: &Raw, change: impl FnOnce(&mut red_tentacle::config::Config)) -> Proxy {
    Proxy::with(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        config.admin_token = Some(AdminToken::new("s3cret").expect("a token"));
        change(config);
    })
}

/// Was seen as: 64 connections without a token that sent a body slowly blinded every probe for as long as they liked; idle
/// ones slowed each to seconds.
#[test]
fn probes_are_answered_at_once_whatever_sits_on_the_admin_port() {
    const PROBES: u32 = 20;
    let backend = good();
    let proxy = guarded(&backend, |_| {});
    let update = "POST /-update-backends HTTP/1.1\r\nHost: localhost\r\n";
    let rows = [
        ("silent ones", String::new()),
        ("half a head", update.to_owned()),
        ("a slow body of a stranger", format!("{update}Content-Length: 60000\r\n\r\nx")),
        (
            "a slow body with the token",
            format!("{update}Authorization: Bearer s3cret\r\nContent-Length: 60000\r\n\r\nx"),
        ),
        ("half a chunk", format!("{update}Authorization: Bearer s3cret\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\nx")),
    ];
    for (label, bytes) in rows {
        let over = AtomicBool::new(false);
        let connect = || {
            let mut client = TcpStream::connect(proxy.admin).expect("a place in the kernel's queue");
            // It may have been sent away by now.
            let _ = client.write_all(bytes.as_bytes());
            client
        };
        let sitting: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    drop(connect());
                    let _ = never::<()>().recv_timeout(BRIEFLY / 20);
                }
            });
            let begun = Instant::now();
            for _ in 0..PROBES {
                assert_eq!(get(proxy.admin, "/healthz").status, 200, "{label}");
            }
            over.store(true, Ordering::SeqCst);
            let each = begun.elapsed() / PROBES;
            assert!(each < BRIEFLY, "{label}: {each:?}");
        });
        drop(sitting);
    }
}

/// Was seen as: 599 MiB of bodies were spooled before the token was asked for.
#[test]
fn a_stranger_is_refused_before_a_byte_of_its_body_is_kept() {
    let backend = good();
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = guarded(&backend, |config| config.spool_dir = directory.path().into());
    let framings = ["Content-Length: 60000", "Content-Length: 999999999999", "Transfer-Encoding: chunked"];
    for port in [proxy.admin, proxy.address] {
        for framing in framings {
            for expect in ["", "Expect: 100-continue\r\n"] {
                let mut client = Client::connect(port);
                client.send(format!("POST /update-backends HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{expect}\r\n"));
                let reply = client.reply();
                assert_eq!((reply.status, reply.value("connection")), (403, Some("close")), "{framing} {expect}");
                assert!(reply.text().contains("the request has no token"), "{}", reply.text());
                assert!(client.is_closed(), "nothing behind it is served");
            }
        }
    }
    assert_eq!(open_files_in(directory.path()), 0);
}

#[test]
fn a_form_has_64_kib_on_either_port() {
    let backend = good();
    let proxy = guarded(&backend, |config| config.max_body = 1 << 30);
    let head = |framing: &str| {
        let fields = format!("Host: localhost\r\nAuthorization: Bearer s3cret\r\n{FORM}\r\n{framing}");
        format!("POST /update-backends HTTP/1.1\r\n{fields}\r\n\r\n")
    };
    let list = format!("backends={}", backend.url);
    for port in [proxy.admin, proxy.address] {
        let mut client = Client::connect(port);
        client.send(head("Content-Length: 65537"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str()), (413, "The form of an update is longer than 64 KiB\n"));
        let mut client = Client::connect(port);
        client.send(head("Transfer-Encoding: chunked") + "10001\r\n");
        client.send(vec![b'x'; 65_537]);
        assert_eq!(client.reply().status, 413);
        let mut client = Client::connect(port);
        let padding = "&".repeat(65_536 - list.len());
        client.send(head("Content-Length: 65536") + &list + &padding);
        assert_eq!(client.reply().status, 200);
    }
}

/// A form that finds no memory waits in a file like every body, and is no longer for that.
#[test]
fn an_update_is_taken_though_clients_have_taken_all_memory_for_bodies() {
    let (backend, new) = (good(), Fake::with(200, "new"));
    let proxy = guarded(&backend, |_| {});
    let holding: Vec<Client> = (0..256).map(|_| uploading(proxy.address, 65_536, 40 * 1024)).collect();
    let list = format!("backends={}", new.url);
    for port in [proxy.address, proxy.admin] {
        let mut client = Client::connect(port);
        client.send_request("POST", "/update-backends", &["Authorization: Bearer s3cret", FORM], Some(list.as_bytes()));
        assert_eq!(client.reply().status, 200, "{port}");
        eventually("the list is replaced", || proxy.get("/").text() == "new");
    }
    drop(holding);
}
