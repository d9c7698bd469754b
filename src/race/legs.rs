//! Runs legs on scoped threads: on demand, few at a time, and the last to park is the first to work. A leg that waits
//! for a socket hands its place on. Knows nothing of what a leg does.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::sync::channel::{self, Receiver, Sender, bounded, unbounded};
use crate::sync::thread::{self, Scope};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::wait::{self, Places};

/// A leg, ready to run. It owns its data and accounts for its own panics.
pub type Job = Box<dyn FnOnce(Place) + Send>;

/// Whether a leg has a thread to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It runs on a thread of its own.
    Given,
    /// This host has no thread for it: it can only end, on a thread that must not wait.
    Missing,
}

/// Small hosts have 64 MiB, and stacks of 2 MiB fail there at the 30th thread. A leg needs 60 KiB, TLS included.
const STACK_BYTES: usize = 256 * 1024;
/// A parked thread that isn't needed for so long leaves.
const PARK_TIME: Duration = Duration::from_secs(10);
/// Legs that wait for a place, for each thread: with less, a burst is refused that would be served in a moment; with
/// more, clients wait for longer than they would care to.
const QUEUE_PER_THREAD: usize = 4;
/// A second thread is woken only when so many legs queue: one runs sooner on a thread that is awake.
const BACKLOG: usize = 2;

/// Where legs go to run. Clones share it.
#[derive(Clone)]
pub struct Legs(Arc<Shared>);

/// The thread that spawns leg threads: the one that holds their scope.
pub struct Foreman {
    shared: Arc<Shared>,
    orders: Receiver<Job>,
}

/// How many threads legs may have.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Threads that run at once.
    pub running: usize,
    /// Threads for legs that begin: those that run and those that wait for a socket. Legs that go on may have `running` more:
    /// else those that wait could keep those whose answer is here from being heard.
    pub threads: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        // Two per core, since one may be in the kernel while the other computes.
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Bounds { running: cores * 2, threads: 1024 }
    }
}

struct Shared {
    bounds: Bounds,
    queue_max: usize,
    crew: Mutex<Crew>,
    orders: Sender<Job>,
}

#[derive(Default)]
struct Crew {
    /// All threads, those that are being hired included.
    threads: usize,
    /// Threads that the foreman has yet to spawn.
    hiring: usize,
    /// Threads that have work and don't wait. More than the bound for a moment, when waits end.
    running: usize,
    /// The channels of the parked ones. `None` tells a thread to leave.
    parked: Vec<Sender<Option<Job>>>,
    /// Legs that go on, after a wait outside. Neither queue holds a leg unless a thread runs that will look here, or every
    /// thread that the leg may have waits for a socket.
    ready: VecDeque<Job>,
    /// Legs that begin.
    queue: VecDeque<Job>,
    closed: bool,
}

/// What a thread does after a leg.
enum Next {
    Job(Job),
    Parked,
    Leave,
}

/// Too many legs are waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

impl Legs {
    /// Legs within these bounds, and the foreman who wants a thread to work on.
    pub fn new(bounds: Bounds) -> (Legs, Foreman) {
        let (sender, orders) = unbounded();
        let queue_max = bounds.threads * QUEUE_PER_THREAD;
        let shared = Arc::new(Shared { bounds, queue_max, crew: Mutex::default(), orders: sender });
        (Legs(shared.clone()), Foreman { shared, orders })
    }

    /// Starts all these legs of a race, or none: each runs at once or waits in the queue, in order. Never blocks.
    pub fn start(&self, jobs: Vec<Job>) -> Result<(), QueueFull> {
        let mut crew = self.0.crew();
        if crew.closed || crew.queue.len() + jobs.len() > self.0.queue_max {
            return Err(QueueFull);
        }
        crew.queue.extend(jobs);
        self.0.put_to_work(crew);
        Ok(())
    }

    /// A leg that has waited outside goes on; there is always room for it. Never blocks.
    pub fn resume(&self, job: Job) {
        let mut crew = self.0.crew();
        // Once closed, nobody looks into the queue; the job is dropped, and what it holds ends with it.
        if !crew.closed {
            crew.ready.push_back(job);
            self.0.put_to_work(crew);
        }
    }

    /// All threads, parked ones too.
    pub fn threads(&self) -> usize {
        self.0.crew().threads
    }

    /// Threads that have a leg, and legs that wait for a place.
    pub fn busy(&self) -> usize {
        let crew = self.0.crew();
        crew.at_work() + crew.backlog()
    }

    /// No more legs: parked threads leave, the others after what they are doing. What waits in the queue ends here, without a
    /// thread of its own.
    fn close(&self) {
        let (parked, ready, queue) = {
            let mut crew = self.0.crew();
            crew.closed = true;
            crew.threads -= crew.parked.len();
            let Crew { parked, ready, queue, .. } = &mut *crew;
            (std::mem::take(parked), std::mem::take(ready), std::mem::take(queue))
        };
        for thread in parked {
            let _ = thread.send(None);
        }
        ready.into_iter().chain(queue).for_each(|job| run_guarded(job, Place::Missing));
    }
}

impl Foreman {
    /// Spawns leg threads until `stop` says so; then calls `begin_end` and goes on until `is_over`, which is asked every
    /// few milliseconds and told since when; at last waits for every thread to end.
    pub fn work(self, stop: &Receiver<()>, begin_end: impl FnOnce(), is_over: impl Fn(Instant) -> bool) {
        const TICK: Duration = Duration::from_millis(5);
        thread::scope(|scope| {
            loop {
                channel::select! {
                    recv(self.orders) -> job => self.hire(scope, job.ok()),
                    recv(stop) -> _ => break,
                }
            }
            begin_end();
            let since = Instant::now();
            while !is_over(since) {
                self.hire(scope, self.orders.recv_timeout(TICK).ok());
            }
            Legs(self.shared.clone()).close();
        });
    }

    fn hire<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, job: Option<Job>) {
        let Some(job) = job else { return };
        // The job waits in a channel until a thread has taken it: a failed spawn would drop it.
        let (sender, receiver) = bounded(1);
        let _ = sender.send(job);
        let thread = thread::Builder::new().name("leg".into()).stack_size(STACK_BYTES);
        let taken = receiver.clone();
        let spawned =
            thread.spawn_scoped(scope, move || taken.try_recv().ok().map(|job| Shared::run(&self.shared, job)));
        self.shared.crew().hiring -= 1;
        if let Err(error) = spawned {
            log::warn!("cannot start a leg's thread: {error}");
            self.shared.not_hired(receiver.try_recv().ok());
        }
    }
}

impl Shared {
    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives queued legs to threads: to one if none runs, to more if too many queue.
    fn put_to_work(&self, crew: MutexGuard<'_, Crew>) {
        self.start_while(crew, |crew| {
            crew.running == 0 || (crew.backlog() >= BACKLOG && crew.running < self.bounds.running)
        });
    }

    fn start_while(&self, mut crew: MutexGuard<'_, Crew>, wanted: impl Fn(&Crew) -> bool) {
        let mut woken = Vec::new();
        while wanted(&crew) {
            // If there is none, every thread waits for a socket: the first whose wait ends looks.
            let Some(job) = crew.job_for_another(self.bounds) else { break };
            crew.running += 1;
            if let Some(parked) = crew.parked.pop() {
                woken.push((parked, job));
            } else {
                crew.threads += 1;
                crew.hiring += 1;
                // The foreman lives as long as the crew isn't closed.
                let _ = self.orders.send(job);
            }
        }
        drop(crew);
        for (parked, job) in woken {
            let _ = parked.send(Some(job));
        }
    }

    /// A leg thread's life.
    fn run(shared: &Arc<Shared>, first: Job) {
        wait::hold_place(shared.clone());
        let (sender, receiver) = bounded(1);
        let mut next = Some(first);
        while let Some(job) = next {
            run_guarded(job, Place::Given);
            next = match shared.next(&sender) {
                Next::Job(job) => Some(job),
                Next::Parked => shared.park(&sender, &receiver),
                Next::Leave => None,
            };
        }
    }

    /// The next leg of the queue; if there is none, or too many run, the thread is parked.
    fn next(&self, sender: &Sender<Option<Job>>) -> Next {
        let mut crew = self.crew();
        if crew.running <= self.bounds.running
            && let Some(job) = crew.job(self.bounds, 0)
        {
            return Next::Job(job);
        }
        crew.running -= 1;
        if crew.closed {
            crew.threads -= 1;
            return Next::Leave;
        }
        crew.parked.push(sender.clone());
        Next::Parked
    }

    /// Waits for a leg, but not for long: `None` if the thread is to leave.
    fn park(&self, sender: &Sender<Option<Job>>, receiver: &Receiver<Option<Job>>) -> Option<Job> {
        match receiver.recv_timeout(PARK_TIME) {
            Ok(woken) => woken,
            Err(_) if self.resign(sender) => None,
            // Somebody took this thread from the stack just now: its leg is on the way.
            Err(_) => receiver.recv().unwrap_or(None),
        }
    }

    /// Takes the thread from the stack, if it is still there, and out of the count in the same step: one that is counted
    /// is counted on to look into the queue.
    fn resign(&self, sender: &Sender<Option<Job>>) -> bool {
        let mut crew = self.crew();
        let Some(at) = crew.parked.iter().position(|parked| parked.same_channel(sender)) else { return false };
        crew.parked.remove(at);
        crew.threads -= 1;
        true
    }

    /// No thread could be started: the leg waits for one that is there; if there is none, it ends, and so do all others.
    fn not_hired(&self, job: Option<Job>) {
        let mut crew = self.crew();
        crew.threads -= 1;
        crew.running -= 1;
        // Its place has been given already.
        crew.ready.extend(job);
        if crew.threads > crew.hiring {
            // A parked one is woken; a busy one looks by itself.
            if !crew.parked.is_empty() {
                self.put_to_work(crew);
            }
            return;
        }
        let stranded = if crew.hiring == 0 {
            [std::mem::take(&mut crew.ready), std::mem::take(&mut crew.queue)]
        } else {
            Default::default()
        };
        drop(crew);
        for job in stranded.into_iter().flatten() {
            run_guarded(job, Place::Missing);
        }
    }
}

impl Crew {
    /// Threads that have a leg, or are getting one.
    fn at_work(&self) -> usize {
        self.threads - self.parked.len()
    }

    /// Legs that wait for a thread.
    fn backlog(&self) -> usize {
        self.ready.len() + self.queue.len()
    }

    /// The next leg for `more` threads than are at work: one that goes on, or one that begins if there may be so many.
    fn job(&mut self, bounds: Bounds, more: usize) -> Option<Job> {
        let may_begin = self.at_work() + more <= bounds.threads;
        self.ready.pop_front().or_else(|| if may_begin { self.queue.pop_front() } else { None })
    }

    /// The next leg for one more thread, if there may be one.
    fn job_for_another(&mut self, bounds: Bounds) -> Option<Job> {
        let has_room = !self.parked.is_empty() || self.threads < bounds.threads + bounds.running;
        if has_room { self.job(bounds, 1) } else { None }
    }
}

impl Places for Shared {
    fn step_aside(&self) {
        let mut crew = self.crew();
        crew.running -= 1;
        self.put_to_work(crew);
    }

    fn step_back(&self) {
        self.crew().running += 1;
    }

    /// One more than the bound, if need be: how long the others will run is anybody's guess.
    fn make_room(&self) {
        let crew = self.crew();
        let running = crew.running;
        self.start_while(crew, |crew| crew.running == running);
    }
}

/// A scope whose thread has panicked panics at its end; the panic hook has logged it.
fn run_guarded(job: Job, place: Place) {
    let _ = catch_unwind(AssertUnwindSafe(|| job(place)));
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Runs the test beside a foreman, who stops when it is over.
    fn with_legs(running: usize, threads: usize, test: impl FnOnce(&Legs) + Send) {
        let (legs, foreman) = Legs::new(Bounds { running, threads });
        let (stop, stopped) = bounded(1);
        thread::scope(|scope| {
            scope.spawn(move || foreman.work(&stopped, || {}, |_| true));
            let tested = catch_unwind(AssertUnwindSafe(|| test(&legs)));
            stop.send(()).expect("the foreman listens");
            tested.expect("the test passes");
        });
    }

    /// A job that says that it runs, and ends when its gate is opened.
    fn gated(name: usize, started: &Sender<usize>, gate: &Receiver<()>) -> Job {
        let (started, gate) = (started.clone(), gate.clone());
        Box::new(move |_| {
            started.send(name).expect("the test listens");
            let _ = gate.recv_timeout(SOON);
        })
    }

    #[test]
    fn legs_beyond_the_threads_wait_in_order_and_all_run() {
        with_legs(2, 2, |legs| {
            let (started, names) = unbounded();
            let (open, gate) = unbounded();
            legs.start((0..5).map(|name| gated(name, &started, &gate)).collect()).expect("room");
            let mut first: Vec<_> = (0..2).map(|_| names.recv_timeout(SOON).expect("a leg starts")).collect();
            first.sort_unstable();
            assert_eq!(first, [0, 1]);
            assert!(names.is_empty() && legs.busy() == 5);
            for next in 2..5 {
                open.send(()).expect("a leg waits");
                assert_eq!(names.recv_timeout(SOON), Ok(next));
            }
            drop(open);
        });
    }

    #[test]
    fn a_race_starts_whole_or_not_at_all() {
        with_legs(1, 1, |legs| {
            let (started, names) = unbounded();
            let (open, gate) = unbounded();
            let job = |name| gated(name, &started, &gate);
            assert_eq!(legs.start((0..6).map(job).collect()), Err(QueueFull));
            legs.start(vec![job(0)]).expect("it runs");
            assert_eq!(names.recv_timeout(SOON), Ok(0));
            legs.start((1..5).map(job).collect()).expect("four wait");
            assert_eq!(legs.start(vec![job(9)]), Err(QueueFull));
            legs.resume(job(5));
            drop(open);
            let ran: Vec<_> = (0..5).map(|_| names.recv_timeout(SOON).expect("a leg starts")).collect();
            assert_eq!(ran, [5, 1, 2, 3, 4], "who has waited already comes first");
        });
    }

    #[test]
    fn a_leg_that_waits_hands_its_place_on() {
        with_legs(1, 3, |legs| {
            let (started, names) = unbounded();
            let (open, gate) = unbounded::<()>();
            let waiting = |name| -> Job {
                let (started, gate) = (started.clone(), gate.clone());
                Box::new(move |_| {
                    started.send(name).expect("the test listens");
                    let _ = wait::aside(|| gate.recv_timeout(SOON));
                })
            };
            legs.start((0..5).map(waiting).collect()).expect("room");
            let ran: Vec<_> = (0..3).map(|_| names.recv_timeout(SOON).expect("a leg starts")).collect();
            assert_eq!(ran, [0, 1, 2]);
            assert!(names.is_empty() && legs.threads() == 3, "every thread waits");
            drop(open);
            let mut rest: Vec<_> = (0..2).map(|_| names.recv_timeout(SOON).expect("a leg starts")).collect();
            rest.sort_unstable();
            assert_eq!(rest, [3, 4]);
        });
    }

    /// Was seen as: with as many legs as may be waiting to connect, a leg whose answer was here was heard only when their
    /// timeout was over.
    #[test]
    fn a_leg_that_goes_on_has_a_thread_though_all_that_begin_wait() {
        with_legs(1, 2, |legs| {
            let (started, names) = unbounded();
            let (open, gate) = unbounded::<()>();
            let waiting = |name| -> Job {
                let (started, gate) = (started.clone(), gate.clone());
                Box::new(move |_| {
                    started.send(name).expect("the test listens");
                    let _ = wait::aside(|| gate.recv_timeout(SOON));
                })
            };
            legs.start((0..4).map(waiting).collect()).expect("room");
            let next = || names.recv_timeout(SOON).expect("a leg starts");
            assert_eq!([next(), next()], [0, 1]);
            for name in [8, 9] {
                let started = started.clone();
                legs.resume(Box::new(move |_| started.send(name).expect("the test listens")));
                assert_eq!(next(), name);
            }
            assert!(names.is_empty() && legs.threads() == 3, "the third thread is for those that go on");
            drop(open);
            let mut rest = [next(), next()];
            rest.sort_unstable();
            assert_eq!(rest, [2, 3]);
        });
    }

    /// Was seen as: while one client downloaded three gigabytes as fast as the proxy could copy them, another's request took
    /// fifteen seconds.
    #[test]
    fn a_leg_that_never_waits_keeps_nobody_from_running() {
        with_legs(1, 2, |legs| {
            let (started, names) = unbounded();
            let (ended, other) = bounded(1);
            let moves: Job = Box::new(move |_| {
                started.send(()).expect("the test listens");
                while other.is_empty() {
                    wait::moved(16 * 1024);
                }
            });
            legs.start(vec![moves]).expect("room");
            names.recv_timeout(SOON).expect("a leg starts");
            let (sender, ran) = bounded(1);
            legs.resume(Box::new(move |_| sender.send(()).expect("the test listens")));
            let other_ran = ran.recv_timeout(SOON);
            ended.send(()).expect("the leg listens");
            assert_eq!(other_ran, Ok(()));
        });
    }

    #[test]
    fn a_parked_thread_is_used_again() {
        with_legs(4, 8, |legs| {
            let (done, names) = unbounded();
            for _ in 0..20 {
                let done = done.clone();
                let job: Job = Box::new(move |_| done.send(thread::current().id()).expect("the test listens"));
                legs.start(vec![job]).expect("room");
                names.recv_timeout(SOON).expect("a leg runs");
                while legs.busy() > 0 {
                    thread::yield_now();
                }
            }
            assert_eq!(legs.threads(), 1);
        });
    }

    #[test]
    fn a_panicking_leg_ends_nothing_but_itself() {
        with_legs(1, 1, |legs| {
            let (done, names) = unbounded();
            let panics: Job = Box::new(|_| panic!("meant"));
            let works: Job = Box::new(move |_| done.send(()).expect("the test listens"));
            legs.start(vec![panics, works]).expect("room");
            assert_eq!(names.recv_timeout(SOON), Ok(()));
        });
    }
}
