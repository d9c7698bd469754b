//! The way back to a client: frames a reply, has it sent, and says what became of it. Knows nothing of where the reply comes
//! from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::downstream::client::socket::{Client, ClientStatus};
use crate::downstream::h1::encode::{Framing, RequestSummary, write_head};
use crate::downstream::h1::protocol::Http1;
use crate::message::{Delivery, Refusal, Reply, ReplyBody};

/// A guess at the room that a reply needs whose body is here whole.
const HEAD_AND_SHORT_BODY_BYTES: usize = 2048;

/// The way back to one client, good for one reply.
pub(crate) struct Responder {
    pub(crate) client: Arc<Client>,
    pub(crate) connection: Option<Box<Http1>>,
    summary: RequestSummary,
    /// From the first byte of a reply on, another one would be garbage.
    begun: bool,
}

impl Responder {
    pub(crate) fn new(client: Arc<Client>, connection: Box<Http1>, summary: RequestSummary) -> Responder {
        client.frontend().exchanges.fetch_add(1, Ordering::SeqCst);
        Responder { client, connection: Some(connection), summary, begun: false }
    }

    /// The head of a reply, framed: from now on it is begun.
    pub(crate) fn begin_with_head(&mut self, reply: &Reply) -> (Vec<u8>, Framing) {
        self.summary.persistent &= !self.client.frontend().is_draining();
        let framing = Framing::of(self.summary, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(HEAD_AND_SHORT_BODY_BYTES);
        write_head(&mut bytes, self.summary, reply.status, &reply.headers, framing, SystemTime::now());
        self.begun = true;
        (bytes, framing)
    }

    /// The reply has been written, or can't be: the client may ask again, or goes. Gives what became of it.
    pub(crate) fn leave(&mut self, framing: Framing, written: Result<(), Delivery>) -> Delivery {
        let Some(connection) = self.connection.take() else { return Delivery::Whole };
        match written {
            Ok(()) if framing.is_persistent(self.summary) => self.client.answered(connection),
            Ok(()) => self.client.start_closing(connection),
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
            let state = self.client.state();
            (state.is_cut, state.status == ClientStatus::Gone)
        };
        match failed {
            _ if is_cut => Delivery::Stopped,
            Delivery::BodyBroke(_) if is_gone => Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into()),
            failed => failed,
        }
    }
}

impl Drop for Responder {
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
        self.client.frontend().exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}
