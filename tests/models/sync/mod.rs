//! The doubles of `src/sync.rs`: the same names, and shuttle behind them.

pub use std::sync::OnceLock;

pub use shuttle::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic};
pub use shuttle::thread_local;

pub mod bell;
pub mod channel;
pub mod thread;

use shuttle::rand::{Rng, thread_rng};

/// What shuttle decides and can replay, like the order of steps.
pub fn chance(one_in: u32) -> bool {
    pick(one_in) == 0
}

/// A number below the bound.
pub fn pick(bound: u32) -> u32 {
    thread_rng().gen_range(0..bound)
}
