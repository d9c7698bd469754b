//! What ureq speaks through: a connection that is open already, plain or TLS. Knows nothing of how it was made.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport as UreqTransport,
};
use ureq::{Error, Timeout};

use super::inspector::{Inspector, interim_length};
use super::wire::Wire;

/// Gives ureq the one connection that was made for it.
pub(super) struct OneConnection(Mutex<Option<Connected>>);

/// A connection, after its TLS handshake if it has one.
pub(super) struct Connected {
    pub(super) wire: Arc<Wire>,
    pub(super) is_tls: bool,
    pub(super) inspector: Inspector,
}

impl OneConnection {
    pub(super) fn new(connected: Connected) -> OneConnection {
        OneConnection(Mutex::new(Some(connected)))
    }
}

impl Connector<()> for OneConnection {
    type Out = Transport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Transport>, Error> {
        let Some(connected) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            // ureq has dropped the connection; whoever made it makes another.
            return Err(Error::Io(io::ErrorKind::NotConnected.into()));
        };
        let config = details.config;
        let lazy = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let Connected { wire, is_tls, inspector } = connected;
        Ok(Some(Transport { buffers: NotedBuffers { lazy, wire: wire.clone(), inspector }, wire, is_tls }))
    }
}

impl fmt::Debug for OneConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneConnection").finish_non_exhaustive()
    }
}

/// One open connection. Waits for each read and write on the calling thread, within a deadline.
#[derive(Debug)]
pub(super) struct Transport {
    wire: Arc<Wire>,
    is_tls: bool,
    buffers: NotedBuffers,
}

impl Transport {
    /// Until when a read or write may wait: ureq's own limit or the leg's, whichever is nearer. ureq's clock began with
    /// its call, and the wait in the poller has used up a part of the time before.
    fn deadline(&self, timeout: NextTimeout) -> Instant {
        let now = Instant::now();
        let deadline = timeout.not_zero().map_or(now, |left| now + *left);
        match (timeout.reason, self.wire.head_by()) {
            (Timeout::RecvResponse, Some(head_by)) => deadline.min(head_by),
            _ => deadline,
        }
    }

    /// Reads once: how many bytes came, and how many of them ureq is to get, for now.
    fn read(&mut self, deadline: Instant) -> io::Result<(usize, Result<usize, &'static str>)> {
        let NotedBuffers { lazy, inspector, .. } = &mut self.buffers;
        let buffer = lazy.input_append_buf();
        let held = inspector.put_held(buffer);
        let count = self.wire.read(&mut buffer[held..], deadline)?;
        if count == 0 && held > 0 {
            // An end within a line.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((count, inspector.clean(&mut buffer[..held + count])))
    }

    /// Interim answers are not the answer. ureq would swallow them, too, but for a 100 that has fields.
    fn swallow_interim(&mut self) {
        if self.buffers.inspector.awaits_head() {
            while let Some(length) = interim_length(self.buffers.input()) {
                self.buffers.input_consume(length);
            }
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // After a 101 the connection goes on without ureq.
        self.wire.leave(self.buffers.lazy.input().to_vec());
    }
}

impl UreqTransport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.wire.note_reusable(false);
        self.buffers.inspector.note_request(&self.buffers.lazy.output()[..amount]);
        let ahead = self.wire.compare_with_ahead(&self.buffers.lazy.output()[..amount]).map_err(|differs| {
            log::error!("{differs}");
            Error::Other(Box::new(differs))
        })?;
        if ahead == amount {
            return Ok(());
        }
        let timeout = timeout.for_write();
        let deadline = self.deadline(timeout);
        let bytes = &self.buffers.lazy.output()[ahead..amount];
        self.wire.write_all(bytes, deadline).map_err(|error| error_of(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let deadline = self.deadline(timeout);
        loop {
            let (count, clean) = self.read(deadline).map_err(|error| error_of(error, timeout))?;
            if count == 0 {
                return Ok(false);
            }
            self.wire.note_answered();
            let clean = clean.map_err(|lie| Error::Other(lie.into()))?;
            self.buffers.input_appended(clean);
            self.swallow_interim();
            if let Some(lie) = self.buffers.inspector.lie() {
                return Err(Error::Other(lie.into()));
            }
            if clean > 0 {
                return Ok(true);
            }
        }
    }

    /// ureq asks when it returns the connection to its pool and when it takes it out again. Then the look that matters is
    /// the line's, before it was used again; by now there may be an answer.
    fn is_open(&mut self) -> bool {
        let is_open = self.wire.is_reusable() || self.wire.session().is_silent();
        self.wire.note_reusable(is_open);
        is_open
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

fn error_of(error: io::Error, timeout: NextTimeout) -> Error {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    match error.kind() {
        TimedOut => Error::Timeout(timeout.reason),
        // ureq takes these for the end of a body that has no length, and reports success: a reset, or a TLS connection
        // that ended without its farewell.
        ConnectionAborted | ConnectionReset | UnexpectedEof => Error::Other(Box::new(error)),
        _ => Error::Io(error),
    }
}

/// The end of one chunk and the size line of the next, in their plainest form: 16 hex digits and two line ends.
const CHUNK_FRAMING_BYTES_MAX: usize = 20;
/// What ends a chunked answer without trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// ureq's buffers, which tell the wire whether bytes of an answer are in them, and show heads to the inspector.
#[derive(Debug)]
struct NotedBuffers {
    lazy: LazyBuffers,
    wire: Arc<Wire>,
    inspector: Inspector,
}

impl NotedBuffers {
    /// The framing of chunks is bytes of which a read makes nothing. With more than it can hold something is sure to
    /// come, and with the last chunk the end.
    fn note(&self) {
        let input = self.lazy.input();
        let is_next_here = input.len() > CHUNK_FRAMING_BYTES_MAX || input.ends_with(LAST_CHUNK);
        self.wire.note_buffered(!input.is_empty(), is_next_here);
    }

    /// What came with the head is brought into form, too. If that can't be done, the leg loses: nobody has the head yet.
    fn clean_rest(&mut self) {
        let rest = self.lazy.input().to_vec();
        if rest.is_empty() {
            return;
        }
        self.lazy.input_consume(rest.len());
        let room = &mut self.lazy.input_append_buf()[..rest.len()];
        room.copy_from_slice(&rest);
        let clean = self.inspector.clean(room).unwrap_or(0);
        self.lazy.input_appended(clean);
    }
}

impl Buffers for NotedBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.lazy.output()
    }

    fn input(&self) -> &[u8] {
        self.lazy.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.lazy.input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.lazy.input_appended(amount);
        self.note();
    }

    fn input_consume(&mut self, amount: usize) {
        let is_head = amount > 0 && self.inspector.awaits_head();
        let chunks_follow = is_head && self.inspector.look_at_head(&self.lazy.input()[..amount]);
        self.lazy.input_consume(amount);
        if chunks_follow {
            self.clean_rest();
        }
        self.note();
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.lazy.tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        self.lazy.can_use_input()
    }
}
