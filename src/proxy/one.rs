//! Requests that aren't raced (`--race-methods`): one backend gets them, and its answer is the reply, whatever it says. The next
//! one is asked only if it couldn't be reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::classify::AnswerClass;
use super::exchange::Exchange;
use super::leg::Role;
use crate::message::Outcome;
use crate::runtime::few::sorted_few;
use crate::upstream::{Answer, PendingAnswer};

impl Exchange {
    /// All legs but the one that is asked first, in the order in which they would be asked: that of the list, those whose backends
    /// leave too many losers to wait in vain behind it, those that are benched last. None is asked as a breaker's probe: it would
    /// be the request's only leg. Without one the backend comes back all the same: its losers run out, and what hangs is probed by others.
    pub(super) fn all_but_one(&self, now: Instant) -> Vec<usize> {
        let (max, benched) = (self.context.config.max_unanswered.get(), self.benched(now));
        let is_last = |leg: usize| self.legs[leg].backend.breaker().is_last_choice(max, now);
        let mut order = sorted_few(0..self.legs.len(), |leg| (benched.has(*leg), is_last(*leg)));
        for leg in &order[1..] {
            self.legs[*leg].set_role(Role::Later);
        }
        order.split_off(1)
    }

    /// The class of the one answer: if it is no success, it is final.
    pub(super) fn class_of_one(&self, answer: &Answer) -> AnswerClass {
        let (config, via) = (&self.context.config, &self.context.via);
        match self.wanted.class_of(answer, config) {
            AnswerClass::Success | AnswerClass::Fallback => AnswerClass::Success,
            AnswerClass::Final => AnswerClass::Final,
            AnswerClass::Failure => match self.wanted.outcome_of(answer, config, via) {
                Outcome::Status(_) => AnswerClass::Final,
                _ => AnswerClass::Failure,
            },
        }
    }

    /// Notes how far the leg of a request that isn't raced has come.
    pub(super) fn note_progress(&self, pending: &PendingAnswer) {
        if let Some(is_sent) = &self.one
            && pending.is_in_flight()
        {
            is_sent.store(true, Ordering::Relaxed);
        }
    }

    /// Before a leg's end: ends the legs after it, unless the next one may be asked.
    pub(super) fn end_others(self: &Arc<Self>, outcome: &Outcome) {
        if let Some(is_sent) = &self.one
            && (is_sent.load(Ordering::Relaxed) || !outcome.is_unreached())
        {
            for other in self.race.take_unstarted() {
                self.end(other, Outcome::Unneeded, Duration::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use http::Method;

    use crate::config::Config;

    use super::super::scenario::{Client, LINGER, Route, Scenario, answer, get, post, request};
    use crate::message::{Disconnect, OnDelivered, Reply, ReplyTo};
    use crate::upstream::scenario::spool;

    use super::*;

    /// A proxy that races GET alone, and a request of this method at it.
    fn begin(backends: usize, method: &Method) -> (Scenario, Client) {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let race = Scenario::with(backends, LINGER, config);
        let client =
            race.begin(if *method == Method::POST { post(spool(b"", 1)) } else { request(method.clone(), &[], None) });
        (race, client)
    }

    #[test]
    fn one_backend_gets_the_request_and_its_answer_is_the_reply() {
        for (method, status) in
            [(Method::POST, 201), (Method::POST, 503), (Method::DELETE, 404), (Method::PUT, 304), (Method::PATCH, 302)]
        {
            let (mut race, client) = begin(3, &method);
            race.ends[0].receives_head();
            race.ends[0].sends(format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.takes_reply().0, status, "{method}");
            race.wait_for_end();
            assert!(race.ends[1].is_left_alone() && race.ends[2].is_left_alone());
            assert_eq!((race.legs(), race.take_idle(1)), ((1, 0), 1), "the others aren't legs");
        }
    }

    #[test]
    fn what_is_raced_is_raced() {
        let (mut race, client) = begin(2, &Method::GET);
        race.ends.iter_mut().for_each(|end| drop(end.receives_head()));
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(client.takes_reply(), (200, "b2".to_owned()));
        drop(get());
    }

    #[test]
    fn a_backend_that_dies_with_the_request_is_followed_by_no_other() {
        let (mut race, client) = begin(2, &Method::POST);
        race.ends[0].receives_head();
        race.ends[0].sends("HTTP/1.1 2");
        race.ends[0].ends();
        let (status, body) = client.takes_reply();
        assert!(status == 502 && body.contains("b1 closed") && !body.contains("b2"), "{body}");
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone());
    }

    /// No connection of the first idles, and there is no room for another.
    #[test]
    fn a_backend_that_can_not_be_reached_is_followed_by_the_next() {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let mut race = Scenario::with(3, LINGER, config);
        assert_eq!(race.take_idle(0), 1);
        let client = race.begin(post(spool(b"", 1)));
        race.ends[1].receives_head();
        race.ends[1].sends(answer(404, "no"));
        assert_eq!(client.takes_reply(), (404, "no".to_owned()));
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 0));
        assert!(race.ends[2].is_left_alone());
    }

    /// Was seen as: 64 backends that refused took 236 KiB of a worker's 256 KiB of stack.
    #[test]
    fn however_many_backends_can_not_be_reached_the_stack_is_as_deep() {
        struct Deep(Route, Sender<usize>);
        impl ReplyTo for Deep {
            fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered) {
                let here = 0_u8;
                self.1.send(std::ptr::from_ref(&here).addr()).expect("the test listens");
                Box::new(self.0).send(reply, delivered);
            }

            fn disconnect(&self) -> Arc<dyn Disconnect> {
                self.0.disconnect()
            }
        }
        let depth = |backends: usize| {
            let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
            let race = Scenario::with(backends, LINGER, config);
            (0..backends).for_each(|backend| assert_eq!(race.take_idle(backend), 1));
            let ((client, route), (sender, told)) = (Client::new(), channel());
            race.proxy.serve(Box::new(post(spool(b"", 1))), Box::new(Deep(route, sender)));
            assert_eq!(client.takes_reply().0, 503);
            race.wait_for_end();
            assert_eq!(race.legs().0, backends as u64);
            told.recv().expect("it was answered on this thread")
        };
        let [many, few] = [64, 3].map(depth);
        assert_eq!(many, few);
    }

    #[test]
    fn a_backend_that_leaves_requests_unanswered_comes_last() {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let mut race = Scenario::with(2, LINGER, config);
        let _pending = race.leave_unanswered(0, 128);
        let client = race.begin(post(spool(b"", 1)));
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(client.takes_reply(), (200, "b2".to_owned()));
        race.wait_for_end();
        assert!(race.ends[0].is_left_alone());
    }

    /// Was seen as: a second's probe, and the first requests for other paths, went to a hung backend alone and were lost.
    #[test]
    fn no_request_is_a_probe_and_a_backend_is_asked_again_once_its_losers_have_run_out() {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let mut race = Scenario::with(2, LINGER, config);
        let pending = race.leave_waiting(0, 128, "/slow");
        for (asked, other) in [(1, 0), (0, 1)] {
            let client = race.begin(post(spool(b"", 1)));
            race.ends[asked].receives_head();
            race.ends[asked].sends(answer(200, "yes"));
            assert_eq!(client.takes_reply(), (200, "yes".to_owned()));
            race.wait_for_end();
            assert!(race.ends[other].is_left_alone());
            for pending in &pending {
                race.list.snapshot()[0].breaker().remove(pending);
            }
        }
    }

    #[test]
    fn a_client_that_leaves_ends_all() {
        let (mut race, client) = begin(2, &Method::POST);
        race.ends[0].receives_head();
        client.leaves();
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone());
        assert_eq!(race.legs(), (1, 1));
    }

    /// Of a full backend a few paths and a probe a second get through: a request that goes elsewhere takes none of those places.
    #[test]
    fn a_request_takes_no_place_at_a_backend_that_it_does_not_ask() {
        let left = |posts: usize| {
            let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
            let mut race = Scenario::with(2, LINGER, config);
            let _pending = race.leave_waiting(1, 128, "/slow");
            for _ in 0..posts {
                race.is_won_by_first(post(spool(b"", 1)));
            }
            race.take_places(1)
        };
        assert_eq!(left(3), left(0));
    }

    /// Was seen as: slow posts had the hedges of quick reads start late.
    #[test]
    fn a_request_that_is_not_raced_says_nothing_of_how_long_races_take() {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let mut race = Scenario::made(&["", "after=p95"], LINGER, config);
        for (request, expected) in [(post(spool(b"", 1)), 0), (get(), 1)] {
            let client = race.begin(request);
            race.ends[0].receives_head();
            race.ends[0].sends(answer(200, "b1"));
            assert_eq!(client.takes_reply(), (200, "b1".to_owned()));
            race.wait_for_end();
            assert_eq!(race.proxy.first_success().count(), expected);
        }
    }
}
