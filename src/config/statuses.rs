//! Statuses by their codes: those that count as success, and those that end a race without. Knows nothing of races.

use std::fmt;
use std::ops::RangeInclusive;

use http::StatusCode;

use super::values;

/// The most entries of a list. There are 400 codes in four classes: a few ranges of them are enough for every need.
const ENTRIES_MAX: usize = 32;

/// Some statuses. `Display` gives the list that makes them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses {
    ranges: Vec<RangeInclusive<u16>>,
}

impl Statuses {
    /// No status.
    pub const NONE: Statuses = Statuses { ranges: Vec::new() };

    /// Checks a list of codes and ranges such as `200-299,304`.
    pub fn parse(list: &str) -> Result<Statuses, String> {
        Ok(Statuses { ranges: values::entries(list, ENTRIES_MAX, range)? })
    }

    /// Checks a list of the same form, of which no status may be below 300.
    pub(super) fn parse_failures(list: &str) -> Result<Statuses, String> {
        let statuses = Statuses::parse(list)?;
        match statuses.ranges.iter().find(|range| *range.start() < 300) {
            Some(range) => Err(values::bad(&shown(range), "only 300 to 599 can be final; write 404,410, say")),
            None => Ok(statuses),
        }
    }

    /// The first status that is among others, too.
    pub(super) fn shared_with(&self, others: &Statuses) -> Option<u16> {
        self.ranges.iter().cloned().flatten().find(|code| others.ranges.iter().any(|range| range.contains(code)))
    }

    /// Whether this status is among them. (304 also wins where the request was conditional, which is for the race's caller to
    /// know.)
    pub fn counts(&self, status: StatusCode) -> bool {
        self.ranges.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Statuses {
    /// 200 to 299.
    fn default() -> Statuses {
        Statuses { ranges: vec![200..=299] }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ranges.iter().map(shown).collect::<Vec<_>>().join(","))
    }
}

fn shown(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn range(entry: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
    let (Some(first), Some(last)) = (code(first), code(last)) else {
        return Err("not a status or a range of them; write 200 or 200-299".to_owned());
    };
    // A 1xx is no final answer (RFC 9110 §15.2), so nothing can be won with it.
    if !(200..=599).contains(&first) || !(200..=599).contains(&last) {
        return Err("only 200 to 599 can be a final answer; write 200-299, say".to_owned());
    }
    if first > last {
        return Err(format!("the range is empty; write {last}-{first}"));
    }
    Ok(first..=last)
}

fn code(text: &str) -> Option<u16> {
    let text = text.trim();
    (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_counts() {
        let rows: [(&str, &[u16], &[u16]); 4] = [
            ("200-299", &[200, 204, 299], &[199, 300, 304, 500]),
            ("200-299,304", &[200, 299, 304], &[300, 303, 305]),
            (" 201 , 404 - 405 ", &[201, 404, 405], &[200, 403, 406]),
            ("200-599", &[200, 599], &[101, 600, 999]),
        ];
        for (list, counting, losing) in rows {
            let success = Statuses::parse(list).expect(list);
            let counts = |code: &u16| success.counts(StatusCode::from_u16(*code).expect("a status"));
            assert!(counting.iter().all(counts), "{list}");
            assert!(!losing.iter().any(counts), "{list}");
        }
    }

    #[test]
    fn what_may_be_final_begins_at_300_and_is_no_success() {
        let statuses = Statuses::parse_failures("300-399,404").expect("statuses");
        assert_eq!(statuses.to_string(), "300-399,404");
        for bad in ["299-404", "404,200"] {
            let reason = Statuses::parse_failures(bad).expect_err(bad);
            assert!(reason.ends_with(": only 300 to 599 can be final; write 404,410, say"), "{reason}");
        }
        let rows = [("200-299", None), ("200-299,404", Some(404)), ("200-310", Some(300)), ("405-599", None)];
        for (success, shared) in rows {
            assert_eq!(statuses.shared_with(&Statuses::parse(success).expect(success)), shared, "{success}");
        }
    }

    #[test]
    fn the_default_is_2xx() {
        assert_eq!(Statuses::parse("200-299"), Ok(Statuses::default()));
    }

    #[test]
    fn a_list_shows_as_what_makes_it_again() {
        for list in ["200-299", "200,304", "200-299,304,400-404"] {
            assert_eq!(Statuses::parse(list).expect(list).to_string(), list);
        }
    }

    #[test]
    fn bad_lists_are_refused_with_the_reason() {
        let rows = [
            ("", "'': not a status"),
            ("200,", "'': an entry is empty"),
            ("200;304", "'200;304': entries stand between commas, not semicolons"),
            ("200 304", "'200 304': entries stand between commas, not spaces"),
            ("2xx - 3xx", "'2xx - 3xx': not a status"),
            ("2xx", "'2xx': not a status or a range of them; write 200 or 200-299"),
            ("200-", "'200-': not a status"),
            ("+20", "'+20': not a status"),
            ("0200", "'0200': not a status"),
            ("101", "'101': only 200 to 599"),
            ("100-299", "'100-299': only 200 to 599"),
            ("200-600", "'200-600': only 200 to 599"),
            ("299-200", "'299-200': the range is empty; write 200-299"),
        ];
        for (list, start) in rows {
            let reason = Statuses::parse(list).expect_err(list);
            assert!(reason.starts_with(start), "{list}: {reason}");
        }
        let long = ["200"; 33].join(",");
        assert!(Statuses::parse(&long).expect_err("33 entries").contains("at most 32"));
    }
}
