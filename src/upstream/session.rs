//! What the bytes of a connection are: themselves, or the records of TLS. Knows nothing of what they mean.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::mem::MaybeUninit;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::ClientConnection;
use socket2::Socket;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// So much of an answer is looked at before its leg goes on: almost every head, and many a whole answer.
pub(super) const LOOK_BYTES: usize = 16 * 1024;
/// rustls takes no more from the socket while so much waits to be read.
const DECRYPTED_BYTES_MAX: usize = LOOK_BYTES / 2;

/// A connection's side of TLS, if it has one. Whoever runs its leg uses it, and while the leg waits whoever looks for it:
/// nobody else, so that nobody waits for the lock.
#[derive(Default)]
pub(super) struct Session(Mutex<Option<Box<ClientConnection>>>);

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Nothing has come, and more may.
    Nothing,
    /// All that is here.
    Bytes(&'a [u8]),
    /// More than is looked at, an end, or an error.
    Enough,
    /// The peer has reset the connection, which the socket tells only once.
    Reset,
}

impl Session {
    /// From now on the bytes are records.
    pub(super) fn begin(&self, tls: Box<ClientConnection>) {
        *self.tls() = Some(tls);
    }

    /// Whether the bytes are records.
    pub(super) fn is_tls(&self) -> bool {
        self.tls().is_some()
    }

    /// Whoever takes it reads and writes by itself.
    pub(super) fn take(&self) -> Option<Box<ClientConnection>> {
        self.tls().take()
    }

    /// Looks at the first bytes that are here, and takes none. Doesn't block.
    pub(super) fn look<T>(&self, socket: &Socket, look: impl FnOnce(Seen) -> T) -> T {
        match &mut *self.tls() {
            Some(tls) => look_at_decrypted(tls, socket, look),
            None => look_at_plain(socket, look),
        }
    }

    /// Takes so many bytes that a look has shown: whether they were there.
    pub(super) fn skip(&self, socket: &Socket, count: usize) -> bool {
        if let Some(tls) = &mut *self.tls() {
            tls.reader().consume(count);
            return true;
        }
        let mut buffer = [MaybeUninit::uninit(); LOOK_BYTES];
        let taken = rustix::net::recv(socket, &mut buffer[..count], RecvFlags::DONTWAIT);
        taken.is_ok_and(|(_, taken)| taken == count)
    }

    /// Sends what goes without waiting: how many of the bytes were taken, and whether they are all on the wire.
    pub(super) fn send(&self, socket: &Socket, parts: &[IoSlice]) -> io::Result<(usize, bool)> {
        if let Some(tls) = &mut *self.tls() {
            let taken = tls.writer().write_vectored(parts)?;
            return Ok((taken, send_records(tls, socket)?));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let taken = rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags)?;
        Ok((taken, true))
    }

    /// Reads from a socket that waits.
    pub(super) fn read(&self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        let mut tls = self.tls();
        let Some(tls) = tls.as_deref_mut() else { return socket.read(buffer) };
        // An error that a look has come upon.
        tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        rustls::Stream::new(tls, socket).read(buffer)
    }

    /// Writes to a socket that waits.
    pub(super) fn write_all(&self, socket: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<()> {
        let mut tls = self.tls();
        let Some(tls) = tls.as_deref_mut() else { return socket.write_all(bytes) };
        let mut stream = rustls::Stream::new(tls, socket);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Whether nothing that nobody asked for has been decrypted, nor the farewell.
    pub(super) fn is_silent(&self) -> bool {
        self.tls().as_mut().is_none_or(|tls| {
            tls.process_new_packets()
                .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
        })
    }

    fn tls(&self) -> MutexGuard<'_, Option<Box<ClientConnection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Sends records until the socket would make it wait: whether all are sent.
pub(super) fn send_records(tls: &mut ClientConnection, mut socket: &Socket) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            written => written?,
        };
    }
    Ok(true)
}

fn look_at_plain<T>(socket: &Socket, look: impl FnOnce(Seen) -> T) -> T {
    let mut buffer = [MaybeUninit::uninit(); LOOK_BYTES];
    match rustix::net::recv(socket, &mut buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok(((here, _), _)) if !here.is_empty() && here.len() < LOOK_BYTES => look(Seen::Bytes(here)),
        Err(Errno::AGAIN) => look(Seen::Nothing),
        Err(Errno::CONNRESET) => look(Seen::Reset),
        _ => look(Seen::Enough),
    }
}

/// Decrypts what is here. What is in more than one record is enough, since it is seen in parts.
fn look_at_decrypted<T>(tls: &mut ClientConnection, mut socket: &Socket, look: impl FnOnce(Seen) -> T) -> T {
    let count = loop {
        let count = match tls.process_new_packets() {
            Ok(state) if !state.peer_has_closed() => state.plaintext_bytes_to_read(),
            _ => return look(Seen::Enough),
        };
        if count >= DECRYPTED_BYTES_MAX {
            return look(Seen::Enough);
        }
        match tls.read_tls(&mut socket) {
            Ok(0) => return look(Seen::Enough),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return look(Seen::Reset),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return look(Seen::Enough),
            _ => {}
        }
    };
    match tls.reader().fill_buf() {
        _ if count == 0 => look(Seen::Nothing),
        Ok(here) if here.len() == count => look(Seen::Bytes(here)),
        _ => look(Seen::Enough),
    }
}
