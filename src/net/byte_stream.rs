//! The bytes of a connection, plain or out of the records of TLS. Bytes that have been received can be looked at before they
//! are read. Nothing here waits. Knows nothing of what the bytes mean.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::Connection;
use socket2::Socket;

use crate::net::certificate;
pub(crate) use crate::net::records::End;
use crate::net::records::{PEEK_BYTES, fill_decrypted, read_decrypted, send_counted_records};
use crate::runtime::sync::Mutex;

/// The bytes of one call of `recv`.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// The most bytes that are made records of at once: those that the peer has no room for are held.
const WRITE_BYTES_MAX: usize = 32 * 1024;

/// Bytes received and not yet consumed, and how the connection has ended. Used by the thread that runs the connection's leg
/// or client, or, while that is parked, by the poller's thread; beside an answer also by the thread that sends the rest of its
/// request.
pub(crate) struct ByteStream {
    /// A non-blocking socket.
    socket: Socket,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The proxy's side of TLS, if the connection has it.
    tls: Option<Box<Connection>>,
    /// What the peer has sent until TLS was agreed on, in bytes.
    handshake_bytes: usize,
    /// Received and decrypted bytes, which are read before those of the socket.
    peeked: Vec<u8>,
    /// The end behind `peeked`, kept since the socket tells it only once.
    end: Option<End>,
    /// Whether a write has been told that the peer has reset the connection. The socket tells that only once, and the reads
    /// that come after it see an end in order.
    was_reset: bool,
    /// The bytes of records that [`ByteStream::write`] and [`ByteStream::flush`] have sent, until they are asked for.
    sent_count: u64,
    /// Nothing more is written: once all records are out, the socket says so.
    is_ending: bool,
}

/// The bytes and the end that a look at a connection shows.
pub(crate) struct Peeked<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) end: Option<&'a End>,
}

impl Peeked<'_> {
    /// Whether nothing has been received, not even an end.
    pub(crate) fn is_nothing(&self) -> bool {
        self.bytes.is_empty() && self.end.is_none()
    }
}

impl ByteStream {
    /// Reads and writes this socket, plainly for now. The socket must be non-blocking.
    pub(crate) fn new(socket: Socket) -> ByteStream {
        ByteStream { socket, state: Mutex::default() }
    }

    /// The non-blocking socket.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Has all bytes from now on travel in the records of this TLS connection.
    pub(crate) fn start_tls(&self, tls: Box<Connection>) {
        self.state.lock().tls = Some(tls);
    }

    /// Has all bytes from now on travel as they are: those of the peer are none of TLS, or aren't understood.
    pub(crate) fn stop_tls(&self) {
        let mut state = self.state.lock();
        (state.tls, state.end) = (None, None);
    }

    /// Whether TLS hasn't been agreed on yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.state.lock().tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the hello has come with which a client begins TLS.
    pub(crate) fn has_hello(&self) -> bool {
        self.state.lock().tls.as_ref().is_some_and(|tls| tls.protocol_version().is_some())
    }

    /// The subject of the certificate that the peer has shown, if it has.
    pub(crate) fn peer_subject(&self) -> Option<String> {
        certificate::subject(self.state.lock().tls.as_ref()?.peer_certificates()?.first()?)
    }

    /// Buffers what has been received, and shows it to `look`; it stays to be read.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(Peeked) -> T) -> T {
        let state = &mut *self.state.lock();
        state.fill(&self.socket);
        look(Peeked { bytes: &state.peeked, end: state.end.as_ref() })
    }

    /// Shows `look` what is buffered, without asking the socket.
    pub(crate) fn with_peeked<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.state.lock().peeked)
    }

    /// Drops the first `count` of the buffered bytes.
    pub(crate) fn consume(&self, count: usize) {
        drop_first(&mut self.state.lock().peeked, count);
    }

    /// Takes the first `count` of the buffered bytes.
    pub(crate) fn take_first(&self, count: usize) -> Vec<u8> {
        let peeked = &mut self.state.lock().peeked;
        if count == peeked.len() { std::mem::take(peeked) } else { peeked.drain(..count).collect() }
    }

    /// Puts bytes that have been read back in front of all others.
    pub(crate) fn unread(&self, mut bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let mut state = self.state.lock();
            bytes.extend_from_slice(&state.peeked);
            state.peeked = bytes;
        }
    }

    /// Sends as many bytes as go without waiting, and gives their count. Under TLS they are on the wire once all records are.
    pub(crate) fn send(&self, parts: &[IoSlice]) -> io::Result<usize> {
        let state = &mut *self.state.lock();
        if let Some(tls) = &mut state.tls {
            return tls.writer().write_vectored(parts);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match parts {
            // Less work for the kernel.
            [part] => rustix::net::send(&self.socket, part, flags),
            parts => rustix::net::sendmsg(&self.socket, parts, &mut SendAncillaryBuffer::default(), flags),
        };
        state.was_reset |= sent == Err(Errno::CONNRESET);
        match sent {
            Err(Errno::AGAIN) => Ok(0),
            sent => Ok(sent?),
        }
    }

    /// Sends as many bytes as go without waiting, and gives their count. Under TLS their records are on the wire once
    /// [`ByteStream::flush`] says so; earlier ones are sent before new ones are made, so that few are held.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let State { tls, sent_count, .. } = &mut *self.state.lock();
        let Some(tls) = tls else {
            let mut socket = &self.socket;
            return match socket.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                written => written,
            };
        };
        let (earlier, is_sent) = send_counted_records(tls, &self.socket)?;
        *sent_count += earlier as u64;
        if !is_sent {
            return Ok(0);
        }
        let count = tls.writer().write(&bytes[..bytes.len().min(WRITE_BYTES_MAX)])?;
        *sent_count += send_counted_records(tls, &self.socket)?.0 as u64;
        Ok(count)
    }

    /// Sends the records that are left, as far as that goes without waiting. Gives whether none is; then an end of writing, if
    /// there is one, has been told.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        let State { tls, is_ending, sent_count, .. } = &mut *self.state.lock();
        let (sent, is_sent) = tls.as_mut().map_or(Ok((0, true)), |tls| send_counted_records(tls, &self.socket))?;
        *sent_count += sent as u64;
        if is_sent && std::mem::take(is_ending) {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        Ok(is_sent)
    }

    /// Takes the count of bytes of records that writes and flushes have sent since this was last asked.
    pub(crate) fn take_sent_count(&self) -> u64 {
        std::mem::take(&mut self.state.lock().sent_count)
    }

    /// Whether records are left to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.state.lock().tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Tells the peer in order that nothing more is written. Under TLS what is left of it is up to [`ByteStream::flush`].
    pub(crate) fn end_writing(&self) {
        {
            let mut state = self.state.lock();
            state.is_ending = true;
            if let Some(tls) = &mut state.tls {
                tls.send_close_notify();
            }
        }
        let _ = self.flush();
    }

    /// Sends records, if there are any, as far as that goes without waiting. Gives how many bytes of them it has sent, and
    /// whether none is left.
    pub(crate) fn send_records(&self) -> io::Result<(usize, bool)> {
        self.state.lock().tls.as_mut().map_or(Ok((0, true)), |tls| send_counted_records(tls, &self.socket))
    }

    /// Reads what has been received. The error's kind is `WouldBlock` if that is nothing, and `Interrupted` if it is many
    /// records that make no byte, so that the caller can do something else before it reads on.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = &self.socket;
        let State { tls, handshake_bytes, peeked, end, was_reset, .. } = &mut *self.state.lock();
        if !peeked.is_empty() {
            let count = (&peeked[..]).read(buffer)?;
            drop_first(peeked, count);
            return Ok(count);
        }
        match end {
            None => {}
            Some(End::Closed) => return Ok(0),
            Some(End::Failed(error)) => return Err(clone_of(error)),
        }
        match tls {
            Some(tls) => read_decrypted(tls, socket, buffer, handshake_bytes),
            None => match socket.read(buffer) {
                Ok(0) if *was_reset => Err(ErrorKind::ConnectionReset.into()),
                read => read,
            },
        }
    }

    /// The count of bytes that have been received and not read. `None` if records that aren't decrypted may hold some.
    pub(crate) fn unread_bytes(&self) -> Option<u64> {
        let in_socket = rustix::io::ioctl_fionread(&self.socket).ok()?;
        let State { tls, peeked, .. } = &mut *self.state.lock();
        match tls {
            None => Some(peeked.len() as u64 + in_socket),
            Some(_) if in_socket > 0 => None,
            Some(tls) => {
                let decrypted = tls.process_new_packets().ok()?.plaintext_bytes_to_read();
                Some((peeked.len() + decrypted) as u64)
            }
        }
    }

    /// Whether another read under TLS may find bytes, an end in order or a failure, of which no event will tell.
    pub(crate) fn may_read_on(&self) -> bool {
        let is_empty = rustix::io::ioctl_fionread(&self.socket).is_ok_and(|in_socket| in_socket == 0);
        let state = &mut *self.state.lock();
        let is_buffered = !state.peeked.is_empty() || state.end.is_some();
        let processed = state.tls.as_mut().map(|tls| tls.process_new_packets());
        let has_decrypted = |state: &rustls::IoState| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
        is_buffered
            || !is_empty
            || processed.is_none_or(|processed| processed.map_or(true, |state| has_decrypted(&state)))
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}

impl State {
    fn fill(&mut self, socket: &Socket) {
        if self.end.is_some() || self.peeked.len() >= PEEK_BYTES {
            return;
        }
        self.end = match &mut self.tls {
            Some(tls) => fill_decrypted(tls, &mut self.peeked, socket, &mut self.handshake_bytes),
            None => match fill_plain(&mut self.peeked, socket) {
                Some(End::Closed) if self.was_reset => Some(End::Failed(ErrorKind::ConnectionReset.into())),
                end => end,
            },
        };
    }
}

/// A copy of an error of a socket or of TLS, since an end is told any number of times.
fn clone_of(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => io::Error::new(error.kind(), inner.clone()),
        None => error.kind().into(),
    }
}

/// Buffers what is in the socket, and gives its end if one is behind that. A read that is short has emptied the socket but for
/// its end, of which the poller tells.
fn fill_plain(peeked: &mut Vec<u8>, socket: &Socket) -> Option<End> {
    let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
    while peeked.len() < PEEK_BYTES {
        match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok(((received, room), _)) if !received.is_empty() => {
                // The allocator is quickest with powers of two.
                peeked.reserve(received.len().next_power_of_two());
                peeked.extend_from_slice(received);
                if !room.is_empty() {
                    return None;
                }
            }
            Ok(_) => return Some(End::Closed),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return None,
            Err(error) => return Some(End::Failed(error.into())),
        }
    }
    None
}

/// Drops the first bytes. A connection that idles keeps no memory.
fn drop_first(peeked: &mut Vec<u8>, count: usize) {
    if count == peeked.len() {
        *peeked = Vec::new();
    } else {
        peeked.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// A socket that has received four bytes, and then a reset.
    fn reset() -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = Socket::from(TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection"));
        let (mut far, _) = listener.accept().expect("a connection");
        far.write_all(b"half").expect("room");
        let far = Socket::from(far);
        far.set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(far);
        near.set_nonblocking(true).expect("a socket");
        while !poll_for_errors(&near) {}
        near
    }

    fn poll_for_errors(socket: &Socket) -> bool {
        let mut polled = [PollFd::new(socket, PollFlags::empty())];
        poll(&mut polled, None).expect("an event");
        polled[0].revents().contains(PollFlags::ERR)
    }

    /// Was seen as: a body without a length, beside whose first half the rest of a request was still sent, looked whole.
    #[test]
    fn a_reset_that_a_write_was_told_of_is_no_end_in_order_to_reads() {
        for peeks in [false, true] {
            let (stream, mut buffer) = (ByteStream::new(reset()), [0; 8]);
            assert!(stream.send(&[IoSlice::new(b"rest")]).is_err());
            if peeks {
                let end = stream.peek(|peeked| peeked.end.is_some());
                let end = end || stream.peek(|peeked| peeked.end.is_some());
                assert!(end, "it is looked for twice");
            }
            assert_eq!(stream.read(&mut buffer).expect("what came before"), 4);
            let end = stream.read(&mut buffer).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "peeks: {peeks}");
        }
    }
}
