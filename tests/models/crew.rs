//! Models of `race/legs.rs`, and of how `wait.rs` hands places on.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::sync::{Barrier, Condvar};

use crate::race::{Bounds, Job, Legs, Place};
use crate::sync::channel::{Receiver, Sender, bounded, unbounded};
use crate::sync::thread::{scope, set_scarce, yield_now};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, chance, pick};
use crate::wait;

/// Legs, and what is known of them.
struct Crew {
    legs: Legs,
    bounds: Bounds,
    /// To the poller's thread, which resumes whoever waits outside.
    outside: Sender<Option<Job>>,
    fates: Mutex<Vec<Option<Fate>>>,
    ended: Condvar,
    /// Legs that run and have never stepped aside, now and at most.
    placed: AtomicUsize,
    placed_max: AtomicUsize,
    threads_max: AtomicUsize,
}

/// What has become of a leg.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Ran,
    /// It was told that there is no thread for it.
    Stranded,
    Dropped,
}

/// A leg on its way. However it ends, it ends once.
struct Leg {
    crew: Arc<Crew>,
    number: usize,
    fate: Fate,
}

/// What a leg does.
#[derive(Clone, Copy)]
enum Deed {
    Work,
    /// Waits on its thread, and hands its place on meanwhile.
    StepAside,
    /// Waits in the poller, at no thread's cost.
    WaitOutside,
    Panic,
}

pub fn every_leg_runs_once() {
    let fates = with_crew(any_bounds(), 4, |crew| start_all(crew, true));
    assert!(fates.iter().all(|fate| *fate == Fate::Ran), "{fates:?}");
}

pub fn legs_run_where_threads_are_scarce() {
    set_scarce(true);
    let fates = with_crew(any_bounds(), 4, |crew| start_all(crew, true));
    assert!(fates.iter().all(|fate| *fate != Fate::Dropped), "{fates:?}");
    set_scarce(false);
}

pub fn a_closing_crew_runs_or_drops_each_leg() {
    set_scarce(chance(4));
    let fates = with_crew(any_bounds(), 4, |crew| start_all(crew, false));
    assert_eq!(fates.len(), 4);
    set_scarce(false);
}

pub fn legs_that_wait_for_each_other_all_run() {
    let threads = 2 + pick(2) as usize;
    let bounds = Bounds { running: 1 + pick(2) as usize, threads };
    let fates = with_crew(bounds, threads, |crew| {
        let all_here = Arc::new(Barrier::new(threads));
        let legs = (0..threads).map(|number| {
            let (leg, all_here) = (Leg::new(crew, number), all_here.clone());
            let job: Job = Box::new(move |_| {
                wait::aside(|| all_here.wait());
                leg.end(Fate::Ran);
            });
            job
        });
        crew.legs.start(legs.collect()).expect("room");
        crew.wait_for(0..threads);
    });
    assert!(fates.iter().all(|fate| *fate == Fate::Ran), "{fates:?}");
}

fn any_bounds() -> Bounds {
    let running = 1 + pick(2) as usize;
    Bounds { running, threads: running + pick(2) as usize }
}

/// Runs a test beside a foreman and a poller's thread, who stop when it returns. What has become of each leg, when all
/// threads have ended.
fn with_crew(bounds: Bounds, legs: usize, test: impl FnOnce(&Arc<Crew>)) -> Vec<Fate> {
    let (outside, waiting) = unbounded();
    let (runner, foreman) = Legs::new(bounds);
    let crew = Arc::new(Crew {
        legs: runner,
        bounds,
        outside,
        fates: Mutex::new(vec![None; legs]),
        ended: Condvar::new(),
        placed: AtomicUsize::new(0),
        placed_max: AtomicUsize::new(0),
        threads_max: AtomicUsize::new(0),
    });
    let (stop, stopped) = bounded(1);
    scope(|scope| {
        scope.spawn(move || foreman.work(&stopped, || {}, |_| chance(2)));
        scope.spawn(|| crew.resume_all(&waiting));
        test(&crew);
        stop.send(()).expect("the foreman listens");
        crew.outside.send(None).expect("the poller listens");
    });
    // Those who came outside after the poller's thread had ended.
    drop(waiting);
    assert!(crew.placed_max.load(Ordering::Relaxed) <= bounds.running, "no leg runs without a place");
    assert!(
        crew.threads_max.load(Ordering::Relaxed) <= bounds.threads + bounds.running,
        "no more threads than allowed, with those for legs that go on"
    );
    let fates = crew.fates().clone();
    fates.into_iter().map(|fate| fate.expect("every leg has ended")).collect()
}

/// Two threads start two legs each, the second perhaps when the first has ended and its thread has parked.
fn start_all(crew: &Arc<Crew>, waits: bool) {
    scope(|scope| {
        for first in [0, 2] {
            scope.spawn(move || {
                crew.start(first);
                if waits && chance(2) {
                    crew.wait_for(first..first + 1);
                }
                crew.start(first + 1);
            });
        }
    });
    if waits {
        crew.wait_for(0..4);
        // The threads go their ways.
        (0..pick(8)).for_each(|_| yield_now());
    }
}

impl Crew {
    fn start(self: &Arc<Self>, number: usize) {
        let deeds = [Deed::Work, Deed::StepAside, Deed::WaitOutside, Deed::Panic];
        let (leg, deed) = (Leg::new(self, number), deeds[pick(4) as usize]);
        // Refused only by a crew that is closed: there is room for more legs than there are.
        let _ = self.legs.start(vec![Box::new(move |place| leg.run(place, deed))]);
    }

    /// The poller's thread.
    fn resume_all(&self, waiting: &Receiver<Option<Job>>) {
        while let Ok(Some(job)) = waiting.recv() {
            self.legs.resume(job);
        }
    }

    /// For ever, if one of them doesn't end.
    fn wait_for(&self, legs: std::ops::Range<usize>) {
        let is_pending = |fates: &mut Vec<Option<Fate>>| fates[legs.clone()].contains(&None);
        drop(self.ended.wait_while(self.fates(), is_pending));
    }

    fn fates(&self) -> MutexGuard<'_, Vec<Option<Fate>>> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leg {
    fn new(crew: &Arc<Crew>, number: usize) -> Leg {
        Leg { crew: crew.clone(), number, fate: Fate::Dropped }
    }

    fn end(mut self, fate: Fate) {
        self.fate = fate;
    }

    fn run(mut self, place: Place, deed: Deed) {
        self.fate = if place == Place::Given { Fate::Ran } else { Fate::Stranded };
        if place == Place::Missing {
            return;
        }
        let crew = self.crew.clone();
        crew.threads_max.fetch_max(crew.legs.threads(), Ordering::Relaxed);
        crew.placed_max.fetch_max(crew.placed.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        yield_now();
        crew.placed.fetch_sub(1, Ordering::Relaxed);
        match deed {
            Deed::Work => {}
            Deed::StepAside => wait::aside(yield_now),
            Deed::WaitOutside => {
                self.fate = Fate::Dropped;
                let job: Job = Box::new(move |place| self.run(place, Deed::Work));
                // The receiver lives until every thread has ended.
                let _ = crew.outside.send(Some(job));
            }
            // The panic's own hook would write a line each time.
            Deed::Panic => {
                drop(self);
                resume_unwind(Box::new("meant"));
            }
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        let before = self.crew.fates()[self.number].replace(self.fate);
        assert_eq!(before, None, "a leg ends once");
        self.crew.ended.notify_all();
    }
}
