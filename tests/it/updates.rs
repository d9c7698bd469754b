//! The list replaced: who may, on which port, and what clients notice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use red_tentacle::config::AdminToken;

use crate::harness::{Client, Fake, Gate, Proxy, Raw, Received, Reply, SOON, refusing};

const PATHS: [&str; 2] = ["/-update-backends", "/update-backends"];
const UPDATED: Option<&str> = Some("Backends updated successfully");
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// One request on a connection of its own.
fn send(address: SocketAddr, method: &str, target: &str, fields: &[&str], body: Option<&str>) -> Reply {
    let mut client = Client::connect(address);
    client.send_request(method, target, fields, body.map(str::as_bytes));
    if method == "HEAD" { client.reply_to_head() } else { client.reply() }
}

/// One request with these very bytes.
fn send_bytes(address: SocketAddr, bytes: &str) -> Reply {
    let mut client = Client::connect(address);
    client.send(bytes);
    client.reply()
}

/// A proxy before one backend, which tells what reaches it.
fn proxy_before_old() -> (Proxy, Fake) {
    let old = Fake::with(200, "old");
    (Proxy::before(std::slice::from_ref(&old.url)), old)
}

/// The list hasn't changed, and nothing but GETs has reached its one backend.
fn assert_old_stays(proxy: &Proxy, old: &Fake, label: &str) {
    assert_eq!(proxy.get("/still").text(), "old", "{label}");
    for request in old.received.try_iter() {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/still"), "{label}: {request:?}");
    }
}

#[test]
fn both_paths_update_on_both_ports_by_query_and_by_form() {
    let (old, a, b) = (Fake::with(200, "old"), Fake::with(200, "a"), Fake::with(200, "b"));
    let proxy = Proxy::before(std::slice::from_ref(&old.url));
    let mut lists = [(&a, "a"), (&b, "b")].into_iter().cycle();
    for port in [proxy.admin, proxy.address] {
        for path in PATHS {
            let (backend, text) = lists.next().expect("a cycle");
            let reply = send(port, "POST", &format!("{path}?backends={}", backend.url), &[], None);
            assert_eq!((reply.status, reply.text().lines().next()), (200, UPDATED), "{path} on {port} by query");
            assert_eq!(proxy.get("/").text(), text, "{path} on {port} by query");

            let (backend, text) = lists.next().expect("a cycle");
            let reply = send(port, "POST", path, &[FORM], Some(&format!("backends={}", backend.url)));
            assert_eq!((reply.status, reply.text().lines().next()), (200, UPDATED), "{path} on {port} by form");
            assert_eq!(reply.value("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(proxy.get("/").text(), text, "{path} on {port} by form");
        }
    }
    assert!(old.received.is_empty(), "nothing but updates came while it was in the list");
    let received: Vec<Received> = a.received.try_iter().chain(b.received.try_iter()).collect();
    assert!(received.iter().all(|request| request.method == "GET"), "no update is forwarded: {received:?}");
}

#[test]
fn the_answer_to_an_update_is_the_list_in_force() {
    let (proxy, _old) = proxy_before_old();
    let target = format!("{}?backends=HTTP://A.example:80/,https://b.example/base/", PATHS[0]);
    let reply = send(proxy.admin, "POST", &target, &[], None);
    let expected = "Backends updated successfully\nb1 http://a.example\nb2 https://b.example/base\n";
    assert_eq!((reply.status, reply.text().as_str()), (200, expected));
}

#[test]
fn a_refused_update_says_why_and_leaves_the_old_list() {
    let (proxy, old) = proxy_before_old();
    let none = "No backends provided\n";
    let twice = "The list of backends is given twice: give it once, divided by commas\n";
    let stays = "Backends not updated: the list stays as it was\n";
    let not_both = format!("{stays}'ftp://a': it must begin with http:// or https://\n'b': it must begin with");
    let rows: &[(&str, &str, &str, &[&str], Option<&str>, u16, &str)] = &[
        ("no list", "POST", "", &[], None, 400, none),
        ("an empty list", "POST", "?backends=", &[], None, 400, none),
        ("an empty form", "POST", "", &[FORM], Some("backends="), 400, none),
        ("twice in the query", "POST", "?backends=http://a&backends=http://b", &[], None, 400, twice),
        ("in query and form", "POST", "?backends=http://a", &[FORM], Some("backends=http://a"), 400, twice),
        ("two bad entries", "POST", "?backends=ftp://a,http://c,b", &[], None, 400, &not_both),
        ("userinfo", "POST", "?backends=http://u:p@a", &[], None, 400, stays),
        ("a query of its own", "POST", "?backends=http://a?x", &[], None, 400, stays),
        ("a fragment", "POST", "?backends=http://a%23x", &[], None, 400, stays),
        ("no host", "POST", "?backends=http://", &[], None, 400, stays),
        ("a duplicate", "POST", "?backends=http://a,http://A:80/", &[], None, 400, stays),
        ("JSON", "POST", "", &["Content-Type: application/json"], Some("{}"), 400, "The body must be a form"),
        ("GET", "GET", "?backends=http://a", &[], None, 405, "Invalid request method\n"),
        ("PUT", "PUT", "?backends=http://a", &[], Some(""), 405, "Invalid request method\n"),
        ("HEAD", "HEAD", "?backends=http://a", &[], None, 405, ""),
    ];
    for port in [proxy.admin, proxy.address] {
        for (label, method, query, fields, body, status, text) in rows {
            let reply = send(port, method, &format!("{}{query}", PATHS[0]), fields, *body);
            assert_eq!(reply.status, *status, "{label}: {}", reply.text());
            assert!(reply.text().starts_with(text), "{label}: {}", reply.text());
            assert_eq!(reply.value("allow"), (*status == 405).then_some("POST"), "{label}");
            assert_old_stays(&proxy, &old, label);
        }
    }
}

#[test]
fn a_stranger_gets_403_with_the_reason_before_anything_else_is_looked_at() {
    let (proxy, old) = proxy_before_old();
    let rows = [
        ("a page", "Origin: https://evil.example", "(Origin): use --admin-token-file"),
        ("the same page", "Origin: http://localhost", "(Origin): use --admin-token-file"),
        ("a browser's form", "Sec-Fetch-Site: cross-site", "(Sec-Fetch-Site): use --admin-token-file"),
        ("a page of this host", "Sec-Fetch-Site: same-origin", "(Sec-Fetch-Site): use --admin-token-file"),
        ("Via", "Via: 1.1 other", "(Via): use --admin-token-file"),
        ("Forwarded", "Forwarded: for=192.0.2.7", "(Forwarded): use --admin-token-file"),
        ("X-Forwarded-For", "X-Forwarded-For: 127.0.0.1", "(X-Forwarded-*): use --admin-token-file"),
        ("X-Forwarded-Proto", "X-Forwarded-Proto: https", "(X-Forwarded-*): use --admin-token-file"),
        ("X-Real-IP", "X-Real-IP: 127.0.0.1", "(X-Real-IP): use --admin-token-file"),
    ];
    for port in [proxy.admin, proxy.address] {
        for (label, field, reason) in rows {
            // A bad list and another method would be 400 and 405.
            for (method, list) in [("POST", "http://a"), ("POST", "x"), ("GET", "http://a")] {
                let reply = send(port, method, &format!("{}?backends={list}", PATHS[1]), &[field], None);
                let text = reply.text();
                assert!(reply.status == 403 && text.starts_with("Forbidden\n"), "{label}: {text}");
                assert!(text.contains(reason), "{label}: {text}");
            }
            assert_old_stays(&proxy, &old, label);
        }
        let query = format!("POST {}?backends=http://a", PATHS[0]);
        let old_version = send_bytes(port, &format!("{query} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
        assert_eq!(old_version.status, 403, "HTTP/1.0");
        assert!(old_version.text().contains("(HTTP/1.0): use --admin-token-file"), "{}", old_version.text());
        let rebound = send_bytes(port, &format!("{query} HTTP/1.1\r\nHost: evil.example:8081\r\n\r\n"));
        assert_eq!(rebound.status, 403, "another Host");
        assert!(rebound.text().contains("Host 'evil.example:8081' isn't localhost"), "{}", rebound.text());
        assert!(rebound.text().contains("use --admin-host or --admin-token-file"), "{}", rebound.text());
        assert_old_stays(&proxy, &old, "HTTP/1.0 and another Host");
    }
}

#[test]
fn localhost_an_ip_address_or_a_given_name_is_a_good_host() {
    let old = Fake::with(200, "old");
    let new = Fake::with(200, "new");
    let list = std::slice::from_ref(&old.url);
    let proxy = Proxy::with(list, |config| config.admin_host = vec!["proxy.example".to_owned()]);
    for host in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "192.0.2.7", "[::1]:8081", "Proxy.Example:80"] {
        let query = format!("{}?backends={}", PATHS[0], new.url);
        let reply = send_bytes(proxy.admin, &format!("POST {query} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((reply.status, reply.text().lines().next()), (200, UPDATED), "{host}");
    }
    let typed =
        send(proxy.admin, "POST", &format!("{}?backends={}", PATHS[0], new.url), &["Sec-Fetch-Site: none"], None);
    assert_eq!(typed.status, 200);
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn spaces_around_commas_do_not_count() {
    let (proxy, _old) = proxy_before_old();
    let (a, b) = (Raw::hanging(), Fake::with(200, "new"));
    for (label, query, form) in [
        ("in a form", String::new(), Some(format!("backends= {} , {} ", a.url, b.url))),
        ("as plus and %20", format!("?backends=+{}%20,%20{}+", a.url, b.url), None),
    ] {
        let reply = send(proxy.admin, "POST", &format!("{}{query}", PATHS[0]), &[FORM], form.as_deref());
        assert_eq!((reply.status, reply.text().lines().next()), (200, UPDATED), "{label}");
        assert_eq!(proxy.get("/").text(), "new", "{label}");
        assert_eq!(b.next().target, "/", "{label}");
    }
}

#[test]
fn a_list_holds_64_backends_and_no_more() {
    let (proxy, old) = proxy_before_old();
    let (nobody, last) = (refusing(), Fake::with(200, "the 64th"));
    let mut urls: Vec<String> = (1..=64).map(|number| format!("{nobody}/{number}")).collect();
    urls.push(last.url.clone());
    let reply = proxy.update(&urls);
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains(&format!("'{}': the list has 65 entries", last.url)), "{}", reply.text());
    assert_old_stays(&proxy, &old, "65");
    urls.remove(0);
    assert_eq!(proxy.update(&urls).text().lines().next(), UPDATED);
    assert_eq!(proxy.get("/").text(), "the 64th");
}

#[test]
fn other_paths_are_404_on_the_admin_port_and_forwarded_on_the_proxy_port() {
    let (proxy, old) = proxy_before_old();
    let targets = [
        "/update-backends/",
        "//update-backends",
        "/-update-backendsx",
        "/update%2Dbackends",
        "/nowhere?/update-backends",
    ];
    for target in targets {
        let reply = send(proxy.admin, "POST", target, &[], None);
        assert_eq!(reply.status, 404, "{target}");
        assert!(reply.text().contains("/-update-backends or /update-backends"), "{}", reply.text());
        assert!(old.received.is_empty(), "{target} is forwarded from the admin port");
        assert_eq!(send(proxy.address, "POST", target, &[], None).text(), "old", "{target}");
        assert_eq!(old.next().target, target);
    }
}

#[test]
fn switched_off_on_the_proxy_port_the_paths_are_forwarded_like_any_other() {
    let old = Fake::with(200, "old");
    let new = Fake::with(200, "new");
    let proxy = Proxy::with(std::slice::from_ref(&old.url), |config| config.admin_on_proxy_port = false);
    let form = format!("backends={}", new.url);
    for path in PATHS {
        for fields in [vec![FORM], vec![FORM, "Origin: https://evil.example"]] {
            assert_eq!(send(proxy.address, "POST", path, &fields, Some(&form)).text(), "old", "{path}");
            let seen = old.next();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", path));
            assert_eq!(String::from_utf8_lossy(&seen.body), form);
        }
        assert_eq!(send(proxy.address, "GET", path, &[], None).text(), "old", "{path}");
        assert_eq!(old.next().target, path);
    }
    assert_eq!(send(proxy.admin, "POST", PATHS[1], &[FORM], Some(&form)).text().lines().next(), UPDATED);
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn with_a_token_its_bearer_may_update_and_no_other_client() {
    let old = Fake::with(200, "old");
    let new = Fake::with(200, "new");
    let token = AdminToken::new("s3cret").expect("a token");
    let proxy = Proxy::with(std::slice::from_ref(&old.url), |config| config.admin_token = Some(token));
    let target = format!("{}?backends={}", PATHS[0], new.url);
    let rows: [(&str, &[&str], &str); 6] = [
        ("none", &[], "the request has no token"),
        ("another", &["Authorization: Bearer s3creT"], "the token isn't the one"),
        ("a longer one", &["Authorization: Bearer s3crets3cret"], "the token isn't the one"),
        ("another scheme", &["Authorization: Basic s3cret"], "isn't of the form"),
        ("two", &["Authorization: Bearer s3cret", "Authorization: Bearer x"], "more than one"),
        ("in another field", &["Proxy-Authorization: Bearer s3cret"], "the request has no token"),
    ];
    for port in [proxy.admin, proxy.address] {
        for (label, fields, reason) in rows {
            let reply = send(port, "POST", &target, fields, None);
            assert!(reply.status == 403 && reply.text().contains(reason), "{label}: {}", reply.text());
            assert_old_stays(&proxy, &old, label);
        }
    }
    let bearer = "Authorization: Bearer s3cret";
    let strange = [bearer, "Origin: https://page.example", "Via: 1.1 other", "X-Forwarded-For: 192.0.2.7"];
    for port in [proxy.admin, proxy.address] {
        assert_eq!(send(port, "POST", &target, &strange, None).text().lines().next(), UPDATED);
        let bytes = format!("POST {target} HTTP/1.0\r\nHost: far.example\r\n{bearer}\r\n\r\n");
        assert_eq!(send_bytes(port, &bytes).text().lines().next(), UPDATED);
        assert_eq!(send(port, "GET", &target, &[bearer], None).status, 405);
        assert_eq!(proxy.get("/").text(), "new");
        assert_eq!(
            send(port, "POST", &format!("{}?backends={}", PATHS[0], old.url), &[bearer], None).text().lines().next(),
            UPDATED
        );
    }
}

#[test]
fn a_race_in_flight_finishes_with_the_list_that_it_began_with() {
    let gate = Gate::new();
    let old = Fake::behind(&gate, 200, "old");
    let new = Fake::with(200, "new");
    let proxy = Proxy::before(std::slice::from_ref(&old.url));
    let mut early = Client::connect(proxy.address);
    early.send_request("GET", "/early", &[], None);
    assert_eq!(old.next().target, "/early");
    assert_eq!(proxy.update(std::slice::from_ref(&new.url)).text().lines().next(), UPDATED);
    assert_eq!(proxy.get("/late").text(), "new");
    gate.open();
    assert_eq!(early.reply().text(), "old");
    assert_eq!(new.next().target, "/late");
    assert!(new.received.is_empty() && old.received.is_empty(), "each request went to one list");
}

#[test]
fn under_concurrent_updates_every_request_races_against_one_whole_list() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 24;
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
    let backends: Vec<Raw> = (0..4).map(|_| Raw::answering(good)).collect();
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let lists = [&urls[..2], &urls[2..]];
    // Losers linger, so that every backend of a race is reached.
    let proxy = Proxy::with(lists[0], |config| config.linger = Duration::from_secs(20));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (proxy, lists) = (&proxy, &lists);
            scope.spawn(move || {
                let mut client = Client::connect(proxy.address);
                for request in 0..REQUESTS {
                    if request % 3 == 0 {
                        assert_eq!(proxy.update(lists[(number + request / 3) % 2]).text().lines().next(), UPDATED);
                    }
                    client.send_request("GET", &format!("/{number}/{request}"), &[], None);
                    let reply = client.reply();
                    assert_eq!((reply.status, reply.text().as_str()), (200, "good"), "/{number}/{request}");
                }
            });
        }
    });
    let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
    for (target, list) in reached(&backends, 2 * CLIENTS * REQUESTS) {
        seen.entry(target).or_default().push(list);
    }
    assert_eq!(seen.len(), CLIENTS * REQUESTS);
    for (target, lists) in seen {
        assert!(lists == [0, 0] || lists == [1, 1], "{target} raced against parts of both lists: {lists:?}");
    }
}

/// What reached the backends, this many requests in all: the target, and whose list it was, the first's two or the other's.
fn reached(backends: &[Raw], count: usize) -> Vec<(String, usize)> {
    let mut select = crossbeam_channel::Select::new();
    for backend in backends {
        select.recv(&backend.requests);
    }
    let mut one = |_| {
        let operation = select.select_timeout(SOON).expect("every backend of a race is reached");
        let backend = operation.index();
        let request = operation.recv(&backends[backend].requests).expect("a request");
        let target = String::from_utf8_lossy(&request).split(' ').nth(1).expect("a target").to_owned();
        (target, backend / 2)
    };
    (0..count).map(&mut one).collect()
}
