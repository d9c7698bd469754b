//! Takes a request's body out of the bytes that arrive and puts it into the spool. Knows no socket and no time.

use crate::message::{BodyLength, Refusal, Spool, SpoolWriter, Spooling};

/// The longest line of chunked framing: 16 hex digits, and room for extensions that are skipped.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// All trailer fields together; they are dropped (RFC 9110 §6.5.1), so there is no reason for long ones.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// A body on its way in.
#[derive(Debug)]
pub(super) struct BodyReader {
    stage: Stage,
    writer: SpoolWriter,
}

#[derive(Debug)]
enum Stage {
    Sized { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkEnd,
    Trailers { bytes: usize },
    Done,
}

/// How many bytes of the input were taken, and whether the body is complete with them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) complete: bool,
}

impl BodyReader {
    /// A reader for a body of this length; a length above `bytes_max` is refused before a byte has come.
    pub(super) fn new(length: BodyLength, bytes_max: u64, writer: SpoolWriter) -> Result<BodyReader, Refusal> {
        let stage = match length {
            BodyLength::Sized(length) if length > bytes_max => return Err(Refusal::BodyTooLarge),
            BodyLength::None | BodyLength::Sized(0) => Stage::Done,
            BodyLength::Sized(left) => Stage::Sized { left },
            BodyLength::Chunked => Stage::ChunkSize,
        };
        Ok(BodyReader { stage, writer })
    }

    /// Takes what belongs to the body from the front of `input`.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<Taken, Refusal> {
        let mut bytes = 0;
        while !matches!(self.stage, Stage::Done) {
            let taken = self.step(&input[bytes..])?;
            if taken == 0 {
                return Ok(Taken { bytes, complete: false });
            }
            bytes += taken;
        }
        Ok(Taken { bytes, complete: true })
    }

    /// How many bytes of the body have arrived.
    pub(super) fn length(&self) -> u64 {
        self.writer.length()
    }

    /// The complete body.
    pub(super) fn finish(self) -> Spool {
        self.writer.finish()
    }

    /// One step: how many bytes it took; none means that more must come.
    fn step(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self.stage {
            Stage::Sized { left } => {
                let (count, left) = self.keep(input, left)?;
                self.stage = if left == 0 { Stage::Done } else { Stage::Sized { left } };
                Ok(count)
            }
            Stage::ChunkData { left } => {
                let (count, left) = self.keep(input, left)?;
                self.stage = if left == 0 { Stage::ChunkEnd } else { Stage::ChunkData { left } };
                Ok(count)
            }
            Stage::ChunkSize => self.chunk_size(input),
            Stage::ChunkEnd => self.chunk_end(input),
            Stage::Trailers { bytes } => self.trailer(input, bytes),
            Stage::Done => Ok(0),
        }
    }

    /// Appends up to `left` bytes to the spool: how many, and how many are left.
    fn keep(&mut self, input: &[u8], left: u64) -> Result<(usize, u64), Refusal> {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        self.writer.append(&input[..count]).map_err(|error| match error {
            Spooling::TooLong => Refusal::BodyTooLarge,
            Spooling::NoRoom(error) => {
                log::error!("cannot spool a request's body: {error}");
                Refusal::InsufficientStorage
            }
        })?;
        Ok((count, left - count as u64))
    }

    fn chunk_size(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let Some(line) = line(input, CHUNK_LINE_BYTES_MAX)? else { return Ok(0) };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let has_extension = digits.len() < line.len();
        // RFC 9112 §7.1.1 allows blanks before the semicolon of an extension, and nowhere else.
        let digits = if has_extension { digits.trim_ascii_end() } else { digits };
        let size = parse_chunk_size(digits).ok_or(Refusal::BadRequest("A chunk's size isn't a hex number"))?;
        self.stage = if size == 0 { Stage::Trailers { bytes: 0 } } else { Stage::ChunkData { left: size } };
        Ok(line.len() + 2)
    }

    fn chunk_end(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match input {
            [b'\r', b'\n', ..] => {
                self.stage = Stage::ChunkSize;
                Ok(2)
            }
            [] | [b'\r'] => Ok(0),
            _ => Err(Refusal::BadRequest("A chunk is longer than its size")),
        }
    }

    fn trailer(&mut self, input: &[u8], bytes: usize) -> Result<usize, Refusal> {
        let Some(line) = line(input, TRAILER_BYTES_MAX)? else { return Ok(0) };
        let bytes = bytes + line.len() + 2;
        if bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        if line.is_empty() {
            self.stage = Stage::Done;
            return Ok(2);
        }
        check_trailer(line)?;
        self.stage = Stage::Trailers { bytes };
        Ok(line.len() + 2)
    }
}

/// The line at the front of `input`, without its CR LF; `None` if it hasn't ended yet.
fn line(input: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Refusal> {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(newline) if newline > bytes_max => Err(Refusal::BadRequest("A line of chunked framing is too long")),
        Some(newline) => match input[..newline].split_last() {
            Some((b'\r', line)) if !line.iter().any(|byte| is_control(*byte)) => Ok(Some(line)),
            _ => Err(Refusal::BadRequest("A line of chunked framing doesn't end with CR LF")),
        },
        None if input.len() > bytes_max => Err(Refusal::BadRequest("A line of chunked framing is too long")),
        None => Ok(None),
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Hex digits that fit into 64 bits, and nothing else.
fn parse_chunk_size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Trailers are dropped, but a line that is no field shows that the framing is not what it seems.
fn check_trailer(line: &[u8]) -> Result<(), Refusal> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    if name.len() == line.len() || http::HeaderName::from_bytes(name).is_err() {
        return Err(Refusal::BadRequest("A trailer isn't a field"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100_000;

    fn reader(length: BodyLength) -> Result<BodyReader, Refusal> {
        let directory = std::env::temp_dir().into();
        BodyReader::new(length, MAX, SpoolWriter::new(directory, MAX))
    }

    /// The body and how many bytes were left behind it, fed whole and in pieces of every size up to four.
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
            let taken = reader.take(&buffer).map_err(status)?;
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
}
