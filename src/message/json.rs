//! Text as JSON (RFC 8259). Knows nothing of what it tells.

use std::fmt::{Display, Write};

use super::excerpt::is_printable;

/// An object that is being written to a text, member by member.
pub struct JsonObject<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> JsonObject<'a> {
    /// Begins an object.
    pub fn begin(out: &'a mut String) -> JsonObject<'a> {
        out.push('{');
        JsonObject { out, is_empty: true }
    }

    /// Begins a member; its value is to be appended to the text that is given. The name needs no escaping.
    pub fn member(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        let _ = write!(self.out, "\"{name}\":");
        self.out
    }

    /// Adds a string, cut to that many bytes.
    pub fn text(&mut self, name: &str, value: &str, bytes_max: usize) {
        put_string(self.member(name), value, bytes_max);
    }

    /// Adds what needs no quotation marks: a number, say.
    pub fn bare(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.member(name), "{value}");
    }

    /// Ends it.
    pub fn end(self) {
        self.out.push('}');
    }
}

/// Appends a string. Escaped are quotation marks, backslashes, and all that can't be printed: control characters, separators of
/// lines, marks that turn text round. It is cut where it would have more bytes than these between its quotation marks, and the
/// mark of that is added.
pub fn put_string(out: &mut String, text: &str, bytes_max: usize) {
    out.push('"');
    let begin = out.len();
    for c in text.chars() {
        let before = out.len();
        put_char(out, c);
        if out.len() - begin > bytes_max {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out.push('"');
}

fn put_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_printable(c) => out.push(c),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str, bytes_max: usize) -> String {
        let mut out = String::new();
        put_string(&mut out, text, bytes_max);
        out
    }

    #[test]
    fn a_string_shows_nothing_that_could_end_it_or_move_a_cursor() {
        let rows = [
            ("", "\"\""),
            ("it's", "\"it's\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\r\n\tb", r#""a\r\n\tb""#),
            ("\0\u{1b}\u{7f}\u{9b}", r#""\u0000\u001b\u007f\u009b""#),
            ("\u{2028}\u{202e}\u{feff}", r#""\u2028\u202e\ufeff""#),
            ("bücher 🐙", "\"bücher 🐙\""),
            ("\u{e0001}", r#""\udb40\udc01""#),
        ];
        for (text, expected) in rows {
            assert_eq!(string(text, 1000), expected);
        }
    }

    #[test]
    fn a_long_string_is_cut_between_characters() {
        let rows = [("abc", 3, "\"abc\""), ("abcd", 3, "\"abc…\""), ("a\nb", 2, "\"a…\""), ("éé", 3, "\"é…\"")];
        for (text, bytes_max, expected) in rows {
            assert_eq!(string(text, bytes_max), expected);
        }
    }

    #[test]
    fn an_object_has_its_members_in_order() {
        let mut out = String::new();
        let mut object = JsonObject::begin(&mut out);
        object.text("a", "b\"", 10);
        object.bare("c", 1.5);
        object.member("d").push_str("[]");
        object.end();
        JsonObject::begin(&mut out).end();
        assert_eq!(out, r#"{"a":"b\"","c":1.5,"d":[]}{}"#);
    }
}
