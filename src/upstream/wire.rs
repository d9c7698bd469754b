//! A connection to a backend: its socket, which any thread can hang up on, and what has happened to it. A leg can have its
//! request sent here and wait in the poller. Knows nothing of what the bytes mean, nor of when it may be used again.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::pipe::SpliceFlags;
use rustls::ClientConnection;
use socket2::Socket;

use super::ahead::Ahead;
use super::session::{Seen, Session};
use super::slot::{Slot, Wake};
use super::waiting::Waiting;
use crate::poller::{Owner, Poller, Turn, Watch};
use crate::race::HangUp;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A connection's socket and its story, shared by the transport, its line, the poller and the token of the current leg.
pub(super) struct Wire {
    socket: Socket,
    session: Session,
    call: Mutex<Call>,
    slot: Slot,
    watch: OnceLock<Watch>,
    /// Who is told of every event once the protocol is switched.
    ready: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What ureq has left unread of a connection whose protocol is switched.
    left: Mutex<Option<Vec<u8>>>,
    /// A byte of the current answer has come.
    answered: AtomicBool,
    /// The peer reset the connection.
    reset: AtomicBool,
    /// So much of the answer is in the buffer that the next read won't wait.
    buffered: AtomicBool,
    /// ureq holds bytes of the answer that nobody has read.
    held: AtomicBool,
    /// ureq has read an answer to its end and would use the connection again.
    reusable: AtomicBool,
}

/// What the current call has done before ureq knows of it.
#[derive(Default)]
struct Call {
    ahead: Option<Ahead>,
    /// All of the request is on the wire.
    is_out: bool,
    /// Until when the head of the answer must be here.
    head_by: Option<Instant>,
}

/// What ureq drops after a 101, but for the socket.
pub(super) struct Left {
    pub(super) tls: Option<Box<ClientConnection>>,
    /// Bytes that came behind the head.
    pub(super) input: Vec<u8>,
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Arc<Wire> {
        Arc::new(Wire {
            socket,
            session: Session::default(),
            call: Mutex::default(),
            slot: Slot::default(),
            watch: OnceLock::new(),
            ready: OnceLock::new(),
            left: Mutex::default(),
            answered: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            buffered: AtomicBool::new(false),
            held: AtomicBool::new(false),
            reusable: AtomicBool::new(false),
        })
    }

    /// Has the poller wake legs that wait here, until [`Wire::leave_poller`].
    pub(super) fn join_poller(self: &Arc<Wire>, poller: &Poller) -> io::Result<()> {
        if self.watch.get().is_some() {
            return Ok(());
        }
        let watch = poller.watch_all(&self.socket, self.clone())?;
        let _ = self.watch.set(watch);
        Ok(())
    }

    /// Whoever reads what comes needs no turns for it.
    pub(super) fn rest_in_poller(&self) {
        if let Some(watch) = self.watch.get() {
            watch.rest(&self.socket);
        }
    }

    /// The poller gives turns again.
    pub(super) fn wake_in_poller(&self) -> io::Result<()> {
        self.watch.get().map_or(Ok(()), |watch| watch.wake(&self.socket))
    }

    /// Whether its turns are given on the current thread.
    pub(super) fn is_here(&self) -> bool {
        self.watch.get().is_some_and(Watch::is_here)
    }

    pub(super) fn leave_poller(&self) {
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
    }

    /// The connection has just been made. The turns that told of its end, or of bytes that came with the last of the
    /// handshake, are used up: the first leg to wait must look.
    pub(super) fn note_made(&self) {
        self.slot.miss();
    }

    /// A new request goes out.
    pub(super) fn begin(&self) {
        self.answered.store(false, Ordering::Release);
        self.slot.begin();
        *lock(&self.call) = Call::default();
    }

    /// Sends a request without waiting, and has the leg woken when the answer is here, or the socket's end, or the
    /// deadline; at once, if the socket didn't take all of it. An error gives the wake back: it took nothing, and is of no
    /// use any more.
    pub(super) fn send_ahead(&self, mut request: Ahead, head_by: Instant, wake: Wake) -> Result<(), Wake> {
        // Everything is set before the first byte goes out, since the answer may come at once; under the lock, also how
        // much has gone out. It never waits.
        let mut call = lock(&self.call);
        let missed = self.slot.put(wake);
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(Some(head_by));
        }
        let sent = request.send(|parts| self.session.send(&self.socket, parts));
        let is_out = matches!(sent, Ok(true));
        *call = Call { ahead: Some(request), is_out, head_by: Some(head_by) };
        drop(call);
        match sent {
            Ok(true) if missed => self.look_and_wake(),
            Ok(true) => {}
            Ok(false) => self.slot.wake_if(|_| true),
            // If an event has taken it already, whoever runs the leg finds out.
            Err(_) => return self.slot.take().map_or(Ok(()), Err),
        }
        Ok(())
    }

    /// Has a leg woken that has looked already and wants more: by what comes from now on, or has come since the look. Its
    /// deadline stands.
    pub(super) fn await_more(&self, wake: Wake) {
        if self.slot.put(wake) {
            self.look_and_wake();
        }
    }

    /// Has a leg go on at the first event, also one that has been missed, or when it is time.
    pub(super) fn await_event(self: &Arc<Wire>, poller: &Poller, until: Instant, wake: Wake) -> io::Result<()> {
        // Before the leg waits, since it may go on and come back at once.
        self.join_poller(poller)?;
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(Some(until));
        }
        if self.slot.put(wake) {
            self.slot.wake_if(|_| true);
        }
        Ok(())
    }

    /// Whether no more of the answer will come before its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.slot.is_over()
    }

    pub(super) fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    pub(super) fn has_buffered(&self) -> bool {
        self.buffered.load(Ordering::Acquire)
    }

    pub(super) fn holds_bytes(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn is_reusable(&self) -> bool {
        self.reusable.load(Ordering::Acquire)
    }

    /// One look: no bytes that nobody asked for, and no end.
    pub(super) fn is_quiet(&self) -> bool {
        // Before the look: what it doesn't see comes later.
        self.slot.forget_missed();
        self.look(|seen| seen == Seen::Nothing)
    }

    /// Looks at the first bytes that are here; they stay to be read.
    pub(super) fn look<T>(&self, look: impl FnOnce(Seen) -> T) -> T {
        self.session.look(&self.socket, |seen| {
            if seen == Seen::Reset {
                self.note_reset();
            }
            look(seen)
        })
    }

    /// Looks at what the last look has shown, and no further.
    pub(super) fn look_again<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        self.session.look_again(look)
    }

    /// Drops so many bytes that a look has shown.
    pub(super) fn skip(&self, count: usize) {
        self.session.skip(count);
    }

    /// Notes whether ureq holds bytes of an answer, and whether by these the next read of its body won't wait.
    pub(super) fn note_buffered(&self, held: bool, buffered: bool) {
        self.held.store(held, Ordering::Release);
        self.buffered.store(buffered, Ordering::Release);
    }

    /// Whether the bytes that come next are the body's next, as they are.
    pub(super) fn is_movable(&self) -> bool {
        !self.holds_bytes() && self.session.is_bare()
    }

    /// Moves bytes into a pipe that has room, without copying them. Waits for them until the deadline.
    pub(super) fn move_into(&self, pipe: BorrowedFd, most: usize, deadline: Instant) -> io::Result<usize> {
        let waiting = self.until(deadline);
        waiting.when_readable(|| Ok(rustix::pipe::splice(&self.socket, None, pipe, None, most, SpliceFlags::NONBLOCK)?))
    }

    /// Notes that ureq would use the connection again, or that it is using it.
    pub(super) fn note_reusable(&self, reusable: bool) {
        self.reusable.store(reusable, Ordering::Release);
    }

    /// Notes that the peer has reset the connection.
    pub(super) fn note_reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// Notes that a byte of an answer has come.
    pub(super) fn note_answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// Reads what has been decrypted, if the connection has TLS. Waits until the deadline.
    pub(super) fn read(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.session.read(&mut self.until(deadline), buffer)
    }

    /// Writes all of it, under TLS if the connection has it. Waits until the deadline.
    pub(super) fn write_all(&self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.session.write_all(&mut self.until(deadline), bytes)
    }

    /// The side of TLS.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Until when the head of the answer must be here, if the leg's own clock runs.
    pub(super) fn head_by(&self) -> Option<Instant> {
        lock(&self.call).head_by
    }

    /// The socket as bytes that come and go, each wait of it until the deadline.
    fn until(&self, deadline: Instant) -> Waiting<'_> {
        Waiting::new(self, deadline)
    }

    /// Keeps what ureq drops unread, if anybody asks for it.
    pub(super) fn leave(&self, input: Vec<u8>) {
        *lock(&self.left) = Some(input);
    }

    /// What ureq has dropped after a 101.
    pub(super) fn take_left(&self) -> Option<Left> {
        let mut input = lock(&self.left).take()?;
        let (tls, shown) = self.session.take();
        input.extend(shown);
        Some(Left { tls, input })
    }

    /// Has `ready` called at every event from now on.
    pub(super) fn when_ready(&self, ready: Box<dyn Fn() + Send + Sync>) {
        let _ = self.ready.set(ready);
    }

    /// The socket as bytes that come and go; what would have to wait is an error.
    pub(super) fn now(&self) -> &Socket {
        &self.socket
    }

    /// Nothing more will be written.
    pub(super) fn end_writing(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The connection ends with a reset when the socket is closed.
    pub(super) fn reset_at_close(&self) {
        // An error means that it is gone already.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Whether all of the request has been sent ahead.
    pub(super) fn is_request_out(&self) -> bool {
        lock(&self.call).is_out
    }

    /// What ureq wants to write next: how much of it is on the wire already.
    pub(super) fn compare_with_ahead(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.call).ahead.as_mut().map_or(Ok(0), |ahead| ahead.compare(bytes))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl HangUp for Wire {
    fn hang_up(&self) {
        // With a reset at the close no port is left in TIME_WAIT: there are 28,000 of them for a minute.
        self.reset_at_close();
        // It wakes whoever reads, writes or waits in the poller. An error means that the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Wire {
    fn look_and_wake(&self) {
        self.slot.wake_if(|is_due| {
            self.look(|seen| match seen {
                // An edge of an earlier answer, or of a socket that can be written to.
                Seen::Nothing => false,
                Seen::Bytes(here) => is_due(here),
                Seen::Enough | Seen::Reset => true,
            })
        });
    }
}

impl Owner for Wire {
    fn turn(self: Arc<Self>, turn: Turn) {
        if let Some(ready) = self.ready.get() {
            return ready();
        }
        if turn == (Turn::Ready { read_closed: false, dead: false }) {
            self.look_and_wake();
        } else {
            self.slot.wake_for_good();
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
