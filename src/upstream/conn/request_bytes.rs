//! A request on its way to one backend, and how much of it has been sent. Knows nothing of what it says, nor of connections.

use std::io::{self, IoSlice};

use crate::message::Spool;

/// The bytes of a request, and the count of those that have been sent.
pub(crate) struct RequestBytes {
    head: Vec<u8>,
    body: Option<Spool>,
    sent: u64,
}

impl RequestBytes {
    pub(crate) fn new(head: Vec<u8>, body: Option<Spool>) -> RequestBytes {
        RequestBytes { head, body, sent: 0 }
    }

    /// Sends the next bytes by `send`, and gives the count of those that were taken. Bytes of a file are read into `piece`, as
    /// many as fit, and not at all if it has no room.
    pub(crate) fn send(
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
        let parts = [head, body].map(IoSlice::new);
        // One part is less work than two.
        let count = match (head.is_empty(), body.is_empty()) {
            (_, true) => send(&parts[..1]),
            (true, _) => send(&parts[1..]),
            _ => send(&parts),
        }?;
        self.sent += count as u64;
        Ok(count)
    }

    /// The count of bytes that have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all bytes have been sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.head.len() as u64 + self.body.as_ref().map_or(0, Spool::length)
    }

    /// Whether the body has to be read from a file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.bytes().is_none())
    }

    /// All bytes, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if let Some(body) = &self.body {
            let mut piece = vec![0; usize::try_from(body.length()).expect("a body that fits into memory")];
            let mut filled = 0;
            while filled < piece.len() {
                filled += body.read_at(&mut piece[filled..], filled as u64).expect("a readable body");
            }
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    /// The rest of the head behind the first `done` bytes of the request, and the place in the body.
    fn split(&self, done: u64) -> (&[u8], u64) {
        (behind(&self.head, done), done.saturating_sub(self.head.len() as u64))
    }
}

fn behind(bytes: &[u8], done: u64) -> &[u8] {
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    bytes.get(done..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{SpoolMemory, SpoolWriter};

    /// A request whose body is in memory, or in a file but for its last bytes.
    fn request(in_file: bool) -> RequestBytes {
        let memory = Arc::new(SpoolMemory::of(if in_file { 0 } else { 1 << 20 }));
        let mut body = SpoolWriter::sharing(memory, std::env::temp_dir().into(), 100);
        let bytes: Vec<u8> = (0..100).collect();
        body.append(&bytes[..93]).expect("room");
        if in_file {
            body.write_out().expect("room");
        }
        body.append(&bytes[93..]).expect("room");
        RequestBytes::new(b"head ".to_vec(), Some(body.finish()))
    }

    fn joined(parts: &[IoSlice]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.iter().copied()).collect()
    }

    #[test]
    fn every_byte_is_sent_once_in_pieces_of_any_size() {
        for in_file in [false, true] {
            for size in 1..=105 {
                let (mut request, mut piece, mut sent) = (request(in_file), [0; 10], Vec::new());
                while !request.is_sent() {
                    let take = |parts: &[IoSlice]| {
                        let joined = joined(parts);
                        sent.extend_from_slice(&joined[..joined.len().min(size)]);
                        Ok(joined.len().min(size))
                    };
                    assert!(request.send(&mut piece, take).is_ok_and(|count| count > 0));
                }
                assert!(sent == request.bytes() && request.sent() == 105, "in a file: {in_file}, {size} at a time");
            }
        }
    }

    #[test]
    fn without_room_for_a_piece_no_file_is_read_and_a_failure_sends_nothing() {
        let mut request = request(true);
        assert!(request.send(&mut [], |_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        assert_eq!(request.sent(), 0);
        assert_eq!(request.send(&mut [], |parts| Ok(joined(parts).len())).ok(), Some(5));
        assert_eq!(request.send(&mut [], |parts| Ok(joined(parts).len())).ok(), Some(0));
        assert!(!request.is_sent());
    }
}
