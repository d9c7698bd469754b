//! What ureq speaks through: one open connection, plain or TLS, that any thread can hang up on, and that remembers what
//! happened to it. Knows nothing of requests, and not when a connection may be used again.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::Socket;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Error, Timeout};

use crate::race::HangUp;

/// A connection's socket and its story, shared by the transport, its line and the token of the current leg.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    /// Until when the TLS handshake must be through.
    reach_by: Instant,
    /// A byte of the current answer has come.
    answered: AtomicBool,
    /// The peer reset the connection.
    reset: AtomicBool,
    /// Bytes of the answer are in the buffer: the next read won't wait.
    buffered: AtomicBool,
    /// ureq has read an answer to its end and would use the connection again.
    reusable: AtomicBool,
}

impl Wire {
    pub(super) fn new(socket: Socket, reach_by: Instant) -> Arc<Wire> {
        Arc::new(Wire {
            socket,
            reach_by,
            answered: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            buffered: AtomicBool::new(false),
            reusable: AtomicBool::new(false),
        })
    }

    /// A new request goes out.
    pub(super) fn begin(&self) {
        self.answered.store(false, Ordering::Release);
    }

    pub(super) fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    pub(super) fn has_buffered(&self) -> bool {
        self.buffered.load(Ordering::Acquire)
    }

    pub(super) fn is_reusable(&self) -> bool {
        self.reusable.load(Ordering::Acquire)
    }

    /// One look: no bytes that nobody asked for, and no end.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = rustix::net::recv(&self.socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(Errno::AGAIN))
    }
}

impl HangUp for Wire {
    fn hang_up(&self) {
        // It wakes whoever reads or writes. An error means that the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Gives ureq the one connection that was made for it.
pub(super) struct OneConnection {
    tcp: Mutex<Option<Tcp>>,
    wire: Arc<Wire>,
    tls: Arc<RustlsConnector>,
}

impl OneConnection {
    pub(super) fn new(wire: Arc<Wire>, tls: Arc<RustlsConnector>) -> OneConnection {
        OneConnection { tcp: Mutex::new(Some(Tcp::new(wire.clone()))), wire, tls }
    }
}

impl Connector<()> for OneConnection {
    type Out = LineTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<LineTransport>, Error> {
        let Some(mut tcp) = self.tcp.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            // ureq has dropped the connection; whoever made it makes another.
            return Err(Error::Io(io::ErrorKind::NotConnected.into()));
        };
        let config = details.config;
        tcp.buffers.lazy = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        tcp.buffers.is_plain = !details.needs_tls();
        let inner = self.tls.connect(details, Some(tcp))?.ok_or(Error::ConnectionFailed)?;
        Ok(Some(LineTransport { inner, wire: self.wire.clone() }))
    }
}

impl fmt::Debug for OneConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneConnection").finish_non_exhaustive()
    }
}

/// TCP, or TLS over it.
type Spoken = <RustlsConnector as Connector<Tcp>>::Out;

/// The outermost transport: notes what passes, and mends what ureq would take for the end of a body.
#[derive(Debug)]
pub(super) struct LineTransport {
    inner: Spoken,
    wire: Arc<Wire>,
}

impl Transport for LineTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.wire.reusable.store(false, Ordering::Release);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let arrived = self.inner.await_input(timeout).map_err(|error| match error {
            // ureq takes these for the end of a body that has no length, and reports success: a reset, or a TLS
            // connection that ended without its farewell.
            Error::Io(error) if is_broken_off(&error) => Error::Other(Box::new(error)),
            other => other,
        });
        if matches!(arrived, Ok(true)) {
            self.wire.answered.store(true, Ordering::Release);
        }
        arrived
    }

    /// ureq asks when it returns the connection to its pool and when it takes it out again. The look that matters is
    /// the line's, before it is used again.
    fn is_open(&mut self) -> bool {
        self.wire.reusable.store(true, Ordering::Release);
        true
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_broken_off(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Blocking TCP with a timeout on each call.
#[derive(Debug)]
pub(super) struct Tcp {
    wire: Arc<Wire>,
    buffers: NotedBuffers,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Tcp {
    fn new(wire: Arc<Wire>) -> Tcp {
        let buffers = NotedBuffers { lazy: LazyBuffers::new(1, 1), is_plain: false, wire: wire.clone() };
        Tcp { wire, buffers, read_timeout: None, write_timeout: None }
    }

    /// ureq counts the time to connect from the call's begin; the name and TCP have used up a part of it before.
    fn limit(&self, timeout: NextTimeout) -> Result<Option<Duration>, Error> {
        let limit = timeout.not_zero().map(|left| *left);
        let limit = if timeout.reason == Timeout::Connect {
            let left = self.wire.reach_by.saturating_duration_since(Instant::now());
            Some(limit.map_or(left, |limit| limit.min(left)))
        } else {
            limit
        };
        if timeout.after.is_zero() || limit.is_some_and(|limit| limit.is_zero()) {
            return Err(Error::Timeout(timeout.reason));
        }
        Ok(limit)
    }

    fn error(&self, error: io::Error, timeout: NextTimeout) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Error::Timeout(timeout.reason),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                self.wire.reset.store(true, Ordering::Release);
            }
            _ => {}
        }
        Error::Io(error)
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let limit = self.limit(timeout)?;
        if !is_near(self.write_timeout, limit) {
            self.wire.socket.set_write_timeout(limit)?;
            self.write_timeout = limit;
        }
        let written = (&self.wire.socket).write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| self.error(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = self.limit(timeout)?;
        if !is_near(self.read_timeout, limit) {
            self.wire.socket.set_read_timeout(limit)?;
            self.read_timeout = limit;
        }
        let buffer = self.buffers.input_append_buf();
        let read = loop {
            match (&self.wire.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = read.map_err(|error| self.error(error, timeout))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        true
    }
}

/// ureq's buffers, which tell the wire whether bytes of an answer are in them.
#[derive(Debug)]
struct NotedBuffers {
    lazy: LazyBuffers,
    /// Under TLS they hold its records, of which nobody can tell whether they make a byte of the answer.
    is_plain: bool,
    wire: Arc<Wire>,
}

impl NotedBuffers {
    fn note(&self) {
        self.wire.buffered.store(self.is_plain && !self.lazy.input().is_empty(), Ordering::Release);
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
        self.lazy.input_consume(amount);
        self.note();
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.lazy.tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        self.lazy.can_use_input()
    }
}

/// Whether a socket's timeout is near enough to the wanted one to save the system call: by a sixteenth and 5 ms.
fn is_near(set: Option<Duration>, wanted: Option<Duration>) -> bool {
    match (set, wanted) {
        (None, None) => true,
        (Some(set), Some(wanted)) => set.abs_diff(wanted) <= wanted / 16 + Duration::from_millis(5),
        _ => false,
    }
}
