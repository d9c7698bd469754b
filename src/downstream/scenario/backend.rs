//! A backend's side of a tunnel.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::downstream::scenario::SOON;
use crate::message::{OnReady, TunnelPeer};
use crate::runtime::sync::{Arc, Mutex};

/// What a backend's side does when it is written to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum OnWrite {
    #[default]
    Takes,
    Fails,
    Panics,
}

/// The test's end of a tunnel's connection to a backend.
pub(crate) struct Backend {
    pub(crate) socket: UnixStream,
    shared: Arc<Mutex<BackendState>>,
}

#[derive(Default)]
struct BackendState {
    ready: Option<OnReady>,
    on_write: OnWrite,
    is_aborted: bool,
}

struct BackendPeer {
    socket: UnixStream,
    shared: Arc<Mutex<BackendState>>,
}

impl Backend {
    pub(crate) fn new() -> (Backend, Box<dyn TunnelPeer>) {
        let (near, socket) = UnixStream::pair().expect("two sockets");
        near.set_nonblocking(true).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        let shared: Arc<Mutex<BackendState>> = Arc::default();
        (Backend { socket, shared: shared.clone() }, Box::new(BackendPeer { socket: near, shared }))
    }

    pub(crate) fn on_write(&self, on_write: OnWrite) {
        self.shared.lock().on_write = on_write;
    }

    /// The backend sends bytes, and their event is given.
    pub(crate) fn send(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).expect("room");
        self.tell();
    }

    /// The backend sends its end, and its event is given.
    pub(crate) fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("a connection");
        self.tell();
    }

    fn tell(&self) {
        let ready = self.shared.lock().ready.clone();
        ready.expect("a tunnel")();
    }

    pub(crate) fn read(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).expect("bytes");
        String::from_utf8(bytes).expect("ASCII")
    }

    /// Whether the backend has received the client's end after nothing more.
    pub(crate) fn has_received_end(&mut self) -> bool {
        self.socket.read(&mut [0]).is_ok_and(|count| count == 0)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.shared.lock().is_aborted
    }
}

impl Read for BackendPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for BackendPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let on_write = self.shared.lock().on_write;
        match on_write {
            OnWrite::Takes => self.socket.write(bytes),
            OnWrite::Fails => Err(io::ErrorKind::BrokenPipe.into()),
            OnWrite::Panics => std::panic::resume_unwind(Box::new("meant")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for BackendPeer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TunnelPeer for BackendPeer {
    fn has_unsent(&self) -> bool {
        false
    }

    fn end_writing(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {
        self.shared.lock().is_aborted = true;
    }

    fn when_ready(&mut self, ready: OnReady) {
        self.shared.lock().ready = Some(ready);
    }
}
