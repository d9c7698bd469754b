//! Writes the lines, each by one system call, in the look that standard error is to have. A closed or failing standard error
//! costs the lines alone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{LevelFilter, Log, Record};
use simple_logger::SimpleLogger;

use super::json;
use super::line::{Kind, Line};
use super::style::{Style, priority};
use crate::config::LogFormat;
use crate::message::Timestamp;

/// The writer of all lines.
pub(super) struct Writer {
    style: Style,
    /// Writes what is neither about an exchange nor for a reader of its own.
    plain: SimpleLogger,
    /// The list of backends that a terminal has shown last.
    list: String,
}

impl Writer {
    pub(super) fn new(style: Style) -> Writer {
        let plain = SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps();
        Writer { style, plain, list: String::new() }
    }

    /// Writes a line, or loses it. Gives whether it is written. Blocks as long as standard error does.
    pub(super) fn try_write(&mut self, line: &Line) -> bool {
        let Style { format, paint, has_priority } = self.style;
        if format == LogFormat::Text && line.kind == Kind::Plain && !has_priority && !paint.is_terminal {
            return self.write_plain(line);
        }
        let text = self.shown(line) + "\n";
        std::io::stderr().write_all(text.as_bytes()).is_ok()
    }

    fn write_plain(&self, line: &Line) -> bool {
        // simple_logger panics where standard error is closed, or full.
        let written = catch_unwind(AssertUnwindSafe(|| {
            let mut record = Record::builder();
            let record = record.level(line.level).target(&line.target);
            self.plain.log(&record.args(format_args!("{}", line.text)).build());
        }));
        written.is_ok()
    }

    fn shown(&mut self, line: &Line) -> String {
        let mut shown = String::with_capacity(line.text.len() + 64);
        if self.style.has_priority {
            let _ = write!(shown, "<{}>", priority(line.level));
        }
        if line.kind == Kind::Object {
            shown.push_str(&line.text);
            return shown;
        }
        if self.style.format == LogFormat::Json {
            shown.push_str(&json::other(line.level, &line.target, &line.text, line.at));
            return shown;
        }
        let paint = self.style.paint;
        let (time, level) = (paint.aside(Timestamp(line.at)), paint.level(line.level));
        let _ = write!(shown, "{time} {level} [{}] ", paint.aside(&line.target));
        match &line.kind {
            Kind::Exchange(list) if paint.is_terminal && !self.note_list(&line.text, list) => {
                shown.push_str(&line.text[..list.start]);
                shown.push_str(&line.text[list.end..]);
            }
            _ => shown.push_str(&line.text),
        }
        shown
    }

    /// Remembers the list of backends in the line, and gives whether it is another one than in the line before. Replies without a
    /// race have none.
    fn note_list(&mut self, text: &str, list: &Range<usize>) -> bool {
        let list = &text[list.clone()];
        if list.is_empty() || *list == *self.list {
            return false;
        }
        list.clone_into(&mut self.list);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use log::Level;

    use super::*;
    use crate::access_log::style::Paint;

    fn line(level: Level, text: &str, kind: Kind) -> Line {
        Line { level, target: "red_tentacle::x".into(), text: text.to_owned(), at: SystemTime::UNIX_EPOCH, kind }
    }

    fn writer(format: LogFormat, paint: Paint, has_priority: bool) -> Writer {
        Writer::new(Style { format, paint, has_priority })
    }

    const AT: &str = "1970-01-01T00:00:00.000Z";

    #[test]
    fn each_reader_gets_its_look() {
        let terminal = Paint { is_terminal: true, has_colours: false };
        let warning = line(Level::Warn, "a\u{1b}", Kind::Plain);
        let rows = [
            (writer(LogFormat::Text, Paint::NONE, true), format!("<4>{AT} WARN  [red_tentacle::x] a\u{1b}")),
            (writer(LogFormat::Text, terminal, false), format!("{AT} WARN  [red_tentacle::x] a\u{1b}")),
            (
                writer(LogFormat::Json, Paint::NONE, false),
                format!("{{\"ts\":\"{AT}\",\"level\":\"WARN\",\"target\":\"red_tentacle::x\",\"msg\":\"a\\u001b\"}}"),
            ),
        ];
        for (mut writer, expected) in rows {
            assert_eq!(writer.shown(&warning), expected);
        }
        let object = line(Level::Info, "{}", Kind::Object);
        assert_eq!(writer(LogFormat::Json, Paint::NONE, false).shown(&object), "{}");
        assert_eq!(writer(LogFormat::Json, Paint::NONE, true).shown(&object), "<6>{}");
    }

    #[test]
    fn a_terminal_shows_the_list_when_it_has_changed() {
        let mut writer = writer(LogFormat::Text, Paint { is_terminal: true, has_colours: false }, false);
        let mut shown = |text: &str| {
            let list = text.find(" [").unwrap_or(text.len())..text.find(']').map_or(text.len(), |at| at + 1);
            let shown = writer.shown(&line(Level::Info, text, Kind::Exchange(list)));
            shown.split_once("::x] ").expect("a target").1.to_owned()
        };
        assert_eq!(shown("b1=200 [b1 a] for c"), "b1=200 [b1 a] for c");
        assert_eq!(shown("b1=200 [b1 a] for d"), "b1=200 for d");
        assert_eq!(shown("an update"), "an update");
        assert_eq!(shown("b1=200 [b1 e] for d"), "b1=200 [b1 e] for d");
        assert_eq!(shown("b1=503 [b1 e] for d"), "b1=503 for d");
    }

    #[test]
    fn colours_are_around_what_they_are_for() {
        let colours = Paint { is_terminal: true, has_colours: true };
        let shown = writer(LogFormat::Text, colours, false).shown(&line(Level::Warn, "a", Kind::Plain));
        assert_eq!(
            shown,
            format!("\u{1b}[2m{AT}\u{1b}[0m \u{1b}[33mWARN \u{1b}[0m [\u{1b}[2mred_tentacle::x\u{1b}[0m] a")
        );
    }
}
