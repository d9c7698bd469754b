//! Races requests: the backends' view of each, and its exchange. Knows nothing of sockets: legs park in what `upstream`
//! gives them, and replies are sent by a [`ReplyTo`].

mod benching;
mod best;
mod candidates;
mod classify;
mod context;
mod delivery;
mod exchange;
mod judged;
mod judging;
mod leg;
mod lingering;
mod noting;
mod one;
mod outgoing;
mod parked;
mod recording;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod simulation;
mod starting;
mod telling;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::access_log::Entry;
use crate::config::Config;
use crate::message::forwarded::{self, Forwarded};
use crate::message::headers::ViaId;
use crate::message::proxy_status::{self, PROXY_STATUS};
use crate::message::{Networks, Refusal, Reply, ReplyTo, Request, RequestId, max_forwards};
use crate::metrics::{FirstSuccess, RaceStats, RecentRaces, ReplyStats, Totals};
use crate::race::{Reaper, Starter};
use crate::runtime::poller::Poller;
use crate::runtime::timer::Timer;
use crate::upstream::{Backend, Backends};
use context::{Bounded, Context, Untold};
pub use context::{Executor, Threads};
use exchange::Exchange;
#[cfg(any(test, fuzzing))]
pub(crate) use outgoing::outgoing;

/// Races requests against the backends.
pub struct Proxy(Arc<Context>);

impl Proxy {
    /// Races by this configuration against these backends; `reaper` hangs up on losers, `starter` wakes races whose legs start
    /// by time.
    pub fn new(
        config: Arc<Config>,
        backends: Arc<Backends>,
        threads: Threads,
        reaper: Arc<Reaper>,
        starter: Arc<Starter>,
        poller: &Poller,
    ) -> Arc<Proxy> {
        let via = ViaId::random(config.via);
        Arc::new(Proxy(Arc::new(Context {
            trusted_proxies: Networks::new(&config.trusted_proxies),
            config,
            backends,
            threads,
            reaper,
            starter,
            first_success: FirstSuccess::default(),
            late_lines: Timer::new(poller, |exchange: Arc<dyn Untold>, _| exchange.tell_now()),
            judged_bytes: Arc::default(),
            has_told_encoded: AtomicBool::new(false),
            patience: Timer::new(poller, |exchange: Arc<dyn Bounded>, now| exchange.stop_waiting(now)),
            via,
            stats: Arc::default(),
            replies: Arc::default(),
            recent: Arc::default(),
        })))
    }

    /// Starts the race for a request; the leg that decides it answers the client. Doesn't block: a poller's thread may call it.
    pub fn serve(self: &Arc<Proxy>, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        let entry = Entry::new(&request, self.forwarded_of(&request));
        let backends = self.0.backends.snapshot();
        if let Some(refusal) = self.loop_of(&request).or_else(|| climb_of(&request, &backends)) {
            let mut reply = refusal.reply();
            reply.headers.insert(PROXY_STATUS, proxy_status::of_refusal(&refusal));
            // By it a leg that brought the request back knows whose loop it is.
            self.0.via.append_to(&mut reply.headers, request.version);
            self.0.replies.count_refusal(reply.status);
            return answer_alone(reply_to, entry, reply, Some(refusal));
        }
        if let Some(reply) = max_forwards::last_reply(&request) {
            self.0.replies.count_own(reply.status);
            return answer_alone(reply_to, entry, reply, None);
        }
        Exchange::begin(&self.0, backends, request, reply_to, entry);
    }

    /// The origin of a request, as far as it is believed.
    pub fn forwarded_of(&self, request: &Request) -> Forwarded {
        Forwarded::of(request, &self.0.trusted_proxies)
    }

    /// The reason why a request may go no further, if a backend leads back here.
    fn loop_of(&self, request: &Request) -> Option<Refusal> {
        if self.0.via.has_sent(&request.headers) {
            return Some(Refusal::Loop);
        }
        forwarded::goes_round(request).then_some(Refusal::TooManyHops)
    }

    /// The count of legs that start with a race now.
    pub fn legs_at_once(&self) -> usize {
        self.0.backends.count_at_once()
    }

    /// The costs of all races.
    pub fn totals(&self) -> Totals {
        let (opened, reused) = self.0.backends.connection_counts();
        self.0.stats.totals(opened, reused)
    }

    /// The counts of all races that are over.
    pub fn stats(&self) -> &Arc<RaceStats> {
        &self.0.stats
    }

    /// The counts of all replies to clients.
    pub fn replies(&self) -> &Arc<ReplyStats> {
        &self.0.replies
    }

    /// The times by which hedges by percentile start.
    pub fn first_success(&self) -> &FirstSuccess {
        &self.0.first_success
    }

    /// By when hedges by percentile start now; `None` if the list has none.
    pub fn hedge_delay(&self) -> Option<Duration> {
        self.0.hedge_delay()
    }

    /// The last races.
    pub fn recent(&self) -> &Arc<RecentRaces> {
        &self.0.recent
    }

    /// Whether a loser may have a long look, whatever the method.
    pub fn has_looks(&self) -> bool {
        [true, false].into_iter().all(|is_safe| self.0.reaper.has_looks(is_safe))
    }

    /// The list of backends.
    pub fn backends(&self) -> &Arc<Backends> {
        &self.0.backends
    }

    /// The count of races of which a leg is still running, lingering losers included.
    pub fn races(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// The reason why a request may go no further, if its path may lead out of a backend's base path.
fn climb_of(request: &Request, backends: &[Arc<Backend>]) -> Option<Refusal> {
    let climbs = backends.iter().any(|backend| backend.address().has_base()) && request.target.may_climb();
    climbs.then_some(Refusal::BadRequest("The request target leads above /, and so out of a backend's base path"))
}

/// Answers without a race: with a refusal, or with an answer that mustn't go any further.
pub(crate) fn answer_alone(reply_to: Box<dyn ReplyTo>, entry: Entry, mut reply: Reply, refusal: Option<Refusal>) {
    let status = reply.status;
    reply.headers.insert(RequestId::FIELD, entry.id().value().clone());
    let delivered = move |delivery| {
        match refusal {
            Some(refusal) => entry.refused(&refusal, Instant::now()),
            None => entry.delivered(status, &delivery, Instant::now()),
        }
        entry.tell(None);
    };
    reply_to.send(reply, Box::new(delivered));
}
