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
/// A look reads no more often: records can be empty, and who looks has others to look for.
pub(super) const READS_MAX: usize = 16;

/// What has come and hasn't been read. It is used by the thread that runs the connection's leg, while the leg waits by the poller's
/// thread that looks for it, and beside an answer by the thread that sends the rest of its request. None of them holds the lock while
/// it waits.
#[derive(Default)]
pub(super) struct Session(Mutex<State>);

#[derive(Default)]
struct State {
    /// Our side of TLS, if the connection has it.
    tls: Option<Box<ClientConnection>>,
    /// The bytes that a look has shown; they are read first.
    shown: Vec<u8>,
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Nothing has come, and more may.
    Nothing,
    /// All that is here.
    Bytes(&'a [u8]),
    /// The first of more than is looked at.
    Begin(&'a [u8]),
    /// An end, or what is no TLS.
    End,
    /// The connection has failed: the socket tells it only once.
    Failed(io::ErrorKind),
}

impl Session {
    /// From now on the bytes are records.
    pub(super) fn begin(&self, tls: Box<ClientConnection>) {
        self.state().tls = Some(tls);
    }

    /// Whether the next bytes of the socket are the next that will be read.
    pub(super) fn is_bare(&self) -> bool {
        let state = self.state();
        state.tls.is_none() && state.shown.is_empty()
    }

    /// Whoever takes it reads and writes by itself; with it come bytes that have been shown.
    pub(super) fn take(&self) -> (Option<Box<ClientConnection>>, Vec<u8>) {
        let State { tls, shown } = std::mem::take(&mut *self.state());
        (tls, shown)
    }

    /// Looks at the first bytes that are here; they stay to be read. Doesn't block.
    pub(super) fn look<T>(&self, socket: &Socket, look: impl FnOnce(Seen) -> T) -> T {
        let State { tls, shown } = &mut *self.state();
        match tls {
            Some(tls) => look_at_decrypted(tls, shown, socket, look),
            None => look_at_plain(shown, socket, look),
        }
    }

    /// Looks at what the last look has shown, and no further.
    pub(super) fn look_again<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.state().shown)
    }

    /// Drops so many bytes that a look has shown.
    pub(super) fn skip(&self, count: usize) {
        drop_first(&mut self.state().shown, count);
    }

    /// Takes as many bytes as go without waiting: how many. Under TLS they are on the wire once all records are.
    pub(super) fn send(&self, socket: &Socket, parts: &[IoSlice]) -> io::Result<usize> {
        if let Some(tls) = &mut self.state().tls {
            return tls.writer().write_vectored(parts);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::AGAIN) => Ok(0),
            sent => Ok(sent?),
        }
    }

    /// Sends records, if there are any, as far as that goes without waiting: how many bytes of them, and whether that is all.
    pub(super) fn send_records(&self, socket: &Socket) -> io::Result<(usize, bool)> {
        self.state().tls.as_mut().map_or(Ok((0, true)), |tls| send_counted_records(tls, socket))
    }

    /// Reads what is here. Doesn't block: the error's kind is `WouldBlock` if nothing is, and `Interrupted` if many records
    /// have come that make no byte, so that the caller looks at its clock before it reads on.
    pub(super) fn read(&self, mut socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        let State { tls, shown } = &mut *self.state();
        if !shown.is_empty() {
            let count = (&shown[..]).read(buffer)?;
            drop_first(shown, count);
            return Ok(count);
        }
        match tls {
            Some(tls) => read_decrypted(tls, socket, buffer),
            None => socket.read(buffer),
        }
    }

    /// How many bytes have come and haven't been read. `None`: records that aren't decrypted may hold some.
    pub(super) fn count(&self, socket: &Socket) -> Option<u64> {
        let in_socket = rustix::io::ioctl_fionread(socket).ok()?;
        let State { tls, shown } = &mut *self.state();
        match tls {
            None => Some(shown.len() as u64 + in_socket),
            Some(_) if in_socket > 0 => None,
            Some(tls) => {
                let decrypted = tls.process_new_packets().ok()?.plaintext_bytes_to_read();
                Some((shown.len() + decrypted) as u64)
            }
        }
    }

    /// Whether nothing that nobody asked for has been shown or decrypted, nor the farewell.
    pub(super) fn is_silent(&self) -> bool {
        let State { tls, shown } = &mut *self.state();
        let is_silent = |tls: &mut Box<ClientConnection>| {
            tls.process_new_packets()
                .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
        };
        shown.is_empty() && tls.as_mut().is_none_or(is_silent)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Sends records until the socket would make it wait: whether all are sent.
pub(super) fn send_records(tls: &mut ClientConnection, socket: &Socket) -> io::Result<bool> {
    Ok(send_counted_records(tls, socket)?.1)
}

fn send_counted_records(tls: &mut ClientConnection, mut socket: &Socket) -> io::Result<(usize, bool)> {
    let mut count = 0;
    while tls.wants_write() {
        count += match tls.write_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((count, false)),
            written => written?,
        };
    }
    Ok((count, true))
}

/// Reads without waiting for anything to be written: a backend that answers early may read no more.
fn read_decrypted(tls: &mut ClientConnection, mut socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    for _ in 0..READS_MAX {
        let is_request_out = !tls.wants_write();
        // Also an error that a look has come upon.
        let processed = tls.process_new_packets();
        if is_request_out {
            // TLS may have something to say for itself: an alert, or that it has new keys.
            let _ = send_records(tls, socket);
        }
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        tls.read_tls(&mut socket)?;
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Keeps no memory for a connection that idles.
fn drop_first(shown: &mut Vec<u8>, count: usize) {
    if count == shown.len() {
        *shown = Vec::new();
    } else {
        shown.drain(..count);
    }
}

/// Takes what is here from the socket and keeps it.
fn look_at_plain<T>(shown: &mut Vec<u8>, socket: &Socket, look: impl FnOnce(Seen) -> T) -> T {
    // While a request goes out there are many looks at the same answer.
    if shown.len() >= LOOK_BYTES {
        return look(Seen::Begin(shown));
    }
    let mut buffer = [MaybeUninit::uninit(); LOOK_BYTES];
    match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
        Ok(((here, _), _)) if !here.is_empty() => shown.extend_from_slice(here),
        Ok(_) => return look(Seen::End),
        Err(Errno::AGAIN) if shown.is_empty() => return look(Seen::Nothing),
        Err(Errno::AGAIN) => {}
        Err(error) => return look(Seen::Failed(io::Error::from(error).kind())),
    }
    if shown.len() < LOOK_BYTES { look(Seen::Bytes(shown)) } else { look(Seen::Begin(shown)) }
}

/// Takes what is here from the socket, decrypts it and keeps it.
fn look_at_decrypted<T>(
    tls: &mut ClientConnection,
    shown: &mut Vec<u8>,
    mut socket: &Socket,
    look: impl FnOnce(Seen) -> T,
) -> T {
    for _ in 0..READS_MAX {
        let has_ended = tls.process_new_packets().map_or(true, |state| state.peer_has_closed());
        take_decrypted(tls, shown);
        if has_ended {
            return look(Seen::End);
        }
        if shown.len() >= LOOK_BYTES {
            break;
        }
        match tls.read_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && shown.is_empty() => return look(Seen::Nothing),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return look(Seen::Bytes(shown)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return look(Seen::Failed(error.kind())),
            Ok(0) => return look(Seen::End),
            Ok(_) => {}
        }
    }
    look(Seen::Begin(shown))
}

/// Keeps what has been decrypted, as much as a look shows.
fn take_decrypted(tls: &mut ClientConnection, shown: &mut Vec<u8>) {
    let mut reader = tls.reader();
    while shown.len() < LOOK_BYTES {
        // An end or a failure is told again when there is nothing else to read.
        let Ok(decrypted) = reader.fill_buf() else { return };
        let count = decrypted.len();
        if count == 0 {
            return;
        }
        shown.extend_from_slice(decrypted);
        reader.consume(count);
    }
}
