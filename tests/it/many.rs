//! Streams, tunnels and downloads by the hundred: they wait at no thread's cost, and lose no byte.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use socket2::SockRef;

use crate::harness::{
    Backend, Binary, Client, Connection, Deaf, Far, Framing, Held, Holding, Load, Raw, SOON, cramped_listener,
    eventually, fill, get, many, pattern, threads_max, ways,
};

const MIB: usize = 1024 * 1024;
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const ASK: &str = "GET /held HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
const SWITCH: &str = "GET /held HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
/// What an event stream may cost in memory.
const STREAM_BYTES_MAX: usize = 24 * 1024;
/// What an answer that its client doesn't read may cost: what is on its way from one socket to the other, and no more of it.
const UNREAD_BYTES_MAX: usize = 256 * 1024;
/// In which others are answered, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

fn streams(address: SocketAddr, backend: &Holding, count: usize) -> Vec<Held> {
    backend.open(count, || Client::connect(address), ASK, 200)
}

/// An event for each of the streams, which gets it before the next one's is sent.
fn send_events(streams: &mut [Held], text: &str) {
    for Held { client, backend } in streams {
        let event = format!("data: {text}\n\n");
        backend.send(Framing::Chunked.piece(&event));
        assert_eq!(client.chunk().as_deref(), Some(event.as_bytes()));
    }
}

/// Asks for other things, on connections that are kept and on new ones. Each is answered at once, and whatever waits meanwhile
/// holds no thread.
fn assert_others_are_served(program: &Binary, address: SocketAddr) {
    let slowest = Mutex::new(Duration::ZERO);
    let load = Load { address, clients: 8, requests: 400 };
    let course = load.watch(program.child.id(), |client, number| {
        let asked = Instant::now();
        let reply = if number % 4 == 0 {
            get(address, "/")
        } else {
            client.send_request("POST", "/", &[], Some(b"body"));
            client.reply()
        };
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        let mut slowest = slowest.lock().expect("no panic");
        *slowest = asked.elapsed().max(*slowest);
    });
    let (slowest, threads) = (slowest.into_inner().expect("no panic"), course.peak().threads);
    println!("{threads} threads, the slowest of others took {slowest:?}");
    assert!(threads <= threads_max(), "{threads} threads");
    assert!(slowest < AT_ONCE, "{slowest:?}");
}

/// Was seen as: 1,100 clients of an event stream stopped all others for as long as the streams lasted, without one 503.
#[test]
fn a_thousand_event_streams_leave_others_served_at_once_and_hold_no_thread() {
    let backend = Holding::beginning(EVENTS);
    let program = Binary::start(&["--backends", &backend.url]);
    let (address, count) = (program.address(), many(1200));
    // What the first ones need is needed once.
    let mut streams = streams(address, &backend, count / 10);
    send_events(&mut streams, "first");
    let before = program.resident_bytes();
    streams.extend(self::streams(address, &backend, count - count / 10));
    send_events(&mut streams, "first of all");
    let each = program.resident_bytes().saturating_sub(before) / (count - count / 10);
    println!("{count} streams, {each} bytes each");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let events = scope.spawn(|| {
            let mut streams = streams;
            for number in 0.. {
                send_events(&mut streams, &number.to_string());
                if is_over.load(Ordering::SeqCst) {
                    return streams;
                }
            }
            streams
        });
        assert_others_are_served(&program, address);
        is_over.store(true, Ordering::SeqCst);
        let mut streams = events.join().expect("every event arrives");
        send_events(&mut streams, "last");
        assert_streams_end_whole(streams);
    });
    assert!(each <= STREAM_BYTES_MAX, "{each} bytes for each stream");
}

/// Their clients may ask again.
fn assert_streams_end_whole(streams: Vec<Held>) {
    for Held { mut client, mut backend } in streams {
        backend.send(Framing::Chunked.last());
        assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
        drop(backend);
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "ok");
    }
}

#[test]
fn when_the_clients_of_a_thousand_streams_leave_every_backend_is_hung_up_on_and_every_descriptor_comes_back() {
    let backend = Holding::beginning(EVENTS);
    let program = Binary::start(&["--backends", &backend.url]);
    let (address, count) = (program.address(), many(1200));
    assert_eq!(get(address, "/").text(), "ok");
    let before = program.usage().descriptors;
    let streams = streams(address, &backend, count);
    let connections: Vec<Connection> = (streams.into_iter().enumerate())
        .map(|(number, Held { client, backend })| {
            // Half of them in order, the others by a reset.
            if number % 2 == 0 {
                drop(client);
            } else {
                client.reset();
            }
            backend
        })
        .collect();
    for mut connection in connections {
        connection.wait_for_hang_up();
        backend.raw.expect_hang_up();
    }
    eventually("every descriptor comes back", || program.usage().descriptors <= before + 8);
    for _ in 0..count {
        let line = program.line("GET /held ");
        assert!(line.contains(" 200 in ") && line.contains("(cut, since the client went away"), "{line}");
    }
    assert!(program.usage().threads <= threads_max(), "{:?}", program.usage());
}

/// What goes into a tunnel that isn't read at its other end: more than all sockets on the way take.
const INTO_TUNNEL: usize = MIB;

/// Tunnels in which one side sends and the other doesn't read: they are full, others are served, and all arrives once it is read.
fn assert_full_tunnels_wait_at_nobodys_cost(client_reads: bool) {
    let backend = Holding::on(cramped_listener(), SWITCHED);
    let program = Binary::start(&["--backends", &backend.url]);
    let address = program.address();
    let tunnels = backend.open(many(300), || Client::cramped(address), SWITCH, 101);
    let ends: Vec<_> = tunnels.iter().map(|tunnel| (&tunnel.client.stream, &tunnel.backend.stream)).collect();
    let (sending, reading): (Vec<_>, Vec<_>) =
        ends.into_iter().map(|(near, far)| if client_reads { (far, near) } else { (near, far) }).unzip();
    let before = program.resident_bytes();
    let bytes = pattern(INTO_TUNNEL);
    let sent = fill(&sending, &bytes);
    let each = program.resident_bytes().saturating_sub(before) / sending.len();
    println!("{} tunnels took {:?} bytes at most, and {each} bytes of memory each", sent.len(), sent.iter().max());
    assert!(sent.iter().all(|sent| *sent < INTO_TUNNEL), "they aren't full");
    assert_others_are_served(&program, address);
    for ((mut sending, mut reading), sent) in sending.into_iter().zip(reading).zip(sent) {
        // From now on it is in a hurry.
        SockRef::from(reading).set_recv_buffer_size(MIB).expect("a large buffer");
        let mut found = vec![0; sent];
        reading.read_exact(&mut found).expect("all bytes");
        assert!(found == bytes[..sent]);
        sending.write_all(b"and more").expect("the proxy reads");
        reading.read_exact(&mut found[..8]).expect("it goes on");
        assert_eq!(&found[..8], b"and more");
    }
    assert!(each <= UNREAD_BYTES_MAX, "{each} bytes for each tunnel");
}

/// Was seen as: 80 tunnels whose backend didn't read stopped all others.
#[test]
fn hundreds_of_tunnels_whose_backend_does_not_read_leave_others_served_at_once_and_hold_no_thread() {
    assert_full_tunnels_wait_at_nobodys_cost(false);
}

#[test]
fn hundreds_of_tunnels_whose_client_does_not_read_leave_others_served_at_once_and_hold_no_thread() {
    assert_full_tunnels_wait_at_nobodys_cost(true);
}

/// A backend under TLS that begins an answer to each request for `/held` and gives its side to the test, as [`Holding`] does.
fn holding_under_tls(begin: &'static str) -> (Backend, Receiver<Far>) {
    let (sender, sides) = unbounded();
    let backend = Backend::cramped(true, move |mut far| {
        while let Some(request) = far.request() {
            if request.starts_with(b"GET /held ") {
                far.send(begin);
                let _ = sender.send(far);
                return;
            }
            far.send(format!("{}ok", Framing::Sized.head(2)));
        }
    });
    (backend, sides)
}

/// Both ends of this many tunnels.
fn held_under_tls(sides: &Receiver<Far>, address: SocketAddr, ask: &str, count: usize) -> (Vec<Client>, Vec<Far>) {
    let open = |_| {
        let mut client = Client::cramped(address);
        client.send(ask);
        let far = sides.recv_timeout(SOON).expect("an answer that has begun");
        assert!(matches!(client.reply_to_head().status, 101 | 200));
        (client, far)
    };
    (0..count).map(open).unzip()
}

#[test]
fn event_streams_over_tls_leave_others_served_at_once_and_hold_no_thread() {
    let (backend, sides) = holding_under_tls(EVENTS);
    let program = backend.program(&[]);
    let address = program.address();
    let (mut clients, mut far) = held_under_tls(&sides, address, ASK, many(150));
    let mut send_events = |text: &str| {
        for (client, far) in clients.iter_mut().zip(&mut far) {
            far.send(Framing::Chunked.piece(text));
            assert_eq!(client.chunk().as_deref(), Some(text.as_bytes()));
        }
    };
    send_events("before");
    assert_others_are_served(&program, address);
    send_events("afterwards");
}

#[test]
fn tunnels_over_tls_that_are_full_either_way_leave_others_served_at_once_and_hold_no_thread() {
    let (backend, sides) = holding_under_tls(SWITCHED);
    let program = backend.program(&["--idle-timeout", "1h"]);
    let address = program.address();
    let bytes = pattern(INTO_TUNNEL);
    let (up, mut unread) = held_under_tls(&sides, address, SWITCH, many(40));
    let (mut unreading, down) = held_under_tls(&sides, address, SWITCH, many(40));
    let sending: Vec<_> = up.iter().map(|client| &client.stream).collect();
    thread::scope(|scope| {
        for mut far in down {
            let bytes = &bytes;
            scope.spawn(move || far.try_send(bytes).expect("all of it is taken in the end"));
        }
        let sent = fill(&sending, &bytes);
        assert!(sent.iter().all(|sent| *sent < INTO_TUNNEL), "they aren't full: {sent:?}");
        assert_others_are_served(&program, address);
        for (far, sent) in unread.iter_mut().zip(sent) {
            let mut found = vec![0; sent];
            far.read_exact(&mut found).expect("all bytes");
            assert!(found == bytes[..sent]);
        }
        for client in &mut unreading {
            SockRef::from(&client.stream).set_recv_buffer_size(MIB).expect("a large buffer");
            assert!(client.read_exact(INTO_TUNNEL) == bytes);
        }
    });
}

/// A backend that sends a long body to clients that ask for a framing's name, and says `ok` to others.
fn sending(is_tls: bool) -> Backend {
    let body = pattern(MIB);
    Backend::serving(is_tls, move |mut far| {
        while let Some(request) = far.request() {
            let is_wanted = |framing: &Framing| request.starts_with(format!("GET /{framing:?} ").as_bytes());
            let Some(framing) = Framing::ALL.into_iter().find(is_wanted) else {
                far.send(format!("{}ok", Framing::Sized.head(2)));
                continue;
            };
            far.send(framing.head(MIB));
            for piece in body.chunks(10_000) {
                far.send(framing.piece(piece));
            }
            let Some(open) = far.finish(framing) else { return };
            far = open;
        }
    })
}

/// Was seen as: clients that took nothing of their replies held a thread each, and half of them had to go for the others.
#[test]
fn hundreds_of_clients_that_do_not_read_hold_no_thread_and_get_every_byte_once_they_do() {
    let body = pattern(MIB);
    for (is_tls, count) in [(false, 300), (true, 60)] {
        let backend = sending(is_tls);
        let program = backend.program(&[]);
        let address = program.address();
        assert_eq!(get(address, "/").text(), "ok");
        let before = program.resident_bytes();
        let ask = |number: usize| {
            let mut client = Client::cramped(address);
            client.send_request("GET", &format!("/{:?}", Framing::ALL[number % 3]), &[], None);
            let head = client.reply_to_head();
            assert_eq!(head.status, 200);
            (client, head)
        };
        let clients: Vec<_> = (0..many(count)).map(ask).collect();
        assert_others_are_served(&program, address);
        let each = program.resident_bytes().saturating_sub(before) / clients.len();
        println!("{} clients that don't read, {each} bytes each", clients.len());
        for (number, (mut client, mut reply)) in clients.into_iter().enumerate() {
            // From now on it is in a hurry.
            SockRef::from(&client.stream).set_recv_buffer_size(MIB).expect("a large buffer");
            client.read_body(&mut reply);
            let is_whole = reply.whole && reply.body == body;
            assert!(is_whole, "{is_tls} {:?}: {} bytes", Framing::ALL[number % 3], reply.body.len());
        }
        assert!(each <= UNREAD_BYTES_MAX, "{each} bytes for each client");
    }
}

/// No tunnel is forgotten, whichever side falls silent.
#[test]
fn hundreds_of_answers_in_which_nothing_moves_end_after_the_idle_timeout() {
    const IDLE: Duration = Duration::from_secs(2);
    let (silent, unread) = (Holding::beginning(EVENTS), sending(false));
    let program = |url: &str| Binary::start(&["--backends", url, "--timeout", "2s", "--idle-timeout", "2s"]);
    let (of_silent, of_unread) = (program(&silent.url), program(&unread.url));
    let addresses = [of_silent.address(), of_unread.address()];
    let before = [&of_silent, &of_unread].map(|program| program.usage().descriptors);
    let begun = Instant::now();
    let streams = streams(addresses[0], &silent, many(300));
    let unreading: Vec<Client> = (0..many(300))
        .map(|number| {
            let mut client = Client::cramped(addresses[1]);
            client.send_request("GET", &format!("/{:?}", Framing::ALL[number % 3]), &[], None);
            assert_eq!(client.reply_to_head().status, 200);
            client
        })
        .collect();
    let all_have_begun = Instant::now();
    for Held { mut client, mut backend } in streams {
        assert_eq!(client.chunk(), None, "no last chunk: nobody takes it for whole");
        backend.wait_for_hang_up();
        silent.raw.expect_hang_up();
    }
    let whys = ["(cut, since the backend's body broke off: ", "(cut, since the client went away: "];
    for ((program, before), why) in [&of_silent, &of_unread].into_iter().zip(before).zip(whys) {
        for _ in 0..many(300) {
            program.line(why);
        }
        eventually("every descriptor comes back", || program.usage().descriptors <= before + 8);
    }
    let (took, took_the_last) = (begun.elapsed(), all_have_begun.elapsed());
    assert!(took >= IDLE && took_the_last < IDLE + 2 * AT_ONCE, "{took:?}, {took_the_last:?}");
    for mut client in unreading {
        let end = std::io::copy(&mut client.stream, &mut std::io::sink()).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "what it has got looks whole");
    }
}

/// Replaces the list over the admin port.
fn replace(admin: SocketAddr, backends: &[&str]) {
    let mut client = Client::connect(admin);
    client.send_request("POST", &format!("/-update-backends?backends={}", backends.join(",")), &[], None);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn every_leg_loses_in_its_time_whatever_else_goes_on() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let backend = Holding::beginning(EVENTS);
    let program = Binary::start(&["--backends", &backend.url, "--timeout", "1s"]);
    let (address, admin) = program.addresses();
    let mut streams = streams(address, &backend, many(400));
    let (silent, deaf) = (Raw::hanging(), Deaf::new());
    let (begun, _) = Raw::stuck_behind(format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(65)));
    replace(admin, &[&backend.url, &silent.url, &deaf.url, &begun.url]);
    let mut clients: Vec<Client> = (0..32).map(|_| Client::connect(address)).collect();
    let asked = Instant::now();
    for client in &mut clients {
        client.send_request("POST", "/lose", &[], Some(b"body"));
    }
    send_events(&mut streams, "meanwhile");
    for client in &mut clients {
        let reply = client.reply();
        assert_eq!(reply.status, 502, "{}", reply.text());
        let line = program.line("POST /lose ");
        assert!(line.contains(" b1=500/") && line.contains(" b2=timeout b3=connect-timeout b4=timeout "), "{line}");
    }
    let took = asked.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT + AT_ONCE, "{took:?}");
    send_events(&mut streams, "afterwards");
}

/// A backend that sends to clients that ask for a framing's name, without end, and says `ok` to others.
fn endless(is_tls: bool) -> Backend {
    let block = pattern(64 * 1024);
    Backend::serving(is_tls, move |mut far| {
        while let Some(request) = far.request() {
            let is_wanted = |framing: &Framing| request.starts_with(format!("GET /{framing:?} ").as_bytes());
            let Some(framing) = Framing::ALL.into_iter().find(is_wanted) else {
                far.send(format!("{}ok", Framing::Sized.head(2)));
                continue;
            };
            far.send(framing.head(1 << 40));
            let piece = framing.piece(&block);
            while far.try_send(&piece).is_ok() {}
            return;
        }
    })
}

/// As many as there are threads for them, and more: each would have to wait for one that is never done.
#[test]
fn answers_without_end_to_quick_readers_delay_no_other_client() {
    for (is_tls, framing) in ways() {
        let backend = endless(is_tls);
        let program = backend.program(&[]);
        let address = program.address();
        let (is_over, (sender, megabytes)) = (AtomicBool::new(false), unbounded());
        thread::scope(|scope| {
            for _ in 0..6 {
                let (is_over, sender) = (&is_over, sender.clone());
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    client.send_request("GET", &format!("/{framing:?}"), &[], None);
                    assert_eq!(client.reply_to_head().status, 200);
                    let mut bytes = vec![0; MIB];
                    while !is_over.load(Ordering::SeqCst) {
                        (&client.stream).read_exact(&mut bytes).expect("it goes on");
                        let _ = sender.send(());
                    }
                });
            }
            let wait = || (0..12).for_each(|_| megabytes.recv_timeout(SOON).expect("they all go on"));
            wait();
            let mut client = Client::connect(address);
            let mut slowest = Duration::ZERO;
            for number in 0..64 {
                if number % 4 == 0 {
                    client = Client::connect(address);
                }
                let asked = Instant::now();
                client.send_request("GET", "/", &[], None);
                assert_eq!(client.reply().text(), "ok");
                slowest = slowest.max(asked.elapsed());
            }
            megabytes.try_iter().count();
            wait();
            is_over.store(true, Ordering::SeqCst);
            println!("{is_tls} {framing:?}: the slowest took {slowest:?}");
            assert!(slowest < AT_ONCE, "{is_tls} {framing:?}: {slowest:?}");
        });
    }
}
