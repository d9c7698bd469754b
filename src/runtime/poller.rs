//! Waits for many sockets and for the next deadline, and gives their handlers the events. Several threads may share the work:
//! each has its own share of the registrations. Never blocks elsewhere, and knows nothing of what the sockets are or what their
//! handlers do.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::sync::{Arc, Mutex};
use super::token_hasher::TokenHasher;

/// The most events taken from the kernel in one call: more than a loaded host has ready at once.
const EVENTS_MAX: usize = 1024;
/// The count of deadlines of handlers that are gone up to which they stay: so few aren't worth a look at all.
const ORPHANS_MIN: usize = 64;
/// The waker's own token; registrations count up from the next.
const WAKER: Token = Token(0);

/// An event that a handler is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Bytes, an end or an error arrived since the last event: read until it would block.
    Ready {
        /// The peer sends no more; what it sent before may still be unread.
        read_closed: bool,
        /// The connection is dead both ways.
        dead: bool,
    },
    /// The deadline has passed.
    Expired,
    /// A shutdown has begun: finish what is under way, begin nothing.
    Drain,
    /// The shutdown's time is over: end now.
    Cut,
}

/// Gets the events of a socket and a deadline: `Ready` and `Expired` of one registration always on the same one of the poller's
/// threads, `Drain` and `Cut` on the thread that broadcasts, maybe at the same time. It must not block.
pub trait EventHandler: Send + Sync {
    /// Acts on the event.
    fn on_event(self: Arc<Self>, event: Event);
}

/// A handle on the poller; clones share it.
#[derive(Clone)]
pub struct Poller(Arc<Shares>);

/// The shares of all threads: each waits for its own share of everything that is watched.
struct Shares {
    all: Vec<Arc<Shared>>,
    /// The shares that get the next registration, connection to a backend, and place that is soon given up, modulo their count.
    /// One counter for all would give one thread all of a kind that alternates with another.
    next: AtomicUsize,
    next_upstream: AtomicUsize,
    next_brief: AtomicUsize,
}

struct Shared {
    registry: Registry,
    waker: Waker,
    watched: Mutex<Watched>,
}

/// Everything that is watched. One lock for all of it: it is held for a few instructions.
struct Watched {
    entries: HashMap<usize, Entry, BuildHasherDefault<TokenHasher>>,
    /// The deadlines in their order. Those that were put off are sorted out when their time comes.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The count of those deadlines whose entry has been taken out.
    orphans: usize,
    /// Until when the poller sleeps; only an earlier deadline wakes it.
    sleeps_until: Option<Instant>,
    /// Never used twice, so that an event of a closed socket finds no handler.
    next_token: usize,
    stopped: bool,
}

struct Entry {
    handler: Arc<dyn EventHandler>,
    deadline: Option<Instant>,
    /// The instants in `deadlines` that stand for this entry, the earliest last. They are few: one is added only before all
    /// others, and is taken out when it comes.
    queued: Vec<Instant>,
}

/// A handler's place in the poller, which is the handler's own: from [`Registration::start`] to [`Registration::end`] the poller
/// holds the handler.
pub struct Registration {
    shared: Arc<Shared>,
    token: usize,
}

thread_local! {
    /// The share that the current thread waits for, if it does.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// The poller's own side: what its thread runs.
pub struct EventLoop {
    poll: Poll,
    shared: Arc<Shared>,
}

impl Poller {
    /// Makes a poller and its event loop, which wants a thread.
    pub fn new() -> io::Result<(Poller, EventLoop)> {
        let event_loop = EventLoop::new()?;
        Ok((Poller::of(slice::from_ref(&event_loop)), event_loop))
    }

    /// Makes a poller whose work is shared by this number of event loops, at least one, each of which wants a thread.
    pub fn shared_by(threads: usize) -> io::Result<(Poller, Vec<EventLoop>)> {
        let event_loops = (0..threads.max(1)).map(|_| EventLoop::new()).collect::<io::Result<Vec<_>>>()?;
        Ok((Poller::of(&event_loops), event_loops))
    }

    fn of(event_loops: &[EventLoop]) -> Poller {
        let all = event_loops.iter().map(|event_loop| event_loop.shared.clone()).collect();
        Poller(Arc::new(Shares { all, next: 0.into(), next_upstream: 0.into(), next_brief: 0.into() }))
    }

    /// Reserves a place on one of the threads, for a handler that is yet to be made around it.
    pub fn reserve(&self) -> Registration {
        self.reserve_by(&self.0.next)
    }

    /// Reserves a place for a connection to a backend: these are shared out among the threads by a counter of their own.
    pub fn reserve_upstream(&self) -> Registration {
        self.reserve_by(&self.0.next_upstream)
    }

    /// Reserves a place that is soon given up: those that stay are shared out as if it weren't there.
    pub fn reserve_briefly(&self) -> Registration {
        self.reserve_by(&self.0.next_brief)
    }

    fn reserve_by(&self, next: &AtomicUsize) -> Registration {
        let shared = self.0.all[next.fetch_add(1, Ordering::Relaxed) % self.0.all.len()].clone();
        let token = shared.watched.lock().take_token();
        Registration { shared, token }
    }

    /// Gives every handler this event, on the calling thread.
    pub fn broadcast(&self, event: Event) {
        for share in &self.0.all {
            let handlers: Vec<_> = share.watched.lock().entries.values().map(|entry| entry.handler.clone()).collect();
            for handler in handlers {
                give(handler, event);
            }
        }
    }

    /// Runs the event loops on threads of their own while `work` is done beside them, then stops. `failed` is told if nothing
    /// can be waited for any more; an error means that a thread couldn't be started.
    pub fn run_beside<T>(
        &self,
        event_loops: Vec<EventLoop>,
        failed: impl Fn(io::Error) + Sync,
        work: impl FnOnce() -> T,
    ) -> io::Result<T> {
        thread::scope(|scope| {
            // Also after a panic or an error, or the scope would wait for its threads for ever.
            let _stop = StopAtEnd(self);
            for event_loop in event_loops {
                let wait = || event_loop.run().unwrap_or_else(&failed);
                thread::Builder::new().name("poller".into()).spawn_scoped(scope, wait)?;
            }
            Ok(work())
        })
    }

    /// Ends the waiting threads and forgets every handler.
    pub fn stop(&self) {
        for share in &self.0.all {
            let entries = {
                let mut watched = share.watched.lock();
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

impl Registration {
    /// Has the handler get events from now on: of the deadline, of a shutdown, and of each socket that is added.
    pub fn start(&self, handler: Arc<dyn EventHandler>) {
        self.shared.watched.lock().entries.insert(self.token, Entry { handler, deadline: None, queued: Vec::new() });
    }

    /// Sets the deadline anew, or none. A passed one counts at once.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        if self.shared.watched.lock().set_deadline(self.token, deadline) {
            self.shared.wake();
        }
    }

    /// Has the handler told when the socket can be read: edge-triggered. The socket must be closed after [`Registration::end`].
    pub fn watch_reads(&self, socket: &impl AsFd) -> io::Result<()> {
        self.shared.register(self.token, socket, Interest::READABLE)
    }

    /// Has the handler of a socket that is watched for reads told also when it can be written to again.
    pub fn watch_writes(&self, socket: &impl AsFd) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.shared.registry.reregister(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(self.token), interest)
    }

    /// Whether its events are given on the current thread.
    pub fn is_on_current_thread(&self) -> bool {
        CURRENT.with_borrow(|shared| shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &self.shared)))
    }

    /// Has the handler told no more of the socket. An error of the kernel's means that it wasn't watched.
    pub fn unwatch(&self, socket: &impl AsFd) {
        let _ = self.shared.registry.deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
    }

    /// Has the handler told when the socket can be read or written to, and of what has arrived before. Once for a socket, or
    /// again after [`Registration::unwatch`].
    pub fn watch(&self, socket: &impl AsFd) -> io::Result<()> {
        self.shared.register(self.token, socket, Interest::READABLE | Interest::WRITABLE)
    }

    /// Gives the place up: the handler gets no more events and is forgotten.
    pub fn end(&self) {
        let entry = self.shared.watched.lock().remove(self.token);
        drop(entry);
    }
}

impl Shared {
    fn register(&self, token: usize, socket: &impl AsFd, interest: Interest) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), Token(token), interest)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the poller: {error}");
        }
    }
}

impl Watched {
    fn take_token(&mut self) -> usize {
        let token = self.next_token;
        // On 32-bit hosts tokens come round after four billion registrations; those that are still held are passed over.
        self.next_token = self.next_token.wrapping_add(1).max(WAKER.0 + 1);
        if self.entries.contains_key(&token) { self.take_token() } else { token }
    }

    /// Takes an entry out, and, once more than half of all deadlines are of such entries, those: so all are looked at seldom.
    fn remove(&mut self, token: usize) -> Option<Entry> {
        let entry = self.entries.remove(&token)?;
        self.orphans += entry.queued.len();
        if self.orphans > ORPHANS_MIN.max(self.deadlines.len() / 2) {
            let Watched { entries, deadlines, .. } = self;
            deadlines.retain(|Reverse((_, token))| entries.contains_key(token));
            self.orphans = 0;
        }
        Some(entry)
    }

    /// Sets an entry's deadline, and gives whether the poller must be woken, since it sleeps longer than that.
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

    /// Takes out the next handler whose deadline has passed.
    fn pop_expired(&mut self, now: Instant) -> Option<Arc<dyn EventHandler>> {
        while let Some(&Reverse((at, token))) = self.deadlines.peek() {
            if at > now {
                return None;
            }
            self.deadlines.pop();
            let Some(entry) = self.entries.get_mut(&token) else {
                self.orphans = self.orphans.saturating_sub(1);
                continue;
            };
            entry.queued.pop();
            match entry.deadline {
                Some(deadline) if deadline <= now => {
                    entry.deadline = None;
                    return Some(entry.handler.clone());
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

    /// Notes until when the poller will sleep now, and gives it.
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

impl EventLoop {
    fn new() -> io::Result<EventLoop> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let watched = Watched {
            entries: HashMap::default(),
            deadlines: BinaryHeap::new(),
            orphans: 0,
            sleeps_until: None,
            next_token: WAKER.0 + 1,
            stopped: false,
        };
        Ok(EventLoop { poll, shared: Arc::new(Shared { registry, waker, watched: Mutex::new(watched) }) })
    }

    /// Waits and gives events until [`Poller::stop`]. An error means that nothing can be waited for any more.
    pub fn run(mut self) -> io::Result<()> {
        CURRENT.set(Some(self.shared.clone()));
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let until = {
                let mut watched = self.shared.watched.lock();
                if watched.stopped {
                    return Ok(());
                }
                watched.fall_asleep()
            };
            let looks_at = Instant::now();
            let timeout = until.map(|until| until.saturating_duration_since(looks_at));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.give_ready_events(&events);
            // What comes while handlers take their time, or the process is stopped, is looked at before deadlines that pass then.
            self.give_expired_events(if events.is_empty() { Instant::now() } else { looks_at });
        }
    }

    fn give_ready_events(&self, events: &Events) {
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let handler = self.shared.watched.lock().entries.get(&event.token().0).map(|entry| entry.handler.clone());
            if let Some(handler) = handler {
                let dead = event.is_error() || (event.is_read_closed() && event.is_write_closed());
                give(handler, Event::Ready { read_closed: event.is_read_closed(), dead });
            }
        }
    }

    fn give_expired_events(&self, now: Instant) {
        loop {
            let expired = self.shared.watched.lock().pop_expired(now);
            let Some(handler) = expired else { return };
            give(handler, Event::Expired);
        }
    }
}

/// Gives an event. One handler's panic must not end the events of all others; the panic hook has logged it.
fn give(handler: Arc<dyn EventHandler>, event: Event) {
    let _ = catch_unwind(AssertUnwindSafe(|| handler.on_event(event)));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    impl Poller {
        /// The count of handlers of each thread.
        pub(crate) fn counts(&self) -> Vec<usize> {
            self.0.all.iter().map(|share| share.watched.lock().entries.len()).collect()
        }
    }

    struct Told(Sender<Event>);

    impl EventHandler for Told {
        fn on_event(self: Arc<Self>, event: Event) {
            self.0.send(event).expect("the test listens");
        }
    }

    fn told() -> (Arc<Told>, Receiver<Event>) {
        let (sender, receiver) = unbounded();
        (Arc::new(Told(sender)), receiver)
    }

    fn timer(poller: &Poller) -> (Registration, Receiver<Event>) {
        let (registration, (handler, events)) = (poller.reserve(), told());
        registration.start(handler);
        (registration, events)
    }

    fn running() -> Poller {
        let (poller, event_loop) = Poller::new().expect("a poller");
        thread::spawn(move || event_loop.run());
        poller
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn bytes_and_a_close_are_told_to_the_handler() {
        let poller = running();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (far, _) = listener.accept().expect("a connection");
        let (handler, events) = told();
        let registration = poller.reserve();
        registration.start(handler);
        registration.watch_reads(&far).expect("a place in the poller");
        near.write_all(b"x").expect("a write");
        assert_eq!(events.recv_timeout(SOON), Ok(Event::Ready { read_closed: false, dead: false }));
        drop(near);
        assert_eq!(events.recv_timeout(SOON), Ok(Event::Ready { read_closed: true, dead: false }));
        registration.end();
        assert!(events.recv_timeout(SOON).is_err(), "the handler is forgotten");
        poller.stop();
    }

    #[test]
    fn deadlines_come_in_order_and_can_be_put_off_and_taken_back() {
        let poller = running();
        let now = Instant::now();
        let [(early, early_events), (late, late_events), (never, never_events)] = [(); 3].map(|()| timer(&poller));
        never.set_deadline(Some(now + Duration::from_millis(5)));
        never.set_deadline(None);
        late.set_deadline(Some(now + Duration::from_millis(10)));
        late.set_deadline(Some(now + Duration::from_millis(40)));
        early.set_deadline(Some(now + Duration::from_secs(3600)));
        early.set_deadline(Some(now + Duration::from_millis(20)));
        assert_eq!(early_events.recv_timeout(SOON), Ok(Event::Expired));
        assert!(Instant::now() >= now + Duration::from_millis(20));
        assert_eq!(late_events.recv_timeout(SOON), Ok(Event::Expired));
        assert!(Instant::now() >= now + Duration::from_millis(40));
        assert!(never_events.is_empty());
        poller.stop();
    }

    /// Has another handler's event last until the test says so.
    struct Held(Sender<()>, Receiver<()>);

    impl EventHandler for Held {
        fn on_event(self: Arc<Self>, _: Event) {
            self.0.send(()).expect("the test listens");
            let _ = self.1.recv();
        }
    }

    /// Was seen as: a client whose bytes came in time was told that it was too slow, since the process was stopped while it handled
    /// another's.
    #[test]
    fn what_comes_while_another_event_is_handled_is_looked_at_before_the_deadlines_that_pass_then() {
        let poller = running();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let connected = || {
            let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
            (near, listener.accept().expect("a connection").0)
        };
        let [(mut slow, slow_far), (mut timely, timely_far)] = [connected(), connected()];
        let ((begun, begins), (release, held)) = (unbounded(), unbounded());
        let (slow_place, (timely_place, events)) = (poller.reserve(), timer(&poller));
        slow_place.start(Arc::new(Held(begun, held)));
        slow_place.watch_reads(&slow_far).expect("a place in the poller");
        timely_place.watch_reads(&timely_far).expect("a place in the poller");
        slow.write_all(b"x").expect("a write");
        begins.recv_timeout(SOON).expect("an event");
        timely.write_all(b"x").expect("a write");
        assert_eq!(timely_far.peek(&mut [0]).expect("a connection"), 1, "it has come");
        timely_place.set_deadline(Some(Instant::now()));
        drop(release);
        let ready = Event::Ready { read_closed: false, dead: false };
        assert_eq!([(); 2].map(|()| events.recv_timeout(SOON)), [Ok(ready), Ok(Event::Expired)]);
        poller.stop();
    }

    /// Was seen as: a client that sent its requests two at a time left a deadline behind with every pair, for a minute each.
    #[test]
    fn deadlines_that_are_put_forward_and_back_leave_nothing_behind() {
        let poller = running();
        let (registration, events) = timer(&poller);
        for _ in 0..100 {
            for seconds in [60, 10, 0] {
                registration.set_deadline(Some(Instant::now() + Duration::from_secs(seconds)));
            }
            assert_eq!(events.recv_timeout(SOON), Ok(Event::Expired));
        }
        assert!(registration.shared.watched.lock().deadlines.len() <= 3);
        registration.set_deadline(Some(Instant::now() + Duration::from_millis(10)));
        assert_eq!(events.recv_timeout(SOON), Ok(Event::Expired));
        poller.stop();
    }

    /// Was seen as: each short connection left its deadline behind for 10 s, and 30,000 connections a second 14 MiB of them.
    #[test]
    fn deadlines_of_handlers_that_are_gone_are_never_many_more_than_those_of_others() {
        let (poller, event_loop) = Poller::new().expect("a poller");
        let later = Instant::now() + Duration::from_secs(3600);
        let latest = later + Duration::from_secs(1);
        let began = |_| {
            let (registration, events) = timer(&poller);
            registration.set_deadline(Some(latest));
            registration.set_deadline(Some(later));
            (registration, events)
        };
        let live: Vec<_> = (0..100).map(began).collect();
        for _ in 0..10_000 {
            began(0).0.end();
            assert!(event_loop.shared.watched.lock().deadlines.len() <= 2 * (2 * live.len() + 2));
        }
        let mut watched = event_loop.shared.watched.lock();
        let expired = std::iter::from_fn(|| watched.pop_expired(latest)).count();
        assert_eq!((expired, watched.deadlines.len(), watched.orphans), (live.len(), 0, 0), "those of others come");
    }
}
