//! A leg whose backend's name is being looked up: it waits in the poller. Knows nothing of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Lines;
use super::alarm::Alarm;
use super::resolve::News;
use crate::message::Outcome;
use crate::race::CancelToken;

/// A leg that waits for addresses.
pub(super) struct Looking {
    pub(super) lines: Arc<Lines>,
    alarm: Arc<Alarm>,
    asked: Instant,
    pub(super) deadline: Instant,
}

/// How far it has come.
pub(super) enum Looked {
    Found(Vec<SocketAddr>),
    Waits(Looking),
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
            waits.insert(Alarm::new(lines.poller(), until)).clone()
        })?;
        let Some(alarm) = waits else { return Ok(Looked::Found(known)) };
        let looking = Looking { lines: lines.clone(), alarm, asked, deadline };
        if now < deadline { Ok(Looked::Waits(looking)) } else { Err(looking.late()) }
    }

    /// Has the leg go on when there is news, or when it is hung up on. Doesn't block.
    pub(super) fn wait(self, token: &CancelToken, go_on: impl FnOnce(Looking) + Send + 'static) -> Result<(), Outcome> {
        let alarm = self.alarm.clone();
        alarm.wait(token, Box::new(move || go_on(self)))
    }

    /// Goes on after a wait. Doesn't block.
    pub(super) fn go_on(self, token: &CancelToken) -> Result<Looked, Outcome> {
        token.disarm().map_err(|_| Outcome::Cancelled)?;
        Looking::ask(&self.lines, self.asked, self.deadline)
    }

    /// The time is over.
    fn late(&self) -> Outcome {
        Outcome::Dns(format!("no answer for {} in time", self.lines.address().host()))
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
