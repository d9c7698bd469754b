//! Flags and environment become a [`Config`], all of it checked: whoever holds one never checks again.
//! Knows nothing of the program that it configures.

mod certificates;
mod checks;
mod command;
mod errand;
mod flags;
mod listen;
mod success;
mod token;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use crate::host::Host;
use crate::message::Address;

use command::{Given, fail};
pub use errand::Errand;
use flags::Draft;
use listen::Kind;
pub use listen::Listen;
pub use success::Success;
pub use token::AdminToken;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// The backends to begin with: no duplicates, at most 64; empty only for the demo, which brings its own.
    pub backends: Vec<Address>,
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Where updates are taken; may be empty.
    pub admin_listen: Vec<Listen>,
    /// The longest time to reach a backend (DNS, TCP, TLS), and again from the last request byte to the complete head.
    pub timeout: Duration,
    /// The longest silence while a body moves, either way; at least `timeout`.
    pub idle_timeout: Duration,
    /// How long losers of a safe method (RFC 9110 §9.2.1) may still finish after the verdict.
    pub linger: Duration,
    /// How long losers of any other method may.
    pub linger_unsafe: Duration,
    /// So many losers may wait in vain at one backend before legs of safe methods to it are held back.
    pub max_unanswered: NonZeroUsize,
    /// The most idle connections kept for each backend.
    pub max_idle_connections: usize,
    /// How long the addresses of a backend's name count.
    pub dns_ttl: Duration,
    /// Certificates to trust beside the usual roots, in DER.
    pub ca_certificates: Vec<Vec<u8>>,
    /// Which answers win.
    pub success: Success,
    /// The longest head of a request, in bytes, line ends included: from 1 KiB to 256 KiB.
    pub max_head: usize,
    /// The longest request body, in bytes.
    pub max_body: u64,
    /// Where long request bodies wait: a directory that took a file at the start.
    pub spool_dir: PathBuf,
    /// The most client connections at once; `None` leaves it to the limits of open files and of memory.
    pub max_connections: Option<NonZeroUsize>,
    /// Networks of the proxies before this one, which are believed where a request came from.
    pub trusted_proxies: Vec<IpNet>,
    /// Threads that take exchanges on.
    pub workers: NonZeroUsize,
    /// How long exchanges in flight may still take once the program is told to stop.
    pub grace_period: Duration,
    /// What an update must show, if anything.
    pub admin_token: Option<AdminToken>,
    /// Names that an update's `Host` may have besides `localhost`, in lower case, without the root's dot.
    pub admin_host: Vec<String>,
    /// Networks besides loopback that updates may come from.
    pub admin_from: Vec<IpNet>,
    /// Whether updates are taken where clients connect, too.
    pub admin_on_proxy_port: bool,
    /// Whose name the backends see in `Host`.
    pub host: HostHeader,
    /// Whether the backends get `Via`.
    pub via: bool,
    /// How much is logged.
    pub log_level: LevelFilter,
}

/// What the backends see in `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// Each its own name.
    Backend,
    /// The name that the client wrote.
    Preserve,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve.
    Run(Box<Config>),
    /// Serve with the demo's backends; the configuration holds none.
    Demo(Box<Config>),
    /// Ask another process, and exit.
    Ask(Box<Errand>),
    /// Print the configuration in effect to standard output, and what the start would warn of to standard error, and exit
    /// with 0.
    Check {
        /// A line per flag.
        shown: String,
        /// A line each, without its end.
        warnings: Vec<String>,
    },
    /// Print this to standard output as it is, its last line end included, and exit with 0.
    Print(String),
    /// Print this line to standard error and exit with 2, or with 1 if health is asked for ([`asks_health`]).
    Fail(String),
}

/// Reads a command line, program name first, and the environment. A flag beats its variable, which beats the default.
/// Opens the token's file and tries whether the spool's directory takes a file.
pub fn read(args: impl IntoIterator<Item = OsString>, env: impl Fn(&'static str) -> Option<OsString>) -> Invocation {
    // A supervisor's sockets take the place of addresses.
    let are_addresses_used = env("LISTEN_FDS").is_none();
    Given::read(args, env).and_then(|given| checked(&given, are_addresses_used)).unwrap_or_else(|refused| refused)
}

/// Whether health is asked for, as far as that can be told of what may be a bad command line or environment.
pub fn asks_health(args: impl IntoIterator<Item = OsString>, env: impl Fn(&'static str) -> Option<OsString>) -> bool {
    let is_flag = |arg: &OsString| arg == "--health" || arg.as_encoded_bytes().starts_with(b"--health=");
    let is_asked =
        |text: &OsString| !text.is_empty() && text.to_str().is_none_or(|text| values::switch(text) != Ok(false));
    args.into_iter().any(|arg| is_flag(&arg)) || env("RED_TENTACLE_HEALTH").is_some_and(|text| is_asked(&text))
}

/// Every flag's name, without hyphens, and the environment variable that stands in for it.
pub fn flags() -> impl Iterator<Item = (&'static str, &'static str)> {
    flags::all().map(|flag| (flag.name, flag.env))
}

/// The command line as clap knows it, for what is written from it: the man page and completions.
pub fn command() -> clap::Command {
    command::command()
}

fn checked(given: &Given, are_addresses_used: bool) -> Result<Invocation, Invocation> {
    let mut draft = Draft::new();
    for (flag, text) in given.iter() {
        (flag.set)(&mut draft, text).map_err(|reason| fail(format_args!("{} {reason}", given.culprit(flag.name))))?;
    }
    checks::errands(given, &draft)?;
    if !draft.check
        && let Some(errand) = errand::asked(&mut draft)
    {
        return errand.map(|errand| Invocation::Ask(Box::new(errand))).map_err(fail);
    }
    checks::backends(&mut draft, given)?;
    checks::timeouts(&mut draft, given)?;
    checks::spool_dir(&draft.config, given)?;
    checks::admin(&draft.config, given)?;
    if are_addresses_used {
        checks::overlap(&draft.config, given)?;
    }
    Ok(match draft {
        Draft { check: true, .. } => {
            Invocation::Check { shown: shown(&draft), warnings: warnings(&draft.config, &Host::read()) }
        }
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

/// What the start would warn of.
pub(crate) fn warnings(config: &Config, host: &Host) -> Vec<String> {
    let wanted = config.max_connections.map(NonZeroUsize::get);
    let room = host.room(config.max_head);
    let complaints = host.complaints(&room, wanted);
    complaints.into_iter().chain(room.places(wanted).complaint(config.backends.len())).collect()
}

impl Config {
    /// The defaults with these backends.
    pub fn new(backends: Vec<Address>) -> Config {
        Config {
            backends,
            listen: Listen::everywhere(8080),
            admin_listen: Listen::loopback(8081),
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            linger: Duration::from_millis(200),
            linger_unsafe: Duration::from_secs(5),
            max_unanswered: NonZeroUsize::new(128).expect("it isn't 0"),
            max_idle_connections: 64,
            dns_ttl: Duration::from_secs(30),
            ca_certificates: Vec::new(),
            success: Success::default(),
            // Tickets and tokens of single sign-on name all groups of a user: 17,000 bytes are seen. Beside them cookies need room.
            max_head: 32 << 10,
            max_body: 10 << 20,
            spool_dir: std::env::temp_dir(),
            max_connections: None,
            trusted_proxies: ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network")).to_vec(),
            // They never wait; the second per core takes over while the system pauses the first.
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).saturating_mul(TWO),
            grace_period: Duration::from_secs(10),
            admin_token: None,
            admin_host: Vec::new(),
            admin_from: Vec::new(),
            admin_on_proxy_port: true,
            host: HostHeader::Backend,
            via: false,
            log_level: LevelFilter::Info,
        }
    }
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

impl HostHeader {
    fn parse(text: &str) -> Result<HostHeader, String> {
        match text.to_ascii_lowercase().as_str() {
            "backend" => Ok(HostHeader::Backend),
            "preserve" => Ok(HostHeader::Preserve),
            _ => Err(values::bad(text, "neither backend nor preserve; write one of them")),
        }
    }
}

impl fmt::Display for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostHeader::Backend => "backend",
            HostHeader::Preserve => "preserve",
        })
    }
}

#[cfg(test)]
mod tests;
