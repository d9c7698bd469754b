//! The lines of the log about requests: one for each exchange, each refusal and each replaced list. Knows nothing of how these
//! come about.

mod entry;
mod json;
mod line;
mod logger;
mod style;
mod telling;
mod text;
mod writer;

use std::fmt;

use crate::message::{Excerpt, Peer, Refusal, ShownTarget};

pub use entry::{Entry, LegEntry, RaceEntry};
pub use logger::{dropped, flush, start};

/// Logs a request that never became an exchange: it couldn't be read, or nothing had room for it.
/// `asked` has its method and its target, as far as they are known.
pub fn refused(peer: &Peer, refusal: &Refusal, asked: Option<(&str, &str)>) {
    let (status, sentence) = (refusal.status().as_u16(), refusal.sentence());
    match asked {
        Some((method, target)) => {
            log::info!("refused {peer}: {status} {sentence} ({} {})", Excerpt(method), ShownTarget(target));
        }
        None => log::info!("refused {peer}: {status} {sentence}"),
    }
}

/// Logs that a client and the proxy can't agree on TLS.
pub fn tls_failed(peer: &Peer, reason: &str) {
    log::info!("refused {peer}: no TLS: {reason}");
}

/// Logs that the list of backends is another one now.
pub fn replaced(backends: &[impl fmt::Display]) {
    let list: Vec<String> = backends.iter().map(ToString::to_string).collect();
    log::info!("the backends are now {}", list.join(", "));
}
