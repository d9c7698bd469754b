//! The client's share of a race: the winner's answer, or both ends of a tunnel, or a refusal with the reasons.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::header::UPGRADE;
use http::{HeaderMap, Method, StatusCode, Version};

use super::exchange::Exchange;
use super::leg::LegState;
use crate::message::headers;
use crate::message::{Delivery, OnDelivered, Outcome, Refusal, Reply, ReplyBody, ReplyTo, RequestId};
use crate::race::{LegResult, Verdict};
use crate::upstream::{Answer, AnswerBody};

impl Exchange {
    /// Joins client and backend, since the winner has switched protocols; the leg ends when they have.
    pub(super) fn join(self: &Arc<Self>, leg: usize, mut answer: Answer, reply_to: Box<dyn ReplyTo>, after: Duration) {
        let Some(upgraded) = answer.upgraded.take() else { return };
        let protocol = answer.headers.get(UPGRADE).cloned();
        let mut headers = self.headers_of(answer.headers, answer.version);
        if let Some(protocol) = protocol {
            headers::put_upgrade(&mut headers, protocol);
        }
        let (exchange, status) = (self.clone(), answer.status);
        let ended = told_once(move |delivery| exchange.delivered(leg, status, &delivery, after));
        let head = Reply { status, headers, body: ReplyBody::Withheld { length: None } };
        reply_to.join(head, Box::new(upgraded), ended);
    }

    /// Answers the client from the winner, whose leg ends when that is done. The rest of its request may go out meanwhile.
    pub(super) fn deliver(
        self: &Arc<Self>,
        leg: usize,
        mut answer: Answer,
        reply_to: Box<dyn ReplyTo>,
        after: Duration,
    ) {
        let upload = answer.upload.take().map(|upload| {
            let stop = upload.stop();
            self.resume(leg, LegState::Uploading(upload, None));
            stop
        });
        let (exchange, status) = (self.clone(), answer.status);
        let delivered = move |delivery| {
            match (upload, &delivery) {
                (Some(upload), Delivery::Whole) => exchange.let_linger(&upload),
                // The request of a client that leaves ends with it.
                (Some(upload), _) => upload.stop(),
                (None, _) => {}
            }
            exchange.delivered(leg, status, &delivery, after);
        };
        send(reply_to, self.reply_of(answer), delivered);
    }

    /// Ends the winner's leg: its reply is with the client, or won't be.
    fn delivered(self: &Arc<Self>, leg: usize, status: StatusCode, delivery: &Delivery, after: Duration) {
        if matches!(delivery, Delivery::Panicked) {
            return self.end(leg, Outcome::Panic, after);
        }
        self.entry.delivered(status, delivery, Instant::now());
        self.end(leg, Outcome::Status(status), after);
    }

    /// Answers the client with the reasons: every leg has lost.
    pub(super) fn answer_loss(self: &Arc<Self>, reply_to: Box<dyn ReplyTo>, results: Vec<LegResult<Outcome>>) {
        let failed = results.iter().enumerate().map(|(leg, result)| {
            let backend = &self.legs[leg].backend;
            (backend.name().to_owned(), backend.address().to_string(), result.outcome.clone())
        });
        let refusal = Refusal::AllFailed(failed.collect());
        let (exchange, mut reply) = (self.clone(), refusal.reply());
        reply.headers.insert(RequestId::FIELD, self.entry.id().value().clone());
        let delivered = move |_| {
            exchange.entry.refused(&refusal, Instant::now());
            exchange.finish(Verdict::Lost, &results);
        };
        send(reply_to, reply, delivered);
    }

    /// The fields of an answer as its client gets them.
    fn headers_of(&self, headers: HeaderMap, version: Version) -> HeaderMap {
        let mut headers = headers::for_client(headers, version, &self.context.via);
        headers.insert(RequestId::FIELD, self.entry.id().value().clone());
        headers
    }

    fn reply_of(&self, answer: Answer) -> Reply {
        let status = answer.status;
        let is_withheld = *self.request.method() == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let body = match answer.body {
            // Dropped: the connection is free before the client can ask again.
            _ if is_withheld => ReplyBody::Withheld { length: answer.length },
            AnswerBody::Whole(body) => ReplyBody::Whole(body),
            AnswerBody::Streamed(body) => ReplyBody::Stream { length: answer.length, source: body },
        };
        Reply { status, headers: self.headers_of(answer.headers, answer.version), body }
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
