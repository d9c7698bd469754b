//! Carries on a reply that can't be written at once: whenever more of it has come, or the client has room, on the thread that gets
//! that event. In between it waits in the poller. Knows nothing of where the reply comes from.

use std::io;
use std::thread;
use std::time::Instant;

use crate::downstream::client::socket::{ActiveStream, Client};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::parking::Parking;
use crate::downstream::reply_writer::{ReplyStep, ReplyWriter};
use crate::downstream::responder::Responder;
use crate::message::{Delivery, OnDelivered};
use crate::runtime::poller::Event;
use crate::runtime::sync::Arc;

/// A reply that waits, or is being carried on.
pub(crate) struct Relay {
    client: Arc<Client>,
    reply: Parking<PendingReply>,
    _counted: Arc<()>,
}

/// A reply that isn't written whole, with its responder, and the callback for its end. If it is dropped before that, by a panic or
/// by a shutdown, it cuts the client off.
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
        match self.step(client) {
            Ok(ReplyStep::Done) => self.end(Ok(())),
            Ok(_) => Relay::open(client.clone(), self),
            Err(failed) => self.end(Err(failed)),
        }
    }

    fn step(&mut self, client: &Client) -> Result<ReplyStep, Delivery> {
        if client.is_gone() {
            let gone = || Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into());
            return Err(self.writer.stall(Instant::now()).map_or_else(gone, Delivery::GaveUp));
        }
        self.writer.step(client, client.frontend().write_timeout)
    }

    fn end(self: Box<Self>, written: Result<(), Delivery>) {
        let PendingReply { mut responder, writer, delivered } = *self;
        let (framing, is_short) = (writer.framing(), writer.is_short());
        // The backend's connection is free before the client can ask again.
        drop(writer);
        delivered(responder.finish(framing, is_short, written));
    }
}

impl Relay {
    fn open(client: Arc<Client>, mut reply: Box<PendingReply>) {
        let counted = client.frontend().relays.clone();
        let relay = Arc::new(Relay { client, reply: Parking::new(), _counted: counted });
        let weak = Arc::downgrade(&relay);
        reply.writer.when_ready(Arc::new(move || {
            if let Some(relay) = weak.upgrade() {
                relay.wake();
            }
        }));
        relay.client.state.lock().stream = Some(relay.clone());
        // No event told of what has happened before this.
        relay.carry(reply);
    }

    /// Carries the reply on for an event of either socket.
    fn wake(&self) {
        if let Some(reply) = self.reply.take_or_notify() {
            self.carry(reply);
        }
    }

    fn carry(&self, reply: Box<PendingReply>) {
        let _panics = ClearStreamOnPanic(&self.client);
        let mut in_hand = Some(reply);
        while let Some(mut reply) = in_hand {
            let stepped = reply.step(&self.client).and_then(|step| Ok((step, self.begin_wait(&mut reply, step)?)));
            in_hand = match stepped {
                Ok((ReplyStep::Done, _)) => return self.end(reply, Ok(())),
                Ok((ReplyStep::Yield, now)) => self.reply.park_to_yield(reply, || self.set_deadline(now)),
                Ok((ReplyStep::AwaitsClient | ReplyStep::AwaitsSource, until)) => {
                    self.reply.park(reply, || self.set_deadline(until))
                }
                Err(failed) => return self.end(reply, Err(failed)),
            };
        }
    }

    fn begin_wait(&self, reply: &mut PendingReply, step: ReplyStep) -> Result<Instant, Delivery> {
        if step == ReplyStep::AwaitsClient {
            self.client.want_writable().map_err(Delivery::ClientGone)?;
        }
        reply.writer.begin_wait(step, self.client.frontend().write_timeout, Instant::now())
    }

    fn set_deadline(&self, until: Instant) {
        self.client.registration.set_deadline(Some(until));
    }

    fn end(&self, reply: Box<PendingReply>, written: Result<(), Delivery>) {
        self.client.state.lock().stream = None;
        reply.end(written);
    }
}

/// Takes a relay out of its client if the thread panics: else each of the two would keep the other for ever.
struct ClearStreamOnPanic<'a>(&'a Client);

impl Drop for ClearStreamOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state.lock().stream = None;
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
        self.reply.inspect(|reply| reply.writer.activity())
    }

    fn try_evict(self: Arc<Self>, may_evict: &dyn Fn(&Activity) -> bool) -> bool {
        let Some(reply) = self.reply.close_if(|reply| may_evict(&reply.writer.activity())) else {
            return false;
        };
        self.end(reply, Err(Delivery::Evicted));
        true
    }
}
