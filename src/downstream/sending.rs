//! Sends a reply: at once as far as that goes, the rest in turns, or joins the client to a backend. Knows nothing of where the
//! reply comes from.

use std::time::Instant;

use crate::downstream::h1::encode::Framing;
use crate::downstream::relay::PendingReply;
use crate::downstream::reply_writer::ReplyWriter;
use crate::downstream::responder::Responder;
use crate::downstream::tunnel::Tunnel;
use crate::message::{Delivery, Disconnect, OnDelivered, Reply, ReplyBody, ReplyTo, TunnelPeer};
use crate::runtime::sync::Arc;

impl ReplyTo for Responder {
    fn send(mut self: Box<Self>, reply: Reply, delivered: OnDelivered) {
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
        PendingReply::new(self, ReplyWriter::new(bytes, framing, source, Instant::now()), delivered).send(&client);
    }

    fn join(mut self: Box<Self>, head: Reply, far: Box<dyn TunnelPeer>, ended: OnDelivered) {
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

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        self.client.clone()
    }
}
