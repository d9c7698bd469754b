//! The runtime's doubles, and the token as the program has it.

#[path = "../../../src/runtime/cancel.rs"]
pub mod cancel;
#[path = "../../../src/runtime/delay_queue.rs"]
pub mod delay_queue;

/// A poller whose clock runs as fast as it likes.
pub mod poller;

/// Locks, atomics, threads and channels whose every use is a place to stop.
pub mod sync;
