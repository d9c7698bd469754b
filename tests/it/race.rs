//! Who wins, and what the client gets.

use crate::harness::{Client, Fake, Gate, Proxy, Raw, refusing};

#[test]
fn the_fastest_backend_wins() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Fake::answering(move |_| {
        held.pass();
        Fake::reply(200, "slow")
    });
    let quick = Fake::with(200, "quick");
    let proxy = Proxy::before(&[slow.url.clone(), quick.url.clone()]);
    assert_eq!(proxy.get("/").text(), "quick");
    gate.open();
}

#[test]
fn one_success_is_enough_among_errors() {
    let (missing, broken, good) = (Fake::with(404, "no"), Fake::with(500, "no"), Fake::with(201, "yes"));
    let proxy = Proxy::before(&[missing.url.clone(), refusing(), broken.url.clone(), good.url.clone()]);
    let reply = proxy.get("/");
    assert_eq!((reply.status, reply.text().as_str()), (201, "yes"));
}

#[test]
fn when_all_fail_the_client_learns_why() {
    let (missing, closing) = (Fake::with(404, "no"), Raw::serving(drop));
    let proxy = Proxy::before(&[missing.url.clone(), refusing(), closing.url.clone()]);
    let reply = proxy.get("/");
    assert_eq!(reply.status, 502);
    let text = reply.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "All backend requests failed");
    assert_eq!(lines[1], format!("b1 {} 404: the backend answered 404 Not Found", missing.url));
    assert!(lines[2].ends_with("refused: the backend refused the connection"), "{text}");
    assert!(lines[3].contains(" closed: ") || lines[3].contains(" reset: "), "{text}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn all_hang_but_the_last() {
    let hanging: Vec<Raw> = (0..4).map(|_| Raw::hanging()).collect();
    let gate = Gate::new();
    let held = gate.clone();
    let good = Fake::answering(move |_| {
        held.pass();
        Fake::reply(200, "good")
    });
    let mut urls: Vec<String> = hanging.iter().map(|raw| raw.url.clone()).collect();
    urls.push(good.url.clone());
    let proxy = Proxy::before(&urls);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/x?y", &[], None);
    for raw in &hanging {
        raw.next();
    }
    gate.open();
    assert_eq!(client.reply().text(), "good");
    for raw in &hanging {
        raw.expect_hang_up();
    }
}
