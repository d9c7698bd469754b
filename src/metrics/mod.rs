//! What races cost and buy, by number: counted without a lock when a race ends, told as Prometheus' text. Knows nothing of how
//! anything came about.

mod backend;
mod histogram;
mod races;

pub use backend::{BackendStats, ENDS, Gain, LegEnd, PANIC};
pub use histogram::{Histogram, Snapshot};
pub use races::{RaceEnd, RaceStats};
