//! Text from outside, made safe to show. Knows nothing of where it came from, nor of where it is shown.

use std::fmt::{self, Write};
use std::path::Path;

/// Length of an excerpt, in characters. Enough to recognise a text; a whole body can't flood the log.
const SHOWN_MAX: usize = 100;

/// Shows a text from outside: escaped, so that it stays on its line, and cut if it is long.
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cut(self.0, SHOWN_MAX, f, |text, f| text.escape_debug().fmt(f))
    }
}

/// Quotes a bad text and says what would be right, as every error about one value reads.
pub(crate) fn bad(text: &str, reason: impl fmt::Display) -> String {
    format!("'{}': {reason}", Excerpt(text))
}

/// Length of a shown target, in characters: more than is ever read, less than floods a disk.
const TARGET_SHOWN_MAX: usize = 1024;

/// Shows the target of a request, like [`Excerpt`], but cut only where it is very long.
#[derive(Debug, Clone, Copy)]
pub struct ShownTarget<'a>(pub &'a str);

impl fmt::Display for ShownTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cut(self.0, TARGET_SHOWN_MAX, f, |text, f| text.escape_debug().fmt(f))
    }
}

/// Shows a line of text from outside whole: everything that could move a terminal's cursor, end the line or reverse its
/// direction is escaped, but not its quotation marks and apostrophes.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\'' => f.write_char(c),
            c => c.escape_debug().fmt(f),
        })
    }
}

/// Shows a path whole, as [`Printable`] does.
pub(crate) fn shown_path(path: &Path) -> String {
    Printable(&path.to_string_lossy()).to_string()
}

/// Length of a shown reason, in characters: the longest sentence of ours, with a few names of a certificate in it.
const REASON_SHOWN_MAX: usize = 400;

/// Shows a sentence that may quote text from outside, like [`Printable`], and cut if it is long.
#[derive(Debug, Clone, Copy)]
pub struct Reason<'a>(pub &'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cut(self.0, REASON_SHOWN_MAX, f, |text, f| Printable(text).fmt(f))
    }
}

/// Shows at most N characters of a text.
fn cut(
    text: &str,
    shown_max: usize,
    f: &mut fmt::Formatter<'_>,
    show: impl Fn(&str, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    let Some((end, _)) = text.char_indices().nth(shown_max) else { return show(text, f) };
    show(&text[..end], f)?;
    f.write_char('…')
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
            ("it isn't \"a\"", "it isn't \"a\""),
            ("a\\n", "a\\\\n"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\0"),
            ("\u{1b}[2J\u{9b}2J\u{7f}", "\\u{1b}[2J\\u{9b}2J\\u{7f}"),
            ("a\u{85}\u{2028}\u{202e}b", "a\\u{85}\\u{2028}\\u{202e}b"),
            ("bücher", "bücher"),
        ];
        for (text, expected) in rows {
            assert_eq!(Printable(text).to_string(), expected);
            assert_eq!(Reason(text).to_string(), expected);
        }
        assert_eq!(Printable(&"é".repeat(1000)).to_string(), "é".repeat(1000));
        let (whole, long) = ("é".repeat(REASON_SHOWN_MAX), "é".repeat(REASON_SHOWN_MAX + 1));
        assert_eq!((Reason(&whole).to_string(), Reason(&long).to_string()), (whole.clone(), whole + "…"));
    }

    #[test]
    fn a_long_text_is_cut() {
        let rows = [("é".repeat(100), "é".repeat(100)), ("é".repeat(101), "é".repeat(100) + "…")];
        for (text, expected) in rows {
            assert_eq!(Excerpt(&text).to_string(), expected);
        }
    }
}
