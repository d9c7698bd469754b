//! Rules by which an answer that would win loses. Knows nothing of races.

use std::fmt;

use http::{HeaderMap, HeaderName};
use regex_lite::Regex;

use super::values;

/// The most rules.
const RULES_MAX: usize = 8;
/// The longest rule, in bytes.
const RULE_BYTES_MAX: usize = 1024;

const RIGHT: &str = "write 'header NAME', 'header NAME ~ PATTERN' or 'body ~ PATTERN'";

/// Rules, by which an answer that would win loses. `Display` gives them as they were written.
#[derive(Debug, Clone, Default)]
pub struct LoseIf(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    of: Of,
}

#[derive(Debug, Clone)]
enum Of {
    /// A field of this name is there, and its value matches if there is a pattern.
    Field(HeaderName, Option<Regex>),
    /// The start of the body matches. Whether a match may hang on what follows it.
    Body(Regex, bool),
}

impl LoseIf {
    /// Reads rules, a line each.
    pub fn parse(text: &str) -> Result<LoseIf, String> {
        let rules: Vec<&str> = text.lines().map(str::trim).filter(|rule| !rule.is_empty()).collect();
        match rules.len() {
            0 => Err(values::bad(text, format_args!("no rule; {RIGHT}"))),
            1..=RULES_MAX => rules.into_iter().map(rule).collect::<Result<_, _>>().map(LoseIf),
            count => Err(values::bad(text, format_args!("{count} rules; write at most {RULES_MAX}"))),
        }
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one looks at bodies.
    pub fn looks_at_bodies(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.of, Of::Body(..)))
    }

    /// Whether one says of a part of a body something else than of all of it, even where it matches.
    pub fn depends_on_end(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.of, Of::Body(_, true)))
    }

    /// The first rule that matches these fields: its number and text.
    pub fn match_in_fields(&self, fields: &HeaderMap) -> Option<String> {
        self.told(|rule| match &rule.of {
            Of::Field(name, None) => fields.contains_key(name),
            Of::Field(name, Some(pattern)) => {
                fields.get_all(name).iter().any(|value| pattern.is_match(&String::from_utf8_lossy(value.as_bytes())))
            }
            Of::Body(..) => false,
        })
    }

    /// The first rule that matches this begin of a body, whatever follows if it isn't `all`: its number and text.
    pub fn match_in_body(&self, begin: &[u8], all: bool) -> Option<String> {
        let begin = String::from_utf8_lossy(begin);
        self.told(|rule| match &rule.of {
            Of::Body(pattern, depends_on_end) => (all || !depends_on_end) && pattern.is_match(&begin),
            Of::Field(..) => false,
        })
    }

    fn told(&self, matches: impl Fn(&Rule) -> bool) -> Option<String> {
        let number = self.0.iter().position(matches)?;
        Some(format!("rule {}, {}", number + 1, self.0[number].text))
    }
}

impl fmt::Display for LoseIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|rule| rule.text.as_str()).collect();
        f.write_str(&texts.join("; "))
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    if text.len() > RULE_BYTES_MAX {
        return Err(values::bad(text, format_args!("longer than {RULE_BYTES_MAX} bytes; write a shorter pattern")));
    }
    let wrong = || values::bad(text, format_args!("no rule; {RIGHT}"));
    let (what, rest) = text.split_once(char::is_whitespace).ok_or_else(wrong)?;
    let rest = rest.trim();
    let of = match what {
        "header" => {
            let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            // A name may have it, and none does: the rule would never match.
            if name.contains('~') {
                return Err(values::bad(text, format_args!("no blank before ~; {RIGHT}")));
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let rest = rest.trim();
            Of::Field(name, if rest.is_empty() { None } else { Some(pattern(text, rest)?) })
        }
        "body" => {
            // Not exact: a `$` that stands for itself has a rule wait longer than it must, and no more.
            let depends_on_end = ["$", r"\z", r"\b", r"\B", r"\<", r"\>"].iter().any(|end| rest.contains(end));
            Of::Body(pattern(text, rest)?, depends_on_end)
        }
        _ => return Err(wrong()),
    };
    Ok(Rule { text: text.to_owned(), of })
}

/// Reads `~ PATTERN`.
fn pattern(rule: &str, text: &str) -> Result<Regex, String> {
    let text = text.strip_prefix('~').map(str::trim).filter(|pattern| !pattern.is_empty());
    let text = text.ok_or_else(|| values::bad(rule, format_args!("no pattern; {RIGHT}")))?;
    Regex::new(text).map_err(|error| values::bad(rule, format_args!("a bad pattern: {error}")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_rule_matches_fields_or_the_begin_of_a_body() {
        let mut fields = HeaderMap::new();
        for (name, value) in
            [("x-cache", "HIT"), ("x-cache", "STALE, x"), ("x-empty", ""), ("content-type", "text/html")]
        {
            fields.append(name, HeaderValue::from_static(value));
        }
        let rows = [
            ("header X-Cache ~ ^STALE", true),
            ("header x-cache ~  ^MISS  ", false),
            ("header X-Empty", true),
            ("header x-empty ~ .", false),
            ("header x-missing", false),
            ("header content-type ~ ^text/html", true),
            ("body ~ html", false),
        ];
        for (text, expected) in rows {
            let rules = LoseIf::parse(text).expect(text);
            assert_eq!(rules.match_in_fields(&fields).is_some(), expected, "{text}");
        }
        let rules = LoseIf::parse("body ~ \"result\"\\s*:\\s*null\nheader x\nbody ~ \"error\"\\s*:").expect("rules");
        assert!(rules.looks_at_bodies() && !LoseIf::parse("header a").expect("a rule").looks_at_bodies());
        assert_eq!(rules.match_in_body(b"{\"result\": 1}", true), None);
        let told = rules.match_in_body(b"\xff{\"error\" :{}}", false);
        assert_eq!(told.as_deref(), Some("rule 3, body ~ \"error\"\\s*:"));
        assert_eq!(LoseIf::parse(" header a \n\nbody ~ b").expect("rules").to_string(), "header a; body ~ b");
    }

    #[test]
    fn a_match_that_hangs_on_the_end_needs_the_end() {
        for (pattern, begin, depends_on_end) in [
            ("^a", "ab", false),
            ("a$", "ba", true),
            (r"a\z", "ba", true),
            (r"\ba\b", "b a", true),
            (r"a\B", "ab", true),
            (r"a\>", "ba", true),
            (r"^\s*$", "", true),
        ] {
            let rules = LoseIf::parse(&format!("body ~ {pattern}")).expect(pattern);
            assert_eq!(rules.depends_on_end(), depends_on_end, "{pattern}");
            assert_eq!(rules.match_in_body(begin.as_bytes(), false).is_some(), !depends_on_end, "{pattern}");
            assert!(rules.match_in_body(begin.as_bytes(), true).is_some(), "{pattern}");
        }
    }

    #[test]
    fn a_bad_rule_is_refused_with_what_would_be_right() {
        let (nine, long) = (["header a"; 9].join("\n"), format!("body ~ {}", "x".repeat(1024)));
        let rows = [
            ("", "no rule; write 'header NAME'"),
            ("header", "no rule; write"),
            ("status 200", "no rule; write"),
            ("header a b", "no pattern; write"),
            ("header a ~", "no pattern; write"),
            ("header (", "no rule; write"),
            ("header x-cache~^STALE", "no blank before ~; write 'header NAME', 'header NAME ~ PATTERN'"),
            ("header x-cache~ ^STALE", "no blank before ~; write"),
            ("body x", "no pattern; write"),
            ("body ~ (", "a bad pattern: "),
            (&nine, "9 rules; write at most 8"),
            (&long, "longer than 1024 bytes"),
        ];
        for (text, expected) in rows {
            let reason = LoseIf::parse(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }
}
