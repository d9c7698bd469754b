//! Draws a race as rows of bars, for a terminal. Knows nothing of where its figures come from.

use std::time::Duration;

use crate::message::Elapsed;
use crate::metrics::TimeScale;

/// The length of the longest bar, in columns.
const COLUMNS: usize = 40;

/// One leg, as it is drawn.
#[derive(Debug, Clone)]
pub struct Bar {
    /// The name of its backend.
    pub name: String,
    /// When it started, from the request's arrival; `None` if it wasn't.
    pub start: Option<Duration>,
    /// When it ended, or the time that it has come to.
    pub end: Duration,
    /// What has become of it.
    pub state: BarState,
    /// The word for that.
    pub word: String,
    /// What stands behind it.
    pub remark: String,
}

/// What has become of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarState {
    /// It may still win.
    Running,
    /// It may still finish, but not win.
    Lingering,
    /// It has won.
    Won,
    /// It has answered, and has lost.
    Answered,
    /// It has failed, or was hung up on.
    Failed,
}

/// A scale on which all these bars can be told apart.
pub fn scale_of(bars: &[Bar]) -> TimeScale {
    TimeScale::of(bars.iter().filter(|bar| bar.start.is_some()).map(|bar| bar.end))
}

fn column(scale: TimeScale, at: Duration) -> usize {
    // From 0 to 1: a column is a small whole number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let column = (scale.share(at) * COLUMNS as f64).round() as usize;
    column
}

/// The rows of a race, a line each: name, bar, outcome, start and end.
pub fn rows(bars: &[Bar], scale: TimeScale) -> Vec<String> {
    let name_width = bars.iter().map(|bar| bar.name.len()).max().unwrap_or_default();
    let word_width = bars.iter().map(|bar| bar.word.len()).max().unwrap_or_default();
    let row = |bar: &Bar| {
        let times = match bar.start {
            Some(start) => format!("{:>7} – {:>7}", Elapsed(start).to_string(), Elapsed(bar.end).to_string()),
            None => format!("{:17}", ""),
        };
        let row = format!(
            "  {:name_width$}  {}  {:word_width$}  {times}  {}",
            bar.name,
            drawn(bar, scale),
            bar.word,
            bar.remark
        );
        row.trim_end().to_owned()
    };
    bars.iter().map(row).collect()
}

fn drawn(bar: &Bar, scale: TimeScale) -> String {
    let Some(start) = bar.start else { return " ".repeat(COLUMNS + 1) };
    let end = column(scale, bar.end);
    let begin = column(scale, start).min(end);
    let (body, head) = match bar.state {
        BarState::Running => ("█", ""),
        BarState::Lingering => ("░", ""),
        BarState::Won => ("█", "▶"),
        BarState::Answered => ("█", "▏"),
        BarState::Failed => ("▒", "✕"),
    };
    let drawn = format!("{}{}{head}", "·".repeat(begin), body.repeat(end - begin));
    format!("{drawn:width$}", width = COLUMNS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, start: Option<u64>, end: u64, state: BarState, word: &str) -> Bar {
        let millis = Duration::from_millis;
        let (name, word, start) = (name.to_owned(), word.to_owned(), start.map(millis));
        Bar { name, start, end: millis(end), state, word, remark: "http://a".to_owned() }
    }

    #[test]
    fn a_race_is_drawn_a_row_a_leg() {
        let bars = [
            bar("dc1", Some(0), 20, BarState::Failed, "503"),
            bar("b2", Some(10), 40, BarState::Won, "200"),
            bar("b3", Some(0), 30, BarState::Running, ""),
            bar("b4", None, 0, BarState::Failed, "skipped"),
        ];
        let expected = [
            "  dc1  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒✕                      503        0.0ms –    20ms  http://a",
            "  b2   ··········██████████████████████████████▶  200         10ms –    40ms  http://a",
            "  b3   ██████████████████████████████                        0.0ms –    30ms  http://a",
            "  b4                                              skipped                     http://a",
        ];
        assert_eq!(rows(&bars, scale_of(&bars)), expected);
    }

    #[test]
    fn short_bars_can_be_told_apart_beside_a_long_one() {
        let bars = [1, 2, 12, 5000].map(|end| bar("b", Some(0), end, BarState::Answered, "200"));
        let lengths = rows(&bars, scale_of(&bars)).iter().map(|row| row.matches('█').count()).collect::<Vec<_>>();
        assert!(lengths.is_sorted_by(|a, b| a < b) && lengths[0] > 0 && lengths[3] == COLUMNS, "{lengths:?}");
    }
}
