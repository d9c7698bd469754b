//! A reply on its way to a client: what of it has come from its source, and what of that has been written. It goes on in turns and
//! never waits. Knows nothing of threads, nor of who is told how it ends.

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
/// A shorter rest of a body isn't moved: a pipe has its price.
const MOVED_BYTES_MIN: u64 = 1024 * 1024;
/// Pieces in one turn, before others get the thread: a quarter of a megabyte or two.
const ROUNDS_MAX: usize = 16;
/// And no piece is begun after this: where each chunk holds a byte, a piece takes milliseconds.
const TURN_TIME: Duration = Duration::from_millis(1);

/// A reply whose head, at least, has come.
pub(crate) struct ReplyWriter {
    framing: Framing,
    /// Read and framed, and not all of it written.
    bytes: Vec<u8>,
    written: usize,
    /// `None` once all of it has been read, or no more can be.
    source: Option<Box<dyn BodySource>>,
    /// How it broke off. What came before is written first.
    broken: Option<io::Error>,
    /// How much of a body of known length is still to be read.
    left: Option<u64>,
    moving: Moving,
    rate_meter: RateMeter,
    began: Instant,
    /// When bytes came or went last.
    moved: Instant,
    total: u64,
    /// Since when the client takes nothing.
    stuck: Option<Instant>,
    /// Since when it is waited for, this time.
    waits: Option<Instant>,
}

/// Whether the bytes of a long body go past this program.
enum Moving {
    NotYet,
    /// So many bytes are in the pipe.
    By(Pipe, usize),
    /// Not every kernel can.
    Never,
}

/// Why a turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All is written.
    Done,
    /// The client takes no more for now.
    Client,
    /// Nothing more has come for now.
    Source,
    /// Others wait for the thread.
    Yield,
}

/// What a read has brought.
#[derive(PartialEq, Eq)]
enum Filled {
    /// There may be more at once.
    Some,
    /// There is no more for now.
    Nothing,
    /// There is no more.
    All,
}

impl ReplyWriter {
    /// A head, and the body behind it.
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
            broken: None,
            left: if let Framing::Sized(length) = framing { Some(length) } else { None },
            moving: Moving::NotYet,
            rate_meter: RateMeter::default(),
            began: now,
            moved: now,
            total: 0,
            stuck: None,
            waits: None,
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

    /// What the client makes of its place meanwhile.
    pub(crate) fn activity(&self) -> Activity {
        Activity::Streaming { since: self.began, bytes: self.total, moved: self.moved }
    }

    /// Reads and writes what goes without waiting, but not for long. An error says what it means for the reply.
    pub(crate) fn go_on(&mut self, client: &Client, patience: Duration) -> Result<Stop, Delivery> {
        if let Some(since) = self.waits.take()
            && self.rate_meter.note_wait(since.elapsed(), patience)
        {
            let slow = io::Error::new(io::ErrorKind::TimedOut, "it took less than 1 KiB a second");
            return Err(Delivery::ClientGone(slow));
        }
        let began = Instant::now();
        for _ in 0..ROUNDS_MAX {
            let filled = self.fill(&client.frontend().pipes);
            if !self.write(client).map_err(Delivery::ClientGone)? {
                return Ok(Stop::Client);
            }
            match filled {
                Filled::Some if began.elapsed() >= TURN_TIME => break,
                Filled::Some => {}
                Filled::All => {
                    return self.broken.take().map_or(Ok(Stop::Done), |error| Err(Delivery::BodyBroke(error)));
                }
                Filled::Nothing => {
                    // A silent stream keeps no buffer.
                    self.bytes = Vec::new();
                    return Ok(Stop::Source);
                }
            }
        }
        Ok(Stop::Yield)
    }

    /// Until when a wait may last that begins or goes on now; an error if it has lasted for too long.
    pub(crate) fn wait(&mut self, stop: Stop, patience: Duration, now: Instant) -> Result<Instant, Delivery> {
        let until = match stop {
            Stop::Done | Stop::Yield => return Ok(now),
            Stop::Source => self.moved + patience,
            Stop::Client => {
                self.waits = Some(now);
                *self.stuck.get_or_insert(now) + patience
            }
        };
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        match stop {
            _ if now < until => Ok(until),
            Stop::Source => Err(Delivery::BodyBroke(late())),
            _ => Err(Delivery::ClientGone(late())),
        }
    }

    fn fill(&mut self, pipes: &Pipes) -> Filled {
        self.read_on(pipes).unwrap_or_else(|error| {
            (self.source, self.broken) = (None, Some(error));
            Filled::All
        })
    }

    /// Reads, unless a piece waits to be written on. Head and body go out in one write if both have come.
    fn read_on(&mut self, pipes: &Pipes) -> io::Result<Filled> {
        if self.written > 0 || matches!(self.moving, Moving::By(_, 1..)) {
            return Ok(Filled::Some);
        }
        while self.bytes.len() < PIECE_BYTES {
            if self.bytes.is_empty() && self.may_move(pipes) {
                return self.move_piece();
            }
            let Some(source) = &mut self.source else { return Ok(Filled::All) };
            match append_piece(&mut self.bytes, &mut **source, self.framing, self.left) {
                Ok(0) => self.end_body()?,
                Ok(count) => self.note_read(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Filled::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Filled::Some)
    }

    fn note_read(&mut self, count: usize) {
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        self.moved = Instant::now();
    }

    /// Nothing more comes. The line that it came on is free before the client can ask again.
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

    /// Whether the rest of the body is moved from socket to socket: if it is long, and can be.
    fn may_move(&mut self, pipes: &Pipes) -> bool {
        match self.moving {
            Moving::By(..) => true,
            Moving::Never => false,
            Moving::NotYet => {
                let is_long = self.left.is_some_and(|left| left >= MOVED_BYTES_MIN);
                let is_movable = is_long && self.source.as_ref().is_some_and(|source| source.is_movable());
                let Some(pipe) = is_movable.then(|| pipes.open()).flatten() else { return false };
                self.moving = Moving::By(pipe, 0);
                true
            }
        }
    }

    /// Moves the next of the body into the pipe, which is empty.
    fn move_piece(&mut self) -> io::Result<Filled> {
        let (Moving::By(pipe, _), Some(left), Some(source)) = (&self.moving, self.left, &mut self.source) else {
            return Ok(Filled::All);
        };
        match pipe.fill(left, |entry, most| source.move_into(entry, most)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.note_read(count);
                if let Moving::By(_, filled) = &mut self.moving {
                    *filled = count;
                }
                if self.left == Some(0) {
                    self.source = None;
                }
                Ok(Filled::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(error) if is_unsupported(&error) => {
                self.moving = Moving::Never;
                Ok(Filled::Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what there is: whether the client has taken all of it.
    fn write(&mut self, client: &Client) -> io::Result<bool> {
        loop {
            let taken = match &mut self.moving {
                _ if self.written < self.bytes.len() => client.write_now(&self.bytes[self.written..])?,
                Moving::By(pipe, filled @ 1..) => {
                    let count = match pipe.drain(&client.socket, *filled) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        drained => drained?,
                    };
                    *filled -= count;
                    count
                }
                _ => break,
            };
            if taken == 0 {
                return Ok(false);
            }
            self.note_written(taken);
        }
        self.bytes.clear();
        self.written = 0;
        Ok(true)
    }

    fn note_written(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        self.total += count as u64;
        self.rate_meter.took(count);
        self.stuck = None;
        self.moved = Instant::now();
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

/// Reads the next piece of the body and appends it in its framing. Returns how many bytes of the body it has; even
/// after the last one the source is asked once more, since only its end frees the line that it came on.
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
