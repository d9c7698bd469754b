//! A request that goes out before ureq has written it: how much of it has been sent, and how much ureq has wanted to write
//! since. Knows nothing of what it says, nor of connections.

use std::io::{self, IoSlice};
use std::sync::Arc;

/// So much of a body in a file is compared at once, on the stack.
const COMPARED_BYTES: usize = 16 * 1024;

/// A body that several requests share.
pub(super) trait Body: Send + Sync {
    /// How many bytes it has.
    fn length(&self) -> u64;
    /// All of them, if they are in memory.
    fn bytes(&self) -> Option<&[u8]>;
    /// Some of those that begin at `offset`: how many. Blocks on the disk, if they are there.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// The bytes of a request.
pub(super) struct Ahead {
    head: Vec<u8>,
    body: Option<Arc<dyn Body>>,
    sent: u64,
    compared: u64,
}

impl Ahead {
    pub(super) fn new(head: Vec<u8>, body: Option<Arc<dyn Body>>) -> Ahead {
        Ahead { head, body, sent: 0, compared: 0 }
    }

    /// Has the next bytes sent: how many. Those of a file are read into `piece`, as many as fit, and not at all if it has
    /// no room.
    pub(super) fn send(
        &mut self,
        piece: &mut [u8],
        send: impl FnOnce(&[IoSlice]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (head, offset) = self.split(self.sent);
        let body = match &self.body {
            None => &[][..],
            Some(body) => match body.bytes() {
                Some(bytes) => behind(bytes, offset),
                None if piece.is_empty() => &[],
                None => {
                    let count = body.read_at(piece, offset)?;
                    &piece[..count]
                }
            },
        };
        if head.is_empty() && body.is_empty() {
            return Ok(0);
        }
        let count = send(&[head, body].map(IoSlice::new))?;
        self.sent += count as u64;
        Ok(count)
    }

    /// How long the head is, in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// How many bytes have been sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all bytes have been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.head.len() as u64 + self.body.as_ref().map_or(0, |body| body.length())
    }

    /// Whether the body has to be read from a file.
    pub(super) fn is_in_file(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.bytes().is_none())
    }

    /// What ureq wants to write next must be what is meant, whatever the case of the head's letters: ureq writes the names of
    /// fields in lower case.
    pub(super) fn compare(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (head, offset) = self.split(self.compared);
        let (of_head, of_body) = bytes.split_at(head.len().min(bytes.len()));
        if !(is_meant(&head[..of_head.len()], of_head) && self.has_in_body(of_body, offset)?) {
            return Err(io::Error::other("the request that was sent isn't the one that was meant; please report this"));
        }
        self.compared += bytes.len() as u64;
        Ok(())
    }

    fn has_in_body(&self, mut expected: &[u8], mut offset: u64) -> io::Result<bool> {
        let Some(body) = &self.body else { return Ok(expected.is_empty()) };
        if let Some(bytes) = body.bytes() {
            return Ok(behind(bytes, offset).starts_with(expected));
        }
        let mut piece = [0; COMPARED_BYTES];
        while !expected.is_empty() {
            let room = expected.len().min(piece.len());
            let count = body.read_at(&mut piece[..room], offset)?;
            let (begin, rest) = expected.split_at(count);
            if count == 0 || begin != &piece[..count] {
                return Ok(false);
            }
            (expected, offset) = (rest, offset + count as u64);
        }
        Ok(true)
    }

    /// All bytes, for tests.
    #[cfg(any(test, fuzzing))]
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if let Some(body) = &self.body {
            let mut piece = vec![0; usize::try_from(body.length()).expect("a body that fits into memory")];
            let mut filled = 0;
            while filled < piece.len() {
                filled += body.read_at(&mut piece[filled..], filled as u64).expect("a body that is here");
            }
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    /// Behind so many bytes: what is left of the head, and where in the body that is.
    fn split(&self, done: u64) -> (&[u8], u64) {
        (behind(&self.head, done), done.saturating_sub(self.head.len() as u64))
    }
}

/// Whether these bytes are what is meant, but that letters of names have been lowered there.
fn is_meant(sent: &[u8], meant: &[u8]) -> bool {
    sent.iter().zip(meant).all(|(sent, meant)| sent == meant || sent.to_ascii_lowercase() == *meant)
}

fn behind(bytes: &[u8], done: u64) -> &[u8] {
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    bytes.get(done..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body, in memory or as if it were in a file of which no read gives more than seven bytes.
    struct Bytes {
        bytes: Vec<u8>,
        in_file: bool,
    }

    impl Body for Bytes {
        fn length(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn bytes(&self) -> Option<&[u8]> {
            (!self.in_file).then_some(&self.bytes)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = behind(&self.bytes, offset);
            let count = rest.len().min(buffer.len()).min(7);
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }

    fn ahead(in_file: bool) -> Ahead {
        let bytes = (0..100).collect();
        Ahead::new(b"head ".to_vec(), Some(Arc::new(Bytes { bytes, in_file })))
    }

    fn joined(parts: &[IoSlice]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.iter().copied()).collect()
    }

    #[test]
    fn every_byte_is_sent_once_in_pieces_of_any_size() {
        for in_file in [false, true] {
            for size in 1..=105 {
                let (mut ahead, mut piece, mut sent) = (ahead(in_file), [0; 10], Vec::new());
                while !ahead.is_sent() {
                    let take = |parts: &[IoSlice]| {
                        let here = joined(parts);
                        sent.extend_from_slice(&here[..here.len().min(size)]);
                        Ok(here.len().min(size))
                    };
                    assert!(ahead.send(&mut piece, take).is_ok_and(|count| count > 0));
                }
                assert!(sent == ahead.bytes() && ahead.sent() == 105, "in a file: {in_file}, {size} at a time");
            }
        }
    }

    #[test]
    fn without_room_for_a_piece_no_file_is_read_and_a_failure_sends_nothing() {
        let mut ahead = ahead(true);
        assert!(ahead.send(&mut [], |_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        assert_eq!(ahead.sent(), 0);
        assert_eq!(ahead.send(&mut [], |parts| Ok(joined(parts).len())).ok(), Some(5));
        assert_eq!(ahead.send(&mut [], |parts| Ok(joined(parts).len())).ok(), Some(0));
        assert!(!ahead.is_sent());
    }

    #[test]
    fn what_ureq_writes_must_be_what_is_meant_sent_or_not() {
        for in_file in [false, true] {
            let mut ahead = ahead(in_file);
            let bytes = ahead.bytes();
            for piece in [&bytes[..2], &bytes[2..40], &bytes[40..104]] {
                assert!(ahead.compare(piece).is_ok(), "in a file: {in_file}");
            }
            assert!(ahead.compare(b"x").is_err() && ahead.compare(&[99, 100]).is_err(), "in a file: {in_file}");
            assert!(ahead.compare(&[99]).is_ok() && ahead.compare(&[]).is_ok(), "in a file: {in_file}");
            assert!(ahead.compare(&[100]).is_err(), "in a file: {in_file}");
        }
        let bytes = vec![b'b'];
        let mut cased = Ahead::new(b"Head ".to_vec(), Some(Arc::new(Bytes { bytes, in_file: false })));
        assert!(cased.compare(b"head ").is_ok() && cased.compare(b"B").is_err() && cased.compare(b"b").is_ok());
        let mut short = Ahead::new(b"head".to_vec(), None);
        assert!(short.compare(b"head and more").is_err());
        assert!(short.compare(b"hea").is_ok() && short.compare(b"d").is_ok() && short.compare(b"x").is_err());
    }
}
