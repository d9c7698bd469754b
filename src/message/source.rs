//! Where the body of a reply comes from.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A body that arrives over time. Reading never waits: an error of kind `WouldBlock` means that nothing has come, one of kind
/// `Interrupted` that more may be read without another event, and any other is a body cut short.
pub trait BodySource: Read + Send {
    /// Has `ready` called whenever more may have come, as long as the source is there.
    fn when_ready(&mut self, ready: OnReady);
    /// Whether what follows can be moved instead of read.
    fn is_movable(&self) -> bool {
        false
    }
    /// Moves at most so many bytes, of those that are known to follow, into a pipe that has room for them, and says how many;
    /// from then on the rest can only be moved. Errors as a read.
    fn move_into(&mut self, _pipe: BorrowedFd, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Told, on any thread, that there may be something to read, or room to write.
pub type OnReady = Arc<dyn Fn() + Send + Sync>;
