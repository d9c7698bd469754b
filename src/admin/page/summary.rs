//! How things stand, in one sentence. Knows nothing of how it is shown.

use std::time::SystemTime;

use super::facts::Facts;
use super::html::{grouped, spoken};
use crate::metrics::{BackendMinute, BackendSample, BackendState};

/// How things stand.
pub(super) struct Summary {
    /// For people who see, beside the word.
    pub(super) symbol: char,
    /// The class that colours the symbol.
    pub(super) class: &'static str,
    pub(super) sentence: String,
    /// The symbol, and how many backends answer, for a tab.
    pub(super) title: String,
}

impl Summary {
    pub(super) fn of(facts: &Facts, now: SystemTime) -> Summary {
        let asked: Vec<(&BackendSample, &BackendMinute)> = (facts.sample.backends.iter().zip(&facts.minute.backends))
            .filter(|(backend, _)| backend.state != BackendState::Paused)
            .collect();
        let answers = |minute: &BackendMinute| minute.count_of(&["won", "final", "late"]) > 0;
        let answering: Vec<_> = asked.iter().filter(|(_, minute)| answers(minute)).collect();
        let (all, some) = (asked.len(), answering.len());
        let (symbol, class, sentence) = if facts.minute.races == 0 {
            ('○', "dim", silence(facts, now))
        } else if some == 0 {
            ('■', "bad", format!("Not answering: every backend fails ({}).", complaints(&asked)))
        } else if some == all {
            ('●', "good", format!("All is well: {some} of {all} backends answer; {}.", pace(facts)))
        } else if some == 1 {
            let only = &answering[0].0.name;
            ('▲', "warn", format!("Answering, but on one leg: only {only} has answered in the last minute."))
        } else {
            let others: Vec<_> = asked.iter().copied().filter(|(_, minute)| !answers(minute)).collect();
            let others = complaints(&others);
            ('▲', "warn", format!("Answering: {some} of {all} backends do, but not all ({others}); {}.", pace(facts)))
        };
        Summary { symbol, class, sentence, title: format!("{symbol} {some}/{all}") }
    }
}

/// When there was the last request.
fn silence(facts: &Facts, now: SystemTime) -> String {
    match facts.races.first() {
        None => "No request yet.".to_owned(),
        Some(last) => {
            let ago = spoken(now.duration_since(last.at).unwrap_or_default());
            let was = if last.winner.is_some() { "was answered" } else { "wasn't answered" };
            format!("No request for {ago}; the last {was}.")
        }
    }
}

fn pace(facts: &Facts) -> String {
    let each_second = facts.minute.races / facts.minute.seconds.max(1);
    let pace =
        if each_second == 0 { "under 1 request/s".to_owned() } else { format!("{} requests/s", grouped(each_second)) };
    match facts.minute.p99 {
        Some(p99) => format!("{pace}, 99 % within {}", spoken(p99)),
        None => pace,
    }
}

/// What is wrong with each: its most frequent failure.
fn complaints(backends: &[(&BackendSample, &BackendMinute)]) -> String {
    let complaint = |(backend, minute): &(&BackendSample, &BackendMinute)| match minute.failures().first() {
        None if backend.state == BackendState::Benched => format!("{} benched", backend.name),
        Some((word, _)) => format!("{} {word}", backend.name),
        None => format!("{} no answer in time", backend.name),
    };
    backends.iter().map(complaint).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::metrics::{BackendStats, ClientsSample, LastMinute, ProcessSample, RaceStats, Sample};

    const NOW: SystemTime = UNIX_EPOCH;

    /// A minute of 600 races in which the backends' legs ended so.
    fn facts(backends: &[(&str, BackendState, &[(&'static str, u64)])], races: u64) -> Facts {
        let backend = |(name, state, _): &(&str, BackendState, &[_])| BackendSample {
            is_insecure: false,
            label: (*name).to_owned(),
            name: (*name).to_owned(),
            url: format!("http://{name}"),
            stats: Arc::new(BackendStats::new(NOW)),
            state: *state,
            benched: None,
            unanswered: 0,
            addresses: None,
        };
        let minute =
            |(_, _, ends): &(_, _, &[(&'static str, u64)])| BackendMinute { ends: ends.to_vec(), ..Default::default() };
        Facts {
            sample: Sample {
                races: Arc::new(RaceStats::default()),
                replies: Arc::default(),
                backends: backends.iter().map(backend).collect(),
                list_changed: NOW,
                is_list_loaded: true,
                hedge_delay: None,
                clients: ClientsSample::default(),
                connections_opened: 0,
                connections_reused: 0,
                certificates: Vec::new(),
                log_lines_dropped: 0,
                process: ProcessSample::default(),
                started: NOW,
            },
            minute: LastMinute {
                seconds: 60,
                races,
                p99: Some(Duration::from_millis(31)),
                backends: backends.iter().map(minute).collect(),
                ..LastMinute::default()
            },
            races: Vec::new(),
            host: "host".to_owned(),
            authority: "localhost:8081".to_owned(),
            kept_in: None,
            list: String::new(),
            not_kept: None,
        }
    }

    #[test]
    fn one_sentence_says_how_things_stand() {
        const RACING: BackendState = BackendState::Racing;
        let won: &[_] = &[("won", 500), ("late", 90)];
        let refused: &[_] = &[("refused", 600)];
        let cut: &[_] = &[("cancelled", 600)];
        let rows = [
            (
                vec![("a", RACING, won), ("b", RACING, won)],
                74_400,
                "● 2/2",
                "All is well: 2 of 2 backends answer; 1,240 requests/s, 99 % within 31 ms.",
            ),
            (
                vec![("a", RACING, won), ("b", BackendState::Paused, &[][..])],
                600,
                "● 1/1",
                "All is well: 1 of 1 backends answer; 10 requests/s, 99 % within 31 ms.",
            ),
            (
                vec![("a", RACING, won), ("b", RACING, refused)],
                600,
                "▲ 1/2",
                "Answering, but on one leg: only a has answered in the last minute.",
            ),
            (
                vec![("a", RACING, won), ("b", RACING, won), ("c", RACING, cut)],
                30,
                "▲ 2/3",
                "Answering: 2 of 3 backends do, but not all (c no answer in time); under 1 request/s, 99 % within 31 ms.",
            ),
            (
                vec![("a", RACING, refused), ("b", RACING, cut)],
                600,
                "■ 0/2",
                "Not answering: every backend fails (a refused, b no answer in time).",
            ),
            (
                vec![("a", RACING, won), ("b", RACING, won), ("c", BackendState::Benched, &[][..])],
                30,
                "▲ 2/3",
                "Answering: 2 of 3 backends do, but not all (c benched); under 1 request/s, 99 % within 31 ms.",
            ),
            (vec![("a", RACING, &[][..])], 0, "○ 0/1", "No request yet."),
        ];
        for (backends, races, title, sentence) in rows {
            let summary = Summary::of(&facts(&backends, races), NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence));
        }
    }
}
