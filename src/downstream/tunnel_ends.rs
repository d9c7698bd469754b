//! Both sides of a tunnel in one hand: what moves between them, how each ends, and when both have. However a side ends, what it
//! sent before is delivered first. Knows nothing of threads.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::downstream::client::socket::Client;
use crate::downstream::eviction::Activity;
use crate::downstream::flow::{Failed, Flow, Progress, now};
use crate::message::{Delivery, OnDelivered, TunnelPeer};

/// Pieces each way before others get the thread: a megabyte, or about a millisecond.
pub(crate) const ROUNDS_MAX: usize = 64;
/// How long what a side still sends is thrown away once both have been told the end. A socket that is closed with unread bytes
/// ends with a reset, and what it still had to send is lost.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// The two sides of a tunnel, and what is on its way between them.
pub(crate) struct TunnelEnds {
    pub(crate) far: Box<dyn TunnelPeer>,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    pub(crate) down: Flow,
    opened_at: Instant,
    pub(crate) moved_at: Instant,
    /// Until when it may last once both sides have been told the end.
    pub(crate) parts_until: Option<Instant>,
    /// The backend takes nothing any more.
    is_backend_lost: bool,
    /// What was lost first, if anything.
    pub(crate) failed: Option<Delivery>,
    pub(crate) ended: OnDelivered,
}

/// What a socket that isn't read any more has to say.
fn error_of(socket: BorrowedFd) -> Option<io::Error> {
    SockRef::from(&socket).take_error().unwrap_or_else(Some)
}

impl TunnelEnds {
    /// Nothing has moved yet; `unread` is what the client has sent already.
    pub(crate) fn new(far: Box<dyn TunnelPeer>, unread: Vec<u8>, ended: OnDelivered, now: Instant) -> TunnelEnds {
        TunnelEnds {
            far,
            up: Flow::holding(unread),
            down: Flow::default(),
            opened_at: now,
            moved_at: now,
            parts_until: None,
            is_backend_lost: false,
            failed: None,
            ended,
        }
    }

    /// Moves what can be moved without waiting.
    pub(crate) fn step(&mut self, client: &Client) -> Progress {
        let up = self.up.step(&mut &client.socket, &mut *self.far);
        let up = up.and_then(|progress| self.flush().map(|()| progress)).unwrap_or_else(|failed| {
            match failed {
                Failed::Source(error) => self.lose_client(error),
                Failed::Sink(error) => self.lose_backend(error),
            }
            Progress::Moved
        });
        let down = self.down.step(&mut *self.far, &mut &client.socket).unwrap_or_else(|failed| {
            match failed {
                // TLS without a farewell: many end so, and what is said in the tunnel has an end of its own.
                Failed::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Failed::Source(error) => self.lose_backend(error),
                Failed::Sink(error) => self.lose_client(error),
            }
            Progress::Moved
        });
        let progress = up.max(down);
        if progress == Progress::Moved {
            self.moved_at = Instant::now();
        }
        progress
    }

    fn flush(&mut self) -> Result<(), Failed> {
        if self.has_unsent() {
            now(self.far.flush().map(|()| 0)).map_err(Failed::Sink)?;
        }
        Ok(())
    }

    /// What a side that takes nothing any more would still be sent doesn't matter.
    fn has_unsent(&self) -> bool {
        !self.is_backend_lost && self.far.has_unsent()
    }

    /// The client takes nothing any more. What it sent before still reaches the backend.
    fn lose_client(&mut self, error: io::Error) {
        self.down.close();
        self.failed.get_or_insert(Delivery::ClientGone(error));
    }

    /// The backend takes nothing any more. What it sent before, its last word maybe, still reaches the client.
    fn lose_backend(&mut self, error: io::Error) {
        self.up.close();
        self.is_backend_lost = true;
        self.failed.get_or_insert(Delivery::BodyBroke(error));
    }

    /// A side that has ended isn't read any more, and so wouldn't be heard to die.
    pub(crate) fn look_after_ended(&mut self, client: &Client) {
        if self.up.source_ended
            && !self.down.closed
            && let Some(error) = error_of(client.socket.as_fd())
        {
            self.lose_client(error);
        }
        if self.down.source_ended
            && !self.up.closed
            && let Some(error) = error_of(self.far.as_fd())
        {
            self.lose_backend(error);
        }
    }

    /// Half-closes what is through.
    pub(crate) fn tell_ends(&mut self, client: &Client) {
        if self.up.is_through() && !self.has_unsent() {
            self.end_up();
        }
        if self.down.is_through() {
            self.end_down(client);
        }
    }

    fn end_up(&mut self) {
        self.up.close();
        self.far.end_writing();
    }

    fn end_down(&mut self, client: &Client) {
        self.down.close();
        let _ = client.socket.shutdown(Shutdown::Write);
    }

    /// Tells both sides the end, whatever is still in hand.
    pub(crate) fn start_closing(&mut self, client: &Client) {
        if !self.up.closed {
            self.end_up();
        }
        if !self.down.closed {
            self.end_down(client);
        }
    }

    /// Does at once what can be done before the end: moves what the sockets take, and reads what would make a reset of it.
    pub(crate) fn part_at_once(&mut self, client: &Client) {
        let work =
            |ends: &mut TunnelEnds| (0..ROUNDS_MAX).take_while(|_| ends.step(client) > Progress::Nothing).count();
        work(self);
        self.start_closing(client);
        work(self);
    }

    /// Whether the tunnel is over. What still comes once both sides have been told the end is thrown away for a while.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        if !self.up.closed || !self.down.closed {
            return false;
        }
        let parts_until = *self.parts_until.get_or_insert(now + CLOSING_TIME);
        let is_all_done = self.up.source_ended && self.down.source_ended && !self.has_unsent();
        is_all_done || now >= parts_until
    }

    pub(crate) fn activity(&self) -> Activity {
        Activity::Streaming { since: self.opened_at, bytes: self.up.total + self.down.total, moved: self.moved_at }
    }

    /// Whether the client has to take something first.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.down.is_pending()
    }
}
