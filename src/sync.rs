//! What threads share, under one roof. The rooms whose every step is tried in
//! thousands of orders take theirs from here, since `tests/models` puts doubles in this place that it can steer.

pub use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Shared numbers and flags.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}
