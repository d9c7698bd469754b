//! What threads share and by what they speak: std's and crossbeam's, under one roof. The rooms whose every step is tried in
//! thousands of orders take theirs from here, since `tests/models` puts doubles in this place that it can steer.

pub use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
pub use std::thread_local;

/// Shared numbers and flags.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

/// Threads and the scopes that hold them.
pub mod thread {
    pub use std::thread::{Builder, Scope, available_parallelism, scope};
}

/// Channels, and how to wait for two of them.
pub mod channel {
    pub use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
}
