//! The way of a request to this proxy, as the proxies on it tell it: which of them are believed, and what the backends
//! are told. Knows nothing of backends.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::field::{
    CDN_LOOP, X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, has_field, tokens,
    values_of,
};
use super::{Networks, Peer, Request};

/// The most proxies that a request may have passed. Real chains have five or six.
const HOPS_MAX: usize = 32;
/// The most entries that may name the request's sender already. Several proxies of one host pass; and since a loop with
/// two ways back doubles each time, it must end sooner than one with a single way: after 2^9 races.
const RETURNS_MAX: usize = 8;

/// The source of a request, as the log shows it: its peer, `192.0.2.7:41234`, or, where a trusted proxy is in between,
/// `203.0.113.9 via 127.0.0.1:41234`. One at a Unix socket is `unix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The client that trusted proxies name: an address, and its port if they say it.
    client: Option<(IpAddr, Option<u16>)>,
    peer: Peer,
}

impl Forwarded {
    /// Takes the first address in `X-Forwarded-For`, from the right, that is no trusted proxy's, or the last one before
    /// an entry that is no address. Entries left of it may be invented. All of them trusted: the leftmost.
    pub fn of(request: &Request, trusted: &Networks) -> Forwarded {
        let mut client = None;
        if trusted.contain(request.peer.network_ip()) {
            let values = values_of(&request.headers, &X_FORWARDED_FOR).rev();
            let entries =
                values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
            for entry in entries.filter(|entry| !entry.is_empty()) {
                let Some((address, port)) = node(entry) else { break };
                client = Some((address, port));
                if !trusted.contain(address) {
                    break;
                }
            }
        }
        Forwarded { client, peer: request.peer.clone() }
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Some((address, Some(port))) => write!(f, "{} via ", SocketAddr::new(address, port))?,
            Some((address, None)) => write!(f, "{address} via ")?,
            None => {}
        }
        self.peer.fmt(f)
    }
}

/// Whether a field is a proxy's word about a request's source, which is dropped unless the peer is trusted.
pub(super) fn is_word(name: &HeaderName) -> bool {
    name == FORWARDED || name.as_str().starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Removes what is said of a client's certificate. Where backends take that for the word of this proxy, a peer that is trusted may still
/// hand on what a stranger has written.
pub fn forget_subject(headers: &mut HeaderMap) {
    headers.remove(X_FORWARDED_CLIENT_CERT);
}

/// Adds this hop to what trusted proxies have told of a request's source. `Forwarded` stays as it is, and no other
/// field repeats what it says.
pub(super) fn tell(headers: &mut HeaderMap, peer: &Peer, host: Option<HeaderValue>) {
    // A Unix socket's client has no address. As with HAProxy it adds no entry, so that readers who count hops find what the proxy
    // before this one has said.
    if let Some(address) = peer.address {
        append_forwarded_for(headers, address.ip());
    }
    if let Some(subject) = &peer.subject {
        let value = HeaderValue::from_str(&format!("Subject=\"{subject}\"")).expect("what isn't ASCII is escaped");
        headers.insert(X_FORWARDED_CLIENT_CERT, value);
    }
    if !has_field(headers, &X_FORWARDED_PROTO) && !is_in_forwarded(headers, b"proto=") {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if peer.is_tls { "https" } else { "http" }));
    }
    if let Some(host) = host
        && !has_field(headers, &X_FORWARDED_HOST)
        && !is_in_forwarded(headers, b"host=")
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    // Room for an address of IPv4.
    let mut list = Vec::with_capacity(16);
    for value in values_of(headers, &X_FORWARDED_FOR).filter(|value| !value.is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    put_address(&mut list, peer);
    let list = HeaderValue::from_bytes(&list).expect("values joined by a comma are a value");
    headers.insert(X_FORWARDED_FOR, list);
}

/// Appends an address. Most are of IPv4, and formatting costs more than all else that is done to a request's fields.
fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else { return bytes.extend_from_slice(address.to_string().as_bytes()) };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            bytes.push(b'.');
        }
        bytes.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

/// Whether `Forwarded` (RFC 7239) has a parameter, given with its equals sign.
fn is_in_forwarded(headers: &HeaderMap, parameter: &[u8]) -> bool {
    let begins_so = |pair: &[u8]| {
        let begin = pair.trim_ascii_start().get(..parameter.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(parameter))
    };
    tokens(headers, &FORWARDED).any(|element| element.split(|byte| *byte == b';').any(begins_so))
}

/// Whether a request has passed too many proxies, so that a backend must lead back to this one: the sign of a loop that
/// is left where something on the way strips `CDN-Loop`. The fields count as they arrived, those of peers that aren't
/// trusted too.
pub fn goes_round(request: &Request) -> bool {
    const WAYS: [HeaderName; 4] = [X_FORWARDED_FOR, FORWARDED, VIA, CDN_LOOP];
    if !request.headers.keys().any(|name| WAYS.contains(name)) {
        return false;
    }
    let count = |way: &HeaderName| tokens(&request.headers, way).filter(|entry| !entry.is_empty()).count();
    if WAYS.iter().any(|way| count(way) > HOPS_MAX) {
        return true;
    }
    let sender = request.peer.address.map(|address| address.ip());
    let is_sender = |entry: &&[u8]| sender.is_some() && node(entry).map(|(address, _)| address) == sender;
    // Few requests have enough entries that their addresses must be read.
    count(&X_FORWARDED_FOR) > RETURNS_MAX
        && tokens(&request.headers, &X_FORWARDED_FOR).filter(is_sender).count() > RETURNS_MAX
}

/// Parses the address in an entry of `X-Forwarded-For`, and its port if it has one: `192.0.2.7`, `192.0.2.7:80`, `::1`,
/// `[::1]`, `[::1]:80`, with or without quotes.
fn node(entry: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(entry).ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_canonical(), Some(address.port())));
    }
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match address {
        Some(literal) => IpAddr::V6(literal.parse().ok()?),
        None => text.parse().ok()?,
    };
    Some((address.to_canonical(), None))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

    use super::*;
    use crate::message::Target;

    fn request(peer: &str, fields: &[(&str, &str)]) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        Request {
            method: Method::GET,
            target: Target::parse(&Method::GET, "/").expect("a target"),
            version: Version::HTTP_11,
            headers,
            body: None,
            peer: SocketAddr::new(peer.parse().expect("an address"), 41234).into(),
            received: Instant::now(),
        }
    }

    #[test]
    fn an_address_is_written_as_elsewhere() {
        for address in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "2001:db8::1"] {
            let mut bytes = b"a, ".to_vec();
            put_address(&mut bytes, address.parse().expect("an address"));
            assert_eq!(bytes, format!("a, {address}").as_bytes());
        }
    }

    #[test]
    fn an_entry_is_an_address_in_any_of_its_forms() {
        let rows = [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:80", Some("192.0.2.7:80")),
            ("\"192.0.2.7:80\"", Some("192.0.2.7:80")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("\"[2001:db8::1]\"", Some("2001:db8::1")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            ("\"[2001:db8::1]:80\"", Some("[2001:db8::1]:80")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("[::ffff:192.0.2.7]:80", Some("192.0.2.7:80")),
            ("", None),
            ("\"", None),
            ("\"\"", None),
            ("[]", None),
            ("unknown", None),
            ("_hidden", None),
            ("a.example", None),
            ("192.0.2", None),
            ("192.0.2.256", None),
            ("192.0.2.7:", None),
            ("192.0.2.7:65536", None),
            ("192.0.2.7 x", None),
            ("[192.0.2.7]", None),
            ("[::1", None),
            ("::1]", None),
            ("[::1]80", None),
            ("fe80::1%eth0", None),
            ("127.1", None),
            ("0x7f.0.0.1", None),
            ("192.000.002.007", None),
            ("\"192.0.2.7", None),
        ];
        for (entry, expected) in rows {
            let shown = node(entry.as_bytes()).map(|(address, port)| match port {
                Some(port) => SocketAddr::new(address, port).to_string(),
                None => address.to_string(),
            });
            assert_eq!(shown.as_deref(), expected, "{entry}");
        }
        assert_eq!(node(b"192.0.2.7\xff"), None);
    }

    /// The client in the log, of peers in trusted networks and of others.
    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
        let rows: &[(&str, &str, &[&str], &str)] = &[
            ("nothing is said", "10.0.0.1", &[], ""),
            ("one", "10.0.0.1", &["203.0.113.9"], "203.0.113.9 via "),
            ("with a port", "10.0.0.1", &["203.0.113.9:567"], "203.0.113.9:567 via "),
            ("spoofed left of it", "10.0.0.1", &["127.0.0.1, 198.51.100.1, 203.0.113.9"], "203.0.113.9 via "),
            ("behind two proxies", "10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9 via "),
            ("spoofed as a proxy", "10.0.0.1", &["10.0.0.9, 203.0.113.9,10.0.0.2"], "203.0.113.9 via "),
            (
                "over several fields",
                "10.0.0.1",
                &["198.51.100.1", "203.0.113.9", "10.0.0.2, 10.0.0.3"],
                "203.0.113.9 via ",
            ),
            ("all trusted", "10.0.0.1", &["10.0.0.2", "10.0.0.3,10.0.0.4"], "10.0.0.2 via "),
            ("IPv6", "fd00::1", &["198.51.100.1, 2001:db8::9, fd00::2"], "2001:db8::9 via "),
            ("IPv6 with a port", "fd00::1", &["[2001:db8::9]:567"], "[2001:db8::9]:567 via "),
            ("IPv6 in quotes", "fd00::1", &["\"[2001:db8::9]\""], "2001:db8::9 via "),
            ("a mapped peer", "::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9 via "),
            ("a mapped proxy", "10.0.0.1", &["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9 via "),
            ("a mapped client", "10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9 via "),
            ("unknown", "10.0.0.1", &["203.0.113.9, unknown"], ""),
            ("unknown behind a proxy", "10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2 via "),
            ("unknown left of it", "10.0.0.1", &["unknown, 203.0.113.9"], "203.0.113.9 via "),
            ("garbage", "10.0.0.1", &["203.0.113.9, \"', 10.0.0.2, 10.0.0.3"], "10.0.0.2 via "),
            ("a line's end, encoded", "10.0.0.1", &["203.0.113.9%0a"], ""),
            ("empty entries", "10.0.0.1", &[" , 203.0.113.9 , ,", "", ","], "203.0.113.9 via "),
            ("nothing but commas", "10.0.0.1", &[",,,"], ""),
            ("a peer that isn't trusted", "203.0.113.1", &["198.51.100.1"], ""),
            ("a peer that isn't trusted, mapped", "::ffff:203.0.113.1", &["10.0.0.1"], ""),
            ("loopback isn't trusted", "127.0.0.1", &["198.51.100.1"], ""),
        ];
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        for (label, peer, lists, expected) in rows {
            let fields: Vec<_> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
            let request = request(peer, &fields);
            let shown = Forwarded::of(&request, &Networks::new(&networks)).to_string();
            assert_eq!(shown, format!("{expected}{}", request.peer), "{label}");
            assert_eq!(Forwarded::of(&request, &Networks::default()).to_string(), request.peer.to_string(), "{label}");
        }
    }

    #[test]
    fn a_request_that_has_come_by_too_many_proxies_goes_round() {
        let list = |entry: &str, count: usize| vec![entry; count].join(", ");
        let rows = [
            ("X-Forwarded-For", "198.51.100.1", 32, 32),
            ("Forwarded", "for=198.51.100.1;proto=https", 32, 32),
            ("Via", "1.1 other (a proxy)", 32, 32),
            ("CDN-Loop", "other; a=b", 32, 32),
            ("X-Forwarded-For", "unknown", 32, 32),
            ("X-Forwarded-For", "192.0.2.7", 8, 32),
            ("X-Forwarded-For", "::ffff:192.0.2.7", 8, 32),
            ("X-Forwarded-For", "192.0.2.7:80", 8, 32),
            ("Forwarded", "for=192.0.2.7", 32, 32),
            ("X-Other", "192.0.2.7", 1000, 1000),
        ];
        for (name, entry, most, others) in rows {
            for peer in ["192.0.2.7", "::ffff:192.0.2.7"] {
                assert!(!goes_round(&request(peer, &[(name, &list(entry, most))])), "{name}: {most} {entry}");
                let is_bounded = name != "X-Other";
                let more = [(name, &*list(entry, most)), (name, entry)];
                assert_eq!(goes_round(&request(peer, &more)), is_bounded, "{name}: {most} + 1 {entry}");
            }
            assert!(!goes_round(&request("192.0.2.8", &[(name, &list(entry, others))])), "{name}: {others} {entry}");
        }
        assert!(!goes_round(&request("192.0.2.7", &[("x-forwarded-for", &",".repeat(1000))])), "of nothing");
    }
}
