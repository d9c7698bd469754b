//! The source of a reply's body.

use std::io::Read;
use std::sync::Arc;

/// A body that arrives over time. Reading never blocks: an error of kind `WouldBlock` means that nothing has come, one
/// of kind `Interrupted` that more may be read without another event, and any other is a body cut short.
pub trait BodySource: Read + Send {
    /// Has `ready` called whenever more may have come, as long as the source exists.
    fn when_ready(&mut self, ready: OnReady);
}

/// Called, on any thread, when there may be something to read, or room to write. It must not block.
pub type OnReady = Arc<dyn Fn() + Send + Sync>;
