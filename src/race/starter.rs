//! Wakes races when the next of their legs is to start. Driven by the poller's clock; knows nothing of what the races are about.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};

/// A race whose legs start by time.
pub trait Starts: Send + Sync {
    /// Starts what is due, and takes a place for what comes next.
    fn start_due(self: Arc<Self>, now: Instant);
}

/// Wakes races. One registration for all: of a race that is decided early, which most are, nothing stays behind.
pub struct Starter {
    waiting: Mutex<Waiting>,
    registration: Registration,
}

#[derive(Default)]
struct Waiting {
    races: BTreeMap<(Instant, u64), Weak<dyn Starts>>,
    /// Tells races apart that wait for the same instant.
    number: u64,
    /// When the poller wakes this: a time that has been taken back since may be earlier than any race's.
    wakes_at: Option<Instant>,
    /// Whether a shutdown's time is over: nothing starts any more.
    is_cut: bool,
}

/// A race's place in a starter. The default is none.
#[derive(Debug, Default)]
pub struct StarterPlace(Mutex<Option<(Instant, u64)>>);

impl Starter {
    /// Makes a starter that gets its events from the poller.
    pub fn new(poller: &Poller) -> Arc<Starter> {
        let starter = Arc::new(Starter { waiting: Mutex::default(), registration: poller.reserve() });
        starter.registration.start(starter.clone());
        starter
    }

    /// Wakes the race then. It has one place at a time.
    pub fn add(&self, race: Weak<dyn Starts>, place: &StarterPlace, at: Instant) {
        let mut waiting = self.waiting.lock();
        if waiting.is_cut {
            return;
        }
        waiting.number += 1;
        let key = (at, waiting.number);
        *place.0.lock() = Some(key);
        waiting.races.insert(key, race);
        if waiting.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            self.wake_at(&mut waiting, Some(at));
        }
    }

    /// Wakes the race no more.
    pub fn remove(&self, place: &StarterPlace) {
        let mut waiting = self.waiting.lock();
        let key = place.0.lock().take();
        // Not out of the poller: the next of them comes about as soon.
        let race = key.and_then(|key| waiting.races.remove(&key));
        drop(waiting);
        // Out of the lock: it may be the last that holds the race's memory.
        drop(race);
    }

    /// How many races wait.
    pub fn count(&self) -> usize {
        self.waiting.lock().races.len()
    }

    fn wake_at(&self, waiting: &mut Waiting, at: Option<Instant>) {
        waiting.wakes_at = at;
        self.registration.set_deadline(at);
    }

    /// Takes out the races that are due, and sleeps until the next.
    fn take_due(&self, now: Instant) -> Vec<Weak<dyn Starts>> {
        let mut waiting = self.waiting.lock();
        let later = waiting.races.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut waiting.races, later);
        let next = waiting.races.first_key_value().map(|((at, _), _)| *at);
        self.wake_at(&mut waiting, next);
        due.into_values().collect()
    }

    fn cut(&self) -> BTreeMap<(Instant, u64), Weak<dyn Starts>> {
        let mut waiting = self.waiting.lock();
        waiting.is_cut = true;
        self.wake_at(&mut waiting, None);
        std::mem::take(&mut waiting.races)
    }
}

impl EventHandler for Starter {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => {
                let now = Instant::now();
                for race in self.take_due(now).iter().filter_map(Weak::upgrade) {
                    race.start_due(now);
                }
            }
            // The clients are cut, too, which abandons their races.
            Event::Cut => drop(self.cut()),
            // A drain concerns no race: its client waits for an answer.
            Event::Ready { .. } | Event::Drain => {}
        }
    }
}

impl std::fmt::Debug for Starter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starter").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A race that notes when it was woken.
    #[derive(Default)]
    struct Told(Mutex<Vec<Instant>>);

    impl Starts for Told {
        fn start_due(self: Arc<Self>, now: Instant) {
            self.0.lock().push(now);
        }
    }

    fn race() -> (Arc<Told>, Weak<dyn Starts>, StarterPlace) {
        let told = Arc::new(Told::default());
        let race: Arc<dyn Starts> = told.clone();
        (told, Arc::downgrade(&race), StarterPlace::default())
    }

    #[test]
    fn races_are_woken_when_they_are_due_and_the_others_stay() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let (starter, now) = (Starter::new(&poller), Instant::now());
        let [(first, race1, place1), (second, race2, place2), (gone, race3, place3)] = [(); 3].map(|()| race());
        starter.add(race1, &place1, now + Duration::from_secs(1));
        starter.add(race2, &place2, now + Duration::from_secs(2));
        starter.add(race3, &place3, now + Duration::from_secs(1));
        drop(gone);
        assert_eq!(starter.take_due(now).len(), 0);
        let due = starter.take_due(now + Duration::from_secs(1));
        due.iter().filter_map(Weak::upgrade).for_each(|race| race.start_due(now));
        assert_eq!((due.len(), first.0.lock().len(), second.0.lock().len(), starter.count()), (2, 1, 0, 1));
        starter.remove(&place1);
        assert_eq!(starter.count(), 1, "it has no place any more");
        starter.remove(&place2);
        assert_eq!(starter.count(), 0);
    }

    /// Each is put before or behind others that are taken back, as most are.
    #[test]
    fn no_deadline_is_lost_between_adding_and_waking() {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let starter = Starter::new(&poller);
        for number in 0..500_u64 {
            let [(told, race1, place1), (_early, race2, place2), (_late, race3, place3)] = [(); 3].map(|()| race());
            let now = Instant::now();
            let at = now + Duration::from_micros(200 + number % 7 * 100);
            starter.add(race2, &place2, now + Duration::from_micros(number % 5 * 200));
            starter.add(race3, &place3, now + Duration::from_secs(3600));
            starter.add(race1, &place1, at);
            starter.remove(&place2);
            starter.remove(&place3);
            let until = now + Duration::from_secs(10);
            while told.0.lock().is_empty() {
                assert!(Instant::now() < until, "the race is forgotten");
                std::thread::yield_now();
            }
            assert!(told.0.lock()[0] >= at, "not before its time");
        }
        assert_eq!(starter.count(), 0);
        poller.stop();
    }

    #[test]
    fn a_drain_stops_no_race_and_the_cut_all() {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let (starter, now) = (Starter::new(&poller), Instant::now());
        let [(told, race1, place1), (_late, race2, place2)] = [(); 2].map(|()| race());
        starter.add(race1, &place1, now);
        starter.clone().on_event(Event::Drain);
        starter.clone().on_event(Event::Expired);
        assert_eq!(told.0.lock().len(), 1);
        starter.add(race2.clone(), &place2, now);
        starter.clone().on_event(Event::Cut);
        starter.add(race2, &place2, now);
        assert_eq!(starter.count(), 0);
    }
}
