//! Looks at the bytes of an answer as ureq takes them, for what ureq lets pass though others read it differently. Changes
//! nothing; knows nothing of connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ANSWER_HEAD_BYTES_MAX;
use crate::message::{BadChunks, Chunks, Piece};

/// Inspects the answers on one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inspector(Arc<Mutex<Inspection>>);

/// The current answer.
#[derive(Debug, Default)]
struct Inspection {
    stage: Stage,
    /// What is wrong with it.
    lie: Option<&'static str>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Heads of interim answers, then the answer's own.
    #[default]
    Head,
    Chunks(Chunks),
    /// A body whose bytes mean nothing here.
    Body,
}

impl Inspector {
    /// Another answer is to come.
    pub(super) fn begin(&self) {
        *self.current() = Inspection::default();
    }

    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.current().stage, Stage::Head)
    }

    /// The head was the last one: a body follows.
    pub(super) fn begin_body(&self, is_chunked: bool) {
        let stage = if is_chunked { Stage::Chunks(Chunks::new(ANSWER_HEAD_BYTES_MAX)) } else { Stage::Body };
        self.current().stage = stage;
    }

    /// What is wrong with the current answer, as far as ureq has taken it.
    pub(super) fn lie(&self) -> Option<&'static str> {
        self.current().lie
    }

    /// ureq takes these bytes: whole heads, whole lines of chunked framing, or data.
    pub(super) fn look(&self, bytes: &[u8]) {
        let mut current = self.current();
        if bytes.is_empty() || current.lie.is_some() {
            return;
        }
        current.lie = match &mut current.stage {
            Stage::Head => lie_of_head(bytes),
            Stage::Chunks(chunks) => lie_of_chunks(chunks, bytes),
            Stage::Body => None,
        };
    }

    fn current(&self) -> MutexGuard<'_, Inspection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lie_of_head(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"HTTP/") {
        return Some("it doesn't begin with a status line");
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    // Behind the last line end there is nothing.
    lines.next_back();
    let is_bare = lines.any(|line| !line.ends_with(b"\r"));
    is_bare.then_some("a line of its head doesn't end with CR LF")
}

fn lie_of_chunks(chunks: &mut Chunks, mut bytes: &[u8]) -> Option<&'static str> {
    while !bytes.is_empty() {
        match chunks.take(bytes) {
            Ok(Piece::Framing(count) | Piece::Data(count)) => bytes = &bytes[count..],
            Ok(Piece::More) => return Some("its chunks end in the middle of a line"),
            Err(BadChunks::Malformed(reason)) => return Some(reason),
            Err(BadChunks::TrailersTooLong) => return Some("its trailers are too long"),
        }
    }
    None
}

/// The length of the interim answer at the front of `input`, if it is there whole (RFC 9110 §15.2): 1xx, but for 101.
pub(super) fn interim_length(input: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    match input.get(..13)? {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'1', b'0', b'1', _] => None,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'1', tens, ones, b' ' | b'\r']
            if tens.is_ascii_digit() && ones.is_ascii_digit() =>
        {
            Some(input.windows(END.len()).position(|window| window == END)? + END.len())
        }
        _ => None,
    }
}
