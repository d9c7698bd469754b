//! The list as an operator keeps it: by curl's five verbs, and in a file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::mpsc;

use tempfile::TempDir;

use crate::harness::{Binary, Client, Fake, Gate, Proxy, Reply, eventually, get, own_address, refusing, reply_to};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Accept: application/json";

fn ask(address: SocketAddr, method: &str, target: &str, fields: &[&str], body: Option<&str>) -> Reply {
    reply_to(address, method, target, fields, body.map(str::as_bytes))
}

/// Posts a form whose blanks are written as `+`, as curl's users needn't.
fn change(admin: SocketAddr, form: &str) -> Reply {
    ask(admin, "POST", "/backends", &[FORM], Some(&form.replace(' ', "+")))
}

/// The names, addresses and states of the list.
fn listed(reply: &Reply) -> Vec<String> {
    let rows = reply.text();
    let words = rows.lines().skip(1).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    words.collect()
}

/// Three backends that say who they are.
fn three() -> [Fake; 3] {
    [Fake::with(200, "a"), Fake::with(200, "b"), Fake::with(200, "c")]
}

#[test]
fn the_list_is_read_and_changed_by_five_verbs() {
    let [a, b, c] = three();
    let proxy = Proxy::before(&[a.url.clone(), format!("{} name=dc2", b.url)]);
    let show = ask(proxy.admin, "GET", "/backends", &[], None);
    assert_eq!((show.status, show.value("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(show.value("cache-control"), Some("no-store"));
    assert_eq!(listed(&show), [format!("b1 {} racing", a.url), format!("dc2 {} racing", b.url)]);
    let rows = [
        ("pause=dc2".to_owned(), vec![format!("b1 {} racing", a.url), format!("dc2 {} paused", b.url)]),
        ("resume=dc2".to_owned(), vec![format!("b1 {} racing", a.url), format!("dc2 {} racing", b.url)]),
        (
            format!("remove={}&add={} name=dc3", a.url, c.url),
            vec![format!("dc2 {} racing", b.url), format!("dc3 {} racing", c.url)],
        ),
        (format!("replace={},{}", c.url, a.url), vec![format!("dc3 {} racing", c.url), format!("b2 {} racing", a.url)]),
        (format!("add={} name=dc1", a.url), vec![format!("dc3 {} racing", c.url), format!("dc1 {} racing", a.url)]),
    ];
    for (form, expected) in rows {
        let reply = change(proxy.admin, &form);
        assert_eq!((reply.status, listed(&reply)), (200, expected.clone()), "{form}: {}", reply.text());
        assert_eq!(listed(&ask(proxy.admin, "GET", "/backends", &[], None)), expected, "{form}");
    }
}

#[test]
fn each_wrong_change_has_its_answer_and_changes_nothing() {
    let [a, b, _] = three();
    let proxy = Proxy::before(&[format!("{} name=dc1", a.url), b.url.clone()]);
    let before = listed(&ask(proxy.admin, "GET", "/backends", &[], None));
    let rows = [
        ("delete=dc1", 400, "Unknown field 'delete': use add, remove, pause, resume or replace\n"),
        ("", 400, "No field: use add, remove, pause, resume or replace\n"),
        ("pause=dc9", 404, "No backend 'dc9': there are dc1, b2\n"),
        ("add=http://c.example name=dc1", 409, "Two backends would be named 'dc1'\n"),
        ("pause=dc1&pause=b2", 409, "That would leave no backend to ask\n"),
        ("remove=dc1&remove=b2", 409, "That would leave no backend to ask\n"),
        ("pause=dc1&add=x", 400, "Backends not updated: the list stays as it was\n'x': it must begin with"),
    ];
    for (form, status, text) in rows {
        let reply = change(proxy.admin, form);
        assert_eq!(reply.status, status, "{form}: {}", reply.text());
        assert!(reply.text().starts_with(text), "{form}: {}", reply.text());
        let problem = ask(proxy.admin, "POST", "/backends", &[FORM, JSON], Some(&form.replace(' ', "+")));
        assert_eq!((problem.status, problem.value("content-type")), (status, Some("application/problem+json")));
        assert!(problem.text().contains(&format!("\"status\":{status}")), "{}", problem.text());
        assert_eq!(listed(&ask(proxy.admin, "GET", "/backends", &[], None)), before, "{form}");
    }
    let put = ask(proxy.admin, "PUT", "/backends", &[], None);
    assert_eq!((put.status, put.value("allow")), (405, Some("GET, HEAD, POST")));
    let via = ask(proxy.admin, "GET", "/backends", &["Via: 1.1 other"], None);
    assert_eq!(via.status, 403, "reading needs the guard, too");
}

#[test]
fn where_clients_connect_the_list_is_a_path_of_the_backends() {
    let [a, _, _] = three();
    let proxy = Proxy::before(std::slice::from_ref(&a.url));
    assert_eq!(get(proxy.address, "/backends").text(), "a");
    assert_eq!(change(proxy.address, "remove=b1").text(), "a");
    assert_eq!((a.next().method.as_str(), a.next().method.as_str()), ("GET", "POST"));
}

#[test]
fn a_paused_backend_is_not_asked_and_its_legs_under_way_go_on() {
    let gate = Gate::new();
    let slow = Fake::behind(&gate, 200, "slow");
    let down = Fake::with(503, "down");
    let proxy = Proxy::before(&[format!("{} name=slow", slow.url), down.url.clone()]);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/1", &[], None);
    assert_eq!(slow.next().target, "/1");
    assert_eq!(change(proxy.admin, "pause=slow").status, 200);
    let lost = proxy.get("/2");
    let expected = "All backend requests failed\nb2 503: ";
    assert!(lost.status == 502 && lost.text().starts_with(expected), "{}", lost.text());
    gate.open();
    assert_eq!(client.reply().text(), "slow", "the leg under way went on");
    assert!(slow.received.is_empty(), "it was asked once");
    assert_eq!(change(proxy.admin, "resume=slow").status, 200);
    assert_eq!(proxy.get("/3").text(), "slow");
}

#[test]
fn an_update_of_bare_urls_says_who_is_in_and_not_how() {
    let [a, b, c] = three();
    let proxy = Proxy::before(&[format!("{} name=dc1 paused", a.url), b.url.clone()]);
    let reply = proxy.update(&[c.url.clone(), a.url.clone()]);
    let expected = format!("Backends updated successfully\nb1 {}\ndc1 {} paused\n", c.url, a.url);
    assert_eq!((reply.status, reply.text()), (200, expected));
    assert_eq!(proxy.get("/").text(), "c");
}

#[test]
fn the_counts_of_a_backend_stay_with_it() {
    let [a, b, _] = three();
    let proxy = Proxy::before(std::slice::from_ref(&a.url));
    proxy.get("/");
    let counted = |text: &str| {
        let show = ask(proxy.admin, "GET", "/backends", &[JSON], None);
        assert_eq!(show.value("content-type"), Some("application/json"));
        show.text().contains(text)
    };
    let row = format!(
        "\"url\":\"{}\",\"state\":\"racing\",\"insecure\":false,\"after\":\"0s\",\"options\":\"\",\"legs\":1,\"won\":1,\"late\":0,\"failed\":0",
        a.url
    );
    eventually("the race is counted", || counted(&row));
    assert_eq!(change(proxy.admin, &format!("add={}&add={} name=dc1&pause=dc1", b.url, a.url)).status, 200);
    assert!(counted(&row.replace("racing", "paused")));
    assert!(counted("\"kept_in\":null"));
    assert_eq!(change(proxy.admin, &format!("add={} timeout=2s after=100ms", b.url)).status, 200);
    assert!(counted("\"after\":\"100ms\",\"options\":\"after=100ms timeout=2s\""));
    let table = ask(proxy.admin, "GET", "/backends", &[], None).text();
    assert!(table.contains("  options\n") && table.contains("  after=100ms timeout=2s\n"), "{table}");
}

/// As endpoints of RPC are, whose servers refuse a slash behind the key. Was seen as: no spelling of the list avoided it.
#[test]
fn a_request_for_the_root_goes_to_an_exact_path_until_the_list_says_otherwise() {
    let backend = Fake::with(200, "rpc");
    let url = format!("{}/v3/KEY", backend.url);
    let proxy = Proxy::before(&[format!("{url} exact")]);
    let assert_sent = |rows: [(&str, &str); 3]| {
        for (target, expected) in rows {
            assert_eq!(proxy.get(target).status, 200);
            assert_eq!(backend.next().target, expected, "{target}");
        }
    };
    let exact = [("/", "/v3/KEY"), ("/?a=b", "/v3/KEY?a=b"), ("/x/", "/v3/KEY/x/")];
    assert_sent(exact);
    assert_eq!(change(proxy.admin, &format!("replace={url}")).status, 200);
    assert_sent(exact);
    let table = ask(proxy.admin, "GET", "/backends", &[], None).text();
    assert!(table.contains("  exact\n"), "{table}");
    assert_eq!(change(proxy.admin, &format!("remove={url}&add={url}")).status, 200);
    assert_sent([("/", "/v3/KEY/"), ("/?a=b", "/v3/KEY/?a=b"), ("/x/", "/v3/KEY/x/")]);
    assert_eq!(change(proxy.admin, &format!("add={url} exact")).status, 200);
    assert_sent(exact);
    let refused = change(proxy.admin, &format!("add={} exact", backend.url));
    assert!(refused.status == 400 && refused.text().contains("has none; leave it out"), "{}", refused.text());
}

/// A folder with a file for a list.
struct Kept {
    _folder: TempDir,
    path: PathBuf,
}

impl Kept {
    fn new() -> Kept {
        let folder = tempfile::tempdir().expect("a folder");
        Kept { path: folder.path().join("backends"), _folder: folder }
    }

    fn holding(text: &str) -> Kept {
        let kept = Kept::new();
        fs::write(&kept.path, text).expect("a file");
        kept
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("a file")
    }

    fn start(&self, arguments: &[&str]) -> Binary {
        Binary::start(&[&["--backends-file", self.path()], arguments].concat())
    }
}

#[test]
fn a_restart_keeps_what_was_changed() {
    let [a, b, c] = three();
    let kept = Kept::holding(&format!("# ours\n{}   name=dc1\n\n{}\n", a.url, b.url));
    let program = kept.start(&["--backends", &c.url]);
    program.line(&format!("--backends and {} differ; the list is what the file says", kept.path()));
    let (_, admin) = program.addresses();
    assert_eq!(change(admin, &format!("pause=dc1&add={} name=dc3&remove={}", c.url, b.url)).status, 200);
    assert_eq!(kept.text(), format!("# ours\n{}   name=dc1 paused\n\n{} name=dc3\n", a.url, c.url));
    let before = listed(&ask(admin, "GET", "/backends", &[], None));
    drop(program);
    let program = kept.start(&[]);
    let (address, admin) = program.addresses();
    let again = ask(admin, "GET", "/backends", &[JSON], None);
    assert!(again.text().contains(&format!("\"kept_in\":\"{}\"", kept.path())), "{}", again.text());
    assert_eq!(listed(&ask(admin, "GET", "/backends", &[], None)), before);
    assert_eq!(get(address, "/").text(), "c");
}

/// Was seen as: a `200`, and the next start failed by the file.
#[test]
fn the_proxy_itself_is_taken_for_a_backend_by_no_change_and_no_reading() {
    let [a, _, _] = three();
    let (kept, own) = (Kept::holding(&format!("{}\n", a.url)), own_address());
    let mut command = Binary::command();
    command.args(["--backends-file", kept.path(), "--listen", &own.to_string(), "--admin-listen", "127.0.0.1:0"]);
    let program = Binary::spawn(command);
    let (_, admin) = program.addresses();
    let why = format!("'http://{own}': the proxy itself listens there (--listen); give one of them another port");
    let reply = change(admin, &format!("add=http://{own}"));
    assert_eq!((reply.status, reply.text().lines().last()), (400, Some(&*why)));
    let edited = format!("{}\nhttp://{own}\n", a.url);
    fs::write(&kept.path, edited).expect("a file");
    program.signal("HUP");
    program.line(&format!("{}: {why}", kept.path()));
    assert_eq!(listed(&ask(admin, "GET", "/backends", &[], None)), [format!("b1 {} racing", a.url)]);
}

#[test]
fn the_first_change_creates_the_file_and_the_update_routes_write_it_too() {
    let [a, b, _] = three();
    let kept = Kept::new();
    let program = kept.start(&["--backends", &a.url]);
    let (address, admin) = program.addresses();
    assert!(!kept.path.exists());
    for port in [admin, address] {
        let (list, other) = if port == admin { (&b, &a) } else { (&a, &b) };
        let target = format!("/update-backends?backends={}", list.url);
        assert_eq!(ask(port, "POST", &target, &[], None).status, 200);
        assert!(
            kept.text().ends_with(&format!("\n{}\n", list.url)) && !kept.text().contains(&other.url),
            "{}",
            kept.text()
        );
    }
    let mode = fs::metadata(&kept.path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_list_that_cannot_be_written_is_not_changed() {
    let [a, b, _] = three();
    let folder = tempfile::tempdir().expect("a folder");
    let path = format!("{}/missing/backends", folder.path().display());
    let program = Binary::start(&["--backends-file", &path, "--backends", &a.url]);
    let why = "no such file or directory";
    let sentence = format!("The list is kept in {path}, which can't be written ({why}): create the folder");
    program.line(&sentence);
    let (address, admin) = program.addresses();
    let mut checked = Binary::command();
    checked.args(["--check", "--backends-file", &path, "--backends", &a.url]);
    assert_eq!(Binary::run(checked).stderr, format!("red-tentacle: {sentence}\n"));
    let expected = format!("{sentence}\n");
    let update = format!("/-update-backends?backends={}", b.url);
    for reply in [
        change(admin, &format!("add={}", b.url)),
        ask(admin, "POST", &update, &[], None),
        ask(address, "POST", &update, &[], None),
    ] {
        assert_eq!((reply.status, reply.text()), (409, expected.clone()));
    }
    assert_eq!(get(address, "/").text(), "a");
}

#[test]
fn a_list_on_a_disk_that_cannot_be_written_is_read_only_to_all() {
    let [a, b, _] = three();
    let rows = [
        (
            "d=$(dirname FILE); mount --bind $d $d; mount -o remount,bind,ro $d",
            "read-only file system",
            "edit it and send SIGHUP",
        ),
        ("mount --bind FILE FILE", "device or resource busy", "mount the folder, not the file"),
    ];
    for (mounts, why, advice) in rows {
        let kept = Kept::holding(&a.url);
        let Some(mut command) = Binary::command_with_mounts(&mounts.replace("FILE", kept.path())) else {
            return eprintln!("not tried: {why}, for this host gives no namespace of mounts");
        };
        command.args(["--backends-file", kept.path(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let program = Binary::spawn(command);
        let (address, admin) = program.addresses();
        let sentence = format!("The list is kept in {}, which can't be written ({why}): {advice}", kept.path());
        let update = format!("/-update-backends?backends={}", b.url);
        for reply in [
            change(admin, &format!("add={}", b.url)),
            ask(admin, "POST", &update, &[], None),
            ask(address, "POST", &update, &[], None),
        ] {
            assert_eq!((reply.status, reply.text()), (409, format!("{sentence}\n")));
        }
        let page = ask(admin, "GET", "/", &["Accept: text/html"], None).text();
        assert!(page.contains(&sentence.replace('\'', "&#39;")), "{page}");
        assert!(!page.contains("<form") && !page.contains("<button"), "{page}");
        assert_eq!((get(address, "/").text().as_str(), kept.text()), ("a", a.url.clone()));
    }
}

/// Was seen as: every change a `409`, and no word of it at the start.
#[test]
fn a_file_of_another_user_is_replaced_but_in_a_folder_where_only_its_owner_may() {
    let [a, b, _] = three();
    // The last mode was seen as 0664: whoever is in the program's group could write.
    for (label, owner_of_folder, mode, is_replaced, old, new) in [
        ("a folder of ours", 0, 0o1755, true, 0o604, 0o604),
        ("a folder for all", 1234, 0o1777, false, 0o664, 0o664),
        ("a group that may more than all", 0, 0o1755, true, 0o664, 0o644),
    ] {
        let kept = Kept::holding(&a.url);
        let folder = kept.path.parent().expect("a folder");
        fs::set_permissions(&kept.path, fs::Permissions::from_mode(old)).expect("a file");
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("a folder");
        let is_given =
            [(&*kept.path, 1234), (folder, owner_of_folder)].map(|(path, owner)| chown(path, Some(owner), Some(owner)));
        // Root of a namespace may give nothing to a user who isn't in it.
        let command = Binary::command_with_mounts("true").filter(|_| is_given.iter().all(Result::is_ok));
        let Some(mut command) = command else {
            return eprintln!("not tried: {label}, for this host gives no namespace, or no file away");
        };
        command.args(["--backends-file", kept.path(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let program = Binary::spawn(command);
        let started = program.lines_until("updates are taken on");
        let admin = started.last().and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("an address");
        let why = "which can't be written (operation not permitted): edit it and send SIGHUP";
        let sentence = format!("The list is kept in {}, {why}", kept.path());
        assert_eq!(started.iter().any(|line| line.contains(&sentence)), !is_replaced, "{label}: {started:#?}");
        let reply = change(admin, &format!("add={}", b.url));
        assert_eq!(reply.status, if is_replaced { 200 } else { 409 }, "{label}: {}", reply.text());
        let found = fs::metadata(&kept.path).expect("a file");
        assert_eq!(found.permissions().mode() & 0o777, new, "{label}");
        assert_eq!(found.uid(), if is_replaced { 0 } else { 1234 }, "{label}");
        if is_replaced {
            program.line("is this program's own now: its owner or its group can't be kept");
        } else {
            assert_eq!(reply.text(), format!("{sentence}\n"), "{label}");
        }
    }
}

#[test]
fn sighup_reads_the_file_again_all_of_it_or_nothing() {
    let [a, b, _] = three();
    let kept = Kept::holding(&a.url);
    let program = kept.start(&[]);
    let (address, admin) = program.addresses();
    let is_loaded = |value| get(admin, "/metrics").text().contains(&format!("\nred_tentacle_list_loaded {value}\n"));
    assert!(get(address, "/").text() == "a" && is_loaded(1));
    fs::write(&kept.path, format!("{}\n\nx\n{} aftr=2s\n", b.url, a.url)).expect("a file");
    program.signal("HUP");
    program.line(&format!("{}:3: 'x': it must begin with http:// or https://", kept.path()));
    program.line(&format!("{}:4: '{} aftr=2s': no option 'aftr'", kept.path(), a.url));
    program.line("the list stays as it was");
    assert!(get(address, "/").text() == "a" && is_loaded(0));
    let page = || ask(admin, "GET", "/", &["Accept: text/html"], None).text();
    let bad = "What was last read of the list is bad, so that the one before stays: the log says why.";
    assert!(page().contains(bad));
    fs::write(&kept.path, format!("# b now\n{}\n", b.url)).expect("a file");
    program.signal("HUP");
    program.line(&format!("the backends are now {}", b.url));
    program.line("the list was read again");
    assert!(get(address, "/").text() == "b" && is_loaded(1) && !page().contains(bad));
}

#[test]
fn sighup_without_a_file_is_told_and_changes_nothing() {
    let [a, _, _] = three();
    let mut program = Binary::start(&["--backends", &a.url]);
    let address = program.address();
    program.signal("HUP");
    program.line("SIGHUP: nothing to read again, for the list is in no file (--backends-file)");
    assert_eq!(get(address, "/").text(), "a");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_bad_file_stops_the_start() {
    let rows = [
        ("", 0o600, ": there is no backend in it"),
        ("# http://a\n", 0o600, ": there is no backend in it"),
        ("http://a paused\n", 0o600, ": every backend in it is paused"),
        ("http://a\n\nhttp://b pausd\n", 0o600, ":3: 'http://b pausd': no option 'pausd'; did you mean 'paused'?"),
        ("http://a\n", 0o602, ": every user may write to it; take that away by chmod o-w"),
    ];
    for (text, mode, expected) in rows {
        let kept = Kept::holding(text);
        fs::set_permissions(&kept.path, fs::Permissions::from_mode(mode)).expect("a file");
        let mut command = Binary::command();
        command.args(["--backends-file", kept.path(), "--backends", "http://z"]);
        let ended = Binary::run(command);
        let line = format!("red-tentacle: --backends-file {}{expected}\n", kept.path());
        assert_eq!((ended.code, ended.stderr), (Some(2), line), "{text}");
    }
}

/// The status of a change; `None` if the program doesn't live long enough to tell it.
fn status_of_change(admin: SocketAddr, form: &str) -> Option<String> {
    let mut client = TcpStream::connect(admin).ok()?;
    let length = form.len();
    let head = format!("POST /backends HTTP/1.1\r\nHost: localhost\r\n{FORM}\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(format!("{head}{form}").as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).ok()?;
    line.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn killed_at_any_moment_nothing_is_lost_that_was_acknowledged() {
    let [a, _, _] = three();
    let kept = Kept::holding(&format!("# first\n{}\n", a.url));
    let mut acknowledged = 0;
    for round in 0..8 {
        let program = kept.start(&[]);
        let (_, admin) = program.addresses();
        // Another thread kills it while changes are being written, sooner or later.
        let pid = program.child.id().to_string();
        let (taken, accepted) = mpsc::channel();
        let killer = std::thread::spawn(move || {
            accepted.iter().nth(round).expect("changes are taken until then");
            std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs")
        });
        let mut number = acknowledged;
        loop {
            number += 1;
            let form = format!("replace={},http://n{number}.example", a.url);
            let Some(status) = status_of_change(admin, &form) else { break };
            assert_eq!(status, "200");
            acknowledged = number;
            let _ = taken.send(());
        }
        assert!(killer.join().expect("no panic").success());
        let text = kept.text();
        let newest = text.lines().last().and_then(|line| line.strip_prefix("http://n")?.strip_suffix(".example"));
        let newest: u32 = newest.and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(newest >= acknowledged, "{acknowledged} was acknowledged: {text}");
        assert!(text.starts_with(&format!("# first\n{}\n", a.url)), "it is whole: {text}");
        acknowledged = newest;
    }
    assert!(acknowledged >= 36, "{acknowledged} changes were taken");
}

#[test]
fn update_takes_the_same_verbs() {
    let [a, b, _] = three();
    let program = Binary::start(&["--backends", &a.url]);
    let (address, admin) = program.addresses();
    let admin = format!("http://{admin}");
    let run = |update: &str| {
        let mut command = Binary::command();
        command.args(["--update", update, "--admin", &admin]);
        Binary::run(command)
    };
    let ended = run(&format!("add={} name=dc2&remove=b1", b.url));
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 2), "{ended:?}");
    assert!(ended.stdout.contains(&format!("dc2   {}  racing", b.url)), "{ended:?}");
    assert_eq!(get(address, "/").text(), "b");
    let refused = run("pause=dc2");
    let expected = format!("red-tentacle: {admin}/backends answers 409: That would leave no backend to ask\n");
    assert_eq!((refused.code, refused.stderr), (Some(1), expected));
}

#[test]
fn a_variable_that_does_nothing_is_told() {
    let [a, _, _] = three();
    let mut command = Binary::command();
    command.args(["--backends", &a.url, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("RED_TENTACLE_TIMOUT", "5s");
    let program = Binary::spawn(command);
    program.line("unknown variable RED_TENTACLE_TIMOUT does nothing; did you mean RED_TENTACLE_TIMEOUT?");
    program.address();
}

#[test]
fn a_start_that_fails_says_first_which_variables_do_nothing() {
    let mut command = Binary::command();
    command.env("RED_TENTACLE_BACKENDS_FLIE", "/etc/backends");
    let ended = Binary::run(command);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let expected = [
        "red-tentacle: unknown variable RED_TENTACLE_BACKENDS_FLIE does nothing; did you mean RED_TENTACLE_BACKENDS_FILE?",
        "red-tentacle: no backends; set BACKEND_SERVERS=http://a,http://b or give --backends",
    ];
    assert_eq!((ended.code, lines.as_slice()), (Some(2), expected.as_slice()));
}

#[test]
fn a_check_that_probes_asks_each_backend_once() {
    let (good, ill) = (Fake::with(404, "none"), Fake::with(503, "down"));
    let run = |list: &str, listen: &str| {
        let mut command = Binary::command();
        command.args(["--check", "--probe", "--backends", list, "--listen", listen, "--admin-listen", "off"]);
        Binary::run(command)
    };
    let list = format!("{} name=good,{},http://c.example name=off paused", good.url, ill.url);
    let ended = run(&list, "127.0.0.1:0");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let table: Vec<_> = ended.stdout.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
    assert_eq!(table.len(), 3, "{ended:?}");
    for (line, begin, told) in [(0, "good", " 404: "), (1, "b2  ", " 503: "), (2, "off ", "  paused")] {
        assert!(table[line].starts_with(begin) && table[line].contains(told), "{}", table[line]);
    }
    assert_eq!((good.received.len(), ill.received.len()), (1, 1));
    let nobody = refusing();
    let ended = run(&format!("{},{nobody}", good.url), "127.0.0.1:0");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains(&format!("b2  {nobody}  refused: ")), "{ended:?}");
    let ended = run(&format!("http://nx.invalid each,{}", good.url), "127.0.0.1:0");
    assert_eq!(ended.code, Some(1));
    let unknown = format!("b1  {:<1$}  dns: no address of its name is known", "http://nx.invalid", good.url.len());
    assert!(ended.stdout.lines().any(|line| line == unknown), "{ended:?}");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address");
    let ended = run(&good.url, &taken.to_string());
    let expected =
        format!("red-tentacle: cannot listen on {taken}: the address is in use; give --listen another address\n");
    assert_eq!((ended.code, ended.stderr), (Some(1), expected));
}

#[test]
fn a_backend_that_is_the_proxy_itself_is_refused() {
    let rows = [("http://localhost:8080", "--listen"), ("http://a.example,http://127.0.0.1:8081/x", "--admin-listen")];
    for (list, flag) in rows {
        let mut command = Binary::command();
        command.args(["--check", "--backends", list]);
        let ended = Binary::run(command);
        let own = list.rsplit(',').next().expect("one");
        let expected = format!(
            "red-tentacle: --backends '{own}': the proxy itself listens there ({flag}); give one of them another port\n"
        );
        assert_eq!((ended.code, ended.stderr), (Some(2), expected));
    }
}
