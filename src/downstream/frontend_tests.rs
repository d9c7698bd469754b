//! A frontend: which clients it accepts, and which it evicts for others.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::downstream::connection_table::{ConnectionTable, Evictable};
use crate::downstream::eviction::Activity;
use crate::downstream::frontend::Frontend;
use crate::downstream::limits::{Eviction, Limits};
use crate::downstream::listener::Listener;
use crate::downstream::scenario::{Ending, GET, Scenario, wait_until};
use crate::runtime::poller::Event;
use crate::runtime::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// A member of a table: what it would be evicted for, and whether it was.
struct Member {
    number: u64,
    table: Arc<ConnectionTable>,
    idle_since: Mutex<Instant>,
    looks: Arc<AtomicUsize>,
    is_busy: AtomicBool,
    is_evicted: AtomicBool,
}

impl Member {
    fn idle(&self) -> Activity {
        Activity::Idle { since: *self.idle_since.lock() }
    }
}

impl Evictable for Member {
    fn activity(&self) -> Option<Activity> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        (!self.is_busy.load(Ordering::SeqCst)).then_some(self.idle())
    }

    fn try_evict(self: Arc<Self>, may_evict: &dyn Fn(&Activity) -> bool) -> bool {
        let may_be = !self.is_busy.load(Ordering::SeqCst) && may_evict(&self.idle());
        self.is_evicted.fetch_or(may_be, Ordering::SeqCst);
        if may_be {
            self.table.remove(self.number);
        }
        may_be
    }
}

/// A table that is full of members, all of which have idled since `begin`.
struct FullTable {
    table: Arc<ConnectionTable>,
    members: Vec<Arc<Member>>,
    looks: Arc<AtomicUsize>,
    begin: Instant,
}

fn table(connections_max: usize, eviction: Eviction) -> ConnectionTable {
    ConnectionTable::new(connections_max, &Limits { eviction, ..Limits::new(1024, 1024, &std::env::temp_dir()) })
}

impl FullTable {
    fn of(count: usize, eviction: Eviction) -> FullTable {
        let (table, looks, begin) = (Arc::new(table(count, eviction)), Arc::<AtomicUsize>::default(), Instant::now());
        let member = |number| Member {
            number,
            table: table.clone(),
            idle_since: Mutex::new(begin),
            looks: looks.clone(),
            is_busy: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
        };
        let members = (0..count).map(|_| table.insert(member)).collect();
        FullTable { table, members, looks, begin }
    }

    fn after(&self, milliseconds: u64) -> Instant {
        self.begin + Duration::from_millis(milliseconds)
    }

    /// Those that were evicted, by the order in which they came.
    fn evicted(&self) -> Vec<usize> {
        let is_evicted = |at: &usize| self.members[*at].is_evicted.load(Ordering::SeqCst);
        (0..self.members.len()).filter(is_evicted).collect()
    }

    fn set_busy(&self, at: usize) {
        self.members[at].is_busy.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_oldest_client_that_is_not_busy_is_evicted() {
    let full = FullTable::of(4, Eviction::Oldest);
    full.set_busy(0);
    assert_eq!(full.table.evict_one(full.begin), Ok(()));
    assert_eq!(full.evicted(), [1]);
    assert!(!full.table.is_full() && full.table.count() == 3);
    full.set_busy(2);
    full.set_busy(3);
    assert_eq!(full.table.evict_one(full.begin), Err(full.after(50)), "soon a busy one may not be");
}

#[test]
fn clients_that_have_had_no_time_are_not_evicted_and_the_next_scan_waits() {
    let full = FullTable::of(4, Eviction::Slowest);
    assert_eq!(full.table.evict_one(full.after(999)), Err(full.after(999 + 50)));
    assert_eq!(full.looks.load(Ordering::SeqCst), 4);
    assert!(full.table.evict_one(full.after(1000)).is_err(), "it is too early for a scan");
    assert_eq!(full.looks.load(Ordering::SeqCst), 4);
    assert_eq!(full.table.evict_one(full.after(1100)), Ok(()));
}

/// Was seen as: every client waited, and neither the log nor a figure said so.
#[test]
fn that_new_clients_wait_is_told_once_in_ten_seconds_and_not_where_the_oldest_goes() {
    let told = |eviction| {
        let full = FullTable::of(2, eviction);
        let _ = full.table.evict_one(full.begin);
        [0, 9, 10, 11, 20].map(|seconds| full.table.try_tell_full(full.after(1000 * seconds)))
    };
    assert_eq!(told(Eviction::Slowest), [true, false, true, false, true]);
    assert_eq!(told(Eviction::Oldest), [false; 5]);
    let full = FullTable::of(2, Eviction::Slowest);
    let waiting = |seconds: u64| full.table.was_told_full(full.after(1000 * seconds));
    assert!(full.table.evict_one(full.begin).is_err() && !waiting(0) && full.table.try_tell_full(full.begin));
    assert_eq!([0, 19, 20].map(waiting), [true, true, false], "figures know it until it would have been told again");
}

#[test]
fn one_scan_finds_clients_for_several_evictions_of_the_next_second() {
    let full = FullTable::of(128, Eviction::Slowest);
    (0..4).for_each(|_| assert_eq!(full.table.evict_one(full.after(1000)), Ok(())));
    assert_eq!((full.evicted().len(), full.looks.load(Ordering::SeqCst)), (4, 128));
    assert!(full.table.evict_one(full.after(1000)).is_err(), "a scan finds one of 32");
    assert!(!full.table.try_tell_full(full.after(1000)), "the next one finds more");

    let full = FullTable::of(128, Eviction::Slowest);
    assert_eq!(full.table.evict_one(full.after(1000)), Ok(()));
    assert_eq!(full.table.evict_one(full.after(2001)), Ok(()));
    assert_eq!(full.looks.load(Ordering::SeqCst), 128 + 127, "an old scan says nothing");
}

#[test]
fn a_client_that_was_served_since_the_scan_is_not_evicted() {
    let full = FullTable::of(64, Eviction::Slowest);
    assert_eq!(full.table.evict_one(full.after(1000)), Ok(()));
    full.members.iter().for_each(|member| *member.idle_since.lock() = full.after(999));
    assert!(full.table.evict_one(full.after(1000)).is_err());
    assert_eq!(full.evicted().len(), 1);
}

#[test]
fn a_sixteenth_of_the_clients_may_be_closing_without_a_place_and_eight_always() {
    for (connections_max, closing_max) in [(2, 8), (128, 8), (160, 10)] {
        let table = table(connections_max, Eviction::Oldest);
        let closing = (0..100).filter(|number| table.try_start_closing(*number)).count();
        assert_eq!(closing, closing_max, "of {connections_max}");
    }
}

#[test]
fn a_client_that_is_closing_takes_no_place_and_is_not_evicted_again() {
    let full = FullTable::of(2, Eviction::Oldest);
    assert!(full.table.try_start_closing(full.members[0].number));
    assert!(full.table.count() == 1 && !full.table.is_full());
    assert_eq!(full.table.evict_one(full.begin), Ok(()));
    assert_eq!(full.evicted(), [1]);
}

#[test]
fn an_evicted_client_that_is_sending_gets_a_408_and_a_moment_to_read_it() {
    let mut scene = Scenario::new().evicting(Eviction::Oldest).half_a_head();
    assert_eq!(scene.frontend.table.evict_one(Instant::now()), Ok(()));
    assert_eq!(scene.frontend.connections(), 0, "its place is free");
    assert!(scene.client.upgrade().is_some(), "it is still read");
    let (reply, ending) = scene.read_to_end();
    assert!(reply.starts_with("HTTP/1.1 408 ") && ending == Ending::InOrder, "{reply}");
    scene.half_close();
    assert!(scene.client.upgrade().is_none());
}

#[test]
fn a_client_whose_request_is_served_or_has_just_arrived_is_not_evicted() {
    let (scene, _reply_to) = Scenario::new().evicting(Eviction::Oldest).being_served();
    assert!(scene.frontend.table.evict_one(Instant::now()).is_err());

    let mut scene = Scenario::new().evicting(Eviction::Oldest).idle();
    scene.send(GET);
    assert!(scene.frontend.table.evict_one(Instant::now()).is_err(), "it has come, and isn't read yet");
    scene.ready();
    drop(scene.request());
}

#[test]
fn an_idle_client_is_evicted_without_a_word() {
    let mut scene = Scenario::new().evicting(Eviction::Oldest).idle();
    assert_eq!(scene.frontend.table.evict_one(Instant::now()), Ok(()));
    assert_eq!(scene.read_to_end(), (String::new(), Ending::InOrder));
}

/// A listener of the frontend until this event, and its address.
fn listen(frontend: &Arc<Frontend>, until: Event) -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(1024).expect("a port");
    let socket = TcpListener::from(socket);
    let address = socket.local_addr().expect("an address");
    Listener::open(frontend.clone(), socket.into(), until, Arc::new(|_, _| {}), None).expect("a listener");
    address
}

/// Gives the listener its event as the poller does when its deadline has passed. For the clients it is too early.
fn accept(frontend: &Frontend) {
    frontend.poller.broadcast(Event::Expired);
}

#[test]
fn a_full_frontend_evicts_a_client_only_for_one_that_waits() {
    let (frontend, _event_loop) = Scenario::new().with_places(1).evicting(Eviction::Oldest).frontend();
    let address = listen(&frontend, Event::Drain);
    let first = TcpStream::connect(address).expect("a connection");
    wait_until(|| {
        accept(&frontend);
        frontend.connections() == 1
    });
    accept(&frontend);
    assert_eq!(frontend.connections(), 1, "no client waits");
    let _second = TcpStream::connect(address).expect("a connection");
    wait_until(|| {
        accept(&frontend);
        is_closed(&first)
    });
    assert_eq!(frontend.connections(), 1);
    frontend.poller.stop();
}

fn is_closed(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("a socket");
    client.peek(&mut [0]).is_ok_and(|count| count == 0)
}

#[test]
fn a_listener_accepts_128_clients_in_one_event() {
    let (frontend, _event_loop) = Scenario::new().with_places(1000).frontend();
    let address = listen(&frontend, Event::Drain);
    let _clients: Vec<_> = (0..130).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    accept(&frontend);
    assert_eq!(frontend.connections(), 128);
    accept(&frontend);
    assert_eq!(frontend.connections(), 130, "the others have an event of their own");
    frontend.poller.stop();
}

#[test]
fn a_listener_ends_with_the_event_that_it_lasts_until() {
    let (frontend, _event_loop) = Scenario::new().frontend();
    let [clients, admin] = [Event::Drain, Event::Cut].map(|until| listen(&frontend, until));
    frontend.poller.broadcast(Event::Drain);
    assert!(TcpStream::connect(clients).is_err(), "another process may have the port from now on");
    let _client = TcpStream::connect(admin).expect("a connection");
    wait_until(|| {
        accept(&frontend);
        frontend.connections() == 1
    });
    frontend.poller.broadcast(Event::Cut);
    assert!(TcpStream::connect(admin).is_err());
    assert_eq!(frontend.connections(), 0);
    frontend.poller.stop();
}

#[test]
fn a_stopped_poller_forgets_a_frontends_clients() {
    let (frontend, _event_loop) = Scenario::new().frontend();
    let weak: Weak<Frontend> = Arc::downgrade(&frontend);
    let address = listen(&frontend, Event::Drain);
    let _client = TcpStream::connect(address).expect("a connection");
    accept(&frontend);
    frontend.poller.stop();
    drop(frontend);
    assert!(weak.upgrade().is_none());
}
