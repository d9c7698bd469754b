//! Fake backends: an independent HTTP server (`tiny_http`) that answers as told, and raw sockets for what no server does.
//! Both say what they received.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{BRIEFLY, SOON};

/// A request as a backend saw it.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
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

    /// Reads requests and never answers; tells when it is hung up on.
    pub fn hanging() -> Raw {
        Raw::serving(|mut connection| {
            while connection.request().is_some() {}
            connection.wait_for_hang_up();
        })
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

    /// Reads one request, but keeps neither its body nor itself: its head, or `None` if the connection ends. For many
    /// requests, or long ones.
    pub fn head(&mut self) -> Option<String> {
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

    /// Waits until the proxy hangs up, and tells it.
    pub fn wait_for_hang_up(&mut self) {
        let mut bytes = [0; 1024];
        while matches!(self.stream.read(&mut bytes), Ok(1..)) {}
        let _ = self.hung_up.send(());
    }
}

fn whole_request(bytes: &[u8]) -> Option<usize> {
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

/// A port whose backlog is full and that nobody accepts from: it drops SYNs.
pub struct DropsSyns {
    pub url: String,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl DropsSyns {
    pub fn new() -> DropsSyns {
        // So many fit into the shortest backlog, and one that doesn't.
        const FILLING: usize = 4;
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("an address").as_socket().expect("an address of IPv4");
        let fill = |_| TcpStream::connect_timeout(&address, BRIEFLY).ok();
        let waiting: Vec<TcpStream> = (0..FILLING).map_while(fill).collect();
        assert!(waiting.len() < FILLING, "the backlog is full");
        DropsSyns { url: format!("http://{address}"), _listener: listener, _waiting: waiting }
    }
}

/// The URL of a port that refuses connections.
pub fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
