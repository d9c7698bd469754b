//! One client's socket: reads when the poller says so, hands complete requests on, writes refusals, notices that the
//! client leaves. What the bytes mean is `connection`'s knowledge.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::connection::{Connection, Step};
use super::reply::{Asked, CONTINUE, Framing, write_head};
use super::reply_to::ClientReply;
use super::{Door, Front, Peer};
use crate::journal;
use crate::message::{Departure, Refusal, ReplyBody, Request};
use crate::poller::{Owner, Turn, Watch};

/// Read in one call: a whole head of the usual size, and enough of a body to make the call worth it.
const READ_BYTES: usize = 16 * 1024;

/// A client's socket, from accepting it to closing it.
pub(super) struct Client {
    socket: TcpStream,
    peer: Peer,
    door: Arc<Door>,
    watch: OnceLock<Watch>,
    seat: Mutex<Seat>,
}

/// What the poller's thread and whoever serves the client share.
#[derive(Default)]
struct Seat {
    /// `None` while somebody works with it. Whoever takes it out owns it.
    connection: Option<Box<Connection>>,
    /// An edge arrived while somebody owned the connection: whoever gives it back must read.
    pending: bool,
    /// Bytes behind the request that is being served are here: a client that stops sending hasn't left.
    has_unread: bool,
    gone: bool,
    abandon: Option<Box<dyn FnOnce() + Send>>,
}

/// What a read brought.
enum Arrived {
    Bytes,
    Nothing,
    End,
}

impl Client {
    pub(super) fn open(door: Arc<Door>, socket: TcpStream, peer: Peer) -> io::Result<()> {
        let front = door.front.clone();
        let connection = Connection::new(front.limits.clone(), peer, Instant::now());
        let deadline = connection.deadline();
        let seat = Mutex::new(Seat { connection: Some(Box::new(connection)), ..Seat::default() });
        let client = Arc::new(Client { socket, peer, door, watch: OnceLock::new(), seat });
        client.socket.set_nodelay(true)?;
        let watch = front.poller.watch(&client.socket, client.clone())?;
        watch.set_deadline(Some(deadline));
        let _ = client.watch.set(watch);
        Ok(())
    }

    pub(super) fn front(&self) -> &Front {
        &self.door.front
    }

    /// Goes on with the connection until it needs the poller or somebody else: `may_read` if bytes may be waiting.
    pub(super) fn work(self: &Arc<Self>, mut connection: Box<Connection>, mut may_read: bool) {
        loop {
            match connection.step(Instant::now()) {
                Step::More if may_read => match self.read_into(&mut connection) {
                    Arrived::Bytes => {}
                    Arrived::Nothing => may_read = false,
                    Arrived::End => return self.close(),
                },
                Step::More => match self.give_back(connection) {
                    None => return,
                    Some(again) => {
                        connection = again;
                        may_read = true;
                    }
                },
                Step::Continue => {
                    if self.try_write(CONTINUE).is_err() {
                        return self.close();
                    }
                }
                Step::Request(request, asked) => match self.hand_on(connection, *request, asked, may_read) {
                    None => return,
                    Some(refused) => {
                        connection = refused;
                        self.refuse(&mut connection, &Refusal::Busy);
                        may_read = true;
                    }
                },
                Step::Refuse(refusal) => {
                    self.refuse(&mut connection, &refusal);
                    may_read = true;
                }
                Step::Close => return self.close(),
            }
        }
    }

    /// The reply was sent and the client may ask again.
    pub(super) fn answered(self: &Arc<Self>, mut connection: Box<Connection>) {
        connection.answered(Instant::now());
        let pending = self.leave_exchange();
        self.work(connection, pending);
    }

    /// The last reply was sent: the client has a moment to read it and to close its side.
    pub(super) fn part(self: &Arc<Self>, mut connection: Box<Connection>) {
        self.leave_exchange();
        self.half_close(&mut connection);
        self.work(connection, true);
    }

    /// Ends the connection with a reset: nobody must take what was sent for complete.
    pub(super) fn abort(&self) {
        self.leave_exchange();
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
    }

    /// Whether the client has left.
    pub(super) fn is_gone(&self) -> bool {
        self.seat().gone
    }

    /// Writes everything. Blocks for the client, but not longer than the write timeout without progress.
    pub(super) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_until_writable()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_until_writable(&self) -> io::Result<()> {
        let timeout = Timespec::try_from(self.front().write_timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        let deadline = Instant::now() + self.front().write_timeout;
        loop {
            match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// For the short texts that the poller's thread writes: an empty socket buffer takes them whole.
    fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        match (&self.socket).write(bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn read_into(&self, connection: &mut Connection) -> Arrived {
        let mut buffer = [0; READ_BYTES];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return Arrived::End,
                Ok(count) => {
                    connection.receive(&buffer[..count]);
                    return Arrived::Bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Arrived::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Arrived::End,
            }
        }
    }

    /// Gives the connection to the poller, or back if an edge came meanwhile.
    fn give_back(&self, connection: Box<Connection>) -> Option<Box<Connection>> {
        if self.front().is_draining() && connection.is_idle() {
            self.close();
            return None;
        }
        let mut seat = self.seat();
        if std::mem::take(&mut seat.pending) {
            return Some(connection);
        }
        // Under the lock, so that no later owner's deadline is overwritten by this one.
        if let Some(watch) = self.watch.get() {
            watch.set_deadline(Some(connection.deadline()));
        }
        seat.connection = Some(connection);
        None
    }

    /// Hands a request on; the connection comes back at once if nobody has room for it. If the socket wasn't read to
    /// its last byte, no edge will tell of the rest: whoever gives the connection back must read.
    fn hand_on(
        self: &Arc<Self>,
        connection: Box<Connection>,
        request: Request,
        asked: Asked,
        may_read: bool,
    ) -> Option<Box<Connection>> {
        {
            let mut seat = self.seat();
            seat.has_unread = connection.has_unread();
            seat.pending |= may_read;
        }
        let reply_to = ClientReply::new(self.clone(), connection, asked);
        (self.door.serve)(request, reply_to).err().and_then(ClientReply::into_connection)
    }

    /// Ends an exchange: whether an edge came while it lasted.
    fn leave_exchange(&self) -> bool {
        let mut seat = self.seat();
        let abandon = seat.abandon.take();
        seat.has_unread = false;
        let pending = std::mem::take(&mut seat.pending);
        drop(seat);
        drop(abandon);
        pending
    }

    fn refuse(&self, connection: &mut Connection, refusal: &Refusal) {
        journal::refused(self.peer, refusal);
        let reply = refusal.reply();
        let framing = Framing::of(Asked::UNREADABLE, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(512);
        write_head(&mut bytes, Asked::UNREADABLE, reply.status, &reply.headers, framing, SystemTime::now());
        if let ReplyBody::Whole(body) = reply.body {
            bytes.extend_from_slice(&body);
        }
        // A client that lets its socket fill up doesn't read; it is told by the close alone.
        let _ = self.try_write(&bytes);
        self.half_close(connection);
    }

    fn half_close(&self, connection: &mut Connection) {
        let _ = self.socket.shutdown(Shutdown::Write);
        connection.part(Instant::now());
    }

    fn close(&self) {
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Takes the connection, or leaves word that there was something.
    fn take_or_note(&self) -> Option<Box<Connection>> {
        let mut seat = self.seat();
        let connection = seat.connection.take();
        seat.pending |= connection.is_none();
        connection
    }

    /// A client that stopped sending, with nothing unread before its end, has left.
    fn notice_departure(&self, read_closed: bool, dead: bool) {
        let mut seat = self.seat();
        let stopped = read_closed && !seat.has_unread && matches!(self.socket.peek(&mut [0]), Ok(0));
        if dead || stopped {
            seat.gone = true;
            let abandon = seat.abandon.take();
            drop(seat);
            if let Some(abandon) = abandon {
                abandon();
            }
        }
    }

    fn expired(self: &Arc<Self>) {
        let Some(mut connection) = self.seat().connection.take() else { return };
        if connection.deadline() > Instant::now() {
            return self.work(connection, false);
        }
        match connection.expire() {
            Step::Refuse(refusal) => {
                self.refuse(&mut connection, &refusal);
                self.work(connection, true);
            }
            _ => self.close(),
        }
    }

    fn drain(self: &Arc<Self>) {
        let connection = self.seat().connection.take();
        if let Some(connection) = connection {
            // It is closed there if it is idle.
            self.work(connection, true);
        }
    }

    fn cut(&self) {
        self.notice_departure(false, true);
        self.close();
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Departure for Client {
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>) {
        let mut seat = self.seat();
        if seat.gone {
            drop(seat);
            abandon();
        } else {
            seat.abandon = Some(abandon);
        }
    }
}

impl Owner for Client {
    fn turn(self: Arc<Self>, turn: Turn) {
        let worked = catch_unwind(AssertUnwindSafe(|| match turn {
            Turn::Ready { read_closed, dead } => {
                if let Some(connection) = self.take_or_note() {
                    self.work(connection, true);
                }
                // After the work: the end may have come together with a request that is being served by now.
                if read_closed || dead {
                    self.notice_departure(read_closed, dead);
                }
            }
            Turn::Expired => self.expired(),
            Turn::Drain => self.drain(),
            Turn::Cut => self.cut(),
        }));
        if worked.is_err() {
            self.close();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.front().connections.fetch_sub(1, Ordering::SeqCst);
    }
}
