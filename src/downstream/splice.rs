//! Moves a long body from socket to socket by way of a pipe: its bytes never leave the kernel. Knows nothing of the sockets' peers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Moved into a pipe at once. More saves no system calls worth the kernel's memory, which a slow client holds.
const PIECE_BYTES: usize = 128 * 1024;
/// The size of a pipe. It is counted in pages, and a packet takes one however short it is.
const PIPE_BYTES: usize = 256 * 1024;

/// Pipes at once. Further replies are sent without: they are read and written.
const PIPES_MAX: usize = 32;

/// The number of all pipes, which is bounded so that they don't use up the descriptors.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Arc<AtomicUsize>);

/// A pipe between two non-blocking sockets.
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
    /// Opens an empty pipe, if there may be one more.
    pub(crate) fn try_open(&self) -> Option<Pipe> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.0.clone());
        if before >= PIPES_MAX {
            return None;
        }
        let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A smaller one does, too.
        let _ = fcntl_setpipe_size(&entry, PIPE_BYTES);
        Some(Pipe { exit, entry, _counted: counted })
    }
}

impl Pipe {
    /// Has `move_into` move bytes into its entry, at most `left`. Returns their number.
    pub(crate) fn fill(
        &self,
        left: u64,
        move_into: impl FnOnce(BorrowedFd, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let bytes_max = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        move_into(self.entry.as_fd(), bytes_max)
    }

    /// Moves some of the `count` bytes that it holds to a socket, without waiting. Returns their number.
    pub(crate) fn empty_into(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        Ok(splice(&self.exit, None, socket, None, count, SpliceFlags::NONBLOCK)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_are_moved_from_one_socket_to_another() {
        let pipes = Pipes::default();
        let pipe = pipes.try_open().expect("two descriptors");
        let ((mut sender, from), (to, mut receiver)) =
            (UnixStream::pair().expect("two sockets"), UnixStream::pair().expect("two sockets"));
        sender.write_all(b"the body").expect("room");
        let move_into =
            |entry: BorrowedFd, bytes_max| Ok(splice(&from, None, entry, None, bytes_max, SpliceFlags::NONBLOCK)?);
        assert_eq!(pipe.fill(3, move_into).expect("bytes"), 3);
        assert_eq!(pipe.fill(u64::MAX, move_into).expect("bytes"), 5);
        assert_eq!(pipe.empty_into(&to, 8).expect("room"), 8);
        let mut taken = [0; 8];
        receiver.read_exact(&mut taken).expect("all of it");
        assert_eq!(&taken, b"the body");
        assert_eq!(
            pipe.empty_into(&to, 1).map_err(|error| error.kind()),
            Err(io::ErrorKind::WouldBlock),
            "it is empty"
        );
    }

    #[test]
    fn the_number_of_pipes_is_bounded() {
        let pipes = Pipes::default();
        let open: Vec<Pipe> = std::iter::from_fn(|| pipes.try_open()).take(PIPES_MAX + 1).collect();
        assert_eq!(open.len(), PIPES_MAX);
        drop(open);
        assert!(pipes.try_open().is_some());
    }
}
