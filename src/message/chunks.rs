//! Chunked framing (RFC 9112 §7.1), read strictly: what one server lets pass, another reads differently. Answers may pad a
//! chunk's size with blanks, as some servers do. Bytes in, how many of them are framing or data out. Knows nothing of what
//! becomes of the data.

/// The longest line of a chunk's size: 16 hex digits, and room for extensions that are skipped.
const SIZE_LINE_BYTES_MAX: usize = 256;

const TOO_LONG: BadChunks = BadChunks::Malformed("A line of chunked framing is too long");

/// A chunked body on its way.
#[derive(Debug)]
pub struct Chunks {
    stage: Stage,
    trailer_bytes_max: usize,
    /// Blanks and tabs may follow a chunk's size.
    may_be_padded: bool,
}

#[derive(Debug)]
enum Stage {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailers { bytes: usize },
    Over,
}

/// The next piece of a chunked body, from the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The line that tells a chunk's size, extensions and line end included. After a size of zero only trailers follow.
    Size {
        /// The line's length in bytes.
        line: usize,
        /// The chunk's data, in bytes.
        size: u64,
    },
    /// Other framing, this long in bytes.
    Framing(usize),
    /// Data of the body, this long in bytes.
    Data(usize),
    /// Nothing that can be told yet: more bytes must come.
    More,
}

/// Reason why bytes are no chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadChunks {
    /// They break a rule; the text says which.
    Malformed(&'static str),
    /// The trailers are longer than allowed.
    TrailersTooLong,
}

impl Chunks {
    /// The start of a request's body. All trailer fields together have at most `trailer_bytes_max` bytes.
    pub fn of_request(trailer_bytes_max: usize) -> Chunks {
        Chunks { stage: Stage::Size, trailer_bytes_max, may_be_padded: false }
    }

    /// The start of an answer's body. All trailer fields together have at most `trailer_bytes_max` bytes. Sizes may be
    /// padded: no second reader of these bytes could take the padding for something else, since the client gets sizes
    /// of the proxy's own.
    pub fn of_answer(trailer_bytes_max: usize) -> Chunks {
        Chunks { may_be_padded: true, ..Chunks::of_request(trailer_bytes_max) }
    }

    /// Whether the last byte of the framing has been taken.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Takes the next piece from the start of `input`. Doesn't block: an incomplete piece is [`Piece::More`].
    pub fn take(&mut self, input: &[u8]) -> Result<Piece, BadChunks> {
        match self.stage {
            _ if input.is_empty() => Ok(Piece::More),
            Stage::Size => self.size(input),
            Stage::Data { left } => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let left = left - count as u64;
                self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data { left } };
                Ok(Piece::Data(count))
            }
            Stage::DataEnd => self.data_end(input),
            Stage::Trailers { bytes } => self.trailer(input, bytes),
            Stage::Over => Ok(Piece::More),
        }
    }

    fn size(&mut self, input: &[u8]) -> Result<Piece, BadChunks> {
        let Some(line) = line(input, SIZE_LINE_BYTES_MAX, TOO_LONG)? else { return Ok(Piece::More) };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let has_extension = digits.len() < line.len();
        // RFC 9112 §7.1.1 allows blanks before the semicolon of an extension, and nowhere else.
        let digits = if has_extension || self.may_be_padded { digits.trim_ascii_end() } else { digits };
        let size = parse_size(digits).ok_or(BadChunks::Malformed("A chunk's size isn't a hex number"))?;
        self.stage = if size == 0 { Stage::Trailers { bytes: 0 } } else { Stage::Data { left: size } };
        Ok(Piece::Size { line: line.len() + 2, size })
    }

    fn data_end(&mut self, input: &[u8]) -> Result<Piece, BadChunks> {
        match input {
            [b'\r', b'\n', ..] => {
                self.stage = Stage::Size;
                Ok(Piece::Framing(2))
            }
            [b'\r'] => Ok(Piece::More),
            _ => Err(BadChunks::Malformed("A chunk is longer than its size")),
        }
    }

    fn trailer(&mut self, input: &[u8], bytes: usize) -> Result<Piece, BadChunks> {
        let line = line(input, self.trailer_bytes_max, BadChunks::TrailersTooLong)?;
        let Some(line) = line else { return Ok(Piece::More) };
        let bytes = bytes + line.len() + 2;
        if bytes > self.trailer_bytes_max {
            return Err(BadChunks::TrailersTooLong);
        }
        if line.is_empty() {
            self.stage = Stage::Over;
        } else {
            check_trailer(line)?;
            self.stage = Stage::Trailers { bytes };
        }
        Ok(Piece::Framing(line.len() + 2))
    }
}

/// Finds the line at the start of `input`, without its CR LF; `None` if it hasn't ended yet.
fn line(input: &[u8], bytes_max: usize, too_long: BadChunks) -> Result<Option<&[u8]>, BadChunks> {
    const NO_END: BadChunks = BadChunks::Malformed("A line of chunked framing doesn't end with CR LF");
    match input.iter().position(|byte| *byte == b'\n') {
        Some(newline) if newline > bytes_max => Err(too_long),
        Some(newline) => match input[..newline].split_last() {
            Some((b'\r', line)) if !line.iter().any(|byte| is_control(*byte)) => Ok(Some(line)),
            _ => Err(NO_END),
        },
        None if input.len() > bytes_max => Err(too_long),
        // A line that can't become right any more is refused before it ends.
        None if input.strip_suffix(b"\r").unwrap_or(input).iter().any(|byte| is_control(*byte)) => Err(NO_END),
        None => Ok(None),
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Parses hex digits that fit into 64 bits, and nothing else.
fn parse_size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Refuses a trailer line that is no field: trailers are dropped, but such a line shows that the framing is not what it
/// seems.
fn check_trailer(line: &[u8]) -> Result<(), BadChunks> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    if name.len() == line.len() || http::HeaderName::from_bytes(name).is_err() {
        return Err(BadChunks::Malformed("A trailer isn't a field"));
    }
    Ok(())
}
