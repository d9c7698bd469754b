//! Brings races into a state, for tests: against backends at the ends of pairs of sockets, with a client that says what it gets. Every
//! leg finds an idle connection and no room for another. Knows nothing of what a test asserts.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::Proxy;
use super::context::{Executor, Threads};
use crate::config::Config;
use crate::message::{
    BodySource, Delivery, Disconnect, OnDelivered, Reply, ReplyBody, ReplyTo, Request, Spool, Target, TunnelPeer,
    parse_entries,
};
use crate::race::{Linger, Reaper, Starter, StarterPlace, Starts};
use crate::runtime::poller::Event;
use crate::upstream::scenario::{self, Backend, LONG, SOON};
use crate::upstream::{Backends, PathKey, PendingRequest};

/// Losers linger for longer than any test.
pub(super) const LINGER: Linger = Linger { safe: LONG, not_safe: LONG, look: Duration::ZERO };

/// A proxy, and the ends of its idle connections, one for each backend.
pub(super) struct Scenario {
    pub(super) proxy: Arc<Proxy>,
    pub(super) ends: Vec<Backend>,
    pub(super) list: Arc<Backends>,
    starter: Arc<Starter>,
    reaper: Arc<Reaper>,
    disk: Receiver<Box<dyn FnOnce() + Send>>,
    /// Its poller, which runs.
    upstream: scenario::Scenario,
}

impl Scenario {
    /// A proxy with this many backends.
    pub(super) fn of(backends: usize, linger: Linger) -> Scenario {
        Scenario::with(backends, linger, Config::default())
    }

    pub(super) fn with(backends: usize, linger: Linger, config: Config) -> Scenario {
        Scenario::made(&vec![""; backends], linger, config)
    }

    /// A proxy with a backend for each of these options of a list's entries.
    pub(super) fn listed(options: &[&str], linger: Linger) -> Scenario {
        Scenario::made(options, linger, Config::default())
    }

    pub(super) fn made(options: &[&str], linger: Linger, config: Config) -> Scenario {
        Scenario::on(scenario::Scenario::new(), options, linger, config)
    }

    /// A proxy whose connections to backends are of this kind.
    pub(super) fn on(upstream: scenario::Scenario, options: &[&str], linger: Linger, config: Config) -> Scenario {
        let entry = |(port, options): (usize, &&str)| format!("http://127.0.0.1:{port} {options}");
        let entries: Vec<String> = (1..).zip(options).map(entry).collect();
        let entries = parse_entries(&entries.join(",")).expect("a list");
        let list = Backends::new(&entries, upstream.upstream.clone());
        let ends = list.snapshot().iter().map(|backend| scenario::idle(backend.pool())).collect();
        let reaper = Reaper::new(linger, &upstream.upstream.poller);
        let (work, disk) = unbounded();
        let executor = |work: Sender<_>| -> Executor { Box::new(move |job| work.send(job).expect("the test listens")) };
        let threads = Threads { disk: executor(work.clone()), long: executor(work) };
        let poller = &upstream.upstream.poller;
        let starter = Starter::new(poller);
        let proxy = Proxy::new(config.into(), list.clone(), threads, reaper.clone(), starter.clone(), poller);
        Scenario { proxy, ends, list, starter, reaper, disk, upstream }
    }

    /// Begins the race of a request, of which each backend has received the head then.
    pub(super) fn race(&mut self, request: Request) -> Client {
        let client = self.begin(request);
        for end in &mut self.ends {
            end.receives_head();
        }
        client
    }

    /// Begins the race of a request.
    pub(super) fn begin(&self, request: Request) -> Client {
        let (client, reply_to) = Client::new();
        self.proxy.serve(Box::new(request), Box::new(reply_to));
        client
    }

    /// Does the next piece of work that may wait for the disk.
    pub(super) fn run_disk(&self) {
        // A leg that an event has on the poller's thread just now would be queued once more.
        self.settle();
        let work = self.disk.recv_timeout(SOON).expect("work for the disk");
        work();
    }

    /// The count of connections to this backend that idle; they leave the pool.
    pub(super) fn take_idle(&self, backend: usize) -> usize {
        let pool = self.list.snapshot()[backend].pool().clone();
        std::iter::from_fn(|| pool.take_last()).count()
    }

    /// Waits until the race is over, lingering losers included.
    pub(super) fn wait_for_end(&self) {
        wait_until("the race is over", || self.proxy.races() == 0);
    }

    /// Waits until the legs have acted on all that was sent before.
    pub(super) fn settle(&self) {
        self.upstream.settle();
    }

    /// Waits until what was due within this time has been done.
    pub(super) fn outlast(&self, time: Duration) {
        self.upstream.outlast(time);
    }

    /// The count of races of which losers may linger.
    pub(super) fn lingering(&self) -> usize {
        self.reaper.count()
    }

    /// The count of races that wait for the next of their legs to start by time.
    pub(super) fn starts(&self) -> usize {
        self.starter.count()
    }

    /// Keeps the poller's thread from starting legs by time until what this gives is dropped.
    pub(super) fn hold_starts(&self) -> impl Sized + use<> {
        let (release, released) = unbounded::<()>();
        let gate = Arc::new(Gate(released));
        let starts: Arc<dyn Starts> = gate.clone();
        self.starter.add(Arc::downgrade(&starts), &StarterPlace::default(), Instant::now());
        (release, gate)
    }

    /// Has the proxy know that races take this long to their first success.
    pub(super) fn know(&self, time: Duration) {
        let known = self.proxy.first_success();
        (0..100).for_each(|_| known.add(time));
        known.end_second(Instant::now());
    }

    /// Gives every handler of the poller an event, as a shutdown does.
    pub(super) fn give_all(&self, event: Event) {
        self.upstream.upstream.poller.broadcast(event);
    }

    /// The bytes of bodies that are being judged.
    pub(super) fn context_bytes(&self) -> usize {
        self.proxy.0.judged_bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Legs, and how many of them were hung up on.
    pub(super) fn legs(&self) -> (u64, u64) {
        let totals = self.proxy.totals();
        (totals.legs, totals.hung_up)
    }

    /// Has a request answered by the first backend, and waits for its end.
    pub(super) fn is_won_by_first(&mut self, request: Request) {
        let client = self.begin(request);
        self.ends[0].receives_head();
        self.ends[0].sends(answer(200, "b1"));
        assert_eq!(client.takes_reply(), (200, "b1".to_owned()));
        self.wait_for_end();
    }

    /// Leaves this many requests unanswered at a backend; no probe is due for long.
    pub(super) fn leave_unanswered(&self, backend: usize, count: usize) -> Vec<PendingRequest> {
        let pending = self.leave_waiting(backend, count, "/");
        while self.list.snapshot()[backend].breaker().try_admit(count, PathKey::of("/"), Instant::now() + LONG) {}
        pending
    }

    /// Leaves this many requests for a path waiting at a backend.
    pub(super) fn leave_waiting(&self, backend: usize, count: usize, path: &str) -> Vec<PendingRequest> {
        let list = self.list.snapshot();
        let pending: Vec<_> = std::iter::repeat_with(PendingRequest::default).take(count).collect();
        for pending in &pending {
            list[backend].breaker().add(pending, PathKey::of(path));
        }
        pending
    }

    /// Takes the places, and the probe, that a backend has at once for requests though 128 wait there. Gives their number.
    pub(super) fn take_places(&self, backend: usize) -> usize {
        let (list, now) = (self.list.snapshot(), Instant::now());
        (0..1000).take_while(|_| list[backend].breaker().try_admit(128, PathKey::of("/"), now)).count()
    }
}

/// Is woken before races that begin later, and lets none of them be woken while it is closed.
struct Gate(Receiver<()>);

impl Starts for Gate {
    fn start_due(self: Arc<Self>, _: Instant) {
        assert!(self.0.recv_timeout(SOON).is_err_and(|error| error.is_disconnected()), "it is opened in time");
    }
}

/// Waits for what another thread does.
pub(super) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "in time: {what}");
        thread::yield_now();
    }
}

/// A client, from the test's side.
pub(super) struct Client {
    replies: Receiver<Sent>,
    presence: Arc<Presence>,
}

/// What a client is sent.
pub(super) struct Sent {
    pub(super) reply: Reply,
    /// The backend's side, if the client is joined with it.
    pub(super) tunnel: Option<Box<dyn TunnelPeer>>,
    pub(super) delivered: OnDelivered,
}

/// The way back to a client.
pub(super) struct Route {
    replies: Sender<Sent>,
    presence: Arc<Presence>,
}

#[derive(Default)]
struct Presence(Mutex<(bool, Option<Box<dyn FnOnce() + Send>>)>);

impl Client {
    pub(super) fn new() -> (Client, Route) {
        let ((sender, replies), presence) = (unbounded(), Arc::<Presence>::default());
        (Client { replies, presence: presence.clone() }, Route { replies: sender, presence })
    }

    /// What it is sent, at once or soon.
    pub(super) fn receives(&self) -> Sent {
        self.replies.recv_timeout(SOON).expect("a reply")
    }

    /// What it is sent, and takes: its status, and its body if that has been received whole.
    pub(super) fn takes_reply(&self) -> (u16, String) {
        let Sent { reply, delivered, .. } = self.receives();
        let body = match reply.body {
            ReplyBody::Whole(body) => String::from_utf8(body).expect("UTF-8"),
            ReplyBody::Stream { .. } | ReplyBody::Withheld { .. } => String::new(),
        };
        delivered(Delivery::Whole);
        (reply.status.as_u16(), body)
    }

    /// Whether it has been sent nothing.
    pub(super) fn waits(&self) -> bool {
        self.replies.is_empty()
    }

    pub(super) fn leaves(&self) {
        let abandon = {
            let mut presence = self.presence.0.lock().expect("no panic");
            presence.0 = true;
            presence.1.take()
        };
        if let Some(abandon) = abandon {
            abandon();
        }
    }
}

impl Route {
    fn put_through(self, reply: Reply, tunnel: Option<Box<dyn TunnelPeer>>, delivered: OnDelivered) {
        let through = Through(self.presence);
        let delivered = Box::new(move |delivery| {
            delivered(delivery);
            drop(through);
        });
        let _ = self.replies.send(Sent { reply, tunnel, delivered });
    }
}

/// A reply that is through, or was dropped: from now on it concerns no race that its client leaves.
struct Through(Arc<Presence>);

impl Drop for Through {
    fn drop(&mut self) {
        let abandon = self.0.0.lock().expect("no panic").1.take();
        drop(abandon);
    }
}

impl ReplyTo for Route {
    fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered) {
        self.put_through(reply, None, delivered);
    }

    fn join(self: Box<Self>, reply: Reply, far: Box<dyn TunnelPeer>, delivered: OnDelivered) {
        self.put_through(reply, Some(far), delivered);
    }

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        self.presence.clone()
    }
}

impl Disconnect for Presence {
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>) {
        let mut presence = self.0.lock().expect("no panic");
        if presence.0 {
            drop(presence);
            return abandon();
        }
        presence.1 = Some(abandon);
    }
}

/// A client that has left before its race begins.
pub(super) fn serve_one_that_has_left(proxy: &Arc<Proxy>, request: Request) -> Client {
    let (client, route) = Client::new();
    client.leaves();
    proxy.serve(Box::new(request), Box::new(route));
    client
}

pub(super) fn get() -> Request {
    request(Method::GET, &[], None)
}

/// A request that asks for another protocol.
pub(super) fn upgrade() -> Request {
    request(Method::GET, &[("connection", "upgrade"), ("upgrade", "x")], None)
}

pub(super) fn post(body: Spool) -> Request {
    request(Method::POST, &[], Some(body))
}

pub(super) fn request(method: Method, fields: &[(&'static str, &'static str)], body: Option<Spool>) -> Request {
    let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Request {
        target: Target::parse(&method, "/").expect("a target"),
        method,
        version: Version::HTTP_11,
        headers: fields.collect::<HeaderMap>(),
        body,
        peer: "192.0.2.7:1234".parse().expect("an address"),
        received: Instant::now(),
    }
}

/// An answer with this status and body.
pub(super) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} \r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The whole of a body that streams, whose source is done with then.
pub(super) fn read_whole(mut source: Box<dyn BodySource>) -> Vec<u8> {
    let mut body = Vec::new();
    std::io::copy(&mut source, &mut body).expect("the whole body");
    body
}
