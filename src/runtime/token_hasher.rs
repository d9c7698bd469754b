//! The hash of the poller's tokens. Knows nothing of what they stand for.

use std::hash::Hasher;

/// Spreads tokens over a table. They count up and none comes from outside, so that no secret is needed for it.
#[derive(Default)]
pub(super) struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, token: usize) {
        self.0 = (self.0 ^ token as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
