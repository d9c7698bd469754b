//! A leg whose backend's name is being looked up: it waits in the poller. Knows nothing of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::connect::resolve::LookupListener;
use crate::upstream::connect::timer::Timer;
use crate::upstream::endpoint::Endpoint;

/// A leg that waits for addresses.
pub(crate) struct Resolving {
    pub(crate) endpoint: Arc<Endpoint>,
    timer: Arc<Timer>,
    asked: Instant,
    deadline: Instant,
    tried: Option<Tried>,
}

/// The addresses that a leg has tried in vain, and the outcome of that.
pub(crate) struct Tried {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) outcome: Outcome,
}

/// The result of a step of resolving.
pub(crate) enum Resolution {
    Found {
        addresses: Vec<SocketAddr>,
        /// Whether others were tried before.
        is_retry: bool,
    },
    Pending(Resolving),
}

impl Resolving {
    /// Gives the backend's addresses, if they are known. Doesn't block.
    pub(crate) fn begin(endpoint: &Arc<Endpoint>, deadline: Instant) -> Result<Resolution, Outcome> {
        Resolving::ask(endpoint, Instant::now(), deadline, None)
    }

    /// Gives addresses besides those that the leg has tried in vain; the error is their outcome if there are none. Doesn't
    /// block.
    pub(crate) fn retry(endpoint: &Arc<Endpoint>, deadline: Instant, tried: Tried) -> Result<Resolution, Outcome> {
        Resolving::ask(endpoint, Instant::now(), deadline, Some(tried))
    }

    fn ask(
        endpoint: &Arc<Endpoint>,
        asked: Instant,
        deadline: Instant,
        tried: Option<Tried>,
    ) -> Result<Resolution, Outcome> {
        let (now, mut timer) = (Instant::now(), None);
        let waiter = |wait_max: Option<_>| -> Arc<dyn LookupListener> {
            let until = wait_max.map_or(deadline, |wait_max| deadline.min(asked + wait_max));
            timer.insert(Timer::new(endpoint.poller(), until)).clone()
        };
        let found = match &tried {
            None => endpoint.resolver().addresses(asked, now, waiter)?,
            Some(tried) => {
                let others = endpoint.resolver().others(&tried.addresses, asked, now, waiter);
                others.ok_or_else(|| tried.outcome.clone())?
            }
        };
        let Some(timer) = timer else { return Ok(Resolution::Found { addresses: found, is_retry: tried.is_some() }) };
        let resolving = Resolving { endpoint: endpoint.clone(), timer, asked, deadline, tried };
        if now < deadline { Ok(Resolution::Pending(resolving)) } else { Err(resolving.late_outcome()) }
    }

    /// The place where the leg parks: it is woken when a lookup has ended, or the leg is hung up on. Doesn't block.
    pub(crate) fn readiness(&self, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        self.timer.arm(token)
    }

    /// Takes the next step, after a wait. Doesn't block.
    pub(crate) fn resume(mut self, token: &CancelToken) -> Result<Resolution, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        let tried = self.tried.take();
        Resolving::ask(&self.endpoint, self.asked, self.deadline, tried)
    }

    /// The outcome of a leg whose time is over.
    fn late_outcome(&self) -> Outcome {
        let no_answer = || Outcome::Dns(format!("no answer for {} in time", self.endpoint.address().host()));
        self.tried.as_ref().map_or_else(no_answer, |tried| tried.outcome.clone())
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.timer.end();
    }
}

impl LookupListener for Timer {
    fn on_lookup_end(&self) {
        self.expire_now();
    }
}
