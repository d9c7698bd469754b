//! The double of `src/poller.rs`: deadlines and events, and sockets if it is made with them. Deadlines are either long past or
//! far away.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex as Cell;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::runtime::sync::bell::{ring, wait_for};

/// What a model's panic carries that is meant. The poller goes on after it.
pub struct Meant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Ready { read_closed: bool, dead: bool },
    Expired,
    Drain,
    Cut,
}

pub trait EventHandler: Send + Sync {
    fn on_event(self: Arc<Self>, event: Event);
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
    handler: Option<Arc<dyn EventHandler>>,
    deadline: Option<Instant>,
}

pub struct Registration {
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

    pub fn reserve(&self) -> Registration {
        let mut watched = self.0.lock();
        watched.entries.push(Entry { handler: None, deadline: None });
        Registration { shared: self.0.clone(), token: watched.entries.len() - 1 }
    }

    pub fn reserve_upstream(&self) -> Registration {
        self.reserve()
    }

    pub fn broadcast(&self, event: Event) {
        let handlers: Vec<_> = self.0.lock().entries.iter().filter_map(|entry| entry.handler.clone()).collect();
        for handler in handlers {
            handler.on_event(event);
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

    /// The poller's thread: tells handlers that their deadline has passed, and what has happened to their sockets, until it is
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
            expired.on_event(Event::Expired);
        }
    }

    fn run_with(&self, kernel: &Kernel) {
        let mut events = Events::with_capacity(16);
        loop {
            let events = wait_for(|| {
                let events = self.look(kernel, &mut events);
                (events.as_ref().is_none_or(|events| !events.is_empty())).then_some(events)
            });
            let Some(events) = events else { return };
            for (token, event) in events {
                let handler = self.0.lock().entries.get(token).and_then(|entry| entry.handler.clone());
                if let Some(handler) = handler {
                    give(handler, event);
                }
            }
        }
    }

    /// What there is to tell now, and whom; `None` if it is stopped.
    fn look(&self, kernel: &Kernel, events: &mut Events) -> Option<Vec<(usize, Event)>> {
        let mut watched = self.0.lock();
        if watched.stopped {
            return None;
        }
        kernel.poll.lock().expect("one thread").poll(events, Some(Duration::ZERO)).expect("events");
        let ready = events.iter().map(|event| {
            let dead = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            (event.token().0, Event::Ready { read_closed: event.is_read_closed(), dead })
        });
        let mut events: Vec<_> = ready.collect();
        let now = Instant::now();
        while let Some(token) = watched.take_expired(now) {
            events.push((token, Event::Expired));
        }
        Some(events)
    }
}

fn give(handler: Arc<dyn EventHandler>, event: Event) {
    survive(|| handler.on_event(event));
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

impl Registration {
    #[allow(clippy::unused_self)] // It makes no difference here.
    pub fn is_on_current_thread(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // No socket gives events here.
    pub fn pause(&self, _: &impl AsFd) {}

    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // The real one may fail.
    pub fn wake(&self, _: &impl AsFd) -> io::Result<()> {
        Ok(())
    }

    pub fn watch_reads(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        let fd = socket.as_fd().as_raw_fd();
        kernel.registry.register(&mut SourceFd(&fd), Token(self.token), Interest::READABLE)
    }

    pub fn watch_writes(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        kernel.registry.reregister(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(self.token), interest)?;
        ring();
        Ok(())
    }

    pub fn watch(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        let interest = Interest::READABLE | Interest::WRITABLE;
        kernel.registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(self.token), interest)
    }

    pub fn set_deadline(&self, deadline: Option<Instant>) {
        if let Some(entry) = self.shared.lock().entries.get_mut(self.token) {
            entry.deadline = deadline;
        }
        self.shared.notify();
    }

    pub fn start(&self, handler: Arc<dyn EventHandler>) {
        if let Some(entry) = self.shared.lock().entries.get_mut(self.token) {
            entry.handler = Some(handler);
        }
    }

    pub fn end(&self) {
        let handler = self.shared.lock().entries.get_mut(self.token).and_then(|entry| entry.handler.take());
        drop(handler);
    }
}

impl Watched {
    fn pop_expired(&mut self, now: Instant) -> Option<Arc<dyn EventHandler>> {
        let token = self.take_expired(now)?;
        self.entries[token].handler.clone()
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
