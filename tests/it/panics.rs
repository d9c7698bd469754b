//! A bug in one leg or one reply costs no other anything, and a disk that hangs no leg more than its time.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use http::{HeaderMap, Method, Version};
use red_tentacle::message::{Delivery, Disconnect, OnDelivered, Reply, ReplyTo, Request, Spool, SpoolWriter, Target};
use red_tentacle::proxy::{Executor, Proxy, Threads};
use red_tentacle::race::{Linger, Reaper, Starter};
use red_tentacle::runtime::poller::Poller;
use red_tentacle::upstream::Backends;
use red_tentacle::upstream::{ConnectOptions, SystemLookup, Upstream};

use crate::harness::{Fake, Raw, SOON, entries, eventually, refusing};

/// Races without a frontend: the test stands where the clients would.
struct Races {
    proxy: Arc<Proxy>,
    poller: Poller,
}

impl Races {
    fn against(urls: &[String]) -> Races {
        Races::beside(urls, 3 * SOON, Box::new(|work| work()))
    }

    /// Makes such races with legs that wait for this long, and with another disk.
    fn beside(urls: &[String], timeout: Duration, disk: Executor) -> Races {
        let (poller, waiter) = Poller::new().expect("a poller");
        let polling = poller.clone();
        thread::spawn(move || waiter.run());
        let options = ConnectOptions { timeout, idle_timeout: timeout, ..ConnectOptions::default() };
        let upstream = Upstream::new(options, Arc::new(SystemLookup), poller.clone()).expect("no certificates");
        let backends = Backends::new(&entries(urls), upstream);
        let proxy = Proxy::new(
            Arc::default(),
            backends,
            Threads { disk, long: Box::new(|work| work()) },
            Reaper::new(Linger::NONE, &poller),
            Starter::new(&poller),
            &poller,
        );
        Races { proxy, poller: polling }
    }

    fn begin(&self, reply_to: Box<dyn ReplyTo>) {
        self.begin_with(reply_to, None);
    }

    fn begin_with(&self, reply_to: Box<dyn ReplyTo>, body: Option<Spool>) {
        let request = Request {
            method: if body.is_some() { Method::POST } else { Method::GET },
            target: Target::parse(&Method::GET, "/").expect("a target"),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body,
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
            received: Instant::now(),
        };
        self.proxy.serve(Box::new(request), reply_to);
    }

    /// The status that a client gets.
    fn status(&self) -> u16 {
        let (sender, statuses) = unbounded();
        self.begin(Box::new(Telling(sender)));
        let status = statuses.recv_timeout(SOON).expect("a reply");
        assert!(statuses.recv().is_err(), "there is one reply");
        status
    }

    /// Begins a race whose reply panics: once it has.
    fn panic_once(&self) {
        let (sender, panicked): (_, Receiver<()>) = unbounded();
        self.begin(Box::new(Panicking(sender)));
        panicked.recv_timeout(SOON).expect("the reply is tried");
    }

    fn wait_for_the_end(&self) {
        eventually("no race is left", || Arc::strong_count(&self.proxy) == 1);
    }
}

impl Drop for Races {
    fn drop(&mut self) {
        self.poller.stop();
    }
}

/// Never leaves.
struct Staying;

impl Disconnect for Staying {
    fn when_gone(&self, _: Box<dyn FnOnce() + Send>) {}
}

/// Tells the status of its reply.
struct Telling(Sender<u16>);

impl ReplyTo for Telling {
    fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered) {
        let _ = self.0.send(reply.status.as_u16());
        delivered(Delivery::Whole);
    }

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        Arc::new(Staying)
    }
}

/// Says that it was called, and panics, without the hook's noise.
struct Panicking(Sender<()>);

impl ReplyTo for Panicking {
    fn send(self: Box<Self>, _: Reply, _: OnDelivered) {
        let _ = self.0.send(());
        resume_unwind(Box::new("meant"));
    }

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        Arc::new(Staying)
    }
}

#[test]
fn a_panic_in_the_winning_leg_ends_its_race_and_no_other() {
    let (winner, loser) = (Fake::with(200, "won"), Raw::hanging());
    let races = Races::against(&[winner.url.clone(), loser.url.clone()]);
    for _ in 0..5 {
        races.panic_once();
        races.wait_for_the_end();
        assert_eq!(races.status(), 200);
        races.wait_for_the_end();
    }
}

#[test]
fn a_panic_in_the_last_losing_leg_ends_its_race_and_no_other() {
    let loser = Fake::with(500, "lost");
    let races = Races::against(&[loser.url.clone(), refusing()]);
    for _ in 0..5 {
        races.panic_once();
        races.wait_for_the_end();
        assert_eq!(races.status(), 502);
        races.wait_for_the_end();
    }
}

/// A body in a file.
fn long_body() -> Spool {
    let mut writer = SpoolWriter::new(std::env::temp_dir().into(), 1 << 20);
    writer.append(&vec![b'x'; 1 << 20]).expect("a disk");
    writer.finish()
}

/// Was seen as: a leg whose request was in a file waited for a thread that read it, for as long as the disk hung.
#[test]
fn a_leg_that_waits_for_the_disk_ends_in_its_time() {
    let backend = Raw::hanging();
    let (jobs, held) = unbounded();
    let disk: Executor = Box::new(move |work| jobs.send(work).expect("the test holds them"));
    let races = Races::beside(std::slice::from_ref(&backend.url), Duration::from_millis(300), disk);
    let (sender, statuses) = unbounded();
    races.begin_with(Box::new(Telling(sender)), Some(long_body()));
    assert_eq!(statuses.recv_timeout(SOON), Ok(502));
    let late = held.recv_timeout(SOON).expect("it was to be read from its file");
    assert!(held.is_empty(), "once is enough");
    late();
    races.wait_for_the_end();
}
