//! Three small backends inside the process, for `--demo`: one quick, one slow, one that fails now and then.
//! Knows nothing of the proxy, which reaches them like any other backend.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::config::{AdminToken, Config, Listen, reached_at};
use crate::downstream::{Frontend, Limits, Listener};
use crate::message::{Address, Networks, Reply, ReplyTo, Request};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex};

/// The time that the slow backend thinks: long enough to be seen, and to lose every race.
const SLOW: Duration = Duration::from_millis(300);

/// The distance of the flaky backend's failures: every third request fails.
const FAILS_EVERY: usize = 3;

/// The most connections of one backend. A demo is tried out by a few: 256 at once are many.
const CONNECTIONS_MAX: usize = 256;

/// The longest silence of a connection within a reply.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest head in bytes: as long as the proxy takes one by default.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What targets that are raced before one's eyes begin with: the backends that are quick take their time for them.
pub const SHOWN: &str = "/show/";

/// The running backends. They answer until the process ends; dropping this neither stops them nor waits.
pub struct Demo {
    backends: Vec<(Character, SocketAddr)>,
    /// The first backend's own: it can be killed.
    first: Poller,
}

/// The behaviour of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Character {
    Quick,
    Slow,
    Flaky,
}

impl Demo {
    /// Starts the backends on free ports of 127.0.0.1, with a thread for the first and one for the others. An error means
    /// that the host lacks something.
    pub fn start() -> io::Result<Demo> {
        let ((first, first_loop), (others, other_loop)) = (Poller::new()?, Poller::new()?);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let characters = [(Character::Quick, &first), (Character::Slow, &others), (Character::Flaky, &others)];
        let backends = characters
            .into_iter()
            .map(|(character, poller)| Ok((character, Backend::listen(character, free, poller)?)));
        let backends = backends.collect::<io::Result<_>>()?;
        for event_loop in [first_loop, other_loop] {
            thread::Builder::new().name("demo".into()).spawn(move || event_loop.run())?;
        }
        Ok(Demo { backends, first })
    }

    /// Kills the first backend: its connections break, and new ones are refused.
    pub fn kill_first(&self) {
        self.first.broadcast(Event::Cut);
    }

    /// Has the first backend listen again where it did.
    pub fn revive_first(&self) -> io::Result<()> {
        let (character, address) = self.backends[0];
        Backend::listen(character, address, &self.first).map(|_| ())
    }

    /// The backends' names, as the proxy has them, and in a word what they are like.
    pub fn names(&self) -> impl Iterator<Item = (String, &'static str)> {
        self.backends.iter().enumerate().map(|(index, (character, _))| (format!("b{}", index + 1), character.name()))
    }

    /// Has the demo listen on free ports where those that it would take by default are taken. Gives what is to be told of that.
    pub fn avoid_taken_ports(config: &mut Config) -> Option<String> {
        let is_taken = |listen: &Listen| {
            let bound = listen.tcp_address().map(TcpListener::bind);
            bound.is_some_and(|bound| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse))
        };
        let free = Listen::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut taken = Vec::new();
        for (listen, port) in [(&mut config.listen, 8080), (&mut config.admin_listen, 8081)] {
            if *listen == Listen::loopback(port) && listen.iter().any(is_taken) {
                *listen = vec![free.clone()];
                taken.push(port.to_string());
            }
        }
        let verb = if taken.len() > 1 { "are" } else { "is" };
        (!taken.is_empty()).then(|| format!("{} {verb} taken: the demo listens on free ports", taken.join(" and ")))
    }

    /// The backends' addresses.
    pub fn addresses(&self) -> Vec<Address> {
        self.backends.iter().map(|(_, address)| as_backend(*address)).collect()
    }

    /// The text for the user: each backend with its address, two commands to try against the proxy at `proxy`, which takes
    /// updates at `admin`, too, unless that is `None`, and the status page there. What this host may not ask for isn't named.
    pub fn invitation(&self, config: &Config, proxy: SocketAddr, admin: Option<SocketAddr>) -> String {
        let mut text = "Three backends race for every request:\n".to_owned();
        for (character, address) in &self.backends {
            writeln!(text, "  {} {}", as_backend(*address), character.description()).expect("a string takes all");
        }
        let race = format!("  curl -i http://{}/hello\n", reached_at(proxy));
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
        if let Some(page) = reachable(config, admin) {
            writeln!(text, "See the races in a browser:\n  http://{page}/").expect("a string takes all");
        }
        text
    }
}

impl fmt::Debug for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demo").field("backends", &self.backends).finish_non_exhaustive()
    }
}

/// The address that takes an update from this host.
fn update_address(config: &Config, proxy: SocketAddr, admin: Option<SocketAddr>) -> Option<SocketAddr> {
    reachable(config, admin.into_iter().chain(config.admin_on_proxy_port.then_some(proxy)))
}

/// The first of these addresses at which the guard lets this host in: what is sent comes from the address that it goes to.
fn reachable(config: &Config, addresses: impl IntoIterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let is_let_in = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        config.admin_token.is_some() || ip.is_loopback() || Networks::new(&config.admin_from).contain(ip)
    };
    addresses.into_iter().map(reached_at).find(is_let_in)
}

/// The curl option that shows the token, without revealing it.
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
}

/// One of the backends.
struct Backend {
    character: Character,
    requests: AtomicUsize,
    delayed: Arc<Delayed>,
}

impl Backend {
    /// Accepts there from now on, on the poller's thread. Returns the address.
    fn listen(character: Character, address: SocketAddr, poller: &Poller) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let limits = Limits::new(HEAD_BYTES_MAX, u64::MAX, &std::env::temp_dir());
        let frontend = Frontend::new(poller.clone(), limits, CONNECTIONS_MAX, SILENCE_MAX);
        let backend = Backend { character, requests: AtomicUsize::new(0), delayed: Delayed::new(poller) };
        let handler = move |request: Box<Request>, reply_to: Box<dyn ReplyTo>| backend.handle(&request, reply_to);
        Listener::open(frontend, listener.into(), Event::Cut, Arc::new(handler), None)?;
        Ok(address)
    }

    fn reply(&self, request: &Request) -> Reply {
        let nth = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let (status, verb) = match self.character {
            Character::Flaky if nth.is_multiple_of(FAILS_EVERY) => (StatusCode::SERVICE_UNAVAILABLE, "fails"),
            _ => (StatusCode::OK, "answers"),
        };
        let (name, method, target) = (self.character.name(), &request.method, request.target.as_str());
        Reply::text(status, format!("the {name} backend {verb}: {method} {target}"))
    }

    /// The time that it thinks about a request. Where races are shown the quick ones take as long as can be seen, each time
    /// another time.
    fn delay(&self, request: &Request) -> Option<Duration> {
        let is_shown = request.target.path().starts_with(SHOWN);
        let nth = self.requests.load(Ordering::Relaxed) as u64;
        match self.character {
            Character::Slow => Some(SLOW),
            Character::Quick if is_shown => Some(Duration::from_millis(40 + nth * 37 % 120)),
            Character::Flaky if is_shown => Some(Duration::from_millis(30 + nth * 53 % 180)),
            Character::Quick | Character::Flaky => None,
        }
    }

    /// Answers the request, now or when it has thought about it.
    fn handle(&self, request: &Request, reply_to: Box<dyn ReplyTo>) {
        let reply = self.reply(request);
        match self.delay(request) {
            Some(delay) => self.delayed.send(reply, reply_to, Instant::now() + delay),
            None => reply_to.send(reply, Box::new(|_| ())),
        }
    }
}

/// Replies that are sent later, in the order in which they are due. No more of them wait than there are connections.
struct Delayed {
    registration: Registration,
    waiting: Mutex<VecDeque<(Instant, Reply, Box<dyn ReplyTo>)>>,
}

impl Delayed {
    fn new(poller: &Poller) -> Arc<Delayed> {
        let delayed = Arc::new(Delayed { registration: poller.reserve(), waiting: Mutex::default() });
        delayed.registration.start(delayed.clone());
        delayed
    }

    /// Sends the reply at that instant. Doesn't block.
    fn send(&self, reply: Reply, reply_to: Box<dyn ReplyTo>, at: Instant) {
        let mut waiting = self.waiting.lock();
        let place = waiting.partition_point(|(other, ..)| *other <= at);
        waiting.insert(place, (at, reply, reply_to));
        if place == 0 {
            self.registration.set_deadline(Some(at));
        }
    }
}

impl EventHandler for Delayed {
    fn on_event(self: Arc<Self>, _: Event) {
        let due: Vec<_> = {
            let (now, mut waiting) = (Instant::now(), self.waiting.lock());
            let count = waiting.iter().take_while(|(at, ..)| *at <= now).count();
            let due = waiting.drain(..count).collect();
            self.registration.set_deadline(waiting.front().map(|(at, ..)| *at));
            due
        };
        for (_, reply, reply_to) in due {
            reply_to.send(reply, Box::new(|_| ()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn connect(demo: &Demo, character: Character) -> BufReader<TcpStream> {
        let (_, address) = demo.backends.iter().find(|(other, _)| *other == character).expect("one of three");
        let socket = TcpStream::connect(address).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        BufReader::new(socket)
    }

    /// Reads the status line and the body of the next reply.
    fn reply(connection: &mut BufReader<TcpStream>) -> (String, String) {
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
        let mut body = vec![0; length];
        connection.read_exact(&mut body).expect("a body");
        (status.trim_end().to_owned(), String::from_utf8(body).expect("UTF-8"))
    }

    fn ask(connection: &mut BufReader<TcpStream>, request: &str) -> (String, String) {
        connection.get_mut().write_all(request.as_bytes()).expect("written");
        reply(connection)
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
    fn the_first_backend_dies_and_comes_back() {
        let demo = Demo::start().expect("started");
        let mut before = connect(&demo, Character::Quick);
        assert_eq!(ask(&mut before, GET).1, "the quick backend answers: GET /x\n");
        demo.kill_first();
        let mut end = String::new();
        assert!(before.read_line(&mut end).is_ok_and(|bytes| bytes == 0) || end.is_empty());
        let (_, address) = demo.backends[0];
        assert!(TcpStream::connect(address).is_err());
        demo.revive_first().expect("its port is free");
        assert_eq!(ask(&mut connect(&demo, Character::Quick), GET).1, "the quick backend answers: GET /x\n");
    }

    #[test]
    fn the_demo_goes_elsewhere_only_where_its_own_ports_are_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let given = vec![Listen::from(taken.local_addr().expect("an address"))];
        let mut config = Config { listen: given.clone(), admin_listen: Vec::new(), ..Config::new(Vec::new()) };
        assert_eq!(Demo::avoid_taken_ports(&mut config), None, "what is asked for is done, or fails");
        assert_eq!(config.listen, given);
        let own = Listen::loopback(8080);
        let listeners: Vec<_> =
            own.iter().map(|listen| TcpListener::bind(listen.tcp_address().expect("TCP"))).collect();
        let is_taken = listeners.iter().any(Result::is_ok);
        let mut config = Config { listen: own, admin_listen: Vec::new(), ..Config::new(Vec::new()) };
        let told = Demo::avoid_taken_ports(&mut config);
        if is_taken {
            assert_eq!(told.as_deref(), Some("8080 is taken: the demo listens on free ports"));
            assert_eq!(config.listen, [Listen::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]);
        }
    }

    #[test]
    fn slow_replies_to_many_come_at_once_and_not_one_after_another() {
        let demo = Demo::start().expect("started");
        let began = Instant::now();
        let mut connections: Vec<_> = (0..20).map(|_| connect(&demo, Character::Slow)).collect();
        for connection in &mut connections {
            connection.get_mut().write_all(GET.as_bytes()).expect("written");
        }
        for connection in &mut connections {
            assert_eq!(reply(connection).1, "the slow backend answers: GET /x\n");
        }
        assert!((SLOW..10 * SLOW).contains(&began.elapsed()), "{:?}", began.elapsed());
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
            let race = reached_at(parsed(proxy));
            assert!(text.contains(&format!("  curl -i http://{race}/hello\n")), "{label}: {text}");
            let expected = update.map(|update| {
                format!("curl --fail-with-body -X POST 'http://{update}/-update-backends?backends={slow}'")
            });
            assert_eq!(text.contains("update-backends"), expected.is_some(), "{label}: {text}");
            assert!(expected.is_none_or(|expected| text.contains(&expected)), "{label}: {text}");
            let page = admin.filter(|admin| update == Some(*admin)).map(|admin| format!("  http://{admin}/\n"));
            assert_eq!(text.contains("in a browser"), page.is_some(), "{label}: {text}");
            assert!(page.is_none_or(|page| text.ends_with(&page)), "{label}: {text}");
            assert!(demo.addresses().iter().all(|address| text.contains(&address.to_string())), "{label}: {text}");
        }
    }
}
