//! The options behind a backend's URL in a list. Knows nothing of addresses.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{After, Excerpt, LocalOptions, nearest, parse_duration, show_duration, unix_path};

/// The longest name, in bytes: it stands in each line of the log.
const NAME_BYTES_MAX: usize = 32;
/// All options.
const OPTIONS: [&str; 11] =
    ["name", "after", "timeout", "each", "exact", "socket", "header-file", "ca", "cert", "insecure", "paused"];

/// What a list says of a backend. The default says nothing. `Display` writes a blank before each option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryOptions {
    /// Its name; without one it is named by its place, `b1`.
    pub name: Option<String>,
    /// When its leg starts; without that, with the race.
    pub after: Option<After>,
    /// What takes the place of the common timeout; never zero.
    pub timeout: Option<Duration>,
    /// Whether it sits races out.
    pub is_paused: bool,
    /// Whether every address of its name is a backend.
    pub is_each: bool,
    /// Whether a request for `/` goes to its URL's path as it is, without a slash behind it.
    pub is_exact: bool,
    /// The Unix socket at which it is reached, in place of its URL's host and port.
    pub socket: Option<PathBuf>,
    /// What only a file, a flag or the environment may say.
    pub local: LocalOptions,
}

impl EntryOptions {
    /// Whether there is an option of this name.
    pub fn has(option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    /// Reads options, each in any place and at most once.
    pub(super) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<EntryOptions, String> {
        let mut options = EntryOptions::default();
        for text in texts {
            let (option, value) = text.split_once('=').map_or((text, None), |(option, value)| (option, Some(value)));
            let was_given = match (option, value) {
                ("name", Some(name)) => options.name.replace(checked_name(name)?).is_some(),
                ("after", Some(value)) => options.after.replace(After::parse(value)?).is_some(),
                ("timeout", Some(value)) => options.timeout.replace(checked_timeout(value)?).is_some(),
                ("name", None) => return Err("'name' has no value; write name=dc1".to_owned()),
                ("after", None) => return Err("'after' has no value; write after=200ms or after=p95".to_owned()),
                ("timeout", None) => return Err("'timeout' has no value; write timeout=1s".to_owned()),
                ("socket", Some(path)) => options.socket.replace(checked_socket(path)?).is_some(),
                ("socket", None) => return Err("'socket' has no value; write socket=/run/app.sock".to_owned()),
                ("paused", None) => std::mem::replace(&mut options.is_paused, true),
                ("each", None) => std::mem::replace(&mut options.is_each, true),
                ("exact", None) => std::mem::replace(&mut options.is_exact, true),
                ("paused" | "each" | "exact", Some(_)) => {
                    return Err(format!("'{option}' takes no value; write it alone, or leave it out"));
                }
                _ => match options.local.take(option, value) {
                    Some(taken) => taken?,
                    None => return Err(unknown(option)),
                },
            };
            if was_given {
                return Err(format!("'{option}' is given twice"));
            }
        }
        Ok(options)
    }

    /// These options, and for those that aren't named here what others say.
    #[must_use]
    pub fn or(self, others: &EntryOptions) -> EntryOptions {
        EntryOptions {
            name: self.name.or_else(|| others.name.clone()),
            after: self.after.or(others.after),
            timeout: self.timeout.or(others.timeout),
            is_paused: self.is_paused || others.is_paused,
            is_each: self.is_each || others.is_each,
            is_exact: self.is_exact || others.is_exact,
            socket: self.socket.or_else(|| others.socket.clone()),
            local: if self.local == LocalOptions::default() { others.local.clone() } else { self.local },
        }
    }
}

impl fmt::Display for EntryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, " name={name}")?;
        }
        if let Some(after) = self.after {
            write!(f, " after={after}")?;
        }
        if let Some(timeout) = self.timeout {
            write!(f, " timeout={}", show_duration(timeout))?;
        }
        f.write_str(if self.is_each { " each" } else { "" })?;
        f.write_str(if self.is_exact { " exact" } else { "" })?;
        if let Some(socket) = &self.socket {
            write!(f, " socket={}", socket.display())?;
        }
        self.local.fmt(f)?;
        f.write_str(if self.is_paused { " paused" } else { "" })
    }
}

fn unknown(option: &str) -> String {
    let hint = match nearest(option, OPTIONS) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", OPTIONS.join(", ")),
    };
    format!("no option '{}'; {hint}", Excerpt(option))
}

fn checked_timeout(value: &str) -> Result<Duration, String> {
    match parse_duration(value) {
        Ok(Duration::ZERO) => Err("'timeout=0s': no answer can come in no time; write timeout=1s, say".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(reason) => Err(format!("timeout={reason}")),
    }
}

fn checked_socket(path: &str) -> Result<PathBuf, String> {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    unix_path(path).ok().filter(|_| is_plain).ok_or_else(|| {
        format!(
            "no socket '{}'; write the path from the root, at most 107 plain bytes: socket=/run/app.sock",
            Excerpt(path)
        )
    })
}

fn checked_name(name: &str) -> Result<String, String> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_of_name) {
        return Err(format!(
            "no name '{}'; write 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, '.', '_' and '-'",
            Excerpt(name)
        ));
    }
    let is_place =
        name.strip_prefix('b').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty());
    if is_place {
        return Err(format!("no name '{name}': b and a number is what backends without a name are called"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        EntryOptions::parse(text.split_whitespace()).map(|options| options.to_string())
    }

    #[test]
    fn an_option_is_good_or_has_its_reason() {
        let long = format!("name={}", "x".repeat(32));
        let too_long = format!("{long}x");
        let rows = [
            ("", ""),
            ("paused", " paused"),
            ("name=dc1", " name=dc1"),
            ("paused name=A.b_c-9", " name=A.b_c-9 paused"),
            ("name=b", " name=b"),
            ("name=b1x", " name=b1x"),
            ("name=B1", " name=B1"),
            ("after=200ms", " after=200ms"),
            ("after=0s", " after=0s"),
            ("after=1.5s", " after=1500ms"),
            ("after=p50", " after=p50"),
            ("paused timeout=2s after=p99..1m name=x", " name=x after=p99..60s timeout=2s paused"),
            ("timeout=24h", " timeout=86400s"),
            ("socket=/run/app.sock paused name=a", " name=a socket=/run/app.sock paused"),
            ("paused each timeout=1s", " timeout=1s each paused"),
            ("exact socket=/run/a each", " each exact socket=/run/a"),
            ("insecure cert=/c ca=/a header-file=/h", " header-file=/h ca=/a cert=/c insecure"),
            (&long, &format!(" {long}")),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), Ok(expected.to_owned()), "{text}");
        }
        let rows = [
            ("name", "'name' has no value; write name=dc1"),
            ("name=", "no name ''; write 1 to 32 of A-Z, a-z, 0-9, '.', '_' and '-'"),
            ("name=é", "no name 'é'; write 1 to 32"),
            (&too_long, "no name 'xxxxx"),
            ("name=b12", "no name 'b12': b and a number is what backends without a name are called"),
            ("name=a name=b", "'name' is given twice"),
            ("paused paused", "'paused' is given twice"),
            ("socket", "'socket' has no value; write socket=/run/app.sock"),
            ("socket=app.sock", "no socket 'app.sock'; write the path from the root"),
            ("socket=/a socket=/b", "'socket' is given twice"),
            ("sockets=/a", "no option 'sockets'; did you mean 'socket'?"),
            ("each=on", "'each' takes no value; write it alone, or leave it out"),
            ("each each", "'each' is given twice"),
            ("exact=on", "'exact' takes no value; write it alone, or leave it out"),
            ("exact exact", "'exact' is given twice"),
            ("exakt", "no option 'exakt'; did you mean 'exact'?"),
            ("eahc", "no option 'eahc'; did you mean 'each'?"),
            ("paused=off", "'paused' takes no value; write it alone, or leave it out"),
            ("Paused", "no option 'Paused'; did you mean 'paused'?"),
            ("after", "'after' has no value; write after=200ms or after=p95"),
            ("after=", "'after=': write a duration (200ms), p50 to p99, or p95..500ms"),
            ("after=5", "'after=5': write a duration (200ms), p50 to p99, or p95..500ms"),
            ("after=p101", "'after=p101': write a duration (200ms), p50 to p99, or p95..500ms"),
            ("after=p49", "'after=p49': write"),
            ("after=p+5", "'after=p+5': write"),
            ("after=p095", "'after=p095': write"),
            ("after=p95..", "'after=p95..': write"),
            ("after=p95..0s", "'after=p95..0s': write"),
            ("after=p95..25h", "'after=p95..25h': write"),
            ("after=1s after=1s", "'after' is given twice"),
            ("timeout", "'timeout' has no value; write timeout=1s"),
            ("timeout=0ms", "'timeout=0s': no answer can come in no time; write timeout=1s, say"),
            ("timeout=x", "timeout='x': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
            ("timeout=25h", "timeout='25h': longer than a day; write at most 24h"),
            ("timeout=1s timeout=2s", "'timeout' is given twice"),
            ("ca", "'ca' has no value; write ca=/etc/red-tentacle/ca, say"),
            ("cert=", "'cert' has no value; write"),
            ("header-file='x'", "'header-file=\\'x\\'': a path without quotes"),
            ("ca=/a ca=/b", "'ca' is given twice"),
            ("insecure insecure", "'insecure' is given twice"),
            ("insecure=on", "'insecure' takes no value; write it alone, or leave it out"),
            (
                "weight=3",
                "no option 'weight'; there are name, after, timeout, each, exact, socket, header-file, ca, cert, insecure, paused",
            ),
            (
                "=",
                "no option ''; there are name, after, timeout, each, exact, socket, header-file, ca, cert, insecure, paused",
            ),
        ];
        for (text, expected) in rows {
            let reason = parse(text).expect_err(text);
            assert!(reason.starts_with(expected), "{text}: {reason}");
        }
    }
}
