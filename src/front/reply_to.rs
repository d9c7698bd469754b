//! The way back to a client: frames a reply and writes it, streams its body as it comes, and says what became of it.
//! Knows nothing of where the reply comes from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::client::Client;
use super::connection::Connection;
use super::patience::Pace;
use super::reply::{Asked, CHUNK_PREFIX_BYTES, Framing, LAST_CHUNK, chunk_prefix, write_head};
use super::tunnel::Tunnel;
use crate::message::{Delivery, Departure, FarSide, Refusal, Reply, ReplyBody, ReplyTo, Rest, Source, TunnelCare};

/// A body travels in pieces of this size: bigger ones save no system calls worth the memory.
const PIECE_BYTES: usize = 32 * 1024;
/// A guess at the room that a reply needs whose body is here whole.
const HEAD_AND_SHORT_BODY_BYTES: usize = 2048;
/// A shorter rest of a body isn't moved: a pipe has its price.
const MOVED_BYTES_MIN: u64 = 1024 * 1024;

/// The way back to one client, good for one reply.
pub struct ClientReply {
    client: Arc<Client>,
    connection: Option<Box<Connection>>,
    asked: Asked,
    /// From the first byte of a reply on, another one would be garbage.
    begun: bool,
    /// Whether this thread may wait for the client.
    waits: bool,
    /// How the client takes the reply.
    pace: Pace,
}

impl ClientReply {
    pub(super) fn new(client: Arc<Client>, connection: Box<Connection>, asked: Asked) -> ClientReply {
        client.front().exchanges.fetch_add(1, Ordering::SeqCst);
        ClientReply { client, connection: Some(connection), asked, begun: false, waits: true, pace: Pace::default() }
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

    fn send(&mut self, reply: Reply) -> Delivery {
        let (mut bytes, framing) = self.begin_with_head(&reply);
        let written = match reply.body {
            ReplyBody::Stream { source, .. } if !matches!(framing, Framing::None { .. }) => {
                self.stream(bytes, framing, source)
            }
            body => append_whole(&mut bytes, body, framing).and_then(|()| self.write(&bytes)),
        };
        self.leave(framing, written)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Delivery> {
        let client = &self.client;
        let written = if self.waits { client.write_all(bytes, &mut self.pace) } else { client.try_write(bytes) };
        written.map_err(Delivery::ClientGone)
    }

    fn leave(&mut self, framing: Framing, written: Result<(), Delivery>) -> Delivery {
        let Some(connection) = self.connection.take() else { return Delivery::Whole };
        match written {
            Ok(()) if framing.is_persistent(self.asked) && self.waits => self.client.answered(connection),
            Ok(()) if framing.is_persistent(self.asked) => self.client.answered_at_once(connection),
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
        match failed {
            _ if self.client.seat().is_cut => Delivery::Stopped,
            Delivery::BodyBroke(_) if self.client.is_gone() => {
                Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into())
            }
            failed => failed,
        }
    }

    /// Writes the head and the body behind it: in one go what is here, the rest as it comes.
    fn stream(&mut self, mut bytes: Vec<u8>, framing: Framing, mut source: Box<dyn Source>) -> Result<(), Delivery> {
        append_body(&mut bytes, &mut *source, framing, |bytes, source, left| {
            if bytes.len() < PIECE_BYTES && (bytes.is_empty() || left == Some(0) || source.is_here()) {
                return Ok(false);
            }
            self.write(bytes)?;
            bytes.clear();
            self.moves(source, left)
        })?;
        // The line is free before the client can ask again.
        drop(source);
        self.write(&bytes)
    }

    /// Moves the rest of the body to the client, if it is long and can be moved: whether it has.
    fn moves(&mut self, source: &mut dyn Source, left: Option<u64>) -> Result<bool, Delivery> {
        let Some(length) = left.filter(|left| *left >= MOVED_BYTES_MIN && source.is_movable()) else {
            return Ok(false);
        };
        let Some(pipe) = self.client.front().pipes.open() else { return Ok(false) };
        let mut left = length;
        while left > 0 {
            let count = match pipe.fill(left, |entry, most| source.move_into(entry, most)) {
                Ok(0) => return Err(Delivery::BodyBroke(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                // Not every kernel can.
                Err(error) if left == length && is_unsupported(&error) => return Ok(false),
                Err(error) => return Err(Delivery::BodyBroke(error)),
            };
            self.client.write_from(&pipe, count, &mut self.pace).map_err(Delivery::ClientGone)?;
            left -= count as u64;
        }
        Ok(true)
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

/// Appends a body that is here whole, if it is sent at all. Either way the line that it came on is free before the client can
/// ask again.
fn append_whole(bytes: &mut Vec<u8>, body: ReplyBody, framing: Framing) -> Result<(), Delivery> {
    match body {
        _ if matches!(framing, Framing::None { .. }) => {}
        ReplyBody::Withheld { .. } => {}
        ReplyBody::Whole(body) => bytes.extend_from_slice(&body),
        ReplyBody::Stream { mut source, .. } => append_body(bytes, &mut *source, framing, |_, _, _| Ok(false))?,
    }
    Ok(())
}

/// Appends a body to its end, piece by piece. Between two pieces what is here already may be sent: `pass_on` says whether the
/// rest of the body has gone another way.
fn append_body(
    bytes: &mut Vec<u8>,
    source: &mut dyn Source,
    framing: Framing,
    mut pass_on: impl FnMut(&mut Vec<u8>, &mut dyn Source, Option<u64>) -> Result<bool, Delivery>,
) -> Result<(), Delivery> {
    let mut left = if let Framing::Sized(length) = framing { Some(length) } else { None };
    loop {
        if pass_on(bytes, source, left)? {
            return Ok(());
        }
        let count = append_piece(bytes, source, framing, left).map_err(Delivery::BodyBroke)?;
        if count == 0 {
            break;
        }
        left = left.map(|left| left - count as u64);
    }
    if left.is_some_and(|left| left > 0) {
        return Err(Delivery::BodyBroke(io::ErrorKind::UnexpectedEof.into()));
    }
    if framing == Framing::Chunked {
        bytes.extend_from_slice(LAST_CHUNK);
    }
    Ok(())
}

/// Reads the next piece of the body and appends it in its framing. Returns how many bytes of the body it has; even
/// after the last one the source is asked once more, since only its end frees the line that it came on.
fn append_piece(
    bytes: &mut Vec<u8>,
    source: &mut dyn Source,
    framing: Framing,
    left: Option<u64>,
) -> io::Result<usize> {
    let start = bytes.len();
    let prefix = if framing == Framing::Chunked { CHUNK_PREFIX_BYTES } else { 0 };
    let room = left.map_or(PIECE_BYTES, |left| usize::try_from(left).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES));
    bytes.resize(start + prefix + room, 0);
    let count = read_some(source, &mut bytes[start + prefix..])?;
    if left.is_some_and(|left| count as u64 > left) {
        return Err(io::Error::other("the body is longer than its Content-Length"));
    }
    if count == 0 {
        bytes.truncate(start);
        return Ok(0);
    }
    bytes.truncate(start + prefix + count);
    if framing == Framing::Chunked {
        bytes[start..start + prefix].copy_from_slice(&chunk_prefix(count));
        bytes.extend_from_slice(b"\r\n");
    }
    Ok(count)
}

fn read_some(source: &mut dyn Source, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl ReplyTo for ClientReply {
    fn reply(mut self: Box<Self>, reply: Reply) -> Delivery {
        self.send(reply)
    }

    fn reply_at_once(mut self: Box<Self>, reply: Reply) -> Delivery {
        self.waits = false;
        self.send(reply)
    }

    fn begin(mut self: Box<Self>, reply: Reply) -> Result<Delivery, Rest> {
        let (mut bytes, framing) = self.begin_with_head(&reply);
        let whole = append_whole(&mut bytes, reply.body, framing);
        match whole.and_then(|()| self.client.write_now(&bytes).map_err(Delivery::ClientGone)) {
            Ok(count) if count < bytes.len() => Err(Box::new(move || {
                let written = self.write(&bytes[count..]);
                self.leave(framing, written)
            })),
            written => {
                self.waits = false;
                Ok(self.leave(framing, written.map(drop)))
            }
        }
    }

    fn join(mut self: Box<Self>, head: Reply, far: Box<dyn FarSide>, care: TunnelCare) {
        let (bytes, _) = self.begin_with_head(&head);
        let Some(mut connection) = self.connection.take() else { return };
        // Before the 101: who has read it may send its last bytes and end, and hasn't left.
        self.client.leave_exchange(&mut connection);
        match self.write(&bytes) {
            Ok(()) => Tunnel::open(self.client.clone(), connection.take_unread(), far, care),
            Err(failed) => {
                self.client.abort();
                (care.ended)(failed);
            }
        }
    }

    fn departure(&self) -> Arc<dyn Departure> {
        self.client.clone()
    }
}

impl Drop for ClientReply {
    fn drop(&mut self) {
        if self.connection.is_some() {
            if self.begun || self.client.is_gone() {
                self.client.abort();
            } else {
                self.waits = false;
                self.send(Refusal::Internal.reply());
            }
        }
        self.client.front().exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}
