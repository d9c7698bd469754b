//! How things stand, in one sentence. Knows nothing of how it is shown.

use std::time::SystemTime;

use super::facts::Facts;
use super::html::{grouped, spoken};
use super::known::{NOT_KNOWN, has_answered, has_no_address, is_unknown, was_asked};
use crate::metrics::{BackendMinute, BackendSample, BackendState, LastMinute};

/// The fewest lost races, or clients that left, that alarm: now and then one asks for what no backend has.
const LOST_MIN: u64 = 5;
/// The last seconds in which more clients may have left than got an answer: a minute's answers hide that there are none any more.
const JUST_NOW: usize = 10;

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

/// What a backend's legs of the last minute say of it.
enum Standing {
    Answers,
    Fails,
    /// No race has needed it.
    Unasked,
    /// Its legs have lost, and were hung up on before they could answer.
    Unknown,
}

impl Standing {
    fn of(backend: &BackendSample, minute: &BackendMinute, has_looks: bool, now: SystemTime) -> Standing {
        match backend.state {
            _ if has_answered(backend, minute, now) => Standing::Answers,
            BackendState::Racing if !was_asked(minute) && !has_no_address(backend) => Standing::Unasked,
            BackendState::Racing if is_unknown(minute, has_looks) => Standing::Unknown,
            _ => Standing::Fails,
        }
    }
}

impl Summary {
    pub(super) fn of(facts: &Facts, now: SystemTime) -> Summary {
        let (mut answering, mut failing, mut unasked, mut unknown) = (Vec::new(), Vec::new(), 0, 0);
        for (backend, minute) in facts.sample.backends.iter().zip(&facts.minute.backends) {
            match Standing::of(backend, minute, facts.has_looks, now) {
                _ if backend.state == BackendState::Paused => {}
                Standing::Answers => answering.push((backend, minute)),
                Standing::Fails => failing.push((backend, minute)),
                Standing::Unasked => unasked += 1,
                Standing::Unknown => unknown += 1,
            }
        }
        let (some, all) = (answering.len(), answering.len() + failing.len());
        let mut besides = Vec::new();
        if unasked > 0 {
            besides.push(format!("{unasked} not asked"));
        }
        if unknown > 0 {
            besides.push(format!("{unknown} {NOT_KNOWN}"));
        }
        let aside = aside_of(&besides);
        let fails = complaints(&failing);
        let refused = refusals(&facts.minute).or_else(|| waiting(facts));
        let (symbol, class, sentence) = if facts.minute.races == 0 && (some == 0 || facts.minute.abandoned >= LOST_MIN)
        {
            of_no_race(facts, refused, now)
        } else if all == 0 {
            ('○', "dim", format!("Nothing is known yet of the backends that are listed now{aside}."))
        } else if some == 0 && facts.minute.lost == 0 {
            // Clients get the best failure, or one backend's whatever it is.
            ('▲', "warn", format!("Answering, but by failures alone ({fails}); {}.", pace(facts)))
        } else if some == 0 {
            ('■', "bad", format!("Not answering: every backend fails ({fails})."))
        } else if let Some(percent) = lost_percent(&facts.minute) {
            answering.retain(|(_, minute)| !minute.failures().is_empty());
            answering.extend(failing);
            if !answering.is_empty() {
                besides.insert(0, complaints(&answering));
            }
            let aside = aside_of(&besides);
            let (symbol, class, word) =
                if percent > 50 { ('■', "bad", "Hardly answering:") } else { ('▲', "warn", "Answering, but") };
            (symbol, class, format!("{word} {percent} % of the requests were lost{aside}."))
        } else if let Some(trouble) = unanswered(facts).or(refused) {
            besides.extend((!fails.is_empty()).then_some(fails));
            ('▲', "warn", format!("Answering, but {trouble}{}.", aside_of(&besides)))
        } else if some == all {
            ('●', "good", format!("All is well: {some} of {all} backends answer{aside}; {}.", pace(facts)))
        } else if some == 1 {
            let only = &answering[0].0.name;
            ('▲', "warn", format!("Answering, but on one leg: only {only} has answered in the last minute{aside}."))
        } else {
            besides.insert(0, fails);
            let others = besides.join("; ");
            ('▲', "warn", format!("Answering: {some} of {all} backends do, but not all ({others}); {}.", pace(facts)))
        };
        // Where nothing is known of any, the tab tells how many there are.
        let all = if symbol == '○' || all == 0 { all + unasked + unknown } else { all };
        Summary { symbol, class, sentence, title: format!("{symbol} {some}/{all}") }
    }
}

/// How many of the races were lost, in percent, if that alarms.
fn lost_percent(minute: &LastMinute) -> Option<u64> {
    let is_alarm = minute.lost >= LOST_MIN && 100 * minute.lost > minute.races;
    is_alarm.then(|| (100 * minute.lost).div_ceil(minute.races))
}

/// Why clients have no whole answer though races were won, if that alarms.
fn unanswered(facts: &Facts) -> Option<String> {
    broken_off(facts).or_else(|| left_early(&facts.minute))
}

/// How many answers broke off on their way to clients, and whose they were, if that alarms as lost races do.
fn broken_off(facts: &Facts) -> Option<String> {
    let broken: u64 = facts.minute.backends.iter().map(|minute| minute.broken).sum();
    let all = facts.sample.backends.iter().zip(&facts.minute.backends);
    let whose: Vec<_> = all.filter(|(_, minute)| minute.broken > 0).map(|(backend, _)| backend.name.as_str()).collect();
    let is_alarm = broken >= LOST_MIN && 100 * broken > facts.minute.races;
    is_alarm.then(|| format!("{} answers of {} broke off midway", grouped(broken), whose.join(" and ")))
}

/// How many clients left before an answer, if more of them did than got one: just now, or in the whole minute.
fn left_early(minute: &LastMinute) -> Option<String> {
    [JUST_NOW, minute.course.len()].into_iter().find_map(|seconds| {
        let course = minute.course.iter().rev().take(seconds);
        let (left, got) = course.fold((0, 0), |(left, got), of| (left + of.abandoned, got + of.answers));
        (left >= LOST_MIN && left > got).then(|| {
            let seconds = seconds.min(minute.course.len());
            format!(
                "{} clients left before an answer in the last {seconds} s, and {} got one",
                grouped(left),
                grouped(got)
            )
        })
    })
}

/// That new clients wait, if they do. Nothing else on the page tells it: a client that waits has yet to ask.
fn waiting(facts: &Facts) -> Option<String> {
    let clients = &facts.sample.clients;
    let places = grouped(clients.connections_max as u64);
    clients.are_waiting.then(|| format!("new clients wait, since all {places} places are taken (--max-connections)"))
}

/// How things stand where no race has had an end for its client.
fn of_no_race(facts: &Facts, refused: Option<String>, now: SystemTime) -> (char, &'static str, String) {
    let have_all_left = facts.minute.abandoned >= LOST_MIN && !facts.has_answers(now);
    match refused {
        // Streams that are under way, say.
        Some(refused) if facts.has_answers(now) => ('▲', "warn", format!("Answering, but {refused}.")),
        Some(refused) => ('■', "bad", format!("Not answering: {refused}.")),
        None if have_all_left => ('■', "bad", "Not answering: every client left before an answer.".to_owned()),
        None => ('○', "dim", silence(facts, now)),
    }
}

/// How many requests were refused before their race, and why, if that alarms.
fn refusals(minute: &LastMinute) -> Option<String> {
    let [busy, full] = minute.refused;
    let why = match (busy, full) {
        (_, 0) => "this host is too busy (503)",
        (0, _) => "--spool-dir has no room (507)",
        _ => "this host is too busy (503), or --spool-dir has no room (507)",
    };
    (busy + full >= LOST_MIN).then(|| format!("{} requests were refused, since {why}", grouped(busy + full)))
}

fn aside_of(besides: &[String]) -> String {
    if besides.is_empty() { String::new() } else { format!(" ({})", besides.join("; ")) }
}

/// When there was the last request.
fn silence(facts: &Facts, now: SystemTime) -> String {
    let clients = &facts.sample.clients;
    match facts.races.first() {
        _ if clients.requests + clients.tunnels > 0 => {
            let count = clients.requests + clients.tunnels;
            let are = if count == 1 { "request is" } else { "requests are" };
            format!("No answer came to its end in the last minute; {} {are} under way.", grouped(count as u64))
        }
        _ if facts.minute.faulty >= LOST_MIN => {
            let count = grouped(facts.minute.faulty);
            format!("No request that could be raced: {count} were refused in the last minute, and the log says why.")
        }
        None => "No request yet.".to_owned(),
        Some(last) => {
            let ago = spoken(now.duration_since(last.at).unwrap_or_default());
            let was = if last.winner.is_some() { "was answered" } else { "wasn't answered" };
            format!("No request for {ago}; the last {was}.")
        }
    }
}

fn pace(facts: &Facts) -> String {
    let each_second = facts.minute.requests() / facts.minute.seconds.max(1);
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

    use http::StatusCode;

    use super::*;
    use crate::metrics::{BackendStats, ClientsSample, Minute, ProcessSample, RaceStats, Sample, Second};

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
                lost: if backends.iter().any(|(_, _, ends)| ends.iter().any(|(word, _)| *word == "won")) {
                    0
                } else {
                    races
                },
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
            has_looks: true,
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
            // Was seen as: "c no-socket" of a backend that hung, as if the host were to blame.
            (
                vec![("a", RACING, won), ("b", RACING, won), ("c", RACING, &[("no-socket", 745), ("timeout", 60)][..])],
                30,
                "▲ 2/3",
                "Answering: 2 of 3 backends do, but not all (c timeout); under 1 request/s, 99 % within 31 ms.",
            ),
            (vec![("a", RACING, &[][..])], 0, "○ 0/1", "No request yet."),
        ];
        for (backends, races, title, sentence) in rows {
            let summary = Summary::of(&facts(&backends, races), NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence));
        }
    }

    /// Was seen as: "on one leg" for good beside a standby that no race had needed, and for a POST that isn't raced.
    #[test]
    fn backends_that_no_race_has_needed_are_no_alarm() {
        const RACING: BackendState = BackendState::Racing;
        let (won, none): (&[_], &[_]) = (&[("won", 500), ("late", 90)], &[]);
        let (refused, skipped): (&[_], &[_]) = (&[("refused", 600)], &[("skipped", 600)]);
        let rows = [
            (
                vec![("near", won), ("far", none)],
                "● 1/1",
                "All is well: 1 of 1 backends answer (1 not asked); 10 requests/s, 99 % within 31 ms.",
            ),
            (
                vec![("n1", won), ("n2", won), ("back", skipped), ("far", none)],
                "● 2/2",
                "All is well: 2 of 2 backends answer (2 not asked); 10 requests/s, 99 % within 31 ms.",
            ),
            (
                vec![("near", won), ("ill", refused), ("far", none)],
                "▲ 1/2",
                "Answering, but on one leg: only near has answered in the last minute (1 not asked).",
            ),
            (
                vec![("n1", won), ("n2", won), ("ill", refused), ("far", none)],
                "▲ 2/3",
                "Answering: 2 of 3 backends do, but not all (ill refused; 1 not asked); 10 requests/s, 99 % within 31 ms.",
            ),
            (
                vec![("new", none), ("newer", none)],
                "○ 0/2",
                "Nothing is known yet of the backends that are listed now (2 not asked).",
            ),
        ];
        for (backends, title, sentence) in rows {
            let backends: Vec<_> = backends.into_iter().map(|(name, ends)| (name, RACING, ends)).collect();
            let summary = Summary::of(&facts(&backends, 600), NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence));
        }
        let mut nowhere = facts(&[("near", RACING, won), ("pods", RACING, none)], 600);
        nowhere.sample.backends[1].addresses = Some(Vec::new());
        assert_eq!(Summary::of(&nowhere, NOW).title, "▲ 1/2", "a name without addresses is asked in vain");
    }

    /// Was seen as: "Not answering" of a single backend with `--on-failure best`, beside "0 lost".
    #[test]
    fn failures_that_clients_got_are_answers() {
        let mut facts = facts(&[("b1", BackendState::Racing, &[("4xx", 600)])], 600);
        assert_eq!(Summary::of(&facts, NOW).sentence, "Not answering: every backend fails (b1 4xx).");
        facts.minute.lost = 0;
        let summary = Summary::of(&facts, NOW);
        let sentence = "Answering, but by failures alone (b1 4xx); 10 requests/s, 99 % within 31 ms.";
        assert_eq!((summary.title.as_str(), summary.sentence.as_str()), ("▲ 0/1", sentence));
    }

    /// Was seen as: "All is well" while 95 of 100 requests were lost, since each backend answered the other five.
    #[test]
    fn many_lost_races_alarm_though_every_backend_answers_some() {
        const RACING: BackendState = BackendState::Racing;
        let (some, won): (&[_], &[_]) = (&[("won", 5), ("5xx", 95)], &[("won", 600)]);
        let (down, none): (&[_], &[_]) = (&[("refused", 100)], &[]);
        let well = "All is well: 2 of 2 backends answer; 1 requests/s, 99 % within 31 ms.";
        let rows = [
            (some, some, 100, 95, "■ 2/2", "Hardly answering: 95 % of the requests were lost (a 5xx, b 5xx)."),
            (some, down, 100, 51, "■ 1/2", "Hardly answering: 51 % of the requests were lost (a 5xx, b refused)."),
            (some, won, 100, 50, "▲ 2/2", "Answering, but 50 % of the requests were lost (a 5xx)."),
            (some, none, 100, 5, "▲ 1/1", "Answering, but 5 % of the requests were lost (a 5xx; 1 not asked)."),
            (won, won, 100, 7, "▲ 2/2", "Answering, but 7 % of the requests were lost."),
            (some, some, 499, 5, "▲ 2/2", "Answering, but 2 % of the requests were lost (a 5xx, b 5xx)."),
            (some, some, 8, 4, "● 2/2", &well.replace("1 requests/s", "under 1 request/s")),
            (some, some, 119, 1, "● 2/2", well),
            (some, some, 600, 6, "● 2/2", &well.replace("1 requests/s", "10 requests/s")),
        ];
        for (a, b, races, lost, title, sentence) in rows {
            let mut facts = facts(&[("a", RACING, a), ("b", RACING, b)], races);
            facts.minute.lost = lost;
            let summary = Summary::of(&facts, NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence), "{lost} of {races}");
        }
    }

    /// Was seen as: "All is well" while the backend that won every race sent heads and no bodies.
    #[test]
    fn answers_that_break_off_alarm_though_their_races_are_won() {
        const RACING: BackendState = BackendState::Racing;
        let (won, refused): (&[_], &[_]) = (&[("won", 600)], &[("refused", 600)]);
        let well = "All is well: 2 of 2 backends answer; 10 requests/s, 99 % within 31 ms.";
        let rows = [
            (won, [6, 0], "● 2/2", well),
            (won, [7, 0], "▲ 2/2", "Answering, but 7 answers of a broke off midway."),
            (won, [1_200, 1], "▲ 2/2", "Answering, but 1,201 answers of a and b broke off midway."),
            (refused, [7, 0], "▲ 1/2", "Answering, but 7 answers of a broke off midway (b refused)."),
        ];
        for (other, broken, title, sentence) in rows {
            let mut facts = facts(&[("a", RACING, won), ("b", RACING, other)], 600);
            for (minute, broken) in facts.minute.backends.iter_mut().zip(broken) {
                minute.broken = broken;
            }
            let summary = Summary::of(&facts, NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence), "{broken:?}");
        }
    }

    /// Was seen as: "All is well", and "No request for 5 min", while a full disk refused every upload.
    #[test]
    fn requests_that_are_refused_for_want_of_room_alarm() {
        const RACING: BackendState = BackendState::Racing;
        let won: &[_] = &[("won", 600)];
        let rows = [
            (600, [0, 4], "● 1/1", "All is well: 1 of 1 backends answer; 10 requests/s, 99 % within 31 ms."),
            (600, [0, 5], "▲ 1/1", "Answering, but 5 requests were refused, since --spool-dir has no room (507)."),
            (600, [5, 0], "▲ 1/1", "Answering, but 5 requests were refused, since this host is too busy (503)."),
            (0, [0, 5], "■ 0/1", "Not answering: 5 requests were refused, since --spool-dir has no room (507)."),
        ];
        for (races, refused, title, sentence) in rows {
            let mut facts = facts(&[("a", RACING, if races > 0 { won } else { &[] })], races);
            facts.minute.refused = refused;
            let summary = Summary::of(&facts, NOW);
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence), "{refused:?}");
        }
    }

    /// Was seen as: "No request for 1.3 s" while every backend hung and clients gave up before `--timeout`.
    #[test]
    fn clients_that_all_leave_before_an_answer_are_no_silence() {
        const RACING: BackendState = BackendState::Racing;
        let cut: &[_] = &[("cancelled", 600)];
        let mut facts = facts(&[("a", RACING, cut), ("b", RACING, cut)], 0);
        assert_eq!(Summary::of(&facts, NOW).sentence, "No request yet.");
        facts.minute.abandoned = 600;
        for has_looks in [true, false] {
            facts.has_looks = has_looks;
            let summary = Summary::of(&facts, NOW);
            let sentence = "Not answering: every client left before an answer.";
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), ("■ 0/2", sentence), "{has_looks}");
        }
        facts.sample.backends[0].stats.note_success(NOW + Duration::from_millis(1));
        let later = |seconds| Summary::of(&facts, NOW + Duration::from_secs(seconds)).title;
        assert_eq!((later(60).as_str(), later(62).as_str()), ("○ 1/2", "■ 0/2"), "a stream has begun");
        facts.minute.abandoned = LOST_MIN - 1;
        assert_eq!(Summary::of(&facts, NOW).title, "○ 0/2", "few are in a hurry");
        facts.minute.lost = 1;
        (facts.minute.races, facts.has_looks) = (1, true);
        let sentence = "Not answering: every backend fails (a no answer in time, b no answer in time).";
        assert_eq!(Summary::of(&facts, NOW).sentence, sentence);
    }

    /// Was seen as: "No request yet" while a load balancer began each with the PROXY protocol, and got a 400.
    #[test]
    fn requests_that_are_all_refused_are_no_silence() {
        let sample = facts(&[("a", BackendState::Racing, &[])], 0).sample;
        for (status, is_told) in
            [(StatusCode::BAD_REQUEST, true), (StatusCode::LOOP_DETECTED, true), (StatusCode::BAD_GATEWAY, false)]
        {
            let (mut minute, mut facts) = (Minute::default(), facts(&[("a", BackendState::Racing, &[])], 0));
            facts.sample.replies = Arc::default();
            minute.end_second((&sample.races, &facts.sample.replies), Vec::new);
            (1..LOST_MIN).for_each(|_| facts.sample.replies.count_refusal(status));
            facts.minute.faulty = minute.last(&facts.sample).faulty;
            assert_eq!(Summary::of(&facts, NOW).sentence, "No request yet.", "scanners");
            facts.sample.replies.count_refusal(status);
            facts.minute.faulty = minute.last(&facts.sample).faulty;
            let sentence = "No request that could be raced: 5 were refused in the last minute, and the log says why.";
            assert_eq!(Summary::of(&facts, NOW).sentence == sentence, is_told, "{status}");
        }
    }

    /// Was seen as: "All is well: 3 of 3 backends answer", and "0 lost", while every backend had become slow and for ten seconds each client had
    /// given up before `--timeout`.
    #[test]
    fn clients_alarm_of_whom_more_leave_than_get_an_answer() {
        let mut facts = facts(&[("a", BackendState::Racing, &[("won", 600), ("cancelled", 60)])], 600);
        let well = "All is well: 1 of 1 backends answer; 10 requests/s, 99 % within 31 ms.";
        let second = |answers, abandoned| Second { abandoned, answers, ..Second::default() };
        let rows = [
            ((50, 20, 0), (10, 0, 6), "▲ 1/1", "60 clients left before an answer in the last 10 s, and 0 got one"),
            ((50, 20, 0), (10, 5, 6), "▲ 1/1", "60 clients left before an answer in the last 10 s, and 50 got one"),
            ((50, 20, 0), (10, 6, 6), "● 1/1", well),
            ((50, 20, 0), (1, 0, 4), "● 1/1", well),
            ((0, 0, 0), (2, 1, 6), "▲ 1/1", "12 clients left before an answer in the last 2 s, and 2 got one"),
            ((50, 0, 1), (10, 0, 0), "▲ 1/1", "50 clients left before an answer in the last 60 s, and 0 got one"),
        ];
        for (before, just_now, title, sentence) in rows {
            let seconds = [before, just_now].map(|(count, got, left)| vec![second(got, left); count]);
            facts.minute.course = seconds.concat();
            let summary = Summary::of(&facts, NOW);
            assert_eq!(summary.title, title, "{before:?}, {just_now:?}");
            assert!(summary.sentence.contains(sentence), "{before:?}, {just_now:?}: {}", summary.sentence);
        }
    }

    /// Was seen as: "All is well" while 44 of 60 clients weren't let in, since the others' answers were slow.
    #[test]
    fn new_clients_that_wait_alarm() {
        let mut facts = facts(&[("a", BackendState::Racing, &[("won", 600)])], 600);
        facts.sample.clients = ClientsSample { connections_max: 1_600, are_waiting: true, ..ClientsSample::default() };
        let summary = Summary::of(&facts, NOW);
        let sentence = "Answering, but new clients wait, since all 1,600 places are taken (--max-connections).";
        assert_eq!((summary.title.as_str(), summary.sentence.as_str()), ("▲ 1/1", sentence));
        facts.minute = LastMinute { backends: vec![BackendMinute::default()], ..LastMinute::default() };
        assert!(Summary::of(&facts, NOW).sentence.starts_with("Not answering: new clients wait"), "nobody is let in");
    }

    /// Was seen as: "2 of 3 backends do, but not all", and no word of the clients that weren't let in since the third hung.
    #[test]
    fn that_a_backend_fails_hides_no_want_of_room() {
        const RACING: BackendState = BackendState::Racing;
        let mut facts = facts(&[("a", RACING, &[("won", 600)]), ("b", RACING, &[("timeout", 600)])], 600);
        facts.sample.clients = ClientsSample { connections_max: 16, are_waiting: true, ..ClientsSample::default() };
        let waits = "Answering, but new clients wait, since all 16 places are taken (--max-connections) (b timeout).";
        assert_eq!(Summary::of(&facts, NOW).sentence, waits);
        facts.minute.refused = [5, 0];
        let refused = "Answering, but 5 requests were refused, since this host is too busy (503) (b timeout).";
        assert_eq!(Summary::of(&facts, NOW).sentence, refused);
    }

    /// Was seen as: "No request yet" before a backend that was "not asked", while 20 clients had a WebSocket there.
    #[test]
    fn streams_that_are_under_way_are_no_silence() {
        let mut facts = facts(&[("a", BackendState::Racing, &[])], 0);
        facts.sample.backends[0].stats.note_success(NOW + Duration::from_millis(1));
        facts.minute.p99 = None;
        for (clients, seconds, title, sentence) in [
            (
                ClientsSample { tunnels: 20, ..ClientsSample::default() },
                60,
                "● 1/1",
                "All is well: 1 of 1 backends answer; under 1 request/s.",
            ),
            (
                ClientsSample { tunnels: 20, ..ClientsSample::default() },
                61,
                "○ 0/1",
                "No answer came to its end in the last minute; 20 requests are under way.",
            ),
            (
                ClientsSample { requests: 1, ..ClientsSample::default() },
                61,
                "○ 0/1",
                "No answer came to its end in the last minute; 1 request is under way.",
            ),
            (ClientsSample::default(), 61, "○ 0/1", "No request yet."),
        ] {
            facts.sample.clients = clients;
            let summary = Summary::of(&facts, NOW + Duration::from_secs(seconds));
            assert_eq!((summary.title.as_str(), summary.sentence.as_str()), (title, sentence));
        }
    }

    #[test]
    fn where_losers_do_not_linger_one_that_always_loses_is_not_known() {
        const RACING: BackendState = BackendState::Racing;
        let mut facts = facts(&[("a", RACING, &[("won", 600)]), ("b", RACING, &[("cancelled", 600)])], 600);
        assert_eq!(Summary::of(&facts, NOW).title, "▲ 1/2");
        facts.has_looks = false;
        let summary = Summary::of(&facts, NOW);
        let sentence = "All is well: 1 of 1 backends answer (1 not known: losers don't linger); 10 requests/s, \
                        99 % within 31 ms.";
        assert_eq!((summary.title.as_str(), summary.sentence.as_str()), ("● 1/1", sentence));
    }
}
