//! One client's socket and its seat: whose turn it is with the connection, reading and writing, and whether the client is
//! still there. What is done in a turn is `turns`' knowledge.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;

use super::connection::{Connection, READ_BYTES};
use super::crowd::GivesWay;
use super::frontend::{Door, Front};
use super::further;
use super::standing::Standing;
use crate::message::Departure;
use crate::runtime::poller::{Event, EventHandler, Registration};
use crate::runtime::sync::{Arc, Mutex, MutexGuard};

/// A client's socket, from accepting it to closing it.
pub(super) struct Client {
    /// In the crowd.
    pub(super) number: u64,
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) door: Arc<Door>,
    pub(super) registration: Registration,
    seat: Mutex<Seat>,
}

/// What the client's poller thread and whoever serves the client share.
#[derive(Default)]
pub(super) struct Seat {
    /// `None` while somebody works with it. Whoever takes it out owns it.
    pub(super) connection: Option<Box<Connection>>,
    /// An edge arrived while somebody owned the connection: whoever gives it back must read.
    pub(super) pending: bool,
    /// What came behind the request that is being served, if one is: a client that stops sending before that is another
    /// request has left.
    pub(super) behind: Option<Vec<u8>>,
    pub(super) presence: Presence,
    /// The house is closed, and what is still written to the client is cut off.
    pub(super) is_cut: bool,
    /// What the client's turns are given to meanwhile.
    pub(super) carrier: Option<Arc<dyn Carrier>>,
    /// The poller tells of room to write, too.
    is_told_of_room: bool,
    pub(super) abandon: Option<Box<dyn FnOnce() + Send>>,
}

/// What carries bytes to a client, or both ways, while no request is read from it: a reply or a tunnel.
pub(super) trait Carrier: GivesWay {
    /// Takes a turn of the client's socket.
    fn on_event(self: Arc<Self>, event: Event);
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
    pub(super) fn open(door: Arc<Door>, socket: TcpStream, peer: SocketAddr) -> io::Result<Arc<Client>> {
        let front = door.front.clone();
        let connection = Connection::new(front.limits.clone(), peer, Instant::now());
        let deadline = connection.deadline();
        let seat = Mutex::new(Seat { connection: Some(Box::new(connection)), ..Seat::default() });
        let registration = front.poller.reserve();
        let client = front.crowd.enter(|number| Client { number, socket, peer, door, registration, seat });
        let registration = &client.registration;
        registration.start(client.clone());
        registration.set_deadline(Some(deadline));
        registration.watch_reads(&client.socket).inspect_err(|_| registration.end())?;
        if front.is_draining() {
            // Who tells all others may have passed this one by.
            client.clone().on_event(Event::Drain);
        }
        Ok(client)
    }

    pub(super) fn front(&self) -> &Front {
        &self.door.front
    }

    /// Ends the connection with a reset: nobody must take what was sent for complete.
    pub(super) fn abort(&self) {
        self.end_exchange();
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        self.registration.end();
    }

    /// Whether the client has left.
    pub(super) fn is_gone(&self) -> bool {
        self.seat().presence == Presence::Gone
    }

    /// Has the poller give a turn when there is room to write again, from now on.
    pub(super) fn want_writable(&self) -> io::Result<()> {
        let was_told = std::mem::replace(&mut self.seat().is_told_of_room, true);
        if was_told { Ok(()) } else { self.registration.watch_writes(&self.socket) }
    }

    /// What is being written to the client, or will be, must not look whole: its writer finds it gone, and resets.
    pub(super) fn cut_off(&self) {
        self.seat().is_cut = true;
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
        loop {
            match (&self.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
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

    /// Ends an exchange and gives the connection what came behind its request: whether an edge came while it lasted.
    pub(super) fn leave_exchange(&self, connection: &mut Connection) -> bool {
        let (pending, behind) = self.end_exchange();
        connection.put_back(behind);
        pending
    }

    /// Ends an exchange: whether an edge came while it lasted, and what came behind its request.
    pub(super) fn end_exchange(&self) -> (bool, Vec<u8>) {
        let mut seat = self.seat();
        let abandon = seat.abandon.take();
        let behind = seat.behind.take().unwrap_or_default();
        let pending = std::mem::take(&mut seat.pending);
        drop(seat);
        drop(abandon);
        (pending, behind)
    }

    pub(super) fn half_close(&self, connection: &mut Connection) {
        let _ = self.socket.shutdown(Shutdown::Write);
        connection.part(Instant::now());
    }

    pub(super) fn close(&self) {
        self.registration.end();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Takes the connection if `goes` says so of what the client makes of its place, and if no request has just come.
    pub(super) fn take_to_go(&self, goes: impl Fn(&Standing) -> bool) -> Option<Box<Connection>> {
        let mut seat = self.seat();
        let standing = seat.connection.as_ref()?.standing();
        let is_silent = || self.socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !goes(&standing) || (matches!(standing, Standing::Idle { .. }) && !is_silent()) {
            return None;
        }
        seat.connection.take()
    }

    /// Takes the connection, or leaves word that there was something. A request of a dead client may still be unread: it is
    /// abandoned before it is begun.
    pub(super) fn take_or_note(&self, read_closed: bool, dead: bool) -> Option<Box<Connection>> {
        let mut seat = self.seat();
        seat.note_end(read_closed);
        if dead && seat.connection.is_some() {
            seat.presence = Presence::Gone;
        }
        let connection = seat.connection.take();
        seat.pending |= connection.is_none();
        connection
    }

    /// What takes this turn, if not the connection. An edge is noted at once for the thread that gives the connection back: by the
    /// time that the carrier hears of it that may have been done, and no further edge would tell.
    pub(super) fn carrier_for(&self, event: Event) -> Option<Arc<dyn Carrier>> {
        let mut seat = self.seat();
        let carrier = seat.carrier.clone()?;
        if let Event::Ready { read_closed, .. } = event {
            seat.pending = true;
            seat.note_end(read_closed);
        }
        Some(carrier)
    }

    /// A client that stopped sending has left if no other whole request is before its end; a dead one in any case.
    pub(super) fn notice_departure(&self, dead: bool) {
        let mut seat = self.seat();
        if dead || self.has_stopped(&seat) {
            seat.presence = Presence::Gone;
            let abandon = seat.abandon.take();
            drop(seat);
            if let Some(abandon) = abandon {
                abandon();
            }
        }
    }

    /// Whether the client waits for no more than the answer to the request that is being served. The seat keeps others from
    /// reading what is looked at here.
    fn has_stopped(&self, seat: &Seat) -> bool {
        let (Presence::SendsNoMore, Some(behind)) = (seat.presence, &seat.behind) else { return false };
        let head_bytes_max = self.front().limits.max_head;
        if further::is_request(behind, behind.len() as u64, head_bytes_max) {
            return false;
        }
        let unread = rustix::io::ioctl_fionread(&self.socket).unwrap_or(0);
        let room = usize::try_from(unread).unwrap_or(usize::MAX).clamp(1, head_bytes_max);
        let mut here = behind.clone();
        here.resize(behind.len() + room, 0);
        match self.socket.peek(&mut here[behind.len()..]) {
            Ok(count) => {
                !further::is_request(&here[..behind.len() + count], behind.len() as u64 + unread, head_bytes_max)
            }
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    pub(super) fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock()
    }
}

impl Seat {
    fn note_end(&mut self, read_closed: bool) {
        if read_closed && self.presence == Presence::Here {
            self.presence = Presence::SendsNoMore;
        }
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
