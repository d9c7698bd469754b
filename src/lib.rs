//! Red Tentacle: a first-success reverse proxy. One request goes in, every backend gets it at once, the first good
//! answer comes out; 502 with the reasons if there is none.
//!
//! ```text
//!  client ──> downstream ──> server ──> proxy ──> race ──> leg 1 ──> upstream ──> backend 1
//!    ^        (reads        (which     (headers, │  └───> leg 2 ──> upstream ──> backend 2
//!    │         whole         room       the race) │         …
//!    │         requests)     serves it)           │
//!    └── downstream <── the thread of the winning leg begins the reply; the losers are hung up on;
//!                       the last leg to end writes the line of the access log
//! ```
//!
//! Everything that waits, for a client, a connection, an answer or room, waits in the poller (`runtime`), at no
//! thread's cost. The poller's threads, one per core, do all that needn't wait: they begin races of few legs (workers
//! begin the others), take a leg's next step, and carry answers to their clients. Only the disk and lookups
//! of names have threads that wait for them. The modules stand in reading order, top floor first, and each imports only
//! from those below it: `server` joins everything; three rooms know nothing of each other, `downstream` (clients),
//! `upstream` (backends) and `race` (who wins); `message` is what travels between them. `docs/architecture.md` has the
//! glossary, the life of a request, the threads, and why it is all like this.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub mod probe;

pub mod trial;

pub mod demo_show;

pub mod server;

pub mod demo;

pub mod admin_client;

pub mod waterfall;

pub mod bind;

pub mod systemd;

pub mod proxy;

pub mod admin;

pub mod downstream;

pub mod upstream;

pub mod race;

pub mod access_log;

pub mod metrics;

pub mod config;

pub mod list;

pub mod net;

pub mod message;

pub mod host;

pub mod runtime;
