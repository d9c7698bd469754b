//! What the client gets of a race: the winner's answer, or both ends of a tunnel, or a refusal with the reasons.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::UPGRADE;
use http::{Method, StatusCode};

use super::exchange::{Exchange, Thread};
use crate::message::headers;
use crate::message::{Delivery, Outcome, Refusal, Reply, ReplyBody, ReplyTo, Rest, TunnelCare};
use crate::race::{LegResult, Place, Verdict};
use crate::upstream::Answer;

impl Exchange {
    /// The winner has switched protocols: client and backend are joined, and the leg ends when they have.
    pub(super) fn join(self: &Arc<Self>, leg: usize, mut answer: Answer, reply_to: Box<dyn ReplyTo>, after: Duration) {
        let Some(switched) = answer.switched.take() else { return };
        let protocol = answer.headers.get(UPGRADE).cloned();
        let mut headers = headers::for_client(answer.headers, answer.version, &self.proxy.via);
        if let Some(protocol) = protocol {
            headers::put_upgrade(&mut headers, protocol);
        }
        let (exchange, legs, status) = (self.clone(), self.proxy.legs.clone(), answer.status);
        let care = TunnelCare {
            run: Box::new(move |work| legs.resume(Box::new(move |_| work()))),
            ended: Box::new(move |delivery| {
                exchange.record.answered(status, &delivery, Instant::now());
                exchange.end(leg, Outcome::Status(status), after);
            }),
        };
        let head = Reply { status, headers, body: ReplyBody::Withheld { length: None } };
        reply_to.join(head, Box::new(switched), care);
    }

    /// The winner answers the client, and ends when that is done. The rest of its request may go out meanwhile.
    pub(super) fn deliver(
        self: &Arc<Self>,
        leg: usize,
        mut answer: Answer,
        reply_to: Box<dyn ReplyTo>,
        after: Duration,
        thread: Thread,
    ) {
        let upload = answer.upload.take().map(|upload| {
            let stop = upload.stop();
            self.upload(upload, |_| ());
            stop
        });
        let status = answer.status;
        let exchange = self.clone();
        let deliver = move || match thread {
            Thread::Own => Ok(reply_to.reply(exchange.reply_of(answer))),
            Thread::Pollers => reply_to.begin(exchange.reply_of(answer)),
        };
        let exchange = self.clone();
        self.when_delivered(deliver, move |delivery| {
            match (upload, &delivery) {
                (Some(upload), Some(Delivery::Whole)) => exchange.let_linger(&upload),
                // A client that leaves takes what it has sent along.
                (Some(upload), _) => upload.stop(),
                (None, _) => {}
            }
            let Some(delivery) = delivery else { return exchange.end(leg, Outcome::Panic, after) };
            exchange.record.answered(status, &delivery, Instant::now());
            exchange.end(leg, Outcome::Status(status), after);
        });
    }

    /// Every leg has lost.
    pub(super) fn answer_loss(self: &Arc<Self>, reply_to: Box<dyn ReplyTo>, results: Vec<LegResult<Outcome>>) {
        let failed = results.iter().enumerate().map(|(leg, result)| {
            (format!("b{}", leg + 1), self.backends[leg].address().to_string(), result.outcome.clone())
        });
        let refusal = Refusal::AllFailed(failed.collect());
        let reply = refusal.reply();
        let exchange = self.clone();
        self.when_delivered(
            || reply_to.begin(reply),
            move |_| {
                exchange.record.refused(&refusal, Instant::now());
                exchange.finish(Verdict::Lost, &results);
            },
        );
    }

    /// Says what became of a reply, which may be known at once, or only after its rest has had a thread to wait on. `None`: it
    /// panicked.
    fn when_delivered(
        &self,
        deliver: impl FnOnce() -> Result<Delivery, Rest>,
        delivered: impl FnOnce(Option<Delivery>) + Send + 'static,
    ) {
        match catch_unwind(AssertUnwindSafe(deliver)) {
            Err(_) => delivered(None),
            Ok(Ok(delivery)) => delivered(Some(delivery)),
            Ok(Err(rest)) => self.proxy.legs.resume(Box::new(move |place| {
                // Without a thread to wait on it is dropped, which cuts the client off.
                let rest = if place == Place::Given { rest } else { Box::new(|| Delivery::Stopped) };
                delivered(catch_unwind(AssertUnwindSafe(rest)).ok());
            })),
        }
    }

    fn reply_of(&self, answer: Answer) -> Reply {
        let status = answer.status;
        let is_withheld = *self.request.method() == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let body = if is_withheld {
            // The line is free before the client can ask again.
            drop(answer.body);
            ReplyBody::Withheld { length: answer.length }
        } else {
            ReplyBody::Stream { length: answer.length, source: Box::new(answer.body) }
        };
        Reply { status, headers: headers::for_client(answer.headers, answer.version, &self.proxy.via), body }
    }
}
