//! `/races`: what is told of a race to an operator who asks later.

use crate::harness::{Client, Fake, Gate, Proxy, Reply, eventually, get, refusing, reply_to};

fn ask(proxy: &Proxy, target: &str, fields: &[&str]) -> Reply {
    reply_to(proxy.address, "GET", target, fields, None)
}

fn show(proxy: &Proxy, target: &str) -> Reply {
    get(proxy.admin, target)
}

/// The JSON of a race, once it is over.
fn race(proxy: &Proxy, id: &str) -> String {
    let target = format!("/races/{id}");
    eventually("the race is over", || show(proxy, &target).status == 200);
    let reply = show(proxy, &target);
    assert_eq!(reply.value("content-type"), Some("application/json"));
    assert_eq!(reply.value("cache-control"), Some("no-store"));
    reply.text()
}

/// The text with every time replaced: `"ms":12.3` becomes `"ms":_`.
fn without_times(json: &str) -> String {
    let mut parts = json.split("ms\":");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        assert!(rest.len() < part.len() || rest.starts_with("null"), "{json}");
        text.extend(["ms\":_", rest]);
    }
    let (begin, rest) = text.split_once("\"at\":\"").expect("a time");
    let (_, rest) = rest.split_once('"').expect("its end");
    format!("{begin}\"at\":_{rest}")
}

#[test]
fn a_race_is_found_by_its_id_with_every_leg() {
    let (bad, good) = (Fake::with(503, "no"), Fake::with(200, "yes"));
    let proxy = Proxy::before(&[bad.url.clone(), good.url.clone(), refusing()]);
    let reply = ask(&proxy, "/a/b?token=secret", &[]);
    let id = reply.value("x-request-id").expect("an id");
    let expected = format!(
        r#"{{"id":"{id}","at":_,"method":"GET","target":"/a/b","status":200,"ms":_,"verdict":"won","by":"b2","note":"rescue","legs":[{{"backend":"b1","outcome":"503","start_ms":_,"ms":_}},{{"backend":"b2","outcome":"200","start_ms":_,"ms":_}},{{"backend":"b3","outcome":"refused","start_ms":_,"ms":_}}]}}"#
    );
    assert_eq!(without_times(&race(&proxy, id)), expected + "\n");
    assert_eq!(show(&proxy, "/races/unknown").status, 404);
}

#[test]
fn lost_and_abandoned_races_are_told_too_the_newest_first() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Fake::answering(move |request| {
        if request.target == "/left" {
            held.pass();
        }
        Fake::reply(404, "no")
    });
    let proxy = Proxy::before(std::slice::from_ref(&slow.url));
    assert_eq!(ask(&proxy, "/lost", &["X-Request-ID: lost"]).status, 502);
    assert!(race(&proxy, "lost").contains(r#""status":502,"#));
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/left", &["X-Request-ID: left"], None);
    slow.next();
    slow.next();
    drop(client);
    let left = without_times(&race(&proxy, "left"));
    assert!(
        left.contains(
            r#""status":null,"ms":_,"verdict":"abandoned","by":null,"note":null,"legs":[{"backend":"b1","outcome":"cancelled","#
        ),
        "{left}"
    );
    gate.open();
    let all = show(&proxy, "/races").text();
    let (newer, older) = (all.find("\"left\"").expect("it"), all.find("\"lost\"").expect("it"));
    assert!(all.starts_with("{\"races\":[{\"id\":\"left\"") && newer < older, "{all}");
    assert_eq!(show(&proxy, "/races?n=1").text().matches("\"id\":").count(), 1);
    assert_eq!(show(&proxy, "/races?n=none").status, 400);
}

#[test]
fn the_last_are_kept_however_many_there_were_and_clients_are_told_nothing() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    for number in 0..200 {
        assert_eq!(ask(&proxy, &format!("/{number}"), &[]).status, 200);
    }
    let count = || show(&proxy, "/races?n=64").text().matches("\"verdict\":\"won\"").count();
    eventually("some are kept", || count() >= 24);
    assert!(count() <= 40, "a proxy keeps places for races that were lost");
    assert_eq!(ask(&proxy, "/races", &[]).text(), "yes", "where clients connect, the path is the backends'");
    assert_eq!(good.received.try_iter().last().map(|request| request.target), Some("/races".to_owned()));
}
