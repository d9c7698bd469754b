//! Brings a client into the state that a test begins with, over a real pair of sockets. The poller is a real one as well, but its
//! event loop isn't run: the test gives the events, in the order that it is about.

mod backend;
mod body;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use http::{HeaderMap, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Socket, Type};

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::{Frontend, Handler, ListenerContext};
use crate::downstream::limits::{Eviction, Limits};
use crate::message::{Delivery, Disconnect, OnDelivered, Reply, ReplyBody, ReplyTo, Request};
use crate::runtime::poller::{Event, EventHandler, EventLoop, Poller};
use crate::runtime::sync::{Arc, Weak};

pub(crate) use backend::{Backend, OnWrite};
pub(crate) use body::Body;

/// Within this time everything happens that must, however busy the host is.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// No test waits for what comes after this.
const LONG: Duration = Duration::from_secs(60);
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// More than the sockets of a client hold that takes nothing.
pub(crate) const LONG_BODY_BYTES: usize = 4 << 20;
/// A client's buffer: small beside a long body, and large beside a packet, so that no window closes for long.
const SOCKET_BYTES: usize = 128 << 10;

/// What the test's frontend is like.
pub(crate) struct Scenario {
    limits: Limits,
    connections_max: usize,
    write_timeout: Duration,
    is_busy: bool,
}

/// One client of a frontend, and the test's side of its connection.
pub(crate) struct Scene {
    pub(crate) frontend: Arc<Frontend>,
    pub(crate) client: Weak<Client>,
    /// `None` once the client has left.
    peer: Option<TcpStream>,
    requests: Receiver<Box<dyn ReplyTo>>,
    event_loop: Option<EventLoop>,
}

/// Keeps each request for the test.
struct Desk {
    requests: Sender<Box<dyn ReplyTo>>,
    is_busy: bool,
}

impl Handler for Desk {
    fn has_room(&self, _: &Request) -> bool {
        !self.is_busy
    }

    fn handle(&self, _: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        self.requests.send(reply_to).expect("the scene has the other end");
    }
}

/// How a client sees its connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    InOrder,
    Reset,
}

impl Scenario {
    pub(crate) fn new() -> Scenario {
        let limits = Limits::new(1024, 1 << 20, &std::env::temp_dir());
        Scenario { limits, connections_max: 8, write_timeout: LONG, is_busy: false }
    }

    /// The deadline of a head has passed as soon as it is set.
    pub(crate) fn without_time_for_heads(mut self) -> Scenario {
        self.limits.timeouts.head = Duration::ZERO;
        self
    }

    /// A wait for the client or for a body is over as soon as it begins.
    pub(crate) fn without_time_for_replies(mut self) -> Scenario {
        self.write_timeout = Duration::ZERO;
        self
    }

    /// A panic in the middle of the event that brings the head of a request with a body.
    pub(crate) fn panicking_at_bodies(mut self) -> Scenario {
        self.limits.body_policy = Arc::new(|_| resume_unwind(Box::new("meant")));
        self
    }

    /// The handler has no room for a request.
    pub(crate) fn busy(mut self) -> Scenario {
        self.is_busy = true;
        self
    }

    pub(crate) fn with_places(mut self, connections_max: usize) -> Scenario {
        self.connections_max = connections_max;
        self
    }

    pub(crate) fn evicting(mut self, eviction: Eviction) -> Scenario {
        self.limits.eviction = eviction;
        self
    }

    /// A frontend without clients, and its event loop, which must be kept.
    pub(crate) fn frontend(self) -> (Arc<Frontend>, EventLoop) {
        let (poller, event_loop) = Poller::new().expect("a poller");
        (Frontend::new(poller, self.limits, self.connections_max, self.write_timeout), event_loop)
    }

    /// A client that has connected.
    pub(crate) fn connected(self) -> Scene {
        let is_busy = self.is_busy;
        let (frontend, event_loop) = self.frontend();
        Scene::open(frontend, event_loop, is_busy)
    }

    /// A client that has connected during a drain, too late for its broadcast.
    pub(crate) fn connected_during_a_drain(self) -> Scene {
        let (frontend, event_loop) = self.frontend();
        frontend.drain();
        Scene::open(frontend, event_loop, false)
    }

    /// A client that has sent half a head.
    pub(crate) fn half_a_head(self) -> Scene {
        let mut scene = self.connected();
        scene.send("GET / HTTP/1.1\r\nHo");
        scene.ready();
        scene
    }

    /// A client whose request is being served.
    pub(crate) fn being_served(self) -> (Scene, Box<dyn ReplyTo>) {
        let mut scene = self.connected();
        scene.send(GET);
        scene.ready();
        let reply_to = scene.request();
        (scene, reply_to)
    }

    /// A client that idles after a request and its reply.
    pub(crate) fn idle(self) -> Scene {
        let (mut scene, reply_to) = self.being_served();
        reply_to.send(text("first"), Box::new(drop));
        assert!(scene.read_reply().ends_with("first\n"));
        scene
    }

    /// A reply that waits for its client.
    pub(crate) fn awaiting_client(self) -> (Scene, Receiver<Delivery>) {
        let (scene, reply_to) = self.being_served();
        let body = ReplyBody::Whole(vec![b'x'; LONG_BODY_BYTES]);
        let (delivered, deliveries) = delivery();
        reply_to.send(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body }, delivered);
        (scene, deliveries)
    }

    /// A client that has sent `more`, and has read as much of a long reply as lets the proxy write the rest: until it reads on, there is
    /// no room for a further byte. Returns the number of those on their way.
    pub(crate) fn with_unread_reply(self, more: &str) -> (Scene, usize) {
        let (mut scene, deliveries) = self.awaiting_client();
        scene.send(more);
        scene.read_head();
        let mut unread = LONG_BODY_BYTES;
        while deliveries.is_empty() {
            unread -= scene.read(SOCKET_BYTES / 8).len();
            scene.ready();
        }
        loop {
            let before = unread;
            // What the client acknowledges later would make room later.
            SockRef::from(&*scene.peer()).set_tcp_quickack(true).expect("a socket");
            while scene.client().write_some(b"x").expect("a connection") > 0 {
                unread += 1;
            }
            if unread == before {
                return (scene, unread);
            }
        }
    }

    /// A reply of this length, if it is known, that waits for its body.
    pub(crate) fn awaiting_source(self, length: Option<u64>) -> (Scene, Body, Receiver<Delivery>) {
        let ((scene, reply_to), body) = (self.being_served(), Body::default());
        let (delivered, deliveries) = delivery();
        reply_to.send(body.reply(length), delivered);
        (scene, body, deliveries)
    }

    /// A tunnel in which nothing has moved yet. The client has read its 101.
    pub(crate) fn silent_tunnel(self) -> (Scene, Backend, Receiver<Delivery>) {
        let (mut scene, reply_to) = self.being_served();
        let (backend, peer) = Backend::new();
        let (ended, deliveries) = delivery();
        reply_to.join(switching(), peer, ended);
        assert!(scene.read_head().starts_with("HTTP/1.1 101 "));
        (scene, backend, deliveries)
    }
}

impl Scene {
    fn open(frontend: Arc<Frontend>, event_loop: EventLoop, is_busy: bool) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        peer.set_recv_buffer_size(SOCKET_BYTES).expect("a buffer");
        peer.connect(&listener.local_addr().expect("an address").into()).expect("a connection");
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        peer.set_tcp_nodelay(true).expect("a socket");
        let (socket, address) = listener.accept().expect("a connection");
        socket.set_nonblocking(true).expect("a socket");
        SockRef::from(&socket).set_send_buffer_size(SOCKET_BYTES).expect("a buffer");
        let (sender, requests) = unbounded();
        let handler = Arc::new(Desk { requests: sender, is_busy });
        let context = Arc::new(ListenerContext { frontend: frontend.clone(), handler, tls: None });
        let client = Arc::downgrade(&Client::open(context, socket.into(), address.into()).expect("a registration"));
        Scene { frontend, client, peer: Some(peer.into()), requests, event_loop: Some(event_loop) }
    }

    /// Has the poller give the events from now on.
    pub(crate) fn run_event_loop(&mut self) {
        let event_loop = self.event_loop.take().expect("it isn't running");
        thread::spawn(move || event_loop.run());
    }

    /// Has the poller give the events of deadlines from now on, but not those of the client's socket.
    pub(crate) fn run_event_loop_without_edges(&mut self) {
        let client = self.client();
        client.registration.unwatch(client.socket());
        self.run_event_loop();
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        self.client.upgrade().expect("an open client")
    }

    fn peer(&mut self) -> &mut TcpStream {
        self.peer.as_mut().expect("a client that hasn't left")
    }

    /// The client sends bytes. They have arrived when this returns.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let client = self.client();
        let unread = || rustix::io::ioctl_fionread(client.socket()).expect("a socket");
        let expected = unread() + bytes.as_ref().len() as u64;
        self.peer().write_all(bytes.as_ref()).expect("room");
        wait_until(|| unread() == expected);
    }

    /// Gives the event of bytes that have arrived, or of room.
    pub(crate) fn ready(&self) {
        self.give(Event::Ready { read_closed: false, dead: false });
    }

    /// The client sends its end, and its event is given.
    pub(crate) fn half_close(&mut self) {
        self.peer().shutdown(Shutdown::Write).expect("a connection");
        self.wait_for(PollFlags::RDHUP);
        self.give(Event::Ready { read_closed: true, dead: false });
    }

    /// The client resets its connection, and its event is given.
    pub(crate) fn leave(&mut self) {
        SockRef::from(&*self.peer()).set_linger(Some(Duration::ZERO)).expect("a socket");
        self.peer = None;
        self.wait_for(PollFlags::ERR);
        self.give(Event::Ready { read_closed: true, dead: true });
    }

    pub(crate) fn expire(&self) {
        self.give(Event::Expired);
    }

    pub(crate) fn drain(&self) {
        self.frontend.drain();
        self.give(Event::Drain);
    }

    pub(crate) fn cut(&self) {
        self.give(Event::Cut);
    }

    fn give(&self, event: Event) {
        if let Some(client) = self.client.upgrade() {
            client.on_event(event);
        }
    }

    fn wait_for(&self, flags: PollFlags) {
        let client = self.client();
        let timeout = Timespec { tv_sec: SOON.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(client.socket(), flags)], Some(&timeout)).expect("a socket");
        assert_eq!(ready, 1, "{flags:?}");
    }

    /// The request that the handler got.
    pub(crate) fn request(&self) -> Box<dyn ReplyTo> {
        self.requests.try_recv().expect("a request")
    }

    /// The request that the handler gets once the event loop has given its event.
    pub(crate) fn next_request(&self) -> Box<dyn ReplyTo> {
        self.requests.recv_timeout(SOON).expect("a request")
    }

    /// Whether the handler got no further request.
    pub(crate) fn has_no_request(&self) -> bool {
        self.requests.is_empty()
    }

    /// A head, as the client receives it.
    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.peer().read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head of ASCII")
    }

    /// This number of bytes, as the client receives them.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.peer().read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// A head, and the body whose length it tells.
    pub(crate) fn read_reply(&mut self) -> String {
        let head = self.read_head();
        let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()).expect("a length");
        let body = self.read(length.parse().expect("a number"));
        head + &String::from_utf8_lossy(&body)
    }

    /// Everything until the end, as the client receives it.
    pub(crate) fn read_to_end(&mut self) -> (String, Ending) {
        let mut bytes = Vec::new();
        let ending = match self.peer().read_to_end(&mut bytes) {
            Ok(_) => Ending::InOrder,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ending::Reset,
            Err(error) => panic!("no end: {error}"),
        };
        (String::from_utf8_lossy(&bytes).into_owned(), ending)
    }

    /// Takes note of the client's leaving, as a race does: whether it has left.
    pub(crate) fn watch(&self) -> Receiver<()> {
        let (gone, leaves) = unbounded();
        self.client().when_gone(Box::new(move || gone.send(()).expect("the test has the other end")));
        leaves
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The poller and its clients hold each other.
        self.frontend.poller.stop();
    }
}

/// Waits, but not for ever.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "it doesn't come about");
        thread::yield_now();
    }
}

/// A callback, and what it is told.
pub(crate) fn delivery() -> (OnDelivered, Receiver<Delivery>) {
    let (sender, deliveries) = unbounded();
    (Box::new(move |delivery| drop(sender.send(delivery))), deliveries)
}

pub(crate) fn text(body: &str) -> Reply {
    Reply::text(StatusCode::OK, body)
}

pub(crate) fn switching() -> Reply {
    let body = ReplyBody::Withheld { length: None };
    Reply { status: StatusCode::SWITCHING_PROTOCOLS, headers: HeaderMap::new(), body }
}
