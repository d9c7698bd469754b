//! Writes JSON (RFC 8259). Knows nothing of what it says.

use std::fmt::{self, Write};

/// A value to write. `Display` writes it in one line; a text can neither end it nor move a terminal's cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A whole number.
    Count(u64),
    /// A number. One that isn't finite, for which JSON has no text, is written as `null`.
    Number(f64),
    /// A text.
    Text(String),
    /// Values in their order.
    Array(Vec<Json>),
    /// Fields in their order.
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// An object of these fields, in this order.
    pub fn object<const N: usize>(fields: [(&'static str, Json); N]) -> Json {
        Json::Object(fields.into())
    }
}

impl From<bool> for Json {
    fn from(truth: bool) -> Json {
        Json::Bool(truth)
    }
}

impl From<u64> for Json {
    fn from(count: u64) -> Json {
        Json::Count(count)
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Json {
        Json::Number(number)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl FromIterator<Json> for Json {
    fn from_iter<I: IntoIterator<Item = Json>>(values: I) -> Json {
        Json::Array(values.into_iter().collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Bool(truth) => write!(f, "{truth}"),
            Json::Count(count) => write!(f, "{count}"),
            // Never with an exponent, and no longer than it must be to be read as the same number.
            Json::Number(number) if number.is_finite() => write!(f, "{number}"),
            Json::Null | Json::Number(_) => f.write_str("null"),
            Json::Text(text) => write_text(text, f),
            Json::Array(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
            Json::Object(fields) => {
                f.write_char('{')?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(name, f)?;
                    f.write_char(':')?;
                    value.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if is_unsafe(c) => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// What must be escaped (RFC 8259 §7), what a terminal obeys, and what ends a line or turns its direction. All of it has four
/// hexadecimal digits.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_their_grammar_has_them() {
        let rows = [
            (Json::Null, "null"),
            (None::<u64>.into(), "null"),
            (true.into(), "true"),
            (u64::MAX.into(), "18446744073709551615"),
            (8.1.into(), "8.1"),
            (96.0.into(), "96"),
            (1e21.into(), "1000000000000000000000"),
            (f64::NAN.into(), "null"),
            (f64::INFINITY.into(), "null"),
            ("".into(), r#""""#),
            ("it's <b>é</b>".into(), r#""it's <b>é</b>""#),
            ("\"\\".into(), r#""\"\\""#),
            ("a\nb\0\u{1b}[2J\u{7f}\u{9b}".into(), r#""a\u000ab\u0000\u001b[2J\u007f\u009b""#),
            ("\u{2028}\u{202e}\u{10ffff}".into(), "\"\\u2028\\u202e\u{10ffff}\""),
            (Json::from_iter([]), "[]"),
            (Json::object([]), "{}"),
            (
                Json::object([("a", Some(1_u64).into()), ("b", Json::from_iter(["x".into(), Json::Null]))]),
                r#"{"a":1,"b":["x",null]}"#,
            ),
        ];
        for (value, expected) in rows {
            assert_eq!(value.to_string(), expected);
        }
    }
}
