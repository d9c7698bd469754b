//! The program as its own client: `--health` and `--update`, where there is no curl.

use std::io::Write;
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::harness::{Binary, Deaf, Ended, Fake, Raw, SOON, beside_each_other, get, own_address, refusing};

/// Runs the program to its end with these arguments; proxies of the environment are nothing to it.
fn run(arguments: &[&str]) -> Ended {
    let mut command = Binary::command();
    command.args(arguments).env("HTTP_PROXY", "http://127.0.0.1:1").env("ALL_PROXY", "http://127.0.0.1:1");
    Binary::run(command)
}

/// The one line on standard error that a failed command leaves.
fn failure(arguments: &[&str]) -> String {
    let ended = run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{arguments:?}: {ended:?}");
    let line = ended.stderr.strip_suffix('\n').and_then(|line| line.strip_prefix("red-tentacle: ")).unwrap_or_default();
    assert!(!line.is_empty() && !line.contains('\n'), "one line: {ended:?}");
    line.to_owned()
}

#[test]
fn health_is_the_exit_code() {
    let good = Fake::with(204, "");
    let url = format!("{}/a/?b=c", good.url);
    let ended = run(&["--health", &url]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    let seen = good.next();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a/?b=c"));
    let ill = Fake::with(503, "not now\n\x1b[2Jreally");
    assert_eq!(failure(&["--health", &ill.url]), format!("{}/ answers 503: not now; \\u{{1b}}[2Jreally", ill.url));
    let moved = Fake::with(302, "elsewhere");
    assert!(failure(&["--health", &moved.url]).ends_with("/ answers 302: elsewhere"));
}

#[test]
fn a_probe_that_cannot_be_read_is_ill_with_the_code_that_containers_know() {
    // Was seen as: a bad variable ended the image's health command with 2, which containers reserve.
    let url = "http://127.0.0.1:1";
    let rows: [(&[&str], &[(&str, &str)], i32); 8] = [
        (&["--health", "--timeout", "x"], &[], 1),
        (&["--health", url, "--no-such"], &[], 1),
        (&["--health="], &[], 1),
        (&["--health", "--listen", ":0", "--admin-listen", "off"], &[], 1),
        (&[], &[("RED_TENTACLE_HEALTH", "on"), ("RED_TENTACLE_LISTEN", "x")], 1),
        (&["--health"], &[("RED_TENTACLE_TIMEOUT", "x")], 1),
        (&["--timeout", "x"], &[("RED_TENTACLE_HEALTH", "off")], 2),
        (&["--timeout", "x"], &[("RED_TENTACLE_HEALTH", "")], 2),
    ];
    for (arguments, variables, code) in rows {
        let ended = run_with(arguments, variables);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{arguments:?} {variables:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn who_cannot_be_asked_is_not_healthy() {
    let nobody = refusing();
    let line = failure(&["--health", &nobody]);
    assert_eq!(line, format!("cannot ask {nobody}/: Connection refused (os error 111)"));
    let rubbish = Raw::answering("SSH-2.0\r\n\r\n");
    assert!(failure(&["--health", &rubbish.url]).starts_with(&format!("cannot ask {}/: ", rubbish.url)));
    let (hanging, deaf) = (Raw::hanging(), Deaf::new());
    beside_each_other([&hanging.url, &deaf.url], |url| {
        let began = Instant::now();
        assert_eq!(failure(&["--health", url]), format!("cannot ask {url}/: no answer within 3 s"));
        assert!(began.elapsed() < SOON);
    });
}

#[test]
fn a_running_proxy_is_asked_for_its_health_and_given_a_list() {
    let (old, new, newer) = (Fake::with(200, "old"), Fake::with(200, "new"), Fake::with(200, "newer"));
    let program = Binary::start(&["--backends", &old.url]);
    let (address, admin) = program.addresses();
    assert_eq!(run(&["--health", &format!("http://{admin}/readyz")]).code, Some(0));
    assert!(failure(&["--health", &format!("http://{admin}/nope")]).contains("/nope answers 404: Not found"));
    let admin = format!("http://{admin}");
    for (list, text) in [(&new, "new"), (&newer, "newer")] {
        let ended = run(&["--update", &list.url, "--admin", &admin]);
        let expected = format!("Backends updated successfully\nb1 {}\n", list.url);
        assert_eq!((ended.code, ended.stdout), (Some(0), expected));
        assert_eq!(get(address, "/").text(), text);
    }
}

/// Runs the program to its end with these arguments and variables.
fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Binary::command();
    command.args(arguments).envs(variables.iter().copied());
    Binary::run(command)
}

#[test]
fn without_a_url_both_ask_where_the_variables_have_the_admin_port() {
    // Was seen as: a container whose admin port isn't 8081 was unhealthy for ever.
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let program = Binary::start(&["--backends", &old.url]);
    let (address, admin) = program.addresses();
    let admin = admin.to_string();
    let variables = [("RED_TENTACLE_ADMIN_LISTEN", admin.as_str())];
    let healthy = run_with(&["--health"], &variables);
    assert_eq!((healthy.code, healthy.stdout.as_str(), healthy.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(run_with(&[], &[variables[0], ("RED_TENTACLE_HEALTH", "on")]).code, Some(0));
    let updated = run_with(&["--update", &new.url], &variables);
    assert_eq!((updated.code, get(address, "/").text().as_str()), (Some(0), "new"), "{updated:?}");
    let everywhere = format!(":{}", admin.rsplit(':').next().expect("a port"));
    assert_eq!(run_with(&["--health"], &[("RED_TENTACLE_ADMIN_LISTEN", &everywhere)]).code, Some(0));
    drop(program);
    let ill = run_with(&["--health"], &variables);
    let expected = format!("red-tentacle: cannot ask http://{admin}/readyz: Connection refused (os error 111)\n");
    assert_eq!((ill.code, ill.stderr), (Some(1), expected));
}

#[test]
fn without_an_admin_port_health_is_whether_clients_can_connect() {
    let good = Fake::with(200, "good");
    let address = own_address().to_string();
    let off = ["--admin-listen", "off", "--listen", &address];
    let mut command = Binary::command();
    command.args(["--backends", &good.url]).args(off);
    let program = Binary::spawn(command);
    program.line("the backends are now");
    let variables = [("RED_TENTACLE_ADMIN_LISTEN", "off"), ("RED_TENTACLE_LISTEN", address.as_str())];
    assert_eq!(run_with(&["--health"], &variables).code, Some(0));
    let newer = Fake::with(200, "newer");
    assert_eq!(run_with(&["--update", &newer.url], &variables).code, Some(0), "the proxy port takes it");
    let nowhere = run_with(&["--update", &newer.url], &[variables[0], ("RED_TENTACLE_ADMIN_ON_PROXY_PORT", "off")]);
    assert_eq!((nowhere.code, nowhere.stdout.as_str()), (Some(2), ""), "{nowhere:?}");
    drop(program);
    let ill = run_with(&["--health"], &variables);
    let expected = format!("red-tentacle: cannot connect to {address}: Connection refused (os error 111)\n");
    assert_eq!((ill.code, ill.stderr), (Some(1), expected));
}

#[test]
fn an_answer_moves_no_cursor() {
    // Was seen as: `--update` printed the answer of whatever listens there as it came.
    let hostile = Fake::with(200, "Backends updated successfully\r\n\x1b[2Jb1 http://a/it's\u{202e}\n");
    let ended = run(&["--update", "http://a", "--admin", &hostile.url]);
    let expected = "Backends updated successfully\n\\u{1b}[2Jb1 http://a/it's\\u{202e}\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected));
}

#[test]
fn only_a_port_for_updates_takes_one() {
    // Was seen as: `--update` to a port that forwards updates exited with 0 after a backend had answered it.
    let rows: [(u16, &'static [u8], &str); 7] = [
        (200, b"<html>\x1b[2J\nfine", "answers 200, but is no port for updates: <html>\\u{1b}[2J; fine"),
        (201, b"\xff", "answers 201, but is no port for updates: \u{fffd}"),
        (200, b"", "answers 200, but is no port for updates"),
        (204, b"", "answers 204, but is no port for updates"),
        (200, b"\nBackends updated successfully", "for updates: ; Backends updated successfully"),
        (200, b"Backends updated successfully!", "for updates: Backends updated successfully!"),
        (200, b"backends updated successfully\n", "for updates: backends updated successfully"),
    ];
    for (status, body, expected) in rows {
        let other = Fake::answering(move |_| Fake::reply(status, body));
        let line = failure(&["--update", "http://a", "--admin", &other.url]);
        assert!(line.starts_with(&format!("{}/-update-backends answers {status}, but", other.url)), "{line}");
        assert!(line.ends_with(expected), "{line}");
    }
    for status in [200, 500] {
        let long = Fake::answering(move |_| Fake::reply(status, "a".repeat(1 << 20)));
        let line = failure(&["--update", "http://a", "--admin", &long.url]);
        assert!(line.ends_with("aaa…") && line.len() < 600, "{line}");
    }
    let backend = Fake::with(200, "a page");
    let program = Binary::start(&["--backends", &backend.url, "--admin-on-proxy-port", "off"]);
    let (address, _) = program.addresses();
    let line = failure(&["--update", "http://a", "--admin", &format!("http://{address}")]);
    assert!(line.ends_with("answers 200, but is no port for updates: a page"), "{line}");
}

#[test]
fn health_is_told_by_the_status_alone() {
    // Was seen as: a page of 70 KiB or an image at the URL was ill, and a 500 in another charset said nothing.
    let rows: [(u16, Vec<u8>, &str); 5] = [
        (200, vec![b'a'; 1 << 20], ""),
        (200, b"\x89PNG\xff\0".to_vec(), ""),
        (500, b"caf\xe9\0".to_vec(), " answers 500: caf\u{fffd}\\0"),
        (500, Vec::new(), " answers 500"),
        (503, vec![b'a'; 1 << 20], "…"),
    ];
    for (status, body, expected) in rows {
        let backend = Fake::answering(move |_| Fake::reply(status, body.clone()));
        let ended = run(&["--health", &backend.url]);
        assert_eq!(ended.code, Some(i32::from(!expected.is_empty())), "{ended:?}");
        assert!(ended.stderr.trim_end_matches('\n').ends_with(expected) && ended.stderr.len() < 600, "{ended:?}");
    }
    let endless = Raw::serving(|mut connection| {
        if connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
            connection.wait_for_close();
        }
    });
    assert_eq!(run(&["--health", &endless.url]).code, Some(0));
}

#[test]
fn an_update_to_the_longest_list_is_told_whole() {
    let program = Binary::start(&["--backends", "http://a.example"]);
    let (_, admin) = program.addresses();
    // Nearly 64 KiB as a form.
    let urls: Vec<String> = (1..=64).map(|number| format!("http://b{number}.example/{}", "a".repeat(990))).collect();
    let ended = run(&["--update", &urls.join(","), "--admin", &format!("http://{admin}")]);
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 65), "{}", ended.stderr);
}

#[test]
fn an_update_shows_the_token_and_tells_why_it_was_refused() {
    let (good, mut file) = (Fake::with(200, "good"), NamedTempFile::new().expect("a file"));
    file.write_all(b"s3cret\n").expect("written");
    let token = file.path().to_str().expect("UTF-8");
    let program = Binary::start(&["--backends", &good.url, "--admin-token-file", token]);
    let (_, admin) = program.addresses();
    let admin = format!("http://{admin}/");
    let refused = failure(&["--update", &good.url, "--admin", &admin]);
    assert!(refused.starts_with(&format!("{admin}-update-backends answers 403: Forbidden; the request has no token")));
    let ended = run(&["--update", &good.url, "--admin", &admin, "--admin-token-file", token]);
    let expected = format!("Backends updated successfully\nb1 {}\n", good.url);
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
}
