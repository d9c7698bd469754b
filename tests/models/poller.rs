//! The double of `src/poller.rs`: deadlines and turns, and sockets if it is made with them. Deadlines are either long past or
//! far away.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex as Cell;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::sync::bell::{ring, wait_for};

/// What a model's panic carries that is meant. The poller goes on after it.
pub struct Meant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Ready { read_closed: bool, dead: bool },
    Expired,
    Drain,
    Cut,
}

pub trait Owner: Send + Sync {
    fn turn(self: Arc<Self>, turn: Turn);
}

#[derive(Clone, Default)]
pub struct Poller(Arc<Shared>);

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
    kernel: Option<Kernel>,
}

/// It is asked without waiting, over and over.
struct Kernel {
    poll: Cell<Poll>,
    registry: Registry,
}

#[derive(Default)]
struct Watched {
    entries: Vec<Entry>,
    stopped: bool,
}

struct Entry {
    owner: Option<Arc<dyn Owner>>,
    deadline: Option<Instant>,
}

pub struct Watch {
    shared: Arc<Shared>,
    token: usize,
}

impl Poller {
    /// One that watches sockets as well.
    pub fn with_sockets() -> Poller {
        let poll = Poll::new().expect("a descriptor");
        let registry = poll.registry().try_clone().expect("a descriptor");
        let kernel = Some(Kernel { poll: Cell::new(poll), registry });
        Poller(Arc::new(Shared { kernel, ..Shared::default() }))
    }

    #[allow(clippy::unnecessary_wraps)] // The real one may fail.
    pub fn watch_all(&self, _: &impl AsFd, owner: Arc<dyn Owner>) -> io::Result<Watch> {
        Ok(self.alarm(owner))
    }

    pub fn alarm(&self, owner: Arc<dyn Owner>) -> Watch {
        let mut watched = self.0.lock();
        watched.entries.push(Entry { owner: Some(owner), deadline: None });
        Watch { shared: self.0.clone(), token: watched.entries.len() - 1 }
    }

    pub fn tell_all(&self, turn: Turn) {
        let owners: Vec<_> = self.0.lock().entries.iter().filter_map(|entry| entry.owner.clone()).collect();
        for owner in owners {
            owner.turn(turn);
        }
        if self.0.kernel.is_some() {
            ring();
        }
    }

    pub fn stop(&self) {
        let mut watched = self.0.lock();
        watched.stopped = true;
        let entries = std::mem::take(&mut watched.entries);
        drop(watched);
        drop(entries);
        self.0.notify();
    }

    /// The poller's thread: tells owners that their deadline has passed, and what has happened to their sockets, until it is
    /// stopped.
    pub fn run(&self) {
        if let Some(kernel) = &self.0.kernel {
            return self.run_with(kernel);
        }
        loop {
            let mut watched = self.0.lock();
            let expired = loop {
                if watched.stopped {
                    return;
                }
                if let Some(expired) = watched.pop_expired(Instant::now()) {
                    break expired;
                }
                watched = self.0.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
            };
            drop(watched);
            expired.turn(Turn::Expired);
        }
    }

    fn run_with(&self, kernel: &Kernel) {
        let mut events = Events::with_capacity(16);
        loop {
            let turns = wait_for(|| {
                let turns = self.look(kernel, &mut events);
                (turns.as_ref().is_none_or(|turns| !turns.is_empty())).then_some(turns)
            });
            let Some(turns) = turns else { return };
            for (token, turn) in turns {
                let owner = self.0.lock().entries.get(token).and_then(|entry| entry.owner.clone());
                if let Some(owner) = owner {
                    give(owner, turn);
                }
            }
        }
    }

    /// What there is to tell now, and whom; `None` if it is stopped.
    fn look(&self, kernel: &Kernel, events: &mut Events) -> Option<Vec<(usize, Turn)>> {
        let mut watched = self.0.lock();
        if watched.stopped {
            return None;
        }
        kernel.poll.lock().expect("one thread").poll(events, Some(Duration::ZERO)).expect("events");
        let ready = events.iter().map(|event| {
            let dead = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            (event.token().0, Turn::Ready { read_closed: event.is_read_closed(), dead })
        });
        let mut turns: Vec<_> = ready.collect();
        let now = Instant::now();
        while let Some(token) = watched.take_expired(now) {
            turns.push((token, Turn::Expired));
        }
        Some(turns)
    }
}

fn give(owner: Arc<dyn Owner>, turn: Turn) {
    survive(|| owner.turn(turn));
    ring();
}

/// As the poller's threads do.
pub fn survive(work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work))
        && !panic.is::<Meant>()
    {
        resume_unwind(panic);
    }
}

impl Watch {
    #[allow(clippy::unused_self)] // It makes no difference here.
    pub fn is_here(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // No socket gives turns here.
    pub fn rest(&self, _: &impl AsFd) {}

    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // The real one may fail.
    pub fn wake(&self, _: &impl AsFd) -> io::Result<()> {
        Ok(())
    }

    pub fn begin(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        let fd = socket.as_fd().as_raw_fd();
        kernel.registry.register(&mut SourceFd(&fd), Token(self.token), Interest::READABLE)
    }

    pub fn tell_of_room(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        kernel.registry.reregister(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(self.token), interest)?;
        ring();
        Ok(())
    }

    pub fn set_deadline(&self, deadline: Option<Instant>) {
        if let Some(entry) = self.shared.lock().entries.get_mut(self.token) {
            entry.deadline = deadline;
        }
        self.shared.notify();
    }

    pub fn end(&self) {
        let owner = self.shared.lock().entries.get_mut(self.token).and_then(|entry| entry.owner.take());
        drop(owner);
    }
}

impl Watched {
    fn pop_expired(&mut self, now: Instant) -> Option<Arc<dyn Owner>> {
        let token = self.take_expired(now)?;
        self.entries[token].owner.clone()
    }

    fn take_expired(&mut self, now: Instant) -> Option<usize> {
        let is_past = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        let token = self.entries.iter().position(is_past)?;
        self.entries[token].deadline = None;
        Some(token)
    }
}

impl Shared {
    fn notify(&self) {
        self.changed.notify_all();
        if self.kernel.is_some() {
            ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
