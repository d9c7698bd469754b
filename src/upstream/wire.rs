//! A connection to a backend: its socket, which any thread can hang up on, and what has happened to it. A leg can have its
//! request sent here and wait in the poller. Knows nothing of what the bytes mean, nor of when it may be used again.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::SpliceFlags;
use rustls::ClientConnection;
use socket2::Socket;

use super::ahead::Ahead;
use super::sending::{Call, Judge, Progress};
use super::session::{Seen, Session};
use super::slot::{Slot, Wake};
use super::story::Story;
use super::waiting::when_readable;
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
    is_hung_up: AtomicBool,
    story: Story,
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
            is_hung_up: AtomicBool::new(false),
            story: Story::new(),
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
        self.story.begin();
        self.slot.begin();
    }

    /// The last request is done with: its body is let go.
    pub(super) fn let_go(&self) {
        let call = std::mem::take(&mut *lock(&self.call));
        drop(call);
    }

    /// Sends of a request what is in memory, without waiting, and has the leg woken when the answer is here, or the socket's
    /// end, or the deadline; at once, if that isn't all or the socket didn't take it.
    pub(super) fn send_ahead(&self, request: Ahead, head_by: Instant, wake: Wake) {
        // Everything is set before the first byte goes out, since the answer may come at once; under the lock, also how
        // much has gone out. It never waits.
        let mut call = lock(&self.call);
        let missed = self.slot.put(wake);
        self.set_deadline(head_by);
        *call = Call::begin(request, head_by, self);
        let is_out = call.is_out();
        drop(call);
        if !is_out {
            self.slot.wake_if(|_| true);
        } else if missed {
            self.look_and_wake();
        }
    }

    /// Goes on with a request that isn't out, unless `judge` finds an answer that is here already; without one nothing is looked
    /// at. Doesn't wait, but reads files.
    pub(super) fn send_more(&self, judge: Option<Judge>, silence_max: Duration) -> Progress {
        self.with_call(|call| call.go_on(self, judge, silence_max))
    }

    /// Has a leg that waits go on, as if there were nothing more to wait for.
    pub(super) fn wake(&self) {
        self.slot.wake_for_good();
    }

    /// Does what may read files, so not under the lock: whoever runs the leg does it, and nobody else asks meanwhile.
    fn with_call<T>(&self, work: impl FnOnce(&mut Call) -> T) -> T {
        let mut call = std::mem::take(&mut *lock(&self.call));
        let done = work(&mut call);
        *lock(&self.call) = call;
        done
    }

    /// A request is out that took more than one go: has the leg woken as after [`Wire::send_ahead`].
    pub(super) fn await_head(&self, head_by: Instant, wake: Wake) {
        self.set_deadline(head_by);
        lock(&self.call).await_head(head_by);
        // A deadline for sending may just have passed. What else may have happened meanwhile is seen by a look: the edges of
        // it are used up.
        self.slot.begin();
        self.slot.put(wake);
        self.look_and_wake();
    }

    /// Has a leg woken that has looked already and wants more: by what comes from now on, or has come since the look. Its
    /// deadline stands.
    pub(super) fn await_more(&self, wake: Wake) {
        if self.slot.put(wake) {
            self.look_and_wake();
        }
    }

    /// Has a leg go on at the first event, also one that has been missed, or when it is time.
    pub(super) fn await_event(&self, until: Instant, wake: Wake) {
        self.set_deadline(until);
        if self.slot.put(wake) {
            self.slot.wake_if(|_| true);
        }
    }

    /// Whether no more of the answer will come before its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.slot.is_over()
    }

    /// What has happened.
    pub(super) fn story(&self) -> &Story {
        &self.story
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
            if let Seen::Failed(kind) = seen {
                self.story.note_failed(kind);
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

    /// Whether the bytes that come next are the body's next, as they are.
    pub(super) fn is_movable(&self) -> bool {
        self.story.held() == 0 && self.session.is_bare()
    }

    /// Moves bytes into a pipe that has room, without copying them. Waits for them until the deadline.
    pub(super) fn move_into(&self, pipe: BorrowedFd, most: usize, deadline: Instant) -> io::Result<usize> {
        let splice = || Ok(rustix::pipe::splice(&self.socket, None, pipe, None, most, SpliceFlags::NONBLOCK)?);
        when_readable(self, deadline, splice)
    }

    /// Reads what has been decrypted, if the connection has TLS. Waits until the deadline.
    pub(super) fn read(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        when_readable(self, deadline, || self.session.read(&self.socket, buffer))
    }

    /// Takes as many bytes as go without waiting.
    pub(super) fn send(&self, parts: &[IoSlice]) -> io::Result<usize> {
        self.session.send(&self.socket, parts).inspect_err(|error| self.story.note_failed(error.kind()))
    }

    /// Sends what TLS has made of them, as far as that goes without waiting: how many bytes, and whether that is all.
    pub(super) fn send_records(&self) -> io::Result<(usize, bool)> {
        self.session.send_records(&self.socket).inspect_err(|error| self.story.note_failed(error.kind()))
    }

    /// The side of TLS.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Until when the leg waits, if its own clock runs.
    pub(super) fn leg_deadline(&self) -> Option<Instant> {
        lock(&self.call).until()
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

    /// Whether the peer has ended the connection or reset it. What came before may still be unread.
    pub(super) fn has_ended(&self) -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        poll(&mut polled, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }

    /// How many bytes of an answer have come and haven't been read, if that can be told.
    pub(super) fn count_unread(&self) -> Option<u64> {
        Some(self.story.held() as u64 + self.session.count(&self.socket)?)
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

    /// Whether all of the request is on the wire.
    pub(super) fn is_request_out(&self) -> bool {
        lock(&self.call).is_out()
    }

    /// Whether no byte of the request has gone out.
    pub(super) fn is_request_untouched(&self) -> bool {
        lock(&self.call).is_untouched()
    }

    /// How long the head of the request is, in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        lock(&self.call).head_bytes()
    }

    /// What ureq wants to write next must be what is meant.
    pub(super) fn compare_with_request(&self, bytes: &[u8]) -> io::Result<()> {
        self.with_call(|call| call.compare(bytes))
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
        self.is_hung_up.store(true, Ordering::Release);
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
                Seen::Begin(_) | Seen::End | Seen::Failed(_) => true,
            })
        });
    }

    fn set_deadline(&self, deadline: Instant) {
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(Some(deadline));
        }
    }
}

impl Owner for Wire {
    fn turn(self: Arc<Self>, turn: Turn) {
        match (turn, self.ready.get()) {
            // A connection has its own end: its leg's answer, its deadline, or its token's hang-up.
            (Turn::Drain, _) => {}
            // Once it is hung up on, its leg ends without a thread; before that it would take one.
            (Turn::Cut, _) if !self.is_hung_up.load(Ordering::Acquire) => {}
            (Turn::Ready { .. } | Turn::Expired | Turn::Cut, Some(ready)) => ready(),
            (Turn::Ready { read_closed: false, dead: false }, None) => self.look_and_wake(),
            (Turn::Ready { .. } | Turn::Expired | Turn::Cut, None) => self.slot.wake_for_good(),
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
