//! A part of the memory that bodies share: how much each takes, and that all together take no more than they may. Knows nothing of
//! what is kept in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One body's part of shared memory, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    /// The bytes of all parts.
    used: Arc<AtomicUsize>,
    bytes_max: usize,
    bytes: usize,
}

impl Share {
    /// A part that is nothing yet, of memory of at most `bytes_max` bytes.
    pub(crate) fn new(used: Arc<AtomicUsize>, bytes_max: usize) -> Share {
        Share { used, bytes_max, bytes: 0 }
    }

    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Grows to this many bytes if they are left; returns whether they were.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grown = |used: usize| Some(used + more).filter(|used| *used <= self.bytes_max);
        let has_room = more == 0 || self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if has_room { more } else { 0 };
        has_room
    }

    /// Shrinks to this many bytes.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.used.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }

    /// Becomes this many bytes, whether they are left or not.
    pub(super) fn become_bytes(&mut self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}
