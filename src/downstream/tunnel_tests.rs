//! Tunnels of a front, above a poller of their own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use http::{HeaderMap, StatusCode};

use crate::downstream::frontend::Frontend;
use crate::downstream::limits::Limits;
use crate::downstream::listener::Listener;
use crate::message::{Delivery, OnReady, Reply, ReplyBody, ReplyTo, Request, TunnelPeer};
use crate::runtime::poller::{Event, Poller};

const SOON: Duration = Duration::from_secs(10);

/// A backend's side: deaf and about to say its last words, or one that breaks the frontend when it is written to.
struct Far {
    socket: UnixStream,
    says: io::Cursor<Vec<u8>>,
}

impl Read for Far {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.says.get_ref().is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.says.read(buffer) }
    }
}

impl Write for Far {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.says.get_ref().is_empty() && bytes != b"early" {
            std::panic::resume_unwind(Box::new("meant"));
        }
        if self.says.get_ref().is_empty() { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Far {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TunnelPeer for Far {
    fn has_unsent(&self) -> bool {
        false
    }

    fn end_writing(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {}

    fn when_ready(&mut self, _: OnReady) {}
}

/// A client behind its 101, what becomes of its tunnel, and what stands behind it.
fn joined(says: &[u8]) -> (TcpStream, Receiver<Delivery>, Arc<Frontend>, Poller) {
    let (poller, waiter) = Poller::new().expect("a poller");
    thread::spawn(move || waiter.run());
    let limits = Limits::new(1024, 0, &std::env::temp_dir());
    let frontend = Frontend::new(poller.clone(), limits, 8, SOON);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let ((sender, ended), says) = (unbounded(), says.to_vec());
    let serve = move |_: Request, reply_to: Box<dyn ReplyTo>| {
        let (socket, _) = UnixStream::pair().expect("a pair");
        let far = Far { socket, says: io::Cursor::new(says.clone()) };
        let (headers, body) = (HeaderMap::new(), ReplyBody::Withheld { length: None });
        let head = Reply { status: StatusCode::SWITCHING_PROTOCOLS, headers, body };
        let sender = sender.clone();
        let ended = Box::new(move |delivery| sender.send(delivery).expect("the test listens"));
        reply_to.join(head, Box::new(far), ended);
    };
    Listener::open(frontend.clone(), listener, Event::Drain, Arc::new(serve)).expect("a listener");
    let mut client = TcpStream::connect(address).expect("a connection");
    client.set_read_timeout(Some(SOON)).expect("a timeout");
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nearly").expect("the front reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    (client, ended, frontend, poller)
}

/// Was seen as: a silent tunnel whose thread panicked had no line in the log and kept its client's socket for ever.
#[test]
fn a_panic_ends_the_tunnel_with_a_reset() {
    let (mut client, ended, frontend, poller) = joined(b"");
    client.write_all(b"x").expect("the front reads");
    let delivery = ended.recv_timeout(SOON).expect("the tunnel is heard of again");
    assert!(matches!(delivery, Delivery::Panicked), "{delivery:?}");
    let end = client.read(&mut [0]);
    assert!(end.is_err(), "{end:?}, not a reset");
    while frontend.connections() > 0 {
        thread::yield_now();
    }
    poller.stop();
}

/// Was seen as: a backend that said why it closed, and was written to at the same moment, wasn't heard.
#[test]
fn the_last_words_of_a_side_that_takes_nothing_any_more_are_heard() {
    let words = vec![b'w'; 30_000];
    let (mut client, ended, _front, poller) = joined(&words);
    let mut heard = vec![0; words.len()];
    client.read_exact(&mut heard).expect("the last words");
    assert_eq!(heard, words);
    assert_eq!(
        client.read(&mut [0]).map_err(|error| error.kind()),
        Ok(0),
        "an end in order: a reset might overtake them"
    );
    assert!(matches!(ended.recv_timeout(SOON), Ok(Delivery::BodyBroke(_))));
    poller.stop();
}
