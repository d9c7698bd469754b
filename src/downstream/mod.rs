//! HTTP/1.1 towards clients: accepts them, reads requests whole, sends replies, keeps connections alive.
//! Knows nothing of backends: a [`Handler`] takes the complete requests.
//!
//! From the bottom up: what bytes mean (`h1`, no socket); a client's socket, and above it the driver that reads its requests and is
//! its event handler (`client`); what carries bytes to a client, or both ways, in between (`relay`, `tunnel`). The listener makes
//! clients; the frontend is what all of them share.

mod client;
#[cfg(test)]
mod client_tests;
mod connection_table;
mod disk_thread;
mod eviction;
mod flow;
mod frontend;
#[cfg(test)]
mod frontend_tests;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod h1;
mod limits;
mod listener;
mod parking;
mod rate_meter;
mod relay;
#[cfg(test)]
mod reply_tests;
mod reply_to;
mod reply_writer;
mod responder;
#[cfg(test)]
mod scenario;
mod timeouts;
mod tunnel;
mod tunnel_ends;
#[cfg(test)]
mod tunnel_tests;

pub use frontend::{Frontend, Handler};
pub use limits::{BodyPolicy, BodyPolicyOf, Eviction, Limits};
pub use listener::Listener;
pub use timeouts::Timeouts;
