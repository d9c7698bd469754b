//! Requests that no connection takes at once: they reach backends that read slowly, hold no thread meanwhile, and end early
//! where a backend says so.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use red_tentacle::config::Statuses;
use socket2::SockRef;
use tempfile::NamedTempFile;

use crate::harness::{
    Authority, Backend, Binary, Client, Connection, Framing, Gate, Proxy, Raw, Received, Reply, SOON, Secured,
    TlsBackend, beside_each_other, eventually, patiently, pattern, ways,
};

/// In a file, and more than the sockets of a connection take.
const LONG: usize = 1024 * 1024;
/// In memory.
const SHORT: usize = 60 * 1024;
/// More than threads that legs may have while none of them waits.
const CLIENTS: usize = 24;

/// A listener with room for less than a half of a long body.
fn narrow() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener).set_recv_buffer_size(64 * 1024).expect("a small buffer");
    listener
}

/// The most legs' threads while none of them waits: two per core, and some that a busy machine had to add.
fn threads_max() -> usize {
    8 + 4 * thread::available_parallelism().map_or(1, usize::from)
}

/// A backend that reads the head of a request, tells it, and reads the body in two parts, each behind a gate.
struct Slow {
    url: String,
    begun: Receiver<()>,
    first: Gate,
    second: Gate,
    /// What it has got.
    bodies: Receiver<Vec<u8>>,
    _raw: Raw,
}

impl Slow {
    fn plain() -> Slow {
        Slow::new(|serve| {
            let raw = Raw::on(narrow(), move |mut connection: Connection| {
                let head = connection.head().expect("a head");
                let length = Received::parse(&head).values("content-length").concat().parse().expect("a length");
                let mut stream = connection.stream.try_clone().expect("a descriptor");
                serve(length, &mut |part| stream.read_exact(part).expect("the body goes on"));
                connection.reply(200, "slow");
                connection.wait_for_hang_up();
            });
            (raw.url.clone(), raw)
        })
    }

    fn tls(authority: &Authority) -> Slow {
        Slow::new(|serve| {
            let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured: Secured| {
                let head = secured.head().expect("a head");
                let length = Received::parse(&head).values("content-length").concat().parse().expect("a length");
                serve(length, &mut |part| secured.read_exact(part).expect("the body goes on"));
                secured.reply("slow");
                secured.connection.wait_for_hang_up();
            });
            (backend.url("127.0.0.1"), backend.raw)
        })
    }

    fn new(start: impl FnOnce(Box<dyn Fn(usize, &mut dyn FnMut(&mut [u8])) + Send + Sync>) -> (String, Raw)) -> Slow {
        let (first, second) = (Gate::new(), Gate::new());
        let ((says, begun), (sender, bodies)) = (unbounded(), unbounded());
        let gates = [first.clone(), second.clone()];
        let (url, raw) = start(Box::new(move |length, read| {
            let mut body = vec![0; length];
            let _ = says.send(());
            gates[0].pass();
            let (one, other) = body.split_at_mut(length / 2);
            read(one);
            let _ = says.send(());
            gates[1].pass();
            read(other);
            let _ = sender.send(body);
        }));
        Slow { url, begun, first, second, bodies, _raw: raw }
    }

    fn wait_for(&self, count: usize) {
        for _ in 0..count {
            self.begun.recv_timeout(SOON).expect("an upload goes on");
        }
    }
}

/// A backend that reads a request whole and answers at once.
fn quick(status: u16) -> Raw {
    Raw::serving(move |mut connection: Connection| {
        while connection.request_head().is_some() {
            connection.reply(status, "quick");
        }
    })
}

/// The program before these backends, which trusts the authority and waits for long.
fn program(authority: &Authority, backends: &[&str]) -> (Binary, NamedTempFile) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(authority.pem().as_bytes()).expect("room");
    let path = file.path().to_str().expect("text").to_owned();
    let patience = ["--timeout", "1h", "--idle-timeout", "1h", "--ca-file", &path];
    (Binary::start(&[&["--backends", &backends.join(",")], &patience[..]].concat()), file)
}

#[test]
fn a_backend_that_reads_slowly_gets_every_byte_and_no_thread_is_held_meanwhile() {
    let authority = Authority::new();
    for (is_tls, length) in [(false, LONG), (true, LONG), (false, SHORT), (true, SHORT)] {
        for wins in [true, false] {
            let label = format!("TLS: {is_tls}, {length} bytes, wins: {wins}");
            let slow = if is_tls { Slow::tls(&authority) } else { Slow::plain() };
            let other = quick(if wins { 500 } else { 200 });
            let (program, _file) = program(&authority, &[&slow.url, &other.url]);
            let (address, body) = (program.address(), pattern(length));
            let replies: Vec<_> = (0..CLIENTS).map(|_| post_aside(address, body.clone())).collect();
            slow.wait_for(CLIENTS);
            let reply = |replies: &Receiver<Reply>| replies.recv_timeout(SOON).expect("a reply").text();
            if !wins {
                assert!(replies.iter().all(|replies| reply(replies) == "quick"), "{label}");
            }
            slow.first.open();
            slow.wait_for(CLIENTS);
            let threads = program.usage().threads;
            assert!(threads <= threads_max(), "{label}: {threads} threads");
            slow.second.open();
            for _ in 0..CLIENTS {
                assert!(slow.bodies.recv_timeout(SOON).expect("a body") == body, "{label}");
            }
            assert!(!wins || replies.iter().all(|replies| reply(replies) == "slow"), "{label}");
        }
    }
}

fn post_aside(address: SocketAddr, body: Vec<u8>) -> Receiver<Reply> {
    let (sender, replies) = unbounded();
    thread::spawn(move || {
        let mut client = Client::connect(address);
        client.send_request("POST", "/", &[], Some(&body));
        sender.send(client.reply())
    });
    replies
}

/// A proxy before this backend alone whose patience is short for one of its clocks.
fn hasty(url: &str, change: impl FnOnce(&mut red_tentacle::config::Config)) -> Proxy {
    Proxy::with(&[url.to_owned()], |config| {
        patiently(config);
        change(config);
    })
}

#[test]
fn an_upload_that_ends_early_is_told_by_what_the_backend_did() {
    const REFUSAL: &str = "HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\nno";
    type Deed = fn(Connection);
    let rows: [(&str, &str, Deed); 9] = [
        ("led away", "301", |mut connection| {
            connection.send("HTTP/1.1 301 Moved\r\nLocation: /other\r\nContent-Length: 2\r\n\r\nno");
            connection.wait_for_close();
        }),
        ("refused and closed", "413", |mut connection| connection.send(REFUSAL)),
        ("refused, and never read on", "413", |mut connection| {
            connection.send(REFUSAL);
            connection.wait_for_close();
        }),
        ("refused after a part", "413", |mut connection| {
            connection.stream.read_exact(&mut vec![0; 100_000]).expect("a part");
            connection.send(["HTTP/1.1 100 Continue\r\n\r\n", REFUSAL].concat());
            connection.wait_for_close();
        }),
        ("reset", "reset", |connection| {
            (&connection.stream).read_exact(&mut vec![0; 100_000]).expect("a part");
            connection.reset();
        }),
        ("ended", "closed", |mut connection| {
            connection.stream.read_exact(&mut vec![0; 100_000]).expect("a part");
            connection.stream.shutdown(Shutdown::Write).expect("an open connection");
            connection.wait_for_close();
        }),
        ("half a head and an end", "closed", |mut connection| {
            connection.send("HTTP/1.1 413 X\r\nContent-Le");
            connection.stream.shutdown(Shutdown::Write).expect("an open connection");
            connection.wait_for_close();
        }),
        ("no HTTP", "protocol", |mut connection| {
            connection.send("nonsense\r\n\r\n");
            connection.wait_for_close();
        }),
        ("two heads' worth of interim answers", "413", |mut connection| {
            for _ in 0..3 {
                connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            }
            connection.send(REFUSAL);
            connection.wait_for_close();
        }),
    ];
    for (label, word, deed) in rows {
        let raw = Raw::cramped(move |mut connection: Connection| {
            connection.head().expect("a head");
            deed(connection);
        });
        let reply = hasty(&raw.url, |_| {}).post("/", &pattern(LONG));
        assert!(reply.status == 502 && reply.text().contains(&format!(" {word}: ")), "{label}: {}", reply.text());
        assert_eq!(raw.accepted(), 1, "{label}");
    }
}

/// The kernel holds some of a body, the backend reads none of it before its answer has lost: what it gets then was on its way.
#[test]
fn an_early_answer_that_is_no_success_ends_its_upload() {
    for (status, has_rival) in [(301, false), (413, false), (500, false), (301, true), (413, true), (500, true)] {
        let label = format!("{status}, beside another: {has_rival}");
        let (over, (sender, got)) = (Gate::new(), unbounded());
        let held = over.clone();
        let early = Raw::on(narrow(), move |mut connection: Connection| {
            connection.head().expect("a head");
            connection.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno"));
            held.pass();
            let mut rest = Vec::new();
            let _ = connection.stream.read_to_end(&mut rest);
            let _ = sender.send(rest.len());
        });
        let rival = quick(200);
        let urls = if has_rival { vec![early.url.clone(), rival.url.clone()] } else { vec![early.url.clone()] };
        let proxy = Proxy::with(&urls, |config| {
            patiently(config);
            config.linger_unsafe = 3 * SOON;
        });
        let reply = proxy.post("/", &pattern(4 * LONG));
        assert_eq!(reply.status, if has_rival { 200 } else { 502 }, "{label}");
        eventually("all legs have ended", || proxy.totals().legs == urls.len() as u64);
        over.open();
        let count = got.recv_timeout(SOON).expect("the upload ends");
        assert!(count < 4 * LONG, "{label}: {count} bytes");
    }
}

#[test]
fn a_refusal_under_tls_is_told_though_records_wait_that_are_not_read() {
    let authority = Authority::new();
    let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), |mut secured| {
        secured.head().expect("a head");
        secured.send("HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\nno");
        secured.connection.wait_for_close();
    });
    let proxy = hasty(&backend.url("127.0.0.1"), |config| config.ca_certificates = vec![authority.der()]);
    let reply = proxy.post("/", &pattern(LONG));
    assert!(reply.status == 502 && reply.text().contains(" 413: "), "{}", reply.text());
}

#[test]
fn a_backend_that_takes_nothing_for_the_idle_timeout_loses_and_one_that_does_not_answer_for_the_timeout() {
    let authority = Authority::new();
    let (silent, never) = (Raw::cramped(|connection| connection.wait_for_close()), Raw::hanging());
    let secured =
        TlsBackend::serving(authority.identity(&["127.0.0.1"]), |secured| secured.connection.wait_for_close());
    let moment = Duration::from_millis(300);
    for url in [silent.url.clone(), secured.url("127.0.0.1"), never.url.clone()] {
        let proxy = hasty(&url, |config| {
            config.ca_certificates = vec![authority.der()];
            if url == never.url {
                config.timeout = moment;
            } else {
                config.idle_timeout = moment;
            }
        });
        let reply = proxy.post("/", &pattern(LONG));
        assert!(reply.status == 502 && reply.text().contains(" timeout: "), "{url}: {}", reply.text());
    }
}

/// A backend that reads on only within less than the idle timeout isn't silent, however long it takes in all.
#[test]
fn the_idle_timeout_bounds_each_silence_and_not_the_upload() {
    let (sender, told) = unbounded();
    let raw = Raw::cramped(move |mut connection| {
        connection.head().expect("a head");
        let mut body = vec![0; LONG];
        for part in body.chunks_mut(LONG / 8) {
            // Its slowness is what is tried.
            let _ = crossbeam_channel::never::<()>().recv_timeout(Duration::from_millis(200));
            connection.stream.read_exact(part).expect("the body goes on");
        }
        connection.reply(200, "whole");
        let _ = sender.send(body);
        connection.wait_for_hang_up();
    });
    let proxy = hasty(&raw.url, |config| config.idle_timeout = Duration::from_secs(1));
    assert_eq!(proxy.post("/", &pattern(LONG)).text(), "whole");
    assert!(told.recv_timeout(SOON).expect("a body") == pattern(LONG));
}

#[test]
fn a_success_that_begins_early_does_not_end_the_upload() {
    let length = 256 * 1024;
    let raw = Raw::serving(move |mut connection| {
        connection.head().expect("a head");
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let mut part = vec![0; 10_000];
        loop {
            match connection.stream.read(&mut part) {
                Ok(0) | Err(_) => return,
                Ok(count) => connection.send(&part[..count]),
            }
        }
    });
    let reply = hasty(&raw.url, |_| {}).post("/", &pattern(length));
    assert!(reply.status == 200 && reply.body == pattern(length));
    // One that reads no more has said what it had to say all the same.
    let early = Raw::cramped(|mut connection| {
        connection.head().expect("a head");
        connection.reply(200, "early");
        connection.wait_for_close();
    });
    let proxy = hasty(&early.url, |config| config.idle_timeout = Duration::from_millis(300));
    assert_eq!(proxy.post("/", &pattern(LONG)).text(), "early");
}

/// A backend that answers when it has the head of a request, and reads the body behind a gate.
struct Hasty {
    url: String,
    gate: Gate,
    /// What it has got of each body, and on which connection.
    bodies: Receiver<(usize, Vec<u8>)>,
    _raw: Raw,
}

const EARLY: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nearly";

impl Hasty {
    fn plain() -> Hasty {
        Hasty::new(|gate, sender| {
            let raw = Raw::on(narrow(), move |mut connection: Connection| {
                while connection.head().is_some() {
                    connection.send(EARLY);
                    gate.pass();
                    let mut body = Vec::new();
                    let _ = (&connection.stream).take(LONG as u64).read_to_end(&mut body);
                    let _ = sender.send((connection.number, body));
                }
            });
            (raw.url.clone(), raw)
        })
    }

    /// Reads nothing of the body before the connection is given up.
    fn deaf() -> Hasty {
        Hasty::new(|_, sender| {
            let raw = Raw::on(narrow(), move |mut connection: Connection| {
                connection.head();
                connection.send(EARLY);
                connection.wait_for_close();
                let _ = sender.send((connection.number, connection.rest()));
            });
            (raw.url.clone(), raw)
        })
    }

    fn tls(authority: &Authority) -> Hasty {
        Hasty::new(|gate, sender| {
            let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured: Secured| {
                while secured.head().is_some() {
                    // Was seen as: an answer that came in more than one record wasn't seen before the body was through.
                    for part in ["HTTP/1.1 100 Continue\r\n\r\n", &EARLY[..20], &EARLY[20..]] {
                        secured.send(part);
                    }
                    gate.pass();
                    let mut body = vec![0; LONG];
                    let is_whole = secured.read_exact(&mut body).is_ok();
                    let _ = sender.send((secured.number(), if is_whole { body } else { Vec::new() }));
                }
            });
            (backend.url("127.0.0.1"), backend.raw)
        })
    }

    fn new(start: impl FnOnce(Gate, Sender<(usize, Vec<u8>)>) -> (String, Raw)) -> Hasty {
        let (gate, (sender, bodies)) = (Gate::new(), unbounded());
        let (url, raw) = start(gate.clone(), sender);
        Hasty { url, gate, bodies, _raw: raw }
    }

    fn next(&self) -> (usize, Vec<u8>) {
        self.bodies.recv_timeout(SOON).expect("a body")
    }
}

/// Was seen as: the client waited until the body was through, 9 s for 8 MB at 1 MB/s, and a slower rival won meanwhile.
#[test]
fn a_success_that_comes_before_the_body_is_through_wins_at_once_and_the_body_goes_on() {
    let authority = Authority::new();
    for is_tls in [false, true] {
        let early = if is_tls { Hasty::tls(&authority) } else { Hasty::plain() };
        let rival = Raw::hanging();
        let proxy = Proxy::with(&[early.url.clone(), rival.url.clone()], |config| {
            patiently(config);
            config.linger_unsafe = 3 * SOON;
            // The rival never ends by itself.
            config.grace_period = Duration::ZERO;
            config.ca_certificates = vec![authority.der()];
        });
        let mut client = Client::connect(proxy.address);
        let mut post = || {
            client.send_request("PUT", "/", &[], Some(&pattern(LONG)));
            let reply = client.reply();
            assert_eq!((reply.status, reply.text()), (202, "early".to_owned()), "TLS: {is_tls}");
        };
        post();
        assert!(early.bodies.is_empty(), "it reads nothing before its gate is open");
        early.gate.open();
        let (first, body) = early.next();
        assert!(body == pattern(LONG), "TLS: {is_tls}: {} bytes", body.len());
        // Its connection is used again, as soon as it is free.
        eventually("the connection is used again", || {
            post();
            let (number, body) = early.next();
            assert!(body == pattern(LONG), "TLS: {is_tls}");
            number == first
        });
    }
}

/// Reads this many bytes of a body.
fn take(client: &mut Client, is_chunked: bool, count: usize) -> Vec<u8> {
    if !is_chunked {
        return client.read_exact(count);
    }
    let mut bytes = Vec::new();
    while bytes.len() < count {
        bytes.extend(client.chunk().filter(|chunk| !chunk.is_empty()).expect("the body goes on"));
    }
    bytes
}

/// Neither direction waits for the other to end: a quarter of the answer, a quarter of the upload, and so on.
#[test]
fn an_upload_and_the_streamed_answer_to_it_take_turns_and_arrive_whole() {
    const PARTS: usize = 4;
    let (up, down) = (pattern(4 << 20), Arc::new(pattern(3 << 20)));
    beside_each_other(ways(), |(is_tls, framing)| {
        let label = format!("TLS: {is_tls}, {framing:?}");
        let gates: Vec<Gate> = (0..PARTS).map(|_| Gate::new()).collect();
        let (steps, body, (sender, uploads)) = (gates.clone(), down.clone(), unbounded());
        let length = up.len();
        let backend = Backend::serving(is_tls, move |mut far| {
            far.head();
            far.send(framing.head(body.len()).replace("200 OK", "202 Accepted"));
            let mut upload = vec![0; length];
            let parts = body.chunks(body.len() / PARTS).zip(upload.chunks_mut(length / PARTS));
            for (gate, (send, read)) in steps.iter().zip(parts) {
                far.send(framing.piece(send));
                gate.pass();
                far.read_exact(read).expect("the upload goes on");
            }
            let _ = sender.send(upload);
            if let Some(far) = far.finish(framing) {
                far.wait_for_hang_up();
            }
        });
        let proxy = backend.proxy(|config| config.linger_unsafe = 3 * SOON);
        let mut client = Client::connect(proxy.address);
        client.send_request("PUT", "/", &[], Some(&up));
        let reply = client.reply_to_head();
        assert_eq!(reply.status, 202, "{label}");
        let is_chunked = reply.value("transfer-encoding") == Some("chunked");
        for (gate, part) in gates.iter().zip(down.chunks(down.len() / PARTS)) {
            assert!(take(&mut client, is_chunked, part.len()) == part, "{label}");
            gate.open();
        }
        assert!(!is_chunked || client.chunk().as_deref() == Some(&b""[..]), "{label}");
        assert!(uploads.recv_timeout(SOON).expect("an upload") == up, "{label}");
    });
}

/// Both directions are as full as they can be, and the client takes its time.
#[test]
fn an_upload_and_the_answer_to_it_at_the_same_time_arrive_whole() {
    let (up, down) = (pattern(4 << 20), pattern(4 << 20));
    for framing in Framing::ALL {
        let (sender, uploads) = unbounded();
        let (length, body) = (up.len(), down.clone());
        let raw = Raw::on(narrow(), move |mut connection: Connection| {
            connection.head();
            connection.send(framing.head(body.len()).replace("200 OK", "202 Accepted"));
            let mut reading = connection.stream.try_clone().expect("a descriptor");
            let mut upload = vec![0; length];
            thread::scope(|scope| {
                scope.spawn(|| reading.read_exact(&mut upload).expect("the upload goes on"));
                body.chunks(10_000).for_each(|piece| connection.send(framing.piece(piece)));
                connection.send(framing.last());
            });
            let _ = sender.send(upload);
            if framing != Framing::UntilClose {
                connection.wait_for_hang_up();
            }
        });
        let proxy = hasty(&raw.url, |config| config.linger_unsafe = 3 * SOON);
        let mut client = Client::cramped(proxy.address);
        client.send_request("PUT", "/", &[], Some(&up));
        let reply = client.reply();
        let is_whole = reply.whole && reply.body == down;
        assert!(reply.status == 202 && is_whole, "{framing:?}: {} {} bytes", reply.status, reply.body.len());
        assert!(uploads.recv_timeout(SOON).expect("an upload") == up, "{framing:?}");
    }
}

#[test]
fn a_loser_that_answers_before_the_body_is_through_gets_the_rest_as_well() {
    for (linger, is_whole) in [(3 * SOON, true), (Duration::from_millis(300), false)] {
        let early = if is_whole { Hasty::plain() } else { Hasty::deaf() };
        let quick = quick(200);
        let proxy = Proxy::with(&[early.url.clone(), quick.url.clone()], |config| {
            patiently(config);
            config.success = Statuses::parse("200").expect("a status");
            config.linger_unsafe = linger;
        });
        assert_eq!(proxy.post("/", &pattern(LONG)).text(), "quick");
        early.gate.open();
        assert_eq!(early.next().1 == pattern(LONG), is_whole);
    }
}

#[test]
fn the_rest_of_a_request_goes_on_for_no_longer_than_losers_linger_once_its_answer_is_over() {
    for linger in [Duration::ZERO, Duration::from_millis(300)] {
        let early = Hasty::deaf();
        let proxy = hasty(&early.url, |config| config.linger_unsafe = linger);
        let reply = proxy.post("/", &pattern(LONG));
        assert_eq!((reply.status, reply.text().as_str()), (202, "early"));
        assert!(early.next().1.len() < LONG, "{linger:?}");
    }
}

/// Was seen as: whether the backend got the rest was decided by which of two threads met the reset first.
#[test]
fn a_client_that_leaves_in_the_middle_of_an_early_answer_takes_its_upload_along() {
    let (sender, closed) = unbounded();
    let early = Raw::on(narrow(), move |mut connection: Connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        // The client's socket is full when it leaves.
        while connection.stream.write_all(&[b'x'; 16 * 1024]).is_ok() {}
        let _ = sender.send(());
    });
    let proxy = hasty(&early.url, |config| config.linger_unsafe = 3 * SOON);
    for _ in 0..8 {
        let mut client = Client::connect(proxy.address);
        client.send_request("POST", "/", &[], Some(&pattern(LONG)));
        assert_eq!(client.head().expect("a head").status, 200);
        client.reset();
        closed.recv_timeout(SOON / 2).expect("the backend is hung up on");
    }
    proxy.stop();
}

#[test]
fn a_stop_waits_for_the_rest_of_a_request_and_no_longer_than_the_grace_period() {
    for (grace_period, is_whole) in [(3 * SOON, true), (Duration::from_millis(300), false)] {
        let early = if is_whole { Hasty::plain() } else { Hasty::deaf() };
        let proxy = hasty(&early.url, |config| {
            config.linger_unsafe = 3 * SOON;
            config.grace_period = grace_period;
        });
        assert_eq!(proxy.post("/", &pattern(LONG)).text(), "early");
        proxy.stopper().stop();
        if is_whole {
            early.gate.open();
            assert!(early.next().1 == pattern(LONG));
            proxy.stop();
        } else {
            proxy.stop();
            assert!(early.next().1.len() < LONG);
        }
    }
}

/// Answers by the target: `/early` before the body, others after it.
fn early_or_late(mut connection: Connection, told: &Sender<usize>) {
    while let Some(head) = connection.head() {
        let _ = told.send(connection.number);
        let received = Received::parse(&head);
        if received.target == "/early" {
            connection.reply(413, "no");
        }
        let length: usize = received.values("content-length").concat().parse().expect("a length");
        if connection.stream.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        if received.target != "/early" {
            connection.reply(200, "whole");
        }
    }
}

#[test]
fn a_connection_is_used_again_after_a_whole_upload_and_never_after_one_that_ended_early() {
    let (sender, numbers) = unbounded();
    let raw = Raw::cramped(move |connection| early_or_late(connection, &sender));
    let quick = quick(200);
    // As winner and as loser: both ways end in another place.
    for urls in [vec![raw.url.clone()], vec![raw.url.clone(), quick.url.clone()]] {
        let proxy = Proxy::with(&urls, |config| {
            patiently(config);
            config.linger_unsafe = 3 * SOON;
        });
        let mut client = Client::connect(proxy.address);
        let mut put = |target: &str| {
            client.send_request("PUT", target, &[], Some(&pattern(LONG)));
            client.reply();
            numbers.recv_timeout(SOON).expect("a request at the backend")
        };
        if urls.len() == 1 {
            let first = put("/1");
            assert_eq!([put("/2"), put("/3")], [first, first]);
        }
        let early = put("/early");
        assert!((0..10).all(|_| put("/4") != early));
    }
}

#[test]
fn a_long_put_whose_used_connection_dies_goes_out_once_more_and_a_post_does_not() {
    for (method, status, connections) in [("PUT", 200, 2), ("POST", 502, 1)] {
        for resets in [true, false] {
            let raw = Raw::cramped(move |mut connection| {
                let is_first = connection.number == 0;
                connection.request().expect("a request");
                connection.reply(200, "ok");
                if is_first {
                    connection.head().expect("a head");
                    if resets {
                        return connection.reset();
                    }
                    let _ = connection.stream.shutdown(Shutdown::Write);
                }
                connection.wait_for_close();
            });
            let proxy = hasty(&raw.url, |_| {});
            let mut client = Client::connect(proxy.address);
            // But for its last byte before the line has been used: a POST goes out on none that has been idle for a second.
            let (last, body) = (b"x", pattern(LONG));
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", LONG + last.len()));
            client.send(body);
            assert_eq!(proxy.get("/").text(), "ok");
            client.send(last);
            let reply = client.reply();
            assert_eq!((reply.status, raw.accepted()), (status, connections), "{method}, resets: {resets}");
            if status == 502 {
                let word = if resets { " reset: " } else { " closed: " };
                assert!(reply.text().contains(word), "{}", reply.text());
            }
        }
    }
}

#[test]
fn a_put_on_a_connection_that_its_backend_has_just_closed_is_answered() {
    let (sender, closed) = unbounded();
    let raw = Raw::serving(move |mut connection| {
        let request = connection.request().expect("a request");
        connection.reply(200, Received::parse(&request).target);
        drop(connection);
        let _ = sender.send(());
    });
    let proxy = hasty(&raw.url, |_| {});
    let mut client = Client::connect(proxy.address);
    for number in 0..20 {
        let target = format!("/{number}");
        client.send_request("PUT", &target, &[], Some(&pattern(LONG)));
        let reply = client.reply();
        assert_eq!((reply.status, reply.text()), (200, target));
        if number % 2 == 0 {
            closed.recv_timeout(SOON).expect("the backend closes");
        }
    }
}
