//! The way back to a client: frames a reply, has it sent, and says what became of it. Knows nothing of where the reply comes
//! from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use super::client::{Client, Presence};
use super::connection::Connection;
use super::relay::Cargo;
use super::reply::{Asked, Framing, write_head};
use super::transfer::Transfer;
use super::tunnel::Tunnel;
use crate::message::{Delivered, Delivery, Departure, FarSide, Refusal, Reply, ReplyBody, ReplyTo};

/// A guess at the room that a reply needs whose body is here whole.
const HEAD_AND_SHORT_BODY_BYTES: usize = 2048;

/// The way back to one client, good for one reply.
pub struct ClientReply {
    client: Arc<Client>,
    connection: Option<Box<Connection>>,
    asked: Asked,
    /// From the first byte of a reply on, another one would be garbage.
    begun: bool,
}

impl ClientReply {
    pub(super) fn new(client: Arc<Client>, connection: Box<Connection>, asked: Asked) -> ClientReply {
        client.front().exchanges.fetch_add(1, Ordering::SeqCst);
        ClientReply { client, connection: Some(connection), asked, begun: false }
    }

    /// The connection, unanswered.
    pub(super) fn into_connection(mut self) -> Option<Box<Connection>> {
        self.connection.take()
    }

    fn begin_with_head(&mut self, reply: &Reply) -> (Vec<u8>, Framing) {
        self.asked.persistent &= !self.client.front().is_draining();
        let framing = Framing::of(self.asked, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(HEAD_AND_SHORT_BODY_BYTES);
        write_head(&mut bytes, self.asked, reply.status, &reply.headers, framing, SystemTime::now());
        self.begun = true;
        (bytes, framing)
    }

    /// The reply has been written, or can't be: the client may ask again, or goes. Gives what became of it.
    pub(super) fn leave(&mut self, framing: Framing, written: Result<(), Delivery>) -> Delivery {
        let Some(connection) = self.connection.take() else { return Delivery::Whole };
        match written {
            Ok(()) if framing.is_persistent(self.asked) => self.client.answered(connection),
            Ok(()) => self.client.part(connection),
            Err(failed) => {
                let blamed = self.blamed(failed);
                self.client.abort();
                return blamed;
            }
        }
        Delivery::Whole
    }

    /// Who ended it: one that left, or the end of the house, has had the other side hung up on, which may be heard of first.
    fn blamed(&self, failed: Delivery) -> Delivery {
        let (is_cut, is_gone) = {
            let seat = self.client.seat();
            (seat.is_cut, seat.presence == Presence::Gone)
        };
        match failed {
            _ if is_cut => Delivery::Stopped,
            Delivery::BodyBroke(_) if is_gone => Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into()),
            failed => failed,
        }
    }
}

impl ReplyTo for ClientReply {
    fn send(mut self: Box<Self>, reply: Reply, delivered: Delivered) {
        let (mut bytes, framing) = self.begin_with_head(&reply);
        let has_body = !matches!(framing, Framing::None { .. });
        let source = match reply.body {
            ReplyBody::Whole(body) if has_body => {
                bytes.extend_from_slice(&body);
                None
            }
            ReplyBody::Stream { source, .. } if has_body => Some(source),
            unsent => {
                // The line that it came on is free before the client can ask again.
                drop(unsent);
                None
            }
        };
        let client = self.client.clone();
        Cargo::new(self, Transfer::new(bytes, framing, source, Instant::now()), delivered).send(&client);
    }

    fn join(mut self: Box<Self>, head: Reply, far: Box<dyn FarSide>, ended: Delivered) {
        let (bytes, _) = self.begin_with_head(&head);
        let Some(mut connection) = self.connection.take() else { return };
        // Before the 101: who has read it may send its last bytes and end, and hasn't left.
        self.client.leave_exchange(&mut connection);
        match self.client.try_write(&bytes) {
            Ok(()) => Tunnel::open(self.client.clone(), connection.take_unread(), far, ended),
            Err(error) => {
                self.client.abort();
                ended(Delivery::ClientGone(error));
            }
        }
    }

    fn departure(&self) -> Arc<dyn Departure> {
        self.client.clone()
    }
}

impl Drop for ClientReply {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            if self.begun || self.client.is_gone() {
                self.client.abort();
            } else {
                self.connection = Some(connection);
                let reply = Refusal::Internal.reply();
                let (mut bytes, framing) = self.begin_with_head(&reply);
                if let ReplyBody::Whole(body) = reply.body {
                    bytes.extend_from_slice(&body);
                }
                // A client that lets its socket fill up doesn't read.
                let written = self.client.try_write(&bytes).map_err(Delivery::ClientGone);
                self.leave(framing, written);
            }
        }
        self.client.front().exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}
