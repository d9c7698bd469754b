//! A leg whose backend's name is being looked up: it waits in the poller. Knows nothing of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::alarm::Alarm;
use super::endpoint::Endpoint;
use super::resolve::News;
use super::slot::Events;
use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;

/// A leg that waits for addresses.
pub(super) struct Looking {
    pub(super) endpoint: Arc<Endpoint>,
    alarm: Arc<Alarm>,
    asked: Instant,
    pub(super) deadline: Instant,
    tried: Option<Tried>,
}

/// The addresses that a leg has tried in vain, and what became of it.
pub(super) struct Tried {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) outcome: Outcome,
}

/// How far it has come.
pub(super) enum Looked {
    Found {
        addresses: Vec<SocketAddr>,
        /// Others were tried before.
        is_again: bool,
    },
    Waits(Looking),
}

impl Looking {
    /// The addresses of the lines' backend, if they are known. Doesn't block.
    pub(super) fn begin(endpoint: &Arc<Endpoint>, deadline: Instant) -> Result<Looked, Outcome> {
        Looking::ask(endpoint, Instant::now(), deadline, None)
    }

    /// Addresses besides those that the leg has tried in vain: its outcome if there are none. Doesn't block.
    pub(super) fn again(endpoint: &Arc<Endpoint>, deadline: Instant, tried: Tried) -> Result<Looked, Outcome> {
        Looking::ask(endpoint, Instant::now(), deadline, Some(tried))
    }

    fn ask(
        endpoint: &Arc<Endpoint>,
        asked: Instant,
        deadline: Instant,
        tried: Option<Tried>,
    ) -> Result<Looked, Outcome> {
        let (now, mut waits) = (Instant::now(), None);
        let waiter = |patience: Option<_>| {
            let until = patience.map_or(deadline, |patience| deadline.min(asked + patience));
            waits.insert(Alarm::new(endpoint.poller(), until)).clone()
        };
        let found = match &tried {
            None => endpoint.resolver().addresses(asked, now, waiter)?,
            Some(tried) => {
                let others = endpoint.resolver().others(&tried.addresses, asked, now, waiter);
                others.ok_or_else(|| tried.outcome.clone())?
            }
        };
        let Some(alarm) = waits else { return Ok(Looked::Found { addresses: found, is_again: tried.is_some() }) };
        let looking = Looking { endpoint: endpoint.clone(), alarm, asked, deadline, tried };
        if now < deadline { Ok(Looked::Waits(looking)) } else { Err(looking.late()) }
    }

    /// What tells when there is news, or that the leg is hung up on. Doesn't block.
    pub(super) fn events(&self, token: &CancelToken) -> Result<Arc<dyn Events>, Outcome> {
        self.alarm.arm(token)
    }

    /// Goes on after a wait. Doesn't block.
    pub(super) fn go_on(mut self, token: &CancelToken) -> Result<Looked, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        let tried = self.tried.take();
        Looking::ask(&self.endpoint, self.asked, self.deadline, tried)
    }

    /// The time is over.
    fn late(&self) -> Outcome {
        let no_answer = || Outcome::Dns(format!("no answer for {} in time", self.endpoint.address().host()));
        self.tried.as_ref().map_or_else(no_answer, |tried| tried.outcome.clone())
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.alarm.end();
    }
}

impl News for Alarm {
    fn tell(&self) {
        self.ring();
    }
}
