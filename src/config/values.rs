//! Texts of values and back: durations, sizes, counts, switches, names, lists. An error quotes the bad text and says what
//! would be right. Knows nothing of which flag a text belongs to.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use http::Method;
use ipnet::IpNet;
use url::Url;

use super::asked_at::AskedAt;
use crate::message::{
    BadEntry, BadNumber, EMPTY_ENTRY, ListEntry, OFFER_BYTES_MAX, Target, meant_host, not_between_commas,
    number_and_rest, parse_entries, parse_url, scaled, separator_in, unix_path,
};
pub(super) use crate::message::{bad, parse_duration as duration, show_duration};
use crate::net::pem;

/// The largest size that a flag takes, in bytes: 1 TiB. More than a disk takes per request, and far from overflowing.
const SIZE_MAX: u64 = 1 << 40;

/// The longest host name in bytes (RFC 1035 §2.3.4, without the root's dot).
const NAME_BYTES_MAX: usize = 253;

/// The longest label of a host name in bytes (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The certificates of authorities in PEM, in DER.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    pem::roots(bytes)?;
    Ok(pem::certificates(bytes)?.iter().map(|certificate| certificate.to_vec()).collect())
}

/// Words that are meant as all methods or as none, though each could be one.
const ALL_METHODS: [&str; 3] = ["ALL", "ANY", "*"];
const NO_METHODS: [&str; 2] = ["NONE", "OFF"];

/// A method of HTTP: any token, as it is written on the wire.
pub(super) fn method(text: &str) -> Result<Method, String> {
    const RIGHT: &str = "write GET,HEAD, say";
    let is_in = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_in(&ALL_METHODS) {
        return Err(format!("no method; {RIGHT}, or leave it out to race all"));
    }
    if is_in(&NO_METHODS) {
        return Err("no method; write those that race: TRACE, which hardly a client sends, is next to none".to_owned());
    }
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| format!("no method; {RIGHT}"))?;
    let in_capitals = text.to_ascii_uppercase();
    // Methods are told apart by case, and these are meant.
    if text != in_capitals
        && [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
            Method::PATCH,
            Method::TRACE,
        ]
        .iter()
        .any(|known| *known == *in_capitals)
    {
        return Err(format!("methods have capitals; write {in_capitals}"));
    }
    Ok(method)
}

/// A list of backends; all bad entries are the error.
pub(super) fn backends(text: &str) -> Result<Vec<ListEntry>, String> {
    parse_entries(text).map_err(|bad| bad.iter().map(BadEntry::to_string).collect::<Vec<_>>().join("; "))
}

/// A list between commas; spaces around its entries don't count. The first bad entry is the error.
pub(super) fn entries<T>(
    list: &str,
    count_max: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let count = list.split(',').count();
    if count > count_max {
        return Err(bad(list, format_args!("{count} entries; write at most {count_max}")));
    }
    let entry = |entry: &str| match parse(entry) {
        Ok(parsed) => Ok(parsed),
        Err(_) if entry.is_empty() && count > 1 => Err(bad(entry, EMPTY_ENTRY)),
        Err(reason) => Err(bad(entry, wrong_separator(entry).map_or(reason, not_between_commas))),
    };
    list.split(',').map(str::trim).map(entry).collect()
}

/// Finds what stands between the entries in place of a comma. Spaces beside the hyphen of a range are none.
fn wrong_separator(entry: &str) -> Option<char> {
    separator_in(&entry.split('-').map(str::trim).collect::<Vec<_>>().join("-"))
}

/// A size in bytes such as `512`, `16K`, `10M`, `10MB`, `10MiB` or `1.5G`, in either case; at most 1 TiB. All units are powers of
/// 1024, as proxies have them.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let bytes = size_or_more(text, "write 512B, 16KiB, 10MiB or 1GiB")?;
    bytes.filter(|bytes| *bytes <= SIZE_MAX).ok_or_else(|| bad(text, "too large; write at most 1024GiB"))
}

/// A size within bounds, in bytes. What is beyond them gets the nearer one offered, what is no size both and the default.
pub(super) fn size_within(text: &str, bounds: RangeInclusive<usize>, default: usize) -> Result<usize, String> {
    let [min, max, default] = [*bounds.start(), *bounds.end(), default].map(|bytes| show_size(bytes as u64));
    let bytes = size_or_more(text, &format!("write {min}, {default} or {max}"))?;
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    if bounds.contains(&bytes) {
        return Ok(bytes);
    }
    let nearer = if bytes < *bounds.start() { &min } else { &max };
    Err(bad(text, format_args!("not from {min} to {max}; write {nearer}, say")))
}

/// A size in bytes, or `None` if 64 bits don't hold it.
fn size_or_more(text: &str, right: &str) -> Result<Option<u64>, String> {
    let (number, unit) = number_and_rest(text).ok_or_else(|| bad(text, format_args!("not a size; {right}")))?;
    let unit_bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        _ => return Err(bad(text, format_args!("not a size; {right}"))),
    };
    match scaled(number, unit_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(BadNumber::TooLarge) => Ok(None),
        Err(BadNumber::Fraction) => Err(bad(text, format_args!("no whole number of bytes; {right}"))),
    }
}

/// Writes a size in the largest unit that it is a multiple of.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A whole number between two bounds, the lower one at least 1.
pub(super) fn count(text: &str, min: usize, max: usize, default: usize) -> Result<NonZeroUsize, String> {
    number(text, min, max, default).map(|number| NonZeroUsize::new(number).expect("the lower bound is at least 1"))
}

/// A whole number between two bounds. What is beyond them gets the nearer one offered, what is no number the default.
pub(super) fn number(text: &str, min: usize, max: usize, default: usize) -> Result<usize, String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let offer = match text.strip_prefix('-') {
        // A sign is no digit, though std takes one.
        Some(negative) if is_number(negative) => min,
        None if is_number(text) => match text.parse::<usize>() {
            Ok(number) if (min..=max).contains(&number) => return Ok(number),
            Ok(number) if number < min => min,
            // Above the bound, or more than there are bits for.
            _ => max,
        },
        _ => default,
    };
    Err(bad(text, format_args!("not a whole number from {min} to {max}; write {offer}, say")))
}

/// The words of a switch.
const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

/// `on` or `off`, also as people write it in environments: `true`, `false`, `1`, `0`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => either(text, SWITCH),
    }
}

/// What one of two words stands for, in either case.
pub(super) fn either<T>(text: &str, words: [(&str, T); 2]) -> Result<T, String> {
    let [one, other] = words.each_ref().map(|(word, _)| *word);
    let found = words.into_iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, value)| value).ok_or_else(|| bad(text, format_args!("neither {one} nor {other}; write one of them")))
}

/// The one of two words that stands for this.
pub(super) fn show_either<T: Copy + PartialEq>(value: T, [one, other]: [(&str, T); 2]) -> String {
    (if value == one.1 { one.0 } else { other.0 }).to_owned()
}

/// Parses the target of a GET: a path, and maybe a query. Nothing but it fits between the blanks of a request's first line.
pub(super) fn path(text: &str) -> Result<String, String> {
    let has_blank = text.contains(|c: char| c.is_whitespace() || c.is_control());
    match Target::parse(&Method::GET, text) {
        Ok(target) if text.starts_with('/') && !has_blank => Ok(target.as_str().to_owned()),
        Ok(_) if text.starts_with('/') => Err(bad(text, "a path has no blanks; write %20 for each")),
        _ => Err(bad(text, "no path; write /status, say")),
    }
}

/// Writes a switch as the flags take it.
pub(super) fn show_switch(on: bool) -> String {
    show_either(on, SWITCH)
}

/// A host's name, in lower case; the dot of the root is left out.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err("not a host name; write proxy.example, without scheme or port".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

/// Letters, digits and hyphens (RFC 1123 §2.1), and the underscores that container networks have in names.
fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A network such as `172.17.0.0/16`; a single address is a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network =
        network.map_err(|_| "not a network; write 172.17.0.0/16, fd00::/8 or a single IP address".to_owned())?;
    Ok(network.trunc())
}

/// A URL of a proxy's admin port, which speaks no TLS, or `unix:` and the path of its socket.
pub(super) fn asked_at(text: &str) -> Result<AskedAt, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(AskedAt::Socket).map_err(|reason| bad(text, reason));
    }
    if !text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://")) {
        let offer = meant_url(text).map(|url| format!("; write {url}")).unwrap_or_default();
        return Err(bad(text, format_args!("it must begin with http://{offer}")));
    }
    let url = parse_url(text).map_err(|error| bad(text, format_args!("no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(text, "it must not contain a user name or password"));
    }
    Ok(AskedAt::Url(url))
}

/// Guesses the URL that was meant by a host and a port, or by a port of this host alone. `None` if it can't be told.
fn meant_url(text: &str) -> Option<Url> {
    let authority = text.split('/').next().unwrap_or_default();
    let path = &text[authority.len()..];
    let port = authority.rsplit(':').next().unwrap_or_default();
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_port || path.starts_with("//") {
        return None;
    }
    let url = parse_url(&format!("http://{}{path}", meant_host(authority))).ok()?;
    // Cut, it would be of no use.
    (url.username().is_empty() && url.as_str().len() <= OFFER_BYTES_MAX).then_some(url)
}

/// Writes what a flag says, if it says something.
pub(super) fn show_or_none(text: String) -> String {
    if text.is_empty() { "(none)".to_owned() } else { text }
}

/// Writes addresses to listen on as the flags take them.
pub(super) fn show_listen<T: Display>(listen: &[T]) -> String {
    if listen.is_empty() { "off".to_owned() } else { show_list(listen) }
}

/// Writes a list as the flags take it.
pub(super) fn show_list<T: Display>(list: &[T]) -> String {
    list.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let rows = [
            ("0s", Ok(0)),
            ("500ms", Ok(500)),
            ("5s", Ok(5_000)),
            ("2m", Ok(120_000)),
            ("24h", Ok(86_400_000)),
            ("5", Err("'5': no unit; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("5x", Err("'5x': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("", Err("'': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("s", Err("'s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1m30s", Ok(90_000)),
            ("1h2m3s500ms", Ok(3_723_500)),
            ("1h500ms", Ok(3_600_500)),
            ("0h0m0s", Ok(0)),
            ("90m", Ok(5_400_000)),
            ("1.5s", Ok(1_500)),
            ("0.25h", Ok(900_000)),
            ("1.5m0.5s", Ok(90_500)),
            ("1.50000000000000000000s", Ok(1_500)),
            ("0.001s", Ok(1)),
            ("23h59m60s", Ok(86_400_000)),
            ("0.0005s", Err("'0.0005s': finer than a millisecond; write whole ones")),
            ("1.5ms", Err("'1.5ms': finer than a millisecond; write whole ones")),
            (
                "0.33333333333333333333333h",
                Err("'0.33333333333333333333333h': finer than a millisecond; write whole ones"),
            ),
            ("1.s", Err("'1.s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            (".5s", Err("'.5s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1.5.5s", Err("'1.5.5s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1,5s", Err("'1,5s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1.5", Err("'1.5': no unit; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1m30", Err("'1m30': no unit; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1m 30s", Err("'1m 30s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1m-30s", Err("'1m-30s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1m30s ", Err("'1m30s ': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("-1m30s", Err("'-1m30s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1µs", Err("'1µs': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1us", Err("'1us': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("1d", Err("'1d': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("30s1m", Err("'30s1m': its units must fall, each given once; write 1h2m3s500ms, say")),
            ("1s1s", Err("'1s1s': its units must fall, each given once; write 1h2m3s500ms, say")),
            ("24h1ms", Err("'24h1ms': longer than a day; write at most 24h")),
            ("23h60m1s", Err("'23h60m1s': longer than a day; write at most 24h")),
            (
                "5124095576h18446744073709551615ms",
                Err("'5124095576h18446744073709551615ms': longer than a day; write at most 24h"),
            ),
            ("+5s", Err("'+5s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("5 s", Err("'5 s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("5S", Err("'5S': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h")),
            ("25h", Err("'25h': longer than a day; write at most 24h")),
            ("86400001ms", Err("'86400001ms': longer than a day; write at most 24h")),
            ("99999999999999999999h", Err("'99999999999999999999h': longer than a day; write at most 24h")),
            ("18446744073709551615h", Err("'18446744073709551615h': longer than a day; write at most 24h")),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text), expected.map(Duration::from_millis).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_number_and_perhaps_a_unit() {
        let rows = [
            ("0", Ok(0)),
            ("512", Ok(512)),
            ("512B", Ok(512)),
            ("16KiB", Ok(16_384)),
            ("10MiB", Ok(10_485_760)),
            ("1024GiB", Ok(1 << 40)),
            ("", Err("'': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("B", Err("'B': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("MiB", Err("'MiB': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("10M", Ok(10_485_760)),
            ("10MB", Ok(10_485_760)),
            ("10m", Ok(10_485_760)),
            ("10mb", Ok(10_485_760)),
            ("10mib", Ok(10_485_760)),
            ("16k", Ok(16_384)),
            ("16K", Ok(16_384)),
            ("16kB", Ok(16_384)),
            ("1g", Ok(1 << 30)),
            ("1GB", Ok(1 << 30)),
            ("512b", Ok(512)),
            ("1.5M", Ok(1_572_864)),
            ("0.5KiB", Ok(512)),
            ("1.0", Ok(1)),
            ("1.5", Err("'1.5': no whole number of bytes; write 512B, 16KiB, 10MiB or 1GiB")),
            ("0.0001K", Err("'0.0001K': no whole number of bytes; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1.M", Err("'1.M': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("10 MB", Err("'10 MB': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1G512M", Err("'1G512M': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("10Mi", Ok(10_485_760)),
            ("10Mb/s", Err("'10Mb/s': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1TB", Err("'1TB': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("10X", Err("'10X': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1e6", Err("'1e6': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("+1", Err("'+1': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1024.5g", Err("'1024.5g': too large; write at most 1024GiB")),
            ("-1", Err("'-1': not a size; write 512B, 16KiB, 10MiB or 1GiB")),
            ("1025GiB", Err("'1025GiB': too large; write at most 1024GiB")),
            ("18446744073709551615GiB", Err("'18446744073709551615GiB': too large; write at most 1024GiB")),
        ];
        for (text, expected) in rows {
            assert_eq!(size(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn sizes_keep_to_their_bounds() {
        for (text, expected) in [("1KiB", Some(1024)), ("4096", Some(4096)), ("1023B", None), ("4097B", None)] {
            assert_eq!(size_within(text, 1024..=4096, 2048).ok(), expected, "{text}");
        }
        let rows = [
            ("4097", "not from 1KiB to 4KiB; write 4KiB, say"),
            ("1GiB", "not from 1KiB to 4KiB; write 4KiB, say"),
            ("1025GiB", "not from 1KiB to 4KiB; write 4KiB, say"),
            ("18446744073709551615GiB", "not from 1KiB to 4KiB; write 4KiB, say"),
            ("0", "not from 1KiB to 4KiB; write 1KiB, say"),
            ("1023", "not from 1KiB to 4KiB; write 1KiB, say"),
            ("4TB", "not a size; write 1KiB, 2KiB or 4KiB"),
            ("", "not a size; write 1KiB, 2KiB or 4KiB"),
            ("1024.5", "no whole number of bytes; write 1KiB, 2KiB or 4KiB"),
        ];
        for (text, expected) in rows {
            assert_eq!(size_within(text, 1024..=4096, 2048), Err(format!("'{text}': {expected}")));
        }
    }

    #[test]
    fn durations_and_sizes_show_as_what_makes_them_again() {
        for text in ["0s", "500ms", "5s", "90s", "86400s"] {
            assert_eq!(duration(text).map(show_duration), Ok(text.to_owned()));
        }
        for text in ["0B", "512B", "1KiB", "1536B", "10MiB", "3GiB"] {
            assert_eq!(size(text).map(show_size), Ok(text.to_owned()));
        }
    }

    #[test]
    fn counts_keep_to_their_bounds() {
        for (text, expected) in [("64", Some(64)), ("100", Some(100)), ("63", None), ("101", None)] {
            assert_eq!(count(text, 64, 100, 80).ok(), expected.and_then(NonZeroUsize::new), "{text}");
        }
        let rows = [
            (64, ["0", "63", "-70", "000"].as_slice()),
            (100, &["101", "99999999999999999999999"]),
            (80, &["", "many", "70x", "+70", "7e1", "1k", "-", "-x", "7 0"]),
        ];
        for (offer, texts) in rows {
            for text in texts {
                let expected = format!("'{text}': not a whole number from 64 to 100; write {offer}, say");
                assert_eq!(count(text, 64, 100, 80), Err(expected));
            }
        }
    }

    #[test]
    fn host_names_are_checked_and_lowered() {
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let rows = [
            ("Proxy.Example", Some("proxy.example")),
            ("red_tentacle", Some("red_tentacle")),
            ("a.", Some("a")),
            (long.as_str(), Some(long.as_str())),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a", None),
            ("a-", None),
            ("a:80", None),
            ("http://a", None),
            ("a b", None),
            ("bücher.example", None),
        ];
        for (text, expected) in rows {
            assert_eq!(host_name(text).ok().as_deref(), expected, "{text}");
        }
        assert!(host_name(&"a".repeat(64)).is_err());
        assert!(host_name(&format!("{long}d")).is_err());
    }

    #[test]
    fn a_path_has_a_slash_and_no_blank() {
        let blank = "a path has no blanks; write %20 for each";
        let rows = [
            ("/", Ok("/")),
            ("/a%20b?c=d&e", Ok("/a%20b?c=d&e")),
            ("", Err("'': no path; write /status, say")),
            ("a", Err("'a': no path; write /status, say")),
            ("http://a/b", Err("'http://a/b': no path; write /status, say")),
            ("/a#b", Err("'/a#b': no path; write /status, say")),
            ("/a b", Err(&*format!("'/a b': {blank}"))),
            ("/a\r\nX: y", Err(&*format!("'/a\\r\\nX: y': {blank}"))),
        ];
        for (text, expected) in rows {
            assert_eq!(path(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn urls_of_the_admin_port_are_checked() {
        let rows = [
            ("http://127.0.0.1:8081", Ok("http://127.0.0.1:8081/")),
            ("HTTP://[::1]:8081/healthz/?a=b", Ok("http://[::1]:8081/healthz/?a=b")),
            ("", Err("'': it must begin with http://")),
            ("127.0.0.1:8081", Err("'127.0.0.1:8081': it must begin with http://; write http://127.0.0.1:8081/")),
            (
                "[::1]:8081/readyz",
                Err("'[::1]:8081/readyz': it must begin with http://; write http://[::1]:8081/readyz"),
            ),
            (":24181/x", Err("':24181/x': it must begin with http://; write http://127.0.0.1:24181/x")),
            (":24181", Err("':24181': it must begin with http://; write http://127.0.0.1:24181/")),
            ("24181", Err("'24181': it must begin with http://; write http://127.0.0.1:24181/")),
            ("localhost:80", Err("'localhost:80': it must begin with http://; write http://localhost/")),
            ("::1:24181/x", Err("'::1:24181/x': it must begin with http://; write http://[::1]:24181/x")),
            (":99999", Err("':99999': it must begin with http://")),
            (":", Err("':': it must begin with http://")),
            ("/readyz", Err("'/readyz': it must begin with http://")),
            ("a", Err("'a': it must begin with http://")),
            ("u:p@a:1", Err("'u:p@a:1': it must begin with http://")),
            ("https://a:1", Err("'https://a:1': it must begin with http://")),
            ("https://a", Err("'https://a': it must begin with http://")),
            ("http://", Err("'http://': no URL: empty host")),
            ("http://a:x", Err("'http://a:x': no URL: invalid port number")),
            ("http://u:p@a", Err("'http://u:p@a': it must not contain a user name or password")),
        ];
        for (text, expected) in rows {
            let url = asked_at(text).map(|place| place.to_string());
            assert_eq!(url, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        let rows = [
            ("172.17.0.0/16", Some("172.17.0.0/16")),
            ("172.17.0.1/16", Some("172.17.0.0/16")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("gateway", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(network(text).ok().map(|network| network.to_string()).as_deref(), expected, "{text}");
        }
    }
}
