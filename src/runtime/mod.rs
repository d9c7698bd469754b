//! The floor under all other modules: waiting for sockets and deadlines, hanging up from any thread, and the locks that threads
//! share. Knows nothing of HTTP.

pub mod cancel;
pub mod delay_queue;
pub mod few;
pub mod poller;
pub mod sync;
pub mod timer;
mod token_hasher;
