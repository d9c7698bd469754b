//! What a leg's end says of its backend, for the bench. The bench itself is `upstream`'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::classify::AnswerClass;
use super::exchange::Exchange;
use super::leg::Leg;
use crate::message::{Elapsed, Outcome};
use crate::upstream::{Admission, Answer, BenchChange, Finding};

/// The shortest time for which a backend that asks for it is left alone, and the longest: some ask for a week.
const ASKED_MIN: Duration = Duration::from_secs(1);
const ASKED_MAX: Duration = Duration::from_secs(300);

/// The legs whose backends are benched.
#[derive(Default)]
pub(super) struct Benched {
    /// They start only if all others lose.
    pub(super) out: Vec<usize>,
    /// They start with the race, as probes.
    pub(super) probes: Vec<usize>,
    /// They are probes once their time has come.
    pub(super) waiting: Vec<usize>,
}

impl Benched {
    pub(super) fn has(&self, leg: usize) -> bool {
        self.out.contains(&leg) || self.probes.contains(&leg)
    }
}

impl Exchange {
    /// The legs whose backends are benched. Where all are, none is.
    pub(super) fn benched(&self, now: Instant) -> Benched {
        let mut benched = Benched::default();
        if self.context.config.bench.is_none() {
            return benched;
        }
        let mut is_first = true;
        for (number, leg) in self.legs.iter().enumerate() {
            // What isn't safe is sent to a later tier only where that is needed, and what isn't raced to the first backend alone.
            let may_probe = match self.one {
                Some(_) => is_first,
                None => leg.backend.after().is_none() || self.request.method().is_safe(),
            };
            match self.admit(number, may_probe, now) {
                Admission::Probe if self.one.is_none() => benched.probes.push(number),
                // One that leaves too many requests unanswered isn't asked first.
                Admission::Racing | Admission::Probe => {
                    is_first &= leg.backend.breaker().is_last_choice(self.context.config.max_unanswered.get(), now);
                }
                Admission::Benched if self.one.is_none() && !may_probe && !leg.backend.bench().sits_out(now) => {
                    benched.waiting.push(number);
                }
                Admission::Benched => benched.out.push(number),
            }
        }
        for leg in self.take_first_tier(&mut benched) {
            match self.admit(leg, true, now) {
                Admission::Probe => benched.probes.push(leg),
                Admission::Benched => benched.out.push(leg),
                Admission::Racing => {}
            }
        }
        if benched.out.len() + benched.probes.len() == self.legs.len() {
            self.are_all_benched.store(true, Ordering::Relaxed);
            self.context.stats.count_all_benched();
            return Benched::default();
        }
        benched
    }

    /// Asks the bench of a leg's backend for it.
    pub(super) fn admit(&self, leg: usize, may_probe: bool, now: Instant) -> Admission {
        let Leg { backend, ticket, .. } = &self.legs[leg];
        backend.bench().admit(ticket, backend.pool().timeout(), may_probe, now)
    }

    /// Notes what an answer says of its backend.
    pub(super) fn note_finding_of(self: &Arc<Self>, leg: usize, answer: &Answer) {
        if self.context.config.bench.is_none() {
            return;
        }
        let outcome = self.wanted.outcome_of(answer, &self.context.config, &self.context.via);
        // Of a request that isn't raced, too: there a failure wins.
        let finding = match (self.wanted.class_of(answer, &self.context.config), &outcome) {
            (AnswerClass::Failure, Outcome::Status(status)) => {
                finding_of_status(*status, &answer.headers, SystemTime::now())
            }
            (AnswerClass::Failure, _) => return,
            _ => Finding::Answer,
        };
        self.note_finding(leg, finding, &outcome);
    }

    /// Notes what the end of a leg says of its backend, unless its answer has said it.
    pub(super) fn note_end(&self, leg: usize, outcome: &Outcome) {
        if self.context.config.bench.is_some() {
            self.note_finding(leg, finding_of(outcome), outcome);
        }
    }

    fn note_finding(&self, leg: usize, finding: Finding, outcome: &Outcome) {
        let Some(max) = self.context.config.bench else { return };
        let backend = &self.legs[leg].backend;
        // Only a bench that begins has a length. Any number will do where there is no randomness.
        let random = if let Finding::Failure(_) = finding { getrandom::u64().unwrap_or(0) } else { 0 };
        let change = backend.bench().note(&self.legs[leg].ticket, finding, max.get(), random, Instant::now());
        let (name, address) = (backend.full_name(), backend.address());
        match change {
            None => {}
            Some(BenchChange::Back) => log::info!("{name} {address} races again"),
            Some(BenchChange::Asked(length)) => {
                backend.stats().count_bench(true);
                log::warn!(
                    "{name} {address} is benched for {}: it has answered {outcome} and asked for it",
                    Elapsed(length)
                );
            }
            Some(BenchChange::Failed(length, failures)) => {
                backend.stats().count_bench(false);
                let times = if failures == 1 { "failure" } else { "failures in a row" };
                let length = Elapsed(length);
                log::warn!("{name} {address} is benched for {length}: {failures} {times}, the last one {outcome}");
            }
        }
    }
}

/// What a leg without an answer says of its backend.
fn finding_of(outcome: &Outcome) -> Finding {
    match outcome {
        Outcome::Refused
        | Outcome::RefusedAtSocket(_)
        | Outcome::Unreachable
        | Outcome::ConnectTimeout
        | Outcome::Timeout
        | Outcome::Reset
        | Outcome::Closed
        | Outcome::Protocol(_)
        | Outcome::TooLarge
        | Outcome::Tls(_)
        | Outcome::Dns(_) => Finding::Failure(None),
        // It answers, like one with a 404.
        Outcome::Unfit(_) => Finding::Answer,
        Outcome::Status(_)
        | Outcome::Loop
        | Outcome::NoSocket
        | Outcome::Skipped
        | Outcome::Unneeded
        | Outcome::Cancelled
        | Outcome::Panic => Finding::Nothing,
    }
}

/// What an answer says that doesn't count as success. Other statuses than these are about the request: one client's mistakes mustn't
/// bench a backend for all.
fn finding_of_status(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Finding {
    match status.as_u16() {
        429 | 503 => Finding::Failure(asked_for(headers, now)),
        500 | 502 | 504 => Finding::Failure(None),
        _ => Finding::Answer,
    }
}

/// The time for which a backend asks to be left alone (RFC 9110 §10.2.3), within bounds. `None` if it says nothing that makes sense.
fn asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let text = value.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?
    };
    (!asked.is_zero()).then(|| asked.clamp(ASKED_MIN, ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::super::scenario::{Client, LINGER, Scenario, answer, get, post, wait_until};
    use super::*;
    use crate::config::Config;
    use crate::config::{LoseIf, OnFailure, Statuses};
    use crate::message::Request;
    use crate::metrics::ShownLeg;
    use crate::race::Linger;
    use crate::upstream::BenchTicket;
    use crate::upstream::scenario::spool;

    #[test]
    fn only_what_the_backend_is_to_blame_for_is_a_failure() {
        let status = |status: u16| StatusCode::from_u16(status).expect("a status");
        let of = |code| finding_of_status(status(code), &HeaderMap::new(), UNIX_EPOCH);
        for code in [429, 500, 502, 503, 504] {
            assert_eq!(of(code), Finding::Failure(None), "{code}");
        }
        for code in [204, 301, 304, 400, 401, 404, 408, 421, 501, 505, 508] {
            assert_eq!(of(code), Finding::Answer, "{code}");
        }
        let text = || "x".to_owned();
        let failures = [
            Outcome::Refused,
            Outcome::RefusedAtSocket(text()),
            Outcome::Unreachable,
            Outcome::ConnectTimeout,
            Outcome::Timeout,
            Outcome::Reset,
            Outcome::Closed,
            Outcome::Protocol(text()),
            Outcome::TooLarge,
            Outcome::Tls(text()),
            Outcome::Dns(text()),
        ];
        for outcome in failures {
            assert_eq!(finding_of(&outcome), Finding::Failure(None), "{outcome}");
        }
        let others =
            [Outcome::Loop, Outcome::NoSocket, Outcome::Skipped, Outcome::Unneeded, Outcome::Cancelled, Outcome::Panic];
        for outcome in others {
            assert_eq!(finding_of(&outcome), Finding::Nothing, "{outcome}");
        }
        assert_eq!(finding_of(&Outcome::Unfit(text())), Finding::Answer);
    }

    #[test]
    fn a_backend_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let rows: [(&[&str], Option<u64>); 15] = [
            (&[], None),
            (&["30"], Some(30)),
            (&[" 30 "], Some(30)),
            (&["1"], Some(1)),
            (&["0"], None),
            (&["-5"], None),
            (&["1.5"], None),
            (&["561635"], Some(300)),
            (&["99999999999999999999999999"], Some(300)),
            (&["30", "30"], None),
            (&["soon"], None),
            (&["Sun, 06 Nov 1994 08:49:47 GMT"], Some(10)),
            (&["Sun, 06 Nov 1994 08:49:37 GMT"], None),
            (&["Sun, 06 Nov 1994 08:49:27 GMT"], None),
            (&["Sun, 06 Nov 2044 08:49:27 GMT"], Some(300)),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(RETRY_AFTER, HeaderValue::from_str(value).expect("a value"));
            }
            assert_eq!(asked_for(&headers, now), expected.map(Duration::from_secs), "{values:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        let asked = Finding::Failure(Some(Duration::from_secs(30)));
        for (code, expected) in [(429, asked), (503, asked), (500, Finding::Failure(None)), (404, Finding::Answer)] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(finding_of_status(status, &headers, now), expected, "{code}");
        }
    }

    fn scenario(options: &[&str], linger: Linger) -> Scenario {
        Scenario::made(options, linger, Config { bench: NonZeroU32::new(2), ..Config::default() })
    }

    /// Benches a backend; its bench is over then, or not.
    fn bench(race: &Scenario, backend: usize, is_over: bool) {
        let list = race.list.snapshot();
        let bench = list[backend].bench();
        let ticket = BenchTicket::default();
        let (ago, length) = if is_over { (10, 5) } else { (0, 300) };
        let then = Instant::now().checked_sub(Duration::from_secs(ago)).expect("the clock runs for ten seconds");
        bench.admit(&ticket, Duration::ZERO, true, then);
        let asked = Finding::Failure(Some(Duration::from_secs(length)));
        assert!(bench.note(&ticket, asked, 2, 0, then).is_some());
    }

    fn is_benched(race: &Scenario, backend: usize) -> bool {
        race.list.snapshot()[backend].bench().is_benched()
    }

    fn takes(client: &Client, expected: &str) {
        assert_eq!(client.takes_reply().1, expected);
    }

    /// `--on-failure best`: the probe succeeds, or fails as well.
    #[test]
    fn a_failure_that_is_kept_waits_for_a_probe() {
        for (probe, expected) in [(200, "b1"), (503, "b2")] {
            let on_failure = OnFailure::Best { within: None };
            let config = Config { bench: NonZeroU32::new(2), on_failure, ..Config::default() };
            let mut race = Scenario::made(&["", ""], LINGER, config);
            bench(&race, 0, true);
            let client = race.race(get());
            race.ends[1].sends(answer(404, "b2"));
            race.settle();
            assert!(client.waits());
            race.ends[0].sends(answer(probe, "b1"));
            takes(&client, expected);
            race.wait_for_end();
        }
    }

    /// What ends a race on purpose is no failure, whatever its status.
    #[test]
    fn a_final_answer_benches_no_backend() {
        let definitive = Statuses::parse("503").expect("a status");
        let mut race =
            Scenario::made(&[""], LINGER, Config { bench: NonZeroU32::new(2), definitive, ..Config::default() });
        for _ in 0..3 {
            let client = race.race(get());
            race.ends[0].sends(answer(503, "final"));
            takes(&client, "final");
            race.wait_for_end();
        }
        assert!(!is_benched(&race, 0));
    }

    /// `--race-methods GET`: the first backend gets one request as a probe, once its bench is over.
    #[test]
    fn what_is_not_raced_goes_to_a_benched_backend_last_and_probes_the_first() {
        let config =
            || Config { bench: NonZeroU32::new(2), race_methods: Some(vec![http::Method::GET]), ..Config::default() };
        for is_over in [false, true] {
            let mut race = Scenario::made(&["", ""], LINGER, config());
            bench(&race, 0, is_over);
            let client = race.begin(post(spool(b"", 1)));
            let (asked, other) = if is_over { (0, 1) } else { (1, 0) };
            race.ends[asked].receives_head();
            race.ends[asked].sends(answer(200, "yes"));
            takes(&client, "yes");
            race.wait_for_end();
            assert!(race.ends[other].is_left_alone() && race.legs() == (1, 0), "{is_over}");
            assert_eq!(is_benched(&race, 0), !is_over);
        }
        let mut race = Scenario::made(&["", ""], LINGER, config());
        for _ in 0..2 {
            assert!(!is_benched(&race, 0));
            let client = race.begin(post(spool(b"", 1)));
            race.ends[0].receives_head();
            race.ends[0].sends(answer(500, "b1"));
            takes(&client, "b1");
            race.wait_for_end();
        }
        assert!(is_benched(&race, 0), "though its failures were the replies");
    }

    /// `--race-methods GET`: the first backend leaves requests unanswered, the second is benched.
    #[test]
    fn what_is_not_raced_goes_to_a_held_backend_before_a_benched_one_unless_that_is_to_be_probed() {
        for (is_over, asked) in [(false, 0), (true, 1)] {
            let config =
                Config { bench: NonZeroU32::new(2), race_methods: Some(vec![http::Method::GET]), ..Config::default() };
            let mut race = Scenario::made(&["", ""], LINGER, config);
            let _pending = race.leave_unanswered(0, 128);
            bench(&race, 1, is_over);
            let client = race.begin(post(spool(b"", 1)));
            race.ends[asked].receives_head();
            race.ends[asked].sends(answer(200, "yes"));
            takes(&client, "yes");
            race.wait_for_end();
            assert!(race.ends[1 - asked].is_left_alone() && is_benched(&race, 1) != is_over);
        }
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Of answers that are judged by their bodies, or by this rule alone.
    fn judged(rule: &str, win_on_byte: bool, failures: u32) -> Config {
        let lose_if = if rule.is_empty() { LoseIf::default() } else { LoseIf::parse(rule).expect(rule) };
        Config { bench: NonZeroU32::new(failures), lose_if, win_on_byte, ..Config::default() }
    }

    /// Runs a race that the second of two backends wins before the first answers.
    fn answer_late(race: &mut Scenario, late: &str) {
        let client = race.race(get());
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
        race.ends[0].sends(late);
        race.wait_for_end();
    }

    #[test]
    fn late_answers_end_benches_and_rows_also_where_bodies_decide() {
        for (rule, win_on_byte) in [("", true), ("body ~ error", false), ("body ~ error", true)] {
            let mut race = Scenario::made(&["", ""], LINGER, judged(rule, win_on_byte, 2));
            bench(&race, 0, true);
            let client = race.race(get());
            race.ends[1].sends(answer(200, "b2"));
            takes(&client, "b2");
            race.ends[0].sends(CHUNKED);
            race.settle();
            assert!(is_benched(&race, 0), "its body decides");
            race.ends[0].sends("2\r\nb1\r\n0\r\n\r\n");
            wait_until("it races again", || !is_benched(&race, 0));
            race.wait_for_end();
            for status in [503, 200, 503] {
                answer_late(&mut race, &answer(status, "late"));
            }
            assert!(!is_benched(&race, 0), "its failures weren't in a row");
        }
    }

    #[test]
    fn an_answer_that_is_unfit_ends_a_row_and_is_no_late_success() {
        for (rule, unfit) in [
            ("body ~ error", answer(200, "error")),
            ("header x-bad", "HTTP/1.1 200 OK\r\nX-Bad: 1\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ] {
            let mut race = Scenario::made(&["", ""], LINGER, judged(rule, false, 2));
            for late in [&answer(503, "no"), &unfit, &answer(503, "no")] {
                answer_late(&mut race, late);
            }
            assert!(!is_benched(&race, 0));
            let stats = race.list.snapshot()[0].stats().clone();
            let is_unfit = |(word, count)| (word, count) == ("unfit", 1);
            let ends: Vec<_> = stats.ends().filter(|(_, count)| *count > 0).collect();
            assert!(ends.iter().copied().any(is_unfit) && stats.last_success().is_none(), "{rule}: {ends:?}");
        }
    }

    /// A loser with its backend's long look, whose head comes before the verdict or after it.
    #[test]
    fn a_head_and_then_nothing_is_a_timeout_where_a_byte_decides() {
        for is_late in [false, true] {
            let linger =
                Linger { safe: Duration::from_millis(1), look: crate::upstream::scenario::LONG, ..Linger::NONE };
            let mut race = Scenario::made(&["timeout=300ms", ""], linger, judged("", true, 1));
            let client = race.race(get());
            if !is_late {
                race.ends[0].sends(CHUNKED);
                race.settle();
            }
            race.ends[1].sends(answer(200, "b2"));
            takes(&client, "b2");
            if is_late {
                race.ends[0].sends(CHUNKED);
            }
            wait_until("it is benched", || is_benched(&race, 0));
            race.wait_for_end();
        }
    }

    #[test]
    fn failures_in_a_row_bench_a_backend_and_it_gets_no_request() {
        let mut race = scenario(&["", ""], LINGER);
        for request in [get(), get()] {
            assert!(!is_benched(&race, 0));
            let client = race.race(request);
            race.ends[0].sends(answer(503, "no"));
            race.settle();
            race.ends[1].sends(answer(200, "b2"));
            takes(&client, "b2");
            race.wait_for_end();
        }
        assert!(is_benched(&race, 0));
        for request in [get(), post(spool(b"", 1))] {
            let client = race.begin(request);
            race.ends[1].receives_head();
            race.ends[1].sends(answer(200, "b2"));
            takes(&client, "b2");
            race.wait_for_end();
            assert!(race.ends[0].is_left_alone());
        }
    }

    #[test]
    fn a_benched_backend_is_asked_when_all_others_have_lost() {
        let mut race = scenario(&["", "", "after=24h"], LINGER);
        bench(&race, 0, false);
        let client = race.begin(get());
        for at in [1, 2] {
            race.ends[at].receives_head();
            assert!(race.ends[0].is_left_alone());
            race.ends[at].sends(answer(404, "no"));
        }
        race.ends[0].receives_head();
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
        assert!(!is_benched(&race, 0), "one success ends the bench");
    }

    #[test]
    fn a_first_tier_that_is_benched_lets_the_next_one_start_at_once() {
        let mut race = scenario(&["", "after=24h"], LINGER);
        bench(&race, 0, false);
        let client = race.begin(get());
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
    }

    /// Was seen as: hedges on their way to their time were sent to a backend that had just asked for a minute's rest.
    #[test]
    fn a_leg_whose_backend_is_benched_while_it_waits_is_sent_only_if_all_others_lose() {
        for (options, fails) in [("after=1ms", false), ("after=23h", true)] {
            for request in [get(), post(spool(b"", 1))] {
                let mut race = scenario(&["", options, "after=24h"], LINGER);
                let held = race.hold_starts();
                let client = race.begin(request);
                bench(&race, 1, false);
                drop(held);
                race.ends[0].receives_head();
                if !fails {
                    race.outlast(Duration::from_millis(1));
                    race.settle();
                    assert!(race.ends[1].is_left_alone(), "its time has come");
                }
                race.ends[0].sends(answer(404, "no"));
                race.ends[2].receives_head();
                assert!(race.ends[1].is_left_alone());
                race.ends[2].sends(answer(404, "no"));
                race.ends[1].receives_head();
                race.ends[1].sends(answer(200, "b2"));
                takes(&client, "b2");
                race.wait_for_end();
                assert!(!is_benched(&race, 1), "it has answered since");
            }
        }
    }

    /// Was seen as: a hedge whose backend had been benched and was to be probed by then was sent only when all others had lost.
    #[test]
    fn a_leg_whose_backend_was_benched_while_it_waits_probes_it_if_that_is_over() {
        let mut race = scenario(&["", "after=1ms"], LINGER);
        let held = race.hold_starts();
        let client = race.begin(post(spool(b"", 1)));
        bench(&race, 1, true);
        drop(held);
        race.ends[0].receives_head();
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
        assert!(!is_benched(&race, 1));
    }

    /// Was seen as: posts that waited for the time of a hedge had its probe, mostly for nothing, and reads that would have been the
    /// probe at once were none.
    #[test]
    fn a_leg_that_waits_for_its_time_takes_no_probe() {
        let mut race = scenario(&["", "after=24h"], LINGER);
        bench(&race, 1, true);
        let _waiting = race.begin(post(spool(b"", 1)));
        race.ends[0].receives_head();
        let client = race.begin(get());
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
        assert!(!is_benched(&race, 1));
    }

    #[test]
    fn where_all_are_benched_a_leg_that_waits_keeps_its_time() {
        let mut race = scenario(&["", "after=23h", "after=24h"], LINGER);
        (0..3).for_each(|backend| bench(&race, backend, false));
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[0].sends(answer(404, "no"));
        race.ends[1].receives_head();
        assert!(race.ends[2].is_left_alone());
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
    }

    /// What a race does with each of its legs: `asked` or `probe` (asked as that) at once, `unneeded` where it waits for its time,
    /// `skipped` where it starts only if all others lose. The first that is asked wins.
    fn parts(race: &mut Scenario, request: Request) -> String {
        let list = race.list.snapshot();
        let is_probed = |at: usize| list[at].bench().told(Instant::now()).is_some_and(|told| told.is_probed);
        let was_probed: Vec<bool> = (0..list.len()).map(is_probed).collect();
        let client = race.begin(request);
        let is_probe: Vec<bool> = (0..list.len()).map(|at| is_probed(at) && !was_probed[at]).collect();
        for end in &mut race.ends {
            if !end.is_left_alone() {
                end.sends(answer(200, "yes"));
            }
        }
        takes(&client, "yes");
        race.wait_for_end();
        let recent = race.proxy.recent().last(1).remove(0);
        let part = |(at, leg): (usize, ShownLeg<'_>)| match leg.started {
            Some(_) if is_probe[at] => "probe".to_owned(),
            Some(_) => "asked".to_owned(),
            None => leg.end.to_string(),
        };
        recent.legs().enumerate().map(part).collect::<Vec<_>>().join(" ")
    }

    /// Backends with their options and what is known of them: `well`, `full` (it leaves requests unanswered), `out` (benched),
    /// `due` (to be probed), `taken` (being probed), `paused`.
    fn parts_of(row: &str, request: Request) -> String {
        let backends: Vec<(&str, &str)> =
            row.split(", ").map(|backend| backend.split_once(' ').unwrap_or((backend, ""))).collect();
        let options: Vec<String> = backends
            .iter()
            .map(|(state, after)| if *state == "paused" { format!("{after} paused") } else { (*after).to_owned() })
            .collect();
        let mut race = scenario(&options.iter().map(String::as_str).collect::<Vec<_>>(), LINGER);
        let mut pending = Vec::new();
        let unpaused = backends.iter().filter(|(state, _)| *state != "paused").enumerate();
        for (at, (state, _)) in unpaused {
            match *state {
                "full" => pending.push(race.leave_unanswered(at, 128)),
                "well" => {}
                state => bench(&race, at, state != "out"),
            }
            if *state == "taken" {
                let (ticket, now) = (BenchTicket::default(), Instant::now());
                let admission = race.list.snapshot()[at].bench().admit(&ticket, Duration::from_secs(60), true, now);
                assert_eq!(admission, Admission::Probe);
            }
        }
        parts(&mut race, request)
    }

    /// Was seen as: where no backend before it raced, a POST was sent to one that was to be probed, and was no probe: it was never
    /// benched again, and those behind it waited for their time.
    #[test]
    fn each_leg_has_its_part_by_what_is_known_of_all_backends() {
        // The backends, what a GET does with them, and a POST.
        let rows = [
            // The first tier races.
            ("well, due, well after=9h", "asked probe unneeded", "asked probe unneeded"),
            ("well, taken, well after=9h", "asked skipped unneeded", "asked skipped unneeded"),
            ("well, due after=8h, well after=9h", "asked probe unneeded", "asked unneeded unneeded"),
            ("well, taken after=8h, well after=9h", "asked skipped unneeded", "asked skipped unneeded"),
            ("well, due after=9h, well after=9h", "asked probe unneeded", "asked unneeded unneeded"),
            // It is benched.
            ("out, due, well after=9h", "skipped probe asked", "skipped probe asked"),
            ("out, taken, well after=9h", "skipped skipped asked", "skipped skipped asked"),
            ("out, due after=8h, well after=9h", "skipped probe asked", "skipped probe asked"),
            ("out, taken after=8h, well after=9h", "skipped skipped asked", "skipped skipped asked"),
            ("out, due after=9h, well after=9h", "skipped probe asked", "skipped probe asked"),
            ("out, due after=10h, well after=9h", "skipped probe asked", "skipped unneeded asked"),
            ("out, taken after=10h, well after=9h", "skipped skipped asked", "skipped skipped asked"),
            ("due, due after=8h, well after=9h", "probe probe asked", "probe probe asked"),
            ("due, due after=10h, well after=9h", "probe probe asked", "probe unneeded asked"),
            ("taken, due after=8h, well after=9h", "skipped probe asked", "skipped probe asked"),
            // It is paused.
            ("paused, due, well after=9h", "probe asked", "probe asked"),
            ("paused, due after=8h, well after=9h", "probe asked", "probe asked"),
            ("paused, taken after=8h, well after=9h", "skipped asked", "skipped asked"),
            ("paused, due after=10h, well after=9h", "probe asked", "unneeded asked"),
            // It is held: what isn't safe is sent to it all the same, and no other leg waits for it.
            ("full, due, well after=9h", "skipped probe asked", "asked probe asked"),
            ("full, taken, well after=9h", "skipped skipped asked", "asked skipped asked"),
            ("full, due after=8h, well after=9h", "skipped probe asked", "asked unneeded asked"),
            ("full, taken after=8h, well after=9h", "skipped skipped asked", "asked skipped asked"),
            ("full, due after=8h", "asked probe", "asked unneeded"),
            // All are benched, so that none counts as benched.
            ("out, due, out after=9h", "asked probe unneeded", "asked probe unneeded"),
            ("out, due after=8h, out after=9h", "asked unneeded unneeded", "asked unneeded unneeded"),
            ("out, due after=8h, due after=9h", "asked unneeded unneeded", "asked unneeded unneeded"),
            ("paused, due after=8h, out after=9h", "probe unneeded", "probe unneeded"),
            ("paused, taken after=8h, due after=9h", "asked unneeded", "asked unneeded"),
            // A hedge that would start at half of the first tier's timeout.
            ("out, due after=2s, well after=p95 timeout=10s", "skipped probe asked", "skipped probe asked"),
            (
                "out, due after=3s timeout=10s, well after=p95 timeout=2s",
                "skipped probe asked",
                "skipped unneeded asked",
            ),
        ];
        for (backends, by_get, by_post) in rows {
            assert_eq!(parts_of(backends, get()), by_get, "GET: {backends}");
            assert_eq!(parts_of(backends, post(spool(b"", 1))), by_post, "POST: {backends}");
        }
    }

    /// Was seen as: the backend got every POST, and those behind it were asked only in their time.
    #[test]
    fn the_failure_of_a_first_tier_that_what_is_not_safe_probes_begins_the_next_bench() {
        let mut race = scenario(&["", "after=23h", "after=24h"], LINGER);
        bench(&race, 0, false);
        bench(&race, 1, true);
        for is_probe in [true, false] {
            let client = race.begin(post(spool(b"", 1)));
            race.ends[2].receives_head();
            if is_probe {
                race.ends[1].receives_head();
                race.ends[1].sends(answer(503, "no"));
                race.settle();
            }
            race.ends[2].sends(answer(200, "b3"));
            takes(&client, "b3");
            race.wait_for_end();
            assert!(race.ends[1].is_left_alone());
            let told = race.list.snapshot()[1].bench().told(Instant::now());
            assert!(told.is_some_and(|told| told.times == 2 && !told.is_probed), "{told:?}");
        }
        assert!(race.ends[0].is_left_alone());
    }

    /// Was seen as: where the second of two was to be probed, the first, benched as well, got a POST only when that had failed.
    #[test]
    fn where_all_are_benched_what_is_not_safe_starts_with_the_first_tier() {
        let mut race = scenario(&["", "after=24h"], LINGER);
        bench(&race, 0, false);
        bench(&race, 1, true);
        let client = race.begin(post(spool(b"", 1)));
        race.ends[0].receives_head();
        assert!(race.ends[1].is_left_alone());
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
        race.wait_for_end();
        assert_eq!(race.proxy.stats().all_benched(), 1);
        let told = race.list.snapshot()[1].bench().told(Instant::now());
        assert!(told.is_some_and(|told| !told.is_probed), "the next request may probe it");
    }

    #[test]
    fn when_the_time_is_over_one_request_takes_a_probe_along_that_may_win() {
        for request in [get(), post(spool(b"", 1))] {
            let mut race = scenario(&["", ""], LINGER);
            bench(&race, 0, true);
            let client = race.race(request);
            let other = race.begin(get());
            race.ends[0].sends(answer(200, "b1"));
            takes(&client, "b1");
            assert!(!is_benched(&race, 0));
            drop(other);
        }
    }

    #[test]
    fn a_probe_lingers_to_its_timeout_also_where_nothing_lingers() {
        let mut race = scenario(&["", ""], Linger::NONE);
        bench(&race, 0, true);
        let client = race.race(get());
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
        race.settle();
        assert!(race.ends[0].is_left_alone(), "it isn't hung up on");
        race.ends[0].sends(answer(204, ""));
        wait_until("it races again", || !is_benched(&race, 0));
        race.wait_for_end();
    }

    #[test]
    fn no_answer_waits_for_a_probe_but_the_last() {
        let mut race = scenario(&["", "", "after=24h"], LINGER);
        bench(&race, 0, true);
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[1].receives_head();
        race.ends[1].sends(answer(503, "no"));
        race.ends[2].receives_head();
        race.ends[2].sends(answer(503, "no"));
        race.settle();
        assert!(client.waits(), "it may win");
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
    }

    #[test]
    fn a_probe_whose_client_leaves_frees_its_place() {
        let mut race = scenario(&["", ""], LINGER);
        bench(&race, 0, true);
        let client = race.race(get());
        client.leaves();
        race.wait_for_end();
        assert!(is_benched(&race, 0));
        let ticket = BenchTicket::default();
        let list = race.list.snapshot();
        let next = list[0].bench().admit(&ticket, Duration::ZERO, true, Instant::now());
        assert_eq!(next, Admission::Probe);
    }

    #[test]
    fn when_all_are_benched_all_race() {
        let mut race = scenario(&["", "", "after=24h"], LINGER);
        bench(&race, 0, false);
        bench(&race, 1, true);
        bench(&race, 2, false);
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[1].receives_head();
        assert!(race.ends[2].is_left_alone(), "as if none were");
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
        race.ends[1].sends(answer(503, "no"));
        race.wait_for_end();
        assert_eq!(race.proxy.stats().all_benched(), 1);
        assert_eq!([0, 1, 2].map(|at| is_benched(&race, at)), [false, true, true]);
    }

    #[test]
    fn a_later_tier_is_probed_at_once_but_by_what_is_not_safe_only_if_it_is_needed() {
        let mut race = scenario(&["", "after=24h"], LINGER);
        bench(&race, 1, true);
        let client = race.begin(post(spool(b"", 1)));
        race.ends[0].receives_head();
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone());
        let client = race.race(get());
        race.ends[1].sends(answer(200, "b2"));
        takes(&client, "b2");
    }

    /// Was seen as: where all requests are POSTs, a hedge that had been benched once never came back.
    #[test]
    fn what_is_not_safe_probes_a_later_tier_in_its_time_or_when_those_before_it_have_lost() {
        for (options, is_slow, expected) in [("after=30ms", true, "hedge"), ("after=23h", false, "failover")] {
            let mut race = scenario(&["", options, "after=24h"], LINGER);
            bench(&race, 1, true);
            let client = race.begin(post(spool(b"", 1)));
            race.ends[0].receives_head();
            if !is_slow {
                race.ends[0].sends(answer(404, "no"));
                race.ends[2].receives_head();
            }
            race.ends[1].receives_head();
            assert!(!is_slow || race.ends[2].is_left_alone());
            race.ends[1].sends(answer(200, "b2"));
            let sent = client.receives();
            assert!(sent.reply.headers["proxy-status"].to_str().expect("ASCII").contains(expected), "{options}");
            (sent.delivered)(crate::message::Delivery::Whole);
            assert!(!is_benched(&race, 1));
        }
    }

    #[test]
    fn a_lost_race_and_a_clients_mistake_bench_none() {
        let mut race = scenario(&["", ""], Linger::NONE);
        for _ in 0..3 {
            let client = race.race(get());
            race.ends[0].sends(answer(404, "no"));
            race.ends[1].sends(answer(400, "no"));
            assert_eq!(client.takes_reply().0, 502);
            race.wait_for_end();
        }
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        takes(&client, "b1");
        race.wait_for_end();
        assert!(!is_benched(&race, 0) && !is_benched(&race, 1));
    }
}
