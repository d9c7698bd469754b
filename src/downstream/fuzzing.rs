//! Properties that hold for any bytes of a client's, as functions that fuzzers and property tests feed. Independent models stand
//! beside the code: written without a look at its states, and slowly.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, Method};

use crate::downstream::h1::body::BodyReader;
use crate::downstream::h1::head::{Head, HeadReader};
use crate::downstream::h1::protocol::{Action, Http1};
use crate::downstream::limits::BodyPolicy;
use crate::downstream::limits::Limits;
use crate::message::{BodyLength, Refusal, Request, Spool, SpoolMemory, SpoolWriter};

const HEAD_BYTES_MAX: usize = 32 * 1024;
const BODY_BYTES_MAX: u64 = 100_000;
/// The most bytes of a connection's input: more would say no more, and each of its bytes may cost a step.
const STREAM_BYTES_MAX: usize = 512;
/// Limits that a stream can be too long for: a head of too many fields isn't, and the longest body that is meant fits exactly.
const SHORT_HEAD_BYTES_MAX: usize = 448;
const SHORT_BODY_BYTES_MAX: u64 = 255;
const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SPOILERS: [&[u8]; 5] = [
    b"GET /bad HTTP/1.1\nHost: a\r\n\r\n",
    b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 26\r\n\r\n",
    b"POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 256\r\n\r\n",
];

/// Checks that a head is read alike whole, in pieces and followed by more; one that is accepted is what a plain reading of its
/// lines says.
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
        (Ok(None), Ok(None)) => assert!(input.len() <= HEAD_BYTES_MAX, "a wait without end"),
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

/// Checks that a chunked body is read alike whole and in pieces, and is what a plain reading says.
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
    // It may be refused before all of it has come: for a line that is too long already, say.
    assert!(whole == plain || (whole, &plain) == (Plain::Bad, &Plain::More), "plainly {plain:?}");
}

#[derive(Debug, PartialEq, Eq)]
enum Plain {
    Whole(Vec<u8>, usize),
    More,
    Bad,
}

/// Reads a chunked body by RFC 9112 §7.1, line by line.
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
        let received = size.min(input.len() - at);
        body.extend_from_slice(&input[at..at + received]);
        at += received;
        if body.len() as u64 > BODY_BYTES_MAX {
            return Plain::Bad;
        }
        let rest = &input[at..];
        if received < size || rest.is_empty() || rest == b"\r" {
            return Plain::More;
        }
        if !rest.starts_with(b"\r\n") {
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

/// Checks that a connection serves the same requests however its bytes arrive and wherever their bodies are kept: those that were
/// meant, and none after a refusal.
pub fn connection(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(STREAM_BYTES_MAX)];
    let (sizes, input) = split(bytes);
    // `split` leaves five bits: the number of described requests, the memory for bodies, and whether a request that must be refused
    // follows, or any bytes.
    let bits = bytes.get(1).map_or(0, |bits| usize::from(bits >> 3));
    let (forms, tail) = input.split_at((bits & 3).min(input.len() / 3) * 3);
    let (mut stream, meant) = meant(forms);
    let is_spoilt = bits & 16 > 0;
    let tail = if is_spoilt { [spoiler(tail), GOOD].concat() } else { tail.to_vec() };
    stream.extend_from_slice(&tail);
    let mut start = 0;
    let pieces = sizes.ends(stream.len()).map(|end| &stream[std::mem::replace(&mut start, end)..end]);
    let now = Instant::now();
    let whole = served(std::iter::once(&stream[..]), SpoolMemory::default(), now);
    let found = served(pieces, memory(bits >> 2 & 3), now);
    assert_eq!(found, whole, "in pieces");
    let text = stream.escape_ascii();
    assert!(found.requests.starts_with(&meant), "{text}: {meant:?} of {:?}", found.requests);
    if is_spoilt || tail.is_empty() {
        assert_eq!((found.requests.len(), found.refused), (meant.len(), is_spoilt), "{text}");
    }
}

/// Something that must be refused.
fn spoiler(tail: &[u8]) -> &'static [u8] {
    SPOILERS[tail.first().map_or(0, |byte| usize::from(*byte)) % SPOILERS.len()]
}

/// Memory for bodies. Most are too small for some bodies, which go to their files in several portions then.
fn memory(number: usize) -> SpoolMemory {
    match number {
        0 => SpoolMemory::default(),
        1 => SpoolMemory::of(0).in_portions(64, 16),
        2 => SpoolMemory::of(48).in_portions(64, 16),
        _ => SpoolMemory::default().in_portions(32, 8),
    }
}

/// The result of serving a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    /// Targets and bodies.
    requests: Vec<(String, Option<Vec<u8>>)>,
    refused: bool,
    unread: Vec<u8>,
    /// The activity after all of it, and what is done if nothing follows.
    left: String,
}

fn served<'a>(pieces: impl Iterator<Item = &'a [u8]>, memory: SpoolMemory, now: Instant) -> Served {
    let limits = Limits::new(SHORT_HEAD_BYTES_MAX, SHORT_BODY_BYTES_MAX, &std::env::temp_dir());
    let (spool_memory, body_policy) = (Arc::new(memory), Arc::new(body_policy));
    let mut http1 = fresh(Limits { spool_memory, body_policy, ..limits }, now);
    let mut served = Served::default();
    let mut is_over = false;
    for piece in pieces {
        http1.receive(piece);
        loop {
            let step = match http1.step(now) {
                Action::Spool => http1.step_on_disk(now),
                step => step,
            };
            match step {
                Action::Spool => panic!("it may use the disk"),
                Action::More => break,
                Action::Continue => {}
                Action::Request(request, summary) => {
                    assert!(!is_over, "nothing is served after the last request");
                    served.requests.push((request.target.to_string(), request.body.as_ref().map(body_of)));
                    is_over = !summary.persistent;
                    if is_over { http1.start_closing(now) } else { http1.await_next_request(now) }
                }
                Action::Refuse(_) => {
                    assert!(!is_over, "nothing is refused after the last reply");
                    (is_over, served.refused) = (true, true);
                    http1.start_closing(now);
                }
                Action::Close => panic!("its time isn't over"),
            }
        }
        assert!(http1.deadline() > now, "every wait has its end");
    }
    served.unread = http1.unread().to_vec();
    served.left = format!("{:?}, {:?}, {:?}", http1.activity(), http1.refusal_at_end(), http1.expire());
    served
}

/// Another policy for the bodies of some methods, so that each is tried.
fn body_policy(request: &Request) -> BodyPolicy {
    match request.method {
        Method::PUT => BodyPolicy::Limited { bytes_max: 2, too_long: Refusal::BodyTooLarge },
        Method::DELETE => BodyPolicy::Reject,
        _ => BodyPolicy::Default,
    }
}

fn fresh(limits: Limits, now: Instant) -> Http1 {
    Http1::new(Arc::new(limits), "192.0.2.1:1".parse().expect("an address"), now)
}

/// A stream of good requests, and what they mean. Three bytes describe each: its form, its size, what fills it.
fn meant(forms: &[u8]) -> (Vec<u8>, Vec<(String, Option<Vec<u8>>)>) {
    let (mut stream, mut meant) = (Vec::new(), Vec::new());
    for (number, form) in forms.chunks_exact(3).enumerate() {
        let target = format!("/{number}?{}", form[2]);
        // Most are short: a byte more of them tells little. All bytes differ, or it wouldn't show where one has gone.
        let length = usize::from(form[1]) >> [8, 5, 2, 0][usize::from(form[0] >> 6)];
        let body: Vec<u8> = (0..=u8::MAX).cycle().skip(usize::from(form[2])).take(length).collect();
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
                for chunk in body.chunks(length / 3 + 1) {
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
    let mut http1 = fresh(Limits::new(HEAD_BYTES_MAX, BODY_BYTES_MAX, &std::env::temp_dir()), now);
    http1.receive(stream);
    loop {
        match http1.step_on_disk(now) {
            Action::Continue => {}
            Action::Request(request, _) => return Some(*request),
            Action::More | Action::Spool | Action::Refuse(_) | Action::Close => return None,
        }
    }
}

fn body_of(spool: &Spool) -> Vec<u8> {
    let mut body = Vec::new();
    std::io::copy(&mut spool.reader(), &mut body).expect("a body");
    body
}

/// The sizes of the pieces that a stream is cut into.
pub(crate) struct Sizes {
    seed: u32,
    bytes_max: u32,
}

/// Takes the sizes of the pieces out of the first two bytes, and returns the rest.
pub(crate) fn split(bytes: &[u8]) -> (Sizes, &[u8]) {
    match bytes {
        [seed, bits, rest @ ..] => (Sizes { seed: u32::from(*seed), bytes_max: 1 << (bits & 7) }, rest),
        _ => (Sizes { seed: 0, bytes_max: 1 }, bytes),
    }
}

impl Sizes {
    /// The end of each piece of a stream of this length.
    pub(crate) fn ends(&self, length: usize) -> impl Iterator<Item = usize> {
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
