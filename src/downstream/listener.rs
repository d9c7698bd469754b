//! Accepts clients. Knows nothing of what they send.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Socket, TcpKeepalive};

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::{Frontend, Handler, ListenerContext};
use crate::message::Peer;
use crate::net::server_tls::ServerTls;
use crate::runtime::poller::{Event, EventHandler, Registration};
use crate::runtime::sync::{Arc, Mutex};

/// Clients accepted in one event: the others' sockets want the poller's thread, too.
const ACCEPTS_MAX: usize = 128;
/// How long accepting pauses when there are no descriptors. The kernel queues meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How much of a reply may wait in the kernel to be sent, beside what is on its way. The kernel tells that there is room again when
/// half of it has gone, and by default that are megabytes: a client that takes some kilobytes a second would look as if it
/// took nothing for a minute.
const UNSENT_BYTES: u32 = 64 * 1024;

/// When a client that idles is asked whether it is still there, and then again how often and how many times: one that has vanished keeps
/// its place for two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A listening socket.
pub struct Listener {
    context: Arc<ListenerContext>,
    /// `None` once it has ended: closed, not shut down, since another process may hold this socket, too.
    socket: Mutex<Option<Socket>>,
    registration: Registration,
    /// Ends it: `Drain`, or `Cut` for a listener whose clients may ask how the drain goes.
    until: Event,
}

/// What became of one attempt to accept.
enum Accepted {
    One,
    /// No client waits.
    None,
    /// No client can be accepted before then.
    Full(Instant),
}

impl Listener {
    /// Has the poller accept clients on this socket, which speak TLS if that is given, from now until [`Event::Drain`] or [`Event::Cut`].
    pub fn open(
        frontend: Arc<Frontend>,
        socket: Socket,
        until: Event,
        handler: Arc<dyn Handler>,
        tls: Option<Arc<ServerTls>>,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        if socket.domain()? != Domain::UNIX {
            // Sockets that connect from now on inherit them.
            socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
            socket.set_tcp_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
            socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
        }
        let registration = frontend.poller.reserve();
        registration.watch_reads(&socket)?;
        let context = Arc::new(ListenerContext { frontend, handler, tls });
        let socket = Mutex::new(Some(socket));
        let listener = Arc::new(Listener { context, socket, registration, until });
        listener.registration.start(listener.clone());
        // Clients that came before raise no further edge.
        listener.accept_again_at(Instant::now());
        Ok(())
    }

    fn accept_all(&self) {
        for _ in 0..ACCEPTS_MAX {
            match self.accept() {
                Accepted::One => {}
                Accepted::None => return,
                Accepted::Full(until) => return self.accept_again_at(until),
            }
        }
        self.accept_again_at(Instant::now());
    }

    fn accept_again_at(&self, at: Instant) {
        self.registration.set_deadline(Some(at));
    }

    fn accept(&self) -> Accepted {
        let frontend = &self.context.frontend;
        let socket = self.socket.lock();
        let Some(listener) = socket.as_ref() else { return Accepted::None };
        if frontend.table.is_full() {
            let now = Instant::now();
            if !has_waiting_client(listener) {
                // No client is evicted for none.
                return Accepted::None;
            }
            if let Err(until) = frontend.table.evict_one(now) {
                if frontend.table.try_tell_full(now) {
                    let places = frontend.table.places();
                    log::warn!(
                        "new clients wait: all {places} places are taken, and none can be given up (--max-connections)"
                    );
                }
                return Accepted::Full(until);
            }
        }
        match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                // Under the lock: once the listener has ended, each client that it accepted is counted, and so waited for.
                let peer = address.map_or(Peer::UNIX, Peer::from);
                let peer = Peer { is_tls: self.context.tls.is_some(), ..peer };
                if let Err(error) = Client::open(self.context.clone(), socket.into(), peer.clone()) {
                    log::warn!("cannot watch the client {peer}: {error}");
                }
                Accepted::One
            }
            Err(error) => after_error(error),
        }
    }
}

fn has_waiting_client(listener: &impl AsFd) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
}

/// What an error of accept(2) means for the next attempt. None ends the listener.
fn after_error(error: Errno) -> Accepted {
    match error {
        Errno::AGAIN => Accepted::None,
        // The client left before it was accepted, or a signal came: another client may wait.
        Errno::CONNABORTED | Errno::INTR => Accepted::One,
        error => {
            log::warn!("cannot accept a client, trying again soon: {error}");
            Accepted::Full(Instant::now() + RETRY_PAUSE)
        }
    }
}

impl EventHandler for Listener {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => self.accept_all(),
            Event::Drain if self.until != Event::Drain => {}
            Event::Drain | Event::Cut => {
                self.registration.end();
                self.socket.lock().take();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::downstream::Limits;
    use crate::runtime::poller::Poller;

    const SOON: Duration = Duration::from_secs(20);

    /// Else a small write waits for the client's acknowledgement of the one before, and one that has vanished idles on.
    #[test]
    fn accepted_sockets_send_small_writes_at_once_and_ask_clients_that_idle() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let frontend = Frontend::new(poller.clone(), Limits::new(1024, 0, &std::env::temp_dir()), 16, SOON);
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let accepting = socket.try_clone().expect("a descriptor");
        Listener::open(frontend, socket.into(), Event::Drain, Arc::new(|_, _| {}), None).expect("a watch");
        accepting.set_nonblocking(false).expect("a flag");
        let _client = TcpStream::connect(accepting.local_addr().expect("an address")).expect("a connection");
        let (accepted, _) = accepting.accept().expect("a client");
        assert!(accepted.nodelay().expect("a flag"));
        let accepted = Socket::from(accepted);
        assert!(accepted.keepalive().expect("a flag"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option"), KEEPALIVE_IDLE);
        poller.stop();
    }

    /// The broadcast of the drain may have been made before the client was registered.
    #[test]
    fn a_client_that_is_accepted_during_a_drain_has_only_a_moment_for_its_first_request() {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let limits = Limits::new(1024, 0, &std::env::temp_dir());
        let frontend = Frontend::new(poller.clone(), limits, 16, SOON);
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        Listener::open(frontend.clone(), socket.into(), Event::Drain, Arc::new(|_, _| {}), None).expect("a watch");
        frontend.drain();
        let began = Instant::now();
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(SOON)).expect("a timeout");
        assert_eq!(client.read(&mut [0]).expect("an end in order"), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        poller.stop();
    }
}
