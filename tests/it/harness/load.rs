//! Many clients at once: a number of requests on keep-alive connections, and what the program used meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::{Client, Usage};

/// How many moments are looked at, at equal distances in requests.
const SAMPLES: usize = 120;

/// Clients that share a number of requests.
#[derive(Clone, Copy)]
pub struct Load {
    pub address: SocketAddr,
    pub clients: usize,
    pub requests: usize,
}

/// What a program used while it was under load, in the order of time.
#[derive(Debug)]
pub struct Course {
    samples: Vec<Usage>,
    pub requests_per_second: usize,
}

impl Load {
    /// Has every request sent and answered by the function, which is told its number.
    pub fn run(self, ask: impl Fn(&mut Client, usize) + Sync) {
        self.run_with(|_| {}, ask);
    }

    /// The same, while the program's usage is looked at.
    pub fn watch(self, process: u32, ask: impl Fn(&mut Client, usize) + Sync) -> Course {
        let samples = Mutex::new(Vec::new());
        let interval = (self.requests / SAMPLES).max(1);
        let began = Instant::now();
        let answered = |count: usize| {
            if count.is_multiple_of(interval) {
                // Under the lock, or an older look could come later.
                let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push(Usage::of(process));
            }
        };
        self.run_with(answered, ask);
        let milliseconds = usize::try_from(began.elapsed().as_millis()).unwrap_or(usize::MAX).max(1);
        let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
        Course { samples, requests_per_second: self.requests * 1000 / milliseconds }
    }

    fn run_with(self, answered: impl Fn(usize) + Sync, ask: impl Fn(&mut Client, usize) + Sync) {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..self.clients {
                scope.spawn(|| {
                    let mut client = Client::connect(self.address);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.requests {
                            return;
                        }
                        ask(&mut client, number);
                        answered(done.fetch_add(1, Ordering::Relaxed) + 1);
                    }
                });
            }
        });
    }
}

impl Course {
    /// The most of each.
    pub fn peak(&self) -> Usage {
        peak(&self.samples)
    }

    /// Nothing grows: the last third isn't above the middle third by more than this.
    pub fn assert_flat(&self, slack: Usage) {
        let third = self.samples.len() / 3;
        assert!(third > 2, "enough samples: {self:?}");
        let (middle, last) = (peak(&self.samples[third..2 * third]), peak(&self.samples[2 * third..]));
        let is_flat = last.threads <= middle.threads + slack.threads
            && last.descriptors <= middle.descriptors + slack.descriptors
            && last.resident_kib <= middle.resident_kib + slack.resident_kib;
        assert!(is_flat, "from {middle:?} to {last:?}: {:#?}", self.samples);
    }
}

fn peak(samples: &[Usage]) -> Usage {
    let most = |of: fn(&Usage) -> usize| samples.iter().map(of).max().expect("a sample");
    Usage {
        threads: most(|usage| usage.threads),
        descriptors: most(|usage| usage.descriptors),
        resident_kib: most(|usage| usage.resident_kib),
    }
}
