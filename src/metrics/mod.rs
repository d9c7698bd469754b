//! What races cost and buy, by number: counted when a race ends, told as Prometheus' text. And how soon first successes come,
//! which says when hedges start. Knows nothing of how anything came about.

mod backend;
mod first_success;
mod histogram;
mod minute;
mod process;
mod races;
mod recent;
mod replies;
mod sample;
mod text;
mod time_scale;

pub use backend::{ANSWERS, BackendStats, ENDS, Gain, LegEnd, PANIC, bench_reason, is_failure};
pub use first_success::FirstSuccess;
pub use histogram::{Changes, ChangesSnapshot, Histogram, Snapshot};
pub use minute::{BackendMinute, LastMinute, Minute, P99_RACES_MIN, Second};
pub use process::ProcessSample;
pub use races::{LateStart, RaceEnd, RaceStats, Totals};
pub use recent::{Note, RACES_MAX, RecentRace, RecentRaces, ShownEnd, ShownLeg};
pub use replies::ReplyStats;
pub use sample::{BackendSample, BackendState, Benched, ClientsSample, Sample};
pub use text::{CONTENT_TYPE, text};
pub use time_scale::TimeScale;
