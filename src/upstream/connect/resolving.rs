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
use crate::upstream::permit::Permit;

/// A leg that waits for addresses.
pub(crate) struct Resolving {
    pub(crate) endpoint: Arc<Endpoint>,
    timer: Arc<Timer>,
    asked: Instant,
    deadline: Instant,
    /// The permit for the connection that is to come. Held while the leg waits, so that a name that hangs has no more legs waiting for
    /// it than a backend that hangs.
    permit: Option<Permit>,
    tried: Option<Tried>,
}

/// The addresses that a leg has tried in vain, and the outcome of that.
pub(crate) struct Tried {
    pub(crate) addresses: Vec<SocketAddr>,
    /// The permit of an attempt that has failed.
    pub(crate) permit: Option<Permit>,
    pub(crate) outcome: Outcome,
}

/// The result of a step of resolving.
pub(crate) enum Resolution {
    Found {
        addresses: Vec<SocketAddr>,
        /// The permit for the first attempt.
        permit: Option<Permit>,
        /// Whether others were tried before.
        is_retry: bool,
    },
    Pending(Resolving),
}

impl Resolving {
    /// Gives the backend's addresses, if they are known and there may be one more connection. Doesn't block.
    pub(crate) fn begin(endpoint: &Arc<Endpoint>, deadline: Instant) -> Result<Resolution, Outcome> {
        Resolving::ask(endpoint, Instant::now(), deadline, Some(endpoint.permit()?), None)
    }

    /// Gives addresses besides those that the leg has tried in vain; the error is their outcome if there are none. Doesn't
    /// block.
    pub(crate) fn retry(endpoint: &Arc<Endpoint>, deadline: Instant, mut tried: Tried) -> Result<Resolution, Outcome> {
        Resolving::ask(endpoint, Instant::now(), deadline, tried.permit.take(), Some(tried))
    }

    fn ask(
        endpoint: &Arc<Endpoint>,
        asked: Instant,
        deadline: Instant,
        permit: Option<Permit>,
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
        let Some(timer) = timer else {
            return Ok(Resolution::Found { addresses: found, permit, is_retry: tried.is_some() });
        };
        let resolving = Resolving { endpoint: endpoint.clone(), timer, asked, deadline, permit, tried };
        if now < deadline { Ok(Resolution::Pending(resolving)) } else { Err(resolving.late_outcome()) }
    }

    /// The place where the leg parks: it is woken when a lookup has ended, or the leg is hung up on. Doesn't block.
    pub(crate) fn readiness(&self, token: &CancelToken) -> Result<Arc<dyn Readiness>, Outcome> {
        self.timer.arm(token)
    }

    /// Takes the next step, after a wait. Doesn't block.
    pub(crate) fn resume(mut self, token: &CancelToken) -> Result<Resolution, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        let (permit, tried) = (self.permit.take(), self.tried.take());
        Resolving::ask(&self.endpoint, self.asked, self.deadline, permit, tried)
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::Ordering;
    use std::thread;
    use std::time::Duration;

    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::message::Address;
    use crate::runtime::poller::Poller;
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::endpoint::Place;
    use crate::upstream::{ConnectOptions, Lookup, Upstream};

    /// Hangs until the test sends an address.
    struct Hanging(Receiver<SocketAddr>);

    impl Lookup for Hanging {
        fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.recv().map(|found| vec![found]).map_err(io::Error::other)
        }
    }

    /// Was seen as: of each POST the leg to a name that hung stayed for `--timeout`: 35 MiB a second, and with bodies in files all
    /// descriptors, so that good backends had none.
    #[test]
    fn no_more_legs_wait_for_a_name_than_there_may_be_connections_and_they_connect_by_their_permits() {
        let (poller, event_loop) = Poller::new().expect("a poller");
        thread::spawn(move || event_loop.run());
        let (answers, receiver) = unbounded();
        let options = ConnectOptions { connections_max: 8, ..ConnectOptions::default() };
        let upstream = Upstream::new(options, Arc::new(Hanging(receiver)), poller).expect("no roots of its own");
        let address = Address::parse("http://name.example").expect("an address");
        let endpoint = Endpoint::new(address, Place::Url, upstream.clone(), None, || {});
        let count = || upstream.connections.load(Ordering::Relaxed);
        let begin = || match Resolving::begin(&endpoint, Instant::now() + Duration::from_secs(60)) {
            Ok(Resolution::Pending(resolving)) => Ok(resolving),
            Ok(Resolution::Found { .. }) => panic!("the lookup hangs"),
            Err(outcome) => Err(outcome),
        };
        // One backend has no more than it leaves for all others.
        let mut waiting: Vec<_> = (0..4).map(|_| begin().expect("a permit")).collect();
        assert_eq!((begin().err(), count()), (Some(Outcome::NoSocket), 4));
        waiting.pop();
        waiting.push(begin().expect("the permit of a leg that has gone"));
        let found = SocketAddr::from(([127, 0, 0, 1], 1));
        answers.send(found).expect("the lookup listens");
        let resume = |resolving: Resolving| {
            let token = CancelToken::default();
            wait_for(&resolving.readiness(&token).expect("a wait"));
            match resolving.resume(&token) {
                Ok(Resolution::Found { addresses, permit, .. }) if addresses == [found] => permit.expect("its permit"),
                _ => panic!("the name is known"),
            }
        };
        let permits: Vec<_> = waiting.into_iter().map(resume).collect();
        assert_eq!((permits.len(), count()), (4, 4));
    }
}
