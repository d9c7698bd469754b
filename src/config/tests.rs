//! Every flag by table: its default, by flag, by environment, and the complaint about a bad value. Knows nothing of the
//! process's own environment, which tests must not change.

use std::collections::HashMap;

use super::*;
use crate::message::parse_entries;

/// Reads a command line (split at spaces) and an environment.
pub(super) fn read_with(args: &str, env: &[(&'static str, &str)]) -> Invocation {
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    let args = std::iter::once("red-tentacle").chain(args.split(' ').filter(|arg| !arg.is_empty()));
    read(args.map(OsString::from), |name| env.get(name).map(OsString::from))
}

pub(super) fn config(args: &str, env: &[(&'static str, &str)]) -> Config {
    match read_with(args, env) {
        Invocation::Run(config) => *config,
        other => panic!("{args} {env:?}: {other:?}"),
    }
}

pub(super) fn failure(args: &str, env: &[(&'static str, &str)]) -> String {
    match read_with(args, env) {
        Invocation::Fail(line) => line,
        other => panic!("{args} {env:?}: {other:?}"),
    }
}

fn printed(args: &str, env: &[(&'static str, &str)]) -> String {
    match read_with(args, env) {
        Invocation::Print(text) | Invocation::Check { shown: text, .. } => text,
        other => panic!("{args} {env:?}: {other:?}"),
    }
}

/// The value in effect, as `--check` shows it.
pub(super) fn shown(flag: &str, args: &str, env: &[(&'static str, &str)]) -> String {
    let text = printed(&format!("--check {args}"), env);
    let start = format!("{flag} = ");
    text.lines().find_map(|line| line.strip_prefix(&start)).expect(flag).to_owned()
}

/// A flag, its default, a value by flag, another by the environment, a bad one and the reason against it.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

/// A row for each flag with a value. The texts are those of this host and of two directories that exist.
fn rows<'a>(temp_dir: &'a str, workers: &'a str, clients: &'a str, [by_flag, by_env]: [&'a str; 2]) -> [Row<'a>; 28] {
    [
        ("backends", "http://z", "http://a,https://b:8443/c", "http://c", "ftp://a", "it must begin with http:// or"),
        ("success", "200-299", "200-299,304", "200,404", "2xx", "not a status or a range of them; write 200 or"),
        ("timeout", "5s", "500ms", "7s", "5x", "not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("idle-timeout", "60s", "90s", "3600s", "60", "no unit; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("linger", "200ms", "0s", "1s", "1", "no unit; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("linger-unsafe", "5s", "0s", "10s", "long", "not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("max-unanswered", "128", "1", "65536", "0", "not a whole number from 1 to 65536; write 1, say"),
        ("bench", "off", "2", "1000", "1", "neither off nor a whole number from 2 to 1000; write 5, say"),
        ("max-idle-connections", "512", "0", "1024", "1025", "not a whole number from 0 to 1024; write 1024, say"),
        ("dns-ttl", "30s", "0s", "3600s", "x", "not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("host", "backend", "preserve", "preserve", "client", "neither backend nor preserve; write one of them"),
        ("via", "off", "on", "on", "maybe", "neither on nor off; write one of them"),
        ("expose-backends", "off", "on", "on", "maybe", "neither on nor off; write one of them"),
        (
            "listen",
            "0.0.0.0:8080,[::]:8080 (where IPv6 exists)",
            "127.0.0.1:0,[::1]:80",
            "[::]:80",
            "a.example:80",
            "no other host name than localhost; write :8080, localhost:8080, 127.0.0.1:8080 or [::1]:8080",
        ),
        ("max-head", "32KiB", "1KiB", "256KiB", "257KiB", "not from 1KiB to 256KiB; write 256KiB, say"),
        ("max-body", "10MiB", "16KiB", "0B", "1TB", "not a size; write 512B, 16KiB, 10MiB or 1GiB"),
        ("spool-dir", temp_dir, by_flag, by_env, "/no/such", "no such directory; name one that exists"),
        ("max-connections", clients, "100", "1", "0", "not a whole number from 1 to 1048576;"),
        (
            "trusted-proxies",
            "127.0.0.0/8,::1/128",
            "172.17.0.0/16,fd00::/8",
            "none",
            "gateway",
            "not a network; write 172.17.0.0/16, fd00::/8 or a single IP address, or none alone",
        ),
        ("workers", workers, "3", "7", "1025", "not a whole number from 1 to 1024; write 1024, say"),
        (
            "admin-listen",
            "127.0.0.1:8081,[::1]:8081 (where IPv6 exists)",
            "127.0.0.1:0",
            "off",
            "none",
            "no port; write localhost:8081, 127.0.0.1:8081, [::1]:8081 or off",
        ),
        ("admin-host", "(none)", "a.example,b", "c", "a:80", "not a host name; write proxy.example, without"),
        ("admin-from", "(none)", "172.17.0.0/16,fd00::/8", "10.0.0.1/32", "a", "not a network; write 172.17.0.0/16,"),
        ("admin-on-proxy-port", "on", "off", "off", "maybe", "neither on nor off; write one of them"),
        ("grace-period", "10s", "0s", "1s", "-1s", "not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("health", "(none)", "http://a/readyz", "http://b/", "https://a", "it must begin with http://"),
        ("update", "(none)", "http://a,http://b/c", "http://c", "ftp://a", "it must begin with http:// or https://"),
        ("log-level", "info", "trace", "off", "loud", "no level; write off, error, warn, info, debug or trace"),
    ]
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_default() {
    let temp_dir = std::env::temp_dir().display().to_string();
    let directories = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let [by_flag, by_env] = directories.each_ref().map(|directory| directory.path().to_str().expect("UTF-8"));
    let workers = Config::new(Vec::new()).workers.to_string();
    let clients = Host::read().capacity(Config::new(Vec::new()).max_head).clients(None);
    let clients = format!("{clients} (from the limits of open files and memory)");
    for (name, default, by_flag, by_env, bad, reason) in rows(&temp_dir, &workers, &clients, [by_flag, by_env]) {
        let env_name = flags().find(|(flag, _)| *flag == name).expect(name).1;
        let base = [("BACKEND_SERVERS", "http://z")];
        let env = |value| [base[0], (env_name, value)];
        assert_eq!(shown(name, "", &base), default, "{name}: default");
        assert_eq!(shown(name, &format!("--{name} {by_flag}"), &base), by_flag, "{name}: flag");
        assert_eq!(shown(name, &format!("--{name}={by_flag}"), &env(bad)), by_flag, "{name}: flag beats variable");
        assert_eq!(shown(name, "", &env(by_env)), by_env, "{name}: variable");
        let line = failure(&format!("--{name}={bad}"), &env(by_env));
        assert!(line.starts_with(&format!("red-tentacle: --{name} '{bad}': {reason}")), "{line}");
        let line = failure("", &env(bad));
        assert!(line.starts_with(&format!("red-tentacle: {env_name} '{bad}': {reason}")), "{line}");
    }
}

#[test]
fn help_states_every_flag_its_default_and_its_variable() {
    for args in ["--help", "-h"] {
        let help = printed(args, &[]);
        for flag in flags::all() {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
            assert!(help.contains(&format!("[env: {}]", flag.env)), "{}", flag.name);
        }
        assert!(help.contains("[default: 5s] [env: RED_TENTACLE_TIMEOUT]"), "{help}");
        assert!(help.ends_with('\n'), "{help}");
    }
}

#[test]
fn a_check_shows_whom_health_would_ask() {
    let rows = [
        ("--health http://a/readyz", "http://a/readyz"),
        ("--health", "http://127.0.0.1:8081/readyz"),
        ("--health --admin-listen off", "127.0.0.1:8080"),
    ];
    for (args, expected) in rows {
        assert_eq!(shown("health", args, &[("BACKEND_SERVERS", "http://z")]), expected, "{args}");
    }
}

#[test]
fn the_defaults_that_help_states_are_those_in_effect() {
    let temp_dir = std::env::temp_dir().display().to_string();
    // Told in words that no value of the flag can say.
    let worded = [
        ("idle-timeout", "60s"),
        ("linger-unsafe", "5s"),
        ("listen", "0.0.0.0:8080,[::]:8080 (where IPv6 exists)"),
        ("spool-dir", &temp_dir),
        ("admin-listen", "127.0.0.1:8081,[::1]:8081 (where IPv6 exists)"),
        ("admin", "http://127.0.0.1:8081/"),
    ];
    let is_by_host = |flag: &&flags::flag::Flag| ["max-connections", "workers"].contains(&flag.name);
    for flag in flags::all().filter(|flag| !is_by_host(flag)) {
        let mut draft = Draft::default();
        let default = (flag.show)(&draft);
        if let Some((_, expected)) = worded.iter().find(|(name, _)| *name == flag.name) {
            assert_eq!(default, *expected, "{}", flag.name);
        } else if flag.default.is_empty() {
            assert!(["(none)", "(all)", "off", ""].contains(&&*default), "{}: {default}", flag.name);
        } else {
            (flag.set)(&mut draft, flag.default).expect(flag.name);
            assert_eq!((flag.show)(&draft), default, "{}", flag.name);
        }
    }
}

#[test]
fn the_version_is_told() {
    for args in ["--version", "-V"] {
        assert_eq!(printed(args, &[]), format!("red-tentacle {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_is_no_flag_is_refused_in_one_line() {
    let rows = [
        ("--timeot 5s", "unknown flag --timeot; did you mean --timeout? see --help"),
        ("--timeot=5s", "unknown flag --timeot; did you mean --timeout? see --help"),
        ("--qqq", "unknown flag --qqq; see --help"),
        ("--insecure", "unknown flag --insecure; 'insecure' stands behind a backend's URL, see --help"),
        ("--header-file=/x", "unknown flag --header-file; 'header-file' stands behind a backend's URL, see --help"),
        ("--qqq\nforged", "unknown flag --qqq\\nforged; see --help"),
        ("-x", "unknown flag -x; see --help"),
        ("--timeout -5s", "unknown flag -5; see --help"),
        ("http://a", "'http://a' follows no flag; backends are given by --backends, see --help"),
        ("--timeout 1s --timeout 2s", "--timeout is given twice; leave one out"),
        ("--check=yes", "--check takes no value; write it alone"),
        ("--timeout", "--timeout needs a value; see --help"),
        ("--timeout --check", "--timeout needs a value; see --help"),
        ("--timeout=", "--timeout '': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
    ];
    for (args, expected) in rows {
        assert_eq!(failure(args, &[]), format!("red-tentacle: {expected}"), "{args}");
    }
}

#[test]
fn every_bad_backend_is_named() {
    let line = failure("--backends ftp://a,http://b,http://b", &[]);
    let expected = "red-tentacle: --backends 'ftp://a': it must begin with http:// or https://; \
                    'http://b': http://b is in the list twice";
    assert_eq!(line, expected);
}

#[test]
fn what_stands_in_place_of_a_comma_is_named_in_every_list() {
    // Was seen as: lists of backends alone told it; of addresses separated by semicolons the last was "not an IP address".
    let lists = [
        ("listen", "127.0.0.1:80", "[::1]:81"),
        ("admin-listen", "127.0.0.1:80", ":81"),
        ("trusted-proxies", "10.0.0.0/8", "fd00::/8"),
        ("admin-from", "10.0.0.1", "::1"),
        ("admin-host", "a", "b.example"),
        ("success", "200-299", "304"),
        ("backends", "http://a", "http://b"),
    ];
    let separators = [
        (";", "semicolons"),
        ("; ", "semicolons"),
        (" ; ", "semicolons"),
        (" ", "spaces"),
        ("\t", "spaces"),
        ("\n", "line breaks"),
        ("\r\n", "line breaks"),
    ];
    for (name, first, second) in lists {
        let env_name = flags().find(|(flag, _)| *flag == name).expect(name).1;
        let reason = |list: &str| failure("", &[(env_name, list)]);
        // In lists of backends a line's end stands for a comma, and one at the end is forgiven.
        let is_backends = name == "backends";
        for (separator, expected) in
            separators.iter().filter(|(separator, _)| !(is_backends && separator.contains('\n')))
        {
            let line = reason(&format!("{first}{separator}{second}"));
            assert!(line.ends_with(&format!("': entries stand between commas, not {expected}")), "{line}");
        }
        let at_end = format!("{first},");
        let lists = [format!(",{first}"), format!("{first}, ,{second}"), ",".to_owned()];
        for list in lists.into_iter().chain((!is_backends).then_some(at_end)) {
            let line = reason(&list);
            assert!(line.starts_with(&format!("red-tentacle: {env_name} '': an entry is empty")), "{line}");
        }
        let line = reason(&format!("{first};"));
        assert!(line.ends_with(&format!("'{first};': entries stand between commas, not semicolons")), "{line}");
    }
}

#[test]
fn without_backends_nothing_starts() {
    let expected = "red-tentacle: no backends; set BACKEND_SERVERS=http://a,http://b or give --backends";
    for (args, env) in [("", None), ("--check", None), ("", Some("")), ("--backends=", Some("http://a"))] {
        let env: Vec<_> = env.map(|list| ("BACKEND_SERVERS", list)).into_iter().collect();
        assert_eq!(failure(args, &env), expected, "{args} {env:?}");
    }
}

#[test]
fn the_demo_brings_its_own_backends() {
    let rows: [(&str, &[(&'static str, &str)]); 3] =
        [("--demo", &[]), ("--demo", &[("BACKEND_SERVERS", "http://a")]), ("", &[("RED_TENTACLE_DEMO", "on")])];
    for (args, env) in rows {
        match read_with(args, env) {
            Invocation::Demo(config) => assert!(config.backends.is_empty()),
            other => panic!("{args} {env:?}: {other:?}"),
        }
    }
    assert!(matches!(read_with("--backends http://a", &[("RED_TENTACLE_DEMO", "0")]), Invocation::Run(_)));
    assert_eq!(shown("backends", "--demo", &[]), "(the demo's own)");
    assert!(failure("--demo --backends http://a", &[]).contains("--backends goes with no --demo"));
    assert_eq!(
        failure("", &[("RED_TENTACLE_DEMO", "please")]),
        "red-tentacle: RED_TENTACLE_DEMO 'please': neither on nor off; write one of them"
    );
}

#[test]
fn a_demo_that_is_to_be_tried_or_probed_is_refused() {
    // Was seen as: a panic, since a race was begun among no backends; with a variable in place of a flag `--try`, too.
    let (probe, try_one) = ("--probe goes with no --demo, which brings its own backends", "--try goes with no --demo");
    let on = |variable| (variable, "on");
    let rows: [(&str, &[(&'static str, &str)], &str); 6] = [
        ("--demo --check --probe", &[], probe),
        ("--check --probe", &[on("RED_TENTACLE_DEMO")], probe),
        ("--demo --check", &[on("RED_TENTACLE_PROBE")], probe),
        ("--demo --try /", &[], try_one),
        ("--try /", &[on("RED_TENTACLE_DEMO")], try_one),
        ("--demo", &[("RED_TENTACLE_TRY", "/")], try_one),
    ];
    for (args, env, expected) in rows {
        let line = failure(args, env);
        assert!(line.starts_with(&format!("red-tentacle: {expected}")), "{args} {env:?}: {line}");
    }
    assert!(matches!(read_with("--demo", &[on("RED_TENTACLE_PROBE")]), Invocation::Demo(_)));
}

/// Was seen as: a template left the path empty, and what was to race once was a proxy, which never ended.
#[test]
fn an_empty_path_to_try_is_no_proxy() {
    let expected = "red-tentacle: --try '': no path; write /status, say";
    assert_eq!(failure("--try=", &[("BACKEND_SERVERS", "http://a")]), expected);
    assert!(matches!(read_with("", &[("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_TRY", "")]), Invocation::Run(_)));
}

#[test]
fn words_of_values_are_taken_in_either_case() {
    // Was seen as: `--admin-listen OFF` was refused, while `--via ON` was taken.
    let rows = [
        ("admin-listen", "OFF", "off"),
        ("trusted-proxies", "None", "none"),
        ("host", "Preserve", "preserve"),
        ("via", "ON", "on"),
        ("log-level", "Warn", "warn"),
    ];
    for (name, given, expected) in rows {
        assert_eq!(shown(name, &format!("--{name} {given}"), &[("BACKEND_SERVERS", "http://a")]), expected, "{name}");
    }
}

#[test]
fn an_offer_is_within_the_bounds() {
    let workers = Config::new(Vec::new()).workers;
    let rows = [
        ("--max-connections 1k", "write 1000, say".to_owned()),
        ("--max-connections 0", "write 1, say".to_owned()),
        ("--max-connections 9999999", "write 1048576, say".to_owned()),
        ("--max-idle-connections 1025", "write 1024, say".to_owned()),
        ("--max-idle-connections few", "write 512, say".to_owned()),
        ("--max-unanswered x", "write 128, say".to_owned()),
        ("--bench on", "write 5, say".to_owned()),
        ("--bench +5", "write 5, say".to_owned()),
        ("--bench 1001", "write 5, say".to_owned()),
        ("--workers x", format!("write {workers}, say")),
        ("--max-head 0", "write 1KiB, say".to_owned()),
        ("--max-head 2000GiB", "write 256KiB, say".to_owned()),
        ("--max-head x", "write 1KiB, 32KiB or 256KiB".to_owned()),
    ];
    for (args, expected) in rows {
        let line = failure(args, &[("BACKEND_SERVERS", "http://a")]);
        assert!(line.ends_with(&format!("; {expected}")), "{line}");
    }
}

#[test]
fn check_prints_a_line_for_every_flag() {
    for (args, env) in [("--check", "off"), ("", "on")] {
        let text = printed(args, &[("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_CHECK", env)]);
        let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        let expected: Vec<&str> = flags().map(|(name, _)| name).filter(|name| *name != "check").collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn a_timeout_of_nothing_is_refused() {
    let line = failure("--timeout 0s", &[]);
    assert_eq!(line, "red-tentacle: --timeout '0s': no answer can come in no time; write 5s, say");
}

#[test]
fn the_token_is_read_and_never_shown() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "s3cret\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let env = [("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_ADMIN_TOKEN_FILE", path)];
    for (args, env) in [(format!("--admin-token-file {path}"), &env[..1]), (String::new(), &env[..])] {
        let config = config(&args, env);
        assert_eq!(config.admin_token.as_ref().map(AdminToken::as_str), Some("s3cret"));
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(shown("admin-token-file", &args, env), "(set)");
    }
    assert_eq!(shown("admin-token-file", "", &env[..1]), "(none)");
    let line = failure("--admin-token-file /no/such", &env);
    assert!(line.starts_with("red-tentacle: --admin-token-file '/no/such': cannot read it: No such file"), "{line}");
}

#[test]
fn a_bad_value_stays_on_its_line() {
    let env = [("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_TIMEOUT", "5s\nforged")];
    let expected =
        "red-tentacle: RED_TENTACLE_TIMEOUT '5s\\nforged': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h";
    assert_eq!(failure("", &env), expected);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(b"\xff".to_vec());
    let args = ["red-tentacle", "--timeout"].map(OsString::from).into_iter();
    let by_flag = read(args.clone().chain([bad()]), |_| None);
    let by_env = read(args.take(1), |name| (name == "RED_TENTACLE_TIMEOUT").then(bad));
    for (invocation, culprit) in [(by_flag, "--timeout"), (by_env, "RED_TENTACLE_TIMEOUT")] {
        match invocation {
            Invocation::Fail(line) => assert_eq!(line, format!("red-tentacle: {culprit} '\u{fffd}': not UTF-8")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_process_environment_fits() {
    let invocation = read(["red-tentacle".into(), "--version".into()], std::env::var_os);
    assert!(matches!(invocation, Invocation::Print(_)));
}

#[test]
fn new_configurations_pass_the_checks() {
    let config = Config::new(parse_entries("http://a").expect("a list"));
    assert!(config.idle_timeout >= config.timeout);
    assert!(config.admin_listen.iter().all(Listen::is_loopback));
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let empty: Vec<(&'static str, &str)> = flags().map(|(_, variable)| (variable, "")).collect();
    let set = config("--backends http://a", &empty);
    let unset = config("--backends http://a", &[]);
    assert_eq!(format!("{set:?}"), format!("{unset:?}"));
    let expected = "red-tentacle: no backends; set BACKEND_SERVERS=http://a,http://b or give --backends";
    assert_eq!(failure("", &[("BACKEND_SERVERS", "")]), expected);
}

#[test]
fn a_variable_that_is_not_ours_is_told_with_the_one_that_was_meant() {
    let names =
        ["PATH", "RED_TENTACLE_TIMOUT", "RED_TENTACLE_TIMEOUT", "RED_TENTACLE_PORT_8080_TCP", "RED_TENTACLE_\n"];
    let expected = [
        "unknown variable RED_TENTACLE_\\n does nothing",
        "unknown variable RED_TENTACLE_PORT_8080_TCP does nothing",
        "unknown variable RED_TENTACLE_TIMOUT does nothing; did you mean RED_TENTACLE_TIMEOUT?",
    ];
    assert_eq!(oddities(names), expected);
}
