//! What clients are told of backends: which one answered and how it won, why none did, and never where they are.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::harness::{Authority, Client, Connection, Fake, Proxy, Raw, Reply, TlsBackend, eventually, refusing};

fn ask(proxy: &Proxy, method: &str, fields: &[&str], body: Option<&[u8]>) -> Reply {
    let mut client = Client::connect(proxy.address);
    client.send_request(method, "/", fields, body);
    if method == "HEAD" { client.reply_to_head() } else { client.reply() }
}

/// Asserts that the value is the expected one, in which `TIME` stands for a time.
fn assert_status(reply: &Reply, expected: &str) {
    let value = reply.values("proxy-status").last().copied().unwrap_or_default().to_owned();
    let (before, after) = expected.split_once("TIME").unwrap_or((expected, ""));
    let inner = value.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let is_time = |time: &str| time.strip_suffix("ms").is_some_and(|time| time.parse::<f64>().is_ok());
    assert!(inner.is_some_and(|inner| inner.is_empty() || is_time(inner)), "{value} for {expected}");
}

#[test]
fn a_reply_names_its_backend_and_how_it_won() {
    let (bad, good) = (Fake::with(503, "no"), Fake::with(200, "yes"));
    let proxy = Proxy::before(&[bad.url.clone(), good.url.clone(), refusing()]);
    for method in ["GET", "HEAD", "POST"] {
        let reply = ask(&proxy, method, &[], None);
        assert_eq!(reply.status, 200);
        assert_status(&reply, "red-tentacle; next-hop=b2; received-status=200; details=\"won TIME of 3\"");
    }
}

#[test]
fn what_a_backend_says_stays_before_ours() {
    let own = "Proxy-Status: inner; error=x\r\nX: y\r\nProxy-Status: other; details=\"a\"";
    let answer = format!("HTTP/1.1 200 OK\r\n{own}\r\nX-Request-ID: theirs\r\nContent-Length: 0\r\n\r\n");
    let backend = Raw::answering(answer);
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let reply = ask(&proxy, "GET", &["X-Request-ID: mine"], None);
    assert_eq!(&reply.values("proxy-status")[..2], ["inner; error=x", "other; details=\"a\""]);
    assert_eq!(reply.values("proxy-status").len(), 3);
    assert_status(&reply, "red-tentacle; next-hop=b1; received-status=200; details=\"won TIME of 1\"");
    assert_eq!(reply.values("x-request-id"), ["mine"]);
}

#[test]
fn a_switch_of_protocol_names_its_backend_too() {
    let switching = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        connection.wait_for_close();
    });
    let proxy = Proxy::before(std::slice::from_ref(&switching.url));
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &["Connection: upgrade", "Upgrade: x"], None);
    let head = client.head().expect("a reply");
    assert_eq!(head.status, 101);
    assert_status(&head, "red-tentacle; next-hop=b1; received-status=101; details=\"won TIME of 1\"");
}

/// Two backends that fail in ways whose reasons hold names: a certificate for another, and a name that doesn't resolve.
fn failing() -> (TlsBackend, Vec<String>) {
    let stranger = TlsBackend::with(Authority::new().identity(&["secret.example"]), "no");
    let nameless = format!("http://{}", ["a"; 130].join("."));
    let urls = vec![refusing(), stranger.url("127.0.0.1"), nameless];
    (stranger, urls)
}

#[test]
fn a_502_explains_without_telling_where_backends_are() {
    let (_stranger, urls) = failing();
    let proxy = Proxy::before(&urls);
    let reply = ask(&proxy, "GET", &[], None);
    assert_eq!((reply.status, reply.value("cache-control")), (502, Some("no-store")));
    assert_eq!(reply.value("content-type"), Some("text/plain; charset=utf-8"));
    let expected = "All backend requests failed\nb1 refused: the backend refused the connection\nb2 tls: TLS failed\n\
                    b3 dns: the name doesn't resolve\n";
    assert_eq!(reply.text(), expected);
    assert_status(&reply, "red-tentacle; error=destination_unavailable; details=\"b1=refused b2=tls b3=dns\"");
    let head = ask(&proxy, "HEAD", &[], None);
    assert_eq!((head.status, head.value("content-length")), (502, Some(&*expected.len().to_string())));
    let json = ask(&proxy, "GET", &["Accept: application/json", "X-Request-ID: 6f1c"], None);
    assert_eq!(json.value("content-type"), Some("application/problem+json"));
    assert_eq!((json.status, json.value("cache-control")), (502, Some("no-store")));
    let text = json.text();
    let begin = r#"{"type":"about:blank","title":"All backend requests failed","status":502,"id":"6f1c","legs":[{"backend":"b1","outcome":"refused","ms":"#;
    assert!(text.starts_with(begin), "{text}");
    assert!(
        text.contains(r#","why":"the backend refused the connection"},{"backend":"b2","outcome":"tls","ms":"#),
        "{text}"
    );
    assert!(text.ends_with("\"why\":\"the name doesn't resolve\"}]}\n"), "{text}");
    for secret in ["127.0.0.1", "http://", "https://", "secret.example", "a.a.a"] {
        assert!(![&reply, &json].iter().any(|reply| reply.text().contains(secret) || reply.head.contains(secret)));
    }
    let head = ask(&proxy, "HEAD", &["Accept: application/problem+json"], None);
    assert_eq!(head.value("content-type"), Some("application/problem+json"));
    assert!(
        head.value("content-length").is_some_and(|length| length.parse::<usize>().is_ok_and(|length| length > 300))
    );
}

#[test]
fn who_sends_json_gets_json_unless_he_would_rather_have_text() {
    let proxy = Proxy::before(&[refusing()]);
    let rows: [(&[&str], &str); 4] = [
        (&["Content-Type: application/json"], "application/problem+json"),
        (&["Content-Type: application/json", "Accept: */*"], "application/problem+json"),
        (&["Content-Type: application/json", "Accept: text/plain"], "text/plain; charset=utf-8"),
        (&["Content-Type: text/plain"], "text/plain; charset=utf-8"),
    ];
    for (fields, expected) in rows {
        let reply = ask(&proxy, "POST", fields, Some(b"{}"));
        assert_eq!((reply.status, reply.value("content-type")), (502, Some(expected)), "{fields:?}");
        assert_status(&reply, "red-tentacle; error=connection_refused; details=\"b1=refused\"");
    }
}

#[test]
fn whoever_may_know_is_told_where_backends_are() {
    let (_stranger, mut urls) = failing();
    let proxy = Proxy::with(&urls, |config| config.expose_backends = true);
    let text = ask(&proxy, "GET", &[], None).text();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let begins = ["refused: the backend", "tls: TLS failed: its certificate", "dns: the name doesn't resolve: "];
    for (at, begin) in begins.iter().enumerate() {
        assert!(lines[at].starts_with(&format!("b{} {} {begin}", at + 1, urls[at])), "{text}");
    }
    let json = ask(&proxy, "GET", &["Accept: application/json"], None).text();
    assert!(json.contains(&format!("{{\"backend\":\"b1\",\"url\":\"{}\",", urls[0])), "{json}");
    let good = Fake::with(200, "yes");
    urls.push(good.url.clone());
    assert_eq!(proxy.update(&urls).status, 200);
    let authority = good.url.strip_prefix("http://").expect("a URL");
    let expected = format!("red-tentacle; next-hop=\"{authority}\"; received-status=200; details=\"won TIME of 4\"");
    assert_status(&ask(&proxy, "GET", &[], None), &expected);
}

#[test]
fn refusals_of_requests_say_so_but_not_those_of_updates_or_on_the_admin_port() {
    let proxy = Proxy::with(&[refusing()], |config| config.max_body = 10);
    let bad = "GET / HTTP/1.1\r\n\r\n";
    let mut client = Client::connect(proxy.address);
    client.send(bad);
    let reply = client.reply();
    assert_eq!((reply.status, reply.value("cache-control")), (400, Some("no-store")));
    assert_status(&reply, "red-tentacle; error=http_request_error");
    assert_status(&ask(&proxy, "POST", &[], Some(b"eleven bytes")), "red-tentacle; error=http_request_error");
    let loops = ["X-Forwarded-For: 127.0.0.1"; 40];
    let reply = ask(&proxy, "GET", &loops, None);
    assert_eq!(reply.status, 508);
    assert_status(&reply, "red-tentacle; error=proxy_loop_detected");
    let mut client = Client::connect(proxy.admin);
    client.send(bad);
    let of_admin_port = client.reply();
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/update-backends", &[], None);
    for (reply, status) in [(of_admin_port, 400), (client.reply(), 405)] {
        assert_eq!((reply.status, reply.value("proxy-status")), (status, None));
        assert_eq!(reply.value("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_backend_that_is_asked_since_all_others_have_lost_is_a_failover() {
    let bad = Fake::answering(|request| Fake::reply(if request.target == "/?good" { 200 } else { 503 }, ""));
    let hung = Raw::serving(|mut connection: Connection| {
        while connection.request_head().is_some_and(|head| head.starts_with("GET /?bad ")) {
            connection.reply(200, "yes");
        }
        connection.wait_for_close();
    });
    let proxy = Proxy::with(&[bad.url.clone(), hung.url.clone()], |config| {
        config.linger = Duration::from_secs(60);
        config.max_unanswered = NonZeroUsize::MIN;
    });
    // The second backend has left one request unanswered, so it is asked only once a second, or if need be.
    eventually("it is asked after the other has failed", || {
        assert_eq!(proxy.get("/?good").status, 200);
        let reply = proxy.get("/?bad");
        assert_eq!(reply.status, 200);
        let value = reply.value("proxy-status").expect("a value");
        assert!(value.starts_with("red-tentacle; next-hop=b2; received-status=200; details=\""), "{value}");
        value.contains("\"failover ") && value.ends_with(" of 2\"")
    });
}
