//! A bug in one leg or one reply costs nobody else anything, nor does a reply that waits.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use http::{HeaderMap, Method, Version};
use red_tentacle::backends::Backends;
use red_tentacle::message::{Delivery, Departure, Reply, ReplyTo, Request, Target};
use red_tentacle::poller::Poller;
use red_tentacle::proxy::{Proxy, Rules};
use red_tentacle::race::{Bounds, Legs, Linger, Reaper};
use red_tentacle::upstream::{Reach, SystemLookup, Upstream};
use red_tentacle::wait;

use crate::harness::{Fake, Gate, Raw, SOON, addresses, eventually, refusing};

/// Races without a front: the test stands where the clients would.
struct Races {
    proxy: Arc<Proxy>,
    legs: Legs,
    stop: Sender<()>,
    foreman: Option<JoinHandle<()>>,
    poller: Poller,
}

impl Races {
    /// Against these backends, on this many legs at once.
    fn against(urls: &[String], threads: usize) -> Races {
        let (poller, waiter) = Poller::new().expect("a poller");
        let polling = poller.clone();
        thread::spawn(move || waiter.run());
        let (legs, foreman) = Legs::new(Bounds { threads, ..Bounds::default() });
        let (stop, stopped) = bounded(1);
        let busy = legs.clone();
        let foreman = thread::spawn(move || foreman.work(&stopped, || {}, |_| busy.busy() == 0));
        let reach = Reach { timeout: 3 * SOON, idle_timeout: 3 * SOON, ..Reach::default() };
        let upstream = Upstream::new(reach, Arc::new(SystemLookup), poller.clone()).expect("no certificates");
        let backends = Arc::new(Backends::new(addresses(urls), upstream));
        let proxy = Proxy::new(Rules::default(), backends, legs.clone(), Reaper::new(Linger::NONE, &poller));
        Races { proxy, legs, stop, foreman: Some(foreman), poller: polling }
    }

    fn begin(&self, reply_to: Box<dyn ReplyTo>) {
        let request = Request {
            method: Method::GET,
            target: Target::parse(&Method::GET, "/").expect("a target"),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: None,
            peer: "127.0.0.1:1".parse().expect("an address"),
            received: Instant::now(),
        };
        self.proxy.serve(request, reply_to);
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
        eventually("no leg runs", || self.legs.busy() == 0);
        eventually("no race is left", || Arc::strong_count(&self.proxy) == 1);
    }
}

impl Drop for Races {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        // After a failure it may have to wait for legs that never end.
        if let Some(foreman) = self.foreman.take().filter(|_| !thread::panicking()) {
            foreman.join().expect("the legs' scope ends without a panic");
        }
        self.poller.stop();
    }
}

/// Never leaves.
struct Staying;

impl Departure for Staying {
    fn when_gone(&self, _: Box<dyn FnOnce() + Send>) {}
}

/// Tells the status of its reply.
struct Telling(Sender<u16>);

impl ReplyTo for Telling {
    fn reply(self: Box<Self>, reply: Reply) -> Delivery {
        let _ = self.0.send(reply.status.as_u16());
        Delivery::Whole
    }

    fn departure(&self) -> Arc<dyn Departure> {
        Arc::new(Staying)
    }
}

/// Says that it was called, and panics, without the hook's noise.
struct Panicking(Sender<()>);

impl ReplyTo for Panicking {
    fn reply(self: Box<Self>, _: Reply) -> Delivery {
        let _ = self.0.send(());
        resume_unwind(Box::new("meant"));
    }

    fn departure(&self) -> Arc<dyn Departure> {
        Arc::new(Staying)
    }
}

/// Waits for its client.
struct Waiting(Gate, Sender<()>);

impl ReplyTo for Waiting {
    fn reply(self: Box<Self>, _: Reply) -> Delivery {
        wait::aside(|| self.0.pass());
        let _ = self.1.send(());
        Delivery::Whole
    }

    fn departure(&self) -> Arc<dyn Departure> {
        Arc::new(Staying)
    }
}

/// Was seen as: the thread that all legs wait on waited for the client, in a front that can't write a reply in parts.
#[test]
fn a_reply_that_waits_for_its_client_keeps_nobody_from_another() {
    for (status, expected) in [(200, 200), (500, 502)] {
        let backend = Fake::with(status, "short");
        let races = Races::against(std::slice::from_ref(&backend.url), 4);
        let (gate, (sender, sent)) = (Gate::new(), unbounded());
        races.begin(Box::new(Waiting(gate.clone(), sender)));
        backend.next();
        for _ in 0..5 {
            assert_eq!(races.status(), expected);
        }
        assert!(sent.is_empty(), "it still waits");
        gate.open();
        sent.recv_timeout(SOON).expect("the reply goes on");
        races.wait_for_the_end();
    }
}

#[test]
fn a_panic_in_the_winning_leg_ends_its_race_and_no_other() {
    let (winner, loser) = (Fake::with(200, "won"), Raw::hanging());
    // Two threads, all of them in use in each race: one that is lost would be missed.
    let races = Races::against(&[winner.url.clone(), loser.url.clone()], 2);
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
    let races = Races::against(&[loser.url.clone(), refusing()], 2);
    for _ in 0..5 {
        races.panic_once();
        races.wait_for_the_end();
        assert_eq!(races.status(), 502);
        races.wait_for_the_end();
    }
}
