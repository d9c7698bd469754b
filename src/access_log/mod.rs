//! Tells what happened: a finished exchange becomes one line of the log, and so does what was refused or replaced. Knows
//! nothing of how it came about.

mod counters;
mod entry;
mod logger;

use std::fmt;
use std::net::SocketAddr;

use crate::message::Refusal;

pub use counters::{Counters, Totals};
pub use entry::{Entry, LegEntry};
pub use logger::{flush, start};

/// Logs a request that never became an exchange: it couldn't be read, or nothing had room for it.
pub fn refused(peer: SocketAddr, refusal: &Refusal) {
    log::info!("refused {}: {} {}", peer, refusal.status().as_u16(), refusal.sentence());
}

/// Logs that the list of backends was replaced.
pub fn replaced(backends: &[impl fmt::Display]) {
    let list: Vec<String> = backends.iter().map(ToString::to_string).collect();
    log::info!("the backends are now {}", list.join(", "));
}
