//! Carries a reply to its client that can't be written at once: whenever more of it has come, or the client has room, on the thread
//! that hears of it. In between it waits in the poller. Knows nothing of where the reply comes from.

use std::io;
use std::thread;
use std::time::Instant;

use super::client::{Carrier, Client};
use super::crowd::GivesWay;
use super::parking::Parking;
use super::reply_to::ClientReply;
use super::standing::Standing;
use super::transfer::{Stop, Transfer};
use crate::message::{Delivered, Delivery};
use crate::runtime::poller::Event;
use crate::runtime::sync::Arc;

/// A reply that waits, or is being carried on.
pub(super) struct Relay {
    client: Arc<Client>,
    cargo: Parking<Cargo>,
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
        let relay = Arc::new(Relay { client, cargo: Parking::new() });
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
        if let Some(cargo) = self.cargo.take_or_notify() {
            self.carry(cargo);
        }
    }

    fn carry(&self, cargo: Box<Cargo>) {
        let _way = Way(&self.client);
        let mut in_hand = Some(cargo);
        while let Some(mut cargo) = in_hand {
            let gone_on = cargo.go_on(&self.client).and_then(|stop| Ok((stop, self.wait(&mut cargo, stop)?)));
            in_hand = match gone_on {
                Ok((Stop::Over, _)) => return self.end(cargo, Ok(())),
                Ok((Stop::Turn, now)) => self.cargo.park_for_a_turn(cargo, || self.set_deadline(now)),
                Ok((Stop::Client | Stop::Source, until)) => self.cargo.park(cargo, || self.set_deadline(until)),
                Err(failed) => return self.end(cargo, Err(failed)),
            };
        }
    }

    fn wait(&self, cargo: &mut Cargo, stop: Stop) -> Result<Instant, Delivery> {
        if stop == Stop::Client {
            self.client.want_writable().map_err(Delivery::ClientGone)?;
        }
        cargo.transfer.wait(stop, self.client.front().write_timeout, Instant::now())
    }

    fn set_deadline(&self, until: Instant) {
        self.client.registration.set_deadline(Some(until));
    }

    fn end(&self, cargo: Box<Cargo>, written: Result<(), Delivery>) {
        self.client.seat().carrier = None;
        cargo.end(written);
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
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { read_closed, dead } => {
                if read_closed || dead {
                    self.client.notice_departure(dead);
                }
                self.wake();
            }
            Event::Expired => self.wake(),
            Event::Drain => {}
            Event::Cut => {
                self.client.cut_off();
                if let Some(cargo) = self.cargo.close() {
                    self.carry(cargo);
                }
            }
        }
    }
}

impl GivesWay for Relay {
    fn standing(&self) -> Option<Standing> {
        self.cargo.look(|cargo| cargo.transfer.standing())
    }

    fn give_way(self: Arc<Self>, goes: &dyn Fn(&Standing) -> bool) -> bool {
        let Some(cargo) = self.cargo.take_to_go(|cargo| goes(&cargo.transfer.standing())) else { return false };
        self.end(cargo, Err(Delivery::GaveWay));
        true
    }
}
