//! The commands to a proxy that runs already, with their address: one that is given, else where the flags and variables
//! have a proxy listen. Knows nothing of how they are sent.

use std::fmt;

use url::Url;

use super::asked_at::AskedAt;
use super::draft::{Draft, Health, Update};
use super::listen::{Listen, reached_at};
use super::settings::Config;
use super::token::AdminToken;
use super::values;
use crate::message::{ListEntry, Printable};

/// A command to a proxy that runs already.
#[derive(Debug)]
pub enum AdminCommand {
    /// Ask whether it answers with 2xx there.
    Health(AskedAt),
    /// Ask whether this address accepts connections: no more can be asked where there is no admin port.
    Reach(Listen),
    /// Have it take another list of backends, or change its own.
    Update {
        /// Its admin port.
        admin: AskedAt,
        /// The list, or the changes.
        update: Update,
        /// The token to show, if one was given.
        token: Option<AdminToken>,
    },
}

impl Health {
    /// Makes the command for health. An error says why its address can't be told.
    pub(super) fn command(&self, config: &Config) -> Result<AdminCommand, String> {
        let place = match self {
            Health::At(place) => place.clone(),
            Health::Own if config.admin_listen.is_empty() => {
                let listen = known(&config.listen).or(known(&config.tls_listen)).cloned();
                return listen.map(AdminCommand::Reach).ok_or_else(|| no_port("--health", "--listen", "a URL"));
            }
            Health::Own => known(&config.admin_listen)
                .map(|listen| place_of(listen, "readyz"))
                .ok_or_else(|| no_port("--health", "--admin-listen", "a URL"))?,
        };
        Ok(AdminCommand::Health(place))
    }
}

/// Where updates are taken if that isn't given. An error says why it can't be told.
pub(super) fn own_admin(config: &Config) -> Result<AskedAt, String> {
    let (listen, flag) = match config.admin_listen.as_slice() {
        [] if config.admin_on_proxy_port && config.listen.is_empty() => {
            return Err("--admin-listen and --listen are off: no port takes --update without TLS".to_owned());
        }
        [] if config.admin_on_proxy_port => (&config.listen, "--listen"),
        [] => return Err("--admin-listen and --admin-on-proxy-port are off: no port takes --update".to_owned()),
        _ => (&config.admin_listen, "--admin-listen"),
    };
    known(listen).map(|listen| place_of(listen, "")).ok_or_else(|| no_port("--update", flag, "--admin URL"))
}

/// The first of these addresses that is known before it is opened.
fn known(listen: &[Listen]) -> Option<&Listen> {
    listen.iter().find(|listen| listen.tcp_address().is_none_or(|address| address.port() != 0))
}

fn no_port(command: &str, flag: &str, given: &str) -> String {
    format!("{command}: the port of {flag} is 0, any that is free; give {given}")
}

/// Where a client on this host reaches it, with this path of HTTP where there is a URL.
fn place_of(listen: &Listen, path: &str) -> AskedAt {
    match listen {
        Listen::Tcp { address, .. } => {
            let url = Url::parse(&format!("http://{}/{path}", reached_at(*address)));
            AskedAt::Url(url.expect("a socket's address makes a URL"))
        }
        Listen::Unix(file) => AskedAt::Socket(file.clone()),
    }
}

/// Takes the command out of the draft, if there is one. It needs neither backends nor a directory to spool to.
pub(super) fn take(draft: &mut Draft) -> Option<Result<AdminCommand, String>> {
    if let Some(health) = &draft.health {
        return Some(health.command(&draft.config));
    }
    let update = draft.update.take()?;
    if matches!(update, Update::Changes(_)) && draft.admin.is_none() && draft.config.admin_listen.is_empty() {
        // Where clients connect, a backend would get them.
        return Some(Err("--admin-listen is off: no port takes changes, only a whole list".to_owned()));
    }
    let admin = draft.admin.take().map_or_else(|| own_admin(&draft.config), Ok);
    let token = draft.config.admin_token.clone();
    Some(admin.map(|admin| AdminCommand::Update { admin, update, token }))
}

/// What changes of a list begin with.
const VERBS: [&str; 5] = ["add=", "remove=", "pause=", "resume=", "replace="];

impl Update {
    /// Reads a list, or changes such as `pause=dc1&add=http://b name=dc2`.
    pub(super) fn parse(text: &str) -> Result<Update, String> {
        let verb_of = |text: &str| VERBS.into_iter().find(|verb| text.trim_start().starts_with(verb));
        if verb_of(text).is_none() {
            return list(text).map(Update::List);
        }
        let mut changes: Vec<(&'static str, String)> = Vec::new();
        for part in text.split('&') {
            match (verb_of(part), changes.last_mut()) {
                (Some(verb), _) => {
                    changes.push((verb.trim_end_matches('='), part.trim_start()[verb.len()..].to_owned()));
                }
                // It belongs to the URL before it.
                (None, Some((_, value))) => value.extend(["&", part]),
                (None, None) => unreachable!("the text begins with a verb"),
            }
        }
        for (verb, value) in &changes {
            match *verb {
                "add" | "replace" => drop(list(value)?),
                _ if value.trim().is_empty() => {
                    return Err(values::bad(text, format_args!("{verb} names no backend; write {verb}=dc1, say")));
                }
                _ => {}
            }
        }
        Ok(Update::Changes(changes))
    }
}

fn list(text: &str) -> Result<Vec<ListEntry>, String> {
    match values::backends(text)? {
        entries if entries.is_empty() => Err(values::bad(text, "no backends; write http://a,http://b")),
        entries => Ok(entries),
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Update::List(entries) => f.write_str(&values::show_list(entries)),
            Update::Changes(changes) => {
                let changes: Vec<String> = changes.iter().map(|(verb, value)| format!("{verb}={value}")).collect();
                Printable(&changes.join("&")).fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Invocation;
    use super::super::tests::{config, failure, read_with};
    use super::*;

    #[test]
    fn an_errand_needs_no_backends_and_finds_the_admin_port() {
        let asked = |args, env: &[(&'static str, &str)]| match read_with(args, env) {
            Invocation::Ask(command) => match *command {
                AdminCommand::Health(place) => place.to_string(),
                AdminCommand::Reach(listen) => listen.reached(),
                AdminCommand::Update { admin, update, token } => format!("{admin} {update} {token:?}"),
            },
            other => panic!("{args} {env:?}: {other:?}"),
        };
        let spool = ("RED_TENTACLE_SPOOL_DIR", "/no/such");
        assert_eq!(asked("--health http://a:8081/readyz", &[spool]), "http://a:8081/readyz");
        assert_eq!(asked("--update http://a,http://b", &[spool]), "http://127.0.0.1:8081/ http://a,http://b None");
        let listen = |address| ("RED_TENTACLE_ADMIN_LISTEN", address);
        let off = [listen("off"), ("RED_TENTACLE_LISTEN", "10.0.0.1:90"), ("RED_TENTACLE_ADMIN_ON_PROXY_PORT", "on")];
        let socket = [listen("unix:/run/x.sock")];
        assert_eq!(asked("--health", &socket), "unix:/run/x.sock");
        let odd = "unix:/run/%41?b#c/../\u{e9}%.sock";
        assert_eq!(asked("--health", &[listen(odd)]), odd);
        assert_eq!(asked("--health unix:/run/%41?b#c/../\u{e9}%.sock", &[]), odd);
        assert_eq!(asked("--update http://a", &socket), "unix:/run/x.sock http://a None");
        assert_eq!(asked("--update http://a --admin unix:/run/y.sock", &[]), "unix:/run/y.sock http://a None");
        let rows: [(&[_], &str, &str); 8] = [
            (&[], "127.0.0.1:8081", "127.0.0.1:8081"),
            (&[listen("127.0.0.1:9000")], "127.0.0.1:9000", "127.0.0.1:9000"),
            (&[listen("0.0.0.0:9000")], "127.0.0.1:9000", "127.0.0.1:9000"),
            (&[listen(":9000")], "127.0.0.1:9000", "127.0.0.1:9000"),
            (&[listen("[::]:9000")], "[::1]:9000", "[::1]:9000"),
            (&[listen("10.0.0.1:0,10.0.0.1:9000")], "10.0.0.1:9000", "10.0.0.1:9000"),
            (&off, "", "10.0.0.1:90"),
            (&off[..1], "", "127.0.0.1:8080"),
        ];
        for (env, health, update) in rows {
            let readyz = if health.is_empty() { update.to_owned() } else { format!("http://{health}/readyz") };
            assert_eq!(asked("--health", env), readyz, "{env:?}");
            assert_eq!(asked("", &[env, &[("RED_TENTACLE_HEALTH", "on")]].concat()), readyz, "{env:?}");
            assert_eq!(asked("--update http://a", env), format!("http://{update}/ http://a None"), "{env:?}");
        }
        assert_eq!(asked("--health --admin-listen :1", &[listen("off")]), "http://127.0.0.1:1/readyz");
        let admin = ("RED_TENTACLE_ADMIN", "http://b:1");
        assert_eq!(asked("--update http://a --admin http://a:1", &[admin]), "http://a:1/ http://a None");
        assert_eq!(asked("--update http://a", &[admin]), "http://b:1/ http://a None");
        assert!(matches!(read_with("--backends http://a", &[admin]), Invocation::Run(_)), "it matters to updates only");
    }

    #[test]
    fn an_errand_goes_alone_and_only_where_it_can_arrive() {
        let rows = [
            ("--health http://a --update http://a", "--health goes with no --update; leave one out"),
            ("--health http://a --demo", "--health goes with no --demo; leave one out"),
            ("--update http://a --demo", "--update goes with no --demo; leave one out"),
            ("--admin http://a --backends http://a", "--admin says where --update goes; give that too"),
            (
                "--update pause=dc1 --admin-listen off",
                "--admin-listen is off: no port takes changes, only a whole list",
            ),
            ("--update remove=", "--update 'remove=': remove names no backend; write remove=dc1, say"),
            ("--update add=x", "--update 'x': it must begin with http:// or https://"),
            ("--update pause=a&add=", "--update '': no backends; write http://a,http://b"),
            ("--update=", "--update '': no backends; write http://a,http://b"),
            ("--update http://a --admin https://a", "--admin 'https://a': it must begin with http://"),
            (
                "--update http://a --admin unix:x",
                "--admin 'unix:x': no path from the root to a file; write unix:/run/red-tentacle.sock, say",
            ),
            ("--health=", "--health asks nothing without a URL or on; leave it out, or write it alone"),
            ("--health off", "--health asks nothing without a URL or on; leave it out, or write it alone"),
            ("--health --demo", "--health goes with no --demo; leave one out"),
            (
                "--health --admin-listen localhost:0",
                "--health: the port of --admin-listen is 0, any that is free; give a URL",
            ),
            (
                "--health --admin-listen off --listen :0",
                "--health: the port of --listen is 0, any that is free; give a URL",
            ),
            (
                "--update http://a --admin-listen :0",
                "--update: the port of --admin-listen is 0, any that is free; give --admin URL",
            ),
            (
                "--update http://a --admin-listen off --admin-on-proxy-port off",
                "--admin-listen and --admin-on-proxy-port are off: no port takes --update",
            ),
        ];
        for (args, expected) in rows {
            assert_eq!(failure(args, &[]), format!("red-tentacle: {expected}"), "{args}");
        }
    }

    #[test]
    fn an_update_is_a_list_or_changes() {
        let rows = [
            (
                "http://a name=dc1,http://b",
                Update::List(values::backends("http://a name=dc1,http://b").expect("a list")),
            ),
            ("pause=dc1", Update::Changes(vec![("pause", "dc1".to_owned())])),
            (
                "remove=http://a/x&y&add=http://b name=dc2",
                Update::Changes(vec![("remove", "http://a/x&y".to_owned()), ("add", "http://b name=dc2".to_owned())]),
            ),
        ];
        for (text, expected) in rows {
            let update = Update::parse(text).expect(text);
            assert_eq!((update.to_string().as_str(), update), (text, expected));
        }
    }

    #[test]
    fn the_variable_for_health_is_a_switch_as_well() {
        // Was seen as: `RED_TENTACLE_HEALTH=1`, or an empty one, was "no URL".
        for text in ["on", "ON", "1", "true"] {
            let invocation = read_with("", &[("RED_TENTACLE_HEALTH", text)]);
            assert!(matches!(invocation, Invocation::Ask(_)), "{text}: {invocation:?}");
        }
        for text in ["", "off", "0", "False"] {
            config("", &[("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_HEALTH", text)]);
        }
        let invocation = read_with("--health", &[("RED_TENTACLE_HEALTH", "off")]);
        assert!(matches!(invocation, Invocation::Ask(_)), "the flag beats it: {invocation:?}");
    }
}
