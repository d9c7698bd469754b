//! The client's share of a race: the winner's answer, or both ends of a tunnel, or a refusal with the reasons.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::exchange::Exchange;
use super::leg::LegState;
use crate::message::headers;
use crate::message::proxy_status::{self, PROXY_STATUS, Victory};
use crate::message::{Delivery, LostLeg, OnDelivered, Outcome, Refusal, Reply, ReplyBody, ReplyTo, RequestId};
use crate::metrics::RaceEnd;
use crate::race::{LegResult, Verdict};
use crate::upstream::{Answer, AnswerBody};

impl Exchange {
    /// Joins client and backend, since the winner has switched protocols; the leg ends when they have.
    pub(super) fn join(
        self: &Arc<Self>,
        leg: usize,
        mut answer: Box<Answer>,
        reply_to: Box<dyn ReplyTo>,
        after: Duration,
    ) {
        let Some(upgraded) = answer.upgraded.take() else { return };
        let protocols = headers::protocols_of(&answer.headers);
        let mut headers = self.headers_of(leg, answer.status, after, answer.headers, answer.version);
        if let Some(protocols) = protocols {
            headers::put_upgrade(&mut headers, protocols);
        }
        let (exchange, status) = (self.clone(), answer.status);
        self.debug_begin(leg, status);
        let ended = told_once(move |delivery| exchange.delivered(leg, status, &delivery, after));
        let head = Reply { status, headers, body: ReplyBody::Withheld { length: None } };
        self.context.replies.count_answer(status);
        reply_to.join(head, Box::new(upgraded), ended);
    }

    /// Answers the client from the winner, whose leg ends when that is done. The rest of its request may go out meanwhile.
    pub(super) fn deliver(
        self: &Arc<Self>,
        leg: usize,
        mut answer: Box<Answer>,
        reply_to: Box<dyn ReplyTo>,
        after: Duration,
    ) {
        let upload = answer.upload.take().map(|upload| {
            let stop = upload.stop();
            self.resume(leg, LegState::Uploading(upload, None));
            stop
        });
        let (exchange, status, length) = (self.clone(), answer.status, answer.length);
        if matches!(answer.body, AnswerBody::Streamed(_)) {
            self.debug_begin(leg, status);
        }
        let delivered = move |delivery| {
            match (upload, &delivery) {
                (Some(upload), Delivery::Whole) => exchange.let_linger(&upload),
                // The request of a client that leaves ends with it.
                (Some(upload), _) => upload.stop(),
                (None, _) => {}
            }
            if is_broken(&delivery, length) {
                exchange.legs[leg].backend.stats().count_broken();
            }
            exchange.delivered(leg, status, &delivery, after);
        };
        self.context.replies.count_answer(status);
        send(reply_to, self.reply_of(leg, answer, after), delivered);
    }

    /// Ends the winner's leg: its reply is with the client, or won't be.
    fn delivered(self: &Arc<Self>, leg: usize, status: StatusCode, delivery: &Delivery, after: Duration) {
        if matches!(delivery, Delivery::Panicked) {
            return self.end(leg, Outcome::Panic, after);
        }
        let now = Instant::now();
        self.entry.delivered(status, delivery, now);
        self.end(leg, Outcome::Status(status), after);
        self.tell_soon(now);
    }

    /// Answers the client with the reasons: every leg has lost.
    pub(super) fn answer_loss(self: &Arc<Self>, reply_to: Box<dyn ReplyTo>, results: Vec<LegResult<Outcome>>) {
        let is_exposed = self.context.config.expose_backends;
        let asked = results.iter().enumerate().filter(|(_, result)| result.outcome != Outcome::Unneeded);
        let lost = asked.map(|(leg, result)| {
            let backend = &self.legs[leg].backend;
            LostLeg {
                name: if is_exposed { backend.full_name() } else { backend.name() }.to_owned(),
                address: is_exposed.then(|| backend.address().to_string()),
                outcome: result.outcome.clone(),
                after: result.after,
            }
        });
        let refusal = Refusal::AllFailed(lost.collect());
        let id = self.entry.id();
        let mut reply = if self.takes_problem { refusal.problem(("id", id.as_str().into())) } else { refusal.reply() };
        reply.headers.insert(PROXY_STATUS, proxy_status::of_refusal(&refusal));
        reply.headers.insert(RequestId::FIELD, id.value().clone());
        self.context.replies.count_refusal(reply.status);
        let exchange = self.clone();
        let delivered = move |_| {
            exchange.entry.refused(&refusal, Instant::now());
            exchange.finish(Verdict::Lost, &results);
        };
        send(reply_to, reply, delivered);
    }

    /// The fields of a winner's answer as its client gets them.
    fn headers_of(
        &self,
        leg: usize,
        status: StatusCode,
        after: Duration,
        headers: HeaderMap,
        version: Version,
    ) -> HeaderMap {
        let upgrade = headers::upgrade_demanded(status, &headers);
        let mut headers = headers::for_client(headers, version, &self.context.via);
        if let Some(protocols) = upgrade {
            headers::put_upgrade(&mut headers, protocols);
        }
        proxy_status::append(&mut headers, self.proxy_status_of(leg, status, after));
        headers.insert(RequestId::FIELD, self.entry.id().value().clone());
        headers
    }

    /// Which backend has won, and how.
    fn proxy_status_of(&self, leg: usize, status: StatusCode, after: Duration) -> HeaderValue {
        let is_exposed = self.context.config.expose_backends;
        let is_success = self.wanted.is_success(&Outcome::Status(status), &self.context.config);
        let end = match self.passed_on.get() {
            _ if is_success => RaceEnd::Won,
            Some(_) => RaceEnd::Best,
            None => RaceEnd::Final,
        };
        proxy_status::of_victory(&Victory {
            next_hop: if is_exposed { self.legs[leg].backend.address().authority() } else { self.name_of(leg) },
            status,
            how: self.how_of(leg, end),
            after: self.passed_on.get().copied().unwrap_or(after),
            // One that comes next counts, too: a quick answer may win while the others are being started.
            legs: self.legs.len() - self.unstarted.load(Ordering::Relaxed),
        })
    }

    fn reply_of(&self, leg: usize, answer: Box<Answer>, after: Duration) -> Reply {
        let status = answer.status;
        let is_withheld = *self.request.method() == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let body = match answer.body {
            // Dropped: the connection is free before the client can ask again.
            _ if is_withheld => ReplyBody::Withheld { length: answer.length },
            AnswerBody::Whole(body) => ReplyBody::Whole(body),
            AnswerBody::Streamed(body) => ReplyBody::Stream { length: answer.length, source: body },
        };
        Reply { status, headers: self.headers_of(leg, status, after, answer.headers, answer.version), body }
    }
}

/// Whether an answer of this length, if that was told, has failed its client midway. One without may be a stream that is silent for longer
/// than `--idle-timeout`, and whose client just asks again.
fn is_broken(delivery: &Delivery, length: Option<u64>) -> bool {
    match delivery {
        Delivery::BodyBroke(error) => length.is_some() || error.kind() != ErrorKind::TimedOut,
        Delivery::GaveUp(_) => true,
        _ => false,
    }
}

/// Sends a reply. A panic in that is caught, so that the caller can go on with the other legs.
fn send(reply_to: Box<dyn ReplyTo>, reply: Reply, delivered: impl FnOnce(Delivery) + Send + 'static) {
    let _ = catch_unwind(AssertUnwindSafe(|| reply_to.send(reply, told_once(delivered))));
}

/// Has `delivered` run once in any case, also if the delivery is dropped: else the race would never be over.
fn told_once(delivered: impl FnOnce(Delivery) + Send + 'static) -> OnDelivered {
    let mut told = DeliveryGuard(Some(Box::new(delivered)));
    Box::new(move |delivery| told.tell(delivery))
}

/// Runs its function when it is told, or else when it is dropped.
struct DeliveryGuard(Option<OnDelivered>);

impl DeliveryGuard {
    fn tell(&mut self, delivery: Delivery) {
        if let Some(delivered) = self.0.take() {
            delivered(delivery);
        }
    }
}

impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        self.tell(if thread::panicking() { Delivery::Panicked } else { Delivery::Stopped });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use http::header::UPGRADE;

    use super::super::scenario::{LINGER, Scenario, answer, get, post, read_whole, request, upgrade, wait_until};
    use super::*;
    use crate::race::Linger;
    use crate::upstream::scenario::spool;

    #[test]
    fn a_delivery_is_told_once_also_if_it_is_dropped() {
        let (sender, told) = channel();
        let delivered = || {
            let sender = sender.clone();
            told_once(move |delivery| sender.send(format!("{delivery:?}")).expect("the test listens"))
        };
        delivered()(Delivery::Whole);
        drop(delivered());
        let panicking = delivered();
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _held = panicking;
            std::panic::resume_unwind(Box::new("meant"));
        }));
        assert!(panicked.is_err());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["Whole", "Stopped", "Panicked"]);
    }

    #[test]
    fn a_body_that_the_client_must_not_get_is_withheld_and_its_length_told() {
        let conditional = request(Method::GET, &[("if-none-match", "\"a\"")], None);
        let rows = [
            (request(Method::HEAD, &[], None), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Some(9)),
            (request(Method::HEAD, &[], None), "HTTP/1.1 200 OK\r\n\r\n", None),
            (conditional, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Some(9)),
        ];
        for (request, bytes, expected) in rows {
            let mut race = Scenario::of(1, LINGER);
            let client = race.race(request);
            race.ends[0].sends(bytes);
            let sent = client.receives();
            let ReplyBody::Withheld { length } = sent.reply.body else { panic!("{bytes}") };
            assert_eq!((length, race.take_idle(0)), (expected, 1), "{bytes}: its connection is free already");
        }
    }

    #[test]
    fn a_body_that_is_still_coming_is_streamed_and_its_connection_put_back_at_its_end() {
        let mut race = Scenario::of(1, LINGER);
        let client = race.race(get());
        race.ends[0].sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        let sent = client.receives();
        let ReplyBody::Stream { length: Some(5), source } = sent.reply.body else { panic!("a stream") };
        race.ends[0].sends("llo");
        let body = read_whole(source);
        assert_eq!((body, race.take_idle(0)), (b"hello".to_vec(), 1));
        assert_eq!(race.proxy.races(), 1, "the winner ends when the reply is delivered");
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
    }

    /// Was seen as: "All is well" and "0 lost" on the status page while every client was cut off, since the backend that won all races
    /// sent heads and no bodies.
    #[test]
    fn an_answer_whose_body_breaks_off_counts_for_its_backend_and_an_end_of_its_client_or_of_a_tunnel_does_not() {
        let silent = || Delivery::BodyBroke(ErrorKind::TimedOut.into());
        let broke = || Delivery::BodyBroke(ErrorKind::UnexpectedEof.into());
        let gone = || Delivery::ClientGone(ErrorKind::BrokenPipe.into());
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
        let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n";
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        let rows = [
            (get(), half, silent(), 1),
            (get(), half, broke(), 1),
            // Was seen as: an alarm of every backend with event streams, which are silent for longer than `--idle-timeout`.
            (get(), stream, silent(), 0),
            (get(), stream, broke(), 1),
            (get(), half, Delivery::GaveUp(Duration::from_secs(1)), 1),
            (get(), half, gone(), 0),
            (get(), half, Delivery::Stopped, 0),
            (upgrade(), switch, broke(), 0),
        ];
        for (request, bytes, delivery, expected) in rows {
            let mut race = Scenario::of(1, LINGER);
            let client = race.race(request);
            race.ends[0].sends(bytes);
            let (sent, label) = (client.receives(), format!("{bytes} {delivery:?}"));
            (sent.delivered)(delivery);
            assert_eq!(race.list.snapshot()[0].stats().broken(), expected, "{label}");
        }
    }

    #[test]
    fn a_switch_joins_the_client_with_its_backend_and_says_to_what() {
        let mut race = Scenario::of(1, LINGER);
        let client = race.race(upgrade());
        let fields = "Connection: upgrade\r\nUpgrade: ,\r\nUpgrade: x\r\n";
        race.ends[0].sends(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"));
        let sent = client.receives();
        assert_eq!(sent.reply.headers.get_all(UPGRADE).iter().collect::<Vec<_>>(), ["x"]);
        let mut tunnel = sent.tunnel.expect("a tunnel");
        tunnel.write_all(b"hello").expect("room");
        assert_eq!(race.ends[0].receives(5), b"hello");
        drop(tunnel);
        (sent.delivered)(Delivery::Whole);
        race.wait_for_end();
    }

    #[test]
    fn a_reply_that_is_dropped_ends_the_winner() {
        let mut race = Scenario::of(2, Linger::NONE);
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        drop(client.receives());
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 1));
    }

    /// A winner whose request isn't out yet: the client may have all of its answer, or leave.
    #[test]
    fn the_rest_of_a_request_goes_on_after_its_answer_unless_the_client_leaves() {
        for (delivery, is_sent) in
            [(Delivery::Whole, true), (Delivery::ClientGone(ErrorKind::BrokenPipe.into()), false)]
        {
            let mut race = Scenario::of(1, LINGER);
            let client = race.race(post(spool(b"abc", 0)));
            race.ends[0].sends(answer(200, "early"));
            let sent = client.receives();
            let ReplyBody::Stream { mut source, .. } = sent.reply.body else { panic!("a stream") };
            std::io::copy(&mut source, &mut std::io::sink()).expect("the whole body");
            drop(source);
            (sent.delivered)(delivery);
            race.run_disk();
            race.wait_for_end();
            if is_sent {
                assert_eq!((race.ends[0].receives(3), race.take_idle(0)), (b"abc".to_vec(), 1));
            } else {
                assert_eq!((race.ends[0].receives_to_end(), race.take_idle(0)), (Vec::new(), 0));
            }
        }
    }

    #[test]
    fn a_client_that_can_not_be_sent_a_reply_keeps_no_leg_from_its_end() {
        struct Panics(crate::proxy::scenario::Route);
        impl ReplyTo for Panics {
            fn send(self: Box<Self>, _: Reply, _: OnDelivered) {
                std::panic::resume_unwind(Box::new("meant"));
            }

            fn disconnect(&self) -> Arc<dyn crate::message::Disconnect> {
                self.0.disconnect()
            }
        }
        let mut race = Scenario::of(2, Linger::NONE);
        let (_client, route) = crate::proxy::scenario::Client::new();
        race.proxy.serve(Box::new(get()), Box::new(Panics(route)));
        race.ends.iter_mut().for_each(|end| drop(end.receives_head()));
        race.ends[0].sends(answer(200, "b1"));
        wait_until("both legs have ended", || race.legs() == (2, 1));
    }
}
