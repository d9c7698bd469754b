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
    /// Nothing more will be written: the sink has been told the end, or takes nothing any more. What is read is discarded.
    pub(crate) closed: bool,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlowStep {
    Idle,
    Discarded,
    Moved,
}

impl Flow {
    /// A flow with these bytes read already.
    pub(crate) fn with_pending(bytes: Vec<u8>) -> Flow {
        Flow { bytes, ..Flow::default() }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Reads if nothing is pending, writes what is. Doesn't wait.
    pub(crate) fn step(&mut self, source: &mut dyn Read, sink: &mut dyn Write) -> Result<FlowStep, FlowError> {
        let read = self.read(source)?;
        let written = if self.has_pending() && !self.closed { self.write(sink)? } else { FlowStep::Idle };
        if self.closed || !self.has_pending() {
            // A silent tunnel keeps no buffer.
            self.bytes = Vec::new();
            self.written = 0;
        }
        Ok(if self.closed { read.min(FlowStep::Discarded) } else { read.max(written) })
    }

    fn read(&mut self, source: &mut dyn Read) -> Result<FlowStep, FlowError> {
        if self.has_pending() || self.source_ended {
            return Ok(FlowStep::Idle);
        }
        self.bytes.resize(PIECE_BYTES, 0);
        self.written = 0;
        let read = source.read(&mut self.bytes);
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            // More can be read, of which no event will tell.
            self.bytes.clear();
            return Ok(FlowStep::Discarded);
        }
        let read = without_waiting(read);
        self.bytes.truncate(read.as_ref().map_or(0, |read| read.unwrap_or(0)));
        match read {
            Ok(None) => Ok(FlowStep::Idle),
            Ok(Some(count)) => {
                self.source_ended = count == 0;
                self.total += count as u64;
                Ok(FlowStep::Moved)
            }
            Err(error) => {
                self.source_ended = true;
                Err(FlowError::Source(error))
            }
        }
    }

    fn write(&mut self, sink: &mut dyn Write) -> Result<FlowStep, FlowError> {
        let written = without_waiting(sink.write(&self.bytes[self.written..]));
        let count = written.map_err(FlowError::Sink)?.unwrap_or(0);
        self.written += count;
        Ok(if count > 0 { FlowStep::Moved } else { FlowStep::Idle })
    }

    /// Has nothing more written to the sink.
    pub(crate) fn close(&mut self) {
        *self = Flow { total: self.total, source_ended: self.source_ended, closed: true, ..Flow::default() };
    }

    /// Whether all has been written, and the sink is to be told the end.
    pub(crate) fn is_finished(&self) -> bool {
        self.source_ended && !self.has_pending() && !self.closed
    }
}

/// Which side of a flow has failed.
#[derive(Debug)]
pub(crate) enum FlowError {
    Source(io::Error),
    Sink(io::Error),
}

/// The result of what was done at once; `None` if it would have to wait.
pub(crate) fn without_waiting(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink with room for this number of bytes, and what it has taken.
    struct Sink(usize, Vec<u8>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.0);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0 -= count;
            self.1.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A source whose every read ends so.
    struct Failing(io::ErrorKind);

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    #[test]
    fn all_that_was_read_is_written_before_the_end_is_told() {
        let (mut flow, mut source, mut sink) =
            (Flow::with_pending(b"early ".to_vec()), &b"late"[..], Sink(4, Vec::new()));
        assert_eq!(flow.step(&mut source, &mut sink).expect("room"), FlowStep::Moved);
        assert_eq!(flow.step(&mut source, &mut sink).expect("no room"), FlowStep::Idle);
        assert_eq!(source, b"late", "nothing is read while bytes are pending");
        sink.0 = 100;
        while !flow.is_finished() {
            assert_eq!(flow.step(&mut source, &mut sink).expect("room"), FlowStep::Moved);
        }
        assert_eq!((&sink.1[..], flow.total), (&b"early late"[..], 4));
        flow.close();
        assert!(!flow.is_finished(), "the end is told once");
    }

    #[test]
    fn a_closed_flow_discards_what_it_reads() {
        let (mut flow, mut sink) = (Flow::with_pending(b"pending".to_vec()), Sink(100, Vec::new()));
        flow.close();
        assert_eq!(flow.step(&mut &b"late"[..], &mut sink).expect("bytes"), FlowStep::Discarded);
        assert!(sink.1.is_empty() && !flow.has_pending());
    }

    #[test]
    fn a_silent_flow_keeps_no_buffer() {
        let (mut flow, mut sink) = (Flow::default(), Sink(100, Vec::new()));
        let mut silent = Failing(io::ErrorKind::WouldBlock);
        for (label, source) in [("it moves", &mut &b"some"[..] as &mut dyn Read), ("it is silent", &mut silent)] {
            flow.step(source, &mut sink).expect("no error");
            assert_eq!(flow.bytes.capacity(), 0, "{label}");
        }
    }

    #[test]
    fn a_read_that_fails_says_whether_another_may_follow() {
        let mut flow = Flow::default();
        let mut step = |kind| flow.step(&mut Failing(kind), &mut Sink(0, Vec::new()));
        assert_eq!(step(io::ErrorKind::WouldBlock).expect("no error"), FlowStep::Idle);
        assert_eq!(step(io::ErrorKind::Interrupted).expect("no error"), FlowStep::Discarded, "at once");
        assert!(matches!(step(io::ErrorKind::ConnectionReset), Err(FlowError::Source(_))));
        assert!(flow.source_ended);
    }
}
