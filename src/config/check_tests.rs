//! Values that must go together, and with what is on this host.

use super::tests::{config, failure, read_with, shown};
use super::*;

#[test]
fn the_idle_timeout_is_at_least_the_timeout() {
    let rows = [
        ("", "60s"),
        ("--timeout 59s", "60s"),
        ("--timeout 2m", "120s"),
        ("--idle-timeout 5s", "5s"),
        ("--timeout 2m --idle-timeout 2m", "120s"),
    ];
    for (args, expected) in rows {
        assert_eq!(shown("idle-timeout", args, &[("BACKEND_SERVERS", "http://a")]), expected, "{args}");
    }
    let env = [("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_IDLE_TIMEOUT", "1s")];
    let reason = "shorter than --timeout; write at least 5s";
    assert_eq!(failure("", &env), format!("red-tentacle: RED_TENTACLE_IDLE_TIMEOUT '1s': {reason}"));
    assert_eq!(failure("--idle-timeout 4999ms", &env), format!("red-tentacle: --idle-timeout '4999ms': {reason}"));
}

#[test]
fn an_open_admin_address_needs_a_token_or_networks() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "s3cret\n").expect("written");
    let with_token = format!("--admin-listen 0.0.0.0:8081 --admin-token-file {}", file.path().display());
    let env = [("BACKEND_SERVERS", "http://a")];
    for args in [with_token.as_str(), "--admin-listen 0.0.0.0:8081 --admin-from 10.0.0.0/8", "--admin-listen off"] {
        config(args, &env);
    }
    let or = "give --admin-token-file FILE or --admin-from CIDR too";
    let rows = [
        ("0.0.0.0:1", "0.0.0.0:1", "write localhost:1, or "),
        ("127.0.0.1:1,[::]:1", "[::]:1", "write localhost:1, or "),
        (":8082", "0.0.0.0:8082", "write localhost:8082, or "),
        ("8082", "0.0.0.0:8082", "write localhost:8082, or "),
        ("*:8082", "0.0.0.0:8082", "write localhost:8082, or "),
        ("10.0.0.1:1", "10.0.0.1:1", ""),
    ];
    for (list, culprit, narrower) in rows {
        let reason = format!("'{culprit}': others than this host can reach it; {narrower}{or}");
        let line = failure(&format!("--admin-listen {list}"), &env);
        assert_eq!(line, format!("red-tentacle: --admin-listen {reason}"));
        let line = failure("", &[env[0], ("RED_TENTACLE_ADMIN_LISTEN", list)]);
        assert_eq!(line, format!("red-tentacle: RED_TENTACLE_ADMIN_LISTEN {reason}"));
    }
    config("--admin-listen localhost:8082", &env);
}

/// Was seen as: where `/tmp` is memory, long bodies took what had been reckoned for clients, and nothing told of it.
#[test]
fn bodies_whose_files_are_memory_are_warned_about_on_a_small_host() {
    let host = Host { memory_bytes: 64 << 20, open_files: 1 << 20 };
    for directory in ["/dev/shm", "/tmp", "/proc"] {
        let draft = Config { spool_dir: directory.into(), ..config("", &[("BACKEND_SERVERS", "http://a")]) };
        let told = warnings(&draft, &host);
        let expected = memory_of_files(directory.as_ref()).is_some_and(|bytes| bytes > 8 << 20);
        let is_told =
            |warning: &String| warning.starts_with(&format!("--spool-dir {directory} is in memory (tmpfs): "));
        assert_eq!(told.iter().any(is_told), expected, "{told:?}");
    }
}

#[test]
fn the_two_ports_differ() {
    // Was seen as: `--check` took an address for both, and the start said that it was in use.
    let rows = [
        (
            "--listen localhost:1 --admin-listen localhost:1",
            "--admin-listen '127.0.0.1:1': overlaps 127.0.0.1:1 of --listen",
        ),
        ("--listen :1 --admin-listen [::1]:1", "--admin-listen '[::1]:1': overlaps [::]:1 of --listen"),
        ("--admin-listen localhost:8080", "--admin-listen '127.0.0.1:8080': overlaps 0.0.0.0:8080 of --listen"),
        ("--listen 8081", "--listen '0.0.0.0:8081': overlaps 127.0.0.1:8081 of --admin-listen"),
    ];
    let env = [("BACKEND_SERVERS", "http://a")];
    for (args, expected) in rows {
        for args in [args.to_owned(), format!("{args} --check")] {
            let line = failure(&args, &env);
            assert_eq!(line, format!("red-tentacle: {expected}; give one of them another port"));
        }
    }
    let line = failure("", &[env[0], ("RED_TENTACLE_LISTEN", ":8081")]);
    assert!(line.starts_with("red-tentacle: RED_TENTACLE_LISTEN '0.0.0.0:8081': overlaps 127.0.0.1:8081"), "{line}");
    for args in
        ["--listen :0 --admin-listen localhost:0", "--listen :8081 --admin-listen off", "--listen 10.0.0.1:8081"]
    {
        config(args, &env);
    }
    config("--listen :8081", &[env[0], ("LISTEN_FDS", "1")]);
}

#[test]
fn the_file_is_the_list_if_it_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("backends").to_str().expect("UTF-8").to_owned();
    let env = [("BACKEND_SERVERS", "http://a"), ("RED_TENTACLE_BACKENDS_FILE", path.as_str())];
    let list = |config: &Config| values::show_list(&config.backends);
    let before = config("", &env);
    assert_eq!((list(&before).as_str(), before.oddities.len()), ("http://a", 0));
    assert!(failure("", &env[1..]).ends_with("or give --backends, for there is no --backends-file yet"));
    std::fs::write(&path, "# mine\nhttp://b name=dc2\nhttp://c paused\n").expect("a file");
    let both = config("", &env);
    assert_eq!(list(&both), "http://b name=dc2,http://c paused");
    assert_eq!(both.oddities, [format!("BACKEND_SERVERS and {path} differ; the list is what the file says")]);
    assert_eq!(config("", &env[1..]).oddities, [""; 0]);
    std::fs::write(&path, "http://a\n").expect("a file");
    assert_eq!(config("", &env).oddities, [""; 0], "they don't differ");
    std::fs::write(&path, "http://a aftr=1s\nb\n").expect("a file");
    let expected = format!(
        "red-tentacle: RED_TENTACLE_BACKENDS_FILE {path}:1: 'http://a aftr=1s': no option 'aftr'; did you mean 'after'?\n\
         red-tentacle: RED_TENTACLE_BACKENDS_FILE {path}:2: 'b': it must begin with http:// or https://"
    );
    assert_eq!(failure("", &env), expected, "every bad line");
    assert!(matches!(read_with("--demo", &env), Invocation::Demo(config) if config.backends_file.is_none()));
    assert!(failure("--demo --backends-file /x", &[]).contains("--backends-file goes with no --demo"));
    assert_eq!(
        failure("--backends-file=", &[]),
        "red-tentacle: --backends-file '': no file; write /etc/red-tentacle/backends, say"
    );
}

#[test]
fn legs_that_start_too_late_or_never_at_once_are_refused() {
    let with = |list: &'static str| failure("", &[("BACKEND_SERVERS", list)]);
    let rows = [
        ("http://a after=1s,http://b after=p95", "no backend starts at once: leave out one 'after'"),
        ("http://a,http://b after=6s", "'http://b after=6s': its 'after' is longer than --timeout; write at most 5s"),
        (
            "http://a,http://b after=p101",
            "'http://b after=p101': 'after=p101': write a duration (200ms), p50 to p99, or p95..500ms",
        ),
    ];
    for (list, reason) in rows {
        assert_eq!(with(list), format!("red-tentacle: BACKEND_SERVERS {reason}"), "{list}");
    }
    let list = "http://a,http://b after=p95..6s timeout=1s";
    assert_eq!(values::show_list(&config("--timeout 6s", &[("BACKEND_SERVERS", list)]).backends), list);
}

#[test]
fn a_list_of_which_none_races_does_not_start() {
    let line = failure("", &[("BACKEND_SERVERS", "http://a paused,http://b name=x paused")]);
    let expected =
        "BACKEND_SERVERS 'http://a paused,http://b name=x paused': every backend is paused; leave one racing";
    assert_eq!(line, format!("red-tentacle: {expected}"));
}
