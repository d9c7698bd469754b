//! A list of backends as flags, updates and files write it: all of it is good, or every bad entry has its reason.
//! `ENTRY = URL *(blank OPTION)`; entries end at a comma or at a line's end. Knows nothing of where the list comes from.

use std::fmt;
use std::net::IpAddr;

use super::addresses::{checked_address, looks_like_address, not_between_commas, separator_in, wrong_separator};
use super::entry_options::EntryOptions;
use super::{Address, Excerpt};

/// Complaint about an entry with nothing in it.
pub const EMPTY_ENTRY: &str = "an entry is empty";

/// The longest list of backends. Each request costs every backend a leg, so a longer list is a mistake.
pub const BACKENDS_MAX: usize = 64;

/// One backend of a list: where it is, and how it takes part. `Display` writes it as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The base URL.
    pub address: Address,
    /// What is said of it behind the URL.
    pub options: EntryOptions,
}

impl ListEntry {
    /// What the backend is called at this place of a list, from 0: its name, or else `b1`, `b2`.
    pub fn name_at(&self, index: usize) -> String {
        self.options.name.clone().unwrap_or_else(|| format!("b{}", index + 1))
    }

    /// Checks whether its options go with each other and with its address. An error is a complaint.
    pub fn check(&self) -> Result<(), String> {
        self.options.local.check(self.address.is_tls())?;
        if self.options.is_exact && !self.address.has_base() {
            let url = self.address.to_string();
            return Err(format!("'exact' is for the path of a URL, and {} has none; leave it out", Excerpt(&url)));
        }
        let host = self.address.host();
        match &self.options.socket {
            Some(_) if self.options.is_each => {
                Err("'each' is for the addresses of a name, and 'socket' takes their place; leave one out".to_owned())
            }
            None if self.options.is_each && host.parse::<IpAddr>().is_ok() => {
                Err(format!("'each' is for the addresses of a name, and {host} is an address; leave it out"))
            }
            _ => Ok(()),
        }
    }
}

impl From<Address> for ListEntry {
    fn from(address: Address) -> ListEntry {
        ListEntry { address, options: EntryOptions::default() }
    }
}

impl fmt::Display for ListEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.options)
    }
}

/// An entry of a list that can't be used, and why. `Display` is safe to show: the entry escaped, and cut if it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The line that it stands on, from 1.
    pub line: usize,
    /// The entry as it was written, without the spaces around it.
    pub entry: String,
    /// The complaint, with what to write instead if it can be told.
    pub reason: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", Excerpt(&self.entry), self.reason)
    }
}

/// Checks a list; blanks around its entries don't count, nor do a comma at its end, empty lines, and lines that begin with
/// `#`. A list of nothing else is an empty one. An error holds every bad entry among the first [`BACKENDS_MAX`] and, of
/// those beyond, the first.
pub fn parse_entries(list: &str) -> Result<Vec<ListEntry>, Vec<BadEntry>> {
    let (mut entries, mut bad) = (Vec::new(), Vec::new());
    // What stands beyond the longest list isn't looked at: a body full of commas must not become a million reasons.
    for (line, text) in pieces(list).take(BACKENDS_MAX) {
        match checked(text, &entries) {
            Ok(entry) => entries.push(entry),
            Err(reason) => bad.push(BadEntry { line, entry: text.to_owned(), reason }),
        }
    }
    if let Some((line, text)) = pieces(list).nth(BACKENDS_MAX) {
        bad.push(BadEntry { line, entry: text.to_owned(), reason: too_many(pieces(list).count()) });
    }
    if bad.is_empty() { Ok(entries) } else { Err(bad) }
}

/// Complaint about a list that is too long.
pub fn too_many(count: usize) -> String {
    format!("the list has {count} entries; at most {BACKENDS_MAX} are allowed")
}

/// Complaint about a name that is given twice.
pub fn same_name(name: &str) -> String {
    format!("two backends would be named '{name}'")
}

/// Cuts a list into its entries, each with the number of its line; what is missing before a comma is an empty one.
pub fn pieces(list: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(list.split('\n')).flat_map(|(number, line)| line.split('\r').map(move |line| (number, line)));
    let entries = lines.filter(|(_, line)| !line.trim_start().starts_with('#'));
    let parts = entries.flat_map(|(number, line)| {
        line.split(',').map(str::trim).enumerate().map(move |(index, part)| (number, index > 0, part))
    });
    let mut is_owed = true;
    parts.flat_map(move |(number, is_behind_comma, part)| {
        let missing = (is_behind_comma && std::mem::replace(&mut is_owed, true)).then_some((number, ""));
        is_owed &= part.is_empty();
        missing.into_iter().chain((!part.is_empty()).then_some((number, part)))
    })
}

fn checked(text: &str, earlier: &[ListEntry]) -> Result<ListEntry, String> {
    if text.is_empty() {
        return Err(EMPTY_ENTRY.to_owned());
    }
    let url = text.split_whitespace().next().unwrap_or_default();
    let options = || text.split_whitespace().skip(1);
    let between = separator_in_place_of_comma(url, options());
    if let Some(separator) = between {
        return Err(not_between_commas(separator));
    }
    let entry = ListEntry { address: checked_address(url)?, options: EntryOptions::parse(options())? };
    if earlier.iter().any(|other| other.address == entry.address) {
        return Err(format!("{} is in the list twice", Excerpt(&entry.address.to_string())));
    }
    entry.check()?;
    match &entry.options.name {
        Some(name) if earlier.iter().any(|other| other.options.name.as_ref() == Some(name)) => Err(same_name(name)),
        _ => Ok(entry),
    }
}

fn separator_in_place_of_comma<'a>(url: &str, mut options: impl Iterator<Item = &'a str> + Clone) -> Option<char> {
    let semicolon = options.clone().find_map(separator_in);
    let blank = || options.any(looks_like_address).then_some(' ');
    wrong_separator(url).or(semicolon).or_else(blank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_list_keeps_its_order() {
        let rows: [(&str, &[&str]); 12] = [
            ("", &[]),
            (" \t ", &[]),
            ("# http://a\n\n  # b", &[]),
            ("http://a,", &["http://a"]),
            ("http://a , \n", &["http://a"]),
            ("http://a\nhttp://b", &["http://a", "http://b"]),
            ("http://a/x\r\nhttp://b\r\n", &["http://a/x", "http://b"]),
            ("http://a\n,\nhttp://b\n", &["http://a", "http://b"]),
            ("# all\nhttp://b, http://a,\n\n# more\nhttp://c", &["http://b", "http://a", "http://c"]),
            (
                "http://a \t name=dc1  paused, http://b paused name=2",
                &["http://a name=dc1 paused", "http://b name=2 paused"],
            ),
            ("http://b", &["http://b"]),
            (" http://b/x/ ,https://a,http://b", &["http://b/x", "https://a", "http://b"]),
        ];
        for (list, expected) in rows {
            let entries = parse_entries(list).expect(list);
            let texts: Vec<String> = entries.iter().map(ListEntry::to_string).collect();
            assert_eq!(texts, expected, "{list}");
        }
    }

    #[test]
    fn every_bad_entry_has_its_reason() {
        let rows: [(&str, &[&str]); 16] = [
            ("http://a,,", &["'': an entry is empty"]),
            ("http://a,\n,http://b", &["'': an entry is empty"]),
            (",http://a", &["'': an entry is empty"]),
            (",", &["'': an entry is empty"]),
            ("http://a name=dc1,http://b name=dc1", &["'http://b name=dc1': two backends would be named 'dc1'"]),
            ("http://a aftr=2s", &["'http://a aftr=2s': no option 'aftr'; did you mean 'after'?"]),
            (
                "http://10.0.0.1 each",
                &[
                    "'http://10.0.0.1 each': 'each' is for the addresses of a name, and 10.0.0.1 is an address; leave it out",
                ],
            ),
            (
                "https://[::1]:8443/x each paused",
                &[
                    "'https://[::1]:8443/x each paused': 'each' is for the addresses of a name, and ::1 is an address; leave it out",
                ],
            ),
            (
                "http://a each socket=/run/a",
                &[
                    "'http://a each socket=/run/a': 'each' is for the addresses of a name, and 'socket' takes their place; leave one out",
                ],
            ),
            (
                "http://a/x exact,http://b/ exact",
                &["'http://b/ exact': 'exact' is for the path of a URL, and http://b has none; leave it out"],
            ),
            ("http://a nmae=x", &["'http://a nmae=x': no option 'nmae'; did you mean 'name'?"]),
            ("http://a\nb", &["'b': it must begin with http:// or https://"]),
            ("paused", &["'paused': it must begin with http:// or https://"]),
            ("http://a, HTTP://A:80/", &["'HTTP://A:80/': http://a is in the list twice"]),
            (
                "ftp://a,http://b,http://c?d",
                &["'ftp://a': it must begin with http:// or https://", "'http://c?d': it must not contain a query"],
            ),
            ("http://a\x1bb", &["'http://a\\u{1b}b': it has a space, a control character or a backslash"]),
        ];
        for (list, expected) in rows {
            let bad = parse_entries(list).expect_err(list);
            let texts: Vec<String> = bad.iter().map(BadEntry::to_string).collect();
            assert_eq!(texts, expected, "{list}");
        }
    }

    /// The reason against the only bad entry of a list.
    fn reason(list: &str) -> String {
        let bad = parse_entries(list).expect_err(list);
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
            ("wss://dc1.example/v3/KEY", "https://dc1.example/v3/KEY"),
            ("WS://dc1:8546", "http://dc1:8546"),
            ("ws:8546", "http://ws:8546"),
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
            ("http://a http://b", "spaces"),
            ("http://a/x http://b", "spaces"),
            ("http://a\thttp://b", "spaces"),
            ("dc1.example dc2.example", "spaces"),
        ];
        for (list, expected) in rows {
            assert_eq!(reason(list), format!("entries stand between commas, not {expected}"), "{list:?}");
        }
        for list in ["http://a/x;v=1", "http://a/x;y/http://b", "http://a\n,\nhttp://b\n"] {
            assert!(parse_entries(list).is_ok(), "{list:?}");
        }
        assert_eq!(
            reason("http://a/x y"),
            "no option 'y'; there are name, after, timeout, each, exact, socket, header-file, ca, cert, insecure, paused"
        );
    }

    #[test]
    fn a_long_entry_is_judged_at_once() {
        // Each of these asked for the square of its length once it were read anew at every byte.
        for part in [" ", ";", "; http", "\n", "http://", ":"] {
            assert!(parse_entries(&format!("http://a/{}", part.repeat(100_000) + "\0.")).is_err(), "{part:?}");
        }
    }

    #[test]
    fn a_list_has_at_most_64_entries() {
        let list = |count: usize| (0..count).map(|n| format!("http://b{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_entries(&list(64)).map(|entries| entries.len()), Ok(64));
        let bad = parse_entries(&list(66)).expect_err("66 entries");
        let reason = "the list has 66 entries; at most 64 are allowed".to_owned();
        assert_eq!(bad, [BadEntry { line: 1, entry: "http://b64".to_owned(), reason }]);
    }

    #[test]
    fn a_flood_of_entries_makes_few_reasons() {
        assert_eq!(parse_entries(&",".repeat(1_000_000)).expect_err("a flood").len(), 65);
    }

    #[test]
    fn a_bad_entry_knows_its_line() {
        let bad = parse_entries("# a list\nhttp://a,x\r\n\nhttp://b\ny paused").expect_err("two bad ones");
        let lines: Vec<_> = bad.iter().map(|bad| (bad.line, bad.entry.as_str())).collect();
        assert_eq!(lines, [(2, "x"), (5, "y paused")]);
    }
}
