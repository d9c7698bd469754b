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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    use std::io::Write;
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Was seen as: session tickets without end held a leg, and a thread, for many seconds past its timeout, which was looked at
    /// only when nothing had come.
    #[test]
    fn bytes_that_make_nothing_end_with_the_deadline() {
        for kind in [WouldBlock, Interrupted] {
            let (near, mut far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
            far.write_all(b"more is always here").expect("room");
            let wire = Wire::new(near);
            let (deadline, mut reads) = (Instant::now() + Duration::from_millis(20), 0);
            let read = when_readable(&wire, deadline, || {
                reads += 1;
                Err(kind.into())
            });
            assert_eq!(read.map_err(|error| error.kind()), Err(TimedOut), "{kind}");
            assert!(reads > 1 && Instant::now() >= deadline, "{kind}");
        }
    }

    #[test]
    fn what_is_here_is_read_though_the_deadline_has_passed() {
        let (near, _far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
        assert_eq!(when_readable(&Wire::new(near), Instant::now(), || Ok(5)).ok(), Some(5));
    }
}
