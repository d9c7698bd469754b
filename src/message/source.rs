//! The source of a reply's body.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A body that arrives over time. Reading never blocks: an error of kind `WouldBlock` means that nothing has come, one
/// of kind `Interrupted` that more may be read without another event, and any other is a body cut short.
pub trait BodySource: Read + Send {
    /// Has `ready` called whenever more may have come, as long as the source exists.
    fn when_ready(&mut self, ready: OnReady);
    /// Whether the rest of the body can be moved instead of read.
    fn is_movable(&self) -> bool {
        false
    }
    /// Moves at most `most` bytes, of those that are known to follow, into a pipe that has room for them, and returns
    /// how many; from then on the rest can only be moved. Errors are a read's.
    fn move_into(&mut self, _pipe: BorrowedFd, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Called, on any thread, when there may be something to read, or room to write. It must not block.
pub type OnReady = Arc<dyn Fn() + Send + Sync>;
