//! Work for the sake of a leg's connection once its answer has decided: the rest of its request is sent, the rest of its body
//! read. Nothing of it concerns the client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{EARLY_LOSER_SILENCE_MAX, Exchange, LOSER_BODY_BYTES_MAX};
use super::leg::{Leg, LegState};
use crate::message::Outcome;
use crate::upstream::{AnswerBody, Draining, Upload, UploadStop, Uploaded};

impl Exchange {
    /// Has losers take a long look at their backends, where one is due, or they are probes: they aren't hung up on with the others,
    /// but run to their timeouts, so that a backend which hangs can be told from a slow one.
    pub(super) fn begin_looks(self: &Arc<Self>, losers: &[usize], now: Instant) {
        let is_safe = self.request.method().is_safe();
        let has_looks = self.context.reaper.has_looks(is_safe);
        // As long as the others at least: the request may still be on its way, and should reach the backend whole.
        let mut time = self.context.reaper.linger().after(is_safe);
        let takes = |leg: &&usize| {
            let Leg { backend, look, ticket, .. } = &self.legs[**leg];
            let is_spared = ticket.is_probe() || (has_looks && backend.look().try_take(look, now));
            if is_spared {
                // It has its timeout to reach its backend, again to the head of the answer, and again to be judged by its body.
                let times = if self.context.config.lose_if.looks_at_bodies() { 3 } else { 2 };
                time = time.max(backend.pool().timeout() * times);
            }
            is_spared
        };
        let looks: Vec<usize> = losers.iter().filter(takes).copied().collect();
        if !looks.is_empty() {
            self.race.spare(&looks);
            self.context.reaper.take_looks(&self.race, is_safe, now, time);
        }
    }

    /// Ends a leg's long look, if it has one, since its backend has answered: what is left of the answer lingers like that of any
    /// loser.
    pub(super) fn end_look(&self, leg: usize) {
        if !self.legs[leg].is_spared() {
            return;
        }
        if let Some(winner) = self.race.stop_sparing(leg) {
            self.let_losers_linger(Some(winner), Instant::now());
        }
    }

    /// Lets what is left of a decided race linger. Without a winner only bodies are, of answers to requests that have arrived.
    pub(super) fn let_losers_linger(&self, winner: Option<usize>, now: Instant) {
        let is_safe = winner.is_none() || self.request.method().is_safe();
        if let Some(place) = self.context.reaper.take(&self.race, winner, is_safe, now) {
            let _ = self.losers_place.set(place);
        }
    }

    /// Lets the rest of a request whose answer is over be sent for as long as a loser may linger.
    pub(super) fn let_linger(&self, upload: &Arc<UploadStop>) {
        self.context.reaper.take(upload, None, self.request.method().is_safe(), Instant::now());
    }

    /// Sends the rest of a request to a backend that has answered; then a loser's body is read to its end. Doesn't
    /// block.
    pub(super) fn upload(self: &Arc<Self>, leg: usize, upload: Upload, body: Option<AnswerBody>) {
        match upload.send_more() {
            Uploaded::Yield(mut upload) => {
                let read = upload.file_read(None);
                self.go_on(leg, LegState::Uploading(upload, body), read);
            }
            Uploaded::Blocked(upload, until) => {
                let readiness = upload.readiness(until);
                self.park(leg, LegState::Uploading(upload, body), &readiness);
            }
            Uploaded::Done => self.drain_with(leg, None, || {
                body.and_then(|body| body.drain(LOSER_BODY_BYTES_MAX, EARLY_LOSER_SILENCE_MAX))
            }),
        }
    }

    /// Reads the rest of a loser's body. The reaper hangs up on it, which it can do as long as the race is there. The leg, if it hasn't
    /// ended, ends with what its head says, as it would have won by that: a stream of events has no end that could come. The breaker
    /// alone isn't told of an answer, since a backend may send heads and hang.
    pub(super) fn drain(self: &Arc<Self>, leg: usize, draining: Draining, ends: Option<(Outcome, Duration)>) {
        if draining.is_over() {
            // Its connection first: a reader of the log's line may count on that.
            drop(draining);
            return self.end_late(leg, ends);
        }
        self.drain_with(leg, ends, || draining.read_more());
    }

    /// Reads what has been received of a loser's body, as far as is worth it, and leaves the rest to the poller.
    pub(super) fn drain_with(
        self: &Arc<Self>,
        leg: usize,
        ends: Option<(Outcome, Duration)>,
        drain: impl FnOnce() -> Option<Draining>,
    ) {
        match catch_unwind(AssertUnwindSafe(drain)) {
            Ok(Some(draining)) => {
                let readiness = draining.readiness();
                self.park(leg, LegState::Draining(draining, ends), &readiness);
            }
            Ok(None) => {
                self.note_answer(leg, Instant::now());
                self.end_late(leg, ends);
            }
            Err(_) => self.end_late(leg, ends.map(|(_, after)| (Outcome::Panic, after))),
        }
    }

    /// Ends the leg, if it hasn't ended before.
    fn end_late(self: &Arc<Self>, leg: usize, ends: Option<(Outcome, Duration)>) {
        if let Some((outcome, after)) = ends {
            self.end(leg, outcome, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Client, LINGER, Scenario, answer, get, post, wait_until};
    use super::*;
    use crate::config::Config;
    use crate::race::Linger;
    use crate::runtime::poller::Event;
    use crate::upstream::scenario::{self as upstream, spool};

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

    /// A race that the first of two backends has won.
    fn decided() -> Scenario {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        race
    }

    #[test]
    fn a_loser_frees_its_connection_when_its_body_has_come_to_its_end() {
        let mut race = decided();
        race.ends[1].sends([HEAD, "he"].concat());
        race.ends[1].sends("llo");
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(1)), ((2, 0), 1));
    }

    #[test]
    fn a_loser_whose_body_is_too_long_is_hung_up_on_and_has_answered() {
        let mut race = decided();
        race.ends[1].sends(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LOSER_BODY_BYTES_MAX + 1));
        race.wait_for_end();
        assert_eq!((race.ends[1].receives_to_end(), race.legs()), (Vec::new(), (2, 0)));
        assert!(race.list.snapshot()[1].breaker().last_answer().is_some());
    }

    /// Was seen as: a healthy backend of which each answer was a stream, and each a little later than the winner's, counted as
    /// cancelled for ever, without one success. For the breaker its head alone is no answer: a backend may send heads and hang.
    #[test]
    fn a_loser_that_is_hung_up_on_in_its_body_has_ended_by_its_head_and_the_breaker_knows_of_no_answer() {
        const FAILED: &str = "HTTP/1.1 503 \r\nContent-Length: 5\r\n\r\n";
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (head, end, has_succeeded) in [(HEAD, "late", true), (CHUNKED, "late", true), (FAILED, "5xx", false)] {
            let mut race = decided();
            race.ends[1].sends([head, "2"].concat());
            race.settle();
            race.give_all(Event::Drain);
            race.wait_for_end();
            assert_eq!((race.legs(), race.take_idle(1)), ((2, 0), 0), "{head}");
            let loser = &race.list.snapshot()[1];
            let ends: Vec<_> = loser.stats().ends().filter(|(_, count)| *count > 0).collect();
            assert_eq!((ends, loser.stats().last_success().is_some()), (vec![(end, 1)], has_succeeded), "{head}");
            assert!(loser.breaker().last_answer().is_none(), "{head}");
        }
    }

    /// Was seen as: a backend that hung once, and whose answers were streams from then on, each a little later than the winner's, was
    /// called hung for ever.
    #[test]
    fn a_backend_whose_answer_begins_hangs_no_more_though_no_client_sees_its_end() {
        let mut race = decided();
        let _pending = race.leave_waiting(1, 128, "/");
        let now = Instant::now();
        let is_found = |race: &Scenario| {
            let hung = &race.list.snapshot()[1];
            hung.breaker().note_timeout(now);
            hung.breaker().try_find_hung(128, now)
        };
        assert!(is_found(&race));
        race.ends[1].sends([HEAD, "he"].concat());
        race.settle();
        assert!(!race.list.snapshot()[1].breaker().is_hung());
        race.give_all(Event::Drain);
        race.wait_for_end();
    }

    /// Without long looks each probe of a slower backend would be hung up on before it answers.
    #[test]
    fn no_backend_is_found_to_hang_where_losers_do_not_linger() {
        for (linger, is_hung) in [(LOOKS, true), (Linger { safe: Duration::ZERO, ..LOOKS }, false)] {
            let mut race = Scenario::of(2, linger);
            let _pending = race.leave_waiting(1, 128, "/");
            race.list.snapshot()[1].breaker().note_timeout(Instant::now());
            let client = race.race(get());
            assert_eq!(race.list.snapshot()[1].breaker().is_hung(), is_hung);
            race.ends[0].sends(answer(200, "b1"));
            client.takes_reply();
            race.give_all(Event::Drain);
            race.wait_for_end();
        }
    }

    #[test]
    fn a_loser_before_the_verdict_is_silent_for_a_quarter_second_at_most() {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        race.ends[0].sends("HTTP/1.1 503 \r\nContent-Length: 5\r\n\r\nhe");
        let began = Instant::now();
        assert_eq!(race.ends[0].receives_to_end(), b"");
        assert!(began.elapsed() < EARLY_LOSER_SILENCE_MAX * 20 && client.waits());
    }

    #[test]
    fn when_all_have_lost_no_body_keeps_the_race_from_its_end() {
        let mut race = Scenario::of(2, Linger::NONE);
        let client = race.race(get());
        race.ends[0].sends("HTTP/1.1 503 \r\nContent-Length: 5\r\n\r\nhe");
        race.ends[1].sends(answer(503, "no"));
        assert_eq!(client.takes_reply().0, 502);
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 0));
    }

    /// Losers linger for a moment, and for longer than any test if they have a long look.
    const LOOKS: Linger =
        Linger { safe: Duration::from_millis(1), not_safe: Duration::from_millis(1), look: upstream::LONG };

    #[test]
    fn a_loser_with_the_long_look_runs_on_while_the_others_are_hung_up_on() {
        let mut race = Scenario::of(3, LOOKS);
        race.list.snapshot()[2].look().note_success(Instant::now());
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        assert_eq!(race.ends[2].receives_to_end(), b"", "it has had a success");
        assert!(race.ends[1].is_left_alone());
        race.ends[1].sends(answer(200, "late"));
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(1)), ((3, 1), 1));
    }

    #[test]
    fn a_long_look_that_is_answered_lingers_no_longer_than_others() {
        let mut race = Scenario::of(2, LOOKS);
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        race.ends[1].sends([HEAD, "he"].concat());
        assert_eq!(race.ends[1].receives_to_end(), b"", "its body doesn't come");
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 0), "its head has come");
    }

    /// Was seen as: with `--linger-unsafe 60s` an upload to a slow backend was cut after 10 s, since it had the long look.
    #[test]
    fn a_long_look_ends_no_earlier_than_the_linger_of_the_others() {
        const TIMEOUT: Duration = Duration::from_millis(1);
        let upstream = upstream::Scenario::with(|options| options.timeout = TIMEOUT);
        let linger = Linger { not_safe: upstream::LONG, ..LOOKS };
        let mut race = Scenario::on(upstream, &["", ""], linger, Config::default());
        let client = race.race(post(spool(b"abc", 0)));
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        race.outlast(TIMEOUT * 3);
        assert!(race.ends[1].is_left_alone(), "its request is still on its way");
        race.give_all(Event::Cut);
        assert_eq!(race.ends[1].receives_to_end(), b"");
        race.wait_for_end();
    }

    #[test]
    fn one_leg_at_a_time_has_the_look_and_any_end_gives_it_back() {
        let mut race = Scenario::of(2, LOOKS);
        let pool = race.list.snapshot()[1].pool().clone();
        let decide = |race: &mut Scenario, client: &Client| {
            race.ends[0].receives_head();
            race.ends[0].sends(answer(200, "b1"));
            client.takes_reply();
        };
        let first = race.begin(get());
        race.ends[1].receives_head();
        decide(&mut race, &first);
        let mut other = upstream::idle(&pool);
        let second = race.begin(get());
        other.receives_head();
        decide(&mut race, &second);
        assert_eq!(other.receives_to_end(), b"", "the first has the look");
        // Not an answer, and the end of the leg all the same.
        race.ends[1].ends();
        wait_until("the first race is over", || race.proxy.races() == 0);
        let mut other = upstream::idle(&pool);
        let third = race.begin(get());
        other.receives_head();
        decide(&mut race, &third);
        race.settle();
        assert!(other.is_left_alone() && race.proxy.races() == 1);
        race.give_all(Event::Drain);
        race.wait_for_end();
        assert_eq!(race.legs(), (6, 2));
    }
}
