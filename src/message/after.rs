//! When a backend's leg starts, as a list says it: `after=200ms`, `after=p95`, `after=p95..500ms`. Knows nothing of races.

use std::fmt;
use std::time::Duration;

use super::duration::{parse_duration, show_duration};

/// The percentiles that may be written: below half of the requests it is no hedge, and no request is slower than p100.
const PERCENTILES: std::ops::RangeInclusive<u8> = 50..=99;

/// The age of a race at which a leg starts, if those before it haven't all lost by then. `Display` writes it as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// This age.
    Age(Duration),
    /// As many percent of the races have their first success by then, as was seen lately.
    Percentile {
        /// From 50 to 99.
        percent: u8,
        /// The age at which it starts at the latest; without one, half of the first tier's timeout.
        at_latest: Option<Duration>,
    },
}

impl After {
    /// Reads the value of the option. The error quotes the option and says what would be right.
    pub(super) fn parse(value: &str) -> Result<After, String> {
        let bad = || format!("'after={}': write a duration (200ms), p50 to p99, or p95..500ms", super::Excerpt(value));
        let Some(percentile) = value.strip_prefix('p') else {
            return parse_duration(value).map(After::Age).map_err(|_| bad());
        };
        let (percent, at_latest) = match percentile.split_once("..") {
            Some((percent, at_latest)) => (percent, Some(parse_duration(at_latest).map_err(|_| bad())?)),
            None => (percentile, None),
        };
        let is_number = percent.len() == 2 && percent.bytes().all(|byte| byte.is_ascii_digit());
        let percent = percent.parse().ok().filter(|percent| is_number && PERCENTILES.contains(percent));
        match percent {
            Some(percent) if at_latest != Some(Duration::ZERO) => Ok(After::Percentile { percent, at_latest }),
            _ => Err(bad()),
        }
    }

    /// The longest age that it names.
    pub fn longest(self) -> Option<Duration> {
        match self {
            After::Age(age) => Some(age),
            After::Percentile { at_latest, .. } => at_latest,
        }
    }

    /// Whether it is the race's begin.
    pub fn is_at_once(self) -> bool {
        self == After::Age(Duration::ZERO)
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            After::Age(age) => f.write_str(&show_duration(*age)),
            After::Percentile { percent, at_latest: None } => write!(f, "p{percent}"),
            After::Percentile { percent, at_latest: Some(age) } => write!(f, "p{percent}..{}", show_duration(*age)),
        }
    }
}
