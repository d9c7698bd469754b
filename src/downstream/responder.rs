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

/// A guess at the room for a reply's head.
const HEAD_BYTES: usize = 512;

/// The way back to one client, good for one reply.
pub(crate) struct Responder {
    pub(crate) client: Arc<Client>,
    pub(crate) http1: Option<Box<Http1>>,
    summary: RequestSummary,
    /// From the first byte of a reply on, another one would be garbage.
    has_begun: bool,
}

impl Responder {
    pub(crate) fn new(client: Arc<Client>, http1: Box<Http1>, summary: RequestSummary) -> Responder {
        client.frontend().exchanges.fetch_add(1, Ordering::SeqCst);
        Responder { client, http1: Some(http1), summary, has_begun: false }
    }

    /// Begins the reply. Returns the bytes of its head, and its framing.
    pub(crate) fn begin(&mut self, reply: &Reply) -> (Vec<u8>, Framing) {
        self.summary.persistent &= !self.client.frontend().is_draining();
        let framing = Framing::of(self.summary, reply.status, &reply.body);
        let body_bytes = if let ReplyBody::Whole(body) = &reply.body { body.len() } else { 0 };
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body_bytes);
        write_head(&mut bytes, self.summary, reply.status, &reply.headers, framing, SystemTime::now);
        self.has_begun = true;
        (bytes, framing)
    }

    /// Ends a reply that has been written, or can't be: the client may ask again, or its connection is closed. `is_short`: all of it
    /// has gone out by then. Returns what became of the reply.
    pub(crate) fn finish(&mut self, framing: Framing, is_short: bool, written: Result<(), Delivery>) -> Delivery {
        let Some(http1) = self.http1.take() else { return Delivery::Whole };
        match written {
            Ok(()) if framing.is_persistent(self.summary) => self.client.await_next_request(http1),
            Ok(()) if self.summary.is_only && is_short => self.client.close_after_only(http1),
            Ok(()) => self.client.start_closing(http1),
            Err(failed) => {
                let failed = self.blame(failed);
                // Not every client compares lengths: a reset tells all of them that the reply is cut.
                self.client.abort();
                return failed;
            }
        }
        Delivery::Whole
    }

    /// The failure with its true cause. A client that leaves, or a shutdown, has the backend hung up on, and the backend's end may
    /// be noticed first.
    fn blame(&self, failed: Delivery) -> Delivery {
        let (is_cut, is_gone) = {
            let state = self.client.state.lock();
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
        if let Some(http1) = self.http1.take() {
            if self.has_begun || self.client.state.lock().is_cut {
                self.client.abort();
            } else if self.client.is_gone() {
                // It may still read what was sent before.
                self.client.start_closing(http1);
            } else {
                let reply = self.client.frontend().limits.refused(&Refusal::Internal);
                let (mut bytes, framing) = self.begin(&reply);
                if let ReplyBody::Whole(body) = reply.body
                    && framing.has_body()
                {
                    bytes.extend_from_slice(&body);
                }
                match self.client.try_write_all(&bytes) {
                    Ok(()) => {
                        self.http1 = Some(http1);
                        self.finish(framing, true, Ok(()));
                    }
                    // A client that lets its socket fill up is told by the close alone.
                    Err(_) => self.client.break_off(http1),
                }
            }
        }
        self.client.frontend().exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}
