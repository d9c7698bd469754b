//! Text from outside, made safe to show. Knows nothing of where it came from, nor of who reads it.

use std::fmt;

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
    fn a_long_text_is_cut() {
        let rows = [("é".repeat(100), "é".repeat(100)), ("é".repeat(101), "é".repeat(100) + "…")];
        for (text, expected) in rows {
            assert_eq!(Excerpt(&text).to_string(), expected);
        }
    }
}
