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

/// The one line on standard error that a failed errand leaves.
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
    assert!(failure(&["--health", &format!("http://{admin}/")]).contains("/ answers 404: Not found"));
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
    let hostile = Fake::with(200, "fine\x1b[2J\r\nb1 http://a/it's\u{202e}\n");
    let ended = run(&["--update", "http://a", "--admin", &hostile.url]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "fine\\u{1b}[2J\nb1 http://a/it's\\u{202e}\n"));
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
