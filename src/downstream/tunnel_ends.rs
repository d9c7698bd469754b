//! Both sides of a tunnel in one hand: what moves between them, how each ends, and when both have. However a side ends, what it
//! sent before is delivered first. Knows nothing of threads.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::downstream::client::socket::Client;
use crate::downstream::eviction::Activity;
use crate::downstream::flow::{Flow, FlowError, FlowStep, without_waiting};
use crate::message::{Delivery, OnDelivered, TunnelPeer};

/// Pieces each way before others get the thread: a megabyte, or about a millisecond.
pub(crate) const STEPS_MAX: usize = 64;
/// How long what a side still sends is discarded once both have been told the end. A socket that is closed with unread bytes
/// ends with a reset, and what it still had to send is lost.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// The two sides of a tunnel, and what is on its way between them.
pub(crate) struct TunnelEnds {
    pub(crate) backend: Box<dyn TunnelPeer>,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    opened_at: Instant,
    pub(crate) moved_at: Instant,
    /// Until when it may last once both sides have been told the end.
    pub(crate) closing_until: Option<Instant>,
    /// The backend takes nothing any more.
    is_backend_lost: bool,
    /// What was lost first, if anything.
    pub(crate) failed: Option<Delivery>,
    pub(crate) ended: OnDelivered,
}

/// The client's side.
struct Side<'a>(&'a Client);

impl Read for Side<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_some(buffer)
    }
}

impl Write for Side<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_some(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pending error of a socket that isn't read any more.
fn error_of(socket: BorrowedFd) -> Option<io::Error> {
    SockRef::from(&socket).take_error().unwrap_or_else(Some)
}

impl TunnelEnds {
    /// Ends between which nothing has moved yet. The client gets `head` first; `unread` is what it has sent already.
    pub(crate) fn new(
        backend: Box<dyn TunnelPeer>,
        head: Vec<u8>,
        unread: Vec<u8>,
        ended: OnDelivered,
        now: Instant,
    ) -> TunnelEnds {
        TunnelEnds {
            backend,
            up: Flow::with_pending(unread),
            down: Flow::with_pending(head),
            opened_at: now,
            moved_at: now,
            closing_until: None,
            is_backend_lost: false,
            failed: None,
            ended,
        }
    }

    /// Moves what can be moved without waiting.
    pub(crate) fn step(&mut self, client: &Client) -> FlowStep {
        let up = self.up.step(&mut Side(client), &mut *self.backend);
        let up = up.and_then(|step| self.flush().map(|()| step)).unwrap_or_else(|failed| {
            match failed {
                // TLS without a farewell: many end so, and what is said in the tunnel has an end of its own.
                FlowError::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                FlowError::Source(error) => self.lose_client(error),
                FlowError::Sink(error) => self.lose_backend(error),
            }
            FlowStep::Moved
        });
        let down = self.down.step(&mut *self.backend, &mut Side(client)).unwrap_or_else(|failed| {
            match failed {
                FlowError::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                FlowError::Source(error) => self.lose_backend(error),
                FlowError::Sink(error) => self.lose_client(error),
            }
            FlowStep::Moved
        });
        if let Err(error) = client.flush() {
            self.lose_client(error);
        }
        let step = up.max(down);
        if step == FlowStep::Moved {
            self.moved_at = Instant::now();
        }
        step
    }

    fn flush(&mut self) -> Result<(), FlowError> {
        if self.has_unsent() {
            without_waiting(self.backend.flush().map(|()| 0)).map_err(FlowError::Sink)?;
        }
        Ok(())
    }

    /// Whether the backend's side holds bytes that are still to be sent. Those for a backend that takes nothing any more don't
    /// matter.
    fn has_unsent(&self) -> bool {
        !self.is_backend_lost && self.backend.has_unsent()
    }

    /// Notes that the client takes nothing any more. What it sent before still reaches the backend.
    fn lose_client(&mut self, error: io::Error) {
        self.down.close();
        self.failed.get_or_insert(Delivery::ClientGone(error));
    }

    /// Notes that the backend takes nothing any more. What it sent before, its last word maybe, still reaches the client.
    fn lose_backend(&mut self, error: io::Error) {
        self.up.close();
        self.is_backend_lost = true;
        self.failed.get_or_insert(Delivery::BodyBroke(error));
    }

    /// Looks for errors of a side that has ended: it isn't read any more, and so its death wouldn't be noticed.
    pub(crate) fn check_ended_sides(&mut self, client: &Client) {
        if self.up.source_ended
            && !self.down.closed
            && let Some(error) = error_of(client.socket().as_fd())
        {
            self.lose_client(error);
        }
        if self.down.source_ended
            && !self.up.closed
            && let Some(error) = error_of(self.backend.as_fd())
        {
            self.lose_backend(error);
        }
    }

    /// Half-closes a side once all that the other sent before its end has been written to it.
    pub(crate) fn forward_ends(&mut self, client: &Client) {
        if self.up.is_finished() && !self.has_unsent() {
            self.end_up();
        }
        if self.down.is_finished() {
            self.end_down(client);
        }
    }

    fn end_up(&mut self) {
        self.up.close();
        self.backend.end_writing();
    }

    fn end_down(&mut self, client: &Client) {
        self.down.close();
        client.end_writing();
    }

    /// Tells both sides the end, whatever is still pending.
    pub(crate) fn start_closing(&mut self, client: &Client) {
        if !self.up.closed {
            self.end_up();
        }
        if !self.down.closed {
            self.end_down(client);
        }
    }

    /// Does at once what can be done before the end: moves what the sockets take, and reads what would make a reset of it.
    pub(crate) fn close_at_once(&mut self, client: &Client) {
        let drive = |ends: &mut TunnelEnds| (0..STEPS_MAX).take_while(|_| ends.step(client) > FlowStep::Idle).count();
        drive(self);
        self.start_closing(client);
        drive(self);
    }

    /// Notes since when both sides have been told the end, if they have: what still comes is discarded for a while.
    pub(crate) fn note_closing(&mut self, now: Instant) {
        if self.up.closed && self.down.closed {
            self.closing_until.get_or_insert(now + CLOSING_TIME);
        }
    }

    /// Whether the tunnel is over: both sides have been told the end, and have ended or had their time.
    pub(crate) fn is_over(&self, client: &Client, now: Instant) -> bool {
        let has_unsent = self.has_unsent() || client.has_unsent();
        let have_ended = self.up.source_ended && self.down.source_ended && !has_unsent;
        self.closing_until.is_some_and(|until| have_ended || now >= until)
    }

    pub(crate) fn activity(&self) -> Activity {
        Activity::Streaming { since: self.opened_at, bytes: self.up.total + self.down.total, moved_at: self.moved_at }
    }

    /// Whether the client has to take something first.
    pub(crate) fn awaits_client(&self, client: &Client) -> bool {
        self.down.has_pending() || client.has_unsent()
    }
}
