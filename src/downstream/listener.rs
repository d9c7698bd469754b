//! Accepts clients. Knows nothing of what they send.

use crate::runtime::sync::{Arc, Mutex};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::{Frontend, Handler, ListenerContext};
use crate::runtime::poller::{Event, EventHandler, Registration};

/// Clients accepted in one turn: the others' sockets want the poller's thread, too.
const ACCEPTS_MAX: usize = 128;
/// How long accepting pauses when there are no descriptors. The kernel queues meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// How much of a reply may wait in the kernel to be sent, beside what is on its way. It is told that there is room again when
/// half of it has gone, and by default that are megabytes: a client that takes some kilobytes a second would look as if it
/// took nothing for a minute.
const UNSENT_BYTES: u32 = 64 * 1024;

/// A listening socket.
pub struct Listener {
    context: Arc<ListenerContext>,
    /// `None` once the house drains: closed, not shut down, since another process may hold the same socket.
    socket: Mutex<Option<mio::net::TcpListener>>,
    registration: Registration,
    /// What ends it: `Drain`, or `Cut` where somebody may want to know that the house closes.
    until: Event,
}

/// What became of one attempt to accept.
enum Accepted {
    One,
    /// Nobody waits.
    None,
    /// Nobody can be let in before then.
    Full(Instant),
}

impl Listener {
    /// Has the poller accept clients on this socket, from now until [`Event::Drain`] or [`Event::Cut`].
    pub fn open(
        frontend: Arc<Frontend>,
        socket: TcpListener,
        until: Event,
        handler: Arc<dyn Handler>,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit it.
        SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        let registration = frontend.poller.reserve();
        let context = Arc::new(ListenerContext { frontend, handler });
        let socket = Mutex::new(Some(mio::net::TcpListener::from_std(socket)));
        let listener = Arc::new(Listener { context, socket, registration, until });
        listener.registration.start(listener.clone());
        listener.watch().inspect_err(|_| listener.registration.end())?;
        // Clients that came before raise no further edge.
        listener.again_at(Instant::now());
        Ok(())
    }

    fn watch(&self) -> io::Result<()> {
        self.socket.lock().as_ref().map_or(Ok(()), |socket| self.registration.watch_reads(socket))
    }

    fn accept_all(&self) {
        for _ in 0..ACCEPTS_MAX {
            match self.accept() {
                Accepted::One => {}
                Accepted::None => return,
                Accepted::Full(until) => return self.again_at(until),
            }
        }
        self.again_at(Instant::now());
    }

    fn again_at(&self, at: Instant) {
        self.registration.set_deadline(Some(at));
    }

    fn accept(&self) -> Accepted {
        let frontend = &self.context.frontend;
        let socket = self.socket.lock();
        let Some(listener) = socket.as_ref() else { return Accepted::None };
        if frontend.table.is_full() {
            let now = Instant::now();
            if !is_anybody_there(listener) {
                return Accepted::None;
            }
            // A client wants to come in.
            if let Err(until) = frontend.table.evict_one(now) {
                return Accepted::Full(until);
            }
        }
        match listener.accept() {
            Ok((socket, peer)) => {
                // Under the lock: once the house drains, everybody who was let in is counted, and so waited for.
                let opened =
                    socket.set_nodelay(true).and_then(|()| Client::open(self.context.clone(), socket.into(), peer));
                if let Err(error) = opened {
                    log::warn!("cannot watch the client {peer}: {error}");
                }
                Accepted::One
            }
            Err(error) => after(&error),
        }
    }
}

fn is_anybody_there(listener: &impl AsFd) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
}

/// No error of accepting ends the loop.
fn after(error: &io::Error) -> Accepted {
    match error.kind() {
        io::ErrorKind::WouldBlock => Accepted::None,
        // The client left before it was accepted, or a signal came: the next one may be there.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Accepted::One,
        _ => {
            log::warn!("cannot accept a client, trying again soon: {error}");
            Accepted::Full(Instant::now() + PAUSE)
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
    use std::net::TcpStream;

    use super::*;
    use crate::downstream::Limits;
    use crate::runtime::poller::Poller;

    const SOON: Duration = Duration::from_secs(20);

    /// It is told like all others that the house closes, but by then they may all have been told.
    #[test]
    fn who_is_let_in_while_the_house_closes_may_not_be_silent_for_longer_than_others() {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let limits = Limits::new(1024, 0, &std::env::temp_dir());
        let frontend = Frontend::new(poller.clone(), limits, 16, SOON);
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        Listener::open(frontend.clone(), socket, Event::Drain, Arc::new(|_, _| {})).expect("a watch");
        frontend.drain();
        let began = Instant::now();
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(SOON)).expect("a timeout");
        assert_eq!(client.read(&mut [0]).expect("an end in order"), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        poller.stop();
    }
}
