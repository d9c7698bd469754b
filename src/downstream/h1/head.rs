//! Reads the head of a request: bytes in, a checked head or a refusal out. Knows no socket and no time.

use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use httparse::Error;

use crate::message::{BodyLength, Refusal, RequestId, Target, headers, is_host_field, tokens, values_of};

/// The longest target. RFC 9112 §3 asks for 8,000 at least.
const TARGET_BYTES_MAX: usize = 8 * 1024;
/// The most fields: browsers send twenty, and other servers stop at a hundred, too.
const FIELDS_MAX: usize = 100;

/// The first bytes of a client that speaks TLS: a record of a handshake, in any version since SSL 3 (RFC 8446 §5.1).
const TLS_HANDSHAKE: &[u8] = b"\x16\x03";
const TLS: &str =
    "The request line isn't a method, a target and a version, but the start of TLS, which isn't spoken on this port";

/// The first bytes of the PROXY protocol, by which a load balancer tells the client's address: as text, and as bytes behind empty lines.
const PROXY_TEXT: &[u8] = b"PROXY ";
const PROXY_BYTES: &[u8] = b"\0\r\nQUIT\n";
const PROXY: &str =
    "The request line isn't a method, a target and a version, but the PROXY protocol, which isn't spoken here";

/// A request's head, checked.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyLength,
    pub(crate) wants_continue: bool,
}

impl Head {
    /// Whether the connection may carry another request after this one (RFC 9112 §9.3).
    pub(crate) fn is_persistent(&self) -> bool {
        let has = |token| headers::has_token(&self.headers, &http::header::CONNECTION, token);
        if self.version == Version::HTTP_10 { has("keep-alive") && !has("close") } else { !has("close") }
    }
}

/// Looks for the end of a head in bytes that arrive in pieces, and scans each byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    scanned: usize,
    request_line: RequestLine,
}

/// The part of the request line that the scan is in.
#[derive(Debug, Default)]
enum RequestLine {
    #[default]
    Method,
    Target {
        begin: usize,
    },
    Rest,
}

impl HeadReader {
    /// The head at the start of `input` and its length in bytes, at most `bytes_max`; `None` if more bytes must come first.
    pub(crate) fn read(&mut self, input: &[u8], bytes_max: usize) -> Result<Option<(Head, usize)>, Refusal> {
        if input.starts_with(TLS_HANDSHAKE) {
            return Err(Refusal::BadRequest(TLS));
        }
        let end = self.find_end(input)?;
        if end.unwrap_or(input.len()) > bytes_max {
            // As if the rest hadn't come yet: the refusal doesn't depend on how the bytes arrive.
            return Err(too_long(&input[..=bytes_max]));
        }
        let Some(length) = end else { return Ok(None) };
        parse(&input[..length]).map(|head| Some((head, length)))
    }

    /// Finds the empty line. Every line must end with CR LF: a lone LF or CR is read differently by different servers.
    fn find_end(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        let new = self.scanned;
        let mut at = new;
        while let Some(found) = input[at..].iter().position(|byte| *byte == b'\n') {
            let newline = at + found;
            if newline == 0 || input[newline - 1] != b'\r' {
                return Err(proxy_protocol_in(input).unwrap_or_else(|| refusal_of(Error::NewLine)));
            }
            if newline >= 3 && input[newline - 3..newline] == *b"\r\n\r" {
                *self = HeadReader::default();
                return Ok(Some(newline + 1));
            }
            at = newline + 1;
        }
        self.scanned = input.len();
        self.check_request_line(input, new)?;
        Ok(None)
    }

    /// Refuses another protocol (noise, HTTP/2 without a newline, HTTP/0.9 with no version and no empty line) at its first bytes instead
    /// of at the deadline, and a target that is too long at the first byte too many.
    fn check_request_line(&mut self, input: &[u8], new: usize) -> Result<(), Refusal> {
        if let RequestLine::Method = self.request_line {
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            let Some(length) = input[new..].iter().position(|byte| !is_token(byte)) else { return Ok(()) };
            self.request_line = match input[new + length] {
                b' ' => RequestLine::Target { begin: new + length + 1 },
                // The rest of a handshake may follow; if it doesn't, this byte is as bad as any.
                0x16 if input.len() == 1 => {
                    self.scanned = 0;
                    return Ok(());
                }
                _ => return Err(refusal_of(Error::Token)),
            };
        }
        if let RequestLine::Target { begin } = self.request_line {
            let is_end = |byte: &u8| matches!(byte, b' ' | b'\r');
            let end = input[begin.max(new)..].iter().position(is_end).map(|length| begin.max(new) + length);
            if end.unwrap_or(input.len()) - begin > TARGET_BYTES_MAX {
                return Err(Refusal::TargetTooLong);
            }
            self.request_line = match end.map(|end| input[end]) {
                Some(b'\r') => return Err(check_version(input).err().unwrap_or_else(|| refusal_of(Error::Version))),
                Some(_) => RequestLine::Rest,
                None => RequestLine::Target { begin },
            };
        }
        Ok(())
    }
}

/// The number of bytes of empty lines before a request line: they are ignored (RFC 9112 §2.2).
pub(crate) fn empty_lines(input: &[u8]) -> usize {
    input.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

/// The refusal of a client that begins with the PROXY protocol.
pub(crate) fn proxy_protocol_in(input: &[u8]) -> Option<Refusal> {
    let refusal = Refusal::BadRequest(PROXY);
    let is_proxy =
        input[empty_lines(input)..].starts_with(PROXY_BYTES) || check_version(input).as_ref() == Err(&refusal);
    is_proxy.then_some(refusal)
}

/// The method and the target at the start of bytes that may be no request at all, if they look like those of one.
pub(crate) fn asked_in(input: &[u8]) -> Option<(&str, &str)> {
    let line = input.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut parts = str::from_utf8(line).ok()?.split(' ');
    let (method, target) = (parts.next()?, parts.next()?);
    let is_whole = parts.next().is_some() || target.len() > TARGET_BYTES_MAX;
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_whole && is_method && target.starts_with('/')).then_some((method, target))
}

/// The client's id in a head that breaks a rule, if that is whole and has one.
pub(crate) fn id_in(input: &[u8]) -> Option<RequestId> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let is_whole = parsed.parse(input).is_ok_and(|status| status.is_complete());
    let headers = is_whole.then(|| headers_of(parsed.headers).ok())?;
    RequestId::given(&headers?)
}

/// The refusal of a head that is too long: for its target, or for all of it.
fn too_long(input: &[u8]) -> Refusal {
    let line = input.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX { Refusal::TargetTooLong } else { Refusal::HeadTooLarge }
}

fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
    check_version(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::BadRequest("The head ends before its empty line")),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(refusal_of(Error::Token));
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::BadRequest("The method isn't a token"))?;
    let target = Target::parse(&method, target)?;
    let headers = headers_of(parsed.headers)?;
    check_host(version, &headers)?;
    let wants_continue = wants_continue(version, &headers)?;
    let body = BodyLength::of_request(version, &headers)?;
    Ok(Head { method, target, version, headers, body, wants_continue })
}

/// Refuses other versions of HTTP, which httparse can't tell from noise: the client deserves to know.
fn check_version(bytes: &[u8]) -> Result<(), Refusal> {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        _ if line == b"PRI * HTTP/2.0" => Err(Refusal::Http2NotSupported),
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal::VersionNotSupported)
        }
        _ if line.starts_with(PROXY_TEXT) => Err(Refusal::BadRequest(PROXY)),
        _ => Err(refusal_of(Error::Version)),
    }
}

fn refusal_of(error: Error) -> Refusal {
    match error {
        Error::TooManyHeaders => Refusal::TooManyFields,
        Error::HeaderName => Refusal::BadRequest("A field's name isn't a token followed by a colon"),
        Error::HeaderValue => Refusal::BadRequest("A field's value has a control character"),
        Error::NewLine => Refusal::BadRequest("A line of the head doesn't end with CR LF"),
        // Not another version of HTTP: that has a refusal of its own.
        Error::Version | Error::Status | Error::Token => {
            Refusal::BadRequest("The request line isn't a method, a target and a version")
        }
    }
}

fn headers_of(fields: &[httparse::Header]) -> Result<HeaderMap, Refusal> {
    // Five more than the fields: a proxy adds as many, and a map grows by rebuilding itself.
    let mut headers = HeaderMap::with_capacity(fields.len() + 5);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| refusal_of(Error::HeaderName))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| refusal_of(Error::HeaderValue))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Checks for one valid Host, which HTTP/1.0 alone may omit (RFC 9112 §3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = values_of(headers, &HOST);
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Refusal::BadRequest("Host is missing")),
        (Some(_), Some(_)) => Err(Refusal::BadRequest("Host is given more than once")),
        (Some(host), None) if host.to_str().is_ok_and(is_host_field) => Ok(()),
        (Some(_), None) => Err(Refusal::BadRequest("Host isn't a host with an optional port")),
    }
}

/// Whether the client has the one known expectation (RFC 9110 §10.1.1), however often; HTTP/1.0 clients can't have any.
fn wants_continue(version: Version, headers: &HeaderMap) -> Result<bool, Refusal> {
    if version == Version::HTTP_10 {
        return Ok(false);
    }
    let mut wanted = false;
    for expectation in tokens(headers, &EXPECT).filter(|expectation| !expectation.is_empty()) {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::ExpectationFailed);
        }
        wanted = true;
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 16 * 1024;

    /// Reads whole, byte by byte, and followed by a second request: all three must say the same.
    fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        read_within(bytes, BYTES_MAX)
    }

    fn read_within(bytes: &[u8], bytes_max: usize) -> Result<Option<(Head, usize)>, Refusal> {
        let whole = HeadReader::default().read(bytes, bytes_max);
        let mut reader = HeadReader::default();
        let stepwise =
            (1..=bytes.len()).map(|end| reader.read(&bytes[..end], bytes_max)).find(|read| !matches!(read, Ok(None)));
        let trailing = HeadReader::default().read(&[bytes, b"GET /second HTTP/1.1\r\n"].concat(), bytes_max);
        let summary = |read: &Result<Option<(Head, usize)>, Refusal>| match read {
            Ok(Some((head, length))) => format!("{} {} {length}", head.method, head.target),
            Ok(None) => "more".to_owned(),
            Err(refusal) => refusal.status().to_string(),
        };
        assert_eq!(summary(&whole), summary(&stepwise.unwrap_or(Ok(None))), "byte by byte");
        if !matches!(whole, Ok(None)) {
            assert_eq!(summary(&whole), summary(&trailing), "followed by a second request");
        }
        whole
    }

    #[test]
    fn heads_are_accepted_or_refused_with_the_right_status() {
        let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX));
        let long_value = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX));
        let rows: &[(&str, &str, Result<&str, u16>)] = &[
            ("plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("/")),
            ("1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", Ok("/x")),
            ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok("/")),
            ("IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok("/")),
            ("unknown method", "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", Ok("/pot")),
            ("odd target", "GET /|{}\"\\%zz//.. HTTP/1.1\r\nHost: a\r\n\r\n", Ok("/|{}\"\\%zz//..")),
            ("UTF-8 value", "GET / HTTP/1.1\r\nHost: a\r\nA: é\r\n\r\n", Ok("/")),
            ("no Host", "GET / HTTP/1.1\r\n\r\n", Err(400)),
            ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400)),
            ("Host with a port that is none", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Err(400)),
            ("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Err(400)),
            ("Host with userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Err(400)),
            ("lone LF", "GET / HTTP/1.1\nHost: a\n\n", Err(400)),
            ("lone LF in a field", "GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", Err(400)),
            ("lone CR", "GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n", Err(400)),
            ("NUL", "GET / HTTP/1.1\r\nHost: a\r\nB: \0\r\n\r\n", Err(400)),
            ("space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(400)),
            ("empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Err(400)),
            ("obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n d\r\n\r\n", Err(400)),
            ("first line folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(400)),
            ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
            ("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
            ("no version", "GET /\r\nHost: a\r\n\r\n", Err(400)),
            ("no version, and no more", "GET /\r", Err(400)),
            ("nothing but a method", "GET\r", Err(400)),
            ("a version and no target", "GET HTTP/1.1\r\n\r\n", Err(400)),
            ("another version and no target", "GET HTTP/2.0\r\n\r\n", Err(505)),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\n", Err(505)),
            ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", Err(505)),
            ("HTTP/5.6", "GET / HTTP/5.6\r\nHost: a\r\n\r\n", Err(505)),
            ("TLS", "\x16\x03\x01", Err(400)),
            ("TLS with a line end", "\x16\x03\x01\n", Err(400)),
            ("no TLS", "\x16\x02", Err(400)),
            ("no TLS, but a token", "\x16GET ", Err(400)),
            ("unknown Expect", "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Err(417)),
            ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Err(501)),
            (
                "CL and TE",
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(400),
            ),
            ("long target", &long_target, Err(414)),
            ("long value", &long_value, Err(431)),
            ("many fields", &many, Err(431)),
        ];
        for (label, bytes, expected) in rows {
            let found = read(bytes.as_bytes());
            let found = found.as_ref().map(|read| read.as_ref().expect(label).0.target.as_str());
            assert_eq!(found.map_err(|refusal| refusal.status().as_u16()), *expected, "{label}");
        }
    }

    #[test]
    fn expectations_are_a_list() {
        let rows: &[(&str, Result<bool, Refusal>)] = &[
            ("Expect: 100-Continue", Ok(true)),
            ("Expect: 100-continue,, 100-continue", Ok(true)),
            ("Expect: 100-continue\r\nExpect: 100-continue", Ok(true)),
            ("Expect:", Ok(false)),
            ("Expect: ,", Ok(false)),
            ("Expect: 100-continue, x", Err(Refusal::ExpectationFailed)),
            ("Expect: 100-continue x", Err(Refusal::ExpectationFailed)),
        ];
        for (field, expected) in rows {
            let head = read(format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes());
            let found = head.map(|head| head.expect(field).0.wants_continue);
            assert_eq!(found, *expected, "{field}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused_once_it_is_too_long() {
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "x".repeat(BYTES_MAX));
        assert!(matches!(HeadReader::default().read(endless.as_bytes(), BYTES_MAX), Err(Refusal::HeadTooLarge)));
        let endless = format!("GET /{}", "x".repeat(TARGET_BYTES_MAX));
        assert!(matches!(HeadReader::default().read(endless.as_bytes(), BYTES_MAX), Err(Refusal::TargetTooLong)));
    }

    #[test]
    fn what_is_too_long_does_not_depend_on_how_it_arrives() {
        let refused = |bytes: &str, bytes_max| match read_within(bytes.as_bytes(), bytes_max) {
            Err(refusal) => refusal,
            Ok(_) => panic!("{bytes:?} is accepted"),
        };
        let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
        assert_eq!(refused(&target, 1024), Refusal::HeadTooLarge);
        assert_eq!(refused(&target, 8 * 1024), Refusal::HeadTooLarge);
        assert_eq!(refused(&target, 16 * 1024), Refusal::TargetTooLong);
        let method = "x".repeat(9000);
        assert_eq!(refused(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), 8 * 1024), Refusal::HeadTooLarge);
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let rows = [
            ("1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("1.1 close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false),
            ("1.0", "GET / HTTP/1.0\r\n\r\n", false),
            ("1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ];
        for (label, bytes, expected) in rows {
            let (head, _) = read(bytes.as_bytes()).expect(label).expect(label);
            assert_eq!(head.is_persistent(), expected, "{label}");
        }
    }
}
