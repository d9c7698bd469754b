//! After a 101: WebSocket by an independent client and server, and every edge of a tunnel on raw sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

use crate::harness::{
    BRIEFLY, Binary, Client, Connection, Fake, Gate, Proxy, Raw, Received, SOON, beside_each_other, descriptors,
    eventually, patiently, pattern,
};

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const MIB: usize = 1024 * 1024;

/// A backend that switches protocols and then does as told.
fn switching(serve: impl Fn(Connection) + Send + Sync + 'static) -> Raw {
    Raw::serving(move |mut connection| {
        if connection.head().is_some() {
            connection.send(SWITCHED);
            serve(connection);
        }
    })
}

/// The same, and the test gets the connections.
fn handing_over() -> (Raw, Receiver<Connection>) {
    let (sender, connections) = bounded(1);
    let raw = switching(move |connection| sender.send(connection).expect("the test listens"));
    (raw, connections)
}

/// A backend that refuses. (`tiny_http` takes what follows a wish to switch for the new protocol, and waits for its end.)
fn refusing(status: u16) -> Raw {
    Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            connection.reply(status, "no");
        }
    })
}

/// A client whose protocol has been switched.
fn switched(address: SocketAddr) -> TcpStream {
    let mut client = Client::connect(address);
    client.send(REQUEST);
    let mut stream = client.stream;
    let head = head_of(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Both ends of a tunnel, and what must live as long.
fn tunnel(change: impl FnOnce(&mut red_tentacle::config::Config)) -> (Proxy, Raw, TcpStream, TcpStream) {
    let (raw, connections) = handing_over();
    let proxy = Proxy::with(std::slice::from_ref(&raw.url), change);
    let near = switched(proxy.address);
    let far = connections.recv_timeout(SOON).expect("a backend's connection").stream;
    (proxy, raw, near, far)
}

/// Reads a head and no byte more.
fn head_of(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    stream.read_exact(&mut found).expect("all bytes");
    assert!(found == expected, "the bytes differ, or their order");
}

/// How the stream ends: in order, or by an error. Whatever comes before is dropped.
fn end_of(stream: &mut impl Read) -> Result<(), ErrorKind> {
    std::io::copy(stream, &mut std::io::sink()).map(|_| ()).map_err(|error| error.kind())
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open connection");
    drop(stream);
}

/// Echoes messages until the client closes; tells how it did, and closes with a code of its own if asked for.
fn serve_websocket<S: Read + Write>(stream: S) -> Option<CloseFrame> {
    let mut socket = tungstenite::accept(stream).ok()?;
    loop {
        match socket.read().ok()? {
            Message::Text(text) if text.as_str() == "close, please" => {
                let reason = "as you like".into();
                socket.close(Some(CloseFrame { code: CloseCode::Library(4321), reason })).ok()?;
            }
            Message::Close(frame) => {
                while socket.read().is_ok() {}
                return frame;
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).ok()?,
            _ => {}
        }
    }
}

/// A WebSocket backend that tells how each of its clients closed.
fn websocket_backend() -> (Raw, Receiver<Option<CloseFrame>>) {
    let (sender, closed) = bounded(8);
    let raw = Raw::serving(move |connection| drop(sender.send(serve_websocket(connection.stream))));
    (raw, closed)
}

fn websocket(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = Client::connect(address).stream;
    let (socket, reply) = tungstenite::client(format!("ws://{address}/chat?a=b"), stream).expect("a handshake");
    assert!(reply.headers()["via"].to_str().is_ok_and(|via| via.contains("red-tentacle")), "{reply:?}");
    socket
}

/// Large, fragmented, empty and foreign messages, with a ping between fragments.
fn converse<S: Read + Write>(socket: &mut WebSocket<S>) {
    for message in [Message::text("grüße ✓"), Message::binary(pattern(5 * MIB)), Message::binary(Vec::new())] {
        socket.send(message.clone()).expect("the backend reads");
        assert!(socket.read().expect("an echo") == message);
    }
    let frame = |part: &[u8], opcode, last| Message::Frame(Frame::message(part.to_vec(), OpCode::Data(opcode), last));
    let whole = pattern(3 * MIB);
    let mut parts = whole.chunks(100_000).peekable();
    let mut opcode = Data::Binary;
    while let Some(part) = parts.next() {
        socket.send(frame(part, opcode, parts.peek().is_none())).expect("the backend reads");
        opcode = Data::Continue;
        if parts.len() == 3 {
            socket.send(Message::Ping(b"between".to_vec().into())).expect("the backend reads");
        }
    }
    assert_eq!(socket.read().expect("a pong"), Message::Pong(b"between".to_vec().into()));
    assert!(socket.read().expect("an echo") == Message::binary(whole), "the fragments are one message");
}

#[test]
fn a_websocket_carries_large_and_fragmented_messages_and_pings() {
    let (backend, closed) = websocket_backend();
    let other = refusing(404);
    let proxy = Proxy::with(&[other.url.clone(), backend.url.clone()], patiently);
    let mut socket = websocket(proxy.address);
    converse(&mut socket);
    let frame = CloseFrame { code: CloseCode::Library(4000), reason: "enough".into() };
    socket.close(Some(frame.clone())).expect("the backend reads");
    assert_eq!(closed.recv_timeout(SOON).expect("the backend's end"), Some(frame.clone()));
    assert_eq!(socket.read().expect("the answer"), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)), "the connection is closed");
    assert_eq!(Received::parse(&other.next()).target, "/chat?a=b");
}

#[test]
fn the_code_with_which_a_backend_closes_reaches_the_client() {
    let (backend, closed) = websocket_backend();
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut socket = websocket(proxy.address);
    socket.send(Message::text("close, please")).expect("the backend reads");
    let expected = CloseFrame { code: CloseCode::Library(4321), reason: "as you like".into() };
    assert_eq!(socket.read().expect("a close"), Message::Close(Some(expected.clone())));
    let end = socket.read();
    assert!(matches!(end, Err(Error::ConnectionClosed)), "the answer is sent, and the connection closed");
    assert_eq!(closed.recv_timeout(SOON).expect("the backend's end"), Some(expected), "it gets its own code back");
}

/// A TLS side for a backend's connection, and the certificate to be trusted.
fn tls() -> (Arc<ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let certificate = made.cert.der().clone();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring speaks TLS 1.2 and 1.3");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).expect("a pair");
    (Arc::new(config), certificate.to_vec())
}

type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// A proxy before a backend that speaks TLS.
fn before_tls(serve: impl Fn(TlsStream) + Send + Sync + 'static) -> (Proxy, Raw) {
    let (config, certificate) = tls();
    let raw = Raw::serving(move |connection| {
        let session = ServerConnection::new(config.clone()).expect("a session");
        serve(StreamOwned::new(session, connection.stream));
    });
    let url = raw.url.replace("http://", "https://");
    let proxy = Proxy::with(&[url], |config| {
        patiently(config);
        config.ca_certificates = vec![certificate];
    });
    (proxy, raw)
}

#[test]
fn a_websocket_to_a_tls_backend_works_the_same() {
    let (sender, closed) = bounded(1);
    let (proxy, _raw) = before_tls(move |stream| drop(sender.send(serve_websocket(stream))));
    let mut socket = websocket(proxy.address);
    converse(&mut socket);
    socket.close(None).expect("the backend reads");
    assert_eq!(closed.recv_timeout(SOON).expect("the backend's end"), None);
    assert_eq!(socket.read().expect("the answer"), Message::Close(None));
}

#[test]
fn over_tls_too_early_bytes_arrive_and_each_side_may_end_first() {
    let (sender, seen) = bounded(1);
    let (proxy, _raw) = before_tls(move |mut stream| {
        head_of(&mut stream);
        // In one record with the 101, and more than the buffer holds that the head is read into.
        stream.write_all(&[SWITCHED.as_bytes(), &pattern(100_000)].concat()).expect("the proxy reads");
        let mut got = Vec::new();
        let _ = sender.send(stream.read_to_end(&mut got).map(|_| got).map_err(|error| error.kind()));
        stream.write_all(b"last words").expect("the proxy still reads");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let mut client = Client::connect(proxy.address);
    client.send([REQUEST.as_bytes(), b"early"].concat());
    head_of(&mut client.stream);
    expect(&mut client.stream, &pattern(100_000));
    client.send(b" and late");
    client.half_close();
    let got = seen.recv_timeout(SOON).expect("the backend's end");
    assert_eq!(got.as_deref(), Ok(&b"early and late"[..]), "the end comes with TLS's farewell");
    expect(&mut client.stream, b"last words");
    assert_eq!(end_of(&mut client.stream), Ok(()));
}

#[test]
fn the_first_101_of_the_right_protocol_wins_and_all_others_are_closed() {
    let (started, late) = (Gate::new(), Gate::new());
    let losing = |answer: String, gate: Option<Gate>| {
        Raw::serving(move |mut connection| {
            connection.head();
            gate.iter().for_each(Gate::pass);
            connection.send(&answer);
            connection.wait_for_hang_up();
        })
    };
    let other = losing(SWITCHED.replace("echo", "other"), None);
    let silent = losing(SWITCHED.replace("Upgrade: echo\r\n", ""), None);
    let two = losing(SWITCHED.replace("echo", "echo, other"), None);
    let slow = losing(SWITCHED.to_owned(), Some(late.clone()));
    let gate = started.clone();
    let winner = Raw::serving(move |mut connection| {
        connection.head();
        gate.pass();
        connection.send(SWITCHED);
        assert_eq!(connection.rest(), b"hello");
        connection.send("bye");
    });
    let raws = [&other, &silent, &two, &slow, &winner];
    let urls: Vec<String> = raws.iter().map(|raw| raw.url.clone()).collect();
    let proxy = Proxy::with(&urls, |config| {
        patiently(config);
        // A client that is closed isn't hung up on for being late.
        config.linger = 3 * SOON;
    });
    let mut client = Client::connect(proxy.address);
    client.send(REQUEST);
    for loser in [&other, &silent, &two] {
        loser.expect_hang_up();
    }
    started.open();
    let told = client.reply_to_head();
    assert_eq!((told.status, told.values("upgrade"), told.values("connection")), (101, vec!["echo"], vec!["upgrade"]));
    assert!(!slow.was_hung_up_on());
    late.open();
    slow.expect_hang_up();
    client.send("hello");
    client.half_close();
    expect(&mut client.stream, b"bye");
    assert!(client.is_closed());
}

#[test]
fn a_101_that_was_not_asked_for_loses() {
    let (backend, plain) = (Raw::answering(SWITCHED), Fake::with(200, "plain"));
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let reply = proxy.get("/");
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains(" protocol: ") && reply.text().contains("didn't ask for"), "{}", reply.text());
    let proxy = Proxy::with(&[backend.url.clone(), plain.url.clone()], patiently);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "plain");
    }
}

#[test]
fn another_success_is_an_ordinary_reply_and_the_connection_lives_on() {
    let backend = Raw::echoing();
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut client = Client::connect(proxy.address);
    for target in ["/1", "/2"] {
        client.send_request("GET", target, &["Connection: Upgrade", "Upgrade: echo"], None);
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str(), reply.value("upgrade")), (200, target, None));
        let request = String::from_utf8(backend.next()).expect("ASCII");
        assert!(request.contains("Connection: upgrade\r\nUpgrade: echo\r\n"), "{request}");
    }
    assert_eq!(backend.accepted(), 1, "and so does the line");
}

#[test]
fn if_no_backend_switches_the_client_learns_why() {
    let (no, other) = (refusing(426), Raw::answering(SWITCHED.replace("echo", "other")));
    let proxy = Proxy::with(&[no.url.clone(), other.url.clone()], patiently);
    let mut client = Client::connect(proxy.address);
    client.send(REQUEST);
    let reply = client.reply();
    assert_eq!((reply.status, reply.value("upgrade")), (502, None));
    for reason in
        [" 426: the backend answered 426", " protocol: the answer isn't valid HTTP: it switches to a protocol"]
    {
        assert!(reply.text().contains(reason), "{}", reply.text());
    }
    client.send_request("GET", "/", &[], None);
    assert_eq!(client.reply().status, 502, "the connection speaks HTTP as before");
}

#[test]
fn what_is_no_upgrade_is_asked_for_without_one() {
    let backend = Fake::with(200, "plain");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let rows = [
        (
            "h2c",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        ),
        ("h2c beside another", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("TLS", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n"),
        ("not in Connection", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"),
        ("HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"),
    ];
    for (label, head) in rows {
        let mut client = Client::connect(proxy.address);
        client.send(format!("{head}\r\n"));
        assert_eq!(client.reply().text(), "plain", "{label}");
        let seen = backend.next();
        for name in ["connection", "upgrade", "http2-settings"] {
            assert!(seen.values(name).is_empty(), "{label}: {name}");
        }
    }
}

#[test]
fn bytes_that_come_before_the_101_and_right_behind_it_arrive() {
    let (asked, sent) = (Gate::new(), Gate::new());
    let (ask, held) = (asked.clone(), sent.clone());
    let (early, behind) = (pattern(300_000), pattern(70_000));
    let (up, down) = (early.clone(), behind.clone());
    let backend = Raw::serving(move |mut connection| {
        connection.head();
        ask.open();
        held.pass();
        connection.send([SWITCHED.as_bytes(), &down].concat());
        expect(&mut connection.stream, &up);
        connection.send("done");
    });
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut client = Client::connect(proxy.address);
    client.send([REQUEST.as_bytes(), &early[..100]].concat());
    asked.pass();
    client.send(&early[100..]);
    sent.open();
    head_of(&mut client.stream);
    expect(&mut client.stream, &behind);
    expect(&mut client.stream, b"done");
    assert!(client.is_closed());
}

#[test]
fn each_side_may_end_before_the_other() {
    let rows: [(&str, fn(TcpStream, TcpStream) -> (TcpStream, TcpStream)); 2] =
        [("client", |near, far| (near, far)), ("backend", |near, far| (far, near))];
    for (label, sides) in rows {
        let (_proxy, _raw, near, far) = tunnel(patiently);
        let (mut first, mut second) = sides(near, far);
        first.write_all(b"my last").expect(label);
        first.shutdown(Shutdown::Write).expect(label);
        expect(&mut second, b"my last");
        assert_eq!(end_of(&mut second), Ok(()), "{label}");
        for piece in [&pattern(MIB)[..], b"and mine"] {
            second.write_all(piece).expect(label);
            expect(&mut first, piece);
        }
        second.shutdown(Shutdown::Write).expect(label);
        assert_eq!(end_of(&mut first), Ok(()), "{label}");
    }
}

/// Writes until nothing more is taken, or all: how much was.
fn fill(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(BRIEFLY)).expect("a timeout");
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            // Full, or the tunnel has ended: the caller sees which.
            Err(_) => break,
        }
    }
    stream.set_write_timeout(Some(SOON)).expect("a timeout");
    written
}

#[test]
fn two_full_directions_block_neither_each_other_nor_other_clients() {
    let bytes = pattern(8 * MIB);
    let (_proxy, _raw, mut near, mut far) = tunnel(patiently);
    let (up, down) = (fill(&mut near, &bytes), fill(&mut far, &bytes));
    // The way down is emptied while the way up stays full, and then the other way round.
    let rows = [(&far, &near, down), (&near, &far, up)];
    for (mut writer, mut reader, written) in rows {
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes[written..]).expect("the proxy reads"));
            expect(&mut reader, &bytes);
        });
    }
    near.shutdown(Shutdown::Write).expect("an open connection");
    assert_eq!(end_of(&mut far), Ok(()));
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends_after_the_idle_timeout() {
    const IDLE: Duration = Duration::from_millis(300);
    let started = Instant::now();
    let (_proxy, _raw, mut near, mut far) = tunnel(|config| {
        (config.timeout, config.idle_timeout) = (IDLE, IDLE);
    });
    let waiting = thread::spawn(move || end_of(&mut far));
    assert_eq!(end_of(&mut near), Ok(()));
    assert_eq!(waiting.join().expect("no panic"), Ok(()));
    assert!(started.elapsed() >= IDLE && started.elapsed() < SOON / 2, "after {:?}", started.elapsed());
}

#[test]
fn a_tunnel_that_is_full_ends_after_the_idle_timeout_too() {
    const IDLE: Duration = Duration::from_millis(300);
    let (_proxy, _raw, mut near, mut far) = tunnel(|config| {
        (config.timeout, config.idle_timeout) = (IDLE, IDLE);
    });
    fill(&mut near, &pattern(16 * MIB));
    // What is written meanwhile may find some room yet.
    eventually("the client is told", || {
        near.write(&[0; 1024]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert_ne!(end_of(&mut far), Err(ErrorKind::WouldBlock), "the backend is told, too");
}

#[test]
fn who_vanishes_takes_the_other_side_along() {
    let rows: [(&str, bool, bool); 4] = [
        ("client", true, false),
        ("backend", false, false),
        ("client that had ended", true, true),
        ("backend that had ended", false, true),
    ];
    beside_each_other(rows, |(label, client_vanishes, has_ended)| {
        let (_proxy, _raw, near, far) = tunnel(patiently);
        let (mut vanishing, mut left) = if client_vanishes { (near, far) } else { (far, near) };
        vanishing.write_all(b"x").expect(label);
        expect(&mut left, b"x");
        if has_ended {
            vanishing.shutdown(Shutdown::Write).expect(label);
            assert_eq!(end_of(&mut left), Ok(()), "{label}");
        }
        reset(vanishing);
        if has_ended {
            let mut failed = None;
            // Its end was told before: what tells now is that nothing is taken any more.
            eventually(label, || {
                failed = left.write(b"x").err();
                failed.is_some()
            });
        } else {
            assert_eq!(end_of(&mut left), Ok(()), "{label}");
        }
    });
}

#[test]
fn a_tunnel_works_on_during_a_drain_and_is_cut_when_the_grace_period_is_over() {
    let (backend, connections) = handing_over();
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "1s"]);
    let mut near = switched(program.address());
    let mut far = connections.recv_timeout(SOON).expect("a backend's connection").stream;
    program.signal("TERM");
    program.line("stopping: no more clients are accepted");
    near.write_all(b"still").expect("the proxy reads");
    expect(&mut far, b"still");
    far.write_all(b"here").expect("the proxy reads");
    expect(&mut near, b"here");
    assert_eq!((end_of(&mut near), end_of(&mut far)), (Ok(()), Ok(())), "a reset might overtake the last bytes");
    assert_eq!(program.wait().code(), Some(0));
    let rest = program.rest();
    assert!(rest.contains("GET /chat 101 in ") && rest.contains("(cut, since the proxy was stopped)"), "{rest}");
}

#[test]
fn the_line_of_a_tunnel_says_101_when_it_has_ended() {
    let (no, (backend, connections)) = (refusing(404), handing_over());
    let list = format!("{},{}", no.url, backend.url);
    let program = Binary::start(&["--backends", &list]);
    let near = switched(program.address());
    let far = connections.recv_timeout(SOON).expect("a backend's connection").stream;
    drop((near, far));
    let line = program.line("GET /chat");
    assert!(line.contains(" INFO ") && line.contains("GET /chat 101 in "), "{line}");
    assert!(line.contains(" by b2 b1=") && line.contains(" b2=101/"), "{line}");
}

#[test]
fn silent_tunnels_cost_no_threads_and_little_memory() {
    const TUNNELS: usize = 500;
    const BYTES_MAX: usize = 24 * 1024;
    assert!(descriptors() > 2 * TUNNELS + 200, "raise the limit of open files: ulimit -n");
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", backend.local_addr().expect("an address"));
    let program = Binary::start(&["--backends", &url, "--idle-timeout", "1h"]);
    let address = program.address();
    let open = |count: usize| -> Vec<_> {
        let one = |_| {
            let mut near = Client::connect(address);
            near.send(REQUEST);
            let (mut far, _) = backend.accept().expect("the proxy connects");
            far.set_read_timeout(Some(SOON)).expect("a timeout");
            head_of(&mut far);
            far.write_all(SWITCHED.as_bytes()).expect("the proxy reads");
            assert_eq!(near.reply_to_head().status, 101);
            (near.stream, far)
        };
        (0..count).map(one).collect()
    };
    // What the first ones need is needed once.
    let mut tunnels = open(TUNNELS / 10);
    let before = program.resident_bytes();
    tunnels.extend(open(TUNNELS - TUNNELS / 10));
    let each = program.resident_bytes().saturating_sub(before) / (TUNNELS - TUNNELS / 10);
    println!("a silent tunnel costs {each} bytes; {} threads hold {TUNNELS}", program.threads());
    assert!(program.threads() <= 16, "{} threads", program.threads());
    assert!(each <= BYTES_MAX, "{each} bytes for each tunnel");
    for (near, far) in &mut tunnels {
        near.write_all(b"up").expect("the proxy reads");
        expect(far, b"up");
        far.write_all(b"down").expect("the proxy reads");
        expect(near, b"down");
    }
    assert!(program.threads() <= 16, "{} threads", program.threads());
}
