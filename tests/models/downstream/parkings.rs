//! A value in its parking place: events arrive on several threads, one of which is the poller's. All of them are seen by the
//! thread that has the value, and it ends once.

use crate::downstream::parking::Parking;
use crate::runtime::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::runtime::sync::bell::{ring, wait_for};
use crate::runtime::sync::chance;
use crate::runtime::sync::thread::scope;

/// Events on each of two threads.
const EVENTS: usize = 2;

struct Place {
    parking: Parking<Thing>,
    happened: AtomicUsize,
    /// Its deadline has passed.
    is_due: AtomicBool,
    is_poller_stopped: AtomicBool,
    ended: AtomicUsize,
}

/// The number of events that it has seen.
struct Thing(usize);

pub fn what_happens_to_a_thing_in_its_place_is_seen() {
    let place = Place {
        parking: Parking::new(),
        happened: AtomicUsize::new(0),
        is_due: AtomicBool::new(false),
        is_poller_stopped: AtomicBool::new(false),
        ended: AtomicUsize::new(0),
    };
    let is_cut = chance(2);
    scope(|scope| {
        let place = &place;
        scope.spawn(|| place.poll());
        let mut others = vec![scope.spawn(|| place.carry(Box::new(Thing(0))))];
        others.extend((0..2).map(|_| scope.spawn(|| (0..EVENTS).for_each(|_| place.happen()))));
        if is_cut {
            others.push(scope.spawn(|| place.cut()));
        }
        for other in others {
            other.join().expect("no panic");
        }
        if !is_cut {
            wait_for(|| place.parking.inspect(|thing| thing.0 == 2 * EVENTS).filter(|has_all| *has_all));
            place.cut();
        }
    });
    assert_eq!(place.ended.load(Ordering::SeqCst), 1, "it ends once");
}

impl Place {
    /// The poller's thread.
    fn poll(&self) {
        loop {
            wait_for(|| {
                let is_stopped = self.is_poller_stopped.load(Ordering::SeqCst);
                (is_stopped || self.is_due.swap(false, Ordering::SeqCst)).then_some(())
            });
            if self.is_poller_stopped.load(Ordering::SeqCst) {
                return;
            }
            self.wake();
        }
    }

    fn happen(&self) {
        self.happened.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thing) = self.parking.take_or_notify() {
            self.carry(thing);
        }
    }

    fn carry(&self, thing: Box<Thing>) {
        let mut in_hand = Some(thing);
        while let Some(mut thing) = in_hand {
            if self.parking.is_closed() {
                self.ended.fetch_add(1, Ordering::SeqCst);
                return;
            }
            // Others want the thread before it has seen them.
            in_hand = if chance(4) {
                self.parking.park_to_yield(thing, || self.set_due(true))
            } else {
                thing.0 = self.happened.load(Ordering::SeqCst);
                self.parking.park(thing, || self.set_due(false))
            };
        }
        ring();
    }

    fn set_due(&self, is_due: bool) {
        self.is_due.store(is_due, Ordering::SeqCst);
        ring();
    }

    /// The cut of a shutdown, after which the poller stops.
    fn cut(&self) {
        if let Some(thing) = self.parking.close() {
            self.carry(thing);
        }
        self.is_poller_stopped.store(true, Ordering::SeqCst);
        ring();
    }
}
