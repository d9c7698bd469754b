//! Failures that go to the client as they are: those that end a race at once.

use red_tentacle::config::Statuses;

use crate::harness::{Client, Fake, Gate, Proxy, Raw, Reply, eventually, patiently};

fn ask(proxy: &Proxy, target: &str, fields: &[&str]) -> Reply {
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", target, fields, None);
    client.reply()
}

fn shown(proxy: &Proxy, target: &str) -> String {
    let mut client = Client::connect(proxy.admin);
    client.send_request("GET", target, &[], None);
    client.reply().text()
}

/// Of the metrics, the value of this series.
fn count(proxy: &Proxy, series: &str) -> Option<String> {
    let text = shown(proxy, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("red_tentacle_{series} ")))?;
    Some(line.to_owned())
}

#[test]
fn the_first_final_answer_ends_the_race_and_reaches_the_client() {
    let (hanging, missing) =
        (Raw::hanging(), Raw::answering("HTTP/1.1 404 Not Found\r\nX-Own: yes\r\nContent-Length: 4\r\n\r\nnone"));
    let proxy = Proxy::with(&[hanging.url.clone(), missing.url.clone()], |config| {
        patiently(config);
        config.definitive = Statuses::parse("404,410").expect("statuses");
    });
    let reply = ask(&proxy, "/x", &["X-Request-ID: final"]);
    assert_eq!((reply.status, reply.text().as_str(), reply.value("x-own")), (404, "none", Some("yes")));
    let told = reply.value("proxy-status").expect("a status");
    assert!(told.starts_with("red-tentacle; next-hop=b2; received-status=404; details=\"final "), "{told}");
    assert!(told.ends_with("ms of 2\""), "{told}");
    hanging.expect_hang_up();
    eventually("the race is over", || shown(&proxy, "/races/final").contains("\"verdict\":\"final\",\"by\":\"b2\""));
    assert_eq!(count(&proxy, "races_total{verdict=\"final\"}").as_deref(), Some("1"));
    let legs =
        |outcome: &str| count(&proxy, &format!("legs_total{{backend=\"{}\",outcome=\"{outcome}\"}}", missing.url));
    assert_eq!((legs("final").as_deref(), legs("4xx").as_deref()), (Some("1"), Some("0")));
    assert_eq!(count(&proxy, "request_duration_seconds_count").as_deref(), Some("1"));
}

#[test]
fn a_failure_that_is_not_final_waits_and_a_success_that_comes_first_wins() {
    let gate = Gate::new();
    let held = gate.clone();
    let missing = Fake::answering(move |_| {
        held.pass();
        Fake::reply(404, "none")
    });
    let (broken, good) = (Fake::with(503, "no"), Fake::with(200, "good"));
    let proxy = Proxy::with(&[missing.url.clone(), broken.url.clone(), good.url.clone()], |config| {
        config.definitive = Statuses::parse("404").expect("statuses");
    });
    let reply = ask(&proxy, "/", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (200, "good"));
    gate.open();
    eventually("the race is over", || count(&proxy, "races_total{verdict=\"won\"}").as_deref() == Some("1"));
    let late = count(&proxy, &format!("legs_total{{backend=\"{}\",outcome=\"4xx\"}}", missing.url));
    assert_eq!(late.as_deref(), Some("1"), "a final answer that comes late is one of its class");
}
