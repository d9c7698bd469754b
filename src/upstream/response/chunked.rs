//! Brings an answer's chunks into the plainest form before ureq takes them: ureq takes no size line above 20 bytes, and
//! extensions may make one longer. Knows nothing of connections.

use crate::message::{BadChunks, Chunks, Piece};
use crate::upstream::response::head::ANSWER_HEAD_BYTES_MAX;

/// The chunks of one answer.
#[derive(Debug)]
pub(crate) struct ChunkNormalizer {
    chunks: Chunks,
    /// The start of a line whose end hasn't been received.
    held: Vec<u8>,
}

impl ChunkNormalizer {
    pub(crate) fn new() -> ChunkNormalizer {
        ChunkNormalizer { chunks: Chunks::of_answer(ANSWER_HEAD_BYTES_MAX), held: Vec::new() }
    }

    /// The count of bytes that are held until the end of their line is received.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Puts the held bytes in front of `buffer`, which has room for them.
    pub(crate) fn put_held(&mut self, buffer: &mut [u8]) {
        let held = std::mem::take(&mut self.held);
        buffer[..held.len()].copy_from_slice(&held);
    }

    /// Normalizes these bytes in place, and gives the count of those that remain at the front. An error says what is wrong.
    pub(crate) fn normalize(&mut self, bytes: &mut [u8]) -> Result<usize, &'static str> {
        normalize(&mut self.chunks, &mut self.held, bytes).map_err(|bad| match bad {
            BadChunks::Malformed(reason) => reason,
            BadChunks::TrailersTooLong => "its trailers are too long",
        })
    }
}

/// The first violation in these bytes, from the first chunk on.
pub(crate) fn violation(bytes: &[u8]) -> Option<&'static str> {
    ChunkNormalizer::new().normalize(&mut bytes.to_vec()).err()
}

/// Drops extensions, needless zeros and trailers. What remains is never longer than what was there.
fn normalize(chunks: &mut Chunks, held: &mut Vec<u8>, bytes: &mut [u8]) -> Result<usize, BadChunks> {
    let (mut clean, mut taken) = (0, 0);
    while taken < bytes.len() {
        if chunks.is_over() {
            // These bytes belong to no answer; that they were sent ends the connection.
            bytes.copy_within(taken.., clean);
            return Ok(clean + bytes.len() - taken);
        }
        let from = taken;
        match chunks.take(&bytes[taken..])? {
            Piece::Size { line, size } => {
                taken += line;
                let plain = format!("{size:x}\r\n");
                bytes[clean..clean + plain.len()].copy_from_slice(plain.as_bytes());
                clean += plain.len();
            }
            Piece::Data(count) => {
                taken += count;
                bytes.copy_within(from..taken, clean);
                clean += count;
            }
            Piece::Framing(count) => {
                taken += count;
                // The end of a chunk's data, or of everything; else a trailer.
                if count == 2 {
                    bytes.copy_within(from..taken, clean);
                    clean += count;
                }
            }
            Piece::More => {
                held.extend_from_slice(&bytes[taken..]);
                break;
            }
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use crate::upstream::fuzzing::cleaned;

    #[test]
    fn chunks_are_brought_into_the_plainest_form_however_they_come() {
        let rows: &[(&str, &[u8], Result<&[u8], ()>)] = &[
            ("plain", b"5\r\nhello\r\n0\r\n\r\n", Ok(b"5\r\nhello\r\n0\r\n\r\n")),
            (
                "extensions",
                b"5 ;name=\"a long value, longer than 20\";b\r\nhello\r\n0;c=d\r\n\r\n",
                Ok(b"5\r\nhello\r\n0\r\n\r\n"),
            ),
            ("zeros", b"0000000000000000000000005\r\nhello\r\n00000\r\n\r\n", Ok(b"5\r\nhello\r\n0\r\n\r\n")),
            ("padding", b"5  \r\nhello\r\n0 \t\r\n\r\n", Ok(b"5\r\nhello\r\n0\r\n\r\n")),
            ("padding before", b" 5\r\nhello", Err(())),
            ("trailers", b"1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\n", Ok(b"1\r\na\r\n0\r\n\r\n")),
            ("bytes behind", b"1\r\na\r\n0\r\n\r\nHTTP/1.1", Ok(b"1\r\na\r\n0\r\n\r\nHTTP/1.1")),
            ("half a line", b"1\r\na\r\n5;x", Ok(b"1\r\na\r\n")),
            ("bare LF", b"1\na", Err(())),
            ("bare CR", b"1\ra", Err(())),
            ("more than its size", b"1\r\nab", Err(())),
            ("a sign", b"+1\r\na", Err(())),
            ("a trailer that is none", b"0\r\nab\r\n", Err(())),
        ];
        for (label, body, expected) in rows {
            for size in [1, 2, 3, body.len()] {
                let found = cleaned(body.chunks(size)).map_err(|_| ());
                assert_eq!(
                    found.as_deref(),
                    expected.as_ref().map(|clean| &clean[..]).map_err(|()| &()).map_err(|()| &()),
                    "{label}, {size}"
                );
            }
        }
    }
}
