//! One client's socket and its seat: whose turn it is with the connection, reading and writing, and whether the client is
//! still there. What is done in a turn is `turns`' knowledge.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;

use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::frontend::{Frontend, ListenerContext};
use crate::downstream::h1::pipelined;
use crate::downstream::h1::protocol::{Http1, READ_BYTES};
use crate::message::Disconnect;
use crate::runtime::poller::{Event, EventHandler, Registration};
use crate::runtime::sync::{Arc, Mutex, MutexGuard};

/// A client's socket, from accepting it to closing it.
pub(crate) struct Client {
    /// In the crowd.
    pub(crate) number: u64,
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) context: Arc<ListenerContext>,
    pub(crate) registration: Registration,
    state: Mutex<ClientState>,
}

/// What the client's poller thread and whoever serves the client share.
#[derive(Default)]
pub(crate) struct ClientState {
    /// `None` while somebody works with it. Whoever takes it out owns it.
    pub(crate) connection: Option<Box<Http1>>,
    /// An edge arrived while somebody owned the connection: whoever gives it back must read.
    pub(crate) notified: bool,
    /// What came behind the request that is being served, if one is: a client that stops sending before that is another
    /// request has left.
    pub(crate) behind: Option<Vec<u8>>,
    pub(crate) status: ClientStatus,
    /// The house is closed, and what is still written to the client is cut off.
    pub(crate) is_cut: bool,
    /// What the client's turns are given to meanwhile.
    pub(crate) stream: Option<Arc<dyn ActiveStream>>,
    /// The poller tells of room to write, too.
    wants_writable: bool,
    pub(crate) abandon: Option<Box<dyn FnOnce() + Send>>,
}

/// What carries bytes to a client, or both ways, while no request is read from it: a reply or a tunnel.
pub(crate) trait ActiveStream: Evictable {
    /// Takes a turn of the client's socket.
    fn on_event(self: Arc<Self>, event: Event);
}

/// Whether the client is still there.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientStatus {
    #[default]
    Connected,
    /// It sends no more; what it sent before may still be unread.
    HalfClosed,
    Gone,
}

/// What a read brought.
pub(crate) enum Arrived {
    /// `more`: the socket may hold more, and no further edge would tell.
    Bytes {
        more: bool,
    },
    Nothing,
    End,
}

impl Client {
    pub(crate) fn open(context: Arc<ListenerContext>, socket: TcpStream, peer: SocketAddr) -> io::Result<Arc<Client>> {
        let frontend = context.frontend.clone();
        let connection = Http1::new(frontend.limits.clone(), peer, Instant::now());
        let deadline = connection.deadline();
        let state = Mutex::new(ClientState { connection: Some(Box::new(connection)), ..ClientState::default() });
        let registration = frontend.poller.reserve();
        let client = frontend.table.insert(|number| Client { number, socket, peer, context, registration, state });
        let registration = &client.registration;
        registration.start(client.clone());
        registration.set_deadline(Some(deadline));
        registration.watch_reads(&client.socket).inspect_err(|_| registration.end())?;
        if frontend.is_draining() {
            // Who tells all others may have passed this one by.
            client.clone().on_event(Event::Drain);
        }
        Ok(client)
    }

    pub(crate) fn frontend(&self) -> &Frontend {
        &self.context.frontend
    }

    /// Ends the connection with a reset: nobody must take what was sent for complete.
    pub(crate) fn abort(&self) {
        self.end_exchange();
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        self.registration.end();
    }

    /// Whether the client has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.state().status == ClientStatus::Gone
    }

    /// Has the poller give a turn when there is room to write again, from now on.
    pub(crate) fn want_writable(&self) -> io::Result<()> {
        let was_told = std::mem::replace(&mut self.state().wants_writable, true);
        if was_told { Ok(()) } else { self.registration.watch_writes(&self.socket) }
    }

    /// What is being written to the client, or will be, must not look whole: its writer finds it gone, and resets.
    pub(crate) fn cut_off(&self) {
        self.state().is_cut = true;
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        let _ = self.socket.shutdown(Shutdown::Read);
        self.notice_disconnect(true);
    }

    /// For short texts from threads that don't wait: an empty socket buffer takes them whole, and a client that lets its
    /// buffer fill up doesn't read.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.write_now(bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Writes what the socket takes without waiting: how many bytes.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    pub(crate) fn read_into(&self, connection: &mut Http1) -> Arrived {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Arrived::End,
                Ok(((bytes, room), _)) => {
                    connection.receive(bytes);
                    // A short read has emptied the socket (epoll(7)), but for the client's end.
                    let more = room.is_empty() || self.state().status != ClientStatus::Connected;
                    return Arrived::Bytes { more };
                }
                Err(Errno::AGAIN) => return Arrived::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Arrived::End,
            }
        }
    }

    /// Ends an exchange and gives the connection what came behind its request: whether an edge came while it lasted.
    pub(crate) fn leave_exchange(&self, connection: &mut Http1) -> bool {
        let (notified, behind) = self.end_exchange();
        connection.put_back(behind);
        notified
    }

    /// Ends an exchange: whether an edge came while it lasted, and what came behind its request.
    pub(crate) fn end_exchange(&self) -> (bool, Vec<u8>) {
        let mut state = self.state();
        let abandon = state.abandon.take();
        let behind = state.behind.take().unwrap_or_default();
        let notified = std::mem::take(&mut state.notified);
        drop(state);
        drop(abandon);
        (notified, behind)
    }

    pub(crate) fn half_close(&self, connection: &mut Http1) {
        let _ = self.socket.shutdown(Shutdown::Write);
        connection.start_closing(Instant::now());
    }

    pub(crate) fn close(&self) {
        self.registration.end();
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Takes the connection if `goes` says so of what the client makes of its place, and if no request has just come.
    pub(crate) fn take_for_eviction(&self, goes: impl Fn(&Activity) -> bool) -> Option<Box<Http1>> {
        let mut state = self.state();
        let activity = state.connection.as_ref()?.activity();
        let is_silent = || self.socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !goes(&activity) || (matches!(activity, Activity::Idle { .. }) && !is_silent()) {
            return None;
        }
        state.connection.take()
    }

    /// Takes the connection, or leaves word that there was something. A request of a dead client may still be unread: it is
    /// abandoned before it is begun.
    pub(crate) fn take_or_note(&self, read_closed: bool, dead: bool) -> Option<Box<Http1>> {
        let mut state = self.state();
        state.note_end(read_closed);
        if dead && state.connection.is_some() {
            state.status = ClientStatus::Gone;
        }
        let connection = state.connection.take();
        state.notified |= connection.is_none();
        connection
    }

    /// What takes this turn, if not the connection. An edge is noted at once for the thread that gives the connection back: by the
    /// time that the carrier hears of it that may have been done, and no further edge would tell.
    pub(crate) fn stream_for(&self, event: Event) -> Option<Arc<dyn ActiveStream>> {
        let mut state = self.state();
        let stream = state.stream.clone()?;
        if let Event::Ready { read_closed, .. } = event {
            state.notified = true;
            state.note_end(read_closed);
        }
        Some(stream)
    }

    /// A client that stopped sending has left if no other whole request is before its end; a dead one in any case.
    pub(crate) fn notice_disconnect(&self, dead: bool) {
        let mut state = self.state();
        if dead || self.has_stopped(&state) {
            state.status = ClientStatus::Gone;
            let abandon = state.abandon.take();
            drop(state);
            if let Some(abandon) = abandon {
                abandon();
            }
        }
    }

    /// Whether the client waits for no more than the answer to the request that is being served. The seat keeps others from
    /// reading what is looked at here.
    fn has_stopped(&self, state: &ClientState) -> bool {
        let (ClientStatus::HalfClosed, Some(behind)) = (state.status, &state.behind) else { return false };
        let head_bytes_max = self.frontend().limits.max_head;
        if pipelined::is_request(behind, behind.len() as u64, head_bytes_max) {
            return false;
        }
        let unread = rustix::io::ioctl_fionread(&self.socket).unwrap_or(0);
        let room = usize::try_from(unread).unwrap_or(usize::MAX).clamp(1, head_bytes_max);
        let mut here = behind.clone();
        here.resize(behind.len() + room, 0);
        match self.socket.peek(&mut here[behind.len()..]) {
            Ok(count) => {
                !pipelined::is_request(&here[..behind.len() + count], behind.len() as u64 + unread, head_bytes_max)
            }
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock()
    }
}

impl ClientState {
    fn note_end(&mut self, read_closed: bool) {
        if read_closed && self.status == ClientStatus::Connected {
            self.status = ClientStatus::HalfClosed;
        }
    }
}

impl Disconnect for Client {
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>) {
        let mut state = self.state();
        if state.status == ClientStatus::Gone {
            drop(state);
            abandon();
        } else {
            state.abandon = Some(abandon);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.frontend().table.remove(self.number);
    }
}
