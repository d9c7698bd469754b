//! Connects to a backend: its addresses in turn, a quarter of a second apart, and the first that connects is used
//! (RFC 8305 §5). Knows nothing of names or of what is said on the connection.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::message::Outcome;
use crate::race::{CancelToken, HangUp};
use crate::wait;

/// RFC 8305 §5: the recommended delay between attempts.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// A backend that vanished without a word is noticed on an idle connection after 15 + 3 x 5 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// And while bytes of ours are unacknowledged, after as long.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to one of the addresses before the deadline, or goes on with the attempt that has `begun`. Blocks; the token ends
/// the wait.
pub(super) fn dial(
    addresses: &[SocketAddr],
    begun: Option<Socket>,
    deadline: Instant,
    token: &CancelToken,
) -> Result<Socket, Outcome> {
    let attempts = Arc::new(Attempts(Mutex::new(begun.into_iter().map(Arc::new).collect())));
    token.arm(attempts.clone()).map_err(|_| Outcome::Cancelled)?;
    let dialed = attempts.run(addresses, deadline, token);
    token.disarm().map_err(|_| Outcome::Cancelled)?;
    dialed
}

/// Begins to connect. The socket is non-blocking for life. Doesn't block.
pub(super) fn begin(address: SocketAddr) -> Result<Socket, Outcome> {
    let connecting = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
            _ => Ok(socket),
        }
    };
    connecting().map_err(|error: io::Error| outcome_of(&error))
}

/// Whether it has connected; an error says why it won't.
pub(super) fn is_connected(socket: &Socket) -> Result<bool, Outcome> {
    match socket.take_error() {
        Ok(None) => Ok(socket.peer_addr().is_ok()),
        Ok(Some(error)) | Err(error) => Err(outcome_of(&error)),
    }
}

/// The sockets that are connecting.
struct Attempts(Mutex<Vec<Arc<Socket>>>);

impl HangUp for Attempts {
    fn hang_up(&self) {
        for socket in self.list() {
            // Wakes poll, even in SYN_SENT.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Attempts {
    fn list(&self) -> Vec<Arc<Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, addresses: &[SocketAddr], deadline: Instant, token: &CancelToken) -> Result<Socket, Outcome> {
        let mut rest = addresses.iter();
        let mut failure = Outcome::Unreachable;
        let mut next_at = Instant::now();
        loop {
            let now = Instant::now();
            if token.is_cancelled() {
                return Err(Outcome::Cancelled);
            }
            if now >= deadline {
                return Err(Outcome::ConnectTimeout);
            }
            if now >= next_at
                && let Some(address) = rest.next()
            {
                match self.add(*address, token) {
                    Ok(()) => next_at = now + ATTEMPT_DELAY,
                    Err(outcome) => failure = outcome,
                }
                continue;
            }
            if self.list().is_empty() {
                return Err(failure);
            }
            let until = if rest.len() > 0 { deadline.min(next_at) } else { deadline };
            match self.wait(until) {
                Ok(Some(connected)) => return Ok(connected),
                Ok(None) => {}
                Err(outcome) => {
                    failure = outcome;
                    next_at = now;
                }
            }
        }
    }

    /// Begins to connect, without waiting.
    fn add(&self, address: SocketAddr, token: &CancelToken) -> Result<(), Outcome> {
        let socket = begin(address)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(socket));
        // A cancel that came before the socket was in the list has missed it.
        if token.is_cancelled() { Err(Outcome::Cancelled) } else { Ok(()) }
    }

    /// Waits for the attempts: one that connected, or the failure of one.
    fn wait(&self, until: Instant) -> Result<Option<Socket>, Outcome> {
        let sockets = self.list();
        let mut polled: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
        match wait::until_any(&mut polled, until) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
            other => other.map_err(|error| outcome_of(&error))?,
        }
        let ready = polled.iter().position(|polled| !polled.revents().is_empty());
        drop(polled);
        drop(sockets);
        let Some(ready) = ready else { return Ok(None) };
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(ready);
        is_connected(&socket)?;
        Arc::into_inner(socket).map(Some).ok_or(Outcome::Cancelled)
    }
}

/// Bytes that a connection takes beyond those that its backend has room for: a backend that never reads mustn't fill the
/// kernel's memory, which all connections of a host share. Those on their way don't count, so a long way is filled all the same.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// Makes a connection one that notices when its backend vanishes, and that takes no more than it can send soon. Not before it
/// has connected: the leg's own timeout bounds that.
pub(super) fn prepare(socket: &Socket) -> Result<(), Outcome> {
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
    set.map_err(|error| outcome_of(&error))
}

/// What a failed system call on the way to a backend means.
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

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A port that drops SYNs: nobody accepts and the backlog is full.
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

    #[test]
    fn a_backend_that_vanishes_without_a_word_is_noticed() {
        let (_listener, open, _) = open_and_closed_port();
        let socket = dial(&[open], None, soon(), &CancelToken::default()).expect("a connection");
        assert_eq!(prepare(&socket), Ok(()));
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(USER_TIMEOUT));
    }

    #[test]
    fn a_refusing_address_is_passed_over_at_once() {
        let (_listener, open, closed) = open_and_closed_port();
        let socket = dial(&[closed, open], None, soon(), &CancelToken::default()).expect("a connection");
        assert_eq!(socket.peer_addr().expect("a peer").as_socket(), Some(open));
        assert_eq!(dial(&[closed], None, soon(), &CancelToken::default()).err(), Some(Outcome::Refused));
    }

    #[test]
    fn a_silent_address_delays_the_next_by_a_quarter_second() {
        let (_listener, open, _) = open_and_closed_port();
        let (_socket, _waiting, silent) = full_backlog();
        let began = Instant::now();
        let socket = dial(&[silent, open], None, soon(), &CancelToken::default()).expect("a connection");
        assert_eq!(socket.peer_addr().expect("a peer").as_socket(), Some(open));
        assert!(began.elapsed() >= ATTEMPT_DELAY);
    }

    #[test]
    fn the_deadline_ends_the_wait() {
        let (_socket, _waiting, silent) = full_backlog();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(dial(&[silent], None, deadline, &CancelToken::default()).err(), Some(Outcome::ConnectTimeout));
    }

    #[test]
    fn a_cancel_ends_the_wait() {
        let (_socket, _waiting, silent) = full_backlog();
        let token = CancelToken::default();
        let dialing = std::thread::spawn({
            let token = token.clone();
            move || dial(&[silent], None, Instant::now() + Duration::from_secs(60), &token).err()
        });
        token.cancel();
        assert_eq!(dialing.join().expect("no panic"), Some(Outcome::Cancelled));
    }
}
