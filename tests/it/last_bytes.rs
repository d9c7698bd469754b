//! The last bytes of a tunnel: what the proxy has received is delivered, in whichever way the side that sent it ends, and the
//! other side is told an end in order behind it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never};
use red_tentacle::config::Config;

use crate::harness::{BRIEFLY, Backend, Client, Connection, Far, Proxy, SOON, beside_each_other, fill, pattern};

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
/// More than the sockets on the way to a side that doesn't read take at once.
const BYTES: usize = 300_004;
/// So much they do take.
const FEW_BYTES: usize = 100_004;

/// How a side ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    /// TLS says farewell, and the connection is closed.
    Farewell,
    /// The connection stays open behind the farewell.
    FarewellOnly,
    /// What comes last is no TLS.
    Garbage,
}

const PLAIN: [End; 2] = [End::Fin, End::Reset];
const TLS: [End; 5] = [End::Fin, End::Reset, End::Farewell, End::FarewellOnly, End::Garbage];

/// The other side is in no hurry.
fn dawdle() {
    let _ = never::<()>().recv_timeout(5 * BRIEFLY);
}

/// Ends a connection. Before a reset the proxy has time to take what was sent: the kernel throws the rest away.
fn end(connection: Connection, way: End) {
    if way == End::Reset {
        dawdle();
        return connection.reset();
    }
    let _ = connection.stream.shutdown(Shutdown::Write);
    connection.wait_for_close();
}

/// Ends a backend's side.
fn end_far(mut far: Far, way: End) {
    if matches!(way, End::Farewell | End::FarewellOnly) {
        far.say_farewell();
    }
    let mut connection = far.into_connection();
    match way {
        End::FarewellOnly => return connection.wait_for_close(),
        End::Garbage => connection.send("no record"),
        _ => {}
    }
    end(connection, way);
}

/// Backends that switch and hand their side over.
struct Switching {
    backend: Backend,
    sides: Receiver<Far>,
}

impl Switching {
    fn new(is_tls: bool) -> Switching {
        let (sender, sides) = bounded(1);
        let backend = Backend::serving(is_tls, move |mut far| {
            far.head();
            far.send(SWITCHED);
            sender.send(far).expect("the test listens");
        });
        Switching { backend, sides }
    }

    fn proxy(&self, change: impl FnOnce(&mut Config)) -> Proxy {
        self.backend.proxy(change)
    }

    /// Both ends of a tunnel.
    fn tunnel(&self, mut client: Client) -> (TcpStream, Far) {
        client.send(REQUEST);
        let head = client.reply_to_head();
        assert_eq!(head.status, 101);
        (client.stream, self.sides.recv_timeout(SOON).expect("the backend's side"))
    }
}

/// Everything up to the end, and how that was told.
fn rest_of(mut stream: &TcpStream) -> (Vec<u8>, Result<usize, ErrorKind>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map_err(|error| error.kind());
    (bytes, end)
}

fn rows() -> impl Iterator<Item = (bool, End)> {
    PLAIN.into_iter().map(|way| (false, way)).chain(TLS.into_iter().map(|way| (true, way)))
}

/// Was seen as: 207,872 and 245,760 of 300,004 bytes and then a reset, from an https backend that ended without a farewell, at a
/// client that read half a second later.
#[test]
fn what_a_backend_sent_reaches_a_client_that_reads_late_however_the_backend_ends() {
    let clients: [fn(SocketAddr) -> Client; 2] = [Client::connect, Client::cramped];
    let rows = rows().flat_map(|(is_tls, way)| clients.map(|client| (is_tls, way, client)));
    // With a reset the backend's kernel throws away what the proxy couldn't take.
    let rows = rows.filter(|(_, way, client)| *way != End::Reset || std::ptr::fn_addr_eq(*client, clients[0]));
    beside_each_other(rows, |(is_tls, way, client)| {
        let backend = Switching::new(is_tls);
        let proxy = backend.proxy(|_| {});
        let bytes = pattern(if way == End::Reset { FEW_BYTES } else { BYTES });
        let (near, mut far) = backend.tunnel(client(proxy.address));
        far.send(&bytes);
        let ending = std::thread::spawn(move || end_far(far, way));
        dawdle();
        dawdle();
        let (found, end) = rest_of(&near);
        assert_eq!((found.len(), end), (bytes.len(), Ok(bytes.len())), "{is_tls} {way:?}");
        assert!(found == bytes, "{is_tls} {way:?}");
        drop(near);
        ending.join().expect("no panic");
    });
}

#[test]
fn what_a_client_sent_reaches_a_backend_that_reads_late_however_the_client_ends() {
    // What isn't read of the other way mustn't cost the bytes of this one.
    let rows = PLAIN.into_iter().flat_map(|way| [(way, 0), (way, 100_000)]);
    let rows = rows.flat_map(|(way, says)| [(false, way, says), (true, way, says)]);
    beside_each_other(rows, |(is_tls, way, says)| {
        let bytes = pattern(if way == End::Reset { FEW_BYTES } else { BYTES });
        let backend = Switching::new(is_tls);
        let proxy = backend.proxy(|_| {});
        let (mut near, mut far) = backend.tunnel(Client::connect(proxy.address));
        far.send(pattern(says));
        near.write_all(&bytes).expect("the proxy reads");
        if way == End::Reset {
            dawdle();
            socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("an open connection");
            drop(near);
            far.send(pattern(says));
        } else {
            near.shutdown(Shutdown::Write).expect("an open connection");
            std::thread::spawn(move || rest_of(&near));
        }
        dawdle();
        let (found, is_told) = far.rest();
        assert_eq!((found.len(), is_told), (bytes.len(), true), "{is_tls} {way:?} {says}");
        assert!(found == bytes, "{is_tls} {way:?} {says}");
    });
}

/// It ends after the timeout, and not with a reset, which would destroy what the kernel still has to send.
#[test]
fn what_was_received_is_delivered_when_the_idle_timeout_ends_a_tunnel() {
    let bytes = pattern(FEW_BYTES);
    beside_each_other([false, true], |is_tls| {
        let backend = Switching::new(is_tls);
        let proxy = backend.proxy(|config| (config.timeout, config.idle_timeout) = (3 * BRIEFLY, 3 * BRIEFLY));
        let (mut near, mut far) = backend.tunnel(Client::connect(proxy.address));
        far.send(&bytes);
        near.write_all(&bytes).expect("the proxy reads");
        for _ in 0..4 {
            dawdle();
        }
        let (found, end) = rest_of(&near);
        assert!(found == bytes && end == Ok(FEW_BYTES), "{is_tls}: {} bytes, {end:?}", found.len());
        let (found, is_told) = far.rest();
        assert!(found == bytes && is_told, "{is_tls}: {} bytes, {is_told}", found.len());
    });
}

/// Neither side reads, and each sends more than the sockets hold.
#[test]
fn a_tunnel_that_is_full_both_ways_ends_in_order_after_the_idle_timeout() {
    let backend = Switching::new(false);
    let proxy = backend.proxy(|config| (config.timeout, config.idle_timeout) = (20 * BRIEFLY, 20 * BRIEFLY));
    let (near, far) = backend.tunnel(Client::connect(proxy.address));
    let Far::Plain(Connection { stream: far, .. }) = far else { panic!("plain") };
    // Both at once: while one waits to be full, the other mustn't idle.
    fill(&[&near, &far], &vec![b'x'; 32 << 20]);
    for _ in 0..7 {
        dawdle();
    }
    for (label, side) in [("client", &near), ("backend", &far)] {
        let (found, end) = rest_of(side);
        assert!(end.is_ok() && found.len() > FEW_BYTES, "{label}: {} bytes, {end:?}", found.len());
    }
}

#[test]
fn what_was_received_is_delivered_when_the_grace_period_is_over() {
    let bytes = pattern(FEW_BYTES);
    beside_each_other([false, true], |is_tls| {
        let backend = Switching::new(is_tls);
        let mut program = backend.backend.program(&["--grace-period", "500ms"]);
        let (mut near, mut far) = backend.tunnel(Client::connect(program.address()));
        program.signal("TERM");
        program.line("stopping: no more clients are accepted");
        far.send(&bytes);
        near.write_all(&bytes).expect("the proxy reads");
        assert_eq!(program.wait().code(), Some(0));
        let (found, end) = rest_of(&near);
        assert!(found == bytes && end == Ok(FEW_BYTES), "{is_tls}: {} bytes, {end:?}", found.len());
        let (found, is_told) = far.rest();
        assert!(found == bytes && is_told, "{is_tls}: {} bytes, {is_told}", found.len());
        let rest = program.rest();
        assert!(rest.contains("GET /chat 101 in ") && rest.contains("(cut, since the proxy was stopped)"), "{rest}");
    });
}

/// A side that is gone doesn't keep the tunnel for as long as the other one talks.
#[test]
fn a_side_that_talks_on_though_the_other_has_left_is_hung_up_on() {
    let backend = Switching::new(false);
    let program = backend.backend.program(&["--idle-timeout", "1h"]);
    let address = program.address();
    for client_vanishes in [true, false] {
        let (near, far) = backend.tunnel(Client::connect(address));
        let Far::Plain(Connection { stream: far, .. }) = far else { panic!("plain") };
        let (vanishing, mut left) = if client_vanishes { (near, far) } else { (far, near) };
        socket2::SockRef::from(&vanishing).set_linger(Some(Duration::ZERO)).expect("an open connection");
        drop(vanishing);
        let block = pattern(16 * 1024);
        while left.write_all(&block).is_ok() {}
        let line = program.line("/chat");
        let why = if client_vanishes { "the client went away" } else { "the backend's body broke off" };
        assert!(line.contains(" 101 in ") && line.contains(why), "{line}");
    }
}
