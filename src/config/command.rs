//! Reads the command line and the environment by the table of flags: for each flag the text in effect and where it came
//! from, or the one line that says what is wrong. Knows nothing of what the texts mean.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::flags::flag::Flag;
use super::flags::{GROUPS, all};
use super::invocation::{Invocation, fail};
use crate::message::{EntryOptions, Excerpt};

const ABOUT: &str = "Red Tentacle, a first-success reverse proxy: every backend gets the request, \
                     the first good answer goes to the client";

const USAGE: &str = "red-tentacle --backends URL,... [FLAGS]\n       red-tentacle --demo\n       \
                     red-tentacle --backends URL,... --try PATH\n       \
                     red-tentacle --health [URL]\n       red-tentacle --update URL,...|CHANGE [--admin URL]";

const NOTES: &str = "A flag beats its environment variable, which beats the default.\n\
                     DURATION: 500ms, 1.5s, 5s, 1m30s, 1h. SIZE: 512B, 16KiB, 10MiB, 1GiB; 10M and 10MB are 10MiB, too.\n\
                     URL,... with options, divided by commas or lines: 'http://a name=dc1, http://b name=dc2 paused'.\n\
                     ADDRESS: 127.0.0.1:8080, [::1]:8080, localhost:8080; :8080 or 8080 for every address of this host; \
                     unix:/run/x.sock.";

/// The text in effect for every flag that was given somewhere.
pub(super) struct Given(Vec<(&'static Flag, Value)>);

struct Value {
    text: String,
    by_flag: bool,
}

impl Given {
    /// Reads a command line, program name first, and what it leaves out from the environment.
    pub(super) fn read(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Given, Invocation> {
        let mut matches = command().try_get_matches_from(args).map_err(|error| told(&error))?;
        let mut given = Vec::new();
        for flag in all() {
            // A variable that is set to nothing is what a template makes of one that isn't set.
            let variable = env(flag.env).filter(|raw| !raw.is_empty());
            let (by_flag, raw) = match (taken(flag, &mut matches), variable) {
                (Some(raw), _) => (true, raw),
                (None, Some(raw)) => (false, raw),
                (None, None) => continue,
            };
            let text = raw.into_string().map_err(|raw| {
                let shown = raw.to_string_lossy();
                fail(format_args!("{} '{}': not UTF-8", origin(flag, by_flag), Excerpt(&shown)))
            })?;
            given.push((flag, Value { text, by_flag }));
        }
        Ok(Given(given))
    }

    /// The flags that were given somewhere, with their texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Flag, &str)> {
        self.0.iter().map(|(flag, value)| (*flag, value.text.as_str()))
    }

    /// Whether the flag was given somewhere.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.name == name)
    }

    /// Whether the flag stands on the command line.
    pub(super) fn by_flag(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, value)| flag.name == name && value.by_flag)
    }

    /// The culprit to name for a flag's value: the flag itself, unless the value came from the environment.
    pub(super) fn culprit(&self, name: &str) -> String {
        match self.0.iter().find(|(flag, _)| flag.name == name) {
            Some((flag, value)) => origin(flag, value.by_flag),
            None => format!("--{name}"),
        }
    }
}

fn origin(flag: &Flag, by_flag: bool) -> String {
    if by_flag { format!("--{}", flag.name) } else { flag.env.to_owned() }
}

fn taken(flag: &Flag, matches: &mut ArgMatches) -> Option<OsString> {
    if flag.value.is_empty() {
        return matches.get_flag(flag.name).then(|| "on".into());
    }
    if flag.is_repeated() {
        let all: Vec<OsString> = matches.remove_many(flag.name)?.collect();
        return Some(all.join(OsStr::new("\n")));
    }
    matches.remove_one(flag.name)
}

/// The command line as clap knows it, from which the man page and the completions are written.
pub fn command() -> Command {
    let command = Command::new("red-tentacle")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .override_usage(USAGE)
        .after_help(NOTES)
        .next_line_help(true);
    let args = GROUPS.iter().flat_map(|group| group.flags.iter().map(|flag| arg(flag, group.heading)));
    command.args(args)
}

fn arg(flag: &Flag, heading: &'static str) -> Arg {
    let default = if flag.default.is_empty() { String::new() } else { format!("[default: {}] ", flag.default) };
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(format!("{}\n{default}[env: {}]", flag.help, flag.env))
        .help_heading(heading);
    if flag.value.is_empty() {
        return arg.action(ArgAction::SetTrue);
    }
    let action = if flag.is_repeated() { ArgAction::Append } else { ArgAction::Set };
    let arg = arg.action(action).value_parser(clap::value_parser!(OsString));
    match flag.value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
        Some(value) => arg.value_name(value).num_args(0..=1).default_missing_value("on"),
        None => arg.value_name(flag.value),
    }
}

/// Tells an error of clap's in one line of our own.
fn told(error: &clap::Error) -> Invocation {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg).unwrap_or_default();
    // Clap writes an argument as `--timeout <DURATION>`.
    let name = arg.split(' ').next().unwrap_or_default();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Invocation::Print(error.to_string()),
        ErrorKind::UnknownArgument if name.strip_prefix("--").is_some_and(EntryOptions::has) => {
            fail(format_args!("unknown flag {name}; '{}' stands behind a backend's URL, see --help", &name[2..]))
        }
        ErrorKind::UnknownArgument if arg.starts_with('-') => match context(ContextKind::SuggestedArg) {
            Some(near) => fail(format_args!("unknown flag {}; did you mean {near}? see --help", Excerpt(name))),
            None => fail(format_args!("unknown flag {}; see --help", Excerpt(name))),
        },
        ErrorKind::UnknownArgument => {
            fail(format_args!("'{}' follows no flag; backends are given by --backends, see --help", Excerpt(arg)))
        }
        ErrorKind::ArgumentConflict => fail(format_args!("{name} is given twice; leave one out")),
        ErrorKind::TooManyValues => fail(format_args!("{name} takes no value; write it alone")),
        ErrorKind::InvalidValue => fail(format_args!("{name} needs a value; see --help")),
        _ => fail(format_args!("{}; see --help", Excerpt(error.to_string().lines().next().unwrap_or_default()))),
    }
}
