//! Answers that would do if nothing better came: to a request that asks for an upgrade, any success but the switch itself. They
//! wait without a thread, bodies unread, while a leg may still do better.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::Exchange;
use crate::message::Outcome;
use crate::race::Verdict;
use crate::upstream::{Answer, Prospect};

impl Exchange {
    /// Holds the answer until the race says what becomes of it. Doesn't block.
    pub(super) fn hold(self: &Arc<Self>, leg: usize, answer: Box<Answer>, after: Duration) {
        // Before the race knows of it: another leg may decide at once.
        self.legs[leg].hold(answer, after);
        self.defer_benched();
        match self.race.hold(leg) {
            Some(next) => self.act_on(next),
            None => self.lose_all(&[leg]),
        }
    }

    /// Chooses a winner, since no leg can do better any more: the first whose connection is alive, or else the first of which
    /// enough may have been received before the end.
    pub(super) fn choose(self: &Arc<Self>, legs: &[usize]) {
        let mut best: Option<(usize, Box<Answer>, Duration, Prospect)> = None;
        for &leg in legs {
            let Some((mut answer, after)) = self.legs[leg].take_candidate() else { continue };
            let mut prospect = answer.body.prospect();
            if prospect == Prospect::Ended
                && let broken @ Prospect::Broken(_) = answer.body.settle()
            {
                prospect = broken;
            }
            if let Prospect::Broken(outcome) = prospect {
                self.end(leg, outcome, self.elapsed());
                continue;
            }
            let is_better =
                best.as_ref().is_none_or(|(.., of_best)| *of_best == Prospect::Ended && prospect == Prospect::Alive);
            let candidate = (leg, answer, after, prospect);
            let loser = if is_better { best.replace(candidate) } else { Some(candidate) };
            if let Some((leg, answer, after, _)) = loser {
                self.lose_answer(leg, answer, after);
            }
        }
        if let Some((leg, answer, after, _)) = best {
            self.pass_on(leg, answer, after, Verdict::Won);
        }
    }

    /// Passes on an answer that has waited, unless another leg has decided the race.
    pub(super) fn pass_on(
        self: &Arc<Self>,
        leg: usize,
        answer: Box<Answer>,
        after: Duration,
        verdict: fn(usize) -> Verdict,
    ) {
        let Some(won) = self.race.claim(leg, verdict) else { return self.lose_answer(leg, answer, after) };
        let _ = self.passed_on.set(self.elapsed());
        self.win(leg, answer, won, after);
    }

    /// Ends legs that have lost to a better answer, and frees their connections.
    pub(super) fn lose_all(self: &Arc<Self>, legs: &[usize]) {
        for &leg in legs {
            if let Some((answer, after)) = self.legs[leg].take_candidate() {
                self.lose_answer(leg, answer, after);
            }
        }
    }

    /// Ends legs whose client has left.
    pub(super) fn cancel_all(self: &Arc<Self>, legs: &[usize]) {
        for &leg in legs {
            drop(self.legs[leg].take_candidate());
            self.end(leg, Outcome::Cancelled, self.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::super::scenario::{Client, LINGER, Scenario, answer, upgrade, wait_until};
    use crate::message::{Delivery, ReplyBody};

    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\n";

    fn race(backends: usize) -> (Scenario, Client) {
        let mut race = Scenario::of(backends, LINGER);
        let client = race.race(upgrade());
        (race, client)
    }

    #[test]
    fn an_ordinary_success_waits_for_a_switch_and_loses_to_it() {
        let (mut race, client) = race(2);
        race.ends[0].sends(answer(200, "b1"));
        wait_until("it has been received", || race.take_idle(0) == 1);
        assert!(client.waits());
        race.ends[1].sends(SWITCH);
        let sent = client.receives();
        assert!(sent.reply.status == 101 && sent.tunnel.is_some());
        drop(sent.tunnel);
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 0));
    }

    #[test]
    fn an_ordinary_success_wins_when_no_leg_can_switch_any_more() {
        let (mut race, client) = race(2);
        race.ends[0].sends(answer(200, "b1"));
        wait_until("it has been received", || race.take_idle(0) == 1);
        race.ends[1].sends(answer(503, "no"));
        assert_eq!(client.takes_reply(), (200, "b1".to_owned()));
        race.wait_for_end();
    }

    /// Was seen as: the client waited for two seconds, and every place told of 0.8 ms, when the head had come.
    #[test]
    fn the_time_of_one_that_waited_is_that_of_its_choice() {
        let (mut race, client) = race(2);
        race.ends[0].sends(answer(200, "b1"));
        wait_until("it has been received", || race.take_idle(0) == 1);
        let waited = Duration::from_millis(30);
        race.outlast(waited);
        race.ends[1].sends(answer(503, "no"));
        let sent = client.receives();
        let told = sent.reply.headers["proxy-status"].to_str().expect("ASCII").to_owned();
        let millis = told.split("won ").nth(1).and_then(|rest| rest.split("ms").next()).expect("a victory");
        assert!(millis.parse::<f64>().is_ok_and(|millis| millis >= 30.0), "{told}");
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
        assert!(race.proxy.recent().last(1)[0].after >= waited);
        assert_eq!(race.proxy.stats().durations().snapshot().count_within(waited / 2), 0);
    }

    /// The first bytes of the body that the client is sent when `b1` and `b2` have been received, in this order, and no leg is left.
    fn chosen(first_ends: bool) -> String {
        let (mut race, client) = race(3);
        race.ends[0].sends([UNTIL_CLOSE, "b1"].concat());
        if first_ends {
            race.ends[0].ends();
        }
        race.settle();
        race.ends[1].sends([UNTIL_CLOSE, "b2"].concat());
        race.settle();
        race.ends[2].sends(answer(503, "no"));
        let sent = client.receives();
        let ReplyBody::Stream { mut source, .. } = sent.reply.body else { panic!("a stream") };
        let mut begin = [0; 2];
        source.read_exact(&mut begin).expect("what has been received");
        (sent.delivered)(Delivery::Whole);
        String::from_utf8_lossy(&begin).into_owned()
    }

    #[test]
    fn of_two_the_first_wins_whose_connection_is_alive() {
        assert_eq!(chosen(false), "b1");
        assert_eq!(chosen(true), "b2");
    }

    #[test]
    fn one_whose_body_has_broken_off_is_no_success() {
        for framing in ["Content-Length: 5\r\n\r\nhe", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
            let (mut race, client) = race(2);
            race.ends[0].sends(["HTTP/1.1 200 OK\r\n", framing].concat());
            race.ends[0].ends();
            race.settle();
            race.ends[1].sends(answer(503, "no"));
            let (status, body) = client.takes_reply();
            assert!(status == 502 && body.contains("closed"), "{framing}: {body}");
            race.wait_for_end();
        }
    }

    #[test]
    fn one_whose_client_leaves_is_cancelled() {
        let (mut race, client) = race(2);
        race.ends[0].sends([UNTIL_CLOSE, "b1"].concat());
        race.settle();
        client.leaves();
        race.wait_for_end();
        assert_eq!((race.legs(), race.ends[0].receives_to_end()), ((2, 2), Vec::new()));
    }
}
