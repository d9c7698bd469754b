//! What a client gets when no answer wins. Knows nothing of races.

use std::fmt;
use std::time::Duration;

use super::values;

const RIGHT: &str = "write bad-gateway, best, or best..500ms";

/// What a client gets when no answer wins. `Display` gives the text that makes it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// A 502 with the reasons.
    BadGateway,
    /// The answer of the backend that said most, if one answered at all.
    Best {
        /// The longest time that the first answer about the request itself waits for others; `None`: until they all have lost.
        within: Option<Duration>,
    },
}

impl OnFailure {
    pub(super) fn parse(text: &str) -> Result<OnFailure, String> {
        let lower = text.to_ascii_lowercase();
        let (word, bound) = lower.split_once("..").map_or((&*lower, None), |(word, bound)| (word, Some(bound)));
        match (word, bound) {
            ("bad-gateway", None) => Ok(OnFailure::BadGateway),
            ("best", None) => Ok(OnFailure::Best { within: None }),
            ("best", Some(bound)) => match values::duration(bound)? {
                Duration::ZERO => Err(values::bad(text, "nothing is waited for; write best..500ms, or give --final")),
                within => Ok(OnFailure::Best { within: Some(within) }),
            },
            _ => Err(values::bad(text, format_args!("none of the ways to fail; {RIGHT}"))),
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnFailure::BadGateway => f.write_str("bad-gateway"),
            OnFailure::Best { within: None } => f.write_str("best"),
            OnFailure::Best { within: Some(within) } => write!(f, "best..{}", values::show_duration(*within)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_fail_shows_as_what_makes_it_again_or_is_refused() {
        for text in ["bad-gateway", "best", "best..500ms", "best..2s"] {
            assert_eq!(OnFailure::parse(text).expect(text).to_string(), text);
        }
        let rows = [
            ("", "'': none of the ways to fail; write bad-gateway, best, or best..500ms"),
            ("worst", "'worst': none of the ways to fail"),
            ("bad-gateway..1s", "'bad-gateway..1s': none of the ways to fail"),
            ("best..", "'': not a duration; write 500ms"),
            ("best..5", "'5': no unit"),
            ("best..0s", "'best..0s': nothing is waited for"),
        ];
        for (text, begin) in rows {
            let reason = OnFailure::parse(text).expect_err(text);
            assert!(reason.starts_with(begin), "{text}: {reason}");
        }
    }
}
