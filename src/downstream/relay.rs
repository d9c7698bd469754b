//! Carries a reply to its client that can't be written at once: whenever more of it has come, or the client has room, on the thread
//! that hears of it. In between it waits in the poller. Knows nothing of where the reply comes from.

use std::io;
use std::thread;
use std::time::Instant;

use crate::downstream::client::socket::{ActiveStream, Client};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::parking::Parking;
use crate::downstream::reply_writer::{ReplyWriter, Stop};
use crate::downstream::responder::Responder;
use crate::message::{Delivery, OnDelivered};
use crate::runtime::poller::Event;
use crate::runtime::sync::Arc;

/// A reply that waits, or is being carried on.
pub(crate) struct Relay {
    client: Arc<Client>,
    reply: Parking<PendingReply>,
}

/// The reply, its way, and who is told of its end. Dropped on its way, by a panic or at the end of the house, it cuts the client off.
pub(crate) struct PendingReply {
    responder: Box<Responder>,
    writer: ReplyWriter,
    delivered: OnDelivered,
}

impl PendingReply {
    pub(crate) fn new(responder: Box<Responder>, writer: ReplyWriter, delivered: OnDelivered) -> Box<PendingReply> {
        Box::new(PendingReply { responder, writer, delivered })
    }

    /// Sends what goes without waiting, and leaves the rest to the poller. Doesn't block.
    pub(crate) fn send(mut self: Box<Self>, client: &Arc<Client>) {
        match self.go_on(client) {
            Ok(Stop::Done) => self.end(Ok(())),
            Ok(_) => Relay::open(client.clone(), self),
            Err(failed) => self.end(Err(failed)),
        }
    }

    fn go_on(&mut self, client: &Client) -> Result<Stop, Delivery> {
        if client.is_gone() {
            return Err(Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into()));
        }
        self.writer.go_on(client, client.frontend().write_timeout)
    }

    fn end(self: Box<Self>, written: Result<(), Delivery>) {
        let PendingReply { mut responder, writer, delivered } = *self;
        let framing = writer.framing();
        // Who has the reply may want the line that it came on.
        drop(writer);
        delivered(responder.leave(framing, written));
    }
}

impl Relay {
    fn open(client: Arc<Client>, mut reply: Box<PendingReply>) {
        let relay = Arc::new(Relay { client, reply: Parking::new() });
        let weak = Arc::downgrade(&relay);
        reply.writer.when_ready(Arc::new(move || {
            if let Some(relay) = weak.upgrade() {
                relay.wake();
            }
        }));
        relay.client.state().stream = Some(relay.clone());
        // What has happened meanwhile, nobody was told.
        relay.carry(reply);
    }

    /// Something has come, or there is room.
    fn wake(&self) {
        if let Some(reply) = self.reply.take_or_notify() {
            self.carry(reply);
        }
    }

    fn carry(&self, reply: Box<PendingReply>) {
        let _way = Way(&self.client);
        let mut in_hand = Some(reply);
        while let Some(mut reply) = in_hand {
            let gone_on = reply.go_on(&self.client).and_then(|stop| Ok((stop, self.wait(&mut reply, stop)?)));
            in_hand = match gone_on {
                Ok((Stop::Done, _)) => return self.end(reply, Ok(())),
                Ok((Stop::Yield, now)) => self.reply.park_to_yield(reply, || self.set_deadline(now)),
                Ok((Stop::Client | Stop::Source, until)) => self.reply.park(reply, || self.set_deadline(until)),
                Err(failed) => return self.end(reply, Err(failed)),
            };
        }
    }

    fn wait(&self, reply: &mut PendingReply, stop: Stop) -> Result<Instant, Delivery> {
        if stop == Stop::Client {
            self.client.want_writable().map_err(Delivery::ClientGone)?;
        }
        reply.writer.wait(stop, self.client.frontend().write_timeout, Instant::now())
    }

    fn set_deadline(&self, until: Instant) {
        self.client.registration.set_deadline(Some(until));
    }

    fn end(&self, reply: Box<PendingReply>, written: Result<(), Delivery>) {
        self.client.state().stream = None;
        reply.end(written);
    }
}

/// A client's way while its reply is carried on: given up by a panic, or each would keep the other for ever.
struct Way<'a>(&'a Client);

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state().stream = None;
        }
    }
}

impl ActiveStream for Relay {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { read_closed, dead } => {
                if read_closed || dead {
                    self.client.notice_disconnect(dead);
                }
                self.wake();
            }
            Event::Expired => self.wake(),
            Event::Drain => {}
            Event::Cut => {
                self.client.cut_off();
                if let Some(reply) = self.reply.close() {
                    self.carry(reply);
                }
            }
        }
    }
}

impl Evictable for Relay {
    fn activity(&self) -> Option<Activity> {
        self.reply.look(|reply| reply.writer.activity())
    }

    fn try_evict(self: Arc<Self>, goes: &dyn Fn(&Activity) -> bool) -> bool {
        let Some(reply) = self.reply.take_for_eviction(|reply| goes(&reply.writer.activity())) else {
            return false;
        };
        self.end(reply, Err(Delivery::Evicted));
        true
    }
}
