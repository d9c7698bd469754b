//! Channels like crossbeam's, on one lock and one bell for all of them, so that two can be waited for at once.

use std::collections::VecDeque;
use std::sync::Mutex as Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A wait as long as this may be endless for a model; a shorter one ends while others make a few steps.
const LONG: Duration = Duration::from_secs(1);
const PATIENCE_STEPS: u32 = 16;

shuttle::lazy_static! {
    static ref HOUSE: Mutex<()> = Mutex::new(());
    static ref BELL: Condvar = Condvar::new();
}

pub struct Sender<T>(Arc<Channel<T>>);

pub struct Receiver<T>(Arc<Channel<T>>);

/// Touched under the house's lock alone.
struct Channel<T> {
    queue: Cell<VecDeque<T>>,
    capacity: usize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Cell::new(VecDeque::new());
    let channel = Arc::new(Channel { queue, capacity, senders: AtomicUsize::new(1), receivers: AtomicUsize::new(1) });
    (Sender(channel.clone()), Receiver(channel))
}

pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

fn enter() -> MutexGuard<'static, ()> {
    HOUSE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(house: MutexGuard<'static, ()>) -> MutexGuard<'static, ()> {
    BELL.wait(house).unwrap_or_else(PoisonError::into_inner)
}

impl<T> Sender<T> {
    /// No channel of ours is ever full: a thread that waited here would be a bug.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let house = enter();
        if self.0.receivers.load(Ordering::Relaxed) == 0 {
            drop(house);
            return Err(SendError(value));
        }
        let mut queue = self.0.queue.lock().expect("no panic");
        assert!(queue.len() < self.0.capacity, "the channel has room");
        queue.push_back(value);
        drop((queue, house));
        BELL.notify_all();
        Ok(())
    }

    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Receiver<T> {
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut house = enter();
        loop {
            match self.take() {
                Err(TryRecvError::Empty) => house = wait(house),
                taken => return taken.map_err(|_| RecvError),
            }
        }
    }

    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let _house = enter();
        self.take()
    }

    /// The time may be over at any step.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        if timeout >= LONG && super::chance(2) {
            return self.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        for _ in 0..super::pick(PATIENCE_STEPS) {
            match self.try_recv() {
                Err(TryRecvError::Empty) => shuttle::thread::yield_now(),
                taken => return taken.map_err(|_| RecvTimeoutError::Disconnected),
            }
        }
        self.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    fn take(&self) -> Result<T, TryRecvError> {
        match self.0.queue.lock().expect("no panic").pop_front() {
            Some(value) => Ok(value),
            None if self.0.senders.load(Ordering::Relaxed) == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// What came of waiting for two channels.
pub enum Either<A, B> {
    First(Result<A, RecvError>),
    Second(Result<B, RecvError>),
}

/// Waits for the first of two; if both are ready it may be either.
pub fn either<A, B>(first: &Receiver<A>, second: &Receiver<B>) -> Either<A, B> {
    let mut house = enter();
    loop {
        let second_goes_first = super::chance(2);
        for is_second in [second_goes_first, !second_goes_first] {
            if is_second {
                match second.take() {
                    Err(TryRecvError::Empty) => {}
                    taken => return Either::Second(taken.map_err(|_| RecvError)),
                }
            } else {
                match first.take() {
                    Err(TryRecvError::Empty) => {}
                    taken => return Either::First(taken.map_err(|_| RecvError)),
                }
            }
        }
        house = wait(house);
    }
}

macro_rules! select {
    (recv($a:expr) -> $from_a:pat => $do_a:expr, recv($b:expr) -> $from_b:pat => $do_b:expr $(,)?) => {
        match $crate::runtime::sync::channel::either(&$a, &$b) {
            $crate::runtime::sync::channel::Either::First($from_a) => $do_a,
            $crate::runtime::sync::channel::Either::Second($from_b) => $do_b,
        }
    };
}
pub(crate) use select;

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::Relaxed) == 1 && !std::thread::panicking() {
            drop(enter());
            BELL.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.0.receivers.fetch_sub(1, Ordering::Relaxed) == 1 && !std::thread::panicking() {
            let house = enter();
            // As crossbeam does: nobody will ever take them.
            let left = std::mem::take(&mut *self.0.queue.lock().expect("no panic"));
            drop(house);
            drop(left);
        }
    }
}
