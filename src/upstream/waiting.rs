//! A wire's socket for a while: reading waits on this thread, until a deadline. Knows nothing of what the bytes mean.

use std::io::{self, Read};
use std::time::Instant;

use super::wire::Wire;
use crate::wait;

/// The socket, until the deadline.
pub(super) struct Waiting<'a> {
    wire: &'a Wire,
    deadline: Instant,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(wire: &'a Wire, deadline: Instant) -> Waiting<'a> {
        Waiting { wire, deadline }
    }

    /// Does what reads from the socket, once there is something.
    pub(super) fn when_readable(&self, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait::until_readable(self.wire.now(), self.deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return self.done(read),
            }
        }
    }

    fn done(&self, done: io::Result<usize>) -> io::Result<usize> {
        match &done {
            Ok(count) => wait::moved(*count),
            Err(error) => self.wire.story().note_failed(error.kind()),
        }
        done
    }
}

impl Read for Waiting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when_readable(|| self.wire.now().read(buffer))
    }
}
