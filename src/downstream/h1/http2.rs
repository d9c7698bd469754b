//! The refusal of a client that begins with HTTP/2: in frames, since such a client reads nothing else. Bytes in, bytes out: no
//! socket.

use http::StatusCode;

/// RFC 9113 §3.4. Its first two lines look like the head of a request.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first request comes within a packet or two, after settings and the like.
const BYTES_MAX: usize = 16 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The error code that has a client ask again in HTTP/1.1, if it can.
const HTTP_1_1_REQUIRED: u32 = 0xd;

/// Whether the first request of a client that has sent `input` may still be on its way: it should be awaited, but not for
/// long, since some clients wait for the server's first frame.
pub(crate) fn awaits_request(input: &[u8]) -> bool {
    let is_http2 = PREFACE.starts_with(input) || input.starts_with(PREFACE);
    is_http2
        && input.len() <= BYTES_MAX
        && input.strip_prefix(PREFACE).is_none_or(|frames| first_request(frames).is_err())
}

/// The frames for a client that has sent `input`. If its first request is among that, `status` and `text` are the reply to it,
/// which people get to see; programs, and people who read bytes, are told by the last frame, whose note is `note`.
pub(crate) fn refusal(input: &[u8], status: StatusCode, text: &[u8], note: &[u8]) -> Vec<u8> {
    let request = input.strip_prefix(PREFACE).and_then(|frames| first_request(frames).ok()?);
    let mut bytes = Vec::with_capacity(256 + text.len() + note.len());
    put_frame(&mut bytes, SETTINGS, 0, 0, &[]);
    if let Some(FirstRequest { stream, is_head }) = request {
        put_frame(&mut bytes, SETTINGS, ACK, 0, &[]);
        let mut fields = Vec::with_capacity(64);
        put_field(&mut fields, &[8], status.as_str());
        put_field(&mut fields, &[0xf, 31 - 0xf], "text/plain; charset=utf-8");
        put_field(&mut fields, &[0xf, 28 - 0xf], &text.len().to_string());
        let end = if is_head { END_STREAM } else { 0 };
        put_frame(&mut bytes, HEADERS, END_HEADERS | end, stream, &fields);
        if !is_head {
            put_frame(&mut bytes, DATA, END_STREAM, stream, text);
        }
    }
    let last = [request.map_or(0, |request| request.stream).to_be_bytes(), HTTP_1_1_REQUIRED.to_be_bytes()].concat();
    put_frame(&mut bytes, GOAWAY, 0, 0, &[&last, note].concat());
    bytes
}

/// A client's first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FirstRequest {
    stream: u32,
    is_head: bool,
}

/// More frames, or more of one, must come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Incomplete;

/// The first request among frames (RFC 9113 §4.1), or `None` if it breaks the rules.
fn first_request(mut frames: &[u8]) -> Result<Option<FirstRequest>, Incomplete> {
    loop {
        let (head, rest) = frames.split_first_chunk::<9>().ok_or(Incomplete)?;
        let [high, middle, low, kind, _, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let (payload, rest) = rest.split_at_checked(length).ok_or(Incomplete)?;
        if kind == HEADERS {
            let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
            // HPACK has no number for this method, and Huffman's code makes it no shorter.
            let is_head = payload.windows(5).any(|value| value == b"\x04HEAD");
            // The numbers of clients' streams are odd.
            return Ok((stream % 2 == 1).then_some(FirstRequest { stream, is_head }));
        }
        frames = rest;
    }
}

fn put_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a refusal is short");
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// Appends a literal field without indexing, whose name is in HPACK's static table (RFC 7541 §6.2.2), where `name` says.
fn put_field(bytes: &mut Vec<u8>, name: &[u8], value: &str) {
    let length = u8::try_from(value.len()).ok().filter(|length| *length < 0x7f).expect("a short value");
    bytes.extend_from_slice(name);
    bytes.push(length);
    bytes.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: StatusCode = StatusCode::HTTP_VERSION_NOT_SUPPORTED;

    #[test]
    fn the_first_request_is_replied_to_or_awaited_while_it_may_come() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        let get = b"\0\0\x03\x01\x05\x80\0\0\x05\x82\x84\x86";
        let head = b"\0\0\x08\x01\x05\0\0\0\x07\x42\x04HEAD\x84\x86";
        let got = |stream, is_head| Ok(Some(FirstRequest { stream, is_head }));
        let rows = [
            ("settings and a request", [&settings[..], get].concat(), got(5, false)),
            ("a request alone", get.to_vec(), got(5, false)),
            ("HEAD", head.to_vec(), got(7, true)),
            ("two", [&head[..], get].concat(), got(7, true)),
            ("nothing", Vec::new(), Err(Incomplete)),
            ("settings", settings.to_vec(), Err(Incomplete)),
            ("a part of a request", get[..11].to_vec(), Err(Incomplete)),
            ("a part of a frame's head", [&settings[..], &get[..8]].concat(), Err(Incomplete)),
            ("a frame that is longer than all", b"\xff\xff\xff\x04\0\0\0\0\0".to_vec(), Err(Incomplete)),
            ("an even stream", b"\0\0\0\x01\x05\0\0\0\x02".to_vec(), Ok(None)),
        ];
        for (label, frames, expected) in rows {
            let input = [PREFACE, &frames].concat();
            assert_eq!(
                (first_request(&frames), awaits_request(&input)),
                (expected.clone(), expected.is_err()),
                "{label}"
            );
            let told = refusal(&input, STATUS, b"text", b"note");
            assert!(told.starts_with(b"\0\0\0\x04\0\0\0\0\0") && told.ends_with(b"\0\0\0\x0dnote"), "{label}");
            let answered = expected.ok().flatten().map(|summary| summary.stream);
            assert_eq!(first_request(&told).ok().flatten().map(|summary| summary.stream), answered, "{label}");
        }
        assert!((18..PREFACE.len()).all(|length| awaits_request(&PREFACE[..length])));
        assert!(!awaits_request(b"PRI * HTTP/2.0\r\n\r\nGET"), "that isn't the preface");
        assert!(
            !awaits_request(&[PREFACE, &[0; BYTES_MAX]].concat()),
            "no client sends as much before the first request"
        );
    }

    #[test]
    fn a_reply_has_status_type_length_and_text() {
        let told = refusal(&[PREFACE, b"\0\0\0\x01\x05\0\0\0\x01"].concat(), STATUS, b"text", b"note");
        let fields = b"\x08\x03505\x0f\x10\x19text/plain; charset=utf-8\x0f\x0d\x014";
        let expected: [&[u8]; 7] = [
            b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\x25\x01\x04\0\0\0\x01",
            fields,
            b"\0\0\x04\0\x01\0\0\0\x01text",
            b"\0\0\x0c\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0d",
            b"note",
        ];
        assert_eq!(told, expected.concat());
    }

    #[test]
    fn a_client_that_has_sent_only_a_part_of_the_preface_is_told_as_well() {
        for length in 0..=PREFACE.len() {
            let told = refusal(&PREFACE[..length], STATUS, b"text", b"note");
            assert_eq!(told, b"\0\0\0\x04\0\0\0\0\0\0\0\x0c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dnote", "{length}");
        }
    }
}
