//! The options behind a backend's URL in a list. Knows nothing of addresses.

use std::fmt;
use std::path::PathBuf;

use super::{Excerpt, nearest, unix_path};

/// The longest name, in bytes: it stands in each line of the log.
const NAME_BYTES_MAX: usize = 32;

/// What a list says of a backend. The default says nothing. `Display` writes a blank before each option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryOptions {
    /// Its name; without one it is named by its place, `b1`.
    pub name: Option<String>,
    /// Whether it sits races out.
    pub is_paused: bool,
    /// The Unix socket at which it is reached, in place of its URL's host and port.
    pub socket: Option<PathBuf>,
}

impl EntryOptions {
    /// Reads options, each in any place and at most once.
    pub(super) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<EntryOptions, String> {
        let mut options = EntryOptions::default();
        for text in texts {
            let (option, value) = text.split_once('=').map_or((text, None), |(option, value)| (option, Some(value)));
            let was_given = match (option, value) {
                ("name", Some(name)) => options.name.replace(checked_name(name)?).is_some(),
                ("name", None) => return Err("'name' has no value; write name=dc1".to_owned()),
                ("socket", Some(path)) => options.socket.replace(checked_socket(path)?).is_some(),
                ("socket", None) => return Err("'socket' has no value; write socket=/run/app.sock".to_owned()),
                ("paused", None) => std::mem::replace(&mut options.is_paused, true),
                ("paused", Some(_)) => {
                    return Err("'paused' takes no value; write it alone, or leave it out".to_owned());
                }
                _ => return Err(unknown(option)),
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
            is_paused: self.is_paused || others.is_paused,
            socket: self.socket.or_else(|| others.socket.clone()),
        }
    }
}

impl fmt::Display for EntryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, " name={name}")?;
        }
        if let Some(socket) = &self.socket {
            write!(f, " socket={}", socket.display())?;
        }
        f.write_str(if self.is_paused { " paused" } else { "" })
    }
}

fn unknown(option: &str) -> String {
    let hint = match nearest(option, ["name", "paused", "socket"]) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "there are name=NAME, paused and socket=PATH".to_owned(),
    };
    format!("no option '{}'; {hint}", Excerpt(option))
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
            ("socket=/run/app.sock paused name=a", " name=a socket=/run/app.sock paused"),
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
            ("paused=off", "'paused' takes no value; write it alone, or leave it out"),
            ("Paused", "no option 'Paused'; did you mean 'paused'?"),
            ("weight=3", "no option 'weight'; there are name=NAME, paused and socket=PATH"),
            ("=", "no option ''; there are name=NAME, paused and socket=PATH"),
        ];
        for (text, expected) in rows {
            let reason = parse(text).expect_err(text);
            assert!(reason.starts_with(expected), "{text}: {reason}");
        }
    }
}
