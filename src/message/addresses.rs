//! What was meant by a text that is no backend's address, or no list of them: the address to write instead, and what was
//! written in place of a comma. Knows nothing of lists that are right.

use std::net::Ipv6Addr;

use super::Address;

/// The longest address that is offered in place of a bad one, in bytes: about as much as is shown of the bad one.
pub const OFFER_BYTES_MAX: usize = 100;

/// Schemes as they are written, and what is meant: a WebSocket begins as a request by HTTP.
const SCHEMES: [(&str, &str); 4] = [("https:", "https:"), ("http:", "http:"), ("wss://", "https:"), ("ws://", "http:")];

/// Checks an address. The complaint has the address to write instead if it can be told.
pub(super) fn checked_address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|bad| match offer(text) {
        Some(address) if is_bare_ipv6(text) => format!("an IPv6 address stands between brackets; write {address}"),
        Some(address) => format!("{bad}; write {address}"),
        None => bad.to_string(),
    })
}

/// Finds what stands between two addresses in place of a comma, in what has no blank: anything but a URL's own bytes in a
/// host and port or before a second URL. Behind a host a semicolon may belong to the path.
pub(super) fn wrong_separator(text: &str) -> Option<char> {
    let (scheme, rest) = scheme_and_rest(text).unwrap_or(("", text));
    let within = if scheme.is_empty() { rest } else { authority(rest) };
    let before_url = |(at, _): (usize, &str)| {
        (text[..at].ends_with(is_separator) && scheme_and_rest(&text[at..]).is_some()).then_some(';')
    };
    let lower = text.to_ascii_lowercase();
    separator_in(within).or_else(|| lower.match_indices("http").find_map(before_url))
}

/// Whether a text looks like an address, or like a part of one, and so like no option.
pub(super) fn looks_like_address(text: &str) -> bool {
    let before = text.split('=').next().unwrap_or_default();
    before.contains(['.', ':', '/', '['])
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
    let scheme = SCHEMES.into_iter().find(|(written, _)| lower.starts_with(written));
    let rest = entry[scheme.map_or(0, |(written, _)| written.len())..].trim_start_matches('/');
    let authority = authority(rest);
    let host = meant_host(authority);
    // A word alone may mean anything.
    let is_host = scheme.is_some() || host.contains(['.', ':', '[']) || host.eq_ignore_ascii_case("localhost");
    // An empty port ends a scheme of another kind: `unix:/run/socket`.
    if !is_host || host.ends_with(':') || rest.contains("://") {
        return None;
    }
    let scheme = scheme.map_or(if host.ends_with(":443") { "https:" } else { "http:" }, |(_, meant)| meant);
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
