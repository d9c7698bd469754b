//! One direction of a connection: what was said, and what must come of it.

use super::super::records::PEEK_BYTES;

/// The most bytes that each side says: more than are ever buffered.
const SAID_BYTES_MAX: usize = 3 * PEEK_BYTES;

/// One direction: what was said, and what has come of it.
#[derive(Default)]
pub(super) struct Way {
    pub(super) said: usize,
    pub(super) heard: usize,
    /// The sender has said its last word by `close_notify`.
    pub(super) is_closed: bool,
    pub(super) end: Option<Seen>,
}

/// How a direction's end looked to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    InOrder,
    Failure,
}

impl Way {
    pub(super) fn say(&self, count: usize) -> Vec<u8> {
        (self.said..self.said + count.min(SAID_BYTES_MAX - self.said)).map(byte_at).collect()
    }

    pub(super) fn check_prefix(&self, bytes: &[u8]) {
        let at = self.heard;
        assert!(at + bytes.len() <= self.said, "more than was said");
        assert!(bytes.iter().zip(at..).all(|(byte, at)| *byte == byte_at(at)), "what was said, from {at}");
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        assert_eq!(self.end, None, "nothing comes behind an end");
        self.check_prefix(bytes);
        self.heard += bytes.len();
    }

    pub(super) fn note_end(&mut self, end: Seen) {
        assert!(self.end.is_none_or(|before| before == end), "an end stays as it is");
        self.end = Some(end);
    }
}

/// What is said at a place: no two pieces look alike.
fn byte_at(at: usize) -> u8 {
    (at * 167 + (at >> 8) * 13).to_le_bytes()[0]
}
