//! Red Tentacle: a first-success reverse proxy. One request goes in, every backend gets it at once, the first good
//! answer comes out; 502 with the reasons if there is none.
//!
//! ```text
//!  client ──> front ──> server ──> proxy ──> race ──> leg 1 ──> upstream ──> backend 1
//!    ^       (reads     (who       (headers, │  └───> leg 2 ──> upstream ──> backend 2
//!    │        whole      serves)    the race) │         …
//!    │        requests)                       │
//!    └── front <── the thread that the winning leg is on begins the reply;
//!                  the losers are hung up on; the last leg to end writes the line of the log
//! ```
//!
//! Whatever waits, for a client, a connection, an answer or room, waits in the `poller`, at no thread's cost. The poller's threads,
//! one per core, do all that needn't wait: they begin races of few legs (workers begin the others), take a leg's next step, and
//! carry answers to their clients in turns. Only the disk has threads that wait for it. The modules stand in reading order, top
//! floor first, and each imports only from those below it: `server` joins everything; three wings know nothing of each other,
//! `front` (clients), `upstream` (backends) and `race` (who wins); `message` is what travels between them.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub mod server;

pub mod demo;

pub mod admin_client;

pub mod sockets;

pub mod supervisor;

pub mod proxy;

pub mod admin;

pub mod front;

pub mod upstream;

pub mod race;

pub mod access_log;

pub mod config;

pub mod message;

pub mod host;

pub mod runtime;
