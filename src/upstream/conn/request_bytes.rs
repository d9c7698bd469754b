//! A request on its way to one backend, and how much of it has been sent. Knows nothing of what it says, nor of connections.

use std::io::{self, IoSlice};

use crate::message::Spool;

/// The bytes of a file that are read at once: a socket seldom takes more.
const PIECE_BYTES: usize = 64 * 1024;

/// The bytes of a request, and the count of those that have been sent.
pub(crate) struct RequestBytes {
    /// Freed once it has been sent: each of a thousand legs that await their answers has one of its own.
    head: Vec<u8>,
    head_length: u64,
    body: Option<Spool>,
    sent: u64,
    /// What has been read of a body in a file, to be sent next, or why it couldn't be.
    piece: io::Result<Piece>,
}

/// Some bytes of a body, and their place in it.
#[derive(Default)]
pub(crate) struct Piece {
    place: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// Reads the bytes at a place. Blocks only on the disk.
    pub(crate) fn read(body: &Spool, place: u64) -> io::Result<Piece> {
        let left = usize::try_from(body.length().saturating_sub(place)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(PIECE_BYTES)];
        let count = body.read_at(&mut bytes, place)?;
        bytes.truncate(count);
        Ok(Piece { place, bytes })
    }

    /// Its bytes at a place in the body, and behind it.
    fn at(&self, place: u64) -> &[u8] {
        place.checked_sub(self.place).map_or(&[], |done| behind(&self.bytes, done))
    }
}

impl RequestBytes {
    pub(crate) fn new(head: Vec<u8>, body: Option<Spool>) -> RequestBytes {
        RequestBytes { head_length: head.len() as u64, head, body, sent: 0, piece: Ok(Piece::default()) }
    }

    /// Sends the next bytes by `send`, and gives the count of those that were taken. Of a body in a file those are sent that have
    /// been put here as a piece. An error if they couldn't be read.
    pub(crate) fn send(&mut self, send: impl FnOnce(&[IoSlice]) -> io::Result<usize>) -> io::Result<usize> {
        if let Err(error) = &mut self.piece {
            return Err(std::mem::replace(error, io::ErrorKind::UnexpectedEof.into()));
        }
        let [head, body] = self.next();
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
        if self.sent >= self.head_length {
            self.head = Vec::new();
        }
        Ok(count)
    }

    /// Whether the next bytes have to be read from the file first.
    pub(crate) fn awaits_piece(&self) -> bool {
        self.piece.is_ok() && !self.is_sent() && self.next().iter().all(|part| part.is_empty())
    }

    /// The body, and the place in it of its next bytes, if they are in a file.
    pub(crate) fn place_in_file(&self) -> Option<(Spool, u64)> {
        let body = self.body.as_ref().filter(|body| body.bytes().is_none() && !self.is_sent())?;
        Some((body.clone(), self.split().1))
    }

    /// Puts what was read of this body here, to be sent next. The read may have begun for another request.
    pub(crate) fn put_piece(&mut self, body: &Spool, piece: io::Result<Piece>) {
        if self.body.as_ref().is_some_and(|own| own.is(body)) {
            self.piece = piece;
        }
    }

    /// Frees what hasn't been sent of the piece.
    pub(crate) fn drop_piece(&mut self) {
        self.piece = Ok(Piece::default());
    }

    /// The count of bytes that have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all bytes have been sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.head_length + self.body.as_ref().map_or(0, Spool::length)
    }

    /// All bytes of a request that hasn't been sent, for tests.
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

    /// The rest of the head, and the bytes that are next of the body, as far as they are in memory.
    fn next(&self) -> [&[u8]; 2] {
        let (head, place) = self.split();
        let body = match (&self.body, &self.piece) {
            (None, _) => &[],
            (Some(body), piece) => match (body.bytes(), piece) {
                (Some(bytes), _) => behind(bytes, place),
                (None, Ok(piece)) => piece.at(place),
                (None, Err(_)) => &[],
            },
        };
        [head, body]
    }

    /// The rest of the head, and the place in the body.
    fn split(&self) -> (&[u8], u64) {
        (behind(&self.head, self.sent), self.sent.saturating_sub(self.head_length))
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
                let (mut request, mut sent) = (request(in_file), Vec::new());
                let bytes = request.bytes();
                while !request.is_sent() {
                    if request.awaits_piece() {
                        read(&mut request, 10);
                    }
                    let take = |parts: &[IoSlice]| {
                        let joined = joined(parts);
                        sent.extend_from_slice(&joined[..joined.len().min(size)]);
                        Ok(joined.len().min(size))
                    };
                    assert!(request.send(take).is_ok_and(|count| count > 0));
                }
                assert!(sent == bytes && request.sent() == 105, "in a file: {in_file}, {size} at a time");
            }
        }
    }

    /// Was seen as: one client with heads of 31 KB and seven backends that hang took 107 MiB in a quarter of a second.
    #[test]
    fn a_head_is_freed_with_its_last_byte() {
        let mut request = RequestBytes::new(vec![7; 31_000], None);
        assert_eq!(request.send(|_| Ok(30_999)).ok(), Some(30_999));
        assert!(request.head.capacity() >= 31_000 && !request.is_sent());
        assert_eq!(request.send(|parts| Ok(joined(parts).len())).ok(), Some(1));
        assert!(request.head.capacity() == 0 && request.is_sent() && request.sent() == 31_000);
    }

    /// Has this many bytes read, to be sent next.
    fn read(request: &mut RequestBytes, count: usize) {
        let (body, place) = request.place_in_file().expect("a file");
        let mut piece = Piece::read(&body, place).expect("a readable body");
        piece.bytes.truncate(count);
        request.put_piece(&body, Ok(piece));
    }

    #[test]
    fn without_a_piece_no_file_is_read_and_a_failure_sends_nothing() {
        let mut request = request(true);
        assert!(request.send(|_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        assert_eq!((request.sent(), request.awaits_piece()), (0, false));
        assert_eq!(request.send(|parts| Ok(joined(parts).len())).ok(), Some(5));
        assert!(request.awaits_piece() && !request.is_sent());
        read(&mut request, 1);
        assert!(!request.awaits_piece());
        let (body, _) = request.place_in_file().expect("a file");
        request.put_piece(&body, Err(io::ErrorKind::PermissionDenied.into()));
        assert!(!request.awaits_piece() && request.send(|_| panic!("nothing is sent")).is_err());
    }

    /// Of reads that began for another request, or were overtaken.
    #[test]
    fn a_piece_of_another_body_or_place_is_not_sent() {
        let (mut request, other) = (request(true), request(true));
        let ([own, other], head) = ([&request, &other].map(|request| request.place_in_file().expect("a file").0), 5);
        for (body, place) in [(&other, 0), (&own, 50)] {
            request.put_piece(body, Piece::read(body, place));
            let _ = request.send(|parts| Ok(joined(parts).len()));
            assert!(request.awaits_piece() && request.sent() == head, "the head alone");
        }
        request.put_piece(&other, Err(io::ErrorKind::PermissionDenied.into()));
        assert!(request.awaits_piece(), "nor is it a failure of this one");
    }
}
