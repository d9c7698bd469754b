//! Connects to a backend: to one address after the other, a quarter of a second apart, few at a time, and the first that
//! connects is used (RFC 8305 §5). Its leg waits in the poller. Knows nothing of names or of what is said on the connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::connect::resolving::Tried;
use crate::upstream::connect::timer::Timer;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::permit::Permit;

/// The delay between attempts that RFC 8305 §5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most attempts of one leg at once. With three, each has 750 ms before the next but two takes its place, more than it
/// takes round the earth; the last ones have until the deadline.
const ATTEMPTS_MAX: usize = 3;
/// The first delay until a Unix socket is asked again whose queue is full; each is twice the last, up to [`ATTEMPT_DELAY`], so that
/// thousands of legs keep no core busy. The kernel tells of no room.
const QUEUE_DELAY: Duration = Duration::from_millis(10);
/// Keepalive: a backend that vanished without a word is noticed on an idle connection after 15 + 3 x 5 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// The time after the idle timeout at which the kernel ends a connection while the proxy's bytes are unacknowledged, or the
/// backend has had no room for them: until then a backend may take its time, and the leg's own deadline is the one that gives
/// it up.
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(30);

/// A leg that is connecting.
pub(crate) struct Dialing {
    endpoint: Arc<Endpoint>,
    addresses: Vec<SocketAddr>,
    /// The count of addresses that have been tried.
    begun: usize,
    /// The attempts under way, the oldest first.
    attempts: Vec<Attempt>,
    /// The permit for the next attempt: the leg's own for its first, or that of one that has failed.
    permit: Option<Permit>,
    /// The outcome of the last attempt that failed.
    failure: Option<Outcome>,
    timer: Option<Arc<Timer>>,
    next_at: Instant,
    /// The delay until a Unix socket whose queue is full is asked again.
    queue_delay: Duration,
    deadline: Instant,
}

/// One socket that is connecting, or has connected. It is non-blocking for life.
pub(crate) struct Attempt {
    /// The timer with which the socket is watched, once the leg has waited.
    timer: Option<Arc<Timer>>,
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
    pub(crate) permit: Permit,
}

/// The result of a step of dialing.
pub(crate) enum Dialed {
    Connected(Attempt),
    Pending(Dialing),
    /// None of the addresses has connected.
    Failed(Tried),
}

impl Dialing {
    /// Prepares to dial; nothing is under way yet.
    pub(crate) fn new(
        endpoint: &Arc<Endpoint>,
        addresses: Vec<SocketAddr>,
        permit: Option<Permit>,
        deadline: Instant,
        now: Instant,
    ) -> Dialing {
        Dialing {
            endpoint: endpoint.clone(),
            addresses,
            begun: 0,
            attempts: Vec::new(),
            permit,
            failure: None,
            timer: None,
            next_at: now,
            queue_delay: QUEUE_DELAY,
            deadline,
        }
    }

    /// Dials as far as it goes without waiting: looks at the attempts, and begins those that are due. Doesn't block.
    pub(crate) fn advance(mut self, now: Instant) -> Dialed {
        loop {
            if let Some(connected) = self.take_connected(now) {
                return Dialed::Connected(connected);
            }
            if now >= self.deadline {
                let full_queue = self.failure.take().filter(|failure| matches!(failure, Outcome::RefusedAtSocket(_)));
                return self.fail(full_queue.unwrap_or(Outcome::ConnectTimeout));
            }
            let is_due = now >= self.next_at;
            match self.addresses.get(self.begun) {
                Some(address) if is_due => self.begin_next(*address, now),
                None if self.attempts.is_empty() => {
                    let failure = self.failure.take().unwrap_or(Outcome::Unreachable);
                    return self.fail(failure);
                }
                _ => return Dialed::Pending(self),
            }
        }
    }

    /// The place where the leg parks: it is woken when an attempt may have connected or failed, or the next is due, or the leg
    /// is hung up on. Doesn't block.
    pub(crate) fn readiness(&mut self, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        let is_last = self.begun == self.addresses.len();
        let until = if is_last { self.deadline } else { self.deadline.min(self.next_at) };
        let timer = self.timer.get_or_insert_with(|| Timer::new(self.endpoint.poller(), until)).clone();
        timer.set_deadline(until);
        for attempt in &mut self.attempts {
            attempt.watch(&timer)?;
        }
        timer.arm(token)
    }

    fn begin_next(&mut self, address: SocketAddr, now: Instant) {
        self.begun += 1;
        let permit = match self.next_permit() {
            Ok(permit) => permit,
            Err(outcome) => return self.note_failure(outcome),
        };
        let path = self.endpoint.socket();
        match begin(address, path) {
            Ok(socket) => {
                self.next_at = now + ATTEMPT_DELAY;
                self.attempts.push(Attempt { timer: None, socket, address, permit });
            }
            Err(error) => {
                let outcome = path.map_or_else(|| outcome_of(&error), |path| refused_at(path, &error));
                let is_queue_full = path.is_some() && error.kind() == io::ErrorKind::WouldBlock;
                self.note_failed(permit, outcome, now);
                if is_queue_full {
                    self.put_off(now);
                }
            }
        }
    }

    /// Takes back an attempt that has met a full queue: it is made again soon.
    fn put_off(&mut self, now: Instant) {
        self.begun -= 1;
        self.next_at = now + self.queue_delay;
        self.queue_delay = (self.queue_delay * 2).min(ATTEMPT_DELAY);
    }

    /// Takes a permit for the next attempt: each counts as a connection. If there may be no more of them, the oldest attempt
    /// ends.
    fn next_permit(&mut self) -> Result<Permit, Outcome> {
        if let Some(permit) = self.permit.take() {
            return Ok(permit);
        }
        if self.attempts.len() < ATTEMPTS_MAX {
            match self.endpoint.permit() {
                Err(_) if !self.attempts.is_empty() => {}
                taken => return taken,
            }
        }
        Ok(self.attempts.remove(0).permit)
    }

    /// Takes an attempt that has connected. Those that have failed are dropped; then the next is due at once.
    fn take_connected(&mut self, now: Instant) -> Option<Attempt> {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get(at) {
            let failure = match is_connected(&attempt.socket) {
                Ok(false) => {
                    at += 1;
                    continue;
                }
                Ok(true) if is_connected_to_itself(&attempt.socket) => {
                    // With a reset at the close its port isn't left in TIME_WAIT, in which the backend couldn't listen there.
                    let _ = attempt.socket.set_linger(Some(Duration::ZERO));
                    Outcome::Refused
                }
                Ok(true) => return Some(self.attempts.remove(at)),
                Err(outcome) => outcome,
            };
            let Attempt { permit, .. } = self.attempts.remove(at);
            self.note_failed(permit, failure, now);
        }
        None
    }

    fn note_failed(&mut self, permit: Permit, outcome: Outcome, now: Instant) {
        self.permit.get_or_insert(permit);
        self.note_failure(outcome);
        self.next_at = now;
    }

    /// Notes the last failure, but what this host lacks (an IPv6 address of its own, say) only if no address of the backend's has failed.
    fn note_failure(&mut self, outcome: Outcome) {
        if outcome != Outcome::NoSocket || self.failure.is_none() {
            self.failure = Some(outcome);
        }
    }

    fn fail(mut self, outcome: Outcome) -> Dialed {
        let (addresses, permit) = (std::mem::take(&mut self.addresses), self.permit.take());
        Dialed::Failed(Tried { addresses, permit, outcome })
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.end();
        }
    }
}

impl Attempt {
    fn watch(&mut self, timer: &Arc<Timer>) -> Result<(), Outcome> {
        if self.timer.is_none() {
            self.timer.insert(timer.clone()).watch(&self.socket)?;
        }
        Ok(())
    }

    /// Takes the connected socket out of the poller, which gives no more events for it.
    pub(crate) fn into_connected(self) -> (Socket, SocketAddr, Permit) {
        let Attempt { timer, socket, address, permit } = self;
        if let Some(timer) = timer {
            timer.unwatch(&socket);
        }
        (socket, address, permit)
    }
}

/// Begins to connect. Doesn't block.
fn begin(address: SocketAddr, path: Option<&Path>) -> io::Result<Socket> {
    if let Some(path) = path {
        return connect_unix(path);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

/// Connects to a Unix socket, at once or not at all: where its queue is full, that is an error, too.
fn connect_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The outcome of a leg that can't connect to this Unix socket.
fn refused_at(path: &Path, error: &io::Error) -> Outcome {
    let is_socket = || fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) if is_socket() => "nothing listens there",
        Some(Errno::CONNREFUSED) => "it isn't a socket",
        Some(Errno::PROTOTYPE) => "it isn't a stream socket",
        Some(Errno::NOENT) => "no such file",
        Some(Errno::NOTDIR) => "a part of its path isn't a directory",
        Some(Errno::ACCESS | Errno::PERM) => "permission denied",
        Some(Errno::AGAIN) => "its queue is full",
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return Outcome::NoSocket,
        _ => &error.to_string(),
    };
    Outcome::RefusedAtSocket(format!("{}: {reason}", path.display()))
}

/// Whether it has connected; an error says why it won't.
fn is_connected(socket: &Socket) -> Result<bool, Outcome> {
    match socket.take_error() {
        Ok(None) => Ok(socket.peer_addr().is_ok()),
        Ok(Some(error)) | Err(error) => Err(outcome_of(&error)),
    }
}

/// Whether both ends are one: nothing listens at an address of this host, and the kernel has chosen that very port for the near
/// end. Those of a Unix socket differ, since the near one has no name.
fn is_connected_to_itself(socket: &Socket) -> bool {
    matches!((socket.local_addr(), socket.peer_addr()), (Ok(near), Ok(far)) if near == far)
}

/// The most bytes that a connection takes beyond those that its backend has room for: a backend that never reads mustn't fill
/// the kernel's memory, which all connections of a host share. Those on their way don't count, so a long way is filled all the
/// same.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// Has a connection notice when its backend vanishes, and take no more than it can send soon. Called once it has connected:
/// until then the leg's own timeout bounds it.
pub(crate) fn prepare(socket: &Socket, idle_timeout: Duration) -> Result<(), Outcome> {
    if socket.domain().is_ok_and(|domain| domain == Domain::UNIX) {
        // The kernel tells of its end at once.
        return Ok(());
    }
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(idle_timeout + USER_TIMEOUT_MARGIN)))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
    set.map_err(|error| outcome_of(&error))
}

/// Lets the backend leave the proxy's bytes unread for as long as it likes: Linux would end the connection when the time that
/// [`prepare`] sets is over, even if bytes come the other way meanwhile. Whether anything moves is for the tunnel to judge; a
/// backend that vanished is noticed by the probes, as long as nothing is unacknowledged.
pub(crate) fn clear_user_timeout(socket: &Socket) {
    // An error means that the connection is gone already.
    let _ = socket.set_tcp_user_timeout(None);
}

/// Turns an error of a system call on the way to a backend into the outcome of its leg.
fn outcome_of(error: &io::Error) -> Outcome {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => Outcome::Refused,
        Some(Errno::TIMEDOUT) => Outcome::ConnectTimeout,
        Some(Errno::CONNRESET) => Outcome::Reset,
        Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => {
            Outcome::NoSocket
        }
        _ => Outcome::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::message::Address;
    use crate::runtime::poller::{Event, EventHandler, Poller};
    use crate::upstream::conn::connection::{Connection, OwnedConnection};
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::endpoint::Place;
    use crate::upstream::{ConnectOptions, SystemLookup, Upstream};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A backend to which there may be `connections_max` connections, and a poller for its legs. The backend itself isn't
    /// connected to.
    fn endpoint(connections_max: usize) -> (Arc<Endpoint>, Arc<Upstream>) {
        endpoint_at(Place::Url, connections_max)
    }

    fn endpoint_at(place: Place, connections_max: usize) -> (Arc<Endpoint>, Arc<Upstream>) {
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let options = ConnectOptions { connections_max, ..ConnectOptions::default() };
        let upstream = Upstream::new(options, Arc::new(SystemLookup), poller).expect("no roots of its own");
        (
            Endpoint::new(
                Address::parse("http://127.0.0.1:1").expect("an address"),
                place,
                upstream.clone(),
                None,
                || {},
            ),
            upstream,
        )
    }

    /// Was seen as: with backends that aren't near, one of two threads had all clients, the other all connections to backends.
    #[test]
    fn clients_and_connections_are_shared_out_as_if_no_leg_had_waited_to_connect() {
        struct Client;
        impl EventHandler for Client {
            fn on_event(self: Arc<Self>, _: Event) {}
        }
        let (_socket, _waiting, silent) = full_backlog();
        let (poller, _event_loops) = Poller::shared_by(2).expect("a poller");
        let upstream = Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller.clone());
        let address = Address::parse("http://127.0.0.1:1").expect("an address");
        let endpoint = Endpoint::new(address, Place::Url, upstream.expect("no roots of its own"), None, || {});
        let come = |_| {
            poller.reserve().start(Arc::new(Client));
            let dialing = Dialing::new(&endpoint, vec![silent], None, soon(), Instant::now());
            let Dialed::Pending(mut dialing) = dialing.advance(Instant::now()) else { panic!("it waits") };
            assert!(dialing.readiness(&CancelToken::default()).is_ok());
            let (near, _far) = UnixStream::pair().expect("two sockets");
            let connection = Connection::open(Socket::from(near), &poller).expect("a place in the poller");
            OwnedConnection::new(connection)
        };
        let connections: Vec<_> = (0..10).map(come).collect();
        assert_eq!(poller.counts(), [10, 10]);
        drop(connections);
        assert_eq!(poller.counts(), [5, 5], "of the clients");
    }

    /// Dials as a leg does.
    fn dial(addresses: &[SocketAddr], deadline: Instant, token: &CancelToken) -> Result<SocketAddr, Outcome> {
        dial_at(Place::Url, addresses, deadline, token)
    }

    fn dial_at(
        place: Place,
        addresses: &[SocketAddr],
        deadline: Instant,
        token: &CancelToken,
    ) -> Result<SocketAddr, Outcome> {
        let (endpoint, _) = endpoint_at(place, 16);
        let mut dialing = Dialing::new(&endpoint, addresses.to_vec(), None, deadline, Instant::now());
        loop {
            dialing = match dialing.advance(Instant::now()) {
                Dialed::Connected(attempt) => {
                    let (socket, address, _) = attempt.into_connected();
                    let peer = socket.peer_addr().expect("a peer");
                    assert!(peer.is_unix() || peer.as_socket() == Some(address));
                    return Ok(address);
                }
                Dialed::Failed(Tried { outcome, .. }) => return Err(outcome),
                Dialed::Pending(mut dialing) => {
                    wait_for(&dialing.readiness(token)?);
                    dialing
                }
            };
            token.disarm().map_err(|_| Outcome::Cancelled)?;
        }
    }

    /// Was seen as: `refused`, of which of three sockets and why was anybody's guess.
    #[test]
    fn a_socket_that_takes_no_connection_is_told_by_its_path_and_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").expect("a file");
        drop(UnixListener::bind(path("left")).expect("a socket"));
        let _datagrams = UnixDatagram::bind(path("datagrams")).expect("a socket");
        let (_full, _waiting) = full_queue(&path("full"));
        let rows = [
            ("none", "no such file"),
            ("left", "nothing listens there"),
            ("file", "it isn't a socket"),
            ("file/x", "a part of its path isn't a directory"),
            ("datagrams", "it isn't a stream socket"),
            ("full", "its queue is full"),
        ];
        for (name, reason) in rows {
            let expected = format!("{}: {reason}", path(name).display());
            let error = connect_unix(&path(name)).expect_err(name);
            assert_eq!(refused_at(&path(name), &error), Outcome::RefusedAtSocket(expected), "{name}");
        }
        let denied = refused_at(Path::new("/x"), &Errno::ACCESS.into());
        assert_eq!(denied, Outcome::RefusedAtSocket("/x: permission denied".to_owned()));
        assert_eq!(refused_at(Path::new("/x"), &Errno::MFILE.into()), Outcome::NoSocket);
    }

    /// A Unix socket whose queue is full, and what waits in it.
    fn full_queue(path: &Path) -> (Socket, UnixStream) {
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        full.bind(&SockAddr::unix(path).expect("a path")).expect("a socket");
        full.listen(0).expect("it listens");
        let waiting = UnixStream::connect(path).expect("a place");
        (full, waiting)
    }

    /// Was seen as: while a backend at a Unix socket accepted nothing for a second, all requests beyond its queue were lost at once.
    #[test]
    fn a_socket_whose_queue_is_full_is_asked_again_later_and_later_until_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full");
        let (full, _waiting) = full_queue(&path);
        let (endpoint, upstream) = endpoint_at(Place::Socket(path), 16);
        let (mut now, address) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut dialing = Dialing::new(&endpoint, vec![address], None, now + Duration::from_secs(10), now);
        for delay in [10, 20, 40, 80, 160, 250, 250] {
            for early in [false, true] {
                let Dialed::Pending(pending) = dialing.advance(now) else { panic!("it waits for {delay} ms") };
                let (next_in, count) = (pending.next_at - now, upstream.connections.load(Ordering::Relaxed));
                let expected = Duration::from_millis(delay - u64::from(early));
                assert_eq!((next_in, pending.attempts.len(), count), (expected, 0, 1));
                now += if early { expected } else { Duration::from_millis(1) };
                dialing = pending;
            }
        }
        full.accept().expect("what waited");
        let Dialed::Connected(connected) = dialing.advance(now) else { panic!("there is room") };
        assert!(connected.socket.peer_addr().expect("a peer").is_unix());
    }

    #[test]
    fn the_wait_for_room_in_a_queue_ends_by_room_or_as_refused_at_the_deadline_or_by_a_cancel() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full");
        let (full, _waiting) = full_queue(&path);
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 1))];
        let dial = |deadline, token: &CancelToken| dial_at(Place::Socket(path.clone()), &addresses, deadline, token);
        let refused = Outcome::RefusedAtSocket(format!("{}: its queue is full", path.display()));
        assert_eq!(dial(Instant::now() + Duration::from_millis(25), &CancelToken::default()), Err(refused));
        let token = CancelToken::default();
        thread::scope(|scope| {
            let dialing = scope.spawn(|| dial(soon(), &token));
            token.cancel();
            assert_eq!(dialing.join().expect("no panic"), Err(Outcome::Cancelled));
            let dialing = scope.spawn(|| dial(soon(), &CancelToken::default()));
            full.accept().expect("what waited");
            assert_eq!(dialing.join().expect("no panic"), Ok(addresses[0]));
        });
    }

    /// A port that drops SYNs: nothing is accepted and the backlog is full.
    fn full_backlog() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(0).expect("listening");
        let address = socket.local_addr().expect("an address").as_socket().expect("IPv4");
        let fill = |_| TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
        let waiting = (0..4).map_while(fill).collect();
        (socket, waiting, address)
    }

    fn open_and_closed_port() -> (TcpListener, SocketAddr, SocketAddr) {
        let open = TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let address = open.local_addr().expect("an address");
        (open, address, closed)
    }

    /// Was seen as: with `--idle-timeout 10m` uploads and tunnels were cut after 31 s in which the backend read nothing.
    #[test]
    fn a_backend_that_vanishes_is_noticed_but_not_before_its_silence_is_too_long() {
        let (_listener, open, _) = open_and_closed_port();
        let socket = Socket::from(TcpStream::connect(open).expect("a connection"));
        for seconds in [0, 5, 60, 600, 24 * 60 * 60] {
            let idle_timeout = Duration::from_secs(seconds);
            assert_eq!(prepare(&socket, idle_timeout), Ok(()));
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().expect("an option"), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().expect("an option"), KEEPALIVE_PROBES);
            let user_timeout = socket.tcp_user_timeout().expect("an option");
            assert_eq!(user_timeout, Some(idle_timeout + Duration::from_secs(30)), "{idle_timeout:?}");
        }
        clear_user_timeout(&socket);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), None, "in a tunnel there is none");
    }

    #[test]
    fn a_refusing_address_is_passed_over_at_once() {
        let (_listener, open, closed) = open_and_closed_port();
        assert_eq!(dial(&[closed, open], soon(), &CancelToken::default()), Ok(open));
        assert_eq!(dial(&[closed], soon(), &CancelToken::default()), Err(Outcome::Refused));
    }

    /// Was seen as: the proxy's own request came back as the answer of a backend that didn't run, which then couldn't be started.
    #[test]
    fn a_connection_to_itself_is_refused_and_leaves_its_port_free() {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let looped = socket();
        looped.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let near = looped.local_addr().expect("an address");
        looped.connect(&near).expect("it connects to itself");
        let (endpoint, address) = (endpoint(16).0, near.as_socket().expect("IPv4"));
        let mut dialing = Dialing::new(&endpoint, vec![address], None, soon(), Instant::now());
        let permit = endpoint.permit().expect("a permit");
        dialing.attempts.push(Attempt { timer: None, socket: looped, address, permit });
        dialing.begun = 1;
        let Dialed::Failed(tried) = dialing.advance(Instant::now()) else { panic!("nothing listens there") };
        assert_eq!(tried.outcome, Outcome::Refused);
        socket().bind(&near).expect("a backend may take the port");
    }

    #[test]
    fn a_silent_address_delays_the_next_by_a_quarter_second() {
        let (_listener, open, _) = open_and_closed_port();
        let (_socket, _waiting, silent) = full_backlog();
        let began = Instant::now();
        assert_eq!(dial(&[silent, open], soon(), &CancelToken::default()), Ok(open));
        assert!(began.elapsed() >= ATTEMPT_DELAY);
    }

    #[test]
    fn the_deadline_ends_the_wait() {
        let (_socket, _waiting, silent) = full_backlog();
        for addresses in [&[silent] as &[_], &[silent, silent]] {
            let deadline = Instant::now() + Duration::from_millis(300);
            assert_eq!(dial(addresses, deadline, &CancelToken::default()), Err(Outcome::ConnectTimeout));
        }
    }

    #[test]
    fn a_cancel_ends_the_wait() {
        let (_socket, _waiting, silent) = full_backlog();
        let token = CancelToken::default();
        let dialing = thread::spawn({
            let token = token.clone();
            move || dial(&[silent, silent], Instant::now() + Duration::from_secs(60), &token)
        });
        token.cancel();
        assert_eq!(dialing.join().expect("no panic"), Err(Outcome::Cancelled));
    }

    /// Was seen as: a name with 20 dead addresses took 20,000 descriptors, none of them counted.
    #[test]
    fn few_attempts_of_a_leg_run_at_once_and_each_counts_as_a_connection() {
        let (_listener, open, _) = open_and_closed_port();
        let (_socket, _waiting, silent) = full_backlog();
        for (connections_max, attempts_max) in [(100, ATTEMPTS_MAX), (2, 1)] {
            let (endpoint, upstream) = endpoint(connections_max);
            let addresses = [vec![silent; 20], vec![open]].concat();
            let mut now = Instant::now();
            let mut dialing = Dialing::new(&endpoint, addresses, None, now + Duration::from_secs(60), now);
            for round in 1..=20 {
                let Dialed::Pending(pending) = dialing.advance(now) else { panic!("round {round}") };
                let count = upstream.connections.load(Ordering::Relaxed);
                assert_eq!((pending.begun, pending.attempts.len(), count), (round, count, round.min(attempts_max)));
                dialing = pending;
                now += ATTEMPT_DELAY;
            }
            let Dialed::Connected(connected) = dialing.advance(now) else { panic!("the last one connects") };
            assert_eq!((connected.address, upstream.connections.load(Ordering::Relaxed)), (open, 1));
            drop(connected);
            assert_eq!(upstream.connections.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_leg_for_which_there_may_be_no_connection_dials_nothing() {
        let (_listener, open, _) = open_and_closed_port();
        let (endpoint, _) = endpoint(0);
        let now = Instant::now();
        let Dialed::Failed(tried) = Dialing::new(&endpoint, vec![open; 3], None, soon(), now).advance(now) else {
            panic!()
        };
        assert_eq!(tried.outcome, Outcome::NoSocket);
    }

    /// Was seen as: where a name has an IPv6 address and the host none, a backend that refused had "no port left".
    #[test]
    fn what_this_host_lacks_hides_no_failure_of_the_backend() {
        let (refused, lacking) = (Outcome::Refused, Outcome::NoSocket);
        for (failures, expected) in
            [([&refused, &lacking], &refused), ([&lacking, &refused], &refused), ([&lacking, &lacking], &lacking)]
        {
            let mut dialing = Dialing::new(&endpoint(16).0, Vec::new(), None, soon(), Instant::now());
            for failure in failures {
                dialing.note_failure(failure.clone());
            }
            let Dialed::Failed(tried) = dialing.advance(Instant::now()) else { panic!("no address is left") };
            assert_eq!(tried.outcome, *expected);
        }
    }
}
