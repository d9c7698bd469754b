//! A bug in one leg or one reply costs nobody else anything.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use http::{HeaderMap, Method, Version};
use red_tentacle::backends::Backends;
use red_tentacle::message::{Delivered, Delivery, Departure, Reply, ReplyTo, Request, Target};
use red_tentacle::poller::Poller;
use red_tentacle::proxy::{Proxy, Rules};
use red_tentacle::race::{Linger, Reaper};
use red_tentacle::upstream::{Reach, SystemLookup, Upstream};

use crate::harness::{Fake, Raw, SOON, addresses, eventually, refusing};

/// Races without a front: the test stands where the clients would.
struct Races {
    proxy: Arc<Proxy>,
    poller: Poller,
}

impl Races {
    fn against(urls: &[String]) -> Races {
        let (poller, waiter) = Poller::new().expect("a poller");
        let polling = poller.clone();
        thread::spawn(move || waiter.run());
        let reach = Reach { timeout: 3 * SOON, idle_timeout: 3 * SOON, ..Reach::default() };
        let upstream = Upstream::new(reach, Arc::new(SystemLookup), poller.clone()).expect("no certificates");
        let backends = Arc::new(Backends::new(addresses(urls), upstream));
        let proxy = Proxy::new(Rules::default(), backends, Box::new(|work| work()), Reaper::new(Linger::NONE, &poller));
        Races { proxy, poller: polling }
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

impl Departure for Staying {
    fn when_gone(&self, _: Box<dyn FnOnce() + Send>) {}
}

/// Tells the status of its reply.
struct Telling(Sender<u16>);

impl ReplyTo for Telling {
    fn send(self: Box<Self>, reply: Reply, delivered: Delivered) {
        let _ = self.0.send(reply.status.as_u16());
        delivered(Delivery::Whole);
    }

    fn departure(&self) -> Arc<dyn Departure> {
        Arc::new(Staying)
    }
}

/// Says that it was called, and panics, without the hook's noise.
struct Panicking(Sender<()>);

impl ReplyTo for Panicking {
    fn send(self: Box<Self>, _: Reply, _: Delivered) {
        let _ = self.0.send(());
        resume_unwind(Box::new("meant"));
    }

    fn departure(&self) -> Arc<dyn Departure> {
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
