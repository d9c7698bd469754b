//! A connection to a backend: its socket, which any thread can hang up on, and the request and the bytes on it. A leg can have its
//! request sent here and wait in the poller. Nothing here waits on a thread. Knows nothing of what the bytes mean, nor of when it may
//! be used again.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::SpliceFlags;
use socket2::Socket;

use crate::message::Ready;
use crate::runtime::cancel::HangUp;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::runtime::sync::{Arc, Mutex};
use crate::upstream::conn::byte_stream::{ByteStream, Peeked};
use crate::upstream::conn::parking::{LegParking, Readiness, Waiter};
use crate::upstream::conn::request_bytes::RequestBytes;
use crate::upstream::conn::request_writer::{Judge, Progress, RequestWriter};

/// A connection, shared by its line, the poller and the token of the current leg.
pub(crate) struct Connection {
    stream: ByteStream,
    writer: Mutex<RequestWriter>,
    parking: LegParking,
    registration: Registration,
    /// Who reads the answer's body, or the other side of a tunnel.
    reader: Mutex<Option<Ready>>,
    /// How many bytes of the answer ureq holds that haven't been read.
    held_bytes: AtomicUsize,
    is_hung_up: AtomicBool,
}

/// A wire's place in the poller, given up at the end.
pub(crate) struct OwnedConnection(Arc<Connection>);

impl Connection {
    /// Has the poller wake legs that wait here, until [`Connection::leave_poller`]. The socket must be non-blocking.
    pub(crate) fn open(socket: Socket, poller: &Poller) -> io::Result<Arc<Connection>> {
        let connection = Arc::new(Connection {
            stream: ByteStream::new(socket),
            writer: Mutex::default(),
            parking: LegParking::default(),
            registration: poller.reserve_upstream(),
            reader: Mutex::default(),
            held_bytes: AtomicUsize::new(0),
            is_hung_up: AtomicBool::new(false),
        });
        connection.registration.start(connection.clone());
        connection.registration.watch(connection.socket()).inspect_err(|_| connection.registration.end())?;
        Ok(connection)
    }

    /// Whether its turns are given on the current thread.
    pub(crate) fn is_on_current_thread(&self) -> bool {
        self.registration.is_on_current_thread()
    }

    pub(crate) fn leave_poller(&self) {
        self.registration.end();
    }

    /// The connection has just been made. The turns that told of its end, or of bytes that came with the last of the
    /// handshake, are used up: the first leg to wait must look.
    pub(crate) fn note_established(&self) {
        self.parking.notify();
    }

    /// The last request is done with: its body is let go.
    pub(crate) fn drop_request(&self) {
        let writer = std::mem::take(&mut *self.writer.lock());
        drop(writer);
    }

    /// Sends of a request what is in memory, as far as that goes without waiting.
    pub(crate) fn begin_request(&self, request: RequestBytes) {
        let writer = RequestWriter::begin(request, &self.stream);
        *self.writer.lock() = writer;
    }

    /// Goes on with a request that isn't out, unless `judge` finds an answer that is here already; without one nothing is looked
    /// at. Doesn't wait, but reads files.
    pub(crate) fn send_more(&self, judge: Option<Judge>, silence_max: Duration) -> Progress {
        // Not under the lock: whoever runs the leg does it, and nobody else asks meanwhile.
        let mut writer = std::mem::take(&mut *self.writer.lock());
        let progress = writer.send_more(&self.stream, judge, silence_max);
        *self.writer.lock() = writer;
        progress
    }

    /// Has a leg go on that waits, as if something had happened.
    pub(crate) fn wake(&self) {
        self.parking.wake();
    }

    /// One look: no bytes that nobody asked for, and no end.
    pub(crate) fn probe_idle(&self) -> bool {
        // Before the look: what it doesn't see comes later.
        self.parking.clear_notified();
        self.peek(|peeked| peeked.is_nothing())
    }

    /// Takes in what has come, and looks at it; it stays to be read.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(Peeked) -> T) -> T {
        self.stream.peek(look)
    }

    /// Looks at what has been taken in, and no further.
    pub(crate) fn with_peeked<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        self.stream.with_peeked(look)
    }

    /// Drops so many bytes that have been looked at.
    pub(crate) fn consume(&self, count: usize) {
        self.stream.consume(count);
    }

    /// Puts bytes back that have been read.
    pub(crate) fn unread(&self, bytes: Vec<u8>) {
        self.stream.unread(bytes);
    }

    /// Notes how many bytes of the answer ureq holds that haven't been read.
    pub(crate) fn set_held(&self, held: usize) {
        self.held_bytes.store(held, Ordering::Release);
    }

    /// Notes that so many of them have been read.
    pub(crate) fn reduce_held(&self, count: usize) {
        self.held_bytes.fetch_sub(count.min(self.held_bytes.load(Ordering::Acquire)), Ordering::Release);
    }

    /// Whether the bytes that come next are the body's next, as they are.
    pub(crate) fn is_movable(&self) -> bool {
        self.held_bytes.load(Ordering::Acquire) == 0 && self.stream.is_unbuffered()
    }

    /// Moves bytes into a pipe that has room, without copying them.
    pub(crate) fn move_into(&self, pipe: BorrowedFd, most: usize) -> io::Result<usize> {
        Ok(rustix::pipe::splice(self.socket(), None, pipe, None, most, SpliceFlags::NONBLOCK)?)
    }

    /// Reads what has come, and has been decrypted if the connection has TLS. What would have to wait is an error.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Its bytes, plain or out of records.
    pub(crate) fn stream(&self) -> &ByteStream {
        &self.stream
    }

    /// Has `reader` told of every event from now on, or nobody any more.
    pub(crate) fn set_reader(&self, reader: Option<Ready>) {
        let before = std::mem::replace(&mut *self.reader.lock(), reader);
        drop(before);
    }

    /// The socket, which doesn't wait.
    pub(crate) fn socket(&self) -> &Socket {
        self.stream.socket()
    }

    /// Whether the peer has ended the connection or reset it. What came before may still be unread.
    pub(crate) fn has_ended(&self) -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(self.socket(), PollFlags::RDHUP)];
        poll(&mut polled, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }

    /// How many bytes of an answer have come and haven't been read, if that can be told.
    pub(crate) fn unread_bytes(&self) -> Option<u64> {
        Some(self.held_bytes.load(Ordering::Acquire) as u64 + self.stream.unread_bytes()?)
    }

    /// Nothing more will be written.
    pub(crate) fn end_writing(&self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// The connection ends with a reset when the socket is closed.
    pub(crate) fn reset_at_close(&self) {
        // An error means that it is gone already.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// Whether all of the request is on the wire.
    pub(crate) fn is_request_out(&self) -> bool {
        self.writer.lock().is_out()
    }

    /// Whether no byte of the request has gone out.
    pub(crate) fn is_request_untouched(&self) -> bool {
        self.writer.lock().is_untouched()
    }

    /// Tells then at the latest.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.registration.set_deadline(Some(deadline));
    }
}

impl OwnedConnection {
    pub(crate) fn new(connection: Arc<Connection>) -> OwnedConnection {
        OwnedConnection(connection)
    }

    pub(crate) fn get(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for OwnedConnection {
    fn drop(&mut self) {
        self.0.leave_poller();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Readiness for Connection {
    fn park(&self, waiter: Arc<dyn Waiter>, leg: usize) -> bool {
        self.parking.park(waiter, leg, || self.set_deadline(Instant::now()))
    }

    fn withdraw(&self) {
        self.parking.withdraw();
    }
}

impl HangUp for Connection {
    fn hang_up(&self) {
        // With a reset at the close no port is left in TIME_WAIT: there are 28,000 of them for a minute.
        self.reset_at_close();
        self.is_hung_up.store(true, Ordering::Release);
        // It makes an event, by which whoever waits goes on. An error means that the connection is gone already.
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

impl EventHandler for Connection {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => {}
            // Once it is hung up on, its leg ends; before that it has its own end: an answer, a deadline, its token.
            Event::Cut if self.is_hung_up.load(Ordering::Acquire) => {}
            Event::Drain | Event::Cut => return,
        }
        let reader = self.reader.lock().clone();
        if let Some(reader) = reader {
            reader();
        }
        self.parking.wake();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", self.socket()).finish_non_exhaustive()
    }
}
