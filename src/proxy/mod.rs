//! Races requests: the backends' view of each, and its exchange. Knows nothing of sockets or threads: legs are handed to
//! whoever runs them, the reply to whoever knows the client.

mod candidates;
mod delivery;
mod exchange;
mod leftovers;
mod leg;
mod worth;

use std::sync::Arc;
use std::time::Instant;

use crate::backends::Backends;
use crate::config::{HostHeader, Success};
use crate::journal::{Costs, Record, Tally};
use crate::message::headers::{self, ViaId};
use crate::message::origin::{self, Origin};
use crate::message::{Networks, Refusal, Reply, ReplyTo, Request, forwards};
use crate::race::Reaper;
use crate::upstream::Outgoing;
use exchange::Exchange;

/// The rules of the race.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Which statuses win.
    pub success: Success,
    /// Whose `Host` backends get.
    pub host: HostHeader,
    /// Whether backends get `Via`.
    pub via: bool,
    /// Peers that are believed where a request came from.
    pub trusted_proxies: Networks,
    /// So many losers may wait in vain at one backend before legs to it are held back.
    pub silent_max: usize,
}

impl Default for Rules {
    /// Any 2xx wins, backends get names of their own and no `Via`, and no peer is believed.
    fn default() -> Rules {
        let (success, trusted_proxies) = (Success::default(), Networks::default());
        Rules { success, host: HostHeader::Backend, via: false, trusted_proxies, silent_max: 128 }
    }
}

/// Runs what may wait for the disk, on a thread for that. Doesn't block.
pub type Disk = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Races requests against the backends.
pub struct Proxy {
    rules: Rules,
    backends: Arc<Backends>,
    disk: Disk,
    reaper: Arc<Reaper>,
    /// This process in `Via` and `CDN-Loop`.
    via: ViaId,
    tally: Tally,
    /// Shared by every race that isn't over.
    alive: Arc<()>,
}

impl Proxy {
    /// Races by these rules against these backends; `disk` reads bodies from their files, `reaper` hangs up on losers.
    pub fn new(rules: Rules, backends: Arc<Backends>, disk: Disk, reaper: Arc<Reaper>) -> Arc<Proxy> {
        let (via, tally) = (ViaId::random(rules.via), Tally::default());
        Arc::new(Proxy { rules, backends, disk, reaper, via, tally, alive: Arc::default() })
    }

    /// Starts the race for a request; whichever leg decides it answers the client. Doesn't block: a poller's thread may do
    /// it.
    pub fn serve(self: &Arc<Proxy>, request: Request, reply_to: Box<dyn ReplyTo>) {
        let record = Record::new(&request, self.origin_of(&request));
        if let Some(refusal) = self.loop_of(&request) {
            let mut reply = refusal.reply();
            // By it the leg that brought the request back knows whose loop it is.
            self.via.append_to(&mut reply.headers, request.version);
            return answer_alone(reply_to, record, reply, Some(refusal));
        }
        if let Some(reply) = forwards::last_answer(&request) {
            return answer_alone(reply_to, record, reply, None);
        }
        Exchange::begin(self, request, reply_to, record);
    }

    /// Where a request came from, as far as that is believed.
    pub fn origin_of(&self, request: &Request) -> Origin {
        Origin::of(request, &self.rules.trusted_proxies)
    }

    /// Why a request may go no further, if a backend leads back here.
    fn loop_of(&self, request: &Request) -> Option<Refusal> {
        if self.via.has_sent(&request.headers) {
            return Some(Refusal::Loop);
        }
        origin::goes_round(request).then_some(Refusal::TooManyHops)
    }

    /// How many legs a race has now.
    pub fn legs_of_a_race(&self) -> usize {
        self.backends.count()
    }

    /// What all races have cost.
    pub fn costs(&self) -> Costs {
        let (opened, reused) = self.backends.line_counts();
        self.tally.costs(opened, reused)
    }

    /// Races of which a leg is still running, lingering losers included.
    pub fn races(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

/// The request as all backends get it.
pub(crate) fn outgoing(mut request: Request, via: &ViaId, rules: &Rules) -> Outgoing {
    let host = match rules.host {
        HostHeader::Backend => None,
        HostHeader::Preserve => headers::host_of(&request),
    };
    let headers = headers::for_backends(&mut request, via, &rules.trusted_proxies);
    Outgoing::new(request.method, request.target, headers, host, request.body)
}

/// Answers without a race: with a refusal, or with what mustn't go any further.
pub(crate) fn answer_alone(reply_to: Box<dyn ReplyTo>, record: Record, reply: Reply, refusal: Option<Refusal>) {
    let status = reply.status;
    let delivered = move |delivery| {
        match refusal {
            Some(refusal) => record.refused(&refusal, Instant::now()),
            None => record.answered(status, &delivery, Instant::now()),
        }
        record.finish(None, &[]);
    };
    reply_to.send(reply, Box::new(delivered));
}
