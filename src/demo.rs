//! Three small backends inside the process, for `--demo`: one quick, one slow, one that fails now and then.
//! Knows nothing of the proxy, which reaches them like any other backend.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::{AdminToken, Config, Listen};
use crate::message::{Address, Networks};

/// How long the slow backend thinks: long enough to be seen, and to lose every race.
const SLOW: Duration = Duration::from_millis(300);

/// The flaky backend fails every third request.
const FAILS_EVERY: usize = 3;

/// The most connections of one backend; more wait in the listener's backlog. Someone tries it out: 256 at once are many.
const CONNECTIONS_MAX: usize = 256;

/// The longest silence of a connection, so that forgotten ones give their places back.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest head in bytes: what the proxy lets through, doubled for what it adds.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The most fields of a head: what the proxy lets through, and what it adds.
const FIELDS_MAX: usize = 128;

/// Buffers are on the heap; a table of 128 fields takes 4 KiB of this.
const STACK_BYTES: usize = 64 * 1024;

/// The running backends. They answer until the process ends; dropping this neither stops them nor waits.
#[derive(Debug)]
pub struct Demo {
    backends: Vec<(Character, SocketAddr)>,
}

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Character {
    Quick,
    Slow,
    Flaky,
}

impl Demo {
    /// Starts the backends on free ports of 127.0.0.1.
    pub fn start() -> io::Result<Demo> {
        let characters = [Character::Quick, Character::Slow, Character::Flaky];
        let backends = characters.into_iter().map(|character| Ok((character, character.start()?)));
        Ok(Demo { backends: backends.collect::<io::Result<_>>()? })
    }

    /// The backends' addresses.
    pub fn addresses(&self) -> Vec<Address> {
        self.backends.iter().map(|(_, address)| as_backend(*address)).collect()
    }

    /// What to tell the user: who runs where, and two commands to try against the proxy at `proxy`, which takes updates at
    /// `admin`, too, unless that is `None`. Where this host may send no update, only the first.
    pub fn invitation(&self, config: &Config, proxy: SocketAddr, admin: Option<SocketAddr>) -> String {
        let mut text = "Three backends race for every request:\n".to_owned();
        for (character, address) in &self.backends {
            writeln!(text, "  {} {}", as_backend(*address), character.description()).expect("a string takes all");
        }
        let race = format!("  curl -i http://{}/hello\n", Listen::from(proxy).reached_at());
        let slow = self.backends.iter().find(|(character, _)| *character == Character::Slow);
        let slow = slow.map(|(_, address)| as_backend(*address)).expect("one backend is slow");
        match update_address(config, proxy, admin) {
            Some(update) => write!(
                text,
                "Try a race, then an update that leaves only the slow one, then a race again:\n{race}  \
                 curl --fail-with-body -X POST 'http://{update}/-update-backends?backends={slow}'{}\n",
                config.admin_token.as_ref().map(shown_token).unwrap_or_default()
            ),
            None => write!(text, "Try a race (with these flags this host can send no update):\n{race}"),
        }
        .expect("a string takes all");
        text
    }
}

/// Where an update from this host is taken: it comes from the address that it goes to.
fn update_address(config: &Config, proxy: SocketAddr, admin: Option<SocketAddr>) -> Option<SocketAddr> {
    let is_taken = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        config.admin_token.is_some() || ip.is_loopback() || Networks::new(&config.admin_from).contain(ip)
    };
    let candidates = admin.into_iter().chain(config.admin_on_proxy_port.then_some(proxy));
    candidates.map(|address| Listen::from(address).reached_at()).find(is_taken)
}

/// What shows the token, without telling it.
fn shown_token(token: &AdminToken) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    let file = match token.file() {
        file if file.bytes().all(is_plain) => file.to_owned(),
        file => format!("'{}'", file.replace('\'', r"'\''")),
    };
    format!(" -H \"Authorization: Bearer $(cat {file})\"")
}

fn as_backend(address: SocketAddr) -> Address {
    Address::parse(&format!("http://{address}")).expect("a socket's address makes a URL")
}

impl Character {
    fn name(self) -> &'static str {
        match self {
            Character::Quick => "quick",
            Character::Slow => "slow",
            Character::Flaky => "flaky",
        }
    }

    fn description(self) -> String {
        match self {
            Character::Quick => "answers at once".to_owned(),
            Character::Slow => format!("answers after {} ms", SLOW.as_millis()),
            Character::Flaky => format!("answers at once, but every {FAILS_EVERY}rd time with 503"),
        }
    }

    /// Listens, and accepts on a thread of its own.
    fn start(self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let thread = thread::Builder::new().name(format!("demo-{}", self.name())).stack_size(STACK_BYTES);
        thread.spawn(move || self.accept(&listener))?;
        Ok(address)
    }

    fn accept(self, listener: &TcpListener) {
        let requests = Arc::new(AtomicUsize::new(0));
        let (take_place, places) = bounded(CONNECTIONS_MAX);
        loop {
            let place = Place::take(&take_place, &places);
            let Ok((socket, _)) = listener.accept() else {
                // No descriptor is left, most likely: trying again at once would only burn a core.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let requests = Arc::clone(&requests);
            let thread = thread::Builder::new().name(format!("demo-{}-line", self.name())).stack_size(STACK_BYTES);
            // If no thread can be had, the closure is dropped, and with it the connection and its place.
            drop(thread.spawn(move || {
                let _place = place;
                // An error ends the connection; it is the proxy that tells about it.
                drop(self.serve(socket, &requests));
            }));
        }
    }

    /// Answers one request after the other until the connection ends.
    fn serve(self, mut socket: TcpStream, requests: &AtomicUsize) -> io::Result<()> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        socket.set_write_timeout(Some(SILENCE_MAX))?;
        let mut received = Vec::new();
        while let Some(request) = Request::read(&mut socket, &mut received)? {
            let reply = self.reply(&request, requests.fetch_add(1, Ordering::Relaxed) + 1);
            socket.write_all(reply.as_bytes())?;
            if request.is_last {
                break;
            }
        }
        Ok(())
    }

    /// The reply to the `nth` request of this backend, the first being 1.
    fn reply(self, request: &Request, nth: usize) -> String {
        if self == Character::Slow {
            thread::sleep(SLOW);
        }
        let (status, verb) = match self {
            Character::Flaky if nth.is_multiple_of(FAILS_EVERY) => ("503 Service Unavailable", "fails"),
            _ => ("200 OK", "answers"),
        };
        let body = format!("the {} backend {verb}: {} {}\n", self.name(), request.method, request.target);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if request.method == "HEAD" { head } else { head + &body }
    }
}

/// A place among a backend's connections, free again when dropped.
struct Place(Receiver<()>);

impl Place {
    /// Takes a place; blocks until there is one.
    fn take(take_place: &Sender<()>, places: &Receiver<()>) -> Place {
        take_place.send(()).expect("the accepting thread holds the other end");
        Place(places.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.try_recv().expect("whoever has a place has put it there");
    }
}

/// What a backend knows of a request. The body is read and forgotten.
struct Request {
    method: String,
    target: String,
    is_last: bool,
}

impl Request {
    /// Reads a request, body included; `None` at the end of the connection. What follows stays in `received`.
    fn read(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Request>> {
        loop {
            if let Some((request, head_bytes, body_bytes)) = Request::parse(received)? {
                received.drain(..head_bytes);
                discard(socket, received, body_bytes)?;
                return Ok(Some(request));
            }
            if received.len() > HEAD_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            if read_more(socket, received)? == 0 {
                return Ok(None);
            }
        }
    }

    /// A complete head, its length and the body's; `None` if more must come.
    fn parse(received: &[u8]) -> io::Result<Option<(Request, usize, u64)>> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Request::new(&mut fields);
        let Ok(status) = head.parse(received) else { return Err(ErrorKind::InvalidData.into()) };
        let httparse::Status::Complete(head_bytes) = status else { return Ok(None) };
        let (mut body_bytes, mut is_last) = (0, head.version == Some(0));
        for field in &*head.headers {
            let value = String::from_utf8_lossy(field.value);
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" => body_bytes = value.parse().map_err(|_| ErrorKind::InvalidData)?,
                // The proxy knows every body's length before a race begins.
                "transfer-encoding" => return Err(ErrorKind::InvalidData.into()),
                "connection" => is_last |= value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let request = Request { method: text(head.method), target: text(head.path), is_last };
        Ok(Some((request, head_bytes, body_bytes)))
    }
}

/// Takes a body of this length off the connection.
fn discard(socket: &mut TcpStream, received: &mut Vec<u8>, body_bytes: u64) -> io::Result<()> {
    let mut left = body_bytes;
    loop {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
        received.drain(..here);
        left -= here as u64;
        if left == 0 {
            return Ok(());
        }
        if read_more(socket, received)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn read_more(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    let old = received.len();
    received.resize(old + 8 * 1024, 0);
    let read = socket.read(&mut received[old..]);
    received.truncate(old + read.as_ref().map_or(0, |count| *count));
    read
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn connect(demo: &Demo, character: Character) -> BufReader<TcpStream> {
        let (_, address) = demo.backends.iter().find(|(other, _)| *other == character).expect("one of three");
        let socket = TcpStream::connect(address).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        BufReader::new(socket)
    }

    /// The status line and the body of the next reply.
    fn reply(connection: &mut BufReader<TcpStream>, has_body: bool) -> (String, String) {
        let (mut status, mut length) = (String::new(), 0);
        connection.read_line(&mut status).expect("a status line");
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).expect("a line of the head");
            match line.trim_end().strip_prefix("Content-Length: ") {
                Some(value) => length = value.parse().expect("a length"),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; if has_body { length } else { 0 }];
        connection.read_exact(&mut body).expect("a body");
        (status.trim_end().to_owned(), String::from_utf8(body).expect("UTF-8"))
    }

    fn ask(connection: &mut BufReader<TcpStream>, request: &str) -> (String, String) {
        connection.get_mut().write_all(request.as_bytes()).expect("written");
        reply(connection, !request.starts_with("HEAD"))
    }

    const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn each_backend_has_its_character() {
        let demo = Demo::start().expect("started");
        let ok = |text: &str| ("HTTP/1.1 200 OK".to_owned(), format!("the {text}: GET /x\n"));
        for (character, text) in
            [(Character::Quick, "quick backend answers"), (Character::Slow, "slow backend answers")]
        {
            assert_eq!(ask(&mut connect(&demo, character), GET), ok(text));
        }
        let mut flaky = connect(&demo, Character::Flaky);
        for nth in 1..=6 {
            let expected = match nth % 3 {
                0 => ("HTTP/1.1 503 Service Unavailable".to_owned(), "the flaky backend fails: GET /x\n".to_owned()),
                _ => ok("flaky backend answers"),
            };
            assert_eq!(ask(&mut flaky, GET), expected, "request {nth}");
        }
    }

    #[test]
    fn bodies_are_taken_off_the_connection() {
        let demo = Demo::start().expect("started");
        let mut connection = connect(&demo, Character::Quick);
        for length in [0, 1, 100_000] {
            let request = format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
            assert_eq!(ask(&mut connection, &request).1, "the quick backend answers: POST /x\n", "{length} bytes");
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let demo = Demo::start().expect("started");
        let mut connection = connect(&demo, Character::Quick);
        let requests =
            "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n";
        connection.get_mut().write_all(requests.as_bytes()).expect("written");
        assert_eq!(reply(&mut connection, true).1, "the quick backend answers: POST /1\n");
        assert_eq!(reply(&mut connection, false).1, "");
        assert_eq!(reply(&mut connection, true).1, "the quick backend answers: GET /3\n");
    }

    #[test]
    fn a_connection_ends_when_it_should() {
        let demo = Demo::start().expect("started");
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(40_000));
        let rows = [
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("nonsense\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            (long.as_str(), false),
        ];
        for (request, is_answered) in rows {
            let mut connection = connect(&demo, Character::Quick);
            connection.get_mut().write_all(request.as_bytes()).expect("written");
            let mut bytes = Vec::new();
            // Where bytes were left unread the end is a reset, which is an end, too.
            let _ = connection.read_to_end(&mut bytes);
            assert_eq!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"), is_answered, "{request:.50}");
        }
    }

    #[test]
    fn more_connections_than_places_are_served_as_places_become_free() {
        let demo = Demo::start().expect("started");
        let mut connections: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(&demo, Character::Quick)).collect();
        for connection in &mut connections {
            assert_eq!(ask(connection, GET).0, "HTTP/1.1 200 OK");
        }
        let mut waiting = connect(&demo, Character::Quick);
        waiting.get_mut().write_all(GET.as_bytes()).expect("written");
        drop(connections.pop());
        assert_eq!(reply(&mut waiting, true).0, "HTTP/1.1 200 OK");
    }

    #[test]
    fn the_invitation_names_addresses_that_work() {
        let demo = Demo::start().expect("started");
        let slow = demo.addresses()[1].to_string();
        let network = |text: &str| text.parse().expect("a network");
        let all = Config::new(Vec::new());
        let port_off = Config { admin_on_proxy_port: false, ..all.clone() };
        let from_here = Config { admin_from: vec![network("10.0.0.0/8")], ..all.clone() };
        let token = Config { admin_token: AdminToken::new("s3cret").ok(), ..port_off.clone() };
        let rows = [
            ("both ports", &all, "0.0.0.0:1", Some("127.0.0.1:2"), Some("127.0.0.1:2")),
            ("IPv6", &all, "[::]:1", Some("[::1]:2"), Some("[::1]:2")),
            ("no admin port", &all, "127.0.0.1:1", None, Some("127.0.0.1:1")),
            ("no port at all", &port_off, "127.0.0.1:1", None, None),
            ("the admin port alone", &port_off, "127.0.0.1:1", Some("127.0.0.1:2"), Some("127.0.0.1:2")),
            ("from an address that isn't loopback", &all, "10.0.0.1:1", None, None),
            (
                "from such an admin port, but not the proxy's",
                &all,
                "0.0.0.0:1",
                Some("10.0.0.1:2"),
                Some("127.0.0.1:1"),
            ),
            ("from a network that may", &from_here, "10.0.0.1:1", None, Some("10.0.0.1:1")),
            ("from anywhere by a token", &token, "10.0.0.1:1", Some("10.0.0.1:2"), Some("10.0.0.1:2")),
            ("by a token, but nowhere", &token, "10.0.0.1:1", None, None),
        ];
        for (label, config, proxy, admin, update) in rows {
            let parsed = |text: &str| text.parse::<SocketAddr>().expect("an address");
            let text = demo.invitation(config, parsed(proxy), admin.map(parsed));
            let race = Listen::from(parsed(proxy)).reached_at();
            assert!(text.contains(&format!("  curl -i http://{race}/hello\n")), "{label}: {text}");
            let expected = update.map(|update| {
                format!("curl --fail-with-body -X POST 'http://{update}/-update-backends?backends={slow}'")
            });
            assert_eq!(text.contains("update-backends"), expected.is_some(), "{label}: {text}");
            assert!(expected.is_none_or(|expected| text.contains(&expected)), "{label}: {text}");
            assert!(demo.addresses().iter().all(|address| text.contains(&address.to_string())), "{label}: {text}");
        }
    }
}
