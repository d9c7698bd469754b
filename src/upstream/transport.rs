//! What ureq speaks through: a connection that is open already, plain or TLS. Knows nothing of how it was made.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ureq::unversioned::transport::{
    Buffers as UreqBuffers, ConnectionDetails, Connector, NextTimeout, Transport as UreqTransport,
};
use ureq::{Error, Timeout};

use super::buffers::{Buffers, Spare};
use super::inspector::{Inspector, interim_length};
use super::wire::Wire;
use crate::wait;

/// Comparing a byte is so much less work than moving one.
const COMPARED_PER_MOVED: usize = 8;

/// Gives ureq the one connection that was made for it.
pub(super) struct OneConnection(Mutex<Option<Connected>>);

/// A connection, after its TLS handshake if it has one.
pub(super) struct Connected {
    pub(super) wire: Arc<Wire>,
    pub(super) is_tls: bool,
    pub(super) inspector: Inspector,
    pub(super) spare: Spare,
}

impl OneConnection {
    pub(super) fn new(connected: Connected) -> OneConnection {
        OneConnection(Mutex::new(Some(connected)))
    }
}

impl Connector<()> for OneConnection {
    type Out = Transport;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Transport>, Error> {
        let Some(connected) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            // ureq has dropped the connection; whoever made it makes another.
            return Err(Error::Io(io::ErrorKind::NotConnected.into()));
        };
        let Connected { wire, is_tls, inspector, spare } = connected;
        let buffers = Buffers::new(spare, wire.clone(), inspector.clone());
        Ok(Some(Transport { wire, is_tls, buffers, inspector }))
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
    buffers: Buffers,
    inspector: Inspector,
}

impl Transport {
    /// Until when a read may wait: ureq's own limit or the leg's, whichever is nearer. ureq's clock began with its call, and
    /// the wait in the poller has used up a part of the time before.
    fn deadline(&self, timeout: NextTimeout) -> Instant {
        let now = Instant::now();
        let deadline = timeout.not_zero().map_or(now, |left| now + *left);
        match (timeout.reason, self.wire.leg_deadline()) {
            (Timeout::RecvResponse, Some(of_leg)) => deadline.min(of_leg),
            _ => deadline,
        }
    }

    /// Reads once: how many bytes came, and how many of them ureq is to get, for now.
    fn read(&mut self, deadline: Instant) -> io::Result<(usize, Result<usize, &'static str>)> {
        let inspector = &mut self.inspector;
        let buffer = self.buffers.input_append_buf();
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
        if self.inspector.awaits_head() {
            while let Some(length) = interim_length(self.buffers.input()) {
                self.buffers.input_consume(length);
            }
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // After a 101 the connection goes on without ureq.
        self.wire.leave(self.buffers.input().to_vec());
    }
}

impl UreqTransport for Transport {
    fn buffers(&mut self) -> &mut dyn UreqBuffers {
        &mut self.buffers
    }

    /// Writes nothing: the request is on the wire, or as much of it as the backend would have.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.wire.story().note_reusable(false);
        let bytes = &self.buffers.output()[..amount];
        self.inspector.note_request(bytes);
        wait::moved(amount / COMPARED_PER_MOVED);
        self.wire.compare_with_request(bytes).map_err(|differs| {
            log::error!("{differs}");
            Error::Other(Box::new(differs))
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let deadline = self.deadline(timeout);
        loop {
            let (count, clean) = self.read(deadline).map_err(|error| error_of(error, timeout))?;
            if count == 0 {
                return Ok(false);
            }
            self.wire.story().note_answered();
            let clean = clean.map_err(|lie| Error::Other(lie.into()))?;
            self.buffers.input_appended(clean);
            self.swallow_interim();
            if let Some(lie) = self.inspector.lie() {
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
        let is_open = self.wire.story().is_reusable() || self.wire.session().is_silent();
        self.wire.story().note_reusable(is_open);
        self.buffers.rest();
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
