//! Moves a long body from socket to socket by way of a pipe: its bytes never leave the kernel. Knows nothing of who sends and
//! who takes them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Moved at once. More saves no system calls worth the kernel's memory, which a slow client holds.
const MOVED_BYTES: usize = 128 * 1024;
/// A pipe's places are pages, and a packet takes one however short it is.
const PIPE_BYTES: usize = 256 * 1024;

/// As many as there may be: more transfers at once are served without.
const PIPES_MAX: usize = 32;

/// All pipes, so that they don't use up the descriptors.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Arc<AtomicUsize>);

/// A pipe between two sockets that don't wait.
pub(crate) struct Pipe {
    exit: OwnedFd,
    entry: OwnedFd,
    _counted: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pipes {
    /// An empty one, if there may be one more.
    pub(crate) fn open(&self) -> Option<Pipe> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.0.clone());
        if before >= PIPES_MAX {
            return None;
        }
        let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A small one does, too.
        let _ = fcntl_setpipe_size(&entry, PIPE_BYTES);
        Some(Pipe { exit, entry, _counted: counted })
    }
}

impl Pipe {
    /// Fills it with at most so many bytes, by what moves them into its entry.
    pub(crate) fn fill(
        &self,
        left: u64,
        fill: impl FnOnce(BorrowedFd, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(MOVED_BYTES);
        fill(self.entry.as_fd(), most)
    }

    /// Moves some of the bytes that are in it to a socket, without waiting.
    pub(crate) fn drain(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        Ok(splice(&self.exit, None, socket, None, count, SpliceFlags::NONBLOCK)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_go_in_at_one_end_and_come_out_at_the_other() {
        let pipes = Pipes::default();
        let pipe = pipes.open().expect("two descriptors");
        let ((mut sender, from), (to, mut receiver)) =
            (UnixStream::pair().expect("two sockets"), UnixStream::pair().expect("two sockets"));
        sender.write_all(b"the body").expect("room");
        let move_into = |entry: BorrowedFd, most| Ok(splice(&from, None, entry, None, most, SpliceFlags::NONBLOCK)?);
        assert_eq!(pipe.fill(3, move_into).expect("bytes are here"), 3);
        assert_eq!(pipe.fill(u64::MAX, move_into).expect("bytes are here"), 5);
        assert_eq!(pipe.drain(&to, 8).expect("room"), 8);
        let mut taken = [0; 8];
        receiver.read_exact(&mut taken).expect("all of it");
        assert_eq!(&taken, b"the body");
        assert_eq!(pipe.drain(&to, 1).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock), "it is empty");
    }

    #[test]
    fn there_are_only_so_many_at_once() {
        let pipes = Pipes::default();
        let open: Vec<Pipe> = std::iter::from_fn(|| pipes.open()).take(PIPES_MAX + 1).collect();
        assert_eq!(open.len(), PIPES_MAX);
        drop(open);
        assert!(pipes.open().is_some());
    }
}
