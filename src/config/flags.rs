//! The table of flags: one row each, with everything about it. Help, environment, checks and `--check` follow from it.
//! Knows nothing of how a command line is read.

use std::time::Duration;

use super::{AdminToken, Config, HostHeader, Listen, Success, values};
use crate::message::{ADDRESSES_MAX, BadEntry, parse_addresses};

/// The most client connections: as many descriptors as Linux lets a process have (`fs.nr_open`).
const CONNECTIONS_MAX: usize = 1 << 20;

/// The most legs. At worst each waits on a thread of its own: 65,536 stacks of 256 KiB are 16 GiB of addresses.
const LEGS_MAX: usize = 1 << 16;

/// The most workers. They never wait, so more than a few per core only cost memory.
const WORKERS_MAX: usize = 1024;

/// The most entries of `--admin-host` and `--admin-from`: a person wrote them.
const ADMIN_ENTRIES_MAX: usize = 64;

/// What the flags say so far: the configuration, and what only matters until it is complete.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// As given; its default depends on the timeout.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) check: bool,
    pub(super) demo: bool,
}

/// One flag.
pub(super) struct Flag {
    /// Its name, without the hyphens before it.
    pub(super) name: &'static str,
    /// The environment variable that stands in for it.
    pub(super) env: &'static str,
    /// What its value is, in help; empty for a flag that is given or not.
    pub(super) value: &'static str,
    /// Its default, in help.
    pub(super) default: &'static str,
    /// What it does, in help.
    pub(super) help: &'static str,
    /// Takes its value; the error quotes what is bad about it and says what would be right.
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
    /// The value in effect.
    pub(super) show: fn(&Draft) -> String,
}

/// Flags under a heading of the help.
pub(super) struct Group {
    pub(super) heading: &'static str,
    pub(super) flags: &'static [Flag],
}

/// All flags, in the order of help and checks.
pub(super) const GROUPS: &[Group] = &[
    Group { heading: "Backends and races", flags: RACE },
    Group { heading: "Clients", flags: CLIENTS },
    Group { heading: "Updates", flags: UPDATES },
    Group { heading: "Program", flags: PROGRAM },
];

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

const RACE: &[Flag] = &[
    Flag {
        name: "backends",
        env: "BACKEND_SERVERS",
        value: "URL,...",
        default: "",
        help: "The backends, at most 64: http://a,https://b:8443/base",
        set: |draft, text| {
            draft.config.backends = parse_addresses(text).map_err(|bad| {
                let reasons: Vec<String> = bad.iter().map(BadEntry::to_string).collect();
                reasons.join("; ")
            })?;
            Ok(())
        },
        show: |draft| {
            if draft.demo { "(the demo's own)".to_owned() } else { values::show_list(&draft.config.backends) }
        },
    },
    Flag {
        name: "success",
        env: "RED_TENTACLE_SUCCESS",
        value: "CODES",
        default: "200-299",
        help: "Which answers win: 200-299,304 (304 always wins a conditional request)",
        set: |draft, text| {
            draft.config.success = Success::parse(text)?;
            Ok(())
        },
        show: |draft| draft.config.success.to_string(),
    },
    Flag {
        name: "timeout",
        env: "RED_TENTACLE_TIMEOUT",
        value: "DURATION",
        default: "5s",
        help: "Longest time to reach a backend, and again to get its complete head",
        set: |draft, text| {
            draft.config.timeout = values::duration(text)?;
            match draft.config.timeout {
                Duration::ZERO => Err(values::bad(text, "no answer can come in no time; write 5s, say")),
                _ => Ok(()),
            }
        },
        show: |draft| values::show_duration(draft.config.timeout),
    },
    Flag {
        name: "idle-timeout",
        env: "RED_TENTACLE_IDLE_TIMEOUT",
        value: "DURATION",
        default: "60s, or --timeout if that is longer",
        help: "Longest silence while a body moves, either way",
        set: |draft, text| {
            draft.idle_timeout = Some(values::duration(text)?);
            Ok(())
        },
        show: |draft| values::show_duration(draft.config.idle_timeout),
    },
    Flag {
        name: "host",
        env: "RED_TENTACLE_HOST",
        value: "backend|preserve",
        default: "backend",
        help: "Whose name the backends see in Host: their own, or the one that the client wrote",
        set: |draft, text| {
            draft.config.host = HostHeader::parse(text)?;
            Ok(())
        },
        show: |draft| draft.config.host.to_string(),
    },
    Flag {
        name: "max-legs",
        env: "RED_TENTACLE_MAX_LEGS",
        value: "COUNT",
        default: "1024",
        help: "Most requests to backends at once, at least 64; races beyond it queue",
        set: |draft, text| {
            // The longest list must fit, or its races would never begin.
            draft.config.max_legs = values::count(text, ADDRESSES_MAX, LEGS_MAX)?;
            Ok(())
        },
        show: |draft| draft.config.max_legs.to_string(),
    },
];

const CLIENTS: &[Flag] = &[
    Flag {
        name: "listen",
        env: "RED_TENTACLE_LISTEN",
        value: "IP:PORT,...",
        default: "0.0.0.0:8080 and, where IPv6 exists, [::]:8080",
        help: "Where clients connect",
        set: |draft, text| {
            draft.config.listen = Listen::parse_list(text)?;
            Ok(())
        },
        show: |draft| values::show_list(&draft.config.listen),
    },
    Flag {
        name: "max-body",
        env: "RED_TENTACLE_MAX_BODY",
        value: "SIZE",
        default: "10MiB",
        help: "Largest request body; larger ones get 413",
        set: |draft, text| {
            draft.config.max_body = values::size(text)?;
            Ok(())
        },
        show: |draft| values::show_size(draft.config.max_body),
    },
    Flag {
        name: "spool-dir",
        env: "RED_TENTACLE_SPOOL_DIR",
        value: "DIR",
        default: "the system's directory for temporary files",
        help: "Where request bodies above 64 KiB wait, in unlinked files",
        set: |draft, text| {
            draft.config.spool_dir = text.into();
            Ok(())
        },
        show: |draft| draft.config.spool_dir.display().to_string(),
    },
    Flag {
        name: "max-connections",
        env: "RED_TENTACLE_MAX_CONNECTIONS",
        value: "COUNT",
        default: "from the limit of open files",
        help: "Most client connections at once; beyond it new ones wait",
        set: |draft, text| {
            draft.config.max_connections = Some(values::count(text, 1, CONNECTIONS_MAX)?);
            Ok(())
        },
        show: |draft| match draft.config.max_connections {
            Some(count) => count.to_string(),
            None => "(from the limit of open files)".to_owned(),
        },
    },
    Flag {
        name: "workers",
        env: "RED_TENTACLE_WORKERS",
        value: "COUNT",
        default: "2 per core",
        help: "Threads that take requests on; they never wait for a backend",
        set: |draft, text| {
            draft.config.workers = values::count(text, 1, WORKERS_MAX)?;
            Ok(())
        },
        show: |draft| draft.config.workers.to_string(),
    },
];

const UPDATES: &[Flag] = &[
    Flag {
        name: "admin-listen",
        env: "RED_TENTACLE_ADMIN_LISTEN",
        value: "IP:PORT,...|off",
        default: "127.0.0.1:8081 and, where IPv6 exists, [::1]:8081",
        help: "Where updates are taken; beyond loopback only with a token or --admin-from",
        set: |draft, text| {
            draft.config.admin_listen = if text == "off" { Vec::new() } else { Listen::parse_list(text)? };
            Ok(())
        },
        show: |draft| match draft.config.admin_listen.as_slice() {
            [] => "off".to_owned(),
            listen => values::show_list(listen),
        },
    },
    Flag {
        name: "admin-token-file",
        env: "RED_TENTACLE_ADMIN_TOKEN_FILE",
        value: "FILE",
        default: "",
        help: "Updates need `Authorization: Bearer` with the token in this file, from anywhere",
        set: |draft, text| {
            draft.config.admin_token = Some(AdminToken::from_file(text).map_err(|reason| values::bad(text, reason))?);
            Ok(())
        },
        show: |draft| draft.config.admin_token.as_ref().map_or("(none)", |_| "(set)").to_owned(),
    },
    Flag {
        name: "admin-host",
        env: "RED_TENTACLE_ADMIN_HOST",
        value: "NAME,...",
        default: "",
        help: "Names besides localhost and IP addresses that updates may have in Host",
        set: |draft, text| {
            draft.config.admin_host = values::entries(text, ADMIN_ENTRIES_MAX, values::host_name)?;
            Ok(())
        },
        show: |draft| match draft.config.admin_host.as_slice() {
            [] => "(none)".to_owned(),
            names => values::show_list(names),
        },
    },
    Flag {
        name: "admin-from",
        env: "RED_TENTACLE_ADMIN_FROM",
        value: "CIDR,...",
        default: "",
        help: "Networks besides loopback that updates may come from: 172.17.0.1,fd00::/8",
        set: |draft, text| {
            draft.config.admin_from = values::entries(text, ADMIN_ENTRIES_MAX, values::network)?;
            Ok(())
        },
        show: |draft| match draft.config.admin_from.as_slice() {
            [] => "(none)".to_owned(),
            networks => values::show_list(networks),
        },
    },
    Flag {
        name: "admin-on-proxy-port",
        env: "RED_TENTACLE_ADMIN_ON_PROXY_PORT",
        value: "on|off",
        default: "on",
        help: "Whether updates are taken at --listen too; off: their paths are forwarded like any other",
        set: |draft, text| {
            draft.config.admin_on_proxy_port = values::switch(text)?;
            Ok(())
        },
        show: |draft| values::show_switch(draft.config.admin_on_proxy_port),
    },
];

const PROGRAM: &[Flag] = &[
    Flag {
        name: "grace-period",
        env: "RED_TENTACLE_GRACE_PERIOD",
        value: "DURATION",
        default: "10s",
        help: "Longest time that requests in flight may still take after SIGTERM or SIGINT",
        set: |draft, text| {
            draft.config.grace_period = values::duration(text)?;
            Ok(())
        },
        show: |draft| values::show_duration(draft.config.grace_period),
    },
    Flag {
        name: "log-level",
        env: "RED_TENTACLE_LOG_LEVEL",
        value: "off|error|warn|info|debug|trace",
        default: "info",
        help: "How much is told on standard error; info: a line per request",
        set: |draft, text| {
            draft.config.log_level = text
                .parse()
                .map_err(|_| values::bad(text, "no level; write off, error, warn, info, debug or trace"))?;
            Ok(())
        },
        show: |draft| draft.config.log_level.as_str().to_ascii_lowercase(),
    },
    Flag {
        name: "check",
        env: "RED_TENTACLE_CHECK",
        value: "",
        default: "",
        help: "Check everything, print the configuration in effect, exit",
        set: |draft, text| {
            draft.check = values::switch(text)?;
            Ok(())
        },
        show: |draft| values::show_switch(draft.check),
    },
    Flag {
        name: "demo",
        env: "RED_TENTACLE_DEMO",
        value: "",
        default: "",
        help: "Race three small backends inside the program: nothing else is needed",
        set: |draft, text| {
            draft.demo = values::switch(text)?;
            Ok(())
        },
        show: |draft| values::show_switch(draft.demo),
    },
];
