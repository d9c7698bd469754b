//! A wire's socket for a while: reading and writing wait on this thread, until a deadline. Knows nothing of what the bytes mean.

use std::io::{self, Read, Write};
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
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                self.wire.note_reset();
            }
            Err(_) => {}
        }
        done
    }
}

impl Read for Waiting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when_readable(|| self.wire.now().read(buffer))
    }
}

impl Write for Waiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.wire.now().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait::until_writable(self.wire.now(), self.deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return self.done(written),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
