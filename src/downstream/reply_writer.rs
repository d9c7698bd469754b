//! A reply on its way to a client: what of it has come from its source, and what of that has been written. It is carried on in
//! steps and never waits. Knows nothing of threads, nor of what is done at its end.

use std::io;
use std::time::{Duration, Instant};

use crate::downstream::client::socket::Client;
use crate::downstream::eviction::Activity;
use crate::downstream::h1::encode::{CHUNK_PREFIX_BYTES, Framing, LAST_CHUNK, chunk_prefix};
use crate::downstream::rate_meter::RateMeter;
use crate::downstream::splice::{Pipe, Pipes};
use crate::message::{BodySource, Delivery, OnReady};

/// A body is read in pieces of this size, and a client that takes none of it holds two: bigger ones save no system calls worth the
/// memory.
const PIECE_BYTES: usize = 16 * 1024;
/// A shorter rest of a body isn't spliced: a pipe has its price.
const SPLICE_BYTES_MIN: u64 = 1024 * 1024;
/// Pieces in one step, before others get the thread: a quarter of a megabyte or two.
const PIECES_MAX: usize = 16;
/// And no piece is begun after this: where each chunk holds a byte, a piece takes milliseconds.
const STEP_TIME: Duration = Duration::from_millis(1);

/// A reply whose head, at least, has come.
pub(crate) struct ReplyWriter {
    framing: Framing,
    /// Read and framed, and not all of it written.
    bytes: Vec<u8>,
    written: usize,
    /// `None` once all of it has been read, or no more can be.
    source: Option<Box<dyn BodySource>>,
    /// How the source broke off. What came before is written first.
    source_error: Option<io::Error>,
    /// How much of a body of known length is still to be read.
    left: Option<u64>,
    splicing: Splicing,
    rate_meter: RateMeter,
    began_at: Instant,
    /// When bytes were last read or written.
    moved_at: Instant,
    total: u64,
    /// Since when the client takes nothing.
    blocked_since: Option<Instant>,
    /// Since when the client is waited for, this time.
    waiting_since: Option<Instant>,
}

/// Whether the bytes of a long body bypass this program.
enum Splicing {
    NotBegun,
    /// The pipe holds this number of bytes.
    Through(Pipe, usize),
    /// The kernel can't for these sockets.
    Unsupported,
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
    pub(crate) fn new(
        head: Vec<u8>,
        framing: Framing,
        source: Option<Box<dyn BodySource>>,
        now: Instant,
    ) -> ReplyWriter {
        ReplyWriter {
            framing,
            bytes: head,
            written: 0,
            source,
            source_error: None,
            left: if let Framing::Sized(length) = framing { Some(length) } else { None },
            splicing: Splicing::NotBegun,
            rate_meter: RateMeter::default(),
            began_at: now,
            moved_at: now,
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

    /// What the client uses its place for meanwhile.
    pub(crate) fn activity(&self) -> Activity {
        Activity::Streaming { since: self.began_at, bytes: self.total, moved_at: self.moved_at }
    }

    /// Reads and writes what goes without waiting, but not for long. An error says what it means for the reply.
    pub(crate) fn step(&mut self, client: &Client, write_timeout: Duration) -> Result<ReplyStep, Delivery> {
        if let Some(since) = self.waiting_since.take()
            && self.rate_meter.note_wait(since.elapsed(), write_timeout).is_err()
        {
            let slow = io::Error::new(io::ErrorKind::TimedOut, "it took less than 1 KiB a second");
            return Err(Delivery::ClientGone(slow));
        }
        let began_at = Instant::now();
        for _ in 0..PIECES_MAX {
            if client.peer.is_tls {
                // Each byte has to be encrypted.
                self.splicing = Splicing::Unsupported;
            }
            let status = self.read(&client.frontend().pipes);
            if !self.write(client).map_err(Delivery::ClientGone)? {
                return Ok(ReplyStep::AwaitsClient);
            }
            match status {
                SourceStatus::Ready if began_at.elapsed() >= STEP_TIME => break,
                SourceStatus::Ready => {}
                SourceStatus::Ended => {
                    let broke = |error| Err(Delivery::BodyBroke(error));
                    return self.source_error.take().map_or(Ok(ReplyStep::Done), broke);
                }
                SourceStatus::Empty => {
                    // A silent stream keeps no buffer.
                    self.bytes = Vec::new();
                    return Ok(ReplyStep::AwaitsSource);
                }
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
        let until = match step {
            ReplyStep::Done | ReplyStep::Yield => return Ok(now),
            ReplyStep::AwaitsSource => self.moved_at + write_timeout,
            ReplyStep::AwaitsClient => {
                self.waiting_since = Some(now);
                *self.blocked_since.get_or_insert(now) + write_timeout
            }
        };
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        match step {
            _ if now < until => Ok(until),
            ReplyStep::AwaitsSource => Err(Delivery::BodyBroke(late())),
            _ => Err(Delivery::ClientGone(late())),
        }
    }

    fn read(&mut self, pipes: &Pipes) -> SourceStatus {
        self.try_read(pipes).unwrap_or_else(|error| {
            (self.source, self.source_error) = (None, Some(error));
            SourceStatus::Ended
        })
    }

    /// Reads, unless a piece is still to be written. Head and body go out in one write if both have come.
    fn try_read(&mut self, pipes: &Pipes) -> io::Result<SourceStatus> {
        if self.written > 0 || matches!(self.splicing, Splicing::Through(_, 1..)) {
            return Ok(SourceStatus::Ready);
        }
        while self.bytes.len() < PIECE_BYTES {
            if self.bytes.is_empty() && self.try_start_splicing(pipes) {
                return self.splice_piece();
            }
            let Some(source) = &mut self.source else { return Ok(SourceStatus::Ended) };
            match append_piece(&mut self.bytes, &mut **source, self.framing, self.left) {
                Ok(0) => self.end_body()?,
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
        self.moved_at = Instant::now();
    }

    /// Drops the source at the end of the body: the backend's connection is free before the client can ask again.
    fn end_body(&mut self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source = None;
        if self.framing == Framing::Chunked {
            self.bytes.extend_from_slice(LAST_CHUNK);
        }
        Ok(())
    }

    /// Opens a pipe for the rest of the body if that is long, and can be spliced. Returns whether there is one.
    fn try_start_splicing(&mut self, pipes: &Pipes) -> bool {
        match self.splicing {
            Splicing::Through(..) => true,
            Splicing::Unsupported => false,
            Splicing::NotBegun => {
                let is_long = self.left.is_some_and(|left| left >= SPLICE_BYTES_MIN);
                let is_movable = is_long && self.source.as_ref().is_some_and(|source| source.is_movable());
                let Some(pipe) = is_movable.then(|| pipes.try_open()).flatten() else { return false };
                self.splicing = Splicing::Through(pipe, 0);
                true
            }
        }
    }

    /// Moves the next piece of the body into the pipe, which is empty.
    fn splice_piece(&mut self) -> io::Result<SourceStatus> {
        let (Splicing::Through(pipe, _), Some(left), Some(source)) = (&self.splicing, self.left, &mut self.source)
        else {
            return Ok(SourceStatus::Ended);
        };
        match pipe.fill(left, |entry, bytes_max| source.move_into(entry, bytes_max)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.note_read(count);
                if let Splicing::Through(_, held) = &mut self.splicing {
                    *held = count;
                }
                if self.left == Some(0) {
                    self.source = None;
                }
                Ok(SourceStatus::Ready)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(SourceStatus::Empty),
            Err(error) if is_unsupported(&error) => {
                self.splicing = Splicing::Unsupported;
                Ok(SourceStatus::Ready)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what has been read. Returns whether the client has taken all of it.
    fn write(&mut self, client: &Client) -> io::Result<bool> {
        loop {
            let taken = match &mut self.splicing {
                _ if self.written < self.bytes.len() => client.write_some(&self.bytes[self.written..])?,
                Splicing::Through(pipe, held @ 1..) => {
                    let count = match pipe.empty_into(client.socket(), *held) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        moved => moved?,
                    };
                    *held -= count;
                    count
                }
                _ => break,
            };
            if taken == 0 {
                return Ok(false);
            }
            self.note_written(taken);
        }
        if !client.flush()? {
            return Ok(false);
        }
        self.bytes.clear();
        self.written = 0;
        Ok(true)
    }

    fn note_written(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        self.total += count as u64;
        self.rate_meter.note_taken(count);
        self.blocked_since = None;
        self.moved_at = Instant::now();
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

/// Reads the next piece of the body and appends it in its framing. Returns the number of the body's bytes in it; even after the last
/// one the source is asked once more, since only its end frees the backend's connection.
fn append_piece(
    bytes: &mut Vec<u8>,
    source: &mut dyn BodySource,
    framing: Framing,
    left: Option<u64>,
) -> io::Result<usize> {
    let start = bytes.len();
    let prefix = if framing == Framing::Chunked { CHUNK_PREFIX_BYTES } else { 0 };
    let room = left.map_or(PIECE_BYTES, |left| usize::try_from(left).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES));
    bytes.resize(start + prefix + room, 0);
    let read = source.read(&mut bytes[start + prefix..]);
    let count = *read.as_ref().unwrap_or(&0);
    if count == 0 {
        bytes.truncate(start);
        return read;
    }
    bytes.truncate(start + prefix + count);
    if left.is_some_and(|left| count as u64 > left) {
        return Err(io::Error::other("the body is longer than its Content-Length"));
    }
    if framing == Framing::Chunked {
        bytes[start..start + prefix].copy_from_slice(&chunk_prefix(count));
        bytes.extend_from_slice(b"\r\n");
    }
    Ok(count)
}
