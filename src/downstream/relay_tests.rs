//! A reply that ends while its client asks again.

use crate::runtime::sync::{Arc, Mutex};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::Frontend;
use crate::downstream::frontend::ListenerContext;
use crate::downstream::limits::Limits;
use crate::message::{BodySource, OnReady, Reply, ReplyBody, ReplyTo, Request};
use crate::runtime::poller::{Event, EventHandler, Poller};

const SOON: Duration = Duration::from_secs(10);
const READY: Event = Event::Ready { read_closed: false, dead: false };
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A body of a byte, which comes when the test says so.
#[derive(Clone)]
struct Late(Arc<Mutex<(bool, Option<OnReady>)>>, io::Cursor<&'static [u8]>);

impl Late {
    fn come(&self) {
        let ready = {
            let mut state = self.0.lock();
            state.0 = true;
            state.1.take()
        };
        ready.expect("somebody waits for it")();
    }
}

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let has_come = self.0.lock().0;
        if has_come { self.1.read(buffer) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl BodySource for Late {
    fn when_ready(&mut self, ready: OnReady) {
        self.0.lock().1 = Some(ready);
    }
}

/// A client whose every request is answered so, its far end, and what must stay there. The poller is asleep: the test gives turns.
fn joined(body: &Late) -> (Arc<Client>, TcpStream, impl Sized) {
    let (poller, waiter) = Poller::new().expect("a poller");
    let frontend = Frontend::new(poller, Limits::new(1024, 0, &std::env::temp_dir()), 8, SOON);
    let body = body.clone();
    let serve = move |_: Request, reply_to: Box<dyn ReplyTo>| {
        let body = ReplyBody::Stream { length: Some(1), source: Box::new(body.clone()) };
        let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body };
        reply_to.send(reply, Box::new(drop));
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let far = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    far.set_read_timeout(Some(SOON)).expect("a timeout");
    let (near, peer) = listener.accept().expect("a connection");
    near.set_nonblocking(true).expect("a socket");
    let context = Arc::new(ListenerContext { frontend, handler: Arc::new(serve) });
    (Client::open(context, near, peer).expect("a watch"), far, waiter)
}

fn ask(client: &Client, far: &mut TcpStream) {
    far.write_all(REQUEST).expect("room");
    while client.socket.peek(&mut [0]).is_err() {
        thread::yield_now();
    }
}

fn assert_answered(far: &mut TcpStream) {
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\nx") {
        let mut byte = [0];
        far.read_exact(&mut byte).expect("a reply");
        reply.push(byte[0]);
    }
}

/// The end of a reply is written on the thread of its backend's poller, and the next request comes on the client's. Was seen
/// as: a client that asked again just then got no answer until the connection had idled for a minute, and then its end.
#[test]
fn a_request_that_comes_at_the_very_end_of_a_reply_is_served() {
    let body = Late(Arc::default(), io::Cursor::new(b"x"));
    let (client, mut far, _waiter) = joined(&body);
    ask(&client, &mut far);
    client.clone().on_event(READY);
    far.write_all(REQUEST).expect("room");
    // The poller looks whose turn it is before the reply ends, and gives it after that.
    let stream = client.note_for_stream(READY).expect("a reply that waits");
    body.come();
    assert_answered(&mut far);
    stream.on_event(READY);
    client.on_event(Event::Expired);
    assert_answered(&mut far);
}
