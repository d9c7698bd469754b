//! What must hold for any bytes of a client's, as functions that fuzzers and property tests feed. Independent models stand
//! beside the code: written without a look at its states, and slowly.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName};

use super::Limits;
use super::body::BodyReader;
use super::connection::{Connection, Step};
use super::head::{Head, HeadReader};
use crate::message::{BodyLength, Request, Spool, SpoolWriter};

const HEAD_BYTES_MAX: usize = 32 * 1024;
const BODY_BYTES_MAX: u64 = 100_000;

/// A head is the same whole, in pieces and with more behind it; one that is accepted is what a plain reading of its lines
/// says.
pub fn head(bytes: &[u8]) {
    let (sizes, input) = split(bytes);
    let whole = HeadReader::default().read(input, HEAD_BYTES_MAX);
    let mut reader = HeadReader::default();
    let ends = sizes.ends(input.len());
    let mut reads = ends.map(|end| reader.read(&input[..end], HEAD_BYTES_MAX));
    let pieces = reads.find(|read| !matches!(read, Ok(None))).unwrap_or(Ok(None));
    match (whole, pieces) {
        (Ok(Some((head, length))), Ok(Some((again, same)))) => {
            assert_eq!(length, same);
            assert_eq!((&head.method, &head.target, &head.headers), (&again.method, &again.target, &again.headers));
            check_head(&head, &input[..length]);
        }
        (Ok(None), Ok(None)) => assert!(input.len() <= HEAD_BYTES_MAX, "nobody waits for ever"),
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }
}

fn check_head(head: &Head, bytes: &[u8]) {
    let text = bytes.strip_suffix(b"\r\n\r\n").expect("an empty line");
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line: Vec<&[u8]> = lines.next().expect("a request line").split(|byte| *byte == b' ').collect();
    assert_eq!((line.len(), line[0]), (3, head.method.as_str().as_bytes()));
    assert!(matches!(line[2], b"HTTP/1.0" | b"HTTP/1.1"));
    let target = head.target.as_str().as_bytes();
    assert!(line[1].ends_with(target) || head.target.authority().is_some(), "the target is kept");
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let name = HeaderName::from_bytes(&line[..colon]).expect("a token right before the colon");
        let value = line[colon + 1..].trim_ascii();
        assert!(!value.iter().any(|byte| *byte == 0x7f || (*byte < b' ' && *byte != b'\t')), "a control in a value");
        fields.append(name, http::HeaderValue::from_bytes(value).expect("a value"));
    }
    assert_eq!(fields, head.headers);
    let count = |name: &str| fields.get_all(name).iter().count();
    assert!(count("host") == 1 || (count("host") == 0 && line[2] == b"HTTP/1.0"), "one Host");
    assert!(count("transfer-encoding") == 0 || count("content-length") == 0, "one framing");
    assert_eq!(head.body == BodyLength::Chunked, count("transfer-encoding") > 0);
}

/// A chunked body is the same whole and in pieces, and what a plain reading says.
pub fn chunks(bytes: &[u8]) {
    let (sizes, input) = split(bytes);
    let read = |ends: &mut dyn Iterator<Item = usize>| {
        let writer = SpoolWriter::new(std::env::temp_dir().into(), BODY_BYTES_MAX);
        let mut reader = BodyReader::new(BodyLength::Chunked, BODY_BYTES_MAX, writer).expect("no length yet");
        let mut taken = 0;
        for end in ends {
            match reader.take(&input[taken..end], true) {
                Err(_) => return Plain::Bad,
                Ok(some) => taken += some.bytes,
            }
            if reader.take(&[], true).is_ok_and(|none| none.complete) {
                return Plain::Whole(body_of(&reader.finish()), taken);
            }
        }
        Plain::More
    };
    let whole = read(&mut std::iter::once(input.len()));
    assert_eq!(read(&mut sizes.ends(input.len())), whole, "in pieces");
    let plain = dechunked(input);
    // What isn't here yet may be refused before it comes: a line that is too long already, say.
    assert!(whole == plain || (whole, &plain) == (Plain::Bad, &Plain::More), "plainly {plain:?}");
}

#[derive(Debug, PartialEq, Eq)]
enum Plain {
    Whole(Vec<u8>, usize),
    More,
    Bad,
}

/// RFC 9112 §7.1, line by line.
fn dechunked(input: &[u8]) -> Plain {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = match plain_line(&input[at..], 256) {
            Ok(line) => line,
            Err(plain) => return plain,
        };
        at += line.len() + 2;
        let (digits, has_extension) = match line.iter().position(|byte| *byte == b';') {
            Some(semicolon) => (&line[..semicolon], true),
            None => (line, false),
        };
        let text = std::str::from_utf8(digits).unwrap_or("-");
        let text = if has_extension { text.trim_end_matches([' ', '\t']) } else { text };
        if text.is_empty() || text.contains(|c: char| !c.is_ascii_hexdigit()) {
            return Plain::Bad;
        }
        let Ok(size) = u64::from_str_radix(text, 16) else { return Plain::Bad };
        if size == 0 {
            return trailers(input, at, body);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let here = size.min(input.len() - at);
        body.extend_from_slice(&input[at..at + here]);
        at += here;
        if body.len() as u64 > BODY_BYTES_MAX {
            return Plain::Bad;
        }
        let behind = &input[at..];
        if here < size || behind.is_empty() || behind == b"\r" {
            return Plain::More;
        }
        if !behind.starts_with(b"\r\n") {
            return Plain::Bad;
        }
        at += 2;
    }
}

fn trailers(input: &[u8], mut at: usize, body: Vec<u8>) -> Plain {
    let start = at;
    loop {
        let line = match plain_line(&input[at..], 4096) {
            Ok(line) => line,
            Err(plain) => return plain,
        };
        at += line.len() + 2;
        if at - start > 4096 {
            return Plain::Bad;
        }
        if line.is_empty() {
            return Plain::Whole(body, at);
        }
        let name = line.iter().position(|byte| *byte == b':').map(|colon| HeaderName::from_bytes(&line[..colon]));
        if !matches!(name, Some(Ok(_))) {
            return Plain::Bad;
        }
    }
}

fn plain_line(input: &[u8], bytes_max: usize) -> Result<&[u8], Plain> {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
        return Err(if input.len() > bytes_max { Plain::Bad } else { Plain::More });
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(Plain::Bad)?;
    let is_bad = |byte: &u8| *byte == 0x7f || (*byte < b' ' && *byte != b'\t');
    if end > bytes_max || line.iter().any(is_bad) { Err(Plain::Bad) } else { Ok(line) }
}

/// A connection serves the same requests however its bytes arrive, those that were meant, and none after a refusal.
pub fn connection(bytes: &[u8]) {
    let (sizes, input) = split(bytes);
    let in_pieces = |stream: &[u8]| {
        let mut start = 0;
        let pieces = sizes.ends(stream.len()).map(|end| stream[std::mem::replace(&mut start, end)..end].to_vec());
        served(pieces)
    };
    let (whole, pieces) = (served(std::iter::once(input.to_vec())), in_pieces(input));
    assert_eq!(whole.requests, pieces.requests);
    assert_eq!(whole.refused, pieces.refused);
    let (stream, meant) = meant(input);
    let found = in_pieces(&stream);
    assert_eq!((found.requests, found.refused), (meant, false), "{:?}", String::from_utf8_lossy(&stream));
    let found =
        in_pieces(&[&stream, &b"GET /bad HTTP/1.1\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat());
    assert!(found.refused && found.requests.len() == meant_count(input), "nothing is served behind a refusal");
}

/// What was served of a stream: targets and bodies.
struct Served {
    requests: Vec<(String, Option<Vec<u8>>)>,
    refused: bool,
}

fn served(pieces: impl Iterator<Item = Vec<u8>>) -> Served {
    let now = Instant::now();
    let mut connection = fresh(now);
    let mut served = Served { requests: Vec::new(), refused: false };
    let mut is_over = false;
    for piece in pieces {
        connection.receive(&piece);
        loop {
            let step = match connection.step(now) {
                Step::Spool => connection.step_on_disk(now),
                step => step,
            };
            match step {
                Step::Spool => panic!("the disk is here"),
                Step::More => break,
                Step::Continue => {}
                Step::Request(request, asked) => {
                    assert!(!is_over, "nothing is served after the last request");
                    served.requests.push((request.target.to_string(), request.body.as_ref().map(body_of)));
                    is_over = !asked.persistent;
                    if is_over { connection.part(now) } else { connection.answered(now) }
                }
                Step::Refuse(_) => {
                    assert!(!is_over, "nothing is said after the last word");
                    (is_over, served.refused) = (true, true);
                    connection.part(now);
                }
                Step::Close => return served,
            }
        }
        assert!(connection.deadline() > now, "every wait has its end");
    }
    served
}

fn fresh(now: Instant) -> Connection {
    let limits = Limits::new(HEAD_BYTES_MAX, BODY_BYTES_MAX, &std::env::temp_dir());
    Connection::new(Arc::new(limits), "192.0.2.1:1".parse().expect("an address"), now)
}

/// Three bytes describe a request: its form, its size, what fills it.
fn meant_count(input: &[u8]) -> usize {
    input.chunks_exact(3).len()
}

/// A stream of good requests, and what they mean.
fn meant(input: &[u8]) -> (Vec<u8>, Vec<(String, Option<Vec<u8>>)>) {
    let (mut stream, mut meant) = (Vec::new(), Vec::new());
    for (number, form) in input.chunks_exact(3).enumerate() {
        let target = format!("/{number}?{}", form[2]);
        let body = vec![form[2]; usize::from(form[1]) * usize::from(form[0] >> 6)];
        let empty_lines = "\r\n".repeat(usize::from(form[0] & 1));
        let expect = ["", "Expect: 100-continue\r\n"][usize::from(form[0] >> 1 & 1)];
        let start = format!("{empty_lines}POST {target} HTTP/1.1\r\nHost: a\r\n{expect}");
        stream.extend_from_slice(start.as_bytes());
        let body = match form[0] >> 2 & 3 {
            0 => {
                stream.extend_from_slice(b"\r\n");
                None
            }
            1 => {
                stream.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
                for chunk in body.chunks(usize::from(form[1] / 3) + 1) {
                    stream.extend_from_slice(format!("{:x} ;x=\"y\"\r\n", chunk.len()).as_bytes());
                    stream.extend_from_slice(chunk);
                    stream.extend_from_slice(b"\r\n");
                }
                stream.extend_from_slice(b"000\r\nT: GET / HTTP/1.1\r\n\r\n");
                Some(body)
            }
            _ => {
                stream.extend_from_slice(format!("content-length:{}\r\n\r\n", body.len()).as_bytes());
                stream.extend_from_slice(&body);
                Some(body)
            }
        };
        meant.push((target, body));
    }
    (stream, meant)
}

/// The first request of a stream, if there is a good one.
pub fn request(stream: &[u8]) -> Option<Request> {
    let now = Instant::now();
    let mut connection = fresh(now);
    connection.receive(stream);
    loop {
        match connection.step_on_disk(now) {
            Step::Continue => {}
            Step::Request(request, _) => return Some(*request),
            Step::More | Step::Spool | Step::Refuse(_) | Step::Close => return None,
        }
    }
}

fn body_of(spool: &Spool) -> Vec<u8> {
    let mut body = Vec::new();
    std::io::copy(&mut spool.reader(), &mut body).expect("a body that is here");
    body
}

/// How a stream is cut into pieces.
struct Sizes {
    seed: u32,
    bytes_max: u32,
}

/// The first two bytes say how the rest arrives.
fn split(bytes: &[u8]) -> (Sizes, &[u8]) {
    match bytes {
        [seed, bits, rest @ ..] => (Sizes { seed: u32::from(*seed), bytes_max: 1 << (bits & 7) }, rest),
        _ => (Sizes { seed: 0, bytes_max: 1 }, bytes),
    }
}

impl Sizes {
    /// Where each piece of a stream of that length ends.
    fn ends(&self, length: usize) -> impl Iterator<Item = usize> {
        let (mut state, bytes_max, mut end) = (self.seed, self.bytes_max, 0);
        std::iter::from_fn(move || {
            if end == length {
                return None;
            }
            // Numerical Recipes' generator; its low bits repeat too soon.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            end = length.min(end + 1 + (state >> 16) as usize % bytes_max as usize);
            Some(end)
        })
    }
}
