//! Fake backends: an independent HTTP server (`tiny_http`) that answers as told, and raw sockets for what no server does.
//! Both say what they received.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::{BRIEFLY, Gate, SOON};

/// A request as a backend saw it.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// A request as it came over the wire. Heads are read as Latin-1, so that every byte of them can be seen.
    pub fn parse(bytes: &[u8]) -> Received {
        let end = head_length(bytes).expect("a whole head");
        let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.split_terminator("\r\n");
        let line = lines.next().and_then(|line| line.strip_suffix(" HTTP/1.1")).expect("a request line");
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Received {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: lines.filter_map(field).collect(),
            body: bytes[end..].to_vec(),
        }
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }
}

/// A backend on `tiny_http`.
pub struct Fake {
    pub url: String,
    pub received: Receiver<Received>,
    server: Arc<tiny_http::Server>,
}

type Answer = tiny_http::Response<Box<dyn Read + Send>>;

impl Fake {
    /// Answers every request by the function; each request on a thread of its own, so that it may wait at a gate.
    pub fn answering(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Arc::new(tiny_http::Server::from_listener(listener, None).expect("a server"));
        let (sender, received) = unbounded();
        let (accepting, answer) = (server.clone(), Arc::new(answer));
        thread::spawn(move || {
            for mut request in accepting.incoming_requests() {
                let (sender, answer) = (sender.clone(), answer.clone());
                thread::spawn(move || {
                    let seen = read_request(&mut request);
                    let _ = sender.send(seen.clone());
                    let _ = request.respond(answer(&seen));
                });
            }
        });
        Fake { url: format!("http://{address}"), received, server }
    }

    /// Answers every request with this status and text at once.
    pub fn with(status: u16, text: &'static str) -> Fake {
        Fake::answering(move |_| Fake::reply(status, text))
    }

    /// Answers every request so once the gate is open.
    pub fn behind(gate: &Gate, status: u16, text: &'static str) -> Fake {
        let gate = gate.clone();
        Fake::answering(move |_| {
            gate.pass();
            Fake::reply(status, text)
        })
    }

    /// A reply for [`Fake::answering`].
    pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let length = body.len();
        let body: Box<dyn Read + Send> = Box::new(io::Cursor::new(body));
        tiny_http::Response::new(status.into(), Vec::new(), body, Some(length), None)
    }

    /// The next request that arrives.
    pub fn next(&self) -> Received {
        self.received.recv_timeout(SOON).expect("a request at the backend")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

fn read_request(request: &mut tiny_http::Request) -> Received {
    let mut body = Vec::new();
    let _ = request.as_reader().read_to_end(&mut body);
    let field = |header: &tiny_http::Header| (header.field.to_string(), header.value.to_string());
    Received {
        method: request.method().to_string(),
        target: request.url().to_owned(),
        fields: request.headers().iter().map(field).collect(),
        body,
    }
}

/// A backend on raw sockets.
pub struct Raw {
    pub url: String,
    pub address: SocketAddr,
    /// All bytes of each request that arrives whole.
    pub requests: Receiver<Vec<u8>>,
    accepted: Arc<AtomicUsize>,
    hung_up: Receiver<()>,
    stopped: Arc<AtomicBool>,
}

/// A listener on whose connections there is so little room for what isn't read that a sender of a megabyte has to wait.
pub fn cramped_listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener).set_recv_buffer_size(4096).expect("a small buffer");
    listener
}

/// One connection of a [`Raw`] backend.
pub struct Connection {
    pub stream: TcpStream,
    /// Which connection of its backend it is, from 0.
    pub number: usize,
    buffer: Vec<u8>,
    requests: Sender<Vec<u8>>,
    hung_up: Sender<()>,
}

impl Raw {
    /// Serves every connection by the function, on a thread of its own.
    pub fn serving(serve: impl Fn(Connection) + Send + Sync + 'static) -> Raw {
        Raw::on(TcpListener::bind("127.0.0.1:0").expect("a port"), serve)
    }

    /// The same with so little room for what isn't read that a sender of a megabyte has to wait.
    pub fn cramped(serve: impl Fn(Connection) + Send + Sync + 'static) -> Raw {
        Raw::on(cramped_listener(), serve)
    }

    /// The same on a listener of the test's choice.
    pub fn on(listener: TcpListener, serve: impl Fn(Connection) + Send + Sync + 'static) -> Raw {
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (sender, hung_up) = unbounded();
        let (request_sender, requests) = unbounded();
        let (count, stop, serve) = (accepted.clone(), stopped.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let _ = stream.set_read_timeout(Some(SOON));
                let _ = stream.set_write_timeout(Some(SOON));
                let _ = stream.set_nodelay(true);
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (requests, hung_up) = (request_sender.clone(), sender.clone());
                let connection = Connection { stream, number, buffer: Vec::new(), requests, hung_up };
                let serve = serve.clone();
                thread::spawn(move || serve(connection));
            }
        });
        Raw { url: format!("http://{address}"), address, requests, accepted, hung_up, stopped }
    }

    /// Answers every request on every connection with these bytes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Raw {
        let bytes = bytes.into();
        Raw::serving(move |mut connection| {
            while connection.request().is_some() {
                connection.send(&bytes);
            }
        })
    }

    /// Answers every request with its own target.
    pub fn echoing() -> Raw {
        Raw::serving(|mut connection| {
            while let Some(request) = connection.request() {
                connection.reply(200, Received::parse(&request).target);
            }
        })
    }

    /// Reads requests and never answers; tells when it is hung up on.
    pub fn hanging() -> Raw {
        Raw::serving(|mut connection| {
            while connection.request().is_some() {}
            connection.wait_for_hang_up();
        })
    }

    /// Reads requests, begins each answer with these bytes, tells it, and never goes on.
    pub fn stuck_behind(bytes: impl Into<Vec<u8>>) -> (Raw, Receiver<()>) {
        let (bytes, (sender, begun)) = (bytes.into(), unbounded());
        let raw = Raw::serving(move |mut connection| {
            if connection.request().is_some() {
                connection.send(&bytes);
                let _ = sender.send(());
            }
            connection.wait_for_hang_up();
        });
        (raw, begun)
    }

    /// How many connections have been made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The next request that arrives whole, on whichever connection.
    pub fn next(&self) -> Vec<u8> {
        self.requests.recv_timeout(SOON).expect("a request at the backend")
    }

    /// Waits until one of the connections notices that it was hung up on.
    pub fn expect_hang_up(&self) {
        self.hung_up.recv_timeout(SOON).expect("the backend is hung up on");
    }

    /// Whether one of the connections notices a hang-up before the time is over.
    pub fn is_hung_up_on_within(&self, time: Duration) -> bool {
        self.hung_up.recv_timeout(time).is_ok()
    }

    /// Whether a connection has been hung up on by now.
    pub fn was_hung_up_on(&self) -> bool {
        !self.hung_up.is_empty()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, so that the port is closed.
        let _ = TcpStream::connect(self.address);
    }
}

impl Connection {
    /// Reads one request with its Content-Length body: all its bytes, or `None` if the connection ends.
    pub fn request(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = whole_request(&self.buffer) {
                let request: Vec<u8> = self.buffer.drain(..length).collect();
                let _ = self.requests.send(request.clone());
                return Some(request);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Reads the head of a request: its bytes, or `None` if the connection ends. What follows is left unread.
    pub fn head(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        Some(head)
    }

    /// Reads until the connection ends, in order or not: what came.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an open connection");
    }

    /// Reads one request, but keeps neither its body nor itself: its head, or `None` if the connection ends. For many
    /// requests, or long ones.
    pub fn request_head(&mut self) -> Option<String> {
        let mut bytes = vec![0; 64 * 1024];
        let end = loop {
            if let Some(end) = head_length(&self.buffer) {
                break end;
            }
            let count = self.stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
            self.buffer.extend_from_slice(&bytes[..count]);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let mut length = end + body_length(&head);
        while length > self.buffer.len() {
            length -= self.buffer.len();
            self.buffer.clear();
            let count = self.stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
            self.buffer.extend_from_slice(&bytes[..count]);
        }
        self.buffer.drain(..length);
        Some(head)
    }

    /// Sends bytes; a proxy that has hung up is no failure here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a reply with a Content-Length.
    pub fn reply(&mut self, status: u16, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
    }

    /// Reads nothing until the proxy hangs up, in whatever way, or its client has waited for much too long.
    pub fn wait_for_close(&self) {
        let mut polled = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let late = Timespec::try_from(2 * SOON).expect("a short time");
        let _ = poll(&mut polled, Some(&late));
    }

    /// Waits until the proxy hangs up, and tells it.
    pub fn wait_for_hang_up(&mut self) {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(1..) => {}
                // Nothing for much too long: the test has failed, and this is no hanging up.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return,
                Ok(0) | Err(_) => break,
            }
        }
        let _ = self.hung_up.send(());
    }
}

/// How long the request is that these bytes begin with, if all of it is there.
pub(super) fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = head_length(bytes)?;
    let length = head + body_length(&String::from_utf8_lossy(&bytes[..head]));
    (bytes.len() >= length).then_some(length)
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

fn body_length(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0)
}

/// A backend that can't be reached: its host drops what it is sent, since the queue of a listener that never accepts is
/// full. Connecting to it takes until the timeout.
pub struct Deaf {
    pub url: String,
    pub address: SocketAddr,
    listener: Socket,
    waiting: Vec<TcpStream>,
}

impl Deaf {
    pub fn new() -> Deaf {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("an address").as_socket().expect("IPv4");
        let waiting = (0..8).map_while(|_| TcpStream::connect_timeout(&address, BRIEFLY).ok()).collect::<Vec<_>>();
        assert!(waiting.len() < 8, "the queue is never full");
        Deaf { url: format!("http://{address}"), address, listener, waiting }
    }

    /// It can be reached from now on, and answers each connection with these bytes at once.
    pub fn answer(self, bytes: &'static [u8]) -> Raw {
        let Deaf { listener, waiting, .. } = self;
        listener.listen(128).expect("listening");
        drop(waiting);
        Raw::on(listener.into(), move |mut connection| {
            connection.send(bytes);
            connection.wait_for_hang_up();
        })
    }

    /// Whether it is being connected to just now.
    pub fn is_being_dialed(&self) -> bool {
        self.attempts() > 0
    }

    /// How many connections to it are being made just now, as the kernel says.
    pub fn attempts(&self) -> usize {
        // Columns: number, local address, remote address, state; 02 is SYN_SENT. All in hexadecimal.
        let remote = format!(":{:04X} 02 ", self.address.port());
        std::fs::read_to_string("/proc/self/net/tcp").expect("Linux").matches(&remote).count()
    }
}

/// The URL of a port that refuses connections.
pub fn refusing() -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("IPv4");
    // Taken as long as the tests run, so that none of them listens there.
    std::mem::forget(socket);
    format!("http://{address}")
}
