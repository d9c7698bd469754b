//! Where a time stands on the axis of a picture. Knows nothing of what is drawn.

use std::time::Duration;

/// From this ratio of the longest time to the shortest on, the scale is logarithmic: else short bars couldn't be told apart.
const LINEAR_RATIO_MAX: u32 = 20;
/// The shortest time that is told from nothing.
const TICK: Duration = Duration::from_micros(100);

/// A scale from nothing to the longest time of a picture.
#[derive(Debug, Clone, Copy)]
pub struct TimeScale {
    longest: Duration,
    /// The time from which on each doubling is equally long, if the scale is logarithmic.
    unit: Option<Duration>,
}

impl TimeScale {
    /// A scale on which all these times can be told apart.
    pub fn of(times: impl Iterator<Item = Duration> + Clone) -> TimeScale {
        let times = times.map(|time| time.max(TICK));
        let (longest, shortest) = (times.clone().max().unwrap_or(TICK), times.min().unwrap_or(TICK));
        TimeScale { longest, unit: (longest > shortest * LINEAR_RATIO_MAX).then_some(shortest) }
    }

    /// A linear scale that ends at this time.
    pub fn until(longest: Duration) -> TimeScale {
        TimeScale { longest: longest.max(TICK), unit: None }
    }

    /// The place of a time, from 0 to 1.
    pub fn share(self, at: Duration) -> f64 {
        let seconds = |time: Duration| time.as_secs_f64();
        let share = match self.unit {
            None => seconds(at) / seconds(self.longest),
            Some(unit) => (seconds(at) / seconds(unit)).ln_1p() / (seconds(self.longest) / seconds(unit)).ln_1p(),
        };
        share.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_far_apart_can_be_told_apart_and_alike_ones_compared() {
        let millis = |count| Duration::from_millis(count);
        let linear = TimeScale::of([millis(10), millis(40)].into_iter());
        for (time, share) in [(0, 0.0), (10, 0.25), (40, 1.0), (50, 1.0)] {
            assert!((linear.share(millis(time)) - share).abs() < 0.001, "{time} ms");
        }
        let logarithmic = TimeScale::of([millis(1), millis(1000)].into_iter());
        assert!(logarithmic.share(millis(1)) > 0.09 && logarithmic.share(millis(1)) < 0.11);
        assert!((logarithmic.share(millis(1000)) - 1.0).abs() < f64::EPSILON);
        assert!((TimeScale::of(std::iter::empty()).share(Duration::ZERO)).abs() < f64::EPSILON);
    }
}
