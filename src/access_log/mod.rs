//! The lines of the log about requests: one for each finished exchange, each refusal and each replaced list. Knows
//! nothing of how these come about.

mod counters;
mod entry;
mod logger;

use std::fmt;
use std::net::SocketAddr;

use crate::message::Refusal;

pub use counters::{Counters, Totals};
pub use entry::{Entry, LegEntry};
pub use logger::{dropped, flush, start};

/// Logs a request that never became an exchange: it couldn't be read, or nothing had room for it.
pub fn refused(peer: SocketAddr, refusal: &Refusal) {
    log::info!("refused {}: {} {}", peer, refusal.status().as_u16(), refusal.sentence());
}

/// Logs that the list of backends is another one now.
pub fn replaced(backends: &[impl fmt::Display]) {
    let list: Vec<String> = backends.iter().map(ToString::to_string).collect();
    log::info!("the backends are now {}", list.join(", "));
}
