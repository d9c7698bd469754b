//! The statuses that count as success. Knows nothing of races.

use std::fmt;
use std::ops::RangeInclusive;

use http::StatusCode;

use super::values;

/// The most entries of a list. There are 400 codes in four classes: a few ranges of them are enough for every need.
const ENTRIES_MAX: usize = 32;

/// The statuses that win a race. `Display` gives the list that makes it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    ranges: Vec<RangeInclusive<u16>>,
}

impl Success {
    /// No status wins: every backend's answer is told instead.
    pub const NONE: Success = Success { ranges: Vec::new() };

    /// Checks a list of codes and ranges such as `200-299,304`.
    pub fn parse(list: &str) -> Result<Success, String> {
        Ok(Success { ranges: values::entries(list, ENTRIES_MAX, range)? })
    }

    /// Whether an answer with this status wins. (304 also wins where the request was conditional, which is for the
    /// race's caller to know.)
    pub fn counts(&self, status: StatusCode) -> bool {
        self.ranges.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for Success {
    /// 200 to 299.
    fn default() -> Success {
        Success { ranges: vec![200..=299] }
    }
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.ranges.iter().map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        f.write_str(&texts.collect::<Vec<_>>().join(","))
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
            let success = Success::parse(list).expect(list);
            let counts = |code: &u16| success.counts(StatusCode::from_u16(*code).expect("a status"));
            assert!(counting.iter().all(counts), "{list}");
            assert!(!losing.iter().any(counts), "{list}");
        }
    }

    #[test]
    fn the_default_is_2xx() {
        assert_eq!(Success::parse("200-299"), Ok(Success::default()));
    }

    #[test]
    fn a_list_shows_as_what_makes_it_again() {
        for list in ["200-299", "200,304", "200-299,304,400-404"] {
            assert_eq!(Success::parse(list).expect(list).to_string(), list);
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
            let reason = Success::parse(list).expect_err(list);
            assert!(reason.starts_with(start), "{list}: {reason}");
        }
        let long = ["200"; 33].join(",");
        assert!(Success::parse(&long).expect_err("33 entries").contains("at most 32"));
    }
}
