//! The double of `src/poller.rs`: deadlines and turns, no sockets. Deadlines are either long past or far away.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    }

    pub fn stop(&self) {
        let mut watched = self.0.lock();
        watched.stopped = true;
        let entries = std::mem::take(&mut watched.entries);
        drop(watched);
        drop(entries);
        self.0.changed.notify_all();
    }

    /// The poller's thread: tells owners that their deadline has passed, until it is stopped.
    pub fn run(&self) {
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

    pub fn set_deadline(&self, deadline: Option<Instant>) {
        if let Some(entry) = self.shared.lock().entries.get_mut(self.token) {
            entry.deadline = deadline;
        }
        self.shared.changed.notify_all();
    }

    pub fn end(&self) {
        let owner = self.shared.lock().entries.get_mut(self.token).and_then(|entry| entry.owner.take());
        drop(owner);
    }
}

impl Watched {
    fn pop_expired(&mut self, now: Instant) -> Option<Arc<dyn Owner>> {
        let entry = self.entries.iter_mut().find(|entry| entry.deadline.is_some_and(|deadline| deadline <= now))?;
        entry.deadline = None;
        entry.owner.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
