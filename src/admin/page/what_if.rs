//! What the last minute would have been without a backend, by its figures. Knows nothing of a page.

use std::time::Duration;

use super::html::{grouped, spoken};
use crate::metrics::{BackendMinute, LastMinute, P99_RACES_MIN};

/// What clients would have had without the backend, in a few words; `None` where too little is known. Where another was hung up on
/// before the next success, clients might have waited longer than this says.
pub(super) fn without(backend: &BackendMinute, minute: &LastMinute) -> Option<String> {
    if minute.races < P99_RACES_MIN || minute.backends.len() < 2 {
        return None;
    }
    if backend.unmeasured > 0 {
        let times = if backend.unmeasured == 1 { "once" } else { &format!("{} times", grouped(backend.unmeasured)) };
        return Some(format!("without it: not known, as others weren't asked {times}"));
    }
    let answers = match backend.rescues {
        0 => "the same answers".to_owned(),
        1 => "1 answer less".to_owned(),
        lost => format!("{} answers less", grouped(lost)),
    };
    let slower = match backend.saved / u32::try_from(minute.races).unwrap_or(u32::MAX) {
        Duration::ZERO => "as quick".to_owned(),
        by => format!("{} slower on average", spoken(by)),
    };
    let longer = minute.p99.zip(backend.p99_without).map(|(with, without)| without.saturating_sub(with));
    let tail = match longer {
        Some(Duration::ZERO) => ", the same p99".to_owned(),
        Some(by) => format!(", p99 +{}", spoken(by)),
        // No client would have had an answer.
        None => String::new(),
    };
    let fewer = (100 * backend.asked() / minute.legs.max(1)).min(100);
    Some(format!("without it: {answers}, {slower}{tail}, {fewer} % fewer legs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Was seen as: a dead backend, of which the bench kept nearly all legs, looked like half of the price.
    #[test]
    fn a_backend_that_is_not_asked_costs_nothing() {
        let dead = BackendMinute { ends: vec![("refused", 2), ("skipped", 298)], ..BackendMinute::default() };
        let backends = (0..2).map(|_| BackendMinute::default()).collect();
        let minute = LastMinute { races: 300, legs: 302, backends, ..LastMinute::default() };
        assert_eq!(without(&dead, &minute).as_deref(), Some("without it: the same answers, as quick, 0 % fewer legs"));
    }

    /// Was seen as: "the same answers, as quick, 100 % fewer legs" of the only backend that was asked, beside one with `after=1s`.
    #[test]
    fn what_a_backend_is_worth_is_not_known_where_others_were_not_asked() {
        let minute = || LastMinute {
            races: 2000,
            legs: 2000,
            backends: (0..2).map(|_| BackendMinute::default()).collect(),
            ..LastMinute::default()
        };
        for (unmeasured, times) in [(1, "once"), (1230, "1,230 times")] {
            let backend = BackendMinute { ends: vec![("won", 2000)], unmeasured, ..BackendMinute::default() };
            let expected = format!("without it: not known, as others weren't asked {times}");
            assert_eq!(without(&backend, &minute()), Some(expected));
        }
    }

    #[test]
    fn a_backend_is_worth_what_would_be_missing_without_it() {
        let millis = |millis| Some(Duration::from_millis(millis));
        let backend = |won, saved, rescues| BackendMinute {
            ends: vec![("won", won), ("late", 10)],
            saved: Duration::from_millis(saved),
            rescues,
            p99_without: millis(40 + saved / 100).filter(|_| rescues < 400),
            ..BackendMinute::default()
        };
        let minute = |races, backends| LastMinute {
            races,
            p99: millis(40),
            legs: 800,
            backends: (0..backends).map(|_| BackendMinute::default()).collect(),
            ..LastMinute::default()
        };
        let all = minute(400, 2);
        let rows = [
            (
                backend(190, 2000, 0),
                "without it: the same answers, 5.0 ms slower on average, p99 +20 ms, 25 % fewer legs",
            ),
            (backend(390, 0, 1), "without it: 1 answer less, as quick, the same p99, 50 % fewer legs"),
            (backend(0, 0, 1200), "without it: 1,200 answers less, as quick, 1 % fewer legs"),
        ];
        for (backend, expected) in rows {
            assert_eq!(without(&backend, &all).as_deref(), Some(expected));
        }
        assert_eq!([minute(199, 2), minute(400, 1)].map(|minute| without(&backend(1, 1, 1), &minute)), [None, None]);
    }
}
