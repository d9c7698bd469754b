//! HTTP/1.1 towards clients: accepts, reads requests whole, writes replies, keeps connections alive.
//! Knows nothing of backends: whoever takes complete requests is a closure.

mod body;
mod client;
mod connection;
mod crowd;
mod ends;
mod flow;
mod frontend;
mod further;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod http2;
mod limits;
mod listener;
mod pace;
mod parking;
mod pipe;
mod relay;
#[cfg(test)]
mod relay_tests;
mod reply;
mod reply_to;
mod sending;
mod spooler;
mod standing;
mod transfer;
mod tunnel;
#[cfg(test)]
mod tunnel_tests;
mod turns;

pub use frontend::{Front, Handler};
pub use limits::{Limits, Terms, TermsOf, Yielding};
pub use listener::Listener;
