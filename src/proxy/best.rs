//! The failure that says most, for a client that gets it when no leg succeeds. One answer is kept, its body unread, so that
//! its connection stays busy and the body streams whole; a better one takes its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classify::RANK_ABOUT_REQUEST;
use super::context::Bounded;
use super::exchange::Exchange;
use crate::config::OnFailure;
use crate::race::{Kept, Verdict};
use crate::upstream::{Answer, Prospect};

impl Exchange {
    /// Ends a leg with an answer that is no success, or keeps it for the client. Doesn't block.
    pub(super) fn fail(self: &Arc<Self>, leg: usize, answer: Box<Answer>, after: Duration) {
        let Some(rank) = self.wanted.rank_of(&answer, &self.context.config, &self.context.via) else {
            return self.lose_answer(leg, answer, after);
        };
        self.release_broken();
        // Before the race knows of it: another leg may decide at once.
        self.legs[leg].hold(answer, after);
        match self.race.keep(leg, rank) {
            Kept::Yes { instead_of } => {
                self.bound(rank);
                if let Some(other) = instead_of {
                    self.lose_all(&[other]);
                }
                self.defer_benched();
                self.act_on(self.race.next());
            }
            Kept::No => self.lose_all(&[leg]),
        }
    }

    /// Ends the leg that is kept, if its answer has broken off: another that says less is better then, and what it has begun to
    /// wait for counts no more.
    fn release_broken(self: &Arc<Self>) {
        let Some(best) = self.race.best() else { return };
        if let Some(Prospect::Broken(outcome)) = self.legs[best].prospect()
            && self.race.try_release(best)
        {
            self.wait_no_more();
            drop(self.legs[best].take_candidate());
            self.end(best, outcome, self.elapsed());
        }
    }

    /// Bounds the wait from the first answer about the request itself on.
    fn bound(self: &Arc<Self>, rank: u8) {
        if let OnFailure::Best { within: Some(bound) } = self.context.config.on_failure
            && rank >= RANK_ABOUT_REQUEST
        {
            let until = Instant::now() + bound;
            self.waits_until
                .lock()
                .get_or_insert_with(|| (until, self.context.patience.add(Arc::<Exchange>::downgrade(self), until)));
        }
    }

    /// Passes on the answer of a leg, which holds it and is in no other hands, unless it has broken off.
    pub(super) fn pass_on_kept(self: &Arc<Self>, leg: usize) {
        let Some((mut answer, after)) = self.legs[leg].take_candidate() else { return };
        if let Prospect::Broken(outcome) = answer.body.settle() {
            drop(answer);
            return self.end(leg, outcome, self.elapsed());
        }
        self.pass_on(leg, answer, after, Verdict::Best);
    }

    /// Ends the wait for better answers, if there is one.
    pub(super) fn wait_no_more(&self) {
        let is_bounded = matches!(self.context.config.on_failure, OnFailure::Best { within: Some(_) });
        if is_bounded && let Some((_, place)) = self.waits_until.lock().take() {
            self.context.patience.withdraw(place);
        }
    }
}

impl Bounded for Exchange {
    fn stop_waiting(self: Arc<Self>, now: Instant) {
        // Else what has begun that wait has broken off.
        let is_due = self.waits_until.lock().take_if(|(until, _)| *until <= now).is_some();
        if is_due && let Some(leg) = self.race.stop_waiting(RANK_ABOUT_REQUEST) {
            self.pass_on_kept(leg);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::{HeaderValue, Method};

    use super::super::scenario::{Client, LINGER, Scenario, Sent, answer, get, read_whole, request, wait_until};
    use super::*;
    use crate::config::Config;
    use crate::config::OnFailure;
    use crate::message::{Delivery, ReplyBody};
    use crate::race::Linger;
    use crate::upstream::scenario::LONG;

    const CHUNKED: &str = "HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    const HALF: &str = "HTTP/1.1 404 \r\nContent-Length: 5\r\n\r\nhe";

    fn race_within(backends: usize, within: Option<Duration>, linger: Linger) -> (Scenario, Client) {
        let config = Config { on_failure: OnFailure::Best { within }, ..Config::default() };
        let mut race = Scenario::with(backends, linger, config);
        let client = race.race(get());
        (race, client)
    }

    fn race(backends: usize) -> (Scenario, Client) {
        race_within(backends, None, LINGER)
    }

    fn details(sent: &Sent) -> String {
        let value = sent.reply.headers.get("proxy-status").expect("a status").to_str().expect("ASCII");
        value.split("details=").nth(1).expect("details").split(' ').next().expect("a word").to_owned()
    }

    #[test]
    fn a_426_says_to_what_its_client_shall_switch() {
        let (mut race, client) = race(1);
        race.ends[0].sends("HTTP/1.1 426 \r\nConnection: upgrade\r\nUpgrade: h2c, foo\r\nContent-Length: 0\r\n\r\n");
        let sent = client.receives();
        let fields = ["connection", "upgrade"].map(|name| &sent.reply.headers[name]);
        assert_eq!(
            (sent.reply.status.as_u16(), fields),
            (426, ["upgrade", "foo"].map(HeaderValue::from_static).each_ref())
        );
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
    }

    #[test]
    fn of_failures_the_client_gets_the_one_that_says_most_and_of_equals_the_first() {
        let rows: [(&str, &[u16], u16); 9] = [
            ("a 4xx before a 5xx", &[503, 404], 404),
            ("a 4xx before a 3xx", &[302, 404, 500], 404),
            ("a 3xx before a 5xx", &[500, 302], 302),
            ("any other 4xx before a 429", &[429, 400], 400),
            ("a 429 before a 3xx and a 5xx", &[503, 302, 429], 429),
            ("the first of two", &[404, 410], 404),
            ("the first of two, the other way round", &[410, 404], 410),
            ("a 5xx before none", &[503], 503),
            ("a 304 that wasn't asked for", &[304, 500], 500),
        ];
        for (label, statuses, expected) in rows {
            let (mut race, client) = race(statuses.len());
            for (at, status) in statuses.iter().enumerate() {
                race.ends[at].sends(answer(*status, if *status == 304 { "" } else { "body" }));
                race.settle();
            }
            let sent = client.receives();
            assert_eq!(sent.reply.status.as_u16(), expected, "{label}");
            assert_eq!(details(&sent), "\"best", "{label}");
            (sent.delivered)(Delivery::Whole);
            race.wait_for_end();
            assert_eq!(race.legs(), (statuses.len() as u64, 0), "{label}");
        }
    }

    #[test]
    fn an_answer_that_is_no_success_by_the_rules_says_most() {
        let success = crate::config::Statuses::NONE;
        let config = Config { success, on_failure: OnFailure::Best { within: None }, ..Config::default() };
        let mut race = Scenario::with(2, LINGER, config);
        let client = race.race(get());
        race.ends[0].sends(answer(404, "no"));
        race.settle();
        race.ends[1].sends(answer(200, "yes"));
        assert_eq!(client.takes_reply(), (200, "yes".to_owned()));
        race.wait_for_end();
    }

    #[test]
    fn what_is_kept_streams_whole_on_a_connection_that_stays_busy() {
        let (mut race, client) = race(2);
        race.ends[0].sends(HALF);
        race.settle();
        assert_eq!(race.take_idle(0), 0);
        race.ends[1].sends(answer(503, "no"));
        let sent = client.receives();
        let ReplyBody::Stream { length: Some(5), source } = sent.reply.body else { panic!("a stream") };
        race.ends[0].sends("llo");
        let body = read_whole(source);
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
        assert_eq!((body, race.take_idle(0), race.take_idle(1)), (b"hello".to_vec(), 1, 1));
    }

    #[test]
    fn a_better_one_takes_the_place_of_what_is_kept_whose_connection_is_free_then() {
        let (mut race, client) = race(3);
        race.ends[0].sends("HTTP/1.1 503 \r\nContent-Length: 5\r\n\r\nhe");
        race.settle();
        race.ends[1].sends(HALF);
        race.settle();
        race.ends[0].sends("llo");
        wait_until("the first is drained", || race.take_idle(0) == 1);
        race.ends[2].ends();
        let sent = client.receives();
        assert_eq!(sent.reply.status, 404);
        drop(sent);
        race.wait_for_end();
    }

    #[test]
    fn a_success_beats_what_is_kept_which_is_drained() {
        let (mut race, client) = race(2);
        race.ends[0].sends(HALF);
        race.settle();
        race.ends[1].sends(answer(200, "yes"));
        assert_eq!(client.takes_reply(), (200, "yes".to_owned()));
        race.ends[0].sends("llo");
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(0)), ((2, 0), 1));
    }

    /// How the client is answered if the first backend sends this 404, ends its side, and the others answer with a 503 or nothing.
    fn answered(kept: &str, other: Option<&str>) -> u16 {
        let (mut race, client) = race(2);
        race.ends[0].sends(kept);
        race.settle();
        race.ends[0].ends();
        race.settle();
        match other {
            Some(other) => race.ends[1].sends(other),
            None => race.ends[1].ends(),
        }
        let sent = client.receives();
        if let ReplyBody::Stream { mut source, .. } = sent.reply.body {
            assert!(source.read_to_end(&mut Vec::new()).is_ok(), "no cut body");
        }
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
        sent.reply.status.as_u16()
    }

    #[test]
    fn what_has_broken_off_meanwhile_never_reaches_the_client() {
        let busy = answer(503, "busy");
        let whole_in_chunks = [CHUNKED, "0\r\n\r\n"].concat();
        let rows = [
            ("half a body, and another answer", HALF, Some(&*busy), 503),
            ("half a body alone", HALF, None, 502),
            ("chunks without their end, and another answer", CHUNKED, Some(&*busy), 502),
            ("chunks without their end", CHUNKED, None, 502),
            ("all chunks", &whole_in_chunks, None, 404),
            ("a body until the end", "HTTP/1.1 404 \r\n\r\nnone", None, 404),
            ("a whole body", "HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\nno", Some(&*busy), 404),
        ];
        for (label, kept, other, expected) in rows {
            assert_eq!(answered(kept, other), expected, "{label}");
        }
    }

    #[test]
    fn a_client_that_leaves_takes_along_what_is_kept() {
        let (mut race, client) = race(2);
        race.ends[0].sends(HALF);
        race.settle();
        client.leaves();
        race.wait_for_end();
        assert_eq!((race.legs(), race.ends[0].receives_to_end()), ((2, 2), Vec::new()));
    }

    #[test]
    fn a_bound_runs_from_the_first_answer_about_the_request() {
        let linger = Linger { safe: Duration::ZERO, ..LINGER };
        let (mut race, client) = race_within(3, Some(Duration::from_millis(20)), linger);
        race.ends[0].sends(answer(503, "busy"));
        race.settle();
        let began = Instant::now();
        race.ends[1].sends(answer(404, "none"));
        let sent = client.receives();
        assert!(began.elapsed() >= Duration::from_millis(20) && details(&sent) == "\"best");
        assert_eq!(sent.reply.status, 404);
        assert_eq!(race.ends[2].receives_to_end(), b"", "the one that hangs is hung up on");
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
        assert_eq!(race.legs(), (3, 1));
    }

    /// The last tier fails as well, or succeeds.
    #[test]
    fn what_is_kept_waits_for_every_tier_which_a_failure_starts() {
        for (last, expected) in [(404, 410), (200, 200)] {
            let config = Config { on_failure: OnFailure::Best { within: None }, ..Config::default() };
            let mut race = Scenario::made(&["", "after=23h", "after=24h"], LINGER, config);
            let client = race.begin(get());
            for (at, status) in [410, 503, last].into_iter().enumerate() {
                race.ends[at].receives_head();
                race.settle();
                assert!(client.waits(), "{at}");
                race.ends[at].sends(answer(status, "body"));
            }
            let sent = client.receives();
            let how = if last == 200 { "\"failover" } else { "\"best" };
            assert_eq!((sent.reply.status.as_u16(), details(&sent).as_str()), (expected, how));
            (sent.delivered)(Delivery::Whole);
            race.wait_for_end();
            assert_eq!(race.legs(), (3, 0));
        }
    }

    #[test]
    fn what_its_bound_passes_on_starts_no_tier() {
        let config =
            Config { on_failure: OnFailure::Best { within: Some(Duration::from_millis(5)) }, ..Config::default() };
        let mut race = Scenario::made(&["", "", "after=24h"], Linger::NONE, config);
        let client = race.begin(get());
        race.ends[1].receives_head();
        race.ends[0].sends(answer(404, "none"));
        assert_eq!(client.takes_reply(), (404, "none".to_owned()));
        race.wait_for_end();
        assert!(race.ends[2].is_left_alone() && race.legs() == (2, 1) && race.starts() == 0);
    }

    /// Was seen as: with `best..500ms` a provider that was over its limit cut short a slower one that answered.
    #[test]
    fn an_answer_about_its_backend_alone_waits_for_all_others() {
        for status in [503, 429] {
            let (mut race, client) = race_within(2, Some(Duration::from_millis(1)), LINGER);
            race.ends[0].sends(answer(status, "busy"));
            race.settle();
            race.outlast(Duration::from_millis(1));
            assert!(client.waits(), "{status}");
            race.ends[1].sends(answer(200, "yes"));
            assert_eq!(client.takes_reply(), (200, "yes".to_owned()));
            race.wait_for_end();
        }
    }

    /// Was seen as: a 404 that broke off had the next 503 passed on at once, though a third backend was about to succeed.
    #[test]
    fn what_has_broken_off_bounds_no_wait() {
        for (last, expected) in [(answer(200, "yes"), 200), (answer(503, "busy"), 503)] {
            let bound = Duration::from_millis(200);
            let (mut race, client) = race_within(3, Some(bound), Linger::NONE);
            race.ends[0].sends(HALF);
            race.settle();
            race.ends[0].ends();
            race.settle();
            race.ends[1].sends(answer(503, "busy"));
            race.settle();
            race.outlast(bound);
            assert!(client.waits(), "a 503 alone waits for all others");
            race.ends[2].sends(last);
            assert_eq!(client.takes_reply().0, expected);
            race.wait_for_end();
        }
    }

    #[test]
    fn a_bound_runs_anew_from_the_next_answer_where_the_first_has_broken_off() {
        let bound = Duration::from_millis(300);
        let (mut race, client) = race_within(3, Some(bound), Linger::NONE);
        race.ends[0].sends(HALF);
        race.settle();
        race.ends[0].ends();
        race.settle();
        race.outlast(bound / 2);
        let began = Instant::now();
        race.ends[1].sends(answer(404, "none"));
        assert_eq!(client.takes_reply(), (404, "none".to_owned()));
        assert!(began.elapsed() >= bound, "{:?}", began.elapsed());
        race.wait_for_end();
    }

    #[test]
    fn what_breaks_off_as_its_bound_ends_leaves_the_others_to_go_on() {
        let bound = Duration::from_millis(20);
        let (mut race, client) = race_within(2, Some(bound), Linger::NONE);
        race.ends[0].sends(HALF);
        race.ends[0].ends();
        race.outlast(bound);
        assert!(client.waits());
        race.ends[1].sends(answer(503, "busy"));
        assert_eq!(client.takes_reply().0, 503);
        race.wait_for_end();
    }

    #[test]
    fn a_list_of_one_is_as_if_there_were_no_proxy() {
        for (method, status) in [(Method::GET, 404), (Method::HEAD, 405), (Method::POST, 500), (Method::GET, 302)] {
            let config = Config { on_failure: OnFailure::Best { within: Some(LONG) }, ..Config::default() };
            let mut race = Scenario::with(1, LINGER, config);
            let client = race.race(request(method, &[], None));
            race.ends[0].sends(format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.takes_reply().0, status);
            race.wait_for_end();
        }
    }
}
