//! Where a time stands on the axis of a picture. Knows nothing of what is drawn.

use std::time::Duration;

/// From this ratio of the longest time to the shortest on, the scale is logarithmic: else short bars couldn't be told apart.
const LINEAR_RATIO_MAX: u32 = 20;
/// The shortest time that is told from nothing.
const TICK: Duration = Duration::from_micros(100);

/// The share of an axis that a mark's text needs.
const ROOM: f64 = 0.1;
/// The most steps of a linear scale.
const STEPS_MAX: u32 = 5;

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

    /// Round times to mark, in their order: a tenth of the axis from each other and from both ends. At most nine.
    pub fn ticks(self) -> Vec<Duration> {
        let mut ticks = Vec::new();
        let mut last = 0.0;
        for time in self.round_times() {
            let share = self.share(time);
            if share > 1.0 - ROOM / 2.0 {
                break;
            }
            if share - last >= ROOM {
                ticks.push(time);
                last = share;
            }
        }
        ticks
    }

    /// Round times up to the longest: on a logarithmic scale powers of ten, else the multiples of one that fill it by a few.
    fn round_times(self) -> Vec<Duration> {
        let powers = (1..=9).map(|power| Duration::from_micros(10_u64.pow(power)));
        let powers: Vec<Duration> = powers.take_while(|power| *power <= self.longest).collect();
        if self.unit.is_some() {
            return powers;
        }
        let steps = powers.iter().flat_map(|power| [*power, *power * 2, *power * 5]);
        let step = steps.into_iter().find(|step| *step * STEPS_MAX >= self.longest).unwrap_or(self.longest);
        (1..=STEPS_MAX).map(|count| step * count).take_while(|time| *time <= self.longest).collect()
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
    #[test]
    fn marks_are_round_few_and_apart() {
        let millis = |count| Duration::from_millis(count);
        let rows: [(&[u64], &[u64]); 5] = [
            (&[10, 44], &[10, 20, 30, 40]),
            (&[300, 340], &[100, 200, 300]),
            (&[7, 10], &[2, 4, 6, 8]),
            (&[1, 340], &[1, 10, 100]),
            (&[1, 60_000], &[10, 100, 1000, 10_000]),
        ];
        for (times, expected) in rows {
            let scale = TimeScale::of(times.iter().map(|time| millis(*time)));
            assert_eq!(scale.ticks(), expected.iter().map(|time| millis(*time)).collect::<Vec<_>>(), "{times:?}");
        }
        assert!(TimeScale::of([Duration::from_secs(3600 * 24), TICK].into_iter()).ticks().len() <= 9);
        assert!(!TimeScale::until(TICK).ticks().is_empty());
    }
}
