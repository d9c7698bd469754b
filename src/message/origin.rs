//! Where a request came from, as the proxies on its way tell it.
//! Knows nothing of backends, nor of whom the fields are passed on to.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, VIA};

use super::Request;
use super::headers::{CDN_LOOP, X_FORWARDED_FOR, tokens};

/// The most proxies that a request may have come by. Real chains have five or six.
const HOPS_MAX: usize = 32;
/// How often the sender of a request may be among them already. Several proxies of one host pass; and since a loop with two ways
/// back doubles each time, it must end sooner than one with a single way: after 2^9 races.
const RETURNS_MAX: usize = 8;

/// Whether a request has come by so many proxies that a backend must lead back here: the sign of a loop that is left where
/// something on the way strips `CDN-Loop`. The fields count as they arrived, whoever sent them.
pub fn goes_round(request: &Request) -> bool {
    let ways = [X_FORWARDED_FOR, FORWARDED, VIA, CDN_LOOP];
    if ways.iter().any(|way| tokens(&request.headers, way).filter(|entry| !entry.is_empty()).count() > HOPS_MAX) {
        return true;
    }
    let sender = request.peer.ip().to_canonical();
    let is_sender = |entry: &&[u8]| node(entry).is_some_and(|(address, _)| address == sender);
    tokens(&request.headers, &X_FORWARDED_FOR).filter(is_sender).count() > RETURNS_MAX
}

/// The address in an entry of `X-Forwarded-For`, and its port if it has one: `192.0.2.7`, `192.0.2.7:80`, `::1`, `[::1]`,
/// `[::1]:80`, with or without quotes.
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
            peer: SocketAddr::new(peer.parse().expect("an address"), 41234),
            received: Instant::now(),
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
