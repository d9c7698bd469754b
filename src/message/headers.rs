//! The changes that a proxy makes to header fields on their way through: pure functions over `HeaderMap`. Knows nothing
//! of framing, nor of sockets.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

pub use super::field::has_token;
use super::field::{CDN_LOOP, has_field, has_listed, of_variable, tokens, values_of};
use super::networks::Networks;
use super::request::Request;
use super::request_id::RequestId;
use super::{forwarded, max_forwards};

/// Fields that only this proxy writes towards backends, besides those about a request's source. CGI and its kin make
/// one variable of names that differ in what is neither a letter nor a digit, so those that look like these are dropped.
const OWN: [HeaderName; 4] = [CDN_LOOP, CONTENT_LENGTH, TRANSFER_ENCODING, RequestId::FIELD];

/// The fields that list the proxies on a message's way.
const WAY: [HeaderName; 2] = [CDN_LOOP, VIA];

/// This process's id: random, so that a request that comes back is known. Backends get it in `CDN-Loop` (RFC 8586) and
/// only on request in `Via` (RFC 9110 §7.6.3), since some compress nothing for proxies; clients get it in `Via`.
#[derive(Debug, Clone)]
pub struct ViaId {
    id: String,
    /// The entries for `Via` of messages of HTTP/1.0 and of HTTP/1.1.
    values: [HeaderValue; 2],
    /// The entry for `CDN-Loop`.
    cdn_id: HeaderValue,
    /// Whether requests get `Via`, too.
    is_for_backends: bool,
}

impl ViaId {
    /// A fresh id; `is_for_backends` says whether requests get `Via`, too.
    pub fn random(is_for_backends: bool) -> ViaId {
        // 64 random bits: no other proxy in any chain will ever bear the same name.
        let bits = getrandom::u64().expect("the system gives random bytes");
        ViaId::named(format!("{bits:016x}"), is_for_backends)
    }

    fn named(id: String, is_for_backends: bool) -> ViaId {
        let values = ["1.0", "1.1"].map(|protocol| value_of(&format!("{protocol} {id} (red-tentacle)")));
        let cdn_id = value_of(&format!("red-tentacle-{id}"));
        ViaId { id, values, cdn_id, is_for_backends }
    }

    /// Whether a request has passed this process before.
    pub fn has_sent(&self, headers: &HeaderMap) -> bool {
        // Commas count within quotes, too: a quote that a client leaves open must not hide what stands behind it.
        let is_own = |info: &[u8]| {
            let cdn_id = info.split(|byte| *byte == b';').next().unwrap_or_default();
            cdn_id.trim_ascii().eq_ignore_ascii_case(self.cdn_id.as_bytes())
        };
        tokens(headers, &CDN_LOOP).any(is_own) || self.is_in(headers)
    }

    /// Whether this process is in a message's `Via`.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let words = |value: &[u8]| {
            let mut words = value.split(|byte| matches!(byte, b',' | b' ' | b'\t'));
            words.any(|word| word.eq_ignore_ascii_case(self.id.as_bytes()))
        };
        values_of(headers, &VIA).any(|value| words(value.as_bytes()))
    }

    /// Adds this process to a reply's `Via`.
    pub fn append_to(&self, headers: &mut HeaderMap, version: Version) {
        headers.append(VIA, self.values[usize::from(version != Version::HTTP_10)].clone());
    }

    /// Adds this process to a request's `CDN-Loop`, and to its `Via` if backends get that.
    fn append_to_request(&self, headers: &mut HeaderMap, version: Version) {
        headers.append(CDN_LOOP, self.cdn_id.clone());
        if self.is_for_backends {
            self.append_to(headers, version);
        }
    }
}

/// Whether a request may be answered by 304 (RFC 9110 §13.1).
pub fn is_conditional(request: &Request) -> bool {
    matches!(request.method, Method::GET | Method::HEAD)
        && [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|condition| has_field(&request.headers, condition))
}

/// The protocols that a request asks to switch to, if it may: none is among them within which are requests, since those
/// couldn't be checked.
pub fn upgrade_of(request: &Request) -> Option<HeaderValue> {
    let has_body = request.body.as_ref().is_some_and(|body| body.length() > 0);
    if request.version != Version::HTTP_11 || has_body || !has_token(&request.headers, &CONNECTION, "upgrade") {
        return None;
    }
    if tokens(&request.headers, &UPGRADE).any(carries_requests) {
        return None;
    }
    protocols_of(&request.headers)
}

/// Whether a protocol, with a version or without, is HTTP or TLS (RFC 2817) in any of its names, drafts included.
fn carries_requests(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    matches!(&*name, b"http" | b"h2" | b"h2c" | b"tls") || name.starts_with(b"h2-") || name.starts_with(b"h2c-")
}

/// The protocols that a message asks for or switches to, if it names any.
pub fn protocols_of(headers: &HeaderMap) -> Option<HeaderValue> {
    protocols_that(headers, |_| true)
}

/// Those of a message's protocols that are such ones, if there are any. One that is repeated on the spot says nothing more.
fn protocols_that(headers: &HeaderMap, is_one: impl Fn(&[u8]) -> bool) -> Option<HeaderValue> {
    let is_one = |protocol: &&[u8]| !protocol.is_empty() && is_one(protocol);
    let mut protocols: Vec<&[u8]> = tokens(headers, &UPGRADE).filter(is_one).collect();
    protocols.dedup_by(|protocol, before| protocol.eq_ignore_ascii_case(before));
    let list = HeaderValue::from_bytes(&protocols.join(&b", "[..])).expect("values joined by a comma are a value");
    (!list.is_empty()).then_some(list)
}

/// Whether an answer switches to protocols, one or one upon the other, all of which were asked for (RFC 9110 §7.8).
pub fn is_switch_to(headers: &HeaderMap, asked_for: &HeaderValue) -> bool {
    let mut chosen = tokens(headers, &UPGRADE).filter(|protocol| !protocol.is_empty()).peekable();
    chosen.peek().is_some() && chosen.all(|protocol| has_listed(asked_for.as_bytes(), protocol))
}

/// The protocols that an answer demands by its status (RFC 9110 §15.5.22), but for those that requests through this proxy can't switch to.
pub fn upgrade_demanded(status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
    if status != StatusCode::UPGRADE_REQUIRED {
        return None;
    }
    protocols_that(headers, |protocol| !carries_requests(protocol))
}

/// Puts an upgrade, asked for, demanded or accepted, back into fields that are about one connection only.
pub fn put_upgrade(headers: &mut HeaderMap, protocols: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocols);
}

/// Takes the request's fields and gives them as every backend gets them; `Host` and the framing are left to the module
/// that sends them. Fields about the request's source are kept from `trusted` peers only.
pub fn for_backends(request: &mut Request, via: &ViaId, trusted: &Networks) -> HeaderMap {
    let (host, upgrade) = (host_of(request), upgrade_of(request));
    let mut headers = std::mem::take(&mut request.headers);
    let is_trusted = trusted.contain(request.peer.network_ip());
    strip(&mut headers, |name| is_for_proxy(name) || is_lookalike(name) || (!is_trusted && forwarded::is_word(name)));
    max_forwards::count_down(&request.method, &mut headers);
    forwarded::tell(&mut headers, &request.peer, host);
    via.append_to_request(&mut headers, request.version);
    if let Some(protocols) = upgrade {
        put_upgrade(&mut headers, protocols);
    }
    headers
}

/// Gives a backend's fields as the client gets them; the framing is left to downstream.
pub fn for_client(mut headers: HeaderMap, version: Version, via: &ViaId) -> HeaderMap {
    strip(&mut headers, |name| matches!(name.as_str(), "content-length" | "proxy"));
    via.append_to(&mut headers, version);
    headers
}

/// The host that the client asked for: the authority of an absolute-form target, else its `Host`.
pub fn host_of(request: &Request) -> Option<HeaderValue> {
    match request.target.authority() {
        Some(authority) => Some(value_of(authority)),
        None => request.headers.get(HOST).cloned(),
    }
}

/// Removes the fields that are about one connection, those that `Connection` names and the known ones, and those that are dropped
/// besides. A client that names fields about its source or its way there would hide itself, and blind proxies to its loop (RFC 8586
/// §2), so those stay. Messages have few fields, and to look for each name would take longer.
fn strip(headers: &mut HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) {
    let named = tokens(headers, &CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok());
    let mut dropped: Vec<HeaderName> = named.filter(|name| !WAY.contains(name) && !forwarded::is_word(name)).collect();
    dropped.extend(headers.keys().filter(|name| is_hop_by_hop(name) || is_dropped(name)).cloned());
    for name in dropped {
        headers.remove(name);
    }
}

/// Whether a field is about one connection even if `Connection` doesn't name it (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a field was meant for this proxy alone, or is written anew for each backend. A CGI program takes `Proxy` for the variable
/// `HTTP_PROXY` (<https://httpoxy.org>).
fn is_for_proxy(name: &HeaderName) -> bool {
    matches!(name.as_str(), "expect" | "proxy" | "content-length" | "host")
}

fn is_lookalike(name: &HeaderName) -> bool {
    let bytes = name.as_str().bytes();
    if bytes.clone().all(|byte| byte == of_variable(byte)) {
        return false;
    }
    let name: Vec<u8> = bytes.map(of_variable).collect();
    let name = HeaderName::from_bytes(&name).expect("a name with other hyphens is a name");
    OWN.contains(&name) || forwarded::is_word(&name)
}

fn value_of(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a checked text without controls is a value")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::Method;

    use super::*;
    use crate::message::Target;

    fn request(target: &str, fields: &[(&str, &[u8])]) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_bytes(value).expect("a value"),
            );
        }
        Request {
            method: Method::GET,
            target: Target::parse(&Method::GET, target).expect("a target"),
            version: Version::HTTP_11,
            headers,
            body: None,
            peer: "192.0.2.7:1234".parse().expect("an address"),
            received: Instant::now(),
        }
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        let lossy = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.get_all(name).iter().map(lossy).collect()
    }

    /// The network that `request` has its peer in.
    fn trusted() -> Networks {
        Networks::new(&["192.0.2.0/24".parse().expect("a network")])
    }

    #[test]
    fn a_request_loses_what_is_about_its_own_connection() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("named by Connection", "x-a", &[]),
            ("named in another case", "x-b", &[]),
            ("Connection itself", "connection", &[]),
            ("Keep-Alive", "keep-alive", &[]),
            ("Upgrade", "upgrade", &[]),
            ("TE", "te", &[]),
            ("Expect", "expect", &[]),
            ("Proxy", "proxy", &[]),
            ("Proxy-Authorization", "proxy-authorization", &[]),
            ("Content-Length", "content-length", &[]),
            ("anything else", "x-c", &["3"]),
            ("repeats, apart and in order", "x-d", &["1", "2"]),
        ];
        let mut request = request(
            "/",
            &[
                ("connection", b"close, x-a"),
                ("connection", b"X-B"),
                ("x-a", b"1"),
                ("x-b", b"2"),
                ("x-c", b"3"),
                ("x-d", b"1"),
                ("x-d", b"2"),
                ("keep-alive", b"timeout=5"),
                ("upgrade", b"h2c"),
                ("te", b"trailers"),
                ("expect", b"100-continue"),
                ("proxy", b"http://evil"),
                ("proxy-authorization", b"Basic x"),
                ("content-length", b"3"),
            ],
        );
        let headers = for_backends(&mut request, &ViaId::random(false), &trusted());
        for (label, name, expected) in rows {
            assert_eq!(values(&headers, name), *expected, "{label}");
        }
    }

    #[test]
    fn a_backend_learns_where_the_request_came_from() {
        let fields: &[(&str, &[u8])] =
            &[("host", b"front.example"), ("x-forwarded-for", b"a"), ("x-forwarded-for", b"b"), ("via", b"1.1 other")];
        let via = ViaId::named("0123456789abcdef".to_owned(), false);
        let headers = for_backends(&mut request("/", fields), &via, &trusted());
        assert_eq!(values(&headers, "x-forwarded-for"), ["a, b, 192.0.2.7"]);
        assert_eq!(values(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&headers, "x-forwarded-host"), ["front.example"]);
        assert_eq!(values(&headers, "cdn-loop"), ["red-tentacle-0123456789abcdef"]);
        assert_eq!(values(&headers, "via"), ["1.1 other"]);
        assert!(via.has_sent(&headers) && !ViaId::random(false).has_sent(&headers));
        assert!(!headers.contains_key("host"));
    }

    /// The fields about a request's source that backends get, from a trusted peer and from another.
    #[test]
    fn where_a_request_came_from_is_believed_of_trusted_peers_only() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str, &'a [&'a str], &'a [&'a str]);
        let rows: &[Row] = &[
            ("absent", &[], "x-forwarded-for", &["192.0.2.7"], &["192.0.2.7"]),
            ("absent", &[], "x-forwarded-proto", &["http"], &["http"]),
            ("absent", &[("host", b"a")], "x-forwarded-host", &["a"], &["a"]),
            ("absent, as is Host", &[], "x-forwarded-host", &[], &[]),
            ("absent", &[], "x-forwarded-port", &[], &[]),
            ("absent", &[], "forwarded", &[], &[]),
            ("a list", &[("x-forwarded-for", b"a, b")], "x-forwarded-for", &["a, b, 192.0.2.7"], &["192.0.2.7"]),
            (
                "lists over several fields",
                &[("x-forwarded-for", b"a"), ("x-forwarded-for", b""), ("x-forwarded-for", b"b,c")],
                "x-forwarded-for",
                &["a, b,c, 192.0.2.7"],
                &["192.0.2.7"],
            ),
            ("empty", &[("x-forwarded-for", b"")], "x-forwarded-for", &["192.0.2.7"], &["192.0.2.7"]),
            ("https", &[("x-forwarded-proto", b"https")], "x-forwarded-proto", &["https"], &["http"]),
            (
                "twice",
                &[("x-forwarded-proto", b"https"), ("x-forwarded-proto", b"http")],
                "x-forwarded-proto",
                &["https", "http"],
                &["http"],
            ),
            (
                "beside Host",
                &[("x-forwarded-host", b"shop.example"), ("host", b"a")],
                "x-forwarded-host",
                &["shop.example"],
                &["a"],
            ),
            ("without Host", &[("x-forwarded-host", b"shop.example")], "x-forwarded-host", &["shop.example"], &[]),
            ("443", &[("x-forwarded-port", b"443")], "x-forwarded-port", &["443"], &[]),
            ("/a", &[("x-forwarded-prefix", b"/a")], "x-forwarded-prefix", &["/a"], &[]),
            ("a scheme", &[("x-forwarded-scheme", b"https")], "x-forwarded-scheme", &["https"], &[]),
            ("an address", &[("x-real-ip", b"203.0.113.9")], "x-real-ip", &["203.0.113.9"], &[]),
            ("absent", &[], "x-real-ip", &[], &[]),
            ("two", &[("forwarded", b"for=a"), ("forwarded", b"for=b")], "forwarded", &["for=a", "for=b"], &[]),
            ("without a scheme", &[("forwarded", b"for=a")], "x-forwarded-proto", &["http"], &["http"]),
            ("with one", &[("forwarded", b"for=a; Proto=https")], "x-forwarded-proto", &[], &["http"]),
            ("with one first", &[("forwarded", b"proto=https, for=b")], "x-forwarded-proto", &[], &["http"]),
            ("with a host", &[("host", b"a"), ("forwarded", b"for=b;host=c")], "x-forwarded-host", &[], &["a"]),
            ("with a scheme", &[("forwarded", b"proto=https")], "x-forwarded-for", &["192.0.2.7"], &["192.0.2.7"]),
            ("not of this kind", &[("x-forwardedness", b"1")], "x-forwardedness", &["1"], &["1"]),
            (
                "named",
                &[("connection", b"x-forwarded-for"), ("x-forwarded-for", b"a")],
                "x-forwarded-for",
                &["a, 192.0.2.7"],
                &["192.0.2.7"],
            ),
            ("named", &[("connection", b"Forwarded"), ("forwarded", b"for=a")], "forwarded", &["for=a"], &[]),
            ("a lookalike", &[("x_forwarded_for", b"a")], "x_forwarded_for", &[], &[]),
            ("a lookalike", &[("x-forwarded_port", b"1")], "x-forwarded_port", &[], &[]),
            ("a lookalike", &[("x_forwarded-ssl", b"on")], "x_forwarded-ssl", &[], &[]),
            ("a lookalike", &[("x-real_ip", b"a")], "x-real_ip", &[], &[]),
            ("a lookalike", &[("x.forwarded.for", b"a")], "x.forwarded.for", &[], &[]),
            ("a lookalike", &[("x~forwarded-client!cert", b"a")], "x~forwarded-client!cert", &[], &[]),
            ("no lookalike", &[("x.forwarded", b"a")], "x.forwarded", &["a"], &["a"]),
        ];
        for (label, fields, name, if_trusted, if_not) in rows {
            for (networks, expected) in [(trusted(), if_trusted), (Networks::default(), if_not)] {
                let headers = for_backends(&mut request("/", fields), &ViaId::random(false), &networks);
                assert_eq!(values(&headers, name), **expected, "{name}, {label}: {networks:?}");
            }
        }
    }

    #[test]
    fn all_protocols_that_a_request_would_switch_to_are_passed_on() {
        let rows: &[(&str, &[(&str, &[u8])], Option<&str>)] = &[
            ("one", &[("connection", b"upgrade"), ("upgrade", b"websocket")], Some("websocket")),
            ("a list", &[("connection", b"a, Upgrade"), ("upgrade", b"a/1,b")], Some("a/1, b")),
            ("fields", &[("connection", b"upgrade"), ("upgrade", b"a"), ("upgrade", b"b/2")], Some("a, b/2")),
            ("none", &[("connection", b"upgrade"), ("upgrade", b" ,")], None),
            ("not asked for", &[("upgrade", b"websocket")], None),
            ("h2c", &[("connection", b"upgrade"), ("upgrade", b"a"), ("upgrade", b"H2C")], None),
            ("a repeat", &[("connection", b"upgrade"), ("upgrade", b"a,, A"), ("upgrade", b"b,")], Some("a, b")),
        ];
        for (label, fields, expected) in rows {
            let upgrade = upgrade_of(&request("/", fields));
            assert_eq!(upgrade.as_ref().map(|value| value.to_str().expect("text")), *expected, "{label}");
        }
    }

    /// Was seen as: requests within `TLS/1.2`, `HTTP/2.0` and `H2C/1` passed unchecked, only those within `h2c` did not.
    #[test]
    fn a_protocol_within_which_requests_could_not_be_checked_is_not_passed_on() {
        let held = ["h2c", "H2C/1", "h2", "HTTP/2.0", "http", "TLS/1.2", "tls", "h2c-14", "H2-16/x"];
        let passed = ["websocket", "h2x", "https-tunnel", "tlsx/1", "connect-udp", "x/h2c"];
        for (protocol, is_passed) in
            held.map(|held| (held, false)).into_iter().chain(passed.map(|passed| (passed, true)))
        {
            let fields: &[(&str, &[u8])] = &[("connection", b"upgrade"), ("upgrade", protocol.as_bytes())];
            assert_eq!(upgrade_of(&request("/", fields)).is_some(), is_passed, "{protocol}");
        }
    }

    /// Was seen as: a 101 with `Upgrade: websocket,` lost as one that the request didn't ask for.
    #[test]
    fn a_switch_is_to_protocols_that_were_all_asked_for() {
        let rows: &[(&[&str], bool, &str)] = &[
            (&["a"], true, "a"),
            (&["A"], true, "A"),
            (&["a,"], true, "a"),
            (&[", a ,,"], true, "a"),
            (&["a", "a"], true, "a"),
            (&["a, b/2"], true, "a, b/2"),
            (&["b/2", "a"], true, "b/2, a"),
            (&["a, c"], false, "a, c"),
            (&["b"], false, "b"),
            (&[","], false, ""),
            (&[], false, ""),
        ];
        for (fields, is_switch, told) in rows {
            let mut headers = HeaderMap::new();
            for field in *fields {
                headers.append(UPGRADE, field.parse().expect("a value"));
            }
            assert_eq!(is_switch_to(&headers, &HeaderValue::from_static("a, b/2")), *is_switch, "{fields:?}");
            let protocols = protocols_of(&headers);
            assert_eq!(protocols.as_ref().map_or("", |value| value.to_str().expect("text")), *told, "{fields:?}");
        }
    }

    #[test]
    fn an_answer_demands_protocols_that_requests_can_switch_to() {
        let rows: &[(u16, &[&str], Option<&str>)] = &[
            (426, &["websocket"], Some("websocket")),
            (426, &["h2c, foo/2", "TLS/1.2,, bar, HTTP/2.0"], Some("foo/2, bar")),
            (426, &["h2c"], None),
            (426, &["h2, h2c-14, websocket"], Some("websocket")),
            (426, &[], None),
            (404, &["websocket"], None),
        ];
        for (status, values, expected) in rows {
            let fields: Vec<_> = values.iter().map(|value| ("upgrade", value.as_bytes())).collect();
            let status = StatusCode::from_u16(*status).expect("a status");
            let demanded = upgrade_demanded(status, &request("/", &fields).headers);
            assert_eq!(demanded.as_ref().map(|value| value.to_str().expect("text")), *expected, "{status} {values:?}");
        }
    }

    #[test]
    fn via_goes_to_backends_only_where_it_shall() {
        let fields: &[(&str, &[u8])] = &[("via", b"1.1 other"), ("cdn-loop", b"other")];
        let via = ViaId::named("0123456789abcdef".to_owned(), true);
        let headers = for_backends(&mut request("/", fields), &via, &trusted());
        assert_eq!(values(&headers, "via"), ["1.1 other", "1.1 0123456789abcdef (red-tentacle)"]);
        assert_eq!(values(&headers, "cdn-loop"), ["other", "red-tentacle-0123456789abcdef"]);
    }

    #[test]
    fn the_way_of_a_request_is_never_taken_from_it() {
        let fields: &[(&str, &[u8])] = &[
            ("connection", b"close, CDN-Loop, Via"),
            ("cdn-loop", b"a.example:80; x=\"y, z\""),
            ("cdn-loop", b"b, c;d"),
            ("via", b"1.1 other"),
            ("cdn_loop", b"lookalike"),
            ("x_request-id", b"lookalike"),
        ];
        let via = ViaId::named("1".to_owned(), false);
        let headers = for_backends(&mut request("/", fields), &via, &trusted());
        assert_eq!(values(&headers, "cdn-loop"), ["a.example:80; x=\"y, z\"", "b, c;d", "red-tentacle-1"]);
        assert_eq!((values(&headers, "via"), values(&headers, "cdn_loop")), (vec!["1.1 other".to_owned()], vec![]));
        assert!(!headers.contains_key("x_request-id"));
    }

    #[test]
    fn a_request_that_has_been_here_is_told_from_those_of_others() {
        let rows: &[(&str, &[&str], bool)] = &[
            ("cdn-loop", &["red-tentacle-0123456789abcdef"], true),
            ("cdn-loop", &["RED-TENTACLE-0123456789ABCDEF"], true),
            ("cdn-loop", &["other, red-tentacle-0123456789abcdef"], true),
            ("cdn-loop", &["other,red-tentacle-0123456789abcdef,another"], true),
            ("cdn-loop", &["other", "another;a=b ,\tred-tentacle-0123456789abcdef ; a=b;c=d", "x"], true),
            ("cdn-loop", &["red-tentacle-0123456789abcdef;"], true),
            ("cdn-loop", &["x; y=\"open, red-tentacle-0123456789abcdef"], true),
            ("cdn-loop", &["red-tentacle-0123456789abcde"], false),
            ("cdn-loop", &["red-tentacle-0123456789abcdef0"], false),
            ("cdn-loop", &["a-red-tentacle-0123456789abcdef"], false),
            ("cdn-loop", &["red-tentacle-0123456789abcdef.example"], false),
            ("cdn-loop", &["red-tentacle-0123456789abcdef:80"], false),
            ("cdn-loop", &["0123456789abcdef"], false),
            ("cdn-loop", &["red-tentacle-fedcba9876543210"], false),
            ("cdn-loop", &["other; a=red-tentacle-0123456789abcdef"], false),
            ("cdn-loop", &["", ",", " ; ,"], false),
            ("via", &["1.1 0123456789abcdef (red-tentacle)"], true),
            ("via", &["1.0 other, 1.1 0123456789ABCDEF"], true),
            ("via", &["1.0 other", "1.1\t0123456789abcdef,1.1 x"], true),
            ("via", &["1.1 0123456789abcdef0 (red-tentacle)"], false),
            ("via", &["1.1 fedcba9876543210 (red-tentacle)"], false),
            ("x-cdn-loop", &["red-tentacle-0123456789abcdef"], false),
        ];
        let via = ViaId::named("0123456789abcdef".to_owned(), false);
        for (name, values, expected) in rows {
            let fields: Vec<_> = values.iter().map(|value| (*name, value.as_bytes())).collect();
            assert_eq!(via.has_sent(&request("/", &fields).headers), *expected, "{name}: {values:?}");
        }
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_host() {
        let mut request = request("http://real.example/x", &[("host", b"other")]);
        let headers = for_backends(&mut request, &ViaId::random(false), &trusted());
        assert_eq!(values(&headers, "x-forwarded-host"), ["real.example"]);
    }

    #[test]
    fn values_that_are_not_ascii_pass() {
        let headers =
            for_backends(&mut request("/", &[("x-a", b"caf\xe9 \xc3\xa9")]), &ViaId::random(false), &trusted());
        assert_eq!(headers["x-a"].as_bytes(), b"caf\xe9 \xc3\xa9");
    }

    #[test]
    fn a_reply_loses_its_framing_and_gains_via() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.append("connection", HeaderValue::from_static("x-hop"));
        headers.append("x-hop", HeaderValue::from_static("1"));
        headers.append("content-length", HeaderValue::from_static("1"));
        headers.append("proxy", HeaderValue::from_static("http://evil"));
        headers.append("transfer-encoding", HeaderValue::from_static("chunked"));
        let headers = for_client(headers, Version::HTTP_11, &ViaId::named("1".to_owned(), false));
        assert_eq!(values(&headers, "set-cookie"), ["a=1", "b=2"]);
        assert_eq!(values(&headers, "via"), ["1.1 1 (red-tentacle)"]);
        assert_eq!(headers.len(), 3);
    }
}
