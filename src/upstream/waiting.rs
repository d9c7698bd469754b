//! Waits on the calling thread until a wire can be read, until a deadline. Knows nothing of what the bytes mean.

use std::io;
use std::time::Instant;

use super::wire::Wire;
use crate::wait;

/// Does what reads from the wire, once there is something. Blocks until the deadline at most, then the error's kind is `TimedOut`:
/// also if bytes come all the time, but none that the read is for.
pub(super) fn when_readable(
    wire: &Wire,
    deadline: Instant,
    mut read: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut has_waited = false;
    loop {
        let read = read();
        let kind = read.as_ref().err().map(io::Error::kind);
        if !matches!(kind, Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)) {
            return done(wire, read);
        }
        if has_waited && Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if kind == Some(io::ErrorKind::WouldBlock) {
            wait::until_readable(wire.now(), deadline)?;
        }
        has_waited = true;
    }
}

fn done(wire: &Wire, done: io::Result<usize>) -> io::Result<usize> {
    match &done {
        Ok(count) => wait::moved(*count),
        Err(error) => wire.story().note_failed(error.kind()),
    }
    done
}
