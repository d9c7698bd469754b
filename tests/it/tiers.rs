//! Legs that start later than their race: by their `after`, or since all before them have lost.

use std::time::{Duration, Instant};

use red_tentacle::config::OnFailure;
use serde_json::Value;

use crate::harness::{Client, Fake, Gate, Proxy, Raw, Reply, SOON, eventually, get, patiently, refusing, reply_to};

fn listed(backends: &[(&str, &str)]) -> Vec<String> {
    backends.iter().map(|(url, options)| format!("{url} {options}")).collect()
}

/// The newest race whose id this is, once it is over.
fn race(proxy: &Proxy, id: &str) -> Value {
    let target = format!("/races/{id}");
    eventually("the race is over", || get(proxy.admin, &target).status == 200);
    serde_json::from_str(&get(proxy.admin, &target).text()).expect("JSON")
}

fn metric(proxy: &Proxy, name: &str) -> Option<f64> {
    let text = get(proxy.admin, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn ask(proxy: &Proxy, method: &str, id: &str) -> Reply {
    let mut client = Client::connect(proxy.address);
    let body = (method == "POST").then_some(&b"order"[..]);
    client.send_request(method, "/", &[&format!("X-Request-ID: {id}")], body);
    client.reply()
}

fn how(reply: &Reply) -> String {
    let status = reply.value("proxy-status").expect("a status");
    let details = status.split('"').nth(1).expect("details");
    let (how, rest) = details.split_once(' ').expect("a time");
    format!("{how} {}", rest.split_once(' ').expect("legs").1)
}

#[test]
fn a_tier_that_is_not_needed_gets_no_request_not_even_a_post() {
    let (first, second) = (Fake::with(200, "first"), Fake::with(200, "second"));
    let proxy = Proxy::with(&listed(&[(&first.url, ""), (&second.url, "name=spare after=30s")]), |config| {
        config.timeout = Duration::from_secs(30);
    });
    for method in ["GET", "POST"] {
        let reply = ask(&proxy, method, method);
        assert_eq!((reply.text().as_str(), how(&reply).as_str()), ("first", "won of 1"));
        let race = race(&proxy, method);
        assert_eq!(
            race["legs"][1],
            serde_json::json!({"backend": "spare", "outcome": "unneeded", "start_ms": null, "ms": null})
        );
    }
    assert_eq!(proxy.totals().legs, 2);
    assert!(second.received.is_empty());
    let name = "red_tentacle_legs_total{backend=\"spare\",outcome=";
    let text = get(proxy.admin, "/metrics").text();
    assert!(text.lines().filter(|line| line.starts_with(name)).all(|line| line.ends_with(" 0")), "{text}");
    assert!(!text.contains("unneeded"));
}

#[test]
fn a_failure_starts_the_next_tier_at_once() {
    let (bad, good) = (Fake::with(503, "no"), Fake::with(200, "good"));
    let backends = [(&*refusing(), ""), (&*bad.url, ""), (&*good.url, "after=30s"), (&*refusing(), "after=20s")];
    let proxy = Proxy::with(&listed(&backends), |config| config.timeout = Duration::from_secs(30));
    let began = Instant::now();
    let reply = ask(&proxy, "POST", "a");
    assert_eq!((reply.text().as_str(), how(&reply).as_str()), ("good", "failover of 4"));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(good.next().body, b"order", "a late leg has the body, too");
    let race = race(&proxy, "a");
    let start = |leg: usize| race["legs"][leg]["start_ms"].as_f64().expect("it was started");
    let end = |leg: usize| race["legs"][leg]["ms"].as_f64().expect("it has ended");
    assert!(start(3) >= end(0).max(end(1)) && start(2) >= end(3), "{race}");
    assert_eq!(metric(&proxy, "red_tentacle_hedges_total{why=\"failure\"}"), Some(2.0));
    assert_eq!(metric(&proxy, "red_tentacle_hedge_delay_seconds"), None);
}

#[test]
fn a_tier_starts_by_time_while_the_one_before_it_hangs() {
    let (hanging, good) = (Raw::hanging(), Fake::with(200, "good"));
    let proxy = Proxy::with(&listed(&[(&hanging.url, ""), (&good.url, "after=100ms")]), |config| {
        patiently(config);
        config.long_look = false;
    });
    let began = Instant::now();
    let reply = ask(&proxy, "GET", "a");
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!((reply.text().as_str(), how(&reply).as_str()), ("good", "hedge of 2"));
    hanging.expect_hang_up();
    let race = race(&proxy, "a");
    assert!(race["legs"][1]["start_ms"].as_f64().expect("it was started") >= 100.0);
    assert_eq!(metric(&proxy, "red_tentacle_hedges_total{why=\"time\"}"), Some(1.0));
}

/// Two hundred races at once, each with three tiers.
#[test]
fn under_load_no_tier_starts_before_its_time_or_out_of_order() {
    let gate = Gate::new();
    // Of two hundred connections at once tiny_http may leave some unread for seconds.
    let held = gate.clone();
    let slow = Raw::serving(move |mut connection| {
        connection.request();
        held.pass();
        connection.reply(200, "slow");
        connection.wait_for_hang_up();
    });
    let tiers = [Raw::hanging(), Raw::hanging()];
    let backends = [(&*slow.url, ""), (&*tiers[0].url, "after=40ms"), (&*tiers[1].url, "after=80ms")];
    let proxy = Proxy::with(&listed(&backends), |config| {
        patiently(config);
        config.long_look = false;
    });
    let clients: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::connect(proxy.address);
            client.send_request("GET", "/", &[], None);
            client
        })
        .collect();
    for tier in &tiers {
        for _ in 0..clients.len() {
            tier.next();
        }
    }
    gate.open();
    for mut client in clients {
        assert_eq!(client.reply().text(), "slow");
    }
    let races: Value = serde_json::from_str(&get(proxy.admin, "/races?n=64").text()).expect("JSON");
    let races = races["races"].as_array().expect("races");
    assert!(!races.is_empty());
    for race in races {
        let starts: Vec<f64> =
            (0..3).map(|leg| race["legs"][leg]["start_ms"].as_f64().expect("it was started")).collect();
        assert!(starts[1] >= 40.0 && starts[2] >= 80.0 && starts.is_sorted(), "{race}");
        assert!(starts[2] < SOON.as_secs_f64() * 1000.0, "{race}");
    }
}

#[test]
fn one_backend_may_have_a_timeout_of_its_own_which_changes_with_the_list() {
    let (quick, other) = (Raw::hanging(), Raw::hanging());
    let proxy =
        Proxy::with(&listed(&[(&quick.url, "timeout=50ms"), (&other.url, "name=other timeout=60ms")]), patiently);
    let lost = |id: &str| {
        let reply = ask(&proxy, "GET", id);
        assert_eq!(reply.status, 502);
        reply.text()
    };
    let text = lost("a");
    assert!(text.contains("b1 timeout") && text.contains("other timeout"), "{text}");
    let ends: Vec<f64> = (0..2).map(|leg| race(&proxy, "a")["legs"][leg]["ms"].as_f64().expect("an end")).collect();
    assert!(ends[0] >= 50.0 && ends[1] >= 60.0, "{ends:?}");
    // A bare URL keeps its options, another value takes their place.
    let listed = proxy.update(&[format!("{}+timeout=150ms", quick.url), other.url.clone()]).text();
    assert!(listed.contains("other"), "{listed}");
    lost("b");
    let ends: Vec<f64> = (0..2).map(|leg| race(&proxy, "b")["legs"][leg]["ms"].as_f64().expect("an end")).collect();
    assert!(ends[0] >= 150.0 && ends[1] >= 60.0 && ends[1] < SOON.as_secs_f64() * 1000.0, "{ends:?}");
}

#[test]
fn an_update_says_when_legs_start_and_is_refused_if_none_does_at_once() {
    let (first, second) = (Fake::with(200, "first"), Fake::with(200, "second"));
    let proxy = Proxy::before(&[first.url.clone(), second.url.clone()]);
    let update = |first_option: &str, second_option: &str| {
        proxy.update(&[format!("{}{first_option}", first.url), format!("{}{second_option}", second.url)])
    };
    let rows = [
        ("+after=1s", "+after=p95", 409, "No backend starts at once: leave out one 'after'"),
        ("", "+after=6s", 400, "its 'after' is longer than --timeout; write at most 5s"),
        ("", "+after=p101", 400, "'after=p101': write a duration (200ms), p50 to p99, or p95..500ms"),
        ("", "+after=5s", 200, "Backends updated"),
    ];
    for (first, second, status, expected) in rows {
        let reply = update(first, second);
        assert_eq!(reply.status, status);
        let text = reply.text();
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(proxy.get("/").text(), "first");
    assert_eq!(update("", "").status, 200, "bare URLs say who, not how");
    assert_eq!(proxy.get("/").text(), "first");
    assert!(second.received.is_empty());
    assert_eq!(update("+after=5s", "+after=0s").status, 200);
    assert_eq!(proxy.get("/").text(), "second");
}

/// Was seen as: "leave out one 'after'" of a change in which none was written.
#[test]
fn a_change_that_leaves_only_one_that_keeps_its_after_says_so() {
    let (near, far) = (Fake::with(200, "near"), Fake::with(200, "far"));
    let proxy = Proxy::before(&listed(&[(&near.url, "name=near"), (&far.url, "name=far after=200ms")]));
    let change = |form: &str| {
        reply_to(
            proxy.admin,
            "POST",
            "/backends",
            &["Content-Type: application/x-www-form-urlencoded"],
            Some(form.as_bytes()),
        )
    };
    for reply in [proxy.update(std::slice::from_ref(&far.url)), change("remove=near")] {
        assert_eq!(reply.status, 409);
        let text = reply.text();
        assert!(text.contains("No backend starts at once: far keeps its after=200ms; write after=0s"), "{text}");
    }
    assert_eq!(change(&format!("remove=near&add={}+after=0s", far.url)).status, 200);
    assert_eq!(proxy.get("/").text(), "far");
}

#[test]
fn a_hedge_by_percentile_says_when_it_starts() {
    let (first, second) = (Fake::with(200, "first"), Fake::with(200, "second"));
    let proxy = Proxy::before(&listed(&[(&first.url, ""), (&second.url, "after=p95")]));
    assert_eq!(metric(&proxy, "red_tentacle_hedge_delay_seconds"), Some(2.5), "half of the timeout");
    // A hundred answers, and a second that is over.
    eventually("it is known", || {
        assert_eq!(proxy.get("/").status, 200);
        metric(&proxy, "red_tentacle_hedge_delay_seconds").is_some_and(|delay| delay < 2.5)
    });
}

#[test]
fn the_best_failure_waits_for_every_tier() {
    let (missing, good) = (Fake::with(404, "no"), Fake::with(200, "good"));
    let proxy = Proxy::with(&listed(&[(&missing.url, ""), (&good.url, "after=5s")]), |config| {
        config.on_failure = OnFailure::Best { within: None };
    });
    let reply = ask(&proxy, "GET", "a");
    assert_eq!((reply.text().as_str(), how(&reply).as_str()), ("good", "failover of 2"));
}
