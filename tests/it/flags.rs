//! Every flag, by its name and by its variable, on the program itself: what it changes, and what happens to bad values.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use red_tentacle::config;
use tempfile::NamedTempFile;

use crate::harness::{
    Authority, BRIEFLY, Binary, Client, Connection, Ended, Fake, Gate, LOCALHOST, Raw, Reply, SOON, eventually, get,
    own_address, pattern, refusing, reply_to,
};

const LIST: &str = "http://a.example,https://b.example:8443/base";

/// Runs the program to its end with these arguments and variables.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Binary::command();
    command.args(arguments).envs(variables.iter().copied());
    Binary::run(command)
}

/// The one line that a run with bad arguments or variables ends with.
fn usage_error(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let ended = run(arguments, variables);
    let asks_health = arguments
        .iter()
        .chain(variables.iter().map(|(name, _)| name))
        .any(|text| text.starts_with("--health") || *text == "RED_TENTACLE_HEALTH");
    let code = if asks_health { 1 } else { 2 };
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{arguments:?} {variables:?}: {ended:?}");
    let line = ended.stderr.strip_suffix('\n').and_then(|line| line.strip_prefix("red-tentacle: ")).unwrap_or_default();
    assert!(!line.is_empty() && !line.contains('\n'), "one line: {ended:?}");
    line.to_owned()
}

/// The effective configuration that `--check` prints.
fn checked(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let ended = run(&[&["--check"], arguments].concat(), variables);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

/// The variable that stands in for a flag.
fn variable(flag: &str) -> &'static str {
    config::flags().find(|(name, _)| *name == flag).map(|(_, variable)| variable).expect("a flag")
}

fn ask(address: SocketAddr, method: &str, target: &str, fields: &[&str], body: Option<&[u8]>) -> Reply {
    reply_to(address, method, target, fields, body)
}

/// A file with a certificate as far as PEM goes: nothing that can be trusted.
fn certificate_file() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(Authority::new().pem().as_bytes()).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    (file, path)
}

/// A file with a token.
fn token_file() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(b"s3cret\n").expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    (file, path)
}

/// Was seen as: a new authority that isn't trusted after a reload, as that of `ca=` is, and no word of it.
#[test]
fn a_file_that_only_a_start_reads_is_told_at_sighup_once_it_has_changed() {
    let (mut authorities, ca) = certificate_file();
    let (_secret, token) = token_file();
    let program = Binary::start(&["--backends", LIST, "--ca-file", &ca, "--admin-token-file", &token]);
    program.address();
    let told = |flag: &str| {
        let why = "has changed and is read at the start alone; restart to have it count";
        format!("SIGHUP: the file of --{flag} {why}")
    };
    let read = "SIGHUP: nothing to read again";
    program.signal("HUP");
    program.line(read);
    program.signal("HUP");
    let lines = program.lines_until(read);
    assert_eq!(lines.len(), 1, "as long as they are the same: {lines:#?}");
    authorities.write_all(Authority::new().pem().as_bytes()).expect("written");
    program.signal("HUP");
    program.line(&told("ca-file"));
    fs::write(&token, "another\n").expect("written");
    program.signal("HUP");
    program.line(&told("ca-file"));
    program.line(&told("admin-token-file"));

    // Was seen as: nothing, or advice to restart, which failed.
    fs::write(&token, "").expect("written");
    fs::remove_file(&ca).expect("removed");
    program.signal("HUP");
    let lines = program.lines_until("the file of --admin-token-file");
    let is_told = |line: &String, text: &str| line.contains("WARN") && line.contains(text);
    let [.., ca_line, token_line] = &lines[..] else { panic!("{lines:#?}") };
    let lost = "--ca-file can't be used any more (cannot read it: No such file or directory (os error 2)): a restart would fail";
    assert!(is_told(ca_line, lost), "{lines:#?}");
    let emptied = "can't be used any more (the token is empty; write one into the file): a restart would fail";
    assert!(is_told(token_line, emptied), "{lines:#?}");
}

#[test]
fn every_bad_value_ends_the_start_with_one_line_that_names_flag_or_variable() {
    let rows = [
        ("--backends", "ftp://a", "'ftp://a': it must begin with http:// or https://"),
        ("--backends", "http://a,http://a", "'http://a': http://a is in the list twice"),
        ("--backends-file", "/dev/null", "/dev/null: it isn't a file"),
        (
            "--lose-if",
            "status 200",
            "'status 200': no rule; write 'header NAME', 'header NAME ~ PATTERN' or 'body ~ PATTERN'",
        ),
        ("--win-on", "tail", "'tail': neither head nor byte; write one of them"),
        ("--race-methods", "GET,he ad", "'he ad': entries stand between commas, not spaces"),
        ("--race-methods", "get", "'get': methods have capitals; write GET"),
        // Was seen as: no request was raced, and the default is shown so.
        ("--race-methods", "all", "'all': no method; write GET,HEAD, say, or leave it out to race all"),
        ("--race-methods", "GET,*", "'*': no method; write GET,HEAD, say, or leave it out to race all"),
        // Was seen as: advice that has all raced.
        (
            "--race-methods",
            "None",
            "'None': no method; write those that race: TRACE, which hardly a client sends, is next to none",
        ),
        (
            "--race-methods",
            "off",
            "'off': no method; write those that race: TRACE, which hardly a client sends, is next to none",
        ),
        ("--on-failure", "worst", "'worst': none of the ways to fail; write bad-gateway, best, or best..500ms"),
        ("--on-failure", "best..0s", "'best..0s': nothing is waited for; write best..500ms, or give --final"),
        ("--final", "404,2xx", "'2xx': not a status or a range of them; write 200 or 200-299"),
        ("--final", "200-404", "'200-404': only 300 to 599 can be final; write 404,410, say"),
        ("--success", "2xx", "'2xx': not a status or a range of them; write 200 or 200-299"),
        ("--timeout", "5", "'5': no unit; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("--timeout", "0s", "'0s': no answer can come in no time; write 5s, say"),
        ("--idle-timeout", "soon", "'soon': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("--host", "other", "'other': neither backend nor preserve; write one of them"),
        ("--via", "yes", "'yes': neither on nor off; write one of them"),
        ("--expose-backends", "2", "'2': neither on nor off; write one of them"),
        ("--linger", "1d", "'1d': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("--linger-unsafe", "-1s", "'-1s': not a duration; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("--max-unanswered", "0", "'0': not a whole number from 1 to 65536; write 1, say"),
        ("--bench", "1", "'1': neither off nor a whole number from 2 to 1000; write 5, say"),
        ("--max-idle-connections", "1025", "'1025': not a whole number from 0 to 1024; write 1024, say"),
        ("--dns-ttl", "30", "'30': no unit; write 500ms, 1.5s, 5s, 1m30s or 1h"),
        ("--ca-file", "/nonexistent", "'/nonexistent': cannot read it: "),
        ("--ca-file", "/dev/null", "'/dev/null': it holds no certificate; name a PEM file that does"),
        ("--listen", "a.example:80", "'a.example:80': no other host name than localhost; write :8080, localhost:8080,"),
        ("--max-head", "16X", "'16X': not a size; write 1KiB, 32KiB or 256KiB"),
        ("--max-head", "1023B", "'1023B': not from 1KiB to 256KiB; write 1KiB, say"),
        ("--max-head", "1MiB", "'1MiB': not from 1KiB to 256KiB; write 256KiB, say"),
        ("--max-body", "10TB", "'10TB': not a size; write 512B, 16KiB, 10MiB or 1GiB"),
        ("--spool-dir", "/nonexistent", "'/nonexistent': no such directory; name one that exists"),
        ("--max-connections", "0", "'0': not a whole number from 1 to"),
        ("--trusted-proxies", "10.0.0.0/33", "'10.0.0.0/33': not a network; write 172.17.0.0/16"),
        ("--trusted-proxies", "none,10.0.0.1", "'none': not a network; write 172.17.0.0/16"),
        ("--workers", "-1", "'-1': not a whole number from 1 to 1024; write 1, say"),
        (
            "--tls-listen",
            "a.example:80",
            "'a.example:80': no other host name than localhost; write :8443, localhost:8443,",
        ),
        ("--tls-cert", "a,b,c", "'a,b,c': no file with a certificate and its key; write both.pem or"),
        ("--tls-client-ca", "/nonexistent", "is for --tls-listen; give that too"),
        ("--tls-client-cert-header", "maybe", "'maybe': neither on nor off; write one of them"),
        (
            "--admin-listen",
            "127.0.0.1",
            "'127.0.0.1': no port; write localhost:8081, 127.0.0.1:8081, [::1]:8081 or off",
        ),
        ("--admin-token-file", "/nonexistent", "'/nonexistent': cannot read it: "),
        ("--admin-host", "http://a", "'http://a': not a host name; write proxy.example"),
        ("--admin-from", "10.0.0.0/33", "'10.0.0.0/33': not a network; write 172.17.0.0/16"),
        ("--admin-on-proxy-port", "maybe", "'maybe': neither on nor off; write one of them"),
        ("--grace-period", "25h", "'25h': longer than a day; write at most 24h"),
        ("--log-level", "loud", "'loud': no level; write off, error, warn, info, debug or trace"),
        ("--log-format", "xml", "'xml': neither text nor json; write one of them"),
        ("--check", "maybe", "'maybe': neither on nor off; write one of them"),
        ("--probe", "maybe", "'maybe': neither on nor off; write one of them"),
        ("--try", "x", "'x': no path; write /status, say"),
        ("--demo", "maybe", "'maybe': neither on nor off; write one of them"),
        ("--health", "https://a", "'https://a': it must begin with http://"),
        ("--update", "http://a,b", "'b': it must begin with http:// or https://"),
        ("--admin", "127.0.0.1:8081", "'127.0.0.1:8081': it must begin with http://"),
    ];
    for (flag, value, reason) in rows {
        let variable = variable(&flag[2..]);
        let others = if flag == "--backends" { vec![] } else { vec![("BACKEND_SERVERS", LIST)] };
        let line = usage_error(&[], &[others.as_slice(), &[(variable, value)]].concat());
        assert!(line.starts_with(&format!("{variable} {reason}")), "{line}");
        if !matches!(flag, "--check" | "--probe" | "--demo") {
            let line = usage_error(&[&format!("{flag}={value}")], &others);
            assert!(line.starts_with(&format!("{flag} {reason}")), "{line}");
        }
    }
    for (name, _) in config::flags() {
        assert!(rows.iter().any(|(flag, ..)| flag[2..] == *name), "no bad value of --{name} is tried");
    }
}

#[test]
fn a_command_line_that_cannot_be_read_ends_the_start_with_one_line() {
    let rows: [(&[&str], &str); 7] = [
        (&["--timeuot", "5s"], "unknown flag --timeuot; did you mean --timeout? see --help"),
        (&["-x"], "unknown flag -x; see --help"),
        (&["http://a"], "'http://a' follows no flag; backends are given by --backends, see --help"),
        (&["--timeout"], "--timeout needs a value; see --help"),
        (&["--timeout", "1s", "--timeout", "2s"], "--timeout is given twice; leave one out"),
        (&["--check=on"], "--check takes no value; write it alone"),
        (&["--demo", "--backends", "http://a"], "--backends goes with no --demo, which brings its own; leave one out"),
    ];
    for (arguments, expected) in rows {
        assert_eq!(usage_error(arguments, &[]), expected);
    }
}

#[test]
fn without_backends_it_does_not_start_and_names_the_variable() {
    let expected = "no backends; set BACKEND_SERVERS=http://a,http://b or give --backends";
    assert_eq!(usage_error(&[], &[]), expected);
    assert_eq!(usage_error(&[], &[("BACKEND_SERVERS", " ")]), expected);
}

#[test]
fn check_prints_what_is_in_effect() {
    let (_token_file, token) = token_file();
    let (_certificate_file, certificate) = certificate_file();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("UTF-8");
    let backends_file = format!("{directory}/backends");
    let served = LOCALHOST.1.chain.to_str().expect("UTF-8");
    let rows = [
        ("--backends", LIST, LIST),
        ("--backends-file", &backends_file, &backends_file),
        ("--success", "200-299,304", "200-299,304"),
        ("--final", "404, 410-411", "404,410-411"),
        ("--on-failure", "Best..2s", "best..2s"),
        ("--lose-if", "header x-a\nbody ~ b", "header x-a; body ~ b"),
        ("--win-on", "Byte", "byte"),
        ("--race-methods", "GET, HEAD,PROPFIND", "GET,HEAD,PROPFIND"),
        ("--timeout", "1500ms", "1500ms"),
        ("--idle-timeout", "2m", "120s"),
        ("--host", "preserve", "preserve"),
        ("--via", "on", "on"),
        ("--expose-backends", "on", "on"),
        ("--linger", "300ms", "300ms"),
        ("--linger-unsafe", "0s", "0s"),
        ("--max-unanswered", "9", "9"),
        ("--bench", "5", "5"),
        ("--max-idle-connections", "0", "0"),
        ("--dns-ttl", "1m", "60s"),
        ("--ca-file", &certificate, "(1 certificate)"),
        ("--listen", "127.0.0.1:80,[::1]:80", "127.0.0.1:80,[::1]:80"),
        ("--max-head", "262144B", "256KiB"),
        ("--max-body", "1024KiB", "1MiB"),
        ("--spool-dir", directory, directory),
        ("--max-connections", "17", "17"),
        ("--trusted-proxies", "10.0.0.1/8,::1", "10.0.0.0/8,::1/128"),
        ("--workers", "3", "3"),
        ("--tls-listen", "127.0.0.1:443", "127.0.0.1:443"),
        ("--tls-cert", served, served),
        ("--tls-client-ca", &certificate, &certificate),
        ("--tls-client-cert-header", "on", "on"),
        ("--admin-listen", "off", "off"),
        ("--admin-token-file", &token, "(set)"),
        ("--admin-host", "Proxy.example", "proxy.example"),
        ("--admin-from", "172.17.0.1/16", "172.17.0.0/16"),
        ("--admin-on-proxy-port", "off", "off"),
        ("--grace-period", "0s", "0s"),
        ("--log-level", "warn", "warn"),
        ("--probe", "", "off"),
        ("--log-format", "JSON", "json"),
        ("--try", "", "(none)"),
        ("--demo", "", "off"),
        ("--health", "", "(none)"),
        ("--update", "http://a,http://b", "http://a,http://b"),
        ("--admin", "http://127.0.0.1:9", "http://127.0.0.1:9/"),
    ];
    let given = rows.iter().filter(|(_, value, _)| !value.is_empty());
    let arguments: Vec<&str> = given.clone().flat_map(|(flag, value, _)| [*flag, *value]).collect();
    let variables: Vec<(&str, &str)> = given.map(|(flag, value, _)| (variable(&flag[2..]), *value)).collect();
    let mut by_variables = variables.clone();
    by_variables.push(("RED_TENTACLE_CHECK", "on"));
    let expected: Vec<String> = config::flags()
        .filter(|(name, _)| *name != "check")
        .map(|(name, _)| {
            let (.., shown) = rows.iter().find(|(flag, ..)| flag[2..] == *name).expect(name);
            format!("{name} = {shown}\n")
        })
        .collect();
    assert_eq!(checked(&arguments, &[]), expected.concat());
    let ended = run(&[], &by_variables);
    assert_eq!((ended.code, ended.stdout), (Some(0), expected.concat()));
}

#[test]
fn what_users_of_other_programs_write_is_taken() {
    let rows = [
        ("--listen", ":8090", "0.0.0.0:8090,[::]:8090 (where IPv6 exists)"),
        ("--listen", "*:8090", "0.0.0.0:8090,[::]:8090 (where IPv6 exists)"),
        ("--listen", "8090", "0.0.0.0:8090,[::]:8090 (where IPv6 exists)"),
        ("--listen", "localhost:8090", "127.0.0.1:8090,[::1]:8090 (where IPv6 exists)"),
        ("--listen", "127.0.0.1:8090", "127.0.0.1:8090"),
        ("--admin-listen", "localhost:8090", "127.0.0.1:8090,[::1]:8090 (where IPv6 exists)"),
        ("--timeout", "1m30s", "90s"),
        ("--timeout", "1.5s", "1500ms"),
        ("--max-body", "10M", "10MiB"),
        ("--max-body", "10MB", "10MiB"),
        ("--max-body", "10m", "10MiB"),
    ];
    for (flag, value, expected) in rows {
        let shown = checked(&[flag, value], &[("BACKEND_SERVERS", LIST)]);
        let line = format!("{} = {expected}\n", &flag[2..]);
        assert!(shown.contains(&line), "{flag} {value}: {shown}");
        assert_eq!(checked(&[], &[("BACKEND_SERVERS", LIST), (variable(&flag[2..]), value)]), shown, "{flag} {value}");
    }
}

#[test]
fn localhost_is_listened_on_and_reached() {
    let good = Fake::with(200, "good");
    let mut command = Binary::command();
    command.args(["--backends", &good.url, "--listen", "localhost:0", "--admin-listen", "off"]);
    let program = Binary::spawn(command);
    let line = program.line("listens on 127.0.0.1:");
    let address = line.split("listens on ").nth(1).and_then(|list| list.split(" and ").next()).expect("an address");
    assert_eq!(get(address.parse().expect("an address"), "/").text(), "good");
}

#[test]
fn a_bare_admin_port_is_open_and_the_refusal_says_what_was_meant() {
    for list in [":8082", "8082", "*:8082"] {
        let line = usage_error(&["--admin-listen", list], &[("BACKEND_SERVERS", LIST)]);
        assert!(line.contains("; write localhost:8082, or give --admin-token-file FILE"), "{line}");
    }
}

#[test]
fn an_entry_that_is_nearly_a_backend_gets_one_offered() {
    let rows = [
        ("127.0.0.1:9001", "'127.0.0.1:9001': it must begin with http:// or https://; write http://127.0.0.1:9001"),
        ("http://::1:9001", "'http://::1:9001': an IPv6 address stands between brackets; write http://[::1]:9001"),
        ("http://a;http://b", "'http://a;http://b': entries stand between commas, not semicolons"),
        ("http://a http://b", "'http://a http://b': entries stand between commas, not spaces"),
    ];
    for (list, reason) in rows {
        assert_eq!(usage_error(&["--backends", list], &[]), format!("--backends {reason}"));
        assert_eq!(usage_error(&[], &[("BACKEND_SERVERS", list)]), format!("BACKEND_SERVERS {reason}"));
    }
}

#[test]
fn a_flag_beats_its_variable_which_beats_the_default() {
    let backends = ("BACKEND_SERVERS", LIST);
    let timeout = |text: &str| text.lines().find(|line| line.starts_with("timeout = ")).map(str::to_owned);
    assert_eq!(timeout(&checked(&[], &[backends])).as_deref(), Some("timeout = 5s"));
    let variables = [backends, ("RED_TENTACLE_TIMEOUT", "7s")];
    assert_eq!(timeout(&checked(&[], &variables)).as_deref(), Some("timeout = 7s"));
    assert_eq!(timeout(&checked(&["--timeout", "9s"], &variables)).as_deref(), Some("timeout = 9s"));
}

#[test]
fn the_defaults_are_those_that_the_help_tells() {
    let shown = checked(&["--backends", LIST], &[]);
    let expected = [
        "listen = 0.0.0.0:8080,[::]:8080 (where IPv6 exists)\n",
        "admin-listen = 127.0.0.1:8081,[::1]:8081 (where IPv6 exists)\n",
        "timeout = 5s\nidle-timeout = 60s\n",
        "success = 200-299\n",
        "final = (none)\n",
        "on-failure = bad-gateway\n",
        "lose-if = (none)\n",
        "win-on = head\n",
        "race-methods = (all)\n",
        "linger = 200ms\nlinger-unsafe = 5s\n",
        "max-unanswered = 128\nbench = off\n",
        "max-idle-connections = 512\n",
        "dns-ttl = 30s\n",
        "ca-file = (none)\n",
        "max-head = 32KiB\n",
        "max-body = 10MiB\n",
        "grace-period = 10s\n",
        "log-level = info\n",
        "admin-on-proxy-port = on\n",
        "host = backend\n",
    ];
    for line in expected {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let longer = checked(&["--backends", LIST, "--timeout", "2m"], &[]);
    assert!(longer.contains("idle-timeout = 120s\n") && longer.contains("linger-unsafe = 120s\n"), "{longer}");
}

#[test]
fn help_tells_every_flag_with_its_variable_and_version_the_version() {
    let help = run(&["--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for (name, variable) in config::flags() {
        assert!(help.stdout.contains(&format!("--{name}")), "--{name} in {}", help.stdout);
        assert!(help.stdout.contains(&format!("[env: {variable}]")), "{variable} in {}", help.stdout);
    }
    let version = run(&["--version"], &[]);
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (Some(0), concat!("red-tentacle ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[test]
fn an_address_in_use_ends_the_start_with_1_and_names_it_and_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let free = "127.0.0.1:0";
    // Was seen as: of a second instance no flag was named.
    for (listen, admin_listen, advice) in [
        (address.as_str(), free, "give --listen another address"),
        (free, address.as_str(), "give --admin-listen another address, or off"),
    ] {
        let ended = run(&["--backends", LIST, "--listen", listen, "--admin-listen", admin_listen], &[]);
        let expected = format!("red-tentacle: cannot listen on {address}: the address is in use; {advice}\n");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), expected.as_str()));
    }
}

#[test]
fn an_open_admin_address_needs_a_token_or_networks() {
    let (_file, token) = token_file();
    let backends = ("BACKEND_SERVERS", LIST);
    for open in ["0.0.0.0:8081", "127.0.0.1:8081,[::]:8081", "192.0.2.7:8081"] {
        let line = usage_error(&["--admin-listen", open], &[backends]);
        assert!(line.starts_with("--admin-listen '"), "{line}");
        assert!(line.ends_with("give --admin-token-file FILE or --admin-from CIDR too"), "{line}");
        let line = usage_error(&[], &[backends, ("RED_TENTACLE_ADMIN_LISTEN", open)]);
        assert!(line.starts_with("RED_TENTACLE_ADMIN_LISTEN '"), "{line}");
        checked(&["--admin-listen", open, "--admin-token-file", &token], &[backends]);
        checked(&["--admin-listen", open, "--admin-from", "10.0.0.0/8"], &[backends]);
    }
    checked(&["--admin-listen", "127.9.9.9:8081,[::1]:8081"], &[backends]);
}

#[test]
fn an_idle_timeout_shorter_than_the_timeout_is_refused() {
    let backends = ("BACKEND_SERVERS", LIST);
    let line = usage_error(&["--idle-timeout", "4s"], &[backends]);
    assert_eq!(line, "--idle-timeout '4s': shorter than --timeout; write at least 5s");
    let line = usage_error(&["--timeout", "9s"], &[backends, ("RED_TENTACLE_IDLE_TIMEOUT", "8s")]);
    assert_eq!(line, "RED_TENTACLE_IDLE_TIMEOUT '8s': shorter than --timeout; write at least 9s");
}

#[test]
fn the_environment_alone_starts_it() {
    let good = Fake::with(200, "good");
    let (address, admin) = (own_address(), own_address());
    let mut command = Binary::command();
    command.env("BACKEND_SERVERS", format!("{},{}", refusing(), good.url));
    command.env("RED_TENTACLE_LISTEN", address.to_string()).env("RED_TENTACLE_ADMIN_LISTEN", admin.to_string());
    let program = Binary::spawn(command);
    assert_eq!(program.addresses(), (address, admin));
    assert_eq!(get(address, "/").text(), "good");
    assert_eq!(get(admin, "/").status, 200);
}

#[test]
fn max_head_bounds_the_head_of_a_request() {
    let good = Fake::with(200, "good");
    for (max_head, bytes_max) in [("1KiB", 1 << 10), ("256KiB", 256 << 10)] {
        let program = Binary::start(&["--backends", &good.url, "--max-head", max_head]);
        let (address, admin) = program.addresses();
        let head = |length: usize| {
            let begin = "GET / HTTP/1.1\r\nHost: a\r\nX-A: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
        };
        let status = |address, length| {
            let mut client = Client::connect(address);
            client.send(head(length));
            client.reply().status
        };
        assert_eq!((status(address, bytes_max), status(address, bytes_max + 1)), (200, 431), "{max_head}");
        // A token of the longest must get in.
        assert_eq!(status(admin, 32 << 10), 403, "{max_head}");
    }
}

#[test]
fn max_body_bounds_what_a_client_may_send() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--max-body", "16B"]);
    let address = program.address();
    assert_eq!(ask(address, "POST", "/", &[], Some(&[b'x'; 16])).status, 200);
    let refused = ask(address, "POST", "/", &[], Some(&[b'x'; 17]));
    assert_eq!((refused.status, refused.text().contains("--max-body")), (413, true));
}

#[test]
fn timeout_bounds_the_wait_for_a_head() {
    let hanging = Raw::hanging();
    let program = Binary::start(&["--backends", &hanging.url, "--timeout", "300ms"]);
    let reply = get(program.address(), "/");
    assert_eq!(reply.status, 502);
    // The default is five seconds.
    let line = program.line(" 502 in ");
    let ms = line.split(" 502 in ").nth(1).and_then(|rest| rest.split_once("ms")).map(|(ms, _)| ms.parse::<f64>());
    assert!(
        line.contains("b1=timeout") && ms.is_some_and(|ms| ms.is_ok_and(|ms| (300.0..4500.0).contains(&ms))),
        "{line}"
    );
}

#[test]
fn idle_timeout_bounds_the_silence_in_a_body() {
    let stuck = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
        connection.wait_for_hang_up();
    });
    let program = Binary::start(&["--backends", &stuck.url, "--timeout", "1s", "--idle-timeout", "1s"]);
    let reply = get(program.address(), "/");
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "begin", false));
    stuck.expect_hang_up();
}

#[test]
fn success_says_who_wins() {
    let missing = Fake::with(404, "missing");
    let program = Binary::start(&["--backends", &missing.url, "--success", "404"]);
    assert_eq!(get(program.address(), "/").text(), "missing");
}

#[test]
fn a_status_is_not_final_and_a_success_too() {
    let reason = usage_error(&["--backends", "http://a", "--success", "200,404", "--final", "400-499"], &[]);
    assert!(
        reason.contains("'400-499': 404 is a success already (--success); leave it out of one of them"),
        "{reason}"
    );
}

#[test]
fn host_says_whose_name_the_backends_see() {
    let good = Fake::with(200, "good");
    for (host, expected) in [("backend", good.url.strip_prefix("http://").expect("a URL")), ("preserve", "localhost")] {
        let program = Binary::start(&["--backends", &good.url, "--host", host]);
        assert_eq!(get(program.address(), "/").status, 200);
        assert_eq!(good.next().values("host"), [expected], "{host}");
    }
}

#[test]
fn via_says_whether_backends_get_it() {
    let good = Fake::with(200, "good");
    for (via, count) in [("off", 0), ("on", 1)] {
        let program = Binary::start(&["--backends", &good.url, "--via", via]);
        assert_eq!(get(program.address(), "/").values("via").len(), 1, "--via {via}: clients do");
        let received = good.next();
        assert_eq!((received.values("via").len(), received.values("cdn-loop").len()), (count, 1), "--via {via}");
    }
}

#[test]
fn expose_backends_says_whether_clients_learn_addresses() {
    let bad = Fake::with(404, "bad");
    for (flag, is_told) in [("off", false), ("on", true)] {
        let program = Binary::start(&["--backends", &bad.url, "--expose-backends", flag]);
        let text = get(program.address(), "/").text();
        assert_eq!(text.contains(&format!("b1 {} 404: ", bad.url)), is_told, "--expose-backends {flag}: {text}");
        assert_eq!(text.contains("b1 404: "), !is_told, "--expose-backends {flag}: {text}");
    }
}

#[test]
fn trusted_proxies_says_who_is_believed() {
    let good = Fake::with(200, "good");
    let rows: [(&[&str], &str); 5] = [
        (&[], "203.0.113.9, 127.0.0.1"),
        (&["--trusted-proxies", "127.0.0.1"], "203.0.113.9, 127.0.0.1"),
        (&["--trusted-proxies", "10.0.0.0/8, ::ffff:127.0.0.1/128"], "203.0.113.9, 127.0.0.1"),
        (&["--trusted-proxies", "10.0.0.0/8"], "127.0.0.1"),
        (&["--trusted-proxies", "none"], "127.0.0.1"),
    ];
    for (arguments, expected) in rows {
        let program = Binary::start(&[&["--backends", &good.url], arguments].concat());
        let reply = ask(program.address(), "GET", "/", &["X-Forwarded-For: 203.0.113.9"], None);
        assert_eq!((reply.status, good.next().values("x-forwarded-for")), (200, vec![expected]), "{arguments:?}");
    }
    let many = vec!["10.0.0.1"; 65].join(",");
    let line = usage_error(&["--trusted-proxies", &many], &[("BACKEND_SERVERS", LIST)]);
    assert!(
        line.starts_with("--trusted-proxies '10.0.0.1,") && line.ends_with("65 entries; write at most 64"),
        "{line}"
    );
}

/// A program that has just answered one client, while the hanging backend of the same race has its request, too.
fn program_with_loser(method: &str, hanging: &Raw, arguments: &[&str]) -> Binary {
    let gate = Gate::new();
    let good = Fake::behind(&gate, 200, "good");
    let list = format!("{},{}", hanging.url, good.url);
    let program =
        Binary::start(&[&["--backends", &list, "--timeout", "1h", "--idle-timeout", "1h"], arguments].concat());
    let mut client = Client::connect(program.address());
    client.send_request(method, "/", &[], None);
    hanging.next();
    gate.open();
    assert_eq!(client.reply().text(), "good");
    program
}

#[test]
fn linger_and_linger_unsafe_say_how_long_losers_may_finish() {
    for (flag, method, other) in [("--linger", "GET", "--linger-unsafe"), ("--linger-unsafe", "POST", "--linger")] {
        let hanging = Raw::hanging();
        let _program = program_with_loser(method, &hanging, &[flag, "0s", other, "1h"]);
        hanging.expect_hang_up();
        let hanging = Raw::hanging();
        let _program = program_with_loser(method, &hanging, &[flag, "1h", other, "0s"]);
        assert!(!hanging.is_hung_up_on_within(BRIEFLY), "{flag}");
    }
}

#[test]
fn max_unanswered_bounds_the_losers_that_wait_in_vain() {
    let (hanging, good) = (Raw::hanging(), Fake::with(200, "good"));
    let list = format!("{},{}", hanging.url, good.url);
    let arguments = ["--linger", "1h", "--timeout", "1h", "--idle-timeout", "1h", "--max-unanswered", "1"];
    let program = Binary::start(&[&["--backends", &list], &arguments[..]].concat());
    let address = program.address();
    // One a second goes there all the same; only the races that leave it out end before it does.
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "good");
    }
    program.line("b1=skipped b2=200/");
}

#[test]
fn max_idle_connections_says_how_many_connections_are_kept() {
    for (count, expected) in [("0", 3), ("1", 1)] {
        let good = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        let program = Binary::start(&["--backends", &good.url, "--max-idle-connections", count]);
        let mut client = Client::connect(program.address());
        for _ in 0..3 {
            client.send_request("GET", "/", &[], None);
            assert_eq!(client.reply().text(), "good");
        }
        assert_eq!(good.accepted(), expected, "--max-idle-connections {count}");
    }
}

#[test]
fn a_certificate_that_is_none_is_a_bad_value_of_the_flag() {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let ended = run(&["--backends", LIST, "--check", "--ca-file", path], &[]);
    assert_eq!(ended.code, Some(2));
    let told = format!("red-tentacle: --ca-file '{path}': its certificate 1 is cut off, damaged, or none of X.509");
    assert!(ended.stderr.starts_with(&told), "{}", ended.stderr);
}

#[test]
fn workers_says_how_many_there_are() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--workers", "3"]);
    assert_eq!(get(program.address(), "/").status, 200);
    eventually("three workers run", || program.threads_named("worker") == 3);
}

/// Was seen as: in 64 MiB of memory the program was killed by as many clients as it lets in elsewhere.
#[test]
fn what_there_may_be_of_clients_follows_the_memory_that_the_process_has() {
    let number = |limit: Option<&str>, name: &str| {
        let mut command = limit.map_or_else(Binary::command, Binary::command_with_limit);
        command.args(["--backends", LIST, "--check"]);
        let ended = Binary::run(command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let line = ended.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).expect("a line");
        line.split(' ').next().and_then(|text| text.parse::<usize>().ok()).expect("a number")
    };
    let limit = Some("-v 262144");
    let (little, all) = (number(limit, "max-connections"), number(None, "max-connections"));
    assert!(little <= all && (16..=2000).contains(&little), "{little} of {all}");
}

/// Was seen as: `--check` showed as many clients as were asked for, of which the start let in 209, and warned of nothing.
#[test]
fn check_shows_the_clients_in_effect_and_says_what_the_start_warns_of() {
    let warnings = [
        "the limit of 1024 open files leaves room for 209 clients: raise it (ulimit -n)",
        "209 clients could want a connection each to 3 backends, and there is room for 432: ",
    ];
    let three = "http://a.invalid,http://b.invalid,http://c.invalid";
    let arguments =
        ["--backends", three, "--max-connections", "500", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
    let mut command = Binary::command_with_limit("-n 1024");
    command.args(arguments).arg("--check");
    let ended = Binary::run(command);
    let line = "max-connections = 209 (500 asked for; the limit of 1024 open files leaves room for 209)\n";
    assert!(ended.code == Some(0) && ended.stdout.contains(line), "{ended:?}");
    let said: Vec<&str> = ended.stderr.lines().collect();
    assert!(said.len() == 2, "{said:?}");
    let mut command = Binary::command_with_limit("-n 1024");
    command.args(arguments);
    let program = Binary::spawn(command);
    for (said, warning) in said.into_iter().zip(warnings) {
        assert!(said.starts_with(&format!("red-tentacle: {warning}")), "{said}");
        program.line(warning);
    }
}

#[test]
fn more_clients_than_memory_has_room_for_are_warned_about_and_let_in() {
    let good = Fake::with(200, "good");
    let mut command = Binary::command_with_limit("-v 524288");
    command.args(["--backends", &good.url, "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    command.args(["--max-connections", "1048576"]);
    let program = Binary::spawn(command);
    program.line("the limit of 512 MiB of memory leaves room for ");
    assert_eq!(get(program.address(), "/").text(), "good");
}

#[test]
fn max_connections_makes_a_third_client_wait_until_one_leaves() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--max-connections", "2"]);
    let address = program.address();
    let serve = |client: &mut Client, target: &str| {
        client.send_request("GET", target, &[], None);
        assert_eq!(client.reply().text(), "good");
        assert_eq!(good.next().target, target);
    };
    let (mut first, mut second) = (Client::connect(address), Client::connect(address));
    serve(&mut first, "/1");
    serve(&mut second, "/2");
    let mut third = Client::connect(address);
    third.send_request("GET", "/3", &[], None);
    for _ in 0..10 {
        serve(&mut first, "/1");
        serve(&mut second, "/2");
    }
    assert!(good.received.recv_timeout(BRIEFLY).is_err(), "the third is served beside two others");
    drop(first);
    assert_eq!(third.reply().text(), "good");
    assert_eq!(good.next().target, "/3");
    serve(&mut second, "/2");
}

#[test]
fn log_level_says_how_much_is_told() {
    let good = Fake::with(200, "good");
    let start = |level: &str| {
        let address = own_address();
        let mut command = Binary::command();
        command.args(["--backends", &good.url, "--listen", &address.to_string(), "--admin-listen", "off"]);
        command.args(["--log-level", level]);
        let program = Binary::spawn(command);
        eventually("the program listens", || TcpStream::connect(address).is_ok());
        assert_eq!(get(address, "/").status, 200);
        (program, address)
    };
    let (warning, address) = start("warn");
    assert_eq!(ask(address, "POST", "/update-backends", &[], None).status, 400);
    let told = warning.lines_until(" 400 in ");
    assert_eq!(told.len(), 1, "neither the start nor a success is told: {told:#?}");
    let (mut silent, address) = start("off");
    assert_eq!(ask(address, "POST", "/update-backends", &[], None).status, 400);
    silent.signal("TERM");
    assert_eq!(silent.wait().code(), Some(0));
    assert_eq!(silent.rest(), "");
}

#[test]
fn a_spool_dir_that_takes_no_file_ends_the_start_and_the_default_is_checked_too() {
    // Where no user may write, root least of all.
    let line = usage_error(&["--spool-dir", "/proc"], &[("BACKEND_SERVERS", LIST)]);
    assert!(line.starts_with("--spool-dir '/proc': nothing can be written there ("), "{line}");
    assert!(line.ends_with("); name a directory that takes files"), "{line}");
    // As in a container from scratch, where there is no /tmp.
    let line = usage_error(&["--check"], &[("BACKEND_SERVERS", LIST), ("TMPDIR", "/nonexistent")]);
    assert_eq!(line, "--spool-dir '/nonexistent': no such directory; name one that exists");
}

#[test]
fn spool_dir_is_where_a_body_of_1_mib_waits_and_nothing_else_is_needed() {
    let gate = Gate::new();
    let held = gate.clone();
    let good = Fake::answering(move |request| {
        held.pass();
        Fake::reply(200, request.body.clone())
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8").to_owned();
    let mut command = Binary::command();
    command.args(["--backends", &good.url, "--listen", "127.0.0.1:0", "--admin-listen", "off", "--spool-dir", &path]);
    let program = Binary::spawn({
        command.env("TMPDIR", "/nonexistent");
        command
    });
    let body = pattern(1 << 20);
    let mut client = Client::connect(program.address());
    client.send_request("POST", "/", &[], Some(&body));
    assert!(good.next().body == body);
    let spooled = program.open_files().into_iter().filter(|file| file.starts_with(&path)).count();
    assert_eq!(spooled, 1, "{:?}", program.open_files());
    gate.open();
    assert!(client.reply().body == body);
    assert_eq!(fs::read_dir(&path).expect("a directory").count(), 0);
}

#[test]
fn a_spool_dir_that_vanishes_is_507_for_long_bodies_only() {
    let good = Fake::with(200, "good");
    let directory = tempfile::tempdir().expect("a directory");
    let path: PathBuf = directory.path().into();
    let program = Binary::start(&["--backends", &good.url, "--spool-dir", path.to_str().expect("UTF-8")]);
    let address = program.address();
    let long = vec![b'x'; 64 * 1024 + 1];
    assert_eq!(ask(address, "POST", "/", &[], Some(&long)).status, 200);
    assert_eq!(fs::read_dir(&path).expect("a directory").count(), 0);
    directory.close().expect("an empty directory");
    let refused = ask(address, "POST", "/", &[], Some(&long));
    assert_eq!((refused.status, refused.text().contains("--spool-dir")), (507, true));
    program.line("cannot spool a request's body (--spool-dir): ");
    assert_eq!(ask(address, "POST", "/", &[], Some(&long[1..])).status, 200);
}

/// Was seen as: under a limit of a file's size one long body ended the program, by a signal.
#[test]
fn a_body_longer_than_a_file_may_be_is_507_and_others_are_served() {
    let good = Fake::with(200, "good");
    // Of the shell's own blocks, which are of 512 or 1024 bytes.
    let mut command = Binary::command_with_limit("-f 200");
    command.args(["--backends", &good.url, "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    let program = Binary::spawn(command);
    let address = program.address();
    let refused = ask(address, "POST", "/", &[], Some(&pattern(1 << 20)));
    assert_eq!((refused.status, refused.text().contains("--spool-dir")), (507, true));
    program.line("cannot spool a request's body (--spool-dir): ");
    assert_eq!(ask(address, "POST", "/", &[], Some(b"short")).status, 200);
}

#[test]
fn admin_listen_off_leaves_updates_to_the_proxy_port() {
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let mut command = Binary::command();
    command.args(["--backends", &old.url, "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    let program = Binary::spawn(command);
    let start = program.lines_until("the backends are now");
    assert_eq!(start.len(), 2, "it says where clients connect, and what the backends are: {start:#?}");
    let address = start[0].rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
    let update = ask(address, "POST", &format!("/update-backends?backends={}", new.url), &[], None);
    assert_eq!((update.status, get(address, "/").text().as_str()), (200, "new"));
}

#[test]
fn admin_on_proxy_port_off_forwards_the_paths() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--admin-on-proxy-port", "off"]);
    let (address, admin) = program.addresses();
    assert_eq!(ask(address, "POST", "/update-backends", &[], None).text(), "good");
    assert_eq!(good.next().target, "/update-backends");
    assert_eq!(ask(admin, "POST", "/update-backends", &[], None).status, 400);
}

#[test]
fn admin_token_file_holds_what_an_update_must_show() {
    let good = Fake::with(200, "good");
    let (_file, token) = token_file();
    let program = Binary::start(&["--backends", &good.url, "--admin-token-file", &token]);
    let (address, admin) = program.addresses();
    let target = format!("/update-backends?backends={}", good.url);
    for port in [address, admin] {
        assert_eq!(ask(port, "POST", &target, &[], None).status, 403);
        assert_eq!(ask(port, "POST", &target, &["Authorization: Bearer s3cret"], None).status, 200);
    }
}

#[test]
fn admin_host_names_what_else_an_update_may_ask_for() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--admin-host", "proxy.example"]);
    let (_, admin) = program.addresses();
    for (host, status) in [("proxy.example", 200), ("other.example", 403)] {
        let mut client = Client::connect(admin);
        client.send(format!("POST /update-backends?backends={} HTTP/1.1\r\nHost: {host}\r\n\r\n", good.url));
        assert_eq!(client.reply().status, status, "{host}");
    }
}

#[test]
fn grace_period_bounds_the_end() {
    let gate = Gate::new();
    let slow = Fake::behind(&gate, 200, "slow");
    let mut program = Binary::start(&["--backends", &slow.url, "--grace-period", "0s", "--timeout", "1h"]);
    let mut client = Client::connect(program.address());
    client.send_request("GET", "/", &[], None);
    slow.next();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(client.is_closed());
    gate.open();
}

#[test]
fn demo_offers_an_update_only_where_one_is_taken_and_with_its_token() {
    // Was seen as: an update line that couldn't work.
    let (_file, token) = token_file();
    let path = token.as_str();
    let free = "127.0.0.1:0";
    let rows: [(&[&str], Option<&str>); 3] = [
        (&["--admin-listen", "off", "--admin-on-proxy-port", "off"], None),
        (&["--admin-listen", "off"], Some("")),
        (&["--admin-listen", free, "--admin-token-file", path], Some(path)),
    ];
    for (arguments, token) in rows {
        let mut command = Binary::command();
        command.args(["--demo", "--listen", free]).args(arguments);
        let mut program = Binary::spawn(command);
        program.line("the backends are now");
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0));
        let printed: String = program.printed.iter().map(|line| line + "\n").collect();
        assert_eq!(printed.contains("update-backends"), token.is_some(), "{printed}");
        let shown = token.filter(|token| !token.is_empty());
        let header = shown.map(|file| format!("' -H \"Authorization: Bearer $(cat {file})\"\n")).unwrap_or_default();
        assert!(printed.contains(&header), "{printed}");
        assert_eq!(printed.contains("Authorization"), shown.is_some(), "{printed}");
    }
}

#[test]
fn demo_races_three_backends_of_its_own_and_says_what_to_try() {
    // The list of the environment is for the real thing.
    let mut command = Binary::command();
    command.args(["--demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).env("BACKEND_SERVERS", LIST);
    let program = Binary::spawn(command);
    let (address, admin) = program.addresses();
    let printed: Vec<String> = (0..7).map(|_| program.printed.recv_timeout(SOON).expect("a line")).collect();
    assert_eq!(printed[5].trim(), format!("curl -i http://{address}/hello"), "{printed:#?}");
    let update =
        printed[6].trim().strip_prefix(&format!("curl --fail-with-body -X POST 'http://{admin}")).expect("an update");
    let update = update.strip_suffix('\'').expect("a quote");
    for _ in 0..4 {
        let reply = get(address, "/hello");
        assert!(reply.status == 200 && reply.text().ends_with(" backend answers: GET /hello\n"), "{}", reply.text());
    }
    assert_eq!(ask(admin, "POST", update, &[], None).status, 200);
    assert_eq!(get(address, "/hello").text(), "the slow backend answers: GET /hello\n");
}
