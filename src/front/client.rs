//! One client's socket and its seat: whose turn it is with the connection, reading and writing, and whether the client is
//! still there. What is done in a turn is `turns`' knowledge.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;

use super::connection::{Connection, READ_BYTES};
use super::patience::{Pace, Wait};
use super::pipe::Pipe;
use super::tunnel::Tunnel;
use super::{Door, Front};
use crate::message::Departure;
use crate::poller::{Owner, Turn, Watch};
use crate::wait;

/// So often a thread that waits for a client looks whether it has left, or whether the house is closed.
pub(super) const LOOK_UP_TIME: Duration = Duration::from_millis(250);

/// A client's socket, from accepting it to closing it.
pub(super) struct Client {
    /// In the crowd.
    number: u64,
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) door: Arc<Door>,
    pub(super) watch: OnceLock<Watch>,
    seat: Mutex<Seat>,
}

/// What the client's poller thread and whoever serves the client share.
#[derive(Default)]
pub(super) struct Seat {
    /// `None` while somebody works with it. Whoever takes it out owns it.
    pub(super) connection: Option<Box<Connection>>,
    /// An edge arrived while somebody owned the connection: whoever gives it back must read.
    pub(super) pending: bool,
    /// A request is being served and no bytes behind it are here: a client that stops sending has left.
    pub(super) is_last: bool,
    pub(super) presence: Presence,
    /// The connection speaks another protocol now: its edges are this one's.
    pub(super) tunnel: Option<Arc<Tunnel>>,
    pub(super) abandon: Option<Box<dyn FnOnce() + Send>>,
}

/// Whether the client is still there.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Here,
    /// It sends no more; what it sent before may still be unread.
    SendsNoMore,
    Gone,
}

/// What a read brought.
pub(super) enum Arrived {
    /// `more`: the socket may hold more, and no further edge would tell.
    Bytes {
        more: bool,
    },
    Nothing,
    End,
}

impl Client {
    pub(super) fn open(door: Arc<Door>, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let front = door.front.clone();
        let connection = Connection::new(front.limits.clone(), peer, Instant::now());
        let deadline = connection.deadline();
        let seat = Mutex::new(Seat { connection: Some(Box::new(connection)), ..Seat::default() });
        let client = front.crowd.enter(|number| Client { number, socket, peer, door, watch: OnceLock::new(), seat });
        client.socket.set_nodelay(true)?;
        // Its first turn may come before this one is over.
        let watch = client.watch.get_or_init(|| front.poller.alarm(client.clone()));
        watch.set_deadline(Some(deadline));
        watch.begin(&client.socket).inspect_err(|_| watch.end())?;
        if front.is_draining() {
            // Who tells all others may have passed this one by.
            client.clone().turn(Turn::Drain);
        }
        Ok(())
    }

    pub(super) fn front(&self) -> &Front {
        &self.door.front
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
        self.seat().presence == Presence::Gone
    }

    /// Writes everything. Blocks for the client, but not longer than the write timeout without progress or with too little,
    /// and not for one that has left.
    pub(super) fn write_all(self: &Arc<Self>, bytes: &[u8], pace: &mut Pace) -> io::Result<()> {
        self.send_all(bytes.len(), pace, |left| (&self.socket).write(&bytes[bytes.len() - left..]))
    }

    /// The same with so many bytes that are in the pipe.
    pub(super) fn write_from(self: &Arc<Self>, pipe: &Pipe, count: usize, pace: &mut Pace) -> io::Result<()> {
        self.send_all(count, pace, |left| pipe.drain(&self.socket, left))
    }

    fn send_all(
        self: &Arc<Self>,
        mut left: usize,
        pace: &mut Pace,
        send: impl Fn(usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        while left > 0 {
            match send(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    pace.took(count);
                    left -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_until_writable(pace)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_until_writable(self: &Arc<Self>, pace: &mut Pace) -> io::Result<()> {
        let write_timeout = self.front().write_timeout;
        let began = Instant::now();
        let _wait = self.begin_wait(began);
        loop {
            let look_up = (Instant::now() + LOOK_UP_TIME).min(began + write_timeout);
            match wait::until_writable(&self.socket, look_up) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && look_up < began + write_timeout => {}
                Ok(()) if pace.is_too_slow(began.elapsed(), write_timeout) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it took less than 1 KiB a second"));
                }
                waited => return waited,
            }
            if self.is_gone() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    /// A thread waits for this client, which has taken nothing since then. If it is one too many, the one that has taken
    /// nothing for longest is cut off.
    pub(super) fn begin_wait(self: &Arc<Self>, since: Instant) -> Wait<'_, Client> {
        let (wait, longest) = self.front().waiting.begin(self, since);
        if let Some(longest) = longest {
            longest.cut_off();
        }
        wait
    }

    /// What is being written to the client must not look whole: its writer finds it gone, and resets.
    pub(super) fn cut_off(&self) {
        let tunnel = self.seat().tunnel.clone();
        if let Some(tunnel) = tunnel {
            return tunnel.cut_off();
        }
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        let _ = self.socket.shutdown(Shutdown::Read);
        self.notice_departure(true);
    }

    /// For short texts from threads that don't wait: an empty socket buffer takes them whole, and a client that lets its
    /// buffer fill up doesn't read.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.write_now(bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Writes what the socket takes without waiting: how many bytes.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match (&self.socket).write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    pub(super) fn read_into(&self, connection: &mut Connection) -> Arrived {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Arrived::End,
                Ok(((bytes, room), _)) => {
                    connection.receive(bytes);
                    // A short read has emptied the socket (epoll(7)), but for the client's end.
                    let more = room.is_empty() || self.seat().presence != Presence::Here;
                    return Arrived::Bytes { more };
                }
                Err(Errno::AGAIN) => return Arrived::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Arrived::End,
            }
        }
    }

    /// The connection speaks another protocol from now on, and its turns are the tunnel's.
    pub(super) fn enter_tunnel(&self, tunnel: &Arc<Tunnel>) {
        self.leave_exchange();
        self.seat().tunnel = Some(tunnel.clone());
    }

    /// Ends an exchange: whether an edge came while it lasted.
    pub(super) fn leave_exchange(&self) -> bool {
        let mut seat = self.seat();
        let abandon = seat.abandon.take();
        seat.is_last = false;
        let pending = std::mem::take(&mut seat.pending);
        drop(seat);
        drop(abandon);
        pending
    }

    pub(super) fn half_close(&self, connection: &mut Connection) {
        let _ = self.socket.shutdown(Shutdown::Write);
        connection.part(Instant::now());
    }

    pub(super) fn close(&self) {
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Since when the client says nothing between two requests, if that is so.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.seat().connection.as_ref()?.idle_since()
    }

    /// Closes the connection if nothing of a request is here: whether it did.
    pub(super) fn give_way(&self) -> bool {
        let mut seat = self.seat();
        let is_idle = seat.connection.as_ref().is_some_and(|connection| connection.is_idle());
        let is_silent = || self.socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !is_idle || !is_silent() {
            return false;
        }
        seat.connection = None;
        drop(seat);
        self.close();
        true
    }

    /// Takes the connection, or leaves word that there was something.
    pub(super) fn take_or_note(&self, read_closed: bool) -> Option<Box<Connection>> {
        let mut seat = self.seat();
        if read_closed && seat.presence == Presence::Here {
            seat.presence = Presence::SendsNoMore;
        }
        let connection = seat.connection.take();
        seat.pending |= connection.is_none();
        connection
    }

    /// A client that stopped sending, with nothing unread before its end, has left; a dead one in any case.
    pub(super) fn notice_departure(&self, dead: bool) {
        let mut seat = self.seat();
        let has_stopped =
            || seat.presence == Presence::SendsNoMore && seat.is_last && matches!(self.socket.peek(&mut [0]), Ok(0));
        if dead || has_stopped() {
            seat.presence = Presence::Gone;
            let abandon = seat.abandon.take();
            drop(seat);
            if let Some(abandon) = abandon {
                abandon();
            }
        }
    }

    pub(super) fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Departure for Client {
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>) {
        let mut seat = self.seat();
        if seat.presence == Presence::Gone {
            drop(seat);
            abandon();
        } else {
            seat.abandon = Some(abandon);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.front().crowd.leave(self.number);
    }
}
