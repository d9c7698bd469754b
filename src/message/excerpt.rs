//! Text from outside, made safe to show. Knows nothing of where it came from, nor of who reads it.

use std::fmt::{self, Write};

/// How much of a text is shown, in characters. Enough to recognise it; a whole body can't flood the log.
const SHOWN_MAX: usize = 100;

/// Shows a text from outside: escaped, so that it stays on its line, and cut if it is long.
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => write!(f, "{}…", self.0[..end].escape_debug()),
            None => self.0.escape_debug().fmt(f),
        }
    }
}

/// Shows a line of text from outside whole: what could move a terminal's cursor, end the line or turn its direction is escaped,
/// and quotes stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\'' | '\\' => f.write_char(c),
            c => c.escape_debug().fmt(f),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_on_its_line() {
        let rows = [
            ("", ""),
            ("http://a", "http://a"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("it's", "it\\'s"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("bücher", "bücher"),
        ];
        for (text, expected) in rows {
            assert_eq!(Excerpt(text).to_string(), expected);
        }
    }

    #[test]
    fn a_line_from_outside_is_shown_whole_and_moves_no_cursor() {
        let rows = [
            ("", ""),
            ("b1 http://a/it's", "b1 http://a/it's"),
            ("\"a\\b\"", "\"a\\b\""),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\0"),
            ("\u{1b}[2J\u{9b}2J\u{7f}", "\\u{1b}[2J\\u{9b}2J\\u{7f}"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
            ("bücher", "bücher"),
        ];
        for (text, expected) in rows {
            assert_eq!(Printable(text).to_string(), expected);
        }
        assert_eq!(Printable(&"é".repeat(1000)).to_string(), "é".repeat(1000));
    }

    #[test]
    fn a_long_text_is_cut() {
        let rows = [("é".repeat(100), "é".repeat(100)), ("é".repeat(101), "é".repeat(100) + "…")];
        for (text, expected) in rows {
            assert_eq!(Excerpt(&text).to_string(), expected);
        }
    }
}
