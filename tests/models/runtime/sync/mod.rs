//! The doubles of `src/runtime/sync.rs`: the same names, and shuttle behind them.

pub use std::sync::OnceLock;

use shuttle::sync::PoisonError;
pub use shuttle::sync::{Arc, MutexGuard, Weak, atomic};
pub use shuttle::thread_local;

pub mod bell;
pub mod channel;
pub mod thread;

/// Never poisoned, as the program's.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use shuttle::rand::{Rng, thread_rng};

/// What shuttle decides and can replay, like the order of steps.
pub fn chance(one_in: u32) -> bool {
    pick(one_in) == 0
}

/// A number below the bound.
pub fn pick(bound: u32) -> u32 {
    thread_rng().gen_range(0..bound)
}
