//! What the lines look like, by where they go: to a terminal, to systemd, or to anything else.

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use log::Level;

use crate::config::LogFormat;

/// The look of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) format: LogFormat,
    pub(super) paint: Paint,
    /// Whether each line begins with its priority (sd-daemon(3)), which systemd takes off.
    pub(super) has_priority: bool,
}

/// What a terminal adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    pub(super) is_terminal: bool,
    pub(super) has_colours: bool,
}

impl Style {
    /// The look for this process's standard error.
    pub(super) fn of_stderr(format: LogFormat) -> Style {
        let is_terminal = std::io::stderr().is_terminal();
        let device = || std::fs::metadata("/proc/self/fd/2").ok().map(|file| (file.dev(), file.ino()));
        Style::of(format, is_terminal, device, |name| std::env::var_os(name))
    }

    fn of(
        format: LogFormat,
        is_terminal: bool,
        stderr: impl FnOnce() -> Option<(u64, u64)>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Style {
        let is_set = |name| env(name).is_some_and(|value| !value.is_empty());
        let is_text = is_terminal && format == LogFormat::Text;
        let has_colours = is_text && !is_set("NO_COLOR") && env("TERM").is_some_and(|term| term != "dumb");
        // Set for the whole unit: it says whether this descriptor still leads to its log. Without it nothing takes the priority off.
        let has_priority = env("JOURNAL_STREAM")
            .is_some_and(|stream| stderr().is_some_and(|(device, inode)| stream == *format!("{device}:{inode}")));
        Style { format, paint: Paint { is_terminal: is_text, has_colours }, has_priority }
    }
}

/// The number of syslog's for a level.
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A text in a colour, by its number of ECMA-48's, where there are colours.
pub(super) struct Painted<T>(Option<u8>, T);

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(colour) => write!(f, "\u{1b}[{colour}m{}\u{1b}[0m", self.1),
            None => self.1.fmt(f),
        }
    }
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const DIM: u8 = 2;

impl Paint {
    /// As in a pipe.
    pub(super) const NONE: Paint = Paint { is_terminal: false, has_colours: false };

    fn paint<T>(self, colour: u8, text: T) -> Painted<T> {
        Painted(self.has_colours.then_some(colour), text)
    }

    pub(super) fn status(self, status: u16) -> Painted<u16> {
        let colour = match status {
            ..400 => GREEN,
            400..500 => YELLOW,
            500.. => RED,
        };
        self.paint(colour, status)
    }

    /// A backend's name.
    pub(super) fn leg(self, name: &str, has_won: bool) -> Painted<&str> {
        self.paint(if has_won { GREEN } else { DIM }, name)
    }

    pub(super) fn level(self, level: Level) -> Painted<String> {
        let colour = match level {
            Level::Error => RED,
            Level::Warn => YELLOW,
            Level::Info => GREEN,
            Level::Debug | Level::Trace => DIM,
        };
        self.paint(colour, format!("{level:<5}"))
    }

    /// What is there to be found, not to be read.
    pub(super) fn aside<T>(self, text: T) -> Painted<T> {
        self.paint(DIM, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(format: LogFormat, is_terminal: bool, env: &[(&str, &str)]) -> Style {
        let found = |name: &str| env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Style::of(format, is_terminal, || Some((8, 1234)), found)
    }

    #[test]
    fn lines_for_the_journal_carry_their_priority() {
        let rows: [(&str, bool, &[(&str, &str)], bool); 6] = [
            ("a pipe", false, &[], false),
            ("the journal", false, &[("JOURNAL_STREAM", "8:1234")], true),
            ("a file, though the unit has a journal", false, &[("JOURNAL_STREAM", "8:1235")], false),
            (
                "the same, of a service that tells its start",
                false,
                &[("JOURNAL_STREAM", "8:1235"), ("NOTIFY_SOCKET", "/run/x")],
                false,
            ),
            // Was seen as: `<6>` before each line of a file, none of which was JSON any more.
            ("a supervisor without a journal", false, &[("NOTIFY_SOCKET", "/run/x")], false),
            ("a terminal", true, &[("NOTIFY_SOCKET", "/run/x")], false),
        ];
        for (label, is_terminal, env, expected) in rows {
            for format in [LogFormat::Text, LogFormat::Json] {
                assert_eq!(style(format, is_terminal, env).has_priority, expected, "{label}");
            }
        }
    }

    #[test]
    fn a_terminal_has_colours_unless_told_otherwise() {
        let rows: [(&str, LogFormat, bool, &[(&str, &str)], bool); 6] = [
            ("a terminal", LogFormat::Text, true, &[("TERM", "xterm")], true),
            ("an empty variable", LogFormat::Text, true, &[("TERM", "xterm"), ("NO_COLOR", "")], true),
            ("one that asks for none", LogFormat::Text, true, &[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            ("one that has none", LogFormat::Text, true, &[("TERM", "dumb")], false),
            ("JSON", LogFormat::Json, true, &[("TERM", "xterm")], false),
            ("a pipe", LogFormat::Text, false, &[("TERM", "xterm")], false),
        ];
        for (label, format, is_terminal, env, expected) in rows {
            assert_eq!(style(format, is_terminal, env).paint.has_colours, expected, "{label}");
        }
    }
}
