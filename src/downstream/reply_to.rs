//! Sends a reply, at once as far as that goes and the rest in the client's and the backend's events, or joins the client with a
//! backend. Knows nothing of where the reply comes from.

use crate::downstream::relay::PendingReply;
use crate::downstream::reply_writer::ReplyWriter;
use crate::downstream::responder::Responder;
use crate::downstream::tunnel::Tunnel;
use crate::message::{Disconnect, OnDelivered, Reply, ReplyBody, ReplyTo, TunnelPeer};
use crate::runtime::sync::Arc;

impl ReplyTo for Responder {
    fn send(mut self: Box<Self>, reply: Reply, delivered: OnDelivered) {
        let (mut bytes, framing) = self.begin(&reply);
        let source = match reply.body {
            ReplyBody::Whole(body) if framing.has_body() => {
                bytes.extend_from_slice(&body);
                None
            }
            ReplyBody::Stream { source, .. } if framing.has_body() => Some(source),
            unsent => {
                // The backend's connection is free before the client can ask again.
                drop(unsent);
                None
            }
        };
        let client = self.client.clone();
        PendingReply::new(self, ReplyWriter::new(bytes, framing, source), delivered).send(&client);
    }

    fn join(mut self: Box<Self>, head: Reply, backend: Box<dyn TunnelPeer>, ended: OnDelivered) {
        let (bytes, _) = self.begin(&head);
        let Some(mut http1) = self.http1.take() else { return };
        // Before the 101: a client that has read it may send its last bytes and end, and hasn't left.
        self.client.end_exchange(&mut http1);
        Tunnel::open(self.client.clone(), bytes, http1.take_unread(), backend, ended);
    }

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        self.client.clone()
    }
}
