//! The race behind tiny_http.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Binary, Client, Fake, Raw, SOON, get, refusing};

/// The example, which cargo has built beside the tests: `target/debug/examples` beside `target/debug/deps`.
fn example() -> PathBuf {
    let tests = std::env::current_exe().expect("this test");
    let built = tests.ancestors().nth(2).expect("the target directory").join("examples/tiny_http");
    assert!(built.is_file(), "{} isn't built: run all of `cargo test`, or `cargo build --examples`", built.display());
    built
}

/// Starts it before these backends: it says first where it listens.
fn start(backends: &[&str]) -> (Binary, SocketAddr) {
    let mut command = Command::new(example());
    command.args(backends);
    let program = Binary::spawn(command);
    let address = program.printed.recv_timeout(SOON).expect("a line").parse().expect("an address");
    (program, address)
}

#[test]
fn the_race_runs_behind_another_server() {
    let (missing, hanging) = (Fake::with(404, "no"), Raw::hanging());
    let good = Fake::answering(|request| Fake::reply(201, [request.target.as_bytes(), &request.body].concat()));
    let (_program, address) = start(&[&missing.url, &hanging.url, &refusing(), &good.url]);
    let body = vec![b'x'; 100_000];
    let mut client = Client::connect(address);
    for target in ["/a?b", "/c"] {
        client.send_request("POST", target, &[], Some(&body));
        let reply = client.reply();
        assert_eq!((reply.status, reply.whole), (201, true));
        assert!(reply.body == [target.as_bytes(), &body].concat(), "{} bytes", reply.body.len());
        let seen = good.next();
        assert!(seen.body == body && seen.values("cdn-loop").len() == 1, "{:?}", seen.fields);
    }
    client.send_request("HEAD", "/", &[], None);
    assert_eq!(client.reply_to_head().status, 201);
}

#[test]
fn a_body_of_unknown_length_and_a_lost_race_come_through_it() {
    let chunked =
        Raw::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let (_program, address) = start(&[&chunked.url]);
    let reply = get(address, "/");
    assert_eq!((reply.text().as_str(), reply.whole), ("abcde", true));
    let (_program, address) = start(&[&refusing()]);
    let reply = get(address, "/");
    assert_eq!((reply.status, reply.text().lines().next()), (502, Some("All backend requests failed")));
}
