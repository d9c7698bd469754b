//! The head of an answer, read once: what decides a leg, how the body ends, and whether its connection may be used again.
//! Stricter than its parser where others might read the same bytes in another way. Knows nothing of connections.

use std::mem::MaybeUninit;
use std::ops::BitOr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use httparse::{Header, ParserConfig};

use crate::message::{Outcome, binds_connection, has_listed, parse_content_length};
use crate::upstream::response::representation::Representation;

/// The longest head of an answer, in bytes.
pub(crate) const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;

/// The most fields of a head: as many as ureq takes.
pub(crate) const FIELDS_MAX: usize = 128;
/// The most interim answers before the answer. A backend that works for long may send one now and then; one that sends them
/// without end would keep its leg busy until the timeout.
pub(crate) const INTERIM_ANSWERS_MAX: usize = 100;

/// The complete head of a final answer, or of a 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    /// Its length in bytes.
    pub(crate) bytes: usize,
    pub(crate) framing: BodyFraming,
    /// The body's length by its fields, also of a body that isn't sent.
    pub(crate) declared_length: Option<u64>,
    /// Whether it declares a body that mustn't be sent, or one that would end with the connection: a backend may send it by
    /// mistake, or that end.
    pub(crate) is_suspect: bool,
    /// Whether the backend keeps the connection open behind the answer.
    pub(crate) is_persistent: bool,
    /// The time for which the backend keeps an idle connection open, if it says so.
    pub(crate) idle_time: Option<Duration>,
    /// Whether the backend may take what follows on the connection for requests of the same user.
    pub(crate) binds_connection: bool,
    pub(crate) representation: Representation,
}

/// The mark of the end of an answer's body (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is no body, whatever the head says of one.
    None,
    Sized(u64),
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
}

/// The fields of a head, as they were received.
pub(crate) struct Fields<'b>([MaybeUninit<Header<'b>>; FIELDS_MAX]);

impl Fields<'_> {
    pub(crate) fn new() -> Self {
        Fields([MaybeUninit::uninit(); FIELDS_MAX])
    }
}

/// The head at the front of an answer's bytes.
pub(crate) enum ParsedHead<'b, 'f> {
    /// The start of a head.
    Partial,
    /// An interim answer, and its length in bytes (RFC 9110 §15.2): 1xx, but for 101.
    Interim(usize),
    Final(ResponseHead, &'f [Header<'b>]),
}

/// Reads the head at the front of these bytes, of which there may be more. An error is the outcome of its leg.
pub(crate) fn read<'b, 'f>(
    input: &'b [u8],
    method: &Method,
    fields: &'f mut Fields<'b>,
) -> Result<ParsedHead<'b, 'f>, Outcome> {
    let mut head = httparse::Response::new(&mut []);
    let bytes = match ParserConfig::default().parse_response_with_uninit_headers(&mut head, input, &mut fields.0) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= ANSWER_HEAD_BYTES_MAX => bytes,
        Ok(httparse::Status::Partial) if input.len() <= ANSWER_HEAD_BYTES_MAX => return Ok(ParsedHead::Partial),
        Ok(_) => return Err(Outcome::TooLarge),
        Err(error) => return Err(protocol(&format!("its head can't be read: {error}"))),
    };
    if let Some(violation) = violation_of_form(&input[..bytes]) {
        return Err(protocol(violation));
    }
    let version = if head.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| protocol("its status is none"))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(ParsedHead::Interim(bytes));
    }
    let fields: &[Header] = head.headers;
    let head = ResponseHead::of(version, status, bytes, method, fields).map_err(protocol)?;
    Ok(ParsedHead::Final(head, fields))
}

impl ResponseHead {
    fn of(
        version: Version,
        status: StatusCode,
        bytes: usize,
        method: &Method,
        fields: &[Header],
    ) -> Result<ResponseHead, &'static str> {
        let end = framing_of(version, fields)?;
        let declared_length = if let BodyFraming::Sized(length) = end { Some(length) } else { None };
        let has_bare_status = is_bare(status);
        let is_bare = *method == Method::HEAD || has_bare_status;
        let framing = if is_bare { BodyFraming::None } else { end };
        let closes = values_of(fields, "connection").any(|value| has_listed(value, b"close"));
        Ok(ResponseHead {
            status,
            version,
            bytes,
            framing,
            declared_length,
            is_suspect: is_bare
                && match end {
                    BodyFraming::UntilClose => !has_bare_status,
                    end => !matches!(end, BodyFraming::None | BodyFraming::Sized(0)),
                },
            is_persistent: version == Version::HTTP_11 && framing != BodyFraming::UntilClose && !closes,
            idle_time: values_of(fields, "keep-alive").next().and_then(idle_time_hint),
            binds_connection: fields.iter().any(|field| binds_connection(field.name, field.value)),
            representation: Representation::new(
                status,
                declared_length,
                values_of(fields, "etag").next(),
                values_of(fields, "repr-digest").next(),
            ),
        })
    }
}

/// Copies the fields into the program's own form; an error is a field that can't be one.
pub(crate) fn header_map(fields: &[Header]) -> Result<HeaderMap, Outcome> {
    // Room for the three fields that are added on the way to the client: a map grows by rebuilding itself.
    let mut headers = HeaderMap::with_capacity(fields.len() + 3);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| protocol("a field's name is none"))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| protocol("a field's value is none"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The framing of a body by the fields of its head. An error where ureq would read it in one way and another program in another.
fn framing_of(version: Version, fields: &[Header]) -> Result<BodyFraming, &'static str> {
    let mut lengths = values_of(fields, "content-length");
    let length = lengths.next();
    if let Some(first) = length
        && lengths.any(|other| other != first)
    {
        return Err("Content-Length is given twice with different values");
    }
    let mut codings = values_of(fields, "transfer-encoding");
    let Some(coding) = codings.next() else {
        let Some(length) = length else { return Ok(BodyFraming::UntilClose) };
        let told = parse_content_length(length).ok_or("Content-Length isn't one run of digits")?;
        return Ok(BodyFraming::Sized(told));
    };
    if length.is_some() {
        return Err("both Transfer-Encoding and Content-Length are given");
    }
    if version != Version::HTTP_11 {
        return Err("Transfer-Encoding doesn't exist in HTTP/1.0");
    }
    let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    if is_chunked { Ok(BodyFraming::Chunked) } else { Err("Transfer-Encoding isn't exactly one chunked") }
}

/// The violation in a head that its parser accepts.
fn violation_of_form(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"HTTP/") {
        return Some("it doesn't begin with a status line");
    }
    // Each is looked at, whatever came before: sixteen at once then.
    let ends_bare = head.iter().zip(&head[1..]).map(|(before, byte)| *byte == b'\n' && *before != b'\r');
    let is_bare = ends_bare.fold(false, BitOr::bitor);
    is_bare.then_some("a line of its head doesn't end with CR LF")
}

/// Whether an answer with this status has no body, whatever its head says of one (RFC 9112 §6.3).
fn is_bare(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 204 | 304)
}

/// Reads the time for which the backend keeps an idle connection: `Keep-Alive: timeout=5`, in seconds.
pub(crate) fn idle_time_hint(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn values_of<'f>(fields: &'f [Header], name: &'static str) -> impl Iterator<Item = &'f [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

pub(crate) fn protocol(violation: &str) -> Outcome {
    Outcome::Protocol(violation.to_owned())
}
