//! Writes HTML: the one place where text from outside is escaped for it. Knows nothing of what is written.

use std::fmt::{self, Display, Write};
use std::time::Duration;

/// A document, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// Text from outside, safe between tags and within quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Html {
    /// Appends markup. What it shows of a text from outside is [`Escaped`].
    pub(super) fn put(&mut self, markup: fmt::Arguments) {
        self.0.write_fmt(markup).expect("a string takes all");
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What could turn the direction of a line, or move it, is shown as a mark.
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}')?,
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number with its thousands apart: `1,240`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as an operator reads it: `0.15 ms`, `3.1 ms`, `31 ms`, `1.2 s`, `96 s`, `3 min`, `5 h`, `2 d`.
pub(super) fn spoken(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs_f64(), duration.as_secs_f64() * 1000.0);
    match duration.as_secs() {
        0 if millis < 0.995 => format!("{millis:.2} ms"),
        0 if millis < 9.95 => format!("{millis:.1} ms"),
        0 => format!("{millis:.0} ms"),
        1..10 => format!("{seconds:.1} s"),
        10..120 => format!("{seconds:.0} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86400),
    }
}

/// A duration, or a dash.
pub(super) fn spoken_or_dash(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "–".to_owned(), spoken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let shown = Escaped("\"><script>alert('1')</script>&\u{202e}\u{7}").to_string();
        assert_eq!(shown, "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\u{fffd}\u{fffd}");
    }

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let times =
            [0, 150, 994, 996, 3_100, 31_000, 1_200_000, 96_000_000, 200_000_000, 20_000_000_000, 200_000_000_000];
        let spoken = times.map(|micros| spoken(Duration::from_micros(micros)));
        assert_eq!(
            spoken,
            ["0.00 ms", "0.15 ms", "0.99 ms", "1.0 ms", "3.1 ms", "31 ms", "1.2 s", "96 s", "3 min", "5 h", "2 d"]
        );
    }
}
