//! A list of backends' addresses, as flags and updates write it: all of it is good, or every bad entry has its reason.
//! Knows nothing of where the list comes from.

use std::fmt;
use std::net::Ipv6Addr;

use super::{Address, Excerpt};

/// Complaint about an entry with nothing in it.
pub const EMPTY_ENTRY: &str = "an entry is empty";

/// The longest list of backends. Each request costs every backend a leg, so a longer list is a mistake.
pub const ADDRESSES_MAX: usize = 64;

/// The longest address that is offered in place of a bad one, in bytes: about as much as is shown of the bad one.
pub const OFFER_BYTES_MAX: usize = 100;

/// An entry of a list that can't be used, and why. `Display` is safe to show: the entry escaped, and cut if it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The entry as it was written, without the spaces around it.
    pub entry: String,
    /// The complaint, with the address to write instead if it can be told.
    pub reason: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", Excerpt(&self.entry), self.reason)
    }
}

/// Checks a list of addresses between commas; spaces around them don't count. A list of nothing but spaces is an empty
/// one. An error holds every bad entry among the first [`ADDRESSES_MAX`] and, of those beyond, the first.
pub fn parse_addresses(list: &str) -> Result<Vec<Address>, Vec<BadEntry>> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let (mut addresses, mut bad) = (Vec::new(), Vec::new());
    // What stands beyond the longest list isn't looked at: a body full of commas must not become a million reasons.
    for entry in list.split(',').take(ADDRESSES_MAX).map(str::trim) {
        match checked(entry, &addresses) {
            Ok(address) => addresses.push(address),
            Err(reason) => bad.push(BadEntry { entry: entry.to_owned(), reason }),
        }
    }
    if let Some(entry) = list.split(',').nth(ADDRESSES_MAX) {
        let count = list.split(',').count();
        let reason = format!("the list has {count} entries; at most {ADDRESSES_MAX} are allowed");
        bad.push(BadEntry { entry: entry.trim().to_owned(), reason });
    }
    if bad.is_empty() { Ok(addresses) } else { Err(bad) }
}

fn checked(entry: &str, earlier: &[Address]) -> Result<Address, String> {
    if entry.is_empty() {
        return Err(EMPTY_ENTRY.to_owned());
    }
    if let Some(separator) = wrong_separator(entry) {
        return Err(not_between_commas(separator));
    }
    let address = Address::parse(entry).map_err(|bad| match offer(entry) {
        Some(address) if is_bare_ipv6(entry) => format!("an IPv6 address stands between brackets; write {address}"),
        Some(address) => format!("{bad}; write {address}"),
        None => bad.to_string(),
    })?;
    if earlier.contains(&address) {
        return Err(format!("{} is in the list twice", Excerpt(&address.to_string())));
    }
    Ok(address)
}

/// Finds what stands between the entries in place of a comma: anything but a URL's own bytes in a host and port or
/// before a second URL. Behind a host a semicolon may belong to the path.
fn wrong_separator(entry: &str) -> Option<char> {
    let (scheme, rest) = scheme_and_rest(entry).unwrap_or(("", entry));
    let within = if scheme.is_empty() { rest } else { authority(rest) };
    let before_url = |(at, _): (usize, &str)| {
        let before = entry[..at].trim_end();
        let separated = at > 0 && scheme_and_rest(&entry[at..]).is_some() && entry[..at].ends_with(is_separator);
        separated.then(|| if before.ends_with(';') { ';' } else { ' ' })
    };
    let found = separator_in(within).or_else(|| entry.chars().find(|c| matches!(c, '\n' | '\r')));
    let lower = entry.to_ascii_lowercase();
    found.or_else(|| lower.match_indices("http").find_map(before_url))
}

fn is_separator(c: char) -> bool {
    c == ';' || c.is_whitespace()
}

/// Finds a separator that was written by mistake; of several the one that is least likely to be there for looks.
pub fn separator_in(text: &str) -> Option<char> {
    text.chars().filter(|c| is_separator(*c)).min_by_key(|c| match c {
        ';' => 0,
        '\n' | '\r' => 1,
        _ => 2,
    })
}

/// Complaint about an entry that holds such a separator.
pub fn not_between_commas(separator: char) -> String {
    let separators = match separator {
        ';' => "semicolons",
        '\n' | '\r' => "line breaks",
        _ => "spaces",
    };
    format!("entries stand between commas, not {separators}")
}

/// Guesses the address that was meant: one without a scheme, an IPv6 address without brackets, a port of this host.
/// `None` if it can't be told.
fn offer(entry: &str) -> Option<String> {
    let entry = entry.trim_matches(['"', '\'']);
    let lower = entry.to_ascii_lowercase();
    let scheme = ["https:", "http:"].into_iter().find(|scheme| lower.starts_with(scheme));
    let rest = entry[scheme.map_or(0, str::len)..].trim_start_matches('/');
    let authority = authority(rest);
    let host = meant_host(authority);
    // A word alone may mean anything.
    let is_host = scheme.is_some() || host.contains(['.', ':', '[']) || host.eq_ignore_ascii_case("localhost");
    // An empty port ends a scheme of another kind: `unix:/run/socket`.
    if !is_host || host.ends_with(':') || rest.contains("://") {
        return None;
    }
    let scheme = scheme.unwrap_or(if host.ends_with(":443") { "https:" } else { "http:" });
    let address = Address::parse(&format!("{scheme}//{host}{}", &rest[authority.len()..])).ok()?.to_string();
    // Cut, it would be of no use.
    (address.len() <= OFFER_BYTES_MAX).then_some(address)
}

/// Guesses the host and port that were meant: an IPv6 address gets its brackets, a port alone is one of this host.
pub fn meant_host(authority: &str) -> String {
    let port = authority.trim_start_matches(':');
    match bracketed(authority) {
        Some(bracketed) => bracketed,
        None if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => format!("127.0.0.1:{port}"),
        None => authority.to_owned(),
    }
}

fn is_bare_ipv6(entry: &str) -> bool {
    scheme_and_rest(entry).is_some_and(|(_, rest)| bracketed(authority(rest)).is_some())
}

/// Puts brackets around a bare IPv6 address. Digits behind its last colon are taken for a port if there are two at
/// least.
pub fn bracketed(authority: &str) -> Option<String> {
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    match authority.rsplit_once(':') {
        Some((ip, port)) if is_ipv6(ip) && port.len() > 1 && port.parse::<u16>().is_ok() => {
            Some(format!("[{ip}]:{port}"))
        }
        _ if is_ipv6(authority) => Some(format!("[{authority}]")),
        _ => None,
    }
}

/// Host and port of what follows a scheme.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The scheme with its slashes, and what follows it.
fn scheme_and_rest(entry: &str) -> Option<(&str, &str)> {
    let starts = |scheme: &&str| entry.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = ["http://", "https://"].into_iter().find(starts)?;
    Some(entry.split_at(scheme.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_list_keeps_its_order() {
        let rows: [(&str, &[&str]); 4] = [
            ("", &[]),
            (" \t ", &[]),
            ("http://b", &["http://b"]),
            (" http://b/x/ ,https://a,http://b", &["http://b/x", "https://a", "http://b"]),
        ];
        for (list, expected) in rows {
            let addresses = parse_addresses(list).expect(list);
            let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
            assert_eq!(texts, expected, "{list}");
        }
    }

    #[test]
    fn every_bad_entry_has_its_reason() {
        let rows: [(&str, &[&str]); 6] = [
            ("http://a,", &["'': an entry is empty"]),
            (",", &["'': an entry is empty", "'': an entry is empty"]),
            ("http://a, HTTP://A:80/", &["'HTTP://A:80/': http://a is in the list twice"]),
            (
                "ftp://a,http://b,http://c?d",
                &["'ftp://a': it must begin with http:// or https://", "'http://c?d': it must not contain a query"],
            ),
            ("http://a\nb", &["'http://a\\nb': entries stand between commas, not line breaks"]),
            ("http://a\x1bb", &["'http://a\\u{1b}b': it has a space, a control character or a backslash"]),
        ];
        for (list, expected) in rows {
            let bad = parse_addresses(list).expect_err(list);
            let texts: Vec<String> = bad.iter().map(BadEntry::to_string).collect();
            assert_eq!(texts, expected, "{list}");
        }
    }

    /// The reason against the only bad entry of a list.
    fn reason(list: &str) -> String {
        let bad = parse_addresses(list).expect_err(list);
        assert_eq!(bad.len(), 1, "{list}: {bad:?}");
        bad[0].reason.clone()
    }

    #[test]
    fn an_entry_without_a_scheme_gets_an_address_offered() {
        let rows = [
            ("127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("localhost:9001", "http://localhost:9001"),
            ("localhost", "http://localhost"),
            ("dc1.example", "http://dc1.example"),
            ("Dc1.Example:8000/base/", "http://dc1.example:8000/base"),
            ("dc1:8000", "http://dc1:8000"),
            ("dc1.example:443", "https://dc1.example"),
            ("//dc1.example", "http://dc1.example"),
            ("http:dc1.example", "http://dc1.example"),
            ("https:/dc1.example:8443", "https://dc1.example:8443"),
            ("\"http://dc1.example\"", "http://dc1.example"),
            ("'dc1.example'", "http://dc1.example"),
            ("[::1]:9001", "http://[::1]:9001"),
            ("::1:9001", "http://[::1]:9001"),
            ("::1", "http://[::1]"),
            ("2001:db8::5:80/x", "http://[2001:db8::5]/x"),
            ("9001", "http://127.0.0.1:9001"),
            (":9001", "http://127.0.0.1:9001"),
        ];
        for (entry, expected) in rows {
            assert_eq!(reason(entry), format!("it must begin with http:// or https://; write {expected}"), "{entry}");
        }
    }

    #[test]
    fn nothing_is_offered_that_is_no_address_or_was_not_meant() {
        let long = format!("dc1.example/{}", "a".repeat(100));
        for entry in [
            "a",
            "none",
            "ftp://a",
            "ws://dc1.example",
            "unix:/run/socket",
            "user@dc1.example",
            "dc1.example?a=b",
            "127.0.0.1:0",
            "127.0.0.400",
            "dc1.example:x",
            "70000",
            "/run/socket",
            "-",
            "a:b:c",
            "dc1.example:",
            &long,
        ] {
            assert_eq!(reason(entry), "it must begin with http:// or https://", "{entry}");
        }
    }

    #[test]
    fn a_bare_ipv6_address_gets_brackets_offered() {
        let rows = [
            ("http://::1:9001", "http://[::1]:9001"),
            ("HTTPS://::1:9001/base", "https://[::1]:9001/base"),
            ("http://::1", "http://[::1]"),
            ("http://fe80::1", "http://[fe80::1]"),
            ("http://2001:db8:0:0:0:0:0:1:8080", "http://[2001:db8::1]:8080"),
        ];
        for (entry, expected) in rows {
            assert_eq!(reason(entry), format!("an IPv6 address stands between brackets; write {expected}"), "{entry}");
        }
    }

    #[test]
    fn what_stands_in_place_of_a_comma_is_named() {
        let rows = [
            ("http://a;http://b", "semicolons"),
            ("http://a/x;http://b", "semicolons"),
            ("http://a/ ; HTTPS://b", "semicolons"),
            ("http://a;", "semicolons"),
            ("http://a:1;b:2", "semicolons"),
            ("127.0.0.1:1;127.0.0.1:2", "semicolons"),
            ("dc1.example/base;dc2.example", "semicolons"),
            ("http://a\nhttp://b", "line breaks"),
            ("http://a/x\r\nhttp://b", "line breaks"),
            ("dc1.example\ndc2.example", "line breaks"),
            ("http://a http://b", "spaces"),
            ("http://a/x http://b", "spaces"),
            ("http://a\thttp://b", "spaces"),
            ("dc1.example dc2.example", "spaces"),
        ];
        for (list, expected) in rows {
            assert_eq!(reason(list), format!("entries stand between commas, not {expected}"), "{list:?}");
        }
        for list in ["http://a/x;v=1", "http://a/x;y/http://b", "http://a\n,\nhttp://b\n"] {
            assert!(parse_addresses(list).is_ok(), "{list:?}");
        }
        assert_eq!(reason("http://a/x y"), "it has a space, a control character or a backslash");
    }

    #[test]
    fn a_long_entry_is_judged_at_once() {
        // Each of these asked for the square of its length once it were read anew at every byte.
        for part in [" ", ";", "; http", "\n", "http://", ":"] {
            assert!(parse_addresses(&format!("http://a/{}", part.repeat(100_000) + "\0.")).is_err(), "{part:?}");
        }
    }

    #[test]
    fn a_list_has_at_most_64_entries() {
        let list = |count: usize| (0..count).map(|n| format!("http://b{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_addresses(&list(64)).map(|addresses| addresses.len()), Ok(64));
        let bad = parse_addresses(&list(66)).expect_err("66 entries");
        let reason = "the list has 66 entries; at most 64 are allowed".to_owned();
        assert_eq!(bad, [BadEntry { entry: "http://b64".to_owned(), reason }]);
    }

    #[test]
    fn a_flood_of_entries_makes_few_reasons() {
        assert_eq!(parse_addresses(&",".repeat(1_000_000)).expect_err("a flood").len(), 65);
    }
}
