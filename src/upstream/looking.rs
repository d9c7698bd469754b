//! A leg whose backend's name is being looked up: it waits in the poller. Knows nothing of connections.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::Lines;
use super::resolve::News;
use super::slot::{Slot, Wake};
use crate::message::Outcome;
use crate::poller::{Owner, Poller, Turn, Watch};
use crate::race::{CancelToken, HangUp};

/// A leg that waits for addresses.
pub(super) struct Looking {
    pub(super) lines: Arc<Lines>,
    place: Arc<Place>,
    asked: Instant,
    pub(super) deadline: Instant,
}

/// How far it has come.
pub(super) enum Looked {
    Found(Vec<SocketAddr>),
    Waits(Looking),
}

/// Where it waits. All that wakes it does so by way of the alarm.
struct Place {
    slot: Slot,
    alarm: OnceLock<Watch>,
}

impl Looking {
    /// The addresses of the lines' backend, if they are known. Doesn't block.
    pub(super) fn begin(lines: &Arc<Lines>, deadline: Instant) -> Result<Looked, Outcome> {
        Looking::ask(lines, Instant::now(), deadline)
    }

    fn ask(lines: &Arc<Lines>, asked: Instant, deadline: Instant) -> Result<Looked, Outcome> {
        let (now, mut waits) = (Instant::now(), None);
        let known = lines.resolver().addresses(asked, now, |patience| {
            let until = patience.map_or(deadline, |patience| deadline.min(asked + patience));
            let place = Place::new(lines.poller(), until);
            waits = Some(Looking { lines: lines.clone(), place: place.clone(), asked, deadline });
            place
        })?;
        match waits {
            Some(_) if now >= deadline => {
                Err(Outcome::Dns(format!("no answer for {} in time", lines.address().host())))
            }
            Some(looking) => Ok(Looked::Waits(looking)),
            None => Ok(Looked::Found(known)),
        }
    }

    /// Has the leg go on when there is news, or when it is hung up on. Doesn't block.
    pub(super) fn wait(self, token: &CancelToken, go_on: impl FnOnce(Looking) + Send + 'static) -> Result<(), Outcome> {
        let place = self.place.clone();
        token.arm(place.clone()).map_err(|_| Outcome::Cancelled)?;
        if place.slot.put(Wake { is_due: None, go_on: Box::new(move || go_on(self)) }) {
            place.slot.wake_for_good();
        }
        Ok(())
    }

    /// Goes on after a wait. Doesn't block.
    pub(super) fn go_on(self, token: &CancelToken) -> Result<Looked, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        Looking::ask(&self.lines, self.asked, self.deadline)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(alarm) = self.place.alarm.get() {
            alarm.end();
        }
    }
}

impl Place {
    fn new(poller: &Poller, until: Instant) -> Arc<Place> {
        let place = Arc::new(Place { slot: Slot::default(), alarm: OnceLock::new() });
        let alarm = poller.alarm(place.clone());
        alarm.set_deadline(Some(until));
        let _ = place.alarm.set(alarm);
        place
    }
}

impl News for Place {
    fn tell(&self) {
        if let Some(alarm) = self.alarm.get() {
            alarm.set_deadline(Some(Instant::now()));
        }
    }
}

impl HangUp for Place {
    fn hang_up(&self) {
        self.tell();
    }
}

impl Owner for Place {
    fn turn(self: Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { .. } | Turn::Expired => self.slot.wake_for_good(),
            // Its own deadline ends the wait, or the leg's token.
            Turn::Drain | Turn::Cut => {}
        }
    }
}
