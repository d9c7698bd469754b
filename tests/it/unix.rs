//! Clients and operators at Unix sockets: the file, who may connect, and what backends and the log are told of such clients.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use crate::harness::{Binary, Fake, Proxy, Raw, SOON, eventually, has};

/// A directory, and the path of a socket in it.
fn place(name: &str) -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    let flag = format!("unix:{}", path.display());
    (directory, path, flag)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Binary::command();
    command.args(arguments);
    command
}

/// Starts the program with a socket for clients.
fn serving(url: &str, listen: &str, arguments: &[&str]) -> Binary {
    let rest = [&["--backends", url, "--listen", listen, "--admin-listen", "127.0.0.1:0"], arguments].concat();
    let program = Binary::spawn(command(&rest));
    program.line(&format!("listens on {listen}"));
    program
}

fn connect(path: &Path) -> UnixStream {
    let client = UnixStream::connect(path).expect("it listens");
    client.set_read_timeout(Some(SOON)).expect("a timeout");
    client
}

/// Sends a request, and reads all that comes until the end.
fn ask(path: &Path, request: &str) -> String {
    let mut client = connect(path);
    client.write_all(request.as_bytes()).expect("room");
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("a reply");
    reply
}

const GET: &str = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";

#[test]
fn a_client_at_a_socket_is_served_and_has_no_address() {
    let backend = Fake::with(200, "good");
    let (_directory, path, listen) = place("x.sock");
    let program = serving(&backend.url, &listen, &[]);
    assert!(ask(&path, GET).ends_with("\r\n\r\ngood"));
    let seen = backend.next();
    assert_eq!((seen.values("x-forwarded-for"), seen.values("x-forwarded-proto")), (vec![], vec!["http"]));
    program.line(" for unix");
    // Local as a client on loopback is, and so believed.
    let told = GET.replace("Host", "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nHost");
    assert!(ask(&path, &told).ends_with("good"));
    let seen = backend.next();
    assert_eq!(
        (seen.values("x-forwarded-for"), seen.values("x-forwarded-proto")),
        (vec!["203.0.113.9"], vec!["https"])
    );
    program.line(" for 203.0.113.9 via unix");
}

#[test]
fn a_client_at_a_socket_is_believed_by_the_rule_for_127_0_0_1() {
    let backend = Fake::with(200, "good");
    let (_directory, path, listen) = place("x.sock");
    let program = serving(&backend.url, &listen, &["--trusted-proxies", "10.0.0.0/8"]);
    assert!(ask(&path, &GET.replace("Host", "X-Forwarded-For: 203.0.113.9\r\nHost")).ends_with("good"));
    assert!(backend.next().values("x-forwarded-for").is_empty());
    program.line(" for unix");
}

#[test]
fn keep_alive_pipelines_and_uploads_go_over_a_socket() {
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let (_directory, path, listen) = place("x.sock");
    let _program = serving(&backend.url, &listen, &[]);
    let body = "x".repeat(300_000);
    let post = format!("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let all = ["GET / HTTP/1.1\r\nHost: app\r\n\r\n", &post, GET].concat();
    assert_eq!(ask(&path, &all).matches("good").count(), 3);
    // Its end before a reply is that of a client that has left, as it is over TCP.
    let mut client = connect(&path);
    client.write_all(b"GET / HTTP/1.1\r\nHo").expect("room");
    client.shutdown(Shutdown::Write).expect("a connection");
    assert_eq!(client.read(&mut [0; 16]).expect("an end in order"), 0);
}

#[test]
fn the_file_is_for_user_and_group_and_goes_with_the_program() {
    let (_directory, path, listen) = place("x.sock");
    let mut program = serving("http://127.0.0.1:9", &listen, &[]);
    let found = fs::symlink_metadata(&path).expect("a file");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o660);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(!path.exists());
}

/// Was seen as: a second signal left the files of the sockets behind.
#[test]
fn the_files_go_with_the_program_also_if_it_ends_at_once() {
    let backend = Raw::hanging();
    let (directory, path, listen) = place("x.sock");
    let admin = directory.path().join("admin.sock");
    let place = format!("unix:{}", admin.display());
    let mut program =
        Binary::spawn(command(&["--backends", &backend.url, "--listen", &listen, "--admin-listen", &place]));
    program.line("updates are taken on");
    let mut client = connect(&path);
    client.write_all(GET.as_bytes()).expect("room");
    backend.next();
    assert!(admin.exists());
    program.signal("TERM");
    program.line("stopping: no more clients are accepted");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(1));
    assert!(!path.exists() && !admin.exists());
}

/// Was seen as: a signal before it was listened for left the files of the sockets behind.
#[test]
fn the_files_go_with_the_program_also_if_a_signal_comes_as_they_are_made() {
    let (_directory, path, listen) = place("x.sock");
    let arguments = ["--backends", "http://127.0.0.1:9", "--listen", &listen, "--admin-listen", "off"];
    for _ in 0..5 {
        let mut program = Binary::spawn(command(&arguments));
        eventually("the file is there", || path.exists());
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_another_process_has_put_in_its_place_stays() {
    let (_directory, path, listen) = place("x.sock");
    let mut program = serving("http://127.0.0.1:9", &listen, &[]);
    fs::remove_file(&path).expect("removed");
    let _other = UnixListener::bind(&path).expect("a socket");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn only_what_nobody_answers_at_is_replaced() {
    let (directory, path, listen) = place("x.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "its process has left it behind");
    let backend = Fake::with(200, "good");
    let program = serving(&backend.url, &listen, &[]);
    assert!(ask(&path, GET).ends_with("good"));
    let refused = |listen: &str, reason: &str| {
        let rest = ["--backends", "http://a.example", "--listen", listen, "--admin-listen", "off"];
        let ended = Binary::run(command(&rest));
        let told = format!("red-tentacle: cannot listen on {listen}: {reason}; give --listen another address\n");
        assert_eq!((ended.code, ended.stderr), (Some(1), told));
    };
    refused(&listen, "the address is in use");
    assert!(ask(&path, GET).ends_with("good"), "it isn't disturbed");
    drop(program);
    let file = directory.path().join("file");
    fs::write(&file, "precious").expect("written");
    refused(&format!("unix:{}", file.display()), "a file that is no socket stands there");
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");
    refused(&format!("unix:{}/no/such", directory.path().display()), "no such directory");
    refused(&format!("unix:{}/x.sock", file.display()), "a part of its path isn't a directory");
}

#[test]
fn a_socket_for_updates_needs_no_token_and_the_program_reaches_it() {
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let (_directory, path, listen) = place("x.sock");
    // What a URL would mean something by is a name like any other.
    let (_other, admin_path, admin) = place("%41 ?b#c.sock");
    let rest = ["--backends", &old.url, "--listen", &listen, "--admin-listen", &admin, "--admin-on-proxy-port", "off"];
    let program = Binary::spawn(command(&rest));
    program.line(&format!("updates are taken on {admin}"));
    assert!(ask(&admin_path, &GET.replace("GET /", "GET /readyz")).ends_with("ready\n"));
    for asked in [&["--health", &admin][..], &["--health", "--admin-listen", &admin]] {
        let ended = Binary::run(command(asked));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{asked:?}");
    }
    let ended = Binary::run(command(&["--update", &new.url, "--admin", &admin]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ask(&path, GET).ends_with("new"));
    let ended = Binary::run(command(&["--health", "unix:/no/such"]));
    let told = "red-tentacle: cannot ask unix:/no/such: No such file or directory";
    assert!(ended.code == Some(1) && ended.stderr.starts_with(told), "{ended:?}");
    let ended = Binary::run(command(&["--health", "--admin-listen", "off", "--listen", &listen]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn curl_asks_at_a_socket() {
    if !has("curl") {
        return;
    }
    let backend = Fake::with(200, "good");
    let (_directory, path, listen) = place("x.sock");
    let _program = serving(&backend.url, &listen, &[]);
    let asked = Command::new("curl").args(["-sS", "--unix-socket"]).arg(&path).arg("http://app/hello").output();
    let asked = asked.expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "good", "{asked:?}");
    assert_eq!(backend.next().values("x-forwarded-host"), ["app"]);
}

/// A backend at a socket: answers each request with its head.
fn backend_at(path: &Path) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
                        let _ = stream.write_all(&[reply.as_bytes(), &head].concat());
                        head.clear();
                    }
                }
            });
        }
    })
}

#[test]
fn a_backend_at_a_socket_is_raced_by_the_host_and_path_of_its_url() {
    let (_directory, path, _) = place("app.sock");
    let _serving = backend_at(&path);
    let entry = format!("http://app.example/base socket={} name=app", path.display());
    let proxy = Proxy::before(&[entry]);
    for _ in 0..3 {
        let reply = proxy.get("/hello");
        let seen = reply.text();
        assert_eq!(reply.status, 200, "{seen}");
        assert!(seen.starts_with("GET /base/hello HTTP/1.1\r\nHost: app.example\r\n"), "{seen}");
    }
    eventually("all legs are counted", || proxy.totals().legs == 3);
    let costs = proxy.totals();
    assert_eq!((costs.connections_opened, costs.connections_reused), (1, 2));
}

/// Was seen as: `opened a connection to http://app.example at 127.0.0.1:80`.
#[test]
fn the_log_tells_at_which_socket_a_backend_is_reached() {
    let (_directory, path, _) = place("app.sock");
    let _serving = backend_at(&path);
    let entry = format!("http://app.example socket={}", path.display());
    let (_clients, at, listen) = place("x.sock");
    let program = serving(&entry, &listen, &["--log-level", "debug"]);
    for does in ["opened", "uses"] {
        assert!(ask(&at, GET).starts_with("HTTP/1.1 200 "));
        program.line(&format!("{does} a connection to http://app.example at {}", path.display()));
    }
}

#[test]
fn a_socket_at_which_nobody_answers_loses_and_the_race_goes_on() {
    let (directory, path, _) = place("dead.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    let dead = format!("http://dead socket={}", path.display());
    let missing = format!("http://missing socket={}/no/such", directory.path().display());
    let good = Fake::with(200, "good");
    assert_eq!(Proxy::before(&[dead.clone(), missing.clone(), good.url.clone()]).get("/").text(), "good");
    let reply = Proxy::before(&[dead.clone(), missing.clone()]).get("/");
    assert_eq!((reply.status, reply.text().matches("refused the connection").count()), (502, 2), "{}", reply.text());
    assert!(!reply.text().contains("dead.sock"), "clients are told no path: {}", reply.text());
    let (_folder, own, listen) = place("x.sock");
    let program = serving(&[dead, missing].join(","), &listen, &["--log-format", "json"]);
    assert!(ask(&own, GET).starts_with("HTTP/1.1 502 "));
    let line = program.line("\"outcome\":\"refused\"");
    for why in [format!("{}: nothing listens there", path.display()), "/no/such: no such file".to_owned()] {
        assert!(line.contains(&why), "{why}: {line}");
    }
}

#[test]
fn sockets_of_backends_are_given_by_the_operator_and_not_over_http() {
    let (_directory, path, _) = place("app.sock");
    let _serving = backend_at(&path);
    let entry = format!("http://app/ socket={}", path.display());
    let proxy = Proxy::before(std::slice::from_ref(&entry));
    let reply = proxy.update(&[format!("{entry}.other").replace(' ', "%20")]);
    assert_eq!(reply.status, 400);
    let told = "'http://app': 'socket' can only be given in the file, the flag or the environment";
    assert!(reply.text().contains(told), "{}", reply.text());
    // What the operator has said of a backend stays, and may be said again.
    for same in ["http://app".to_owned(), entry.replace(' ', "%20")] {
        assert_eq!(proxy.update(&[same]).status, 200);
    }
    assert!(proxy.get("/x").text().starts_with("GET /x HTTP/1.1\r\nHost: app\r\n"));
}

#[test]
fn a_backend_at_the_proxys_own_socket_is_refused() {
    let (_directory, path, listen) = place("x.sock");
    let entry = format!("http://app socket={}", path.display());
    let ended = Binary::run(command(&["--backends", &entry, "--listen", &listen]));
    let told = "red-tentacle: --backends 'http://app': the proxy itself listens there (--listen); give one of them";
    assert!(ended.code == Some(2) && ended.stderr.starts_with(told), "{ended:?}");
}
