//! `/healthz` and `/readyz` on the admin port: open to every peer, silent about everything else.

use std::net::SocketAddr;

use crate::harness::{Binary, Client, Fake, Gate, Reply, get, refusing};

/// What no update may have: signs of another proxy and of a page, and a name that leads here from somewhere.
fn probe(address: SocketAddr, method: &str, target: &str) -> Reply {
    let mut client = Client::connect(address);
    let fields = "Via: 1.1 mesh\r\nOrigin: https://evil.example\r\nHost: pod.example\r\nConnection: close";
    client.send(format!("{method} {target} HTTP/1.1\r\n{fields}\r\n\r\n"));
    let mut reply = client.head().expect("a reply");
    if method != "HEAD" {
        client.read_body(&mut reply);
    }
    assert!(client.is_closed());
    reply
}

#[test]
fn every_peer_may_ask_whether_it_is_alive_and_ready_but_not_where_clients_connect() {
    let good = Fake::with(200, "good");
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "s3cret").expect("written");
    let token = token.path().to_str().expect("UTF-8");
    let mut program = Binary::start(&["--backends", &good.url, "--admin-token-file", token]);
    let (address, admin) = program.addresses();
    for (target, text) in [("/healthz", "alive\n"), ("/readyz", "ready\n"), ("/readyz?x", "ready\n")] {
        let reply = probe(admin, "GET", target);
        assert_eq!((reply.status, reply.text().as_str()), (200, text), "{target}");
        let head = probe(admin, "HEAD", target);
        assert_eq!((head.status, head.value("content-length")), (200, Some(&*text.len().to_string())), "{target}");
        let post = probe(admin, "POST", target);
        assert_eq!((post.status, post.value("allow")), (405, Some("GET, HEAD")), "{target}");
        assert!(good.received.is_empty(), "a probe reaches no backend");
        assert_eq!(get(address, target).text(), "good", "{target} is the backends' where clients connect");
        assert_eq!(good.next().target, target);
    }
    assert_eq!(probe(admin, "GET", "/healthz/").status, 404);
    assert_eq!(probe(admin, "GET", "/-update-backends").status, 403, "nothing else is open");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    let told = program.rest();
    let exchanges = told.lines().filter(|line| line.contains("z 200 in ") || line.contains("z?x 200 in ")).count();
    assert_eq!(exchanges, 3, "what clients ask is logged, probes are not: {told}");
}

#[test]
fn readiness_says_nothing_of_backends() {
    let program = Binary::start(&["--backends", &refusing()]);
    let (address, admin) = program.addresses();
    assert_eq!(get(address, "/").status, 502);
    assert_eq!(get(admin, "/readyz").status, 200);
}

#[test]
fn while_it_drains_it_is_alive_and_not_ready_and_takes_no_list() {
    let gate = Gate::new();
    let backend = Fake::behind(&gate, 200, "late");
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "1h"]);
    let (address, admin) = program.addresses();
    let mut client = Client::connect(address);
    client.send_request("GET", "/", &[], None);
    backend.next();
    assert_eq!(get(admin, "/readyz").status, 200);
    program.signal("TERM");
    program.line("stopping: no more clients are accepted");
    let not_ready = probe(admin, "GET", "/readyz");
    assert_eq!((not_ready.status, not_ready.value("connection")), (503, Some("close")));
    assert_eq!(not_ready.text(), "Stopping: what is under way is finished, nothing else is begun\n");
    assert_eq!(probe(admin, "GET", "/healthz").status, 200);
    let mut update = Client::connect(admin);
    update.send_request("POST", &format!("/-update-backends?backends={}", backend.url), &[], None);
    assert_eq!(update.reply().status, 503, "the list would be lost");
    // A client that says nothing on the admin port doesn't keep it from ending.
    let _silent = Client::connect(admin);
    gate.open();
    assert_eq!(client.reply().text(), "late");
    assert_eq!(program.wait().code(), Some(0));
}
