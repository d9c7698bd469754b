//! The records of TLS between a connection's state and its socket, both ways, as far as that goes without waiting. Knows nothing of
//! who else reads or writes.

use std::io::{self, BufRead, ErrorKind, Read};

use rustls::Connection;
use socket2::Socket;

/// The most bytes that are buffered before they are read: the longest head, and many a whole answer.
pub(super) const PEEK_BYTES: usize = 32 * 1024;
/// The most records in a row that hold no byte: behind them TLS is read on in another event, or the connection has failed.
const READS_MAX: usize = 16;

/// The most bytes of a client behind which nothing more of its handshake is read: a hello has 2 KiB at most where it is meant, and the
/// chain of its own certificate may follow. With the 4 KiB of the last read it is what [`crate::host`] reckons for a client that
/// isn't idle; the library itself would hold 64 KiB of a hello that never ends.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 28 * 1024;

/// The end of the peer's side of a connection.
#[derive(Debug)]
pub(crate) enum End {
    /// An end in order: FIN, or under TLS `close_notify`.
    Closed,
    Failed(io::Error),
}

/// Shakes hands as far as that goes without waiting, and gives whether that is done. The peer is told of a failure, if it can be.
pub(crate) fn shake_hands(tls: &mut Connection, mut socket: &Socket) -> io::Result<bool> {
    while tls.is_handshaking() {
        if !send_records(tls, socket)? {
            return Ok(false);
        }
        match tls.read_tls(&mut socket) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        if let Err(error) = tls.process_new_packets() {
            let _ = send_records(tls, socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
    send_records(tls, socket)
}

/// Buffers what is in the socket, decrypted, and gives its end if one is behind that. What came before an end is read first.
pub(super) fn fill_decrypted(
    tls: &mut Connection,
    peeked: &mut Vec<u8>,
    socket: &Socket,
    handshake_bytes: &mut usize,
) -> Option<End> {
    let mut reads_in_vain = 0;
    loop {
        let length = peeked.len();
        let processed = tls.process_new_packets();
        take_decrypted(tls, peeked);
        if peeked.len() >= PEEK_BYTES {
            // More may stand before an end or a failure, which is told again behind it.
            return None;
        }
        match processed {
            Ok(state) if state.peer_has_closed() => return Some(End::Closed),
            Ok(_) => {}
            Err(error) => return Some(End::Failed(io::Error::new(ErrorKind::InvalidData, error))),
        }
        reads_in_vain = if peeked.len() > length { 0 } else { reads_in_vain + 1 };
        if reads_in_vain > READS_MAX {
            // Session tickets without end, for one.
            return Some(End::Failed(io::Error::other("records without a byte in them, without end")));
        }
        match receive(tls, socket, handshake_bytes) {
            // A `close_notify` would have been told above.
            Ok(0) => return Some(End::Failed(ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return None,
                _ => return Some(End::Failed(error)),
            },
        }
    }
}

/// Buffers what has been decrypted, up to the most that is buffered.
fn take_decrypted(tls: &mut Connection, peeked: &mut Vec<u8>) {
    let mut reader = tls.reader();
    while peeked.len() < PEEK_BYTES {
        // An end or a failure is told again when there is nothing else to read.
        let Ok(decrypted) = reader.fill_buf() else { return };
        let count = decrypted.len();
        if count == 0 {
            return;
        }
        peeked.extend_from_slice(decrypted);
        reader.consume(count);
    }
}

/// Sends records until the socket would have to wait, and gives whether all are sent.
fn send_records(tls: &mut Connection, socket: &Socket) -> io::Result<bool> {
    Ok(send_counted_records(tls, socket)?.1)
}

pub(super) fn send_counted_records(tls: &mut Connection, mut socket: &Socket) -> io::Result<(usize, bool)> {
    let mut count = 0;
    while tls.wants_write() {
        count += match tls.write_tls(&mut socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((count, false)),
            written => written?,
        };
    }
    Ok((count, true))
}

/// Reads decrypted bytes without waiting for anything to be written: a backend that answers early may read no more.
pub(super) fn read_decrypted(
    tls: &mut Connection,
    socket: &Socket,
    buffer: &mut [u8],
    handshake_bytes: &mut usize,
) -> io::Result<usize> {
    for _ in 0..READS_MAX {
        let is_request_out = !tls.wants_write();
        // An error that a look has come upon is told here again.
        let processed = tls.process_new_packets();
        if is_request_out {
            // TLS may have an alert to send, or to say that it has new keys.
            let _ = send_records(tls, socket);
        }
        // What was decrypted before an error is read first.
        match tls.reader().read(buffer) {
            Ok(count @ 1..) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read if processed.is_ok() => return read,
            _ => {}
        }
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        receive(tls, socket, handshake_bytes)?;
    }
    Err(ErrorKind::Interrupted.into())
}

/// Takes what the socket has, and counts it while TLS hasn't been agreed on: an error if that is too much.
fn receive(tls: &mut Connection, mut socket: &Socket, handshake_bytes: &mut usize) -> io::Result<usize> {
    let is_handshaking = tls.is_handshaking();
    if is_handshaking && *handshake_bytes >= HANDSHAKE_BYTES_MAX {
        let reason = format!("its handshake is longer than {HANDSHAKE_BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    let count = tls.read_tls(&mut socket)?;
    *handshake_bytes += if is_handshaking { count } else { 0 };
    Ok(count)
}
