//! A connection to a backend: its socket, which any thread can hang up on, and the request and the bytes on it. A leg can have
//! its request sent here and wait in the poller. Nothing here waits on a thread. Knows nothing of what the bytes mean, nor of
//! when the connection may be used again.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use crate::message::{OnReady, Spool};
use crate::net::byte_stream::ByteStream;
use crate::runtime::cancel::HangUp;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::atomic::{AtomicBool, Ordering};
use crate::runtime::sync::{Arc, Mutex, Weak};
use crate::upstream::conn::parking::{LegParking, Readiness, Waiter};
use crate::upstream::conn::request_bytes::{Piece, RequestBytes};
use crate::upstream::conn::request_writer::{Judge, Progress, RequestWriter};

/// A connection, shared by the leg's pooled connection, the poller and the token of the current leg.
pub(crate) struct Connection {
    stream: ByteStream,
    writer: Mutex<RequestWriter>,
    parking: LegParking,
    registration: Registration,
    /// Told of every event: the reader of the answer's body, or the other side of a tunnel.
    reader: Mutex<Option<OnReady>>,
    is_hung_up: AtomicBool,
}

/// What a leg needs of its request's file before its next step. It keeps neither the file nor the connection open.
pub struct FileRead(Weak<Connection>);

/// A connection that leaves the poller when this is dropped.
pub(crate) struct OwnedConnection(Arc<Connection>);

impl Connection {
    /// Registers the connection, so that the poller wakes legs that park on it, until [`Connection::leave_poller`]. The socket
    /// must be non-blocking.
    pub(crate) fn open(socket: Socket, poller: &Poller) -> io::Result<Arc<Connection>> {
        let connection = Arc::new(Connection {
            stream: ByteStream::new(socket),
            writer: Mutex::default(),
            parking: LegParking::default(),
            registration: poller.reserve_upstream(),
            reader: Mutex::default(),
            is_hung_up: AtomicBool::new(false),
        });
        connection.registration.start(connection.clone());
        connection.registration.watch(connection.socket()).inspect_err(|_| connection.registration.end())?;
        Ok(connection)
    }

    /// Whether its events are given on the current thread.
    pub(crate) fn is_on_current_thread(&self) -> bool {
        self.registration.is_on_current_thread()
    }

    pub(crate) fn leave_poller(&self) {
        self.registration.end();
    }

    /// Has the first leg that would park look first: the events that told of the connection's end, or of bytes that came with
    /// the last of the handshake, are used up.
    pub(crate) fn note_established(&self) {
        self.parking.notify();
    }

    /// Drops the last request, and with it its body.
    pub(crate) fn drop_request(&self) {
        let writer = std::mem::take(&mut *self.writer.lock());
        drop(writer);
    }

    /// Sends what is in memory of a request, as far as that goes without waiting.
    pub(crate) fn begin_request(&self, request: RequestBytes) {
        let writer = RequestWriter::begin(request, &self.stream);
        *self.writer.lock() = writer;
    }

    /// Sends more of a request that isn't out, unless `judge` finds an answer that has been received already; without a judge
    /// nothing is looked at. Of a body in a file it sends what was read for this step. Doesn't block.
    pub(crate) fn send_more(&self, judge: Option<Judge>, silence_max: Duration) -> Progress {
        // Not under the lock: only the thread that runs the leg sends. One that reads for it finds nothing to read meanwhile.
        let mut writer = std::mem::take(&mut *self.writer.lock());
        let progress = writer.send_more(&self.stream, judge, silence_max);
        *self.writer.lock() = writer;
        progress
    }

    /// What the next step needs of the file that its request's body is in, and where the leg parks until it has been read. `None` if
    /// it needs nothing of that, or the time for it is over.
    pub(crate) fn file_read_until(self: &Arc<Self>, until: Instant) -> Option<(FileRead, Arc<dyn Readiness>)> {
        if Instant::now() >= until || self.place_in_file().is_none() {
            return None;
        }
        self.set_deadline(until);
        Some((FileRead(Arc::downgrade(self)), self.clone()))
    }

    /// The body, and the place in it of its next bytes, if it is in a file.
    fn place_in_file(&self) -> Option<(Spool, u64)> {
        self.writer.lock().place_in_file()
    }

    /// Wakes the parked leg as an event would.
    pub(crate) fn wake(&self) {
        self.parking.wake();
    }

    /// Clears the parking place, and looks at the socket: whether it has received neither bytes that
    /// belong to no answer, nor an end.
    pub(crate) fn probe_idle(&self) -> bool {
        // Before the look: what it doesn't see comes later, as an event.
        self.parking.clear();
        self.stream.peek(|peeked| peeked.is_nothing())
    }

    /// The connection's bytes, plain or out of records.
    pub(crate) fn stream(&self) -> &ByteStream {
        &self.stream
    }

    /// Has `reader` told of every event from now on; `None` has nothing told any more.
    pub(crate) fn set_reader(&self, reader: Option<OnReady>) {
        let before = std::mem::replace(&mut *self.reader.lock(), reader);
        drop(before);
    }

    /// The non-blocking socket.
    pub(crate) fn socket(&self) -> &Socket {
        self.stream.socket()
    }

    /// Whether the peer has ended the connection or reset it. What came before may still be unread.
    pub(crate) fn has_ended(&self) -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(self.socket(), PollFlags::RDHUP)];
        poll(&mut polled, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }

    /// Has the connection end with a reset when the socket is closed.
    pub(crate) fn reset_at_close(&self) {
        // An error means that the connection is gone already.
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

    /// Sets the time at which the poller wakes the leg at the latest.
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

impl FileRead {
    /// Reads what the next step sends. Blocks on the disk, and nothing else does: the leg may end meanwhile, and its connection.
    pub fn run(&self) {
        let Some((body, place)) = self.0.upgrade().and_then(|connection| connection.place_in_file()) else { return };
        let piece = Piece::read(&body, place);
        if let Some(connection) = self.0.upgrade() {
            connection.writer.lock().put_piece(&body, piece);
        }
    }

    /// Takes the leg out of its place on the connection, so that no event wakes it: it takes its next step now.
    pub fn withdraw_leg(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.parking.withdraw();
        }
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
        // It makes an event, which wakes the parked leg. An error means that the connection is gone already.
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

impl EventHandler for Connection {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => {}
            // A connection that has been hung up on ends its leg; any other has an end of its own: an answer, a deadline, its
            // token.
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
