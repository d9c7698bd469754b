//! Failures that go to the client as they are: those that end a race at once, and the best of them.

use red_tentacle::config::{OnFailure, Statuses};

use crate::harness::{Client, Fake, Gate, Proxy, Raw, Reply, eventually, get, patiently, refusing, reply_to};

fn ask(proxy: &Proxy, target: &str, fields: &[&str]) -> Reply {
    reply_to(proxy.address, "GET", target, fields, None)
}

fn shown(proxy: &Proxy, target: &str) -> String {
    get(proxy.admin, target).text()
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
    let missing = Fake::behind(&gate, 404, "none");
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

/// A proxy that passes the best failure on.
fn passing_on(backends: &[String]) -> Proxy {
    Proxy::with(backends, |config| config.on_failure = OnFailure::Best { within: None })
}

#[test]
fn what_a_failure_asks_of_the_client_reaches_it() {
    let rows = [
        ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"", "www-authenticate", "Basic realm=\"x\""),
        ("429 Too Many Requests", "Retry-After: 7", "retry-after", "7"),
        ("302 Found", "Location: /login", "location", "/login"),
        ("503 Service Unavailable", "Retry-After: 9", "retry-after", "9"),
    ];
    for (status, field, name, expected) in rows {
        let failing = Raw::answering(format!("HTTP/1.1 {status}\r\n{field}\r\nContent-Length: 4\r\n\r\nbody"));
        let proxy = passing_on(&[failing.url.clone(), refusing(), Raw::answering("rubbish\r\n\r\n").url.clone()]);
        let reply = ask(&proxy, "/", &[]);
        assert_eq!((reply.status.to_string().as_str(), reply.value(name)), (&status[..3], Some(expected)));
        assert_eq!(reply.text(), "body");
        let told = reply.value("proxy-status").expect("a status");
        assert!(told.contains("next-hop=b1;") && told.contains("details=\"best "), "{told}");
    }
}

#[test]
fn a_304_that_no_condition_asked_for_is_no_answer_for_a_client() {
    let unchanged = Raw::answering("HTTP/1.1 304 Not Modified\r\n\r\n");
    let proxy = passing_on(std::slice::from_ref(&unchanged.url));
    assert_eq!(ask(&proxy, "/", &[]).status, 502);
    assert_eq!(ask(&proxy, "/", &["If-None-Match: \"a\""]).status, 304);
}

#[test]
fn who_had_no_answer_at_all_is_told_so() {
    let proxy = passing_on(&[refusing(), Raw::answering("rubbish\r\n\r\n").url.clone()]);
    let reply = ask(&proxy, "/", &[]);
    assert!(reply.status == 502 && reply.text().contains("b1 refused"), "{}", reply.text());
}

#[test]
fn a_list_of_one_lets_everything_through() {
    let echo = Fake::answering(|request| {
        let status = request.target.trim_start_matches('/').parse().expect("a status");
        Fake::reply(status, request.method.clone())
    });
    let proxy = passing_on(std::slice::from_ref(&echo.url));
    for status in [200, 301, 400, 404, 410, 418, 500, 503] {
        for method in ["GET", "POST", "HEAD", "DELETE"] {
            let mut client = Client::connect(proxy.address);
            client.send_request(method, &format!("/{status}"), &[], None);
            let reply = if method == "HEAD" { client.reply_to_head() } else { client.reply() };
            let body = if method == "HEAD" { "" } else { method };
            assert_eq!((reply.status, reply.text().as_str()), (status, body));
        }
    }
}

#[test]
fn a_race_whose_best_failure_was_passed_on_is_told_as_such() {
    let (missing, broken) = (Fake::with(404, "none"), Fake::with(500, "no"));
    let proxy = passing_on(&[broken.url.clone(), missing.url.clone()]);
    assert_eq!(ask(&proxy, "/", &["X-Request-ID: best"]).text(), "none");
    eventually("the race is over", || shown(&proxy, "/races/best").contains("\"verdict\":\"best\",\"by\":\"b2\""));
    let expected = [
        ("races_total{verdict=\"best\"}".to_owned(), "1"),
        ("races_total{verdict=\"lost\"}".to_owned(), "0"),
        (format!("legs_total{{backend=\"{}\",outcome=\"4xx\"}}", missing.url), "1"),
        ("request_duration_seconds_count".to_owned(), "1"),
    ];
    for (series, expected) in expected {
        assert_eq!(count(&proxy, &series).as_deref(), Some(expected), "{series}");
    }
    assert!(reply_to(proxy.admin, "GET", "/", &["Accept: text/html"], None).text().contains("the best failure, by b2"));
}

#[test]
fn methods_that_are_not_raced_go_to_one_backend_and_to_the_next_if_that_can_not_be_reached() {
    let (first, second) = (Fake::with(500, "no"), Fake::with(200, "yes"));
    let proxy = Proxy::with(&[refusing(), first.url.clone(), second.url.clone()], |config| {
        config.race_methods = Some(vec!["GET".parse().expect("a method"), "HEAD".parse().expect("a method")]);
    });
    assert_eq!(ask(&proxy, "/", &[]).text(), "yes");
    let reply = reply_to(proxy.address, "POST", "/order", &["X-Request-ID: order"], Some(b"one"));
    assert_eq!((reply.status, reply.text().as_str()), (500, "no"));
    let told = reply.value("proxy-status").expect("a status");
    assert!(told.contains("next-hop=b2;") && told.contains("details=\"final ") && told.ends_with("of 2\""), "{told}");
    eventually("the race is over", || shown(&proxy, "/races/order").contains("\"verdict\":\"final\",\"by\":\"b2\""));
    let posts = |fake: &Fake| fake.received.try_iter().filter(|request| request.method == "POST").count();
    assert_eq!((posts(&first), posts(&second)), (1, 0));
    // Was seen as: "final", and a backend in green that answered every POST with 500.
    let legs = |outcome: &str| count(&proxy, &format!("legs_total{{backend=\"{}\",outcome=\"{outcome}\"}}", first.url));
    assert_eq!((legs("5xx").as_deref(), legs("final")), (Some("2"), None), "that of the GET, and that of the POST");
}

#[test]
fn the_one_answer_of_a_request_that_is_not_raced_counts_as_a_failure_by_its_status() {
    let echo = Fake::answering(|request| {
        Fake::reply(request.target.trim_start_matches('/').parse().expect("a status"), "said")
    });
    let proxy = Proxy::with(std::slice::from_ref(&echo.url), |config| {
        config.race_methods = Some(vec!["GET".parse().expect("a method")]);
        config.definitive = Statuses::parse("503").expect("statuses");
    });
    let mut client = Client::connect(proxy.address);
    for status in [201, 302, 404, 500, 503] {
        client.send_request("POST", &format!("/{status}"), &[], Some(b"one"));
        assert_eq!(client.reply().status, status);
    }
    eventually("the races are over", || count(&proxy, "races_total{verdict=\"final\"}").as_deref() == Some("4"));
    for (outcome, expected) in [("won", "1"), ("final", "3"), ("4xx", "0"), ("5xx", "1")] {
        let legs = count(&proxy, &format!("legs_total{{backend=\"{}\",outcome=\"{outcome}\"}}", echo.url));
        assert_eq!(legs.as_deref(), Some(expected), "{outcome}");
    }
}
