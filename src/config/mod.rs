//! Flags and environment become a [`Config`], all of it checked: code that has one never checks again. Knows nothing of
//! the program that it configures.

mod admin_command;
mod asked_at;
mod checks;
mod command;
mod draft;
mod flags;
mod invocation;
mod listen;
mod lose_if;
mod on_failure;
mod settings;
mod statuses;
mod token;
mod values;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;

use crate::host::{Host, memory_of_files};
use crate::list::check_writable;
use crate::message::{Excerpt, nearest, shown_path};
use crate::net::pem;
use crate::runtime::few::sorted_few;

pub use admin_command::AdminCommand;
pub use asked_at::AskedAt;
use command::Given;
pub use command::command;
use draft::Draft;
pub use draft::Update;
pub use invocation::Invocation;
use invocation::fail;
use listen::Kind;
pub use listen::{Listen, reached_at};
pub use lose_if::LoseIf;
pub use on_failure::OnFailure;
pub use settings::{Config, HostHeader, LogFormat};
pub use statuses::Statuses;
pub use token::AdminToken;

/// Reads a command line, program name first, and the environment. A flag beats its variable, which beats the default.
/// Opens the token's file and tries whether the spool's directory takes a file, so it may block on the disk. Errors are
/// an [`Invocation::Fail`].
pub fn read(args: impl IntoIterator<Item = OsString>, env: impl Fn(&'static str) -> Option<OsString>) -> Invocation {
    // A supervisor's sockets take the place of addresses.
    let are_addresses_used = env("LISTEN_FDS").is_none_or(|text| text.is_empty());
    Given::read(args, env).and_then(|given| checked(&given, are_addresses_used)).unwrap_or_else(|refused| refused)
}

/// Whether health is asked for, as far as that can be told of what may be a bad command line or environment.
pub fn asks_health(args: impl IntoIterator<Item = OsString>, env: impl Fn(&'static str) -> Option<OsString>) -> bool {
    let is_flag = |arg: &OsString| arg == "--health" || arg.as_encoded_bytes().starts_with(b"--health=");
    let is_asked =
        |text: &OsString| !text.is_empty() && text.to_str().is_none_or(|text| values::switch(text) != Ok(false));
    args.into_iter().any(|arg| is_flag(&arg)) || env("RED_TENTACLE_HEALTH").is_some_and(|text| is_asked(&text))
}

/// What is odd about the names of the environment's variables, a line each: those that look like ours and aren't.
pub fn oddities(names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<String> {
    let is_ours = |name: &str| flags().any(|(_, variable)| variable == name);
    let names = names.into_iter().map(|name| name.as_ref().to_string_lossy().into_owned());
    let strangers = sorted_few(names.filter(|name| name.starts_with(PREFIX) && !is_ours(name)), String::clone);
    let told = |name: &String| {
        // What all of them begin with says nothing.
        let own = flags().filter_map(|(_, variable)| variable.strip_prefix(PREFIX));
        let hint = nearest(&name[PREFIX.len()..], own);
        let hint = hint.map(|near| format!("; did you mean {PREFIX}{near}?")).unwrap_or_default();
        format!("unknown variable {} does nothing{hint}", Excerpt(name))
    };
    strangers.iter().map(told).collect()
}

/// What the names of all variables but the list's begin with.
const PREFIX: &str = "RED_TENTACLE_";

/// The name of every flag, without hyphens, and the environment variable that stands in for it.
pub fn flags() -> impl Iterator<Item = (&'static str, &'static str)> {
    flags::all().map(|flag| (flag.name, flag.env))
}

fn checked(given: &Given, are_addresses_used: bool) -> Result<Invocation, Invocation> {
    let mut draft = Draft::default();
    for (flag, text) in given.iter() {
        (flag.set)(&mut draft, text).map_err(|reason| fail(format_args!("{} {reason}", given.culprit(flag.name))))?;
    }
    draft.config.are_addresses_used = are_addresses_used;
    checks::admin_commands(given, &draft)?;
    if !draft.check
        && let Some(command) = admin_command::take(&mut draft)
    {
        return command.map(|command| Invocation::Ask(Box::new(command))).map_err(fail);
    }
    checks::backends(&mut draft, given)?;
    checks::statuses(&draft.config, given)?;
    checks::timeouts(&mut draft, given)?;
    checks::spool_dir(&draft.config, given)?;
    checks::admin(&draft.config, given)?;
    let of_certificates = checks::tls(&draft.config, given, are_addresses_used)?;
    if are_addresses_used {
        checks::overlap(&draft.config, given)?;
        checks::own_address(&draft.config, given)?;
    }
    Ok(match draft {
        Draft { check: true, .. } => Invocation::Check {
            shown: shown(&draft),
            warnings: [warnings(&draft.config, &Host::read()), of_certificates].concat(),
            probe: draft.probe.then(|| Box::new(draft.config)),
        },
        Draft { trial: Some(target), config, .. } => Invocation::Try(Box::new(config), target),
        Draft { demo: true, config, .. } => Invocation::Demo(Box::new(config)),
        Draft { config, .. } => Invocation::Run(Box::new(config)),
    })
}

/// The configuration in effect, a line per flag.
fn shown(draft: &Draft) -> String {
    let rows = flags::all().filter(|flag| flag.name != "check");
    let lines: Vec<String> = rows.map(|flag| format!("{} = {}", flag.name, (flag.show)(draft))).collect();
    lines.join("\n") + "\n"
}

/// The warnings of a start with this configuration on this host.
pub(crate) fn warnings(config: &Config, host: &Host) -> Vec<String> {
    let wanted = config.max_connections.map(NonZeroUsize::get);
    let capacity = host.capacity(config.max_head);
    let complaints = host.complaints(&capacity, wanted);
    let takes_updates = !config.admin_listen.is_empty() || config.admin_on_proxy_port;
    let file = config.backends_file.as_ref().filter(|_| takes_updates);
    let not_kept = file.and_then(|file| check_writable(file.path()).err());
    let (spool_dir, of_memory) = (shown_path(&config.spool_dir), memory_of_files(&config.spool_dir));
    config
        .oddities
        .iter()
        .cloned()
        .chain(not_kept)
        .chain(complaints)
        .chain(host.spool_complaint(&spool_dir, of_memory, config.max_body))
        .chain(capacity.limits(wanted).complaint(config.backends.len()))
        .collect()
}

/// The flags whose files are read at the start alone and hold something else now; an error says why a start would fail with it.
/// Blocks on the disk, and for no pipe's writer.
pub(crate) fn outdated(config: &Config) -> Vec<(&'static str, Result<(), String>)> {
    let read = |path: &String| pem::read(path).and_then(|bytes| values::certificates(&bytes));
    let ca_file = config.ca_file.as_ref().map(|path| read(path).map(|now| now != config.ca_certificates));
    let token = config.admin_token.as_ref().map(AdminToken::is_outdated);
    let found = [("ca-file", ca_file), ("admin-token-file", token)].into_iter();
    found
        .filter_map(|(flag, is_outdated)| Some((flag, is_outdated?)))
        .filter(|(_, is_outdated)| *is_outdated != Ok(false))
        .map(|(flag, is_outdated)| (flag, is_outdated.map(|_| ())))
        .collect()
}

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod tests;
