//! A reply on its way to a client: what of it has come from its source, and what of that has been written. It is carried on in
//! steps and never waits. Knows nothing of threads, nor of what is done at its end.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::downstream::client::socket::Client;
use crate::downstream::eviction::Activity;
use crate::downstream::h1::encode::{CHUNK_PREFIX_BYTES, Framing, LAST_CHUNK, chunk_prefix};
use crate::downstream::rate_meter::RateMeter;
use crate::message::{BodySource, Delivery, OnReady};

/// A body is read and written in pieces of this size. Smaller ones take more system calls, and bigger ones leave the processor's
/// cache between the read and the write. A client that takes none of it holds one.
const PIECE_BYTES: usize = 48 * 1024;
/// A piece with less room is written before more is read.
const ROOM_BYTES_MIN: usize = 1024;
/// Pieces in one step, before others get the thread: three quarters of a megabyte.
const PIECES_MAX: usize = 16;
/// And no piece is begun after this: where each chunk holds a byte, a piece takes milliseconds.
const STEP_TIME: Duration = Duration::from_millis(1);

/// A client that leaves when a body has stood still for this long has left for that: its patience is shorter than ours.
const STALL_MIN: Duration = Duration::from_secs(1);

/// The longest reply that goes out at once, if its client's window is open: the first ten packets of a connection hold it, also the
/// smallest ones (RFC 6928). A part of a longer one may still wait in the kernel when all is written, and bytes that come behind a close
/// would have that dropped.
const SHORT_BYTES_MAX: u64 = 5 * 1024;

/// Behind a chunk's bytes.
const CHUNK_END: &[u8] = b"\r\n";

/// A reply whose head, at least, has come.
pub(crate) struct ReplyWriter {
    framing: Framing,
    /// What the client has had no room for yet; before the first step the head.
    pending: Vec<u8>,
    /// How much of that has been written.
    written: usize,
    /// `None` once all of it has been read, or no more can be.
    source: Option<Box<dyn BodySource>>,
    /// How the source broke off. What came before is written first.
    source_error: Option<io::Error>,
    /// How much of a body of known length is still to be read.
    left: Option<u64>,
    rate_meter: RateMeter,
    /// When it first had to wait, and when the last bytes had been read or written by then.
    began_at: Option<Instant>,
    moved_at: Option<Instant>,
    /// Whether bytes have been read or written since.
    has_moved: bool,
    total: u64,
    /// Since when the client takes nothing.
    blocked_since: Option<Instant>,
    /// Since when the client is waited for, this time.
    waiting_since: Option<Instant>,
}

/// What is read and written in one go.
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
}

thread_local! {
    /// The buffer of all replies that a thread carries on, one after another: so it stays in the processor's cache.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Why a step of a reply is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyStep {
    /// All is written.
    Done,
    /// The client takes no more for now.
    AwaitsClient,
    /// Nothing more has come for now.
    AwaitsSource,
    /// Others wait for the thread.
    Yield,
}

/// What the source has after a read.
#[derive(PartialEq, Eq)]
enum SourceStatus {
    /// There may be more at once.
    Ready,
    /// Nothing more for now.
    Empty,
    /// Nothing more.
    Ended,
}

impl ReplyWriter {
    /// A head, and the body that follows it.
    pub(crate) fn new(head: Vec<u8>, framing: Framing, source: Option<Box<dyn BodySource>>) -> ReplyWriter {
        ReplyWriter {
            framing,
            pending: head,
            written: 0,
            source,
            source_error: None,
            left: if let Framing::Sized(length) = framing { Some(length) } else { None },
            rate_meter: RateMeter::default(),
            began_at: None,
            moved_at: None,
            has_moved: true,
            total: 0,
            blocked_since: None,
            waiting_since: None,
        }
    }

    /// Has `ready` called whenever more of the body may have come.
    pub(crate) fn when_ready(&mut self, ready: OnReady) {
        if let Some(source) = &mut self.source {
            source.when_ready(ready);
        }
    }

    /// How the body's end is told.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether what has been written has gone out as well, without a word of the client's.
    pub(crate) fn is_short(&self) -> bool {
        self.total <= SHORT_BYTES_MAX
    }

    /// What the client uses its place for meanwhile.
    pub(crate) fn activity(&self) -> Activity {
        let now = Instant::now;
        let (since, moved_at) = (self.began_at.unwrap_or_else(now), self.moved_at.unwrap_or_else(now));
        Activity::Streaming { since, bytes: self.total, moved_at }
    }

    /// Reads and writes what goes without waiting, but not for long. An error says what it means for the reply.
    pub(crate) fn step(&mut self, client: &Client, write_timeout: Duration) -> Result<ReplyStep, Delivery> {
        if let Some(since) = self.waiting_since.take()
            && self.rate_meter.note_wait(since.elapsed(), write_timeout).is_err()
        {
            let slow = io::Error::new(io::ErrorKind::TimedOut, "it took less than 1 KiB a second");
            return Err(Delivery::ClientGone(slow));
        }
        let began_at = self.source.is_some().then(Instant::now);
        for _ in 0..PIECES_MAX {
            let mut piece = Piece::new();
            let status = self.read(&mut piece, client);
            let total = self.total;
            let is_written = self.write(&piece, client).map_err(Delivery::ClientGone)?;
            self.note_gone(client.count_gone(self.total - total));
            if !is_written {
                return Ok(ReplyStep::AwaitsClient);
            }
            match status {
                SourceStatus::Ready if began_at.is_some_and(|at| at.elapsed() >= STEP_TIME) => break,
                SourceStatus::Ready => {}
                SourceStatus::Ended => {
                    let broke = |error| Err(Delivery::BodyBroke(error));
                    return self.source_error.take().map_or(Ok(ReplyStep::Done), broke);
                }
                SourceStatus::Empty => return Ok(ReplyStep::AwaitsSource),
            }
        }
        Ok(ReplyStep::Yield)
    }

    /// Begins the wait that a step's result asks for, or continues it. Returns its deadline, or an error if it has lasted for too
    /// long.
    pub(crate) fn begin_wait(
        &mut self,
        step: ReplyStep,
        write_timeout: Duration,
        now: Instant,
    ) -> Result<Instant, Delivery> {
        self.began_at.get_or_insert(now);
        if std::mem::take(&mut self.has_moved) {
            self.moved_at = Some(now);
        }
        let (since, late): (_, fn(io::Error) -> Delivery) = match step {
            ReplyStep::Done | ReplyStep::Yield => return Ok(now),
            ReplyStep::AwaitsSource => (self.moved_at.unwrap_or(now), Delivery::BodyBroke),
            ReplyStep::AwaitsClient => {
                self.waiting_since = Some(now);
                (*self.blocked_since.get_or_insert(now), Delivery::ClientGone)
            }
        };
        let until = since + write_timeout;
        if now < until { Ok(until) } else { Err(late(io::ErrorKind::TimedOut.into())) }
    }

    /// For how long the body has stood still, if that is long, and the client isn't waited for: TLS may hold what it has no room for. Of
    /// a body of known length alone: any other may be a stream, and silent.
    pub(crate) fn stall(&self, now: Instant) -> Option<Duration> {
        let is_due = self.source.is_some() && self.left.is_some_and(|left| left > 0);
        let is_waited_for = is_due && self.waiting_since.is_none() && !self.has_moved;
        let moved_at = self.moved_at.filter(|_| is_waited_for)?;
        Some(now.saturating_duration_since(moved_at)).filter(|time| *time >= STALL_MIN)
    }

    fn read(&mut self, piece: &mut Piece, client: &Client) -> SourceStatus {
        self.try_read(piece, client).unwrap_or_else(|error| {
            (self.source, self.source_error) = (None, Some(error));
            SourceStatus::Ended
        })
    }

    /// Reads the next piece, unless much of the last one is still to be written, or is held by TLS. Head and body go out in one write
    /// if both have come.
    fn try_read(&mut self, piece: &mut Piece, client: &Client) -> io::Result<SourceStatus> {
        if self.source.is_none() {
            return Ok(SourceStatus::Ended);
        }
        if self.written > 0 || self.pending.len() > PIECE_BYTES / 2 || client.has_unsent() {
            return Ok(SourceStatus::Ready);
        }
        piece.append(&std::mem::take(&mut self.pending));
        while piece.room().len() >= ROOM_BYTES_MIN {
            let Some(source) = &mut self.source else { return Ok(SourceStatus::Ended) };
            match piece.read(&mut **source, self.framing, self.left) {
                Ok(0) => self.end_body(piece)?,
                Ok(count) => self.note_read(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(SourceStatus::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => return Err(error),
            }
        }
        Ok(SourceStatus::Ready)
    }

    fn note_read(&mut self, count: usize) {
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        self.has_moved = true;
    }

    /// Drops the source at the end of the body: the backend's connection is free before the client can ask again.
    fn end_body(&mut self, piece: &mut Piece) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source = None;
        if self.framing == Framing::Chunked {
            piece.append(LAST_CHUNK);
        }
        Ok(())
    }

    /// Writes what is pending and then the piece, whose rest becomes pending. Returns whether the client has taken all of it.
    fn write(&mut self, piece: &Piece, client: &Client) -> io::Result<bool> {
        while self.written < self.pending.len() {
            let taken = client.write_some(&self.pending[self.written..])?;
            if taken == 0 {
                return Ok(false);
            }
            self.written += taken;
            self.note_written(taken);
        }
        (self.pending, self.written) = (Vec::new(), 0);
        let mut rest = piece.filled();
        while !rest.is_empty() {
            let taken = client.write_some(rest)?;
            if taken == 0 {
                self.pending = rest.to_vec();
                return Ok(false);
            }
            rest = &rest[taken..];
            self.note_written(taken);
        }
        client.flush()
    }

    fn note_written(&mut self, count: usize) {
        self.total += count as u64;
        self.has_moved = true;
    }

    fn note_gone(&mut self, count: u64) {
        if count > 0 {
            self.rate_meter.note_taken(count);
            self.blocked_since = None;
        }
    }
}

impl Piece {
    fn new() -> Piece {
        let mut buffer = BUFFER.take();
        buffer.resize(PIECE_BYTES, 0);
        Piece { buffer, filled: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Appends bytes for which there must be room.
    fn append(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Reads more of the body, in its framing. Returns the number of the body's bytes in it; even after the last one the source is
    /// asked once more, since only its end frees the backend's connection.
    fn read(&mut self, source: &mut dyn BodySource, framing: Framing, left: Option<u64>) -> io::Result<usize> {
        let room = self.room();
        if framing == Framing::Chunked {
            let end = room.len() - CHUNK_END.len();
            let count = source.read(&mut room[CHUNK_PREFIX_BYTES..end])?;
            if count > 0 {
                room[..CHUNK_PREFIX_BYTES].copy_from_slice(&chunk_prefix(count));
                self.filled += CHUNK_PREFIX_BYTES + count;
                self.append(CHUNK_END);
            }
            return Ok(count);
        }
        let count = source.read(room)?;
        if left.is_some_and(|left| count as u64 > left) {
            return Err(io::Error::other("the body is longer than its Content-Length"));
        }
        self.filled += count;
        Ok(count)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.buffer));
    }
}
