//! Takes a request's body out of the bytes that arrive and puts it into the spool. Knows no socket and no time.

use rustix::io::Errno;

use crate::message::{BadChunks, BodyLength, Chunks, Piece, Refusal, Spool, SpoolError, SpoolWriter};

/// All trailer fields together; they are dropped (RFC 9110 §6.5.1), so there is no reason for long ones.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct BodyReader {
    rest: Rest,
    writer: SpoolWriter,
    /// This number of bytes at the start of the input are the body's, and are still to be kept.
    unkept: usize,
}

/// What is still to come of a body.
#[derive(Debug)]
enum Rest {
    Sized { left: u64 },
    Chunked(Chunks),
    Nothing,
}

/// The number of bytes that were taken from the input, and why no more were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) bytes: usize,
    /// The body is complete with them.
    pub(crate) complete: bool,
    /// What follows must go to the file.
    pub(crate) needs_disk: bool,
}

impl BodyReader {
    /// A reader for a body of this length; a length above `bytes_max` is refused before a byte has come.
    pub(crate) fn new(length: BodyLength, bytes_max: u64, writer: SpoolWriter) -> Result<BodyReader, Refusal> {
        let rest = match length {
            BodyLength::Sized(length) if length > bytes_max => return Err(Refusal::BodyTooLarge),
            BodyLength::None | BodyLength::Sized(0) => Rest::Nothing,
            BodyLength::Sized(left) => Rest::Sized { left },
            BodyLength::Chunked => Rest::Chunked(Chunks::of_request(TRAILER_BYTES_MAX)),
        };
        Ok(BodyReader { rest, writer, unkept: 0 })
    }

    /// Takes what belongs to the body from the start of `input`. With `may_write` it blocks, but only on the disk; else it takes
    /// only what needs no disk.
    pub(crate) fn take(&mut self, input: &[u8], may_write: bool) -> Result<Taken, Refusal> {
        let mut bytes = 0;
        loop {
            let data = &input[bytes..bytes + self.unkept];
            if !data.is_empty() && !self.try_keep(data, may_write).map_err(refusal_of_spooling)? {
                return Ok(Taken { bytes, complete: false, needs_disk: true });
            }
            bytes += std::mem::take(&mut self.unkept);
            if matches!(self.rest, Rest::Nothing) {
                let complete = self.try_settle(may_write).map_err(refusal_of_spooling)?;
                return Ok(Taken { bytes, complete, needs_disk: !complete });
            }
            let framing = self.find_next(&input[bytes..]).map_err(refusal_of_chunks)?;
            if framing == 0 && self.unkept == 0 {
                return Ok(Taken { bytes, complete: false, needs_disk: false });
            }
            bytes += framing;
        }
    }

    /// Appends bytes of the body to the spool. Returns whether it did; else the disk is needed for it.
    fn try_keep(&mut self, bytes: &[u8], may_write: bool) -> Result<bool, SpoolError> {
        if may_write { self.writer.append(bytes).map(|()| true) } else { self.writer.try_append(bytes) }
    }

    /// Completes the file of a body that has come whole, if it has one. Returns whether that is done; else the disk is needed for
    /// it.
    fn try_settle(&mut self, may_write: bool) -> Result<bool, SpoolError> {
        if may_write {
            self.writer.write_out().map_err(SpoolError::NoRoom)?;
        }
        Ok(self.writer.is_written_out())
    }

    /// The number of the body's bytes that have arrived.
    pub(crate) fn length(&self) -> u64 {
        self.writer.length()
    }

    /// The complete body.
    pub(crate) fn finish(self) -> Spool {
        self.writer.finish()
    }

    /// Finds the next bytes of framing, and returns their number, or bytes of the body, which are unkept then. If it finds neither,
    /// more must come.
    fn find_next(&mut self, input: &[u8]) -> Result<usize, BadChunks> {
        match &mut self.rest {
            Rest::Sized { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                if *left == 0 {
                    self.rest = Rest::Nothing;
                }
                self.unkept = count;
                Ok(0)
            }
            Rest::Chunked(chunks) => {
                let piece = chunks.take(input)?;
                if chunks.is_over() {
                    self.rest = Rest::Nothing;
                }
                match piece {
                    Piece::Size { line: count, .. } | Piece::Framing(count) => return Ok(count),
                    Piece::Data(count) => self.unkept = count,
                    Piece::More => {}
                }
                Ok(0)
            }
            Rest::Nothing => Ok(0),
        }
    }
}

/// Whether a chunked body comes to its end within `input`.
pub(crate) fn is_whole(mut input: &[u8]) -> bool {
    let mut chunks = Chunks::of_request(TRAILER_BYTES_MAX);
    while !chunks.is_over() {
        match chunks.take(input) {
            Ok(Piece::Size { line: count, .. } | Piece::Framing(count) | Piece::Data(count)) => input = &input[count..],
            Ok(Piece::More) | Err(_) => return false,
        }
    }
    true
}

fn refusal_of_chunks(bad: BadChunks) -> Refusal {
    match bad {
        BadChunks::Malformed(reason) => Refusal::BadRequest(reason),
        BadChunks::TrailersTooLong => Refusal::TrailersTooLarge,
    }
}

fn refusal_of_spooling(error: SpoolError) -> Refusal {
    match error {
        SpoolError::TooLong => Refusal::BodyTooLarge,
        SpoolError::NoRoom(error) => {
            log::error!("cannot spool a request's body (--spool-dir): {error}");
            match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE) => Refusal::NoDescriptor,
                _ => Refusal::InsufficientStorage,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100_000;

    fn reader(length: BodyLength) -> Result<BodyReader, Refusal> {
        let directory = std::env::temp_dir().into();
        BodyReader::new(length, MAX, SpoolWriter::new(directory, MAX))
    }

    /// The body and the number of bytes that were left after it, fed whole and in pieces of every size up to four.
    fn read(length: BodyLength, input: &[u8]) -> Result<(Vec<u8>, usize), u16> {
        let whole = read_in_pieces(length, input, input.len().max(1));
        for size in 1..=4 {
            assert_eq!(read_in_pieces(length, input, size), whole, "in pieces of {size}");
        }
        whole
    }

    fn read_in_pieces(length: BodyLength, input: &[u8], size: usize) -> Result<(Vec<u8>, usize), u16> {
        let status = |refusal: Refusal| refusal.status().as_u16();
        let mut reader = reader(length).map_err(status)?;
        let mut buffer = Vec::new();
        let mut fed = 0;
        loop {
            let taken = reader.take(&buffer, true).map_err(status)?;
            buffer.drain(..taken.bytes);
            if taken.complete {
                let body = reader.finish().bytes().expect("in memory").to_vec();
                return Ok((body, buffer.len() + input.len() - fed));
            }
            if fed == input.len() {
                return Err(0);
            }
            let end = (fed + size).min(input.len());
            buffer.extend_from_slice(&input[fed..end]);
            fed = end;
        }
    }

    #[test]
    fn a_sized_body_takes_its_bytes_and_leaves_the_rest() {
        assert_eq!(read(BodyLength::Sized(5), b"helloGET"), Ok((b"hello".to_vec(), 3)));
        assert_eq!(read(BodyLength::Sized(0), b"GET"), Ok((Vec::new(), 3)));
        assert_eq!(read(BodyLength::None, b"GET"), Ok((Vec::new(), 3)));
        assert_eq!(read(BodyLength::Sized(5), b"hell"), Err(0), "more must come");
        assert_eq!(read(BodyLength::Sized(MAX + 1), b""), Err(413));
    }

    #[test]
    fn chunks_are_joined_or_refused() {
        let rows: &[(&str, &[u8], Result<&[u8], u16>)] = &[
            ("two chunks", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Ok(b"abcde")),
            ("empty", b"0\r\n\r\n", Ok(b"")),
            ("hex, both cases", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", Ok(b"01234567890123456789")),
            ("leading zeros", b"0003\r\nabc\r\n000\r\n\r\n", Ok(b"abc")),
            ("extension", b"3;a=\"b\"\r\nabc\r\n0;x\r\n\r\n", Ok(b"abc")),
            ("blank before an extension", b"3 ;a\r\nabc\r\n0\r\n\r\n", Ok(b"abc")),
            ("trailers", b"0\r\nA: b\r\nC: d\r\n\r\n", Ok(b"")),
            ("plus", b"+3\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("minus", b"-3\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("0x", b"0x3\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("blank before", b" 3\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("blank after", b"3 \r\nabc\r\n0\r\n\r\n", Err(400)),
            ("no size", b"\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("overflow", b"10000000000000000\r\nabc", Err(400)),
            ("largest", b"ffffffffffffffff\r\nabc", Err(0)),
            ("overrun", b"3\r\nabcd\r\n0\r\n\r\n", Err(400)),
            ("bare LF", b"3\nabc\n0\n\n", Err(400)),
            ("bare LF after the data", b"3\r\nabc\n0\r\n\r\n", Err(400)),
            ("CR in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", Err(400)),
            ("trailer without colon", b"0\r\nabc\r\n\r\n", Err(400)),
            ("trailer with a blank name", b"0\r\n : b\r\n\r\n", Err(400)),
            ("cut short", b"5\r\nab", Err(0)),
        ];
        for (label, input, expected) in rows {
            let found = read(BodyLength::Chunked, &[*input, b"GET"].concat());
            match expected {
                Ok(body) => assert_eq!(found, Ok((body.to_vec(), 3)), "{label}"),
                Err(status) => assert_eq!(found, Err(*status), "{label}"),
            }
        }
    }

    #[test]
    fn endless_framing_is_refused() {
        let extension = [b"1;".as_slice(), &[b'x'; 300]].concat();
        assert_eq!(read(BodyLength::Chunked, &extension), Err(400));
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(1000)].concat();
        assert_eq!(read(BodyLength::Chunked, &trailers), Err(431));
        let chunk = [b"186a1\r\n".as_slice(), &vec![b'x'; 100_001]].concat();
        assert_eq!(read_in_pieces(BodyLength::Chunked, &chunk, 8192), Err(413));
    }

    /// Was seen as: `No room for the request's body (--spool-dir)` of a host that had no descriptor left.
    #[test]
    fn a_file_that_cannot_be_opened_for_want_of_a_descriptor_is_no_lack_of_room() {
        for (errno, status) in [(Errno::MFILE, 503), (Errno::NFILE, 503), (Errno::NOSPC, 507), (Errno::FBIG, 507)] {
            let refusal = refusal_of_spooling(SpoolError::NoRoom(errno.into()));
            assert_eq!(refusal.status().as_u16(), status, "{errno}");
        }
    }

    /// The body is fed without the disk, and with it only where that is said to be needed.
    #[test]
    fn a_body_that_needs_the_disk_continues_where_it_stopped() {
        const LENGTH: usize = 90_000;
        let mut input = Vec::new();
        for chunk in vec![b'x'; LENGTH].chunks(1000) {
            input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\nGET");
        for size in [1, 700, 16 * 1024, 100_000] {
            let mut reader = reader(BodyLength::Chunked).expect("no length yet");
            let (mut at, mut end, mut on_disk) = (0, 0, 0);
            let complete = loop {
                end = (end + size).min(input.len());
                let mut taken = reader.take(&input[at..end], false).expect("chunks");
                at += taken.bytes;
                if taken.needs_disk {
                    on_disk += 1;
                    taken = reader.take(&input[at..end], true).expect("chunks");
                    at += taken.bytes;
                }
                if taken.complete || end == input.len() {
                    break taken.complete;
                }
            };
            assert!(complete && &input[at..] == b"GET", "in pieces of {size}");
            assert!((1..=LENGTH / (8 * 1024)).contains(&on_disk), "{on_disk} times in pieces of {size}");
            let mut body = Vec::new();
            std::io::copy(&mut reader.finish().reader(), &mut body).expect("a body");
            assert!(body == vec![b'x'; LENGTH], "in pieces of {size}");
        }
    }
}
