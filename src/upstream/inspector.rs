//! Looks at the bytes of an answer before ureq takes them, for what ureq lets pass though others read it differently, and
//! brings chunks into the plainest form: ureq takes no size line above 20 bytes, and extensions may make it longer.
//! Knows nothing of connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ANSWER_HEAD_BYTES_MAX;
use crate::message::{BadChunks, Chunks, Piece};

/// Interim answers before the answer. A backend that works for long may send one now and then; one that sends them without
/// end would keep a thread busy until the timeout.
pub(super) const INTERIM_ANSWERS_MAX: usize = 100;

/// Inspects the answers on one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inspector(Arc<Mutex<Inspection>>);

/// The current answer.
#[derive(Debug, Default)]
struct Inspection {
    /// Whether the request is a HEAD, once that is known.
    is_head: Option<bool>,
    interim: usize,
    stage: Stage,
    /// What is wrong with it.
    lie: Option<&'static str>,
}

#[derive(Debug, Default)]
enum Stage {
    /// Heads of interim answers, then the answer's own.
    #[default]
    Head,
    /// `held`: the begin of a line that hasn't come to its end.
    Chunks { chunks: Chunks, held: Vec<u8> },
    /// A body whose bytes mean nothing here.
    Body,
}

impl Inspector {
    /// Another answer is to come.
    pub(super) fn begin(&self) {
        *self.current() = Inspection::default();
    }

    /// A part of the request is sent; the first one tells the method.
    pub(super) fn note_request(&self, bytes: &[u8]) {
        self.current().is_head.get_or_insert_with(|| bytes.starts_with(b"HEAD "));
    }

    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.current().stage, Stage::Head)
    }

    /// Whether the last of a body's chunks has come.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.current().stage, Stage::Chunks { chunks, .. } if chunks.is_over())
    }

    /// What is wrong with the current answer, as far as it has been looked at.
    pub(super) fn lie(&self) -> Option<&'static str> {
        self.current().lie
    }

    /// ureq takes this head: whether chunks follow, which are to be brought into form.
    pub(super) fn look_at_head(&self, head: &[u8]) -> bool {
        let mut current = self.current();
        current.lie = current.lie.or_else(|| lie_of_head(head));
        let status = head.get(9..12).unwrap_or_default();
        if status.starts_with(b"1") && status != b"101" {
            current.interim += 1;
            if current.interim > INTERIM_ANSWERS_MAX {
                current.lie.get_or_insert("it sends too many interim answers");
            }
            return false;
        }
        let has_body = current.is_head != Some(true) && !matches!(status, b"101" | b"204" | b"304");
        let is_chunked = has_body && has_transfer_encoding(head);
        let chunks = || Stage::Chunks { chunks: Chunks::of_answer(ANSWER_HEAD_BYTES_MAX), held: Vec::new() };
        current.stage = if is_chunked { chunks() } else { Stage::Body };
        is_chunked
    }

    /// Puts what waits for the rest of its line before bytes that are about to come: how many bytes that is.
    pub(super) fn put_held(&self, buffer: &mut [u8]) -> usize {
        let Stage::Chunks { held, .. } = &mut self.current().stage else { return 0 };
        let held = std::mem::take(held);
        buffer[..held.len()].copy_from_slice(&held);
        held.len()
    }

    /// Brings these bytes into form, if they are chunks: how many remain at the front of them. An error says what is wrong.
    pub(super) fn clean(&self, bytes: &mut [u8]) -> Result<usize, &'static str> {
        let mut current = self.current();
        let Stage::Chunks { chunks, held } = &mut current.stage else { return Ok(bytes.len()) };
        clean(chunks, held, bytes).map_err(|bad| {
            let lie = match bad {
                BadChunks::Malformed(reason) => reason,
                BadChunks::TrailersTooLong => "its trailers are too long",
            };
            *current.lie.insert(lie)
        })
    }

    fn current(&self) -> MutexGuard<'_, Inspection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a head that its parser takes for one.
pub(super) fn lie_of_head(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"HTTP/") {
        return Some("it doesn't begin with a status line");
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    // Behind the last line end there is nothing.
    lines.next_back();
    let is_bare = lines.any(|line| !line.ends_with(b"\r"));
    is_bare.then_some("a line of its head doesn't end with CR LF")
}

fn has_transfer_encoding(head: &[u8]) -> bool {
    const NAME: &[u8] = b"transfer-encoding:";
    head.split(|byte| *byte == b'\n')
        .any(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}

/// Sizes without extensions and needless zeros, and no trailers. What remains is never longer than what was there.
fn clean(chunks: &mut Chunks, held: &mut Vec<u8>, bytes: &mut [u8]) -> Result<usize, BadChunks> {
    let (mut clean, mut taken) = (0, 0);
    while taken < bytes.len() {
        if chunks.is_over() {
            // Nobody asked for them; that they are there ends the connection.
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

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_has_no_body_has_no_chunks() {
        const FIELD: &str = "Transfer-Encoding: chunked\r\n\r\n";
        let rows = [
            ("200", "GET /", true),
            ("200", "HEAD /", false),
            ("204", "GET /", false),
            ("304", "GET /", false),
            ("101", "GET /", false),
            ("103", "GET /", false),
        ];
        for (status, request, expected) in rows {
            let inspector = Inspector::default();
            inspector.note_request(request.as_bytes());
            inspector.note_request(b"HEAD is what the body begins with");
            let found = inspector.look_at_head(format!("HTTP/1.1 {status} X\r\n{FIELD}").as_bytes());
            assert_eq!((found, inspector.awaits_head()), (expected, status == "103"), "{request}, {status}");
        }
    }
}
