//! A list of backends' addresses, as flags and updates write it: all of it is good, or every bad entry has its reason.
//! Knows nothing of who wrote the list.

use std::fmt;

use super::{Address, Excerpt};

/// The longest list of backends. Each request costs every backend a leg, so a longer list is a mistake.
pub const ADDRESSES_MAX: usize = 64;

/// An entry of a list that can't be used, and why. `Display` is safe to show: the entry escaped, and cut if it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The entry as it was written, without the spaces around it.
    pub entry: String,
    /// What is wrong with it.
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
        return Err("an entry is empty".to_owned());
    }
    let address = Address::parse(entry).map_err(|bad| bad.to_string())?;
    if earlier.contains(&address) {
        return Err(format!("{} is in the list twice", Excerpt(&address.to_string())));
    }
    Ok(address)
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
        let rows: [(&str, &[&str]); 5] = [
            ("http://a,", &["'': an entry is empty"]),
            (",", &["'': an entry is empty", "'': an entry is empty"]),
            ("http://a, HTTP://A:80/", &["'HTTP://A:80/': http://a is in the list twice"]),
            (
                "ftp://a,http://b,http://c?d",
                &["'ftp://a': it must begin with http:// or https://", "'http://c?d': it must not contain a query"],
            ),
            ("http://a\nb", &["'http://a\\nb': it has a space, a control character or a backslash"]),
        ];
        for (list, expected) in rows {
            let bad = parse_addresses(list).expect_err(list);
            let texts: Vec<String> = bad.iter().map(BadEntry::to_string).collect();
            assert_eq!(texts, expected, "{list}");
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
