//! The way back to a client: frames a reply, has it sent, and says what became of it. Knows nothing of where the reply comes
//! from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::client::{Client, Presence};
use super::connection::Connection;
use super::reply::{Asked, Framing, write_head};
use crate::message::{Delivery, Refusal, Reply, ReplyBody};

/// A guess at the room that a reply needs whose body is here whole.
const HEAD_AND_SHORT_BODY_BYTES: usize = 2048;

/// The way back to one client, good for one reply.
pub(super) struct ClientReply {
    pub(super) client: Arc<Client>,
    pub(super) connection: Option<Box<Connection>>,
    asked: Asked,
    /// From the first byte of a reply on, another one would be garbage.
    begun: bool,
}

impl ClientReply {
    pub(super) fn new(client: Arc<Client>, connection: Box<Connection>, asked: Asked) -> ClientReply {
        client.front().exchanges.fetch_add(1, Ordering::SeqCst);
        ClientReply { client, connection: Some(connection), asked, begun: false }
    }

    /// The head of a reply, framed: from now on it is begun.
    pub(super) fn begin_with_head(&mut self, reply: &Reply) -> (Vec<u8>, Framing) {
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
