//! Waits for many sockets and for the next deadline, and tells each owner that its turn has come. Several threads may share
//! the work: each has its own share of the sockets.
//! Never blocks elsewhere, and knows nothing of what the sockets are or what their owners do.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

/// Events taken from the kernel in one call: more than a loaded host has ready at once.
const EVENTS_MAX: usize = 1024;
/// The waker's own token; watches count up from the next.
const WAKER: Token = Token(0);

/// What an owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Bytes, an end or an error arrived since the last time: read until it would block.
    Ready {
        /// The peer sends no more; what it sent before may still be unread.
        read_closed: bool,
        /// The connection is dead both ways.
        dead: bool,
    },
    /// The deadline has passed.
    Expired,
    /// The house closes: finish what is under way, begin nothing.
    Drain,
    /// The house is closed: end now.
    Cut,
}

/// What is told about a socket or a deadline, for each watch always on the same thread of the poller's. It must not block.
pub trait Owner: Send + Sync {
    /// Takes the turn.
    fn turn(self: Arc<Self>, turn: Turn);
}

/// A handle on the poller; clones share it.
#[derive(Clone)]
pub struct Poller(Arc<Shares>);

/// Each thread waits for its own share of everything that is watched.
struct Shares {
    all: Vec<Arc<Shared>>,
    /// Which gets the next owner.
    next: AtomicUsize,
    /// Which gets the next socket that connects. A counter for both would give one all those that connect, if they took turns
    /// with others.
    next_connecting: AtomicUsize,
}

struct Shared {
    registry: Registry,
    waker: Waker,
    watched: Mutex<Watched>,
}

/// Everything that is watched. One lock for all of it: it is held for a few instructions.
struct Watched {
    entries: HashMap<usize, Entry>,
    /// Those that were put off are sorted out when their time comes.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Until when the poller sleeps; only an earlier deadline wakes it.
    sleeps_until: Option<Instant>,
    /// Never used twice, so that an event of a closed socket finds no owner.
    next_token: usize,
    stopped: bool,
}

struct Entry {
    owner: Arc<dyn Owner>,
    deadline: Option<Instant>,
    /// The instants in `deadlines` that stand for this entry, the earliest last. They are few: one is added only before all
    /// others, and is taken out when it comes.
    queued: Vec<Instant>,
}

/// What an owner holds of its place in the poller. The poller holds the owner until [`Watch::end`].
pub struct Watch {
    shared: Arc<Shared>,
    token: usize,
}

thread_local! {
    /// What the current thread waits for, if it does.
    static WAITS_FOR: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// The poller's own side: the thread that waits.
pub struct Waiter {
    poll: Poll,
    shared: Arc<Shared>,
}

impl Shares {
    fn place(&self, next: &AtomicUsize, owner: Arc<dyn Owner>) -> Watch {
        let shared = self.all[next.fetch_add(1, Ordering::Relaxed) % self.all.len()].clone();
        let token = shared.lock().insert(owner);
        Watch { shared, token }
    }
}

impl Poller {
    /// A poller and its waiting side, which wants a thread.
    pub fn new() -> io::Result<(Poller, Waiter)> {
        let waiter = Waiter::new()?;
        Ok((Poller::of(slice::from_ref(&waiter)), waiter))
    }

    /// A poller whose work is shared by so many waiting sides, at least one, each of which wants a thread.
    pub fn shared_by(threads: usize) -> io::Result<(Poller, Vec<Waiter>)> {
        let waiters = (0..threads.max(1)).map(|_| Waiter::new()).collect::<io::Result<Vec<_>>>()?;
        Ok((Poller::of(&waiters), waiters))
    }

    fn of(waiters: &[Waiter]) -> Poller {
        let all = waiters.iter().map(|waiter| waiter.shared.clone()).collect();
        Poller(Arc::new(Shares { all, next: AtomicUsize::new(0), next_connecting: AtomicUsize::new(0) }))
    }

    /// Watches a socket for its owner: edge-triggered, for reading. The socket must be closed after [`Watch::end`].
    pub fn watch(&self, socket: &impl AsFd, owner: Arc<dyn Owner>) -> io::Result<Watch> {
        let watch = self.alarm(owner);
        watch.begin(socket).inspect_err(|_| watch.end())?;
        Ok(watch)
    }

    /// The same for a socket that is connecting, and may have to wait until it can be written to.
    pub fn watch_all(&self, socket: &impl AsFd, owner: Arc<dyn Owner>) -> io::Result<Watch> {
        let watch = self.0.place(&self.0.next_connecting, owner);
        watch.wake(socket).inspect_err(|_| watch.end())?;
        Ok(watch)
    }

    /// A place without a socket, for deadlines only.
    pub fn alarm(&self, owner: Arc<dyn Owner>) -> Watch {
        self.0.place(&self.0.next, owner)
    }

    /// Gives every owner this turn, on the calling thread.
    pub fn tell_all(&self, turn: Turn) {
        for share in &self.0.all {
            let owners: Vec<_> = share.lock().entries.values().map(|entry| entry.owner.clone()).collect();
            for owner in owners {
                give(owner, turn);
            }
        }
    }

    /// Waits on threads of its own while `work` is done beside them, then stops. `failed` is told if nothing can be waited for
    /// any more; an error means that a thread couldn't be started.
    pub fn run_beside<T>(
        &self,
        waiters: Vec<Waiter>,
        failed: impl Fn(io::Error) + Sync,
        work: impl FnOnce() -> T,
    ) -> io::Result<T> {
        thread::scope(|scope| {
            // Whatever happens, or the scope would wait for its threads for ever.
            let _stop = StopAtEnd(self);
            for waiter in waiters {
                let wait = || waiter.run().unwrap_or_else(&failed);
                thread::Builder::new().name("poller".into()).spawn_scoped(scope, wait)?;
            }
            Ok(work())
        })
    }

    /// Ends the waiting threads and forgets every owner.
    pub fn stop(&self) {
        for share in &self.0.all {
            let entries = {
                let mut watched = share.lock();
                watched.stopped = true;
                std::mem::take(&mut watched.entries)
            };
            drop(entries);
            share.wake();
        }
    }
}

struct StopAtEnd<'a>(&'a Poller);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Watch {
    /// Sets the deadline anew, or none. A passed one counts at once.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        if self.shared.lock().set_deadline(self.token, deadline) {
            self.shared.wake();
        }
    }

    /// Watches a socket like [`Poller::watch`], for an owner that needs its watch in the first turn.
    pub fn begin(&self, socket: &impl AsFd) -> io::Result<()> {
        self.shared.register(self.token, socket, Interest::READABLE)
    }

    /// The owner of a socket that is watched gets turns as well when there is room to write again.
    pub fn tell_of_room(&self, socket: &impl AsFd) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.shared.registry.reregister(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(self.token), interest)
    }

    /// Whether its turns are given on the current thread.
    pub fn is_here(&self) -> bool {
        WAITS_FOR.with_borrow(|shared| shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &self.shared)))
    }

    /// The owner gets no turns for its socket until [`Watch::wake`]. An error of the kernel's means that there were none.
    pub fn rest(&self, socket: &impl AsFd) {
        let _ = self.shared.registry.deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
    }

    /// The owner gets turns for its socket again, also for what has come meanwhile.
    pub fn wake(&self, socket: &impl AsFd) -> io::Result<()> {
        self.shared.register(self.token, socket, Interest::READABLE | Interest::WRITABLE)
    }

    /// Gives the place up: the owner gets no more turns and is forgotten.
    pub fn end(&self) {
        let entry = self.shared.lock().entries.remove(&self.token);
        drop(entry);
    }
}

impl Shared {
    fn register(&self, token: usize, socket: &impl AsFd, interest: Interest) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(token), interest)
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the poller: {error}");
        }
    }
}

impl Watched {
    fn insert(&mut self, owner: Arc<dyn Owner>) -> usize {
        let token = self.next_token;
        // On 32-bit hosts tokens come round after four billion watches; those that are still held are passed over.
        self.next_token = self.next_token.wrapping_add(1).max(WAKER.0 + 1);
        if self.entries.contains_key(&token) {
            return self.insert(owner);
        }
        self.entries.insert(token, Entry { owner, deadline: None, queued: Vec::new() });
        token
    }

    /// Whether the poller must be woken, since it sleeps longer than that.
    fn set_deadline(&mut self, token: usize, deadline: Option<Instant>) -> bool {
        let Some(entry) = self.entries.get_mut(&token) else { return false };
        entry.deadline = deadline;
        let Some(deadline) = deadline else { return false };
        if !entry.is_before_queued(deadline) {
            return false;
        }
        entry.queued.push(deadline);
        self.deadlines.push(Reverse((deadline, token)));
        self.sleeps_until.is_none_or(|until| deadline < until)
    }

    /// The next owner whose deadline has passed.
    fn pop_expired(&mut self, now: Instant) -> Option<Arc<dyn Owner>> {
        while let Some(&Reverse((at, token))) = self.deadlines.peek() {
            if at > now {
                return None;
            }
            self.deadlines.pop();
            let Some(entry) = self.entries.get_mut(&token) else { continue };
            entry.queued.pop();
            match entry.deadline {
                Some(deadline) if deadline <= now => {
                    entry.deadline = None;
                    return Some(entry.owner.clone());
                }
                Some(deadline) if entry.is_before_queued(deadline) => {
                    entry.queued.push(deadline);
                    self.deadlines.push(Reverse((deadline, token)));
                }
                _ => {}
            }
        }
        None
    }

    /// Notes until when the poller will sleep now, and says it.
    fn fall_asleep(&mut self) -> Option<Instant> {
        self.sleeps_until = self.deadlines.peek().map(|&Reverse((at, _))| at);
        self.sleeps_until
    }
}

impl Entry {
    fn is_before_queued(&self, deadline: Instant) -> bool {
        self.queued.last().is_none_or(|queued| deadline < *queued)
    }
}

impl Waiter {
    fn new() -> io::Result<Waiter> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let watched = Watched {
            entries: HashMap::new(),
            deadlines: BinaryHeap::new(),
            sleeps_until: None,
            next_token: WAKER.0 + 1,
            stopped: false,
        };
        Ok(Waiter { poll, shared: Arc::new(Shared { registry, waker, watched: Mutex::new(watched) }) })
    }

    /// Waits and gives turns until [`Poller::stop`]. An error means that nothing can be waited for any more.
    pub fn run(mut self) -> io::Result<()> {
        WAITS_FOR.set(Some(self.shared.clone()));
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let until = {
                let mut watched = self.shared.lock();
                if watched.stopped {
                    return Ok(());
                }
                watched.fall_asleep()
            };
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            self.give_ready_turns(&events);
            self.give_expired_turns();
        }
    }

    fn give_ready_turns(&self, events: &Events) {
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let owner = self.shared.lock().entries.get(&event.token().0).map(|entry| entry.owner.clone());
            if let Some(owner) = owner {
                let dead = event.is_error() || (event.is_read_closed() && event.is_write_closed());
                give(owner, Turn::Ready { read_closed: event.is_read_closed(), dead });
            }
        }
    }

    fn give_expired_turns(&self) {
        let now = Instant::now();
        loop {
            let expired = self.shared.lock().pop_expired(now);
            let Some(owner) = expired else { return };
            give(owner, Turn::Expired);
        }
    }
}

/// One owner's panic must not end the turns of all others; the panic hook has logged it.
fn give(owner: Arc<dyn Owner>, turn: Turn) {
    let _ = catch_unwind(AssertUnwindSafe(|| owner.turn(turn)));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    struct Teller(Sender<Turn>);

    impl Owner for Teller {
        fn turn(self: Arc<Self>, turn: Turn) {
            self.0.send(turn).expect("the test listens");
        }
    }

    fn teller() -> (Arc<Teller>, Receiver<Turn>) {
        let (sender, receiver) = unbounded();
        (Arc::new(Teller(sender)), receiver)
    }

    fn running() -> Poller {
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        poller
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn bytes_and_a_close_are_told_to_the_owner() {
        let poller = running();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (far, _) = listener.accept().expect("a connection");
        let (owner, turns) = teller();
        let watch = poller.watch(&far, owner).expect("a watch");
        near.write_all(b"x").expect("a write");
        assert_eq!(turns.recv_timeout(SOON), Ok(Turn::Ready { read_closed: false, dead: false }));
        drop(near);
        assert_eq!(turns.recv_timeout(SOON), Ok(Turn::Ready { read_closed: true, dead: false }));
        watch.end();
        assert!(turns.recv_timeout(SOON).is_err(), "the owner is forgotten");
        poller.stop();
    }

    #[test]
    fn deadlines_come_in_order_and_can_be_put_off_and_taken_back() {
        let poller = running();
        let now = Instant::now();
        let (early, early_turns) = teller();
        let (late, late_turns) = teller();
        let (never, never_turns) = teller();
        let late = poller.alarm(late);
        let never = poller.alarm(never);
        let early = poller.alarm(early);
        never.set_deadline(Some(now + Duration::from_millis(5)));
        never.set_deadline(None);
        late.set_deadline(Some(now + Duration::from_millis(10)));
        late.set_deadline(Some(now + Duration::from_millis(40)));
        early.set_deadline(Some(now + Duration::from_secs(3600)));
        early.set_deadline(Some(now + Duration::from_millis(20)));
        assert_eq!(early_turns.recv_timeout(SOON), Ok(Turn::Expired));
        assert!(Instant::now() >= now + Duration::from_millis(20));
        assert_eq!(late_turns.recv_timeout(SOON), Ok(Turn::Expired));
        assert!(Instant::now() >= now + Duration::from_millis(40));
        assert!(never_turns.is_empty());
        poller.stop();
    }

    /// Was seen as: a client that sent its requests two at a time left a deadline behind with every pair, for a minute each.
    #[test]
    fn deadlines_that_are_put_forward_and_back_leave_nothing_behind() {
        let poller = running();
        let (owner, turns) = teller();
        let watch = poller.alarm(owner);
        for _ in 0..100 {
            for seconds in [60, 10, 0] {
                watch.set_deadline(Some(Instant::now() + Duration::from_secs(seconds)));
            }
            assert_eq!(turns.recv_timeout(SOON), Ok(Turn::Expired));
        }
        assert!(watch.shared.lock().deadlines.len() <= 3);
        watch.set_deadline(Some(Instant::now() + Duration::from_millis(10)));
        assert_eq!(turns.recv_timeout(SOON), Ok(Turn::Expired));
        poller.stop();
    }
}
