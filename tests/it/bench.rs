//! A backend that has failed often in a row sits out, and comes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Binary, Fake, Proxy, Raw, Reply, SOON, eventually, get, reply_to};

/// A backend that answers with a status which changes.
fn changing(first: u16) -> (Fake, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(first));
    let now = status.clone();
    (Fake::answering(move |_| Fake::reply(now.load(Ordering::SeqCst), "changing")), status)
}

fn post(proxy: &Proxy, target: &str, form: &str) -> Reply {
    let fields = ["Content-Type: application/x-www-form-urlencoded", "Accept: application/json"];
    reply_to(proxy.admin, "POST", target, &fields, Some(form.as_bytes()))
}

fn state(proxy: &Proxy, backend: usize) -> String {
    let list = reply_to(proxy.admin, "GET", "/backends", &["Accept: application/json"], None).text();
    let list: Value = serde_json::from_str(&list).expect("JSON");
    list["backends"][backend]["state"].as_str().expect("a state").to_owned()
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.admin, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).expect(name)
}

/// A proxy whose losers may answer in any case: only what has answered can be benched for it.
fn with_bench(backends: &[String]) -> Proxy {
    Proxy::with(backends, |config| {
        config.bench = std::num::NonZeroU32::new(2);
        config.linger = SOON;
    })
}

#[test]
fn a_backend_that_fails_sits_out_also_for_post_until_a_probe_has_an_answer() {
    let ((ill, status), good) = (changing(500), Fake::with(200, "good"));
    let proxy = with_bench(&[format!("{} name=ill", ill.url), good.url.clone()]);
    let mut asked = Instant::now();
    while state(&proxy, 0) != "benched" {
        asked = Instant::now();
        assert_eq!(proxy.get("/").text(), "good");
        ill.next();
    }
    assert_eq!(metric(&proxy, "red_tentacle_backend_state{backend=\"ill\",state=\"benched\"}"), 1);
    assert_eq!(proxy.post("/post", b"order").text(), "good");
    // Else this may have been the probe.
    if asked.elapsed() < Duration::from_millis(800) {
        assert!(ill.received.is_empty(), "a POST isn't sent there");
    }
    status.store(200, Ordering::SeqCst);
    // By the first request behind its time.
    eventually("it races again", || {
        assert!(["good", "changing"].contains(&proxy.get("/later").text().as_str()));
        state(&proxy, 0) == "racing"
    });
    assert!(metric(&proxy, "red_tentacle_benched_total{backend=\"ill\",why=\"failures\"}") >= 1);
    assert_eq!(metric(&proxy, "red_tentacle_all_benched_races_total"), 0);
}

#[test]
fn a_backend_that_asks_for_it_is_left_alone_and_still_the_last_resort() {
    let asking =
        Raw::answering("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 561635\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (other, status) = changing(200);
    let proxy = with_bench(&[asking.url.clone(), other.url.clone()]);
    assert_eq!(proxy.get("/").status, 200);
    eventually("it is benched", || state(&proxy, 0) == "benched");
    let url = &asking.url;
    assert_eq!(metric(&proxy, &format!("red_tentacle_benched_total{{backend=\"{url}\",why=\"retry-after\"}}")), 1);
    assert_eq!(asking.requests.try_iter().count(), 1);
    assert_eq!(proxy.get("/").status, 200);
    assert!(asking.requests.is_empty());
    status.store(404, Ordering::SeqCst);
    let text = proxy.get("/").text();
    assert!(text.contains("b1 429") && text.contains("b2 404"), "no bound costs a race its last leg: {text}");
    assert_eq!(asking.requests.try_iter().count(), 1);
    // An operator may let it take part again, and a list with the same URL leaves it where it is.
    assert_eq!(proxy.update(&[asking.url.clone(), other.url.clone()]).status, 200);
    assert_eq!(state(&proxy, 0), "benched");
    assert_eq!(post(&proxy, "/backends", "resume=b1").status, 200);
    assert_eq!(state(&proxy, 0), "racing");
    proxy.get("/");
    eventually("it is benched", || state(&proxy, 0) == "benched");
    // One that is added again is as if it were new.
    assert_eq!(proxy.update(std::slice::from_ref(&other.url)).status, 200);
    assert_eq!(proxy.update(&[asking.url.clone(), other.url.clone()]).status, 200);
    assert_eq!(state(&proxy, 0), "racing");
}

#[test]
fn without_the_flag_nothing_is_benched() {
    let asking =
        Raw::answering("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n".to_owned());
    let good = Fake::with(200, "good");
    let proxy = Proxy::before(&[asking.url.clone(), good.url.clone()]);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "good");
        asking.requests.recv_timeout(SOON).expect("a request");
    }
    assert_eq!(state(&proxy, 0), "racing");
}

#[test]
fn when_every_backend_is_benched_every_one_is_asked() {
    let ((first, _), (second, status)) = (changing(500), changing(500));
    let proxy = with_bench(&[first.url.clone(), second.url.clone()]);
    while state(&proxy, 0) != "benched" || state(&proxy, 1) != "benched" {
        assert_eq!(proxy.get("/").status, 502);
    }
    let before = metric(&proxy, "red_tentacle_all_benched_races_total");
    status.store(200, Ordering::SeqCst);
    assert_eq!(proxy.get("/").status, 200);
    assert!(metric(&proxy, "red_tentacle_all_benched_races_total") > before);
    eventually("it races again", || state(&proxy, 1) == "racing");
}

#[test]
fn a_bench_and_its_end_are_lines_of_the_log() {
    let ((ill, status), good) = (changing(502), Fake::with(200, "good"));
    let list = format!("{} name=ill,{}", ill.url, good.url);
    let program = Binary::start(&["--backends", &list, "--bench", "2"]);
    let address = program.address();
    for _ in 0..2 {
        get(address, "/");
        ill.next();
    }
    let line = program.line(" is benched for ");
    let (begin, end) = (format!("] ill {} is benched for ", ill.url), "ms: 2 failures in a row, the last one 502");
    assert!(line.contains(" WARN ") && line.contains(&begin) && line.ends_with(end), "{line}");
    status.store(200, Ordering::SeqCst);
    eventually("it is probed", || {
        get(address, "/");
        ill.received.try_recv().is_ok()
    });
    let line = program.line(" races again");
    assert!(line.contains(" INFO ") && line.ends_with(&format!("] ill {} races again", ill.url)), "{line}");
}
