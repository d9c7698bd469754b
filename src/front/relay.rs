//! Carries a reply to its client that can't be written at once: whenever more of it has come, or the client has room, on the thread
//! that hears of it. In between it waits in the poller. Knows nothing of where the reply comes from.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Carrier, Client};
use super::reply_to::ClientReply;
use super::standing::Standing;
use super::transfer::{Stop, Transfer};
use crate::message::{Delivered, Delivery};
use crate::poller::Turn;

/// A reply that waits, or is being carried on.
pub(super) struct Relay {
    client: Arc<Client>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// `None` while a thread carries it on. Whoever takes it out owns it.
    cargo: Option<Box<Cargo>>,
    /// Something has happened meanwhile: whoever gives it back must look.
    pending: bool,
}

/// The reply, its way, and who is told of its end. Dropped on its way, by a panic or at the end of the house, it cuts the client off.
pub(super) struct Cargo {
    reply: Box<ClientReply>,
    transfer: Transfer,
    delivered: Delivered,
}

impl Cargo {
    pub(super) fn new(reply: Box<ClientReply>, transfer: Transfer, delivered: Delivered) -> Box<Cargo> {
        Box::new(Cargo { reply, transfer, delivered })
    }

    /// Sends what goes without waiting, and leaves the rest to the poller. Doesn't block.
    pub(super) fn send(mut self: Box<Self>, client: &Arc<Client>) {
        match self.go_on(client) {
            Ok(Stop::Over) => self.end(Ok(())),
            Ok(_) => Relay::open(client.clone(), self),
            Err(failed) => self.end(Err(failed)),
        }
    }

    fn go_on(&mut self, client: &Client) -> Result<Stop, Delivery> {
        if client.is_gone() {
            return Err(Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into()));
        }
        self.transfer.go_on(client, client.front().write_timeout)
    }

    fn end(self: Box<Self>, written: Result<(), Delivery>) {
        let Cargo { mut reply, transfer, delivered } = *self;
        let framing = transfer.framing();
        // Who has the reply may want the line that it came on.
        drop(transfer);
        delivered(reply.leave(framing, written));
    }
}

impl Relay {
    fn open(client: Arc<Client>, mut cargo: Box<Cargo>) {
        let relay = Arc::new(Relay { client, shared: Mutex::default() });
        let weak = Arc::downgrade(&relay);
        cargo.transfer.when_ready(Arc::new(move || {
            if let Some(relay) = weak.upgrade() {
                relay.wake();
            }
        }));
        relay.client.seat().carrier = Some(relay.clone());
        // What has happened meanwhile, nobody was told.
        relay.carry(cargo);
    }

    /// Something has come, or there is room.
    fn wake(&self) {
        let cargo = {
            let mut shared = self.shared();
            let cargo = shared.cargo.take();
            shared.pending |= cargo.is_none();
            cargo
        };
        if let Some(cargo) = cargo {
            self.carry(cargo);
        }
    }

    fn carry(&self, mut cargo: Box<Cargo>) {
        let _way = Way(&self.client);
        loop {
            let patience = self.client.front().write_timeout;
            let gone_on = cargo.go_on(&self.client).and_then(|stop| Ok((stop, self.wait(&mut cargo, stop, patience)?)));
            let again = match gone_on {
                Ok((Stop::Over, _)) => return self.end(cargo, Ok(())),
                Ok((Stop::Turn, now)) => return self.put(&mut self.shared(), cargo, now),
                Ok((_, until)) => self.give_back(cargo, until),
                Err(failed) => return self.end(cargo, Err(failed)),
            };
            let Some(again) = again else { return };
            cargo = again;
        }
    }

    fn wait(&self, cargo: &mut Cargo, stop: Stop, patience: Duration) -> Result<Instant, Delivery> {
        if stop == Stop::Client {
            self.client.tell_of_room().map_err(Delivery::ClientGone)?;
        }
        cargo.transfer.wait(stop, patience, Instant::now())
    }

    /// Leaves it to the poller until then at most, or gives it back if something has happened meanwhile.
    fn give_back(&self, cargo: Box<Cargo>, until: Instant) -> Option<Box<Cargo>> {
        let mut shared = self.shared();
        if std::mem::take(&mut shared.pending) {
            return Some(cargo);
        }
        self.put(&mut shared, cargo, until);
        None
    }

    fn put(&self, shared: &mut Shared, cargo: Box<Cargo>, until: Instant) {
        shared.cargo = Some(cargo);
        if let Some(watch) = self.client.watch.get() {
            watch.set_deadline(Some(until));
        }
    }

    fn end(&self, cargo: Box<Cargo>, written: Result<(), Delivery>) {
        self.client.seat().carrier = None;
        cargo.end(written);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's way while its reply is carried on: given up by a panic, or each would keep the other for ever.
struct Way<'a>(&'a Client);

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.seat().carrier = None;
        }
    }
}

impl Carrier for Relay {
    fn turn(self: Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { read_closed, dead } => {
                self.client.note_unread(read_closed, dead);
                self.wake();
            }
            Turn::Expired => self.wake(),
            Turn::Drain => {}
            Turn::Cut => {
                self.client.cut_off();
                self.wake();
            }
        }
    }

    fn standing(&self) -> Option<Standing> {
        self.shared().cargo.as_ref().map(|cargo| cargo.transfer.standing())
    }

    fn give_way(self: Arc<Self>, goes: &dyn Fn(&Standing) -> bool) -> bool {
        let cargo = self.shared().cargo.take_if(|cargo| goes(&cargo.transfer.standing()));
        let Some(cargo) = cargo else { return false };
        self.end(cargo, Err(Delivery::GaveWay));
        true
    }
}
