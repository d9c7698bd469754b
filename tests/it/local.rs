//! What only a file, a flag or the environment may say of a backend: certificates, and fields for it alone.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use red_tentacle::config::Config;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use crate::harness::{
    Authority, Binary, Client, Ended, Fake, Manner, Names, Proxy, Reply, SOON, TlsBackend, eventually, get, has,
    refusing, reply_to,
};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// A folder of files that options name.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().expect("a folder"))
    }

    /// The path of a file with this text.
    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("room");
        path.to_str().expect("a path in ASCII").to_owned()
    }
}

/// A proxy before these entries; every name is this host's.
fn proxy(entries: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
    let config = Proxy::config(entries, change);
    Proxy::naming(config, Names::of_this_host())
}

fn run(arguments: &[&str]) -> Ended {
    let mut command = Binary::command();
    command.args(arguments);
    Binary::run(command)
}

fn post(address: SocketAddr, target: &str, form: &str) -> Reply {
    let fields = ["Content-Type: application/x-www-form-urlencoded"];
    reply_to(address, "POST", target, &fields, Some(form.as_bytes()))
}

fn show(address: SocketAddr, target: &str, accept: &str) -> String {
    reply_to(address, "GET", target, &[&format!("Accept: {accept}")], None).text()
}

#[test]
fn a_backend_is_trusted_by_its_own_authorities_and_by_no_others() {
    let (files, own, other) = (Files::new(), Authority::new(), Authority::named("other"));
    let backend = TlsBackend::with(own.identity(&["good.example"]), "good");
    let url = backend.url("good.example");
    let (of_own, of_other) = (files.put("own", &own.pem()), files.put("other", &other.pem()));
    let both = files.put("both", &(other.pem() + &own.pem()));
    let rows = [
        (format!("{url} ca={of_own}"), None, 200),
        (format!("{url} ca={both}"), None, 200),
        (format!("{url} ca={of_other}"), None, 502),
        (url.clone(), Some(own.der()), 200),
        (format!("{url} ca={of_other}"), Some(own.der()), 502),
        (url.clone(), None, 502),
    ];
    for (entry, common, expected) in rows {
        let proxy = proxy(&[entry.clone(), refusing()], |config| {
            config.ca_certificates.extend(common);
            config.expose_backends = true;
        });
        let reply = proxy.get("/");
        assert_eq!(reply.status, expected, "{entry}: {}", reply.text());
        let option = if entry.contains(" ca=") { "ca= (its own counts alone), or" } else { "--ca-file, or" };
        let told = format!("signed by nobody we trust: give its authority by {option}");
        let is_told = reply.text().contains(&told);
        assert!(expected == 200 || is_told, "{entry}: {}", reply.text());
    }
}

#[test]
fn a_client_certificate_is_shown_and_a_wrong_or_expired_one_is_no_help() {
    let (files, authority, other) = (Files::new(), Authority::new(), Authority::named("other"));
    let ca = files.put("ca", &authority.pem());
    let rows = [
        ("ours", Some(authority.client_pem(false)), 200),
        ("none", None, 502),
        ("of another authority", Some(other.client_pem(false)), 502),
        ("expired", Some(authority.client_pem(true)), 502),
    ];
    for versions in VERSIONS {
        for (label, pem, expected) in &rows {
            let manner = Manner { versions, clients_of: Some(authority.der()), ..Manner::default() };
            let identity = authority.identity(&["good.example"]);
            let backend = TlsBackend::in_manner(manner, identity, |mut secured| secured.reply_to_all("good"));
            let cert = pem.as_ref().map(|pem| format!(" cert={}", files.put("cert", pem))).unwrap_or_default();
            let entry = format!("{} ca={ca}{cert}", backend.url("good.example"));
            let reply = proxy(std::slice::from_ref(&entry), |_| {}).get("/");
            assert_eq!(reply.status, *expected, "{label}: {}", reply.text());
            assert!(*expected == 200 || reply.text().contains("b1 tls"), "{label}: {}", reply.text());
        }
    }
}

#[test]
fn what_is_not_checked_is_said_everywhere() {
    let (identity, _) = Authority::self_signed_identity(&["somebody.else"]);
    let backend = TlsBackend::with(identity, "nas");
    let url = backend.url("127.0.0.1");
    let checked = proxy(std::slice::from_ref(&url), |_| {});
    assert!(checked.get("/").text().contains("b1 tls"));
    let program = Binary::start(&["--backends", &format!("{url} insecure name=nas")]);
    program.line("its certificate isn't checked (insecure)");
    let (address, admin) = program.addresses();
    assert_eq!(get(address, "/").text(), "nas");
    assert!(show(admin, "/backends", "text/plain").contains("racing, insecure"));
    assert!(show(admin, "/backends", "application/json").contains("\"insecure\":true"));
    assert!(show(admin, "/", "text/html").contains("<b class=bad>insecure</b>"));
}

#[test]
fn fields_of_a_file_take_the_place_of_the_clients_at_one_backend_alone() {
    let files = Files::new();
    let path = files.put("fields", "# the key\nAuthorization: Bearer secret\nHost: inner.example\nX-Own: yes\n");
    let (first, second) = (Fake::with(503, "no"), Fake::with(200, "yes"));
    let entries = [format!("{} header-file={path}", first.url), second.url.clone()];
    let proxy = proxy(&entries, |_| {});
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/x", &["Authorization: Basic theirs", "X-Kept: kept"], Some(b"body"));
    assert_eq!(client.reply().status, 200);
    let (own, common) = (first.next(), second.next());
    assert_eq!(own.values("authorization"), ["Bearer secret"]);
    assert_eq!((own.values("host"), own.values("x-own")), (vec!["inner.example"], vec!["yes"]));
    assert_eq!((own.values("x-kept"), own.body.as_slice()), (vec!["kept"], &b"body"[..]));
    assert_eq!((common.values("authorization"), common.values("x-own")), (vec!["Basic theirs"], vec![]));
    client.send_request("TRACE", "/x", &["Authorization: Basic theirs"], None);
    assert_eq!(client.reply().status, 200);
    let traced = first.next();
    assert_eq!(
        (traced.values("authorization"), traced.values("x-own")),
        (vec!["Basic theirs"], vec![]),
        "it comes back"
    );
    assert_eq!(traced.values("host"), ["inner.example"]);
    for (target, accept) in [("/backends", "text/plain"), ("/backends", "application/json"), ("/", "text/html")] {
        let shown = show(proxy.admin, target, accept);
        assert!(!shown.contains("secret") && !shown.contains("inner.example"), "{shown}");
    }
}

#[test]
fn bad_files_stop_the_start_and_are_named() {
    let files = Files::new();
    let (empty, field) = (files.put("empty", ""), files.put("field", "Via: secret"));
    let missing = files.0.path().join("missing").display().to_string();
    let rows = [
        (format!("https://a ca={missing}"), format!("ca={missing}: cannot read it: No such file")),
        (format!("https://a ca={empty}"), format!("ca={empty}: it holds no certificate")),
        (format!("https://a cert={empty}"), format!("cert={empty}: it holds no certificate")),
        (format!("http://a header-file={field}"), format!("header-file={field}: line 1: via isn't to be set")),
        (format!("http://a ca={empty}"), "'ca' is for https://; leave it out, or write https://".to_owned()),
        ("http://a insecure".to_owned(), "'insecure' is for https://".to_owned()),
        (format!("https://a insecure ca={empty}"), "leave one out".to_owned()),
    ];
    for (entry, expected) in rows {
        for arguments in [&["--backends", &entry][..], &["--backends", &entry, "--check"]] {
            let ended = run(arguments);
            assert_eq!(ended.code, Some(2), "{entry}: {}", ended.stderr);
            assert!(ended.stderr.contains(&expected) && !ended.stderr.contains("secret"), "{}", ended.stderr);
        }
    }
    // In a file the line is named, too.
    let list = files.put("list", &format!("# ours\nhttp://a,http://b\nhttp://c header-file={field}\n"));
    let ended = run(&["--backends-file", &list, "--check"]);
    let told = format!(
        "red-tentacle: --backends-file {list}:3: 'http://c header-file={field}': header-file={field}: line 1: via"
    );
    assert!(ended.code == Some(2) && ended.stderr.starts_with(&told), "{}", ended.stderr);
    let good = files.put("good", "X-Key: secret");
    let ended = run(&["--check", "--backends", &format!("http://a header-file={good}")]);
    assert!(
        ended.stdout.contains(&format!("header-file={good}")) && !ended.stdout.contains("secret"),
        "{}",
        ended.stdout
    );
}

#[test]
fn over_http_they_can_not_be_set_but_stay_as_they_are() {
    let files = Files::new();
    let (path, other) = (files.put("fields", "X-Own: 1"), files.put("other", "X-Own: 2"));
    let backend = Fake::with(200, "yes");
    let proxy = proxy(&[format!("{} header-file={path}", backend.url)], |_| {});
    let own = || {
        assert_eq!(proxy.get("/").status, 200);
        backend.next().values("x-own").join(",")
    };
    let rows = [
        ("/backends", format!("add=http://a header-file={path}")),
        ("/backends", format!("replace={} header-file={other}", backend.url)),
        ("/backends", "add=https://a insecure".to_owned()),
        ("/-update-backends", format!("backends=https://a ca={path}")),
        ("/-update-backends", format!("backends={} cert={path},https://b", backend.url.replace("http:", "https:"))),
    ];
    for (target, form) in rows {
        let reply = post(proxy.admin, target, &form);
        assert!(reply.status == 400 && reply.text().contains("can't be set over HTTP"), "{form}: {}", reply.text());
    }
    for form in [
        format!("replace={}", backend.url),
        format!("add={} name=x", backend.url),
        format!("replace={} name=y header-file={path}", backend.url),
    ] {
        assert_eq!(post(proxy.admin, "/backends", &form).status, 200, "{form}");
        assert_eq!(own(), "1", "{form}");
    }
}

#[test]
fn sighup_reads_them_again_and_a_bad_one_changes_nothing() {
    let (files, backend) = (Files::new(), Fake::with(200, "yes"));
    let path = files.put("fields", "X-Own: 1");
    let entry = format!("{} header-file={path}", backend.url);
    let list = files.put("list", &format!("{entry}\n"));
    for arguments in [["--backends", &entry], ["--backends-file", &list]] {
        files.put("fields", "X-Own: 1");
        let program = Binary::start(&arguments);
        let address = program.address();
        let own = || {
            assert_eq!(get(address, "/").status, 200);
            backend.next().values("x-own").join(",")
        };
        assert_eq!(own(), "1");
        files.put("fields", "X-Own: 2");
        program.signal("HUP");
        eventually("the file is read again", || own() == "2");
        files.put("fields", "Via: 3");
        program.signal("HUP");
        let told = program.line("via isn't to be set");
        let is_located = told.contains(&format!(" {list}:1: 'http://"));
        assert_eq!(is_located, arguments[0] == "--backends-file", "{told}");
        assert_eq!(own(), "2");
    }
}

/// Was seen as: at a terminal SIGHUP ended a proxy that should have read such a file again.
#[test]
fn at_a_terminal_sighup_is_for_the_files_that_entries_name() {
    if !has("script") || !has("setpriv") {
        return;
    }
    let (files, backend) = (Files::new(), Fake::with(200, "good"));
    let entry = format!("{} header-file={}", backend.url, files.put("fields", "X-Own: 1"));
    let program = Binary::spawn(Binary::command_at_terminal(&entry));
    let line = |text: &str| loop {
        let line = program.printed.recv_timeout(SOON).expect(text);
        if line.contains(text) {
            return line.trim_end().to_owned();
        }
    };
    let number = line("it is process ").rsplit(' ').next().map(str::to_owned).expect("a number");
    line("listens on");
    let sent = Command::new("kill").args(["-HUP", &number]).status();
    assert!(sent.expect("kill runs").success());
    line("the list was read again");
}
