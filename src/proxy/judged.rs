//! The legs whose answers are judged by more than their heads: who is, and what becomes of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{Method, StatusCode};

use super::classify::AnswerClass;
use super::exchange::Exchange;
use super::judging::{Judgement, Judging, WaitsFor, is_encoded};
use super::leg::LegState;
use crate::message::Outcome;
use crate::upstream::Answer;

impl Exchange {
    /// Whether more than the head decides on an answer of this class.
    pub(super) fn is_to_be_judged(&self, class: AnswerClass) -> bool {
        let config = &self.context.config;
        (config.win_on_byte || !config.lose_if.is_empty())
            && matches!(class, AnswerClass::Success | AnswerClass::Fallback)
    }

    /// Judges an answer that would win. Doesn't block.
    pub(super) fn begin_judging(self: &Arc<Self>, leg: usize, answer: Box<Answer>, class: AnswerClass, now: Instant) {
        let config = &self.context.config;
        if matches!(answer.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NOT_MODIFIED) {
            return self.decide(leg, answer, class, now);
        }
        if let Some(rule) = config.lose_if.match_in_fields(&answer.headers) {
            return self.lose_as_unfit(leg, answer, rule);
        }
        let is_encoded = config.looks_at_bodies() && is_encoded(&answer.headers);
        if is_encoded && !self.context.has_told_encoded.swap(true, Ordering::Relaxed) {
            let effect = "rules for bodies don't match them, and by --win-on byte an event stream's comments win";
            log::warn!("{} encodes bodies unasked: {effect}", self.name_of(leg));
        }
        let has_body = *self.request.method() != Method::HEAD && answer.status != StatusCode::NO_CONTENT;
        let has_rules = has_body && config.lose_if.looks_at_bodies() && !is_encoded;
        let waits_for_byte = has_body && config.win_on_byte;
        if !has_rules && !waits_for_byte {
            return self.decide(leg, answer, class, now);
        }
        let (used, timeout) = (&self.context.judged_bytes, self.legs[leg].backend.pool().timeout());
        let waits_for = WaitsFor { rules: has_rules, byte: waits_for_byte };
        let judging = Judging::new(answer, class, waits_for, used, now, timeout);
        self.resume(leg, LegState::Judging(Box::new(judging)));
    }

    /// Takes the next look at an answer that is being judged, also of a loser, as long as that lingers: what its first bytes say of its
    /// backend counts. Doesn't block, and takes long only if it may.
    pub(super) fn judge(self: &Arc<Self>, leg: usize, mut judging: Box<Judging>, may_take_long: bool) {
        if self.race.token(leg).is_cancelled() {
            drop(judging);
            return self.end(leg, Outcome::Cancelled, self.elapsed());
        }
        let has_lost = self.race.is_decided();
        let step =
            catch_unwind(AssertUnwindSafe(|| judging.step(&self.context.config.lose_if, has_lost, may_take_long)));
        match step.unwrap_or(Judgement::Failed(Outcome::Panic)) {
            Judgement::Fit => self.decide(leg, judging.answer, judging.class, Instant::now()),
            Judgement::Unfit(rule) => self.lose_as_unfit(leg, judging.answer, rule),
            Judgement::Failed(outcome) => {
                drop(judging);
                self.end(leg, outcome, self.elapsed());
            }
            Judgement::IsLong => {
                let exchange = self.clone();
                (self.context.threads.long)(Box::new(move || exchange.judge(leg, judging, true)));
            }
            Judgement::Waits(until) => match judging.answer.body.readiness(until) {
                Some(readiness) => {
                    let read = judging.file_read(until);
                    self.park_until(leg, LegState::Judging(judging), &readiness, read);
                }
                None => self.decide(leg, judging.answer, judging.class, Instant::now()),
            },
        }
    }

    /// Has losers that are being judged give their room back, for which legs may wait that can still win. A thread that looks at one just
    /// now looks once more.
    pub(super) fn take_back_room(&self, losers: &[usize], now: Instant) {
        if !self.context.config.looks_at_bodies() {
            return;
        }
        for loser in losers {
            let _ = self.legs[*loser].parked.take_or_notify(|state| {
                if let LegState::Judging(judging) = state {
                    judging.look_soon(now);
                }
                false
            });
        }
    }

    /// Has an answer lose that a rule matches.
    fn lose_as_unfit(self: &Arc<Self>, leg: usize, answer: Box<Answer>, rule: String) {
        let outcome = Outcome::Unfit(rule);
        // Whatever becomes of the rest of it.
        self.note_end(leg, &outcome);
        self.lose_as(leg, answer, outcome, self.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::super::scenario::{Client, LINGER, Scenario, answer, get, post, request, wait_until};
    use super::*;
    use crate::config::Config;
    use crate::config::{LoseIf, OnFailure, Statuses};
    use crate::message::{Delivery, ReplyBody};
    use crate::upstream::scenario::{self, spool};

    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn race(rules: &str, win_on_byte: bool) -> (Scenario, Client) {
        let lose_if = if rules.is_empty() { LoseIf::default() } else { LoseIf::parse(rules).expect(rules) };
        let on_failure = OnFailure::Best { within: None };
        let mut race = Scenario::with(2, LINGER, Config { lose_if, win_on_byte, on_failure, ..Config::default() });
        let client = race.race(get());
        (race, client)
    }

    /// What the client has of a body that goes on.
    fn begin_of_reply(client: &Client) -> String {
        let sent = client.receives();
        let ReplyBody::Stream { mut source, .. } = sent.reply.body else { panic!("a stream") };
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        (sent.delivered)(Delivery::Whole);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn comments_and_blank_lines_of_an_event_stream_win_nothing_and_are_passed_on() {
        for skipped in [": connected\n\n", "\r\n\r\n: x\r", "\u{feff}:\n", ""] {
            let (mut race, client) = race("", true);
            race.ends[0].sends([STREAM, skipped].concat());
            race.settle();
            assert!(client.waits(), "{skipped:?}");
            race.ends[1].sends([STREAM, ": keep-alive\n\nd"].concat());
            assert_eq!(begin_of_reply(&client), ": keep-alive\n\nd");
        }
    }

    #[test]
    fn a_list_of_no_encodings_hides_no_comments() {
        for (codings, wins) in
            [("", false), ("identity, Identity", false), (" ,identity,", false), ("identity,br", true)]
        {
            let (mut race, client) = race("", true);
            let head = STREAM.replacen("\r\n", &format!("\r\nContent-Encoding: {codings}\r\n"), 1);
            race.ends[0].sends([&head, ": connected\n\n"].concat());
            race.settle();
            assert_eq!(client.waits(), !wins, "{codings:?}");
        }
    }

    /// Was seen as: with a client that took gzip, the emptiest server won by comments that were encoded.
    #[test]
    fn backends_are_asked_for_no_encoding_where_the_first_byte_decides() {
        for (win_on_byte, is_asked) in [(false, true), (true, false)] {
            let mut race = Scenario::with(1, LINGER, Config { win_on_byte, ..Config::default() });
            let _client = race.begin(request(Method::GET, &[("accept-encoding", "gzip")], None));
            let head = race.ends[0].receives_head().to_ascii_lowercase();
            assert_eq!(head.contains("accept-encoding:"), is_asked, "{head}");
        }
    }

    #[test]
    fn an_event_stream_that_ends_without_an_event_loses() {
        let length = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n";
        for bytes in [STREAM, length] {
            let (mut race, client) = race("", true);
            race.ends[0].sends([bytes, if bytes == STREAM { ": bye\n\n" } else { "" }].concat());
            race.ends[0].ends();
            race.settle();
            assert!(client.waits(), "{bytes}");
            race.ends[1].ends();
            let (status, body) = client.takes_reply();
            assert!(status == 502 && body.contains("b1 unfit: "), "{body}");
        }
    }

    #[test]
    fn a_judged_leg_ends_in_its_time_however_long_the_disk_takes() {
        let upstream = scenario::Scenario::with(|options| options.timeout = Duration::from_millis(50));
        let config = Config { win_on_byte: true, ..Config::default() };
        let mut race = Scenario::on(upstream, &[""], LINGER, config);
        let client = race.race(post(spool(&vec![b'a'; 100 * 1024], 0)));
        race.run_disk();
        race.ends[0].sends(CHUNKED);
        // The answer is received in the step after this read; the next one hangs.
        race.run_disk();
        let (status, body) = client.takes_reply();
        assert!(status == 502 && body.contains("b1 timeout"), "{body}");
        race.wait_for_end();
    }

    #[test]
    fn without_a_byte_a_head_alone_wins_nothing_and_an_empty_body_does() {
        let (mut race, client) = race("", true);
        race.ends[0].sends(CHUNKED);
        race.settle();
        assert!(client.waits());
        race.ends[1].sends("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.takes_reply(), (200, String::new()));
    }

    #[test]
    fn an_answer_that_a_rule_matches_loses_and_is_never_the_best() {
        let error = "{\"error\": {\"code\": 1}}";
        for (rules, bad) in [
            ("body ~ \"error\"\\s*:", answer(200, error)),
            ("header x-cache ~ ^STALE", "HTTP/1.1 200 OK\r\nX-Cache: STALE\r\nContent-Length: 0\r\n\r\n".to_owned()),
            ("header x-maintenance", "HTTP/1.1 200 OK\r\nX-Maintenance:\r\nContent-Length: 0\r\n\r\n".to_owned()),
            ("body ~ \"error\"\\s*:", format!("{CHUNKED}{:x}\r\n{error}\r\n0\r\n\r\n", error.len())),
        ] {
            let (mut first, client) = race(rules, false);
            first.ends[0].sends(&bad);
            first.settle();
            assert!(client.waits());
            first.ends[1].sends(answer(200, "{\"result\": 1}"));
            assert_eq!(client.takes_reply().1, "{\"result\": 1}", "{rules}");
            first.wait_for_end();
            let (mut second, client) = race(rules, false);
            second.ends[0].sends(&bad);
            second.ends[1].sends(&bad);
            let (status, body) = client.takes_reply();
            assert!(status == 502 && body.contains("b1 unfit: the answer is unfit by the proxy's rules"), "{body}");
            second.wait_for_end();
        }
    }

    #[test]
    fn a_body_that_is_still_coming_is_judged_at_its_end_or_as_soon_as_a_rule_matches() {
        let (mut race, client) = race("body ~ error", false);
        race.ends[0].sends([CHUNKED, "3\r\nerr\r\n"].concat());
        race.ends[1].sends([CHUNKED, "4\r\nfine\r\n"].concat());
        race.settle();
        assert!(client.waits(), "neither is known yet");
        race.ends[0].sends("3\r\nor!\r\n");
        race.ends[1].sends("0\r\n\r\n");
        assert_eq!(client.takes_reply(), (200, "fine".to_owned()));
        race.wait_for_end();
        assert_eq!(race.context_bytes(), 0, "all memory is given back");
    }

    #[test]
    fn only_the_first_64_kib_are_looked_at_and_all_is_passed_on() {
        let (mut race, client) = race("body ~ error", false);
        let body = format!("{}error", "x".repeat(64 * 1024));
        race.ends[1].sends(answer(503, "no"));
        race.ends[0].sends(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        race.ends[0].sends(&body);
        while client.waits() {
            race.run_disk();
        }
        let sent = client.receives();
        let ReplyBody::Stream { mut source, .. } = sent.reply.body else { panic!("a stream") };
        let mut bytes = Vec::new();
        while bytes.len() < body.len() {
            let mut piece = [0; 4096];
            match source.read(&mut piece) {
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(_) => race.settle(),
            }
        }
        assert!(bytes == body.as_bytes());
        drop(source);
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
    }

    /// A chunk of this many bytes.
    fn chunk(bytes: usize) -> String {
        format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes))
    }

    /// Takes all room for bodies but this.
    fn leave_room(race: &Scenario, bytes: usize) {
        race.proxy.0.judged_bytes.store(16 * 1024 * 1024 - bytes, Ordering::Relaxed);
    }

    #[test]
    fn who_has_room_has_enough_and_others_wait_for_theirs() {
        let (mut race, client) = race("body ~ error", false);
        leave_room(&race, 64 * 1024);
        race.ends[0].sends([CHUNKED, &chunk(8 * 1024)].concat());
        race.run_disk();
        race.ends[1].sends([CHUNKED, &chunk(8 * 1024)].concat());
        race.settle();
        race.ends[1].sends(chunk(60 * 1024));
        race.ends[0].sends(chunk(60 * 1024));
        while client.waits() {
            race.run_disk();
        }
        let sent = client.receives();
        assert_eq!(sent.reply.status, 200);
        drop(sent);
    }

    /// Was seen as: with a rule for bodies, a backend whose answers to POST stalled had all races wait for seconds, and its half answers
    /// win: its losers, which linger for long, had all of the room.
    #[test]
    fn a_loser_gives_its_room_back_and_takes_none() {
        let (mut race, client) = race("body ~ error", false);
        leave_room(&race, 64 * 1024);
        race.ends[0].sends([CHUNKED, &chunk(8 * 1024)].concat());
        race.run_disk();
        race.settle();
        assert_eq!(race.context_bytes(), 16 * 1024 * 1024, "it has all that is left");
        race.ends[1].sends(answer(200, "fine"));
        assert_eq!(client.takes_reply(), (200, "fine".to_owned()));
        wait_until("it is given back", || race.context_bytes() == (16 * 1024 - 64) * 1024);
        race.ends[0].sends("0\r\n\r\n");
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(0)), ((2, 0), 1));
    }

    /// The rest may take long, and nothing waits for it.
    #[test]
    fn a_loser_is_judged_by_no_more_than_its_first_bytes_though_more_has_come() {
        let (mut race, client) = race("body ~ error", false);
        race.ends[0].sends([CHUNKED, &chunk(4 * 1024)].concat());
        race.settle();
        race.ends[0].sends([&chunk(1024), "5\r\nerror\r\n"].concat());
        race.settle();
        race.ends[1].sends(answer(200, "fine"));
        client.takes_reply();
        race.ends[0].sends("0\r\n\r\n");
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(0)), ((2, 0), 1));
    }

    #[test]
    fn a_loser_is_judged_by_its_first_bytes_without_room() {
        for (bytes, expected) in [(chunk(8 * 1024), "late"), ("5\r\nerror\r\n".to_owned(), "unfit")] {
            let (mut race, client) = race("body ~ error", false);
            leave_room(&race, 0);
            race.ends[0].sends([CHUNKED, "1\r\nx\r\n"].concat());
            race.settle();
            race.ends[1].sends(answer(200, "fine"));
            client.takes_reply();
            race.ends[0].sends([&bytes, "0\r\n\r\n"].concat());
            race.wait_for_end();
            let loser = &race.list.snapshot()[0];
            let ends: Vec<_> = loser.stats().ends().filter(|(_, count)| *count > 0).collect();
            assert_eq!(ends, [(expected, 1)]);
        }
    }

    #[test]
    fn short_bodies_and_silent_ones_need_no_room() {
        let (mut race, client) = race("body ~ error", false);
        leave_room(&race, 0);
        race.ends[0].sends(CHUNKED);
        race.ends[1].sends([CHUNKED, "4\r\nfine\r\n0\r\n\r\n"].concat());
        assert_eq!(client.takes_reply(), (200, "fine".to_owned()));
    }

    /// Was seen as: while 150 requests waited behind `: processing` for a model that thought for long, a quick one had its event three
    /// seconds late.
    #[test]
    fn a_short_body_needs_no_room_in_however_many_pieces_it_comes() {
        for (win_on_byte, head, pieces) in [
            (false, CHUNKED, ["2\r\nfi\r\n", "2\r\nne\r\n", "0\r\n\r\n"]),
            (true, STREAM, [": a\n", ": b\n", "data: c\n"]),
        ] {
            let (mut race, client) = race(if win_on_byte { "" } else { "body ~ error" }, win_on_byte);
            leave_room(&race, 0);
            race.ends[0].sends(head);
            for piece in pieces {
                race.settle();
                assert!(client.waits(), "{piece}");
                race.ends[0].sends(piece);
            }
            assert_eq!(client.receives().reply.status, 200);
        }
    }

    /// One backend that has 300 ms.
    fn race_of_one(rules: &str, room: usize) -> (Scenario, Client) {
        let lose_if = if rules.is_empty() { LoseIf::default() } else { LoseIf::parse(rules).expect(rules) };
        let config = Config { lose_if, win_on_byte: true, ..Config::default() };
        let mut race = Scenario::made(&["timeout=300ms"], LINGER, config);
        leave_room(&race, room);
        let client = race.race(get());
        (race, client)
    }

    #[test]
    fn no_byte_within_the_timeout_fails_also_with_rules_and_without_room() {
        let comment = format!("{STREAM}: {}", "x".repeat(6000));
        for (rules, room, bytes) in [
            ("", 1 << 20, CHUNKED),
            ("body ~ error", 1 << 20, CHUNKED),
            ("", 0, &comment),
            ("body ~ error", 0, CHUNKED),
        ] {
            let (mut race, client) = race_of_one(rules, room);
            race.ends[0].sends(bytes);
            let (status, body) = client.takes_reply();
            assert!(status == 502 && body.contains("b1 timeout"), "{rules}: {body}");
            race.wait_for_end();
        }
        let (mut race, client) = race_of_one("body ~ error", 1 << 20);
        race.ends[0].sends([CHUNKED, "4\r\nfine\r\n"].concat());
        assert_eq!(client.takes_reply().0, 200, "what no rule has matched by then wins");
    }

    #[test]
    fn no_verdict_hangs_on_how_a_body_is_cut() {
        for (rule, pieces) in [
            ("error$", ["error", "!"]),
            (r"error\z", ["error", "!"]),
            (r"error\b", ["error", "s"]),
            (r"^\s*$", ["  ", "x"]),
            ("^a[^\u{e9}]", ["a\u{e9}", ""]),
        ] {
            let (mut race, client) = race(&format!("body ~ {rule}"), false);
            let body = pieces.concat();
            let cut = 2.max(pieces[0].len() - usize::from(!body.is_ascii()));
            let (first, second) = body.as_bytes().split_at(cut);
            race.ends[0].sends(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            race.ends[0].sends(first);
            race.settle();
            assert!(client.waits(), "{rule}");
            race.ends[0].sends(second);
            assert_eq!(client.takes_reply(), (200, body), "{rule}");
        }
    }

    #[test]
    fn an_empty_body_is_matched_too() {
        let (mut race, client) = race(r"body ~ ^\s*$", false);
        race.ends[0].sends(answer(200, ""));
        race.settle();
        assert!(client.waits());
        race.ends[1].sends([CHUNKED, "0\r\n\r\n"].concat());
        assert_eq!(client.takes_reply().0, 502);
    }

    #[test]
    fn what_breaks_off_while_it_is_judged_has_failed() {
        let (mut race, client) = race("body ~ error", true);
        race.ends[0].sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        race.ends[0].ends();
        race.ends[1].sends(answer(404, "no"));
        assert_eq!(client.takes_reply(), (404, "no".to_owned()));
        race.wait_for_end();
    }

    #[test]
    fn a_head_alone_decides_where_there_is_no_body() {
        let lose_if = LoseIf::parse("body ~ .").expect("a rule");
        let mut race = Scenario::with(1, LINGER, Config { lose_if, win_on_byte: true, ..Config::default() });
        let client = race.race(request(Method::HEAD, &[], None));
        race.ends[0].sends("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(client.takes_reply().0, 200);
    }

    #[test]
    fn a_client_that_leaves_ends_what_is_judged() {
        let (mut race, client) = race("", true);
        race.ends[0].sends(CHUNKED);
        race.settle();
        client.leaves();
        race.wait_for_end();
        assert_eq!((race.legs(), race.context_bytes()), ((2, 2), 0));
    }

    /// Was seen as: a backend that had begun its answer before it had read all of a long upload was too late with its first byte.
    #[test]
    fn the_time_to_the_first_byte_begins_when_the_request_is_out() {
        let config = Config { win_on_byte: true, ..Config::default() };
        let mut race = Scenario::made(&["timeout=50ms"], LINGER, config);
        let body = vec![b'x'; 70_000];
        let client = race.begin(post(spool(&body, 1)));
        race.ends[0].receives_head();
        race.ends[0].sends(CHUNKED);
        race.outlast(Duration::from_millis(100));
        assert!(client.waits(), "the request isn't out: the disk hasn't given its body");
        race.run_disk();
        race.run_disk();
        race.ends[0].receives(body.len());
        race.ends[0].sends("1\r\nb\r\n0\r\n\r\n");
        let sent = client.receives();
        assert_eq!(sent.reply.status, 200);
        drop(sent);
        race.wait_for_end();
    }

    /// After a success of another class than 2xx no more of the request is sent.
    #[test]
    fn the_time_to_the_first_byte_begins_with_the_head_if_no_more_of_the_request_is_wanted() {
        let success = Statuses::parse("200-299,404").expect("statuses");
        let config = Config { win_on_byte: true, success, ..Config::default() };
        let mut race = Scenario::made(&["timeout=50ms"], LINGER, config);
        let client = race.begin(post(spool(&vec![b'x'; 70_000], 1)));
        race.ends[0].receives_head();
        race.outlast(Duration::from_millis(100));
        race.ends[0].sends(CHUNKED.replace("200 OK", "404 Not Found"));
        race.run_disk();
        race.settle();
        race.ends[0].sends("1\r\nb\r\n0\r\n\r\n");
        assert_eq!(client.takes_reply(), (404, "b".to_owned()));
        race.wait_for_end();
    }
}
