//! A connection after a 101: bytes both ways between a client and a backend, until both have ended or nothing moves for too
//! long. While nothing is to be moved it waits in the poller. Knows nothing of what the bytes mean.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::client::{Client, LOOK_UP_TIME};
use crate::message::{Delivery, FarSide, TunnelCare};
use crate::poller::Turn;
use crate::wait;

/// Moved in one piece, in either direction.
const PIECE_BYTES: usize = 16 * 1024;

/// Two connections that are one.
pub(super) struct Tunnel {
    client: Arc<Client>,
    run: Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>,
    shared: Mutex<Shared>,
}

struct Shared {
    /// `None` while somebody moves bytes. Whoever takes it out owns both sides.
    ends: Option<Box<Ends>>,
    /// Something happened while somebody moved bytes: whoever gives the ends back must look.
    pending: bool,
    /// The tunnel is over, or is to be.
    closed: bool,
}

struct Ends {
    far: Box<dyn FarSide>,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    moved_at: Instant,
    ended: Box<dyn FnOnce(Delivery) + Send>,
}

/// One direction: what has been read and not yet been written.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    written: usize,
    source_ended: bool,
    /// The end has been told to the other side.
    closed: bool,
}

impl Flow {
    fn is_pending(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Reads if nothing is pending, writes what is: whether anything moved. Waits for nothing.
    fn step(&mut self, source: &mut dyn Read, sink: &mut dyn Write) -> Result<bool, Failed> {
        let mut moved = false;
        if !self.is_pending() && !self.source_ended {
            self.bytes.resize(PIECE_BYTES, 0);
            let read = now(source.read(&mut self.bytes)).map_err(Failed::Source)?;
            self.source_ended = read == Some(0);
            moved = read.is_some();
            self.written = 0;
            self.bytes.truncate(read.unwrap_or(0));
        }
        if self.is_pending() {
            let count = now(sink.write(&self.bytes[self.written..])).map_err(Failed::Sink)?.unwrap_or(0);
            self.written += count;
            moved |= count > 0;
        }
        if !self.is_pending() {
            // A silent tunnel keeps no buffer.
            self.bytes = Vec::new();
            self.written = 0;
        }
        Ok(moved)
    }

    /// Whether the end is to be told now, once.
    fn closes_now(&mut self) -> bool {
        self.source_ended && !self.is_pending() && !std::mem::replace(&mut self.closed, true)
    }
}

/// Which side of a flow has failed.
enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// What was done at once; `None` if it would have to wait.
fn now(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Ends {
    /// Moves what can be moved without waiting: whether anything was.
    fn step(&mut self, client: &Client) -> Result<bool, Delivery> {
        let up = self.up.step(&mut &client.socket, &mut *self.far).map_err(|failed| match failed {
            Failed::Source(error) => Delivery::ClientGone(error),
            Failed::Sink(error) => Delivery::BodyBroke(error),
        })?;
        let down = self.down.step(&mut *self.far, &mut &client.socket).map_err(|failed| match failed {
            Failed::Source(error) => Delivery::BodyBroke(error),
            Failed::Sink(error) => Delivery::ClientGone(error),
        })?;
        let flushed = now(self.far.flush().map(|()| 0)).map_err(Delivery::BodyBroke)?;
        if flushed.is_some() && self.up.closes_now() {
            self.far.end_writing();
        }
        if self.down.closes_now() {
            let _ = client.socket.shutdown(Shutdown::Write);
        }
        if up || down {
            self.moved_at = Instant::now();
        }
        Ok(up || down)
    }

    fn have_ended(&self) -> bool {
        self.up.closed && self.down.closed
    }

    /// Something has been read that can't be written yet: the poller, which waits for reading only, can't help.
    fn is_stuck(&self) -> bool {
        self.up.is_pending() || self.down.is_pending() || self.far.has_unsent()
    }

    /// Waits on this thread until something can go on, but not for long.
    fn wait(&self, client: &Client, deadline: Instant) {
        let flags = |flow: &Flow, other: &Flow, unsent: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !flow.is_pending() && !flow.source_ended);
            flags.set(PollFlags::OUT, other.is_pending() || unsent);
            flags
        };
        let of_client = (client.socket.as_fd(), flags(&self.up, &self.down, false));
        let of_far = (self.far.as_fd(), flags(&self.down, &self.up, self.far.has_unsent()));
        // A side of which nothing is wanted would end every wait at once if it is dead.
        let wanted = [of_client, of_far].into_iter().filter(|(_, flags)| !flags.is_empty());
        let mut wanted: Vec<_> = wanted.map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags)).collect();
        // At the deadline, and when the house closes, the next round ends it.
        let _ = wait::until_any(&mut wanted, deadline.min(Instant::now() + LOOK_UP_TIME));
    }
}

impl Tunnel {
    /// Joins the two; `unread` is what the client has sent already.
    pub(super) fn open(client: Arc<Client>, unread: Vec<u8>, far: Box<dyn FarSide>, care: TunnelCare) {
        let up = Flow { bytes: unread, ..Flow::default() };
        let ends = Ends { far, up, down: Flow::default(), moved_at: Instant::now(), ended: care.ended };
        // There may be something to read by now, and no edge will tell: somebody looks at once.
        let shared = Shared { ends: None, pending: false, closed: false };
        let tunnel = Arc::new(Tunnel { client, run: care.run, shared: Mutex::new(shared) });
        tunnel.client.enter_tunnel(&tunnel);
        let weak = Arc::downgrade(&tunnel);
        ends.far.when_ready(Box::new(move || {
            if let Some(tunnel) = weak.upgrade() {
                tunnel.wake();
            }
        }));
        tunnel.work(Box::new(ends));
    }

    /// A turn of the client's socket.
    pub(super) fn turn(self: &Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { .. } | Turn::Expired => self.wake(),
            Turn::Drain => {}
            Turn::Cut => {
                self.shared().closed = true;
                let _ = self.client.socket.shutdown(Shutdown::Both);
                self.wake();
            }
        }
    }

    /// Something has happened at one of the ends.
    fn wake(self: &Arc<Self>) {
        let ends = {
            let mut shared = self.shared();
            let ends = shared.ends.take();
            shared.pending |= ends.is_none();
            ends
        };
        if let Some(ends) = ends {
            let tunnel = self.clone();
            (self.run)(Box::new(move || tunnel.work(ends)));
        }
    }

    /// Moves what is there, until nothing is.
    fn work(self: &Arc<Self>, mut ends: Box<Ends>) {
        let mut wait = None;
        loop {
            let deadline = ends.moved_at + self.client.front().write_timeout;
            match ends.step(&self.client) {
                Ok(true) => wait = None,
                Ok(false) if ends.have_ended() || self.is_over(deadline) => return self.end(*ends, Delivery::Whole),
                Ok(false) if ends.is_stuck() => {
                    if ends.down.is_pending() && wait.is_none() {
                        wait = Some(self.client.begin_wait());
                    }
                    ends.wait(&self.client, deadline);
                }
                Ok(false) => match self.give_back(ends, deadline) {
                    None => return,
                    Some(again) => ends = again,
                },
                Err(failed) => return self.end(*ends, failed),
            }
        }
    }

    /// Gives the ends to the poller, or back if something happened meanwhile.
    fn give_back(&self, ends: Box<Ends>, deadline: Instant) -> Option<Box<Ends>> {
        let mut shared = self.shared();
        if std::mem::take(&mut shared.pending) {
            return Some(ends);
        }
        if let Some(watch) = self.client.watch.get() {
            watch.set_deadline(Some(deadline));
        }
        shared.ends = Some(ends);
        None
    }

    fn is_over(&self, deadline: Instant) -> bool {
        self.shared().closed || Instant::now() >= deadline
    }

    fn end(&self, ends: Ends, delivery: Delivery) {
        self.shared().closed = true;
        match delivery {
            Delivery::Whole => self.client.close(),
            _ => self.client.abort(),
        }
        self.client.seat().tunnel = None;
        let Ends { far, ended, .. } = ends;
        drop(far);
        ended(delivery);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
