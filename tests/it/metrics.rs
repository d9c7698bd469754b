//! What `/metrics` counts, against what clients and backends count.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Client, Connection, Fake, Gate, Load, Proxy, Raw, eventually, get, refusing, reply_to};

/// The values of all series, by their names with labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(admin: SocketAddr) -> Scrape {
        let reply = get(admin, "/metrics");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.value("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = reply.text();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Scrape(series.collect())
    }

    fn value(&self, series: &str) -> f64 {
        *self.0.get(&format!("red_tentacle_{series}")).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// The sum over all series whose name with labels has all of these parts.
    fn sum(&self, parts: &[&str]) -> f64 {
        self.0.iter().filter(|(series, _)| parts.iter().all(|part| series.contains(part))).map(|(_, value)| value).sum()
    }
}

fn equal(a: f64, b: usize) -> bool {
    (a - f64::from(u32::try_from(b).expect("a small count"))).abs() < 1e-9
}

/// A backend that counts its requests and answers every third with 503, and every fifth not before it is hung up on.
fn moody(asked: &'static AtomicUsize, third: usize) -> Raw {
    Raw::serving(move |mut connection: Connection| {
        while connection.request_head().is_some() {
            match asked.fetch_add(1, Ordering::SeqCst) % 5 {
                4 => return connection.wait_for_close(),
                at if at == third => connection.reply(503, "no"),
                _ => connection.reply(200, "yes"),
            }
        }
    })
}

#[test]
fn sums_are_those_that_clients_and_backends_count() {
    static ASKED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let backends = [moody(&ASKED[0], 1), moody(&ASKED[1], 2)];
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let proxy = Proxy::with(&urls, |config| config.timeout = std::time::Duration::from_millis(300));
    let replies = Mutex::new(BTreeMap::<u16, usize>::new());
    let requests = 300;
    Load { address: proxy.address, clients: 4, requests }.run(|client, _| {
        client.send_request("GET", "/", &[], None);
        *replies.lock().expect("no panic").entry(client.reply().status).or_default() += 1;
    });
    let replies = replies.into_inner().expect("no panic");
    let count = |status| replies.get(&status).copied().unwrap_or(0);
    assert_eq!(count(200) + count(502), requests);
    eventually("every race is over", || equal(Scrape::of(proxy.admin).sum(&["races_total"]), requests));
    let scrape = Scrape::of(proxy.admin);
    let expected = [
        ("races_total{verdict=\"won\"}", count(200)),
        ("races_total{verdict=\"lost\"}", count(502)),
        ("races_total{verdict=\"abandoned\"}", 0),
        ("request_duration_seconds_count", requests),
        ("request_duration_seconds_bucket{le=\"+Inf\"}", requests),
        ("replies_total{by=\"backend\",class=\"2xx\"}", count(200)),
        ("replies_total{by=\"proxy\",class=\"5xx\"}", count(502)),
        ("refusals_total{code=\"502\"}", count(502)),
        ("requests_in_flight", 0),
        ("relays{kind=\"tunnel\"}", 0),
    ];
    for (series, expected) in expected {
        assert!(equal(scrape.value(series), expected), "{series}: {} for {expected}", scrape.value(series));
    }
    assert!(equal(scrape.sum(&["replies_total"]), requests));
    assert!(equal(scrape.sum(&["outcome=\"won\""]), count(200)));
    for (url, asked) in urls.iter().zip(&ASKED) {
        let label = format!("backend=\"{url}\"");
        let legs = scrape.sum(&["legs_total", &label]);
        assert!(equal(legs, requests), "{legs}");
        // A leg that was hung up on before it was sent, or sent twice after a dead connection, is told apart by no backend.
        let unsent = scrape.sum(&["legs_total", &label, "cancelled"]) + scrape.sum(&["legs_total", &label, "skipped"]);
        let asked = f64::from(u32::try_from(asked.load(Ordering::SeqCst)).expect("a count"));
        assert!(asked <= legs + 1e-9 && asked >= legs - unsent, "{asked} of {legs}, {unsent} unsent");
        let answered = scrape.sum(&["leg_duration_seconds_count", &label]);
        let successes = scrape.sum(&["legs_total", &label, "won"]) + scrape.sum(&["legs_total", &label, "late"]);
        assert!((answered - successes).abs() < 1e-9, "{answered} for {successes}");
        let series = scrape.0.keys().filter(|series| series.contains(&label)).count();
        assert!((40..50).contains(&series), "{series} series");
    }
}

#[test]
fn what_never_becomes_a_race_counts_as_a_reply() {
    let proxy = Proxy::before(&[Fake::with(200, "yes").url.clone()]);
    let mut client = Client::connect(proxy.address);
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    assert_eq!(reply_to(proxy.address, "OPTIONS", "*", &["Max-Forwards: 0"], None).status, 200);
    assert_eq!(reply_to(proxy.address, "GET", "/update-backends", &[], None).status, 405);
    // The admin port's own replies don't count.
    let mut client = Client::connect(proxy.admin);
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    let scrape = Scrape::of(proxy.admin);
    let expected = [
        ("refusals_total{code=\"400\"}", 1),
        ("refusals_total{code=\"405\"}", 1),
        ("replies_total{by=\"proxy\",class=\"4xx\"}", 2),
        ("replies_total{by=\"proxy\",class=\"2xx\"}", 1),
        ("races_total{verdict=\"lost\"}", 0),
    ];
    for (series, expected) in expected {
        assert!(equal(scrape.value(series), expected), "{series}: {}", scrape.value(series));
    }
    assert!(equal(scrape.sum(&["replies_total"]), 3) && equal(scrape.sum(&["races_total"]), 0));
}

#[test]
fn series_come_and_go_with_their_backend() {
    let (first, second) = (Fake::with(200, "one"), Fake::with(200, "two"));
    let proxy = Proxy::before(&[first.url.clone(), refusing()]);
    assert_eq!(proxy.get("/").status, 200);
    eventually("the race is over", || equal(Scrape::of(proxy.admin).sum(&["races_total"]), 1));
    let before = Scrape::of(proxy.admin);
    let of = |scrape: &Scrape, url: &str| scrape.sum(&["legs_total", url]);
    assert!(equal(of(&before, &first.url), 1) && equal(of(&before, "refused"), 1), "{:#?}", before.0);
    assert!(equal(before.value(&format!("rescues_total{{backend=\"{}\"}}", first.url)), 1));
    assert_eq!(proxy.update(&[first.url.clone(), second.url.clone()]).status, 200);
    let after = Scrape::of(proxy.admin);
    let label = |url: &str| format!("backend=\"{url}\"");
    assert!(equal(of(&after, &first.url), 1), "one that stays keeps its history");
    assert!(after.0.keys().any(|series| series.contains(&label(&second.url))));
    let labels = after.0.keys().filter_map(|series| series.split("backend=\"").nth(1)?.split('"').next());
    assert!(labels.clone().all(|label| [&first.url, &second.url].contains(&&label.to_owned())), "{:#?}", after.0);
    let changed = |scrape: &Scrape| scrape.value("list_changed_timestamp_seconds");
    assert!(changed(&after) > changed(&before) || changed(&before) > 1e9, "{}", changed(&after));
}

#[test]
fn what_is_under_way_is_seen() {
    let gate = Gate::new();
    let slow = Fake::behind(&gate, 200, "slow");
    let proxy = Proxy::before(std::slice::from_ref(&slow.url));
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    slow.next();
    let scrape = Scrape::of(proxy.admin);
    let expected =
        [("requests_in_flight", 1), ("connections{state=\"active\"}", 1), ("connections{state=\"idle\"}", 0)];
    for (series, expected) in expected {
        assert!(equal(scrape.value(series), expected), "{series}: {}", scrape.value(series));
    }
    gate.open();
    assert_eq!(client.reply().text(), "slow");
    eventually("the client is idle", || {
        let scrape = Scrape::of(proxy.admin);
        equal(scrape.value("connections{state=\"idle\"}"), 1) && equal(scrape.value("requests_in_flight"), 0)
    });
}

#[test]
fn a_name_that_was_given_is_the_label_and_a_pause_is_a_state() {
    let (named, plain) = (Fake::with(200, "one"), Fake::with(200, "two"));
    let proxy = Proxy::before(&[format!("{} name=dc1", named.url), format!("{} paused", plain.url)]);
    let reply = proxy.get("/");
    assert_eq!(reply.text(), "one");
    let status = reply.value("proxy-status").unwrap_or_default();
    assert!(status.starts_with("red-tentacle; next-hop=dc1; ") && status.ends_with(" of 1\""), "{status}");
    eventually("the race is over", || equal(Scrape::of(proxy.admin).sum(&["races_total"]), 1));
    let scrape = Scrape::of(proxy.admin);
    let url = &plain.url;
    let expected = [
        ("legs_total{backend=\"dc1\",outcome=\"won\"}".to_owned(), 1),
        ("backend_state{backend=\"dc1\",state=\"racing\"}".to_owned(), 1),
        (format!("backend_state{{backend=\"{url}\",state=\"racing\"}}"), 0),
        (format!("backend_state{{backend=\"{url}\",state=\"paused\"}}"), 1),
        ("list_loaded".to_owned(), 1),
    ];
    for (series, expected) in expected {
        assert!(equal(scrape.value(&series), expected), "{series}: {}", scrape.value(&series));
    }
    assert!(equal(scrape.sum(&["legs_total", url]), 0), "no race is among it");
}
