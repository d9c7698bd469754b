//! One exchange: the backends' view of the request, the race, the reply. Knows nothing of sockets or threads: legs are
//! handed to whoever runs them, the reply to whoever knows the client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode};

use crate::backends::{Backend, Backends};
use crate::config::{HostHeader, Success};
use crate::journal::{LegRecord, Record};
use crate::message::headers::{self, ViaId};
use crate::message::{Outcome, Refusal, Reply, ReplyBody, ReplyTo, Request};
use crate::race::{End, Job, LegResult, Legs, Race, Reaper, Verdict};
use crate::upstream::{Answer, Outgoing};

/// A loser's body is read to its end, for the sake of its line, if it is no longer than this.
const LOSER_BODY_BYTES_MAX: u64 = 64 * 1024;
/// The number of a winner that doesn't exist.
const NOBODY: usize = usize::MAX;

/// Races requests against the backends.
pub struct Proxy {
    /// Against whom.
    pub backends: Arc<Backends>,
    /// Where legs run.
    pub legs: Legs,
    /// Who hangs up on losers.
    pub reaper: Arc<Reaper>,
    /// This process in `Via`.
    pub via: ViaId,
    /// Which statuses win.
    pub success: Success,
    /// Whose `Host` backends get.
    pub host: HostHeader,
}

/// A race that is being run.
struct Exchange {
    proxy: Arc<Proxy>,
    backends: Vec<Arc<Backend>>,
    race: Arc<Race<Box<dyn ReplyTo>, Outcome>>,
    request: Outgoing,
    is_conditional: bool,
    record: Record,
}

impl Proxy {
    /// Starts the race for a request; whichever leg decides it answers the client. Doesn't block.
    pub fn serve(self: &Arc<Proxy>, request: Request, reply_to: Box<dyn ReplyTo>) {
        let record = Record::new(&request);
        if self.via.is_in(&request.headers) {
            let mut reply = Refusal::Loop.reply();
            // By it the leg that brought the request back knows whose loop it is.
            self.via.append_to(&mut reply.headers, request.version);
            return answer_alone(reply_to, &record, &Refusal::Loop, reply);
        }
        let backends = self.backends.snapshot();
        let departure = reply_to.departure();
        let exchange = Arc::new(Exchange {
            proxy: self.clone(),
            race: Arc::new(Race::new(backends.len(), reply_to, request.received)),
            backends,
            is_conditional: is_conditional(&request.method, &request.headers),
            request: self.outgoing(request),
            record,
        });
        departure.when_gone({
            let exchange = exchange.clone();
            Box::new(move || exchange.abandon())
        });
        let leg = |leg| -> Job {
            let exchange = exchange.clone();
            Box::new(move || exchange.run_leg(leg))
        };
        if self.legs.start((0..exchange.backends.len()).map(leg).collect()).is_err()
            && let Some(reply_to) = exchange.race.abandon()
        {
            answer_alone(reply_to, &exchange.record, &Refusal::Busy, Refusal::Busy.reply());
        }
    }

    fn outgoing(&self, request: Request) -> Outgoing {
        Outgoing {
            headers: headers::for_backends(&request, &self.via),
            host: match self.host {
                HostHeader::Backend => None,
                HostHeader::Preserve => headers::host_of(&request),
            },
            method: request.method,
            target: request.target,
            body: request.body,
        }
    }
}

impl Exchange {
    /// One leg, from the call to its end.
    fn run_leg(&self, leg: usize) {
        let token = self.race.token(leg);
        let call = || self.backends[leg].lines().call(&self.request, token);
        let called = catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Outcome::Panic));
        let after = self.race.elapsed(Instant::now());
        let answer = match called {
            Ok(answer) => answer,
            Err(outcome) => return self.end(leg, outcome, after),
        };
        let outcome = self.outcome_of(&answer);
        let prize = if self.counts(&answer) { self.race.claim(leg) } else { None };
        if let Some(reply_to) = prize {
            self.proxy.reaper.take(&self.race, leg, self.request.method.is_safe(), Instant::now());
            let delivered = catch_unwind(AssertUnwindSafe(|| self.deliver(answer, reply_to)));
            self.end(leg, delivered.map_or(Outcome::Panic, |()| outcome), after);
        } else {
            self.end(leg, outcome, after);
            answer.body.finish(answer.length, LOSER_BODY_BYTES_MAX);
        }
    }

    fn outcome_of(&self, answer: &Answer) -> Outcome {
        if answer.status == StatusCode::LOOP_DETECTED && self.proxy.via.is_in(&answer.headers) {
            return Outcome::Loop;
        }
        Outcome::Status(answer.status)
    }

    /// Whether an answer may win.
    fn counts(&self, answer: &Answer) -> bool {
        self.proxy.success.counts(answer.status) || (self.is_conditional && answer.status == StatusCode::NOT_MODIFIED)
    }

    fn deliver(&self, answer: Answer, reply_to: Box<dyn ReplyTo>) {
        let status = answer.status;
        let is_withheld = self.request.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let body = if is_withheld {
            // The line is free before the client can ask again.
            drop(answer.body);
            ReplyBody::Withheld { length: answer.length }
        } else {
            ReplyBody::Stream { length: answer.length, source: Box::new(answer.body) }
        };
        let headers = headers::for_client(answer.headers, answer.version, &self.proxy.via);
        let delivery = reply_to.reply(Reply { status, headers, body });
        self.record.answered(status, &delivery, Instant::now());
    }

    fn end(&self, leg: usize, outcome: Outcome, after: Duration) {
        match self.race.end(leg, outcome, after) {
            End::Running => {}
            End::Over(verdict, results) => self.finish(verdict, &results),
            End::LastLost(reply_to, results) => {
                // Some may still be reading their bodies, and nobody waits for those.
                self.proxy.reaper.take(&self.race, NOBODY, true, Instant::now());
                let failed = results.iter().enumerate().map(|(leg, result)| {
                    (format!("b{}", leg + 1), self.backends[leg].address().to_string(), result.outcome.clone())
                });
                let refusal = Refusal::AllFailed(failed.collect());
                reply_to.reply(refusal.reply());
                self.record.refused(&refusal, Instant::now());
                self.finish(Verdict::Lost, &results);
            }
        }
    }

    /// Every leg has ended: the line of the log can be written.
    fn finish(&self, verdict: Verdict, results: &[LegResult<Outcome>]) {
        let winner = if let Verdict::Won(leg) = verdict { Some(leg) } else { None };
        let legs: Vec<_> = (results.iter().zip(&self.backends))
            .map(|(result, backend)| LegRecord {
                backend: backend.address(),
                outcome: &result.outcome,
                after: result.after,
            })
            .collect();
        self.record.finish(winner, &legs);
    }

    /// The client has left: nobody needs an answer.
    fn abandon(&self) {
        let prize = self.race.abandon();
        if prize.is_some() {
            self.record.abandoned(Instant::now());
        }
    }
}

/// RFC 9110 §13.1: a request that may be answered by 304.
fn is_conditional(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && (headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE))
}

/// Answers without a race.
fn answer_alone(reply_to: Box<dyn ReplyTo>, record: &Record, refusal: &Refusal, reply: Reply) {
    reply_to.reply(reply);
    record.refused(refusal, Instant::now());
    record.finish(None, &[]);
}
