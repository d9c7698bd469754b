//! One direction of a tunnel: what has been read and not yet been written, and how it ends. Knows nothing of sockets.

use std::io::{self, Read, Write};

/// Moved in one piece, in either direction.
const PIECE_BYTES: usize = 16 * 1024;

/// One direction: what has been read and not yet been written.
#[derive(Default)]
pub(crate) struct Flow {
    bytes: Vec<u8>,
    written: usize,
    /// How much has been read so far, in bytes.
    pub(crate) total: u64,
    /// Nothing more will be read, in whatever way its source has ended.
    pub(crate) source_ended: bool,
    /// Nothing more will be written: the other side has been told the end, or takes nothing any more. What is read is thrown
    /// away.
    pub(crate) closed: bool,
}

/// What a step has done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    Nothing,
    ThrownAway,
    Moved,
}

impl Flow {
    /// One whose source has said this already.
    pub(crate) fn holding(bytes: Vec<u8>) -> Flow {
        Flow { bytes, ..Flow::default() }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Reads if nothing is pending, writes what is. Waits for nothing.
    pub(crate) fn step(&mut self, source: &mut dyn Read, sink: &mut dyn Write) -> Result<Progress, Failed> {
        let read = self.read(source)?;
        let written = if self.is_pending() && !self.closed { self.write(sink)? } else { Progress::Nothing };
        if self.closed || !self.is_pending() {
            // A silent tunnel keeps no buffer.
            self.bytes = Vec::new();
            self.written = 0;
        }
        Ok(if self.closed { read.min(Progress::ThrownAway) } else { read.max(written) })
    }

    fn read(&mut self, source: &mut dyn Read) -> Result<Progress, Failed> {
        if self.is_pending() || self.source_ended {
            return Ok(Progress::Nothing);
        }
        self.bytes.resize(PIECE_BYTES, 0);
        self.written = 0;
        let read = source.read(&mut self.bytes);
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            // There is more to read, of which no event will tell.
            self.bytes.clear();
            return Ok(Progress::ThrownAway);
        }
        let read = now(read);
        self.bytes.truncate(read.as_ref().map_or(0, |read| read.unwrap_or(0)));
        match read {
            Ok(None) => Ok(Progress::Nothing),
            Ok(Some(count)) => {
                self.source_ended = count == 0;
                self.total += count as u64;
                Ok(Progress::Moved)
            }
            Err(error) => {
                self.source_ended = true;
                Err(Failed::Source(error))
            }
        }
    }

    fn write(&mut self, sink: &mut dyn Write) -> Result<Progress, Failed> {
        let count = now(sink.write(&self.bytes[self.written..])).map_err(Failed::Sink)?.unwrap_or(0);
        self.written += count;
        Ok(if count > 0 { Progress::Moved } else { Progress::Nothing })
    }

    /// Nothing more goes this way.
    pub(crate) fn close(&mut self) {
        *self = Flow { total: self.total, source_ended: self.source_ended, closed: true, ..Flow::default() };
    }

    /// Whether all has been written, and the end is to be told.
    pub(crate) fn is_through(&self) -> bool {
        self.source_ended && !self.is_pending() && !self.closed
    }
}

/// Which side of a flow has failed.
pub(crate) enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// What was done at once; `None` if it would have to wait.
pub(crate) fn now(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
