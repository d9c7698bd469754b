//! One client's socket and its shared state: which thread owns the protocol state, reading and writing, and whether the client is
//! still connected. What an event leads to is the driver's knowledge.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::Socket;

use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::frontend::{Frontend, ListenerContext};
use crate::downstream::h1::pipelined;
use crate::downstream::h1::protocol::{Http1, READ_BYTES};
use crate::message::{Disconnect, Peer};
use crate::net::byte_stream::ByteStream;
use crate::runtime::poller::{Event, EventHandler, Registration};
use crate::runtime::sync::{Arc, Mutex};

/// A client's socket, from accepting it to closing it.
pub(crate) struct Client {
    /// Its key in the connection table.
    pub(crate) number: u64,
    pub(super) stream: ByteStream,
    /// Nothing has come of a client that is to speak TLS: its first byte says whether it does.
    pub(super) awaits_hello: AtomicBool,
    pub(crate) peer: Peer,
    pub(crate) context: Arc<ListenerContext>,
    pub(crate) registration: Registration,
    pub(crate) state: Mutex<ClientState>,
}

/// State that the client's poller thread shares with the thread that serves or evicts the client.
#[derive(Default)]
pub(crate) struct ClientState {
    /// `None` while a thread works with it. The thread that takes it out owns it.
    pub(crate) http1: Option<Box<Http1>>,
    /// An edge arrived while a thread owned the protocol state: that thread must read before it parks it, since no further edge
    /// will tell.
    pub(crate) notified: bool,
    /// The bytes read beyond the request that is being served, if one is: a client that stops sending before these are another
    /// request has left.
    pub(crate) read_ahead: Option<Vec<u8>>,
    pub(crate) status: ClientStatus,
    /// The proxy was shut down, and what is still written to the client is cut off.
    pub(crate) is_cut: bool,
    /// Gets the client's events meanwhile.
    pub(crate) stream: Option<Arc<dyn ActiveStream>>,
    /// The poller tells of room to write, too.
    wants_writable: bool,
    /// Run once if the client leaves.
    pub(crate) on_gone: Option<Box<dyn FnOnce() + Send>>,
}

/// What carries bytes to a client, or both ways, while no request is read from it: a reply or a tunnel.
pub(crate) trait ActiveStream: Evictable {
    /// Acts on an event of the client's socket.
    fn on_event(self: Arc<Self>, event: Event);
}

/// Whether the client is still connected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientStatus {
    #[default]
    Connected,
    /// It sends no more; what it sent before may still be unread.
    HalfClosed,
    Gone,
}

/// What a read brought.
pub(crate) enum Received {
    /// `more`: the socket may hold more, and no further edge would tell.
    Bytes {
        more: bool,
    },
    Nothing,
    /// Bytes of HTTP from a client that is to speak TLS.
    PlainHttp,
    End,
}

impl Client {
    pub(crate) fn open(context: Arc<ListenerContext>, socket: Socket, peer: Peer) -> io::Result<Arc<Client>> {
        let frontend = context.frontend.clone();
        let http1 = Http1::new(frontend.limits.clone(), peer.clone(), Instant::now());
        let deadline = http1.deadline();
        let state = Mutex::new(ClientState { http1: Some(Box::new(http1)), ..ClientState::default() });
        let registration = frontend.poller.reserve();
        let stream = ByteStream::new(socket);
        let awaits_hello = AtomicBool::new(context.tls.is_some());
        if let Some(tls) = &context.tls {
            stream.start_tls(tls.connection().map_err(io::Error::other)?);
        }
        let client =
            frontend.table.insert(|number| Client { number, stream, awaits_hello, peer, context, registration, state });
        let registration = &client.registration;
        registration.start(client.clone());
        registration.set_deadline(Some(deadline));
        registration.watch_reads(client.socket()).inspect_err(|_| registration.end())?;
        if frontend.is_draining() {
            // The broadcast of the drain may have been made before this client was registered.
            client.clone().on_event(Event::Drain);
        }
        Ok(client)
    }

    pub(crate) fn frontend(&self) -> &Frontend {
        &self.context.frontend
    }

    /// The non-blocking socket.
    pub(crate) fn socket(&self) -> &Socket {
        self.stream.socket()
    }

    /// Looks at what the socket has received; it stays to be read.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.socket(), buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    }

    /// Whether all that the socket has received has been read, and the client's end isn't among it.
    pub(super) fn is_silent(&self) -> bool {
        self.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends the connection with a reset: the client must not take what was sent for complete.
    pub(crate) fn abort(&self) {
        self.clear_exchange();
        let _ = self.socket().set_linger(Some(Duration::ZERO));
        self.registration.end();
    }

    /// Whether the client has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.lock().status == ClientStatus::Gone
    }

    /// Has the poller tell when there is room to write again, from now on.
    pub(crate) fn want_writable(&self) -> io::Result<()> {
        let was_told = std::mem::replace(&mut self.state.lock().wants_writable, true);
        if was_told { Ok(()) } else { self.registration.watch_writes(self.socket()) }
    }

    /// Has whatever is being written to the client, or will be, end with a reset: its writer finds the client gone. It must not
    /// look whole.
    pub(crate) fn cut_off(&self) {
        self.state.lock().is_cut = true;
        let _ = self.socket().set_linger(Some(Duration::ZERO));
        let _ = self.socket().shutdown(Shutdown::Read);
        self.notice_disconnect(true);
    }

    /// Writes all bytes at once, or fails. For short texts from threads that don't wait: an empty socket buffer takes them whole,
    /// and a client that lets its buffer fill up doesn't read.
    pub(crate) fn try_write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self.write_some(bytes)? {
            count if count == bytes.len() && self.flush()? => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Writes what the socket takes without waiting. Returns the number of bytes. Under TLS they may be held until
    /// [`Client::flush`] sends them.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.peer.is_tls {
            return self.stream.write(bytes);
        }
        loop {
            match self.socket().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    pub(crate) fn read_into(&self, http1: &mut Http1) -> Received {
        if self.peer.is_tls {
            return self.read_decrypted_into(http1);
        }
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            match rustix::net::recv(self.socket(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Received::End,
                Ok(((bytes, room), _)) => {
                    http1.receive(bytes);
                    // A short read has emptied the socket (epoll(7)), but for the client's end.
                    let more = room.is_empty() || self.state.lock().status != ClientStatus::Connected;
                    return Received::Bytes { more };
                }
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Received::End,
            }
        }
    }

    /// Ends an exchange and gives the protocol state the bytes read ahead. Returns whether an edge arrived while it lasted.
    pub(crate) fn end_exchange(&self, http1: &mut Http1) -> bool {
        let (notified, read_ahead) = self.clear_exchange();
        http1.put_back(read_ahead);
        notified
    }

    /// Forgets an exchange. Returns whether an edge arrived while it lasted, and the bytes read ahead.
    fn clear_exchange(&self) -> (bool, Vec<u8>) {
        let mut state = self.state.lock();
        let on_gone = state.on_gone.take();
        let read_ahead = state.read_ahead.take().unwrap_or_default();
        let notified = std::mem::take(&mut state.notified);
        drop(state);
        drop(on_gone);
        (notified, read_ahead)
    }

    pub(crate) fn half_close(&self, http1: &mut Http1) {
        self.end_writing();
        http1.start_closing(Instant::now());
    }

    pub(crate) fn close(&self) {
        self.registration.end();
        if self.peer.is_tls {
            // Unless it has been told already.
            self.stream.end_writing();
        }
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Takes the protocol state out, if it is parked, `may_evict` allows it by the client's activity, and no request or hello has just
    /// arrived.
    pub(crate) fn take_for_eviction(&self, may_evict: impl Fn(&Activity) -> bool) -> Option<Box<Http1>> {
        let mut state = self.state.lock();
        let activity = self.activity_in(state.http1.as_ref()?);
        let is_waiting = matches!(activity, Activity::Idle { .. } | Activity::Handshaking { .. });
        if !may_evict(&activity) || (is_waiting && !self.is_silent()) {
            return None;
        }
        state.http1.take()
    }

    /// Takes the protocol state out, or notifies the thread that owns it. A request of a dead client may still be unread: it is
    /// abandoned before it is begun.
    pub(crate) fn take_or_notify(&self, read_closed: bool, dead: bool) -> Option<Box<Http1>> {
        let mut state = self.state.lock();
        state.note_end(read_closed);
        if dead && state.http1.is_some() {
            state.status = ClientStatus::Gone;
        }
        let http1 = state.http1.take();
        state.notified |= http1.is_none();
        http1
    }

    /// Notes an event that belongs to the active stream, and returns that stream. `None` if the driver is to act on the event
    /// itself. An edge is noted at once for the thread that will park the protocol state: by the time that the stream hears of it
    /// that may have been done, and no further edge would tell.
    pub(crate) fn note_for_stream(&self, event: Event) -> Option<Arc<dyn ActiveStream>> {
        let mut state = self.state.lock();
        let stream = state.stream.clone()?;
        if let Event::Ready { read_closed, .. } = event {
            state.notified = true;
            state.note_end(read_closed);
        }
        Some(stream)
    }

    /// Marks the client as gone, and abandons its exchange, if it is dead, or if it stopped sending and no other whole request is
    /// before its end.
    pub(crate) fn notice_disconnect(&self, dead: bool) {
        let mut state = self.state.lock();
        if dead || self.has_left(&state) {
            state.status = ClientStatus::Gone;
            let on_gone = state.on_gone.take();
            drop(state);
            if let Some(on_gone) = on_gone {
                on_gone();
            }
        }
    }

    /// Whether the client has sent its end, and no other whole request before it. Holding the client state keeps other threads
    /// from reading the bytes that are peeked at.
    fn has_left(&self, state: &ClientState) -> bool {
        let (ClientStatus::HalfClosed, Some(read_ahead)) = (state.status, &state.read_ahead) else { return false };
        let head_bytes_max = self.frontend().limits.head_bytes_max;
        if self.peer.is_tls {
            return self.stream.peek(|peeked| {
                let received = [read_ahead, peeked.bytes].concat();
                // What isn't decrypted yet may be the rest of it.
                let count = if peeked.end.is_some() { received.len() as u64 } else { u64::MAX };
                !pipelined::is_request(&received, count, head_bytes_max)
            });
        }
        if pipelined::is_request(read_ahead, read_ahead.len() as u64, head_bytes_max) {
            return false;
        }
        let unread = rustix::io::ioctl_fionread(self.socket()).unwrap_or(0);
        let room = usize::try_from(unread).unwrap_or(usize::MAX).clamp(1, head_bytes_max);
        let mut received = read_ahead.clone();
        received.resize(read_ahead.len() + room, 0);
        match self.peek(&mut received[read_ahead.len()..]) {
            Ok(count) => {
                received.truncate(read_ahead.len() + count);
                !pipelined::is_request(&received, read_ahead.len() as u64 + unread, head_bytes_max)
            }
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
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
        let mut state = self.state.lock();
        if state.status == ClientStatus::Gone {
            drop(state);
            abandon();
        } else {
            state.on_gone = Some(abandon);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.frontend().table.remove(self.number);
    }
}
