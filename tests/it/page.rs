//! The status page, as a browser and curl get it.

use std::num::NonZeroUsize;
use std::time::Duration;

use red_tentacle::config::AdminToken;
use tiny_http::Header;

use crate::harness::{Client, Fake, Proxy, Raw, Reply, SOON, eventually, reply_to};

const HTML: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";

fn get(proxy: &Proxy, path: &str, fields: &[&str]) -> Reply {
    reply_to(proxy.admin, "GET", path, fields, None)
}

#[test]
fn a_browser_gets_the_page_and_curl_the_list() {
    let hostile = Header::from_bytes("Server", HOSTILE).expect("a field");
    let good = Fake::answering(move |_| Fake::reply(200, "yes").with_header(hostile.clone()));
    let bad = Fake::with(503, "no");
    let proxy = Proxy::before(&[format!("{} name=good", good.url), format!("{} name=bad", bad.url)]);
    assert_eq!(proxy.get("/<script>\"'&").status, 200);
    assert_eq!(proxy.get("/a?token=secret").text(), "yes");
    // A race is shown once its last leg has ended.
    eventually("both races are shown", || get(&proxy, "/", &[HTML]).text().matches("<code>GET").count() >= 4);
    let page = get(&proxy, "/", &[HTML]);
    assert_eq!((page.status, page.values("content-type")), (200, vec!["text/html; charset=utf-8"]));
    let text = page.text();
    for part in
        ["<!doctype html>", "good", &bad.url, "GET /a</code>", "GET /&lt;script&gt;&quot;&#39;&amp;</code>", "curl "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret") && !text.contains("<script>"), "{text}");
    let place = |text: &str, name: &str| text.find(&format!("<th scope=row>{name}<")).expect("a row");
    assert!(place(&text, "bad") < place(&text, "good"), "the worst comes first: {text}");
    let list = get(&proxy, "/", &[]).text();
    assert!(list.starts_with("name") && list.contains(&good.url), "{list}");
}

#[test]
fn the_page_says_what_each_backend_buys_and_its_share_of_the_price() {
    let (go, gate) = crossbeam_channel::bounded(1);
    let slower = Fake::answering(move |_| {
        let _ = gate.recv_timeout(SOON);
        Fake::reply(200, "late")
    });
    let quick = Fake::with(200, "first");
    let urls = [format!("{} name=quick", quick.url), format!("{} name=slower", slower.url)];
    // Every race asks both: else what the other one buys isn't known.
    let proxy = Proxy::with(&urls, |config| config.max_unanswered = NonZeroUsize::MAX);
    let mut client = Client::connect(proxy.address);
    eventually("there are enough races in the minute to judge both", || {
        for _ in 0..50 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.reply();
            let _ = go.try_send(());
        }
        let page = get(&proxy, "/", &[HTML]).text();
        let told = |name: &str| {
            let row = page.split(&format!("<th scope=row>{name}<")).nth(1).unwrap_or("");
            row.split("<td").next().unwrap_or("").split("without it: ").nth(1).unwrap_or("").to_owned()
        };
        let (first, second) = (told("quick"), told("slower"));
        first.starts_with("the same answers, ")
            && first.contains(" slower on average, p99 +")
            && second.starts_with("the same answers, ")
            && second.contains(" % fewer legs")
    });
}

/// What the page says of a backend that has this name.
fn row_of(page: &str, name: &str) -> String {
    let row = page.split(&format!("<th scope=row>{name}<")).nth(1).unwrap_or("");
    row.split("</tr>").next().unwrap_or("").to_owned()
}

#[test]
fn a_standby_that_no_race_has_needed_is_no_alarm() {
    let (near, far) = (Fake::with(200, "near"), Fake::with(200, "far"));
    let proxy = Proxy::before(&[format!("{} name=near", near.url), format!("{} name=far after=1h", far.url)]);
    eventually("all is well", || {
        assert_eq!(proxy.get("/").text(), "near");
        let page = get(&proxy, "/", &[HTML]).text();
        assert!(!page.contains("on one leg"), "{page}");
        let is_well = page.contains("<title>● 1/1 ") && page.contains("1 of 1 backends answer (1 not asked); ");
        is_well && row_of(&page, "far").contains(">not asked<")
    });
}

/// Was seen as: "slower than the winners" of a backend that hung, and "never" of one that was well.
#[test]
fn without_linger_a_loser_is_not_known() {
    let (quick, hanging) = (Fake::with(200, "quick"), Raw::hanging());
    let urls = [format!("{} name=quick", quick.url), format!("{} name=hanging", hanging.url)];
    let proxy = Proxy::with(&urls, |config| config.linger = Duration::ZERO);
    eventually("the page says so", || {
        assert_eq!(proxy.get("/").text(), "quick");
        let page = get(&proxy, "/", &[HTML]).text();
        let row = row_of(&page, "hanging");
        row.contains(">not known: losers don't linger<")
            && row.contains("<td class=t>not known<")
            && page.contains("1 of 1 backends answer (1 not known: losers don&#39;t linger); ")
    });
}

/// Was seen as: "No request for 1.3 s", and backends that were "slower than the winners".
#[test]
fn where_every_client_leaves_before_an_answer_the_page_says_so() {
    let hanging = Raw::hanging();
    let proxy = Proxy::before(&[format!("{} name=hanging", hanging.url)]);
    eventually("the page says so", || {
        let mut client = Client::connect(proxy.address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        hanging.next();
        drop(client);
        let page = get(&proxy, "/", &[HTML]).text();
        page.contains("<title>■ 0/1 ")
            && page.contains("Not answering: every client left before an answer.")
            && row_of(&page, "hanging").contains(">no answer before its clients left<")
    });
}

#[test]
fn the_page_may_look_again_but_no_other_page_may() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    let rows: [(&[&str], u16); 8] = [
        (&["Sec-Fetch-Site: none"], 200),
        (&["Sec-Fetch-Site: same-origin"], 200),
        (&["Sec-Fetch-Site: same-origin", OWN], 200),
        (&["Sec-Fetch-Site: same-origin", "Origin: http://evil.example"], 403),
        (&["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"], 403),
        (&["Sec-Fetch-Site: same-site"], 403),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (&["Origin: null"], 403),
    ];
    for path in ["/", "/page.css", "/page.js", "/races", "/backends", "/metrics"] {
        for (fields, status) in rows {
            assert_eq!(get(&proxy, path, &[&[HTML], fields].concat()).status, status, "{path} {fields:?}");
        }
    }
}

/// The fields that a browser sends with a form of the page's.
const BROWSER: [&str; 3] = [HTML, "Sec-Fetch-Site: same-origin", OWN];
const OWN: &str = "Origin: http://localhost";
const HOSTILE: &str = "\"><script>alert(1)</script>";

fn post(proxy: &Proxy, fields: &[&str], form: &[(&str, &str)]) -> Reply {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    reply_to(proxy.admin, "POST", "/backends", fields, Some(body.as_bytes()))
}

/// The token in the page's forms.
fn token_in(page: &str) -> String {
    let mut tokens = page.split("name=token value=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let token = tokens.next().expect("a form").to_owned();
    assert!(tokens.all(|other| other == token), "all forms carry one");
    token
}

fn states(proxy: &Proxy) -> Vec<String> {
    let rows = get(proxy, "/backends", &[]).text();
    rows.lines().skip(1).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_forms_change_the_list_and_send_the_browser_back() {
    let (a, b) = (Fake::with(200, "a"), Fake::with(200, "b"));
    let proxy = Proxy::before(std::slice::from_ref(&a.url));
    let page = get(&proxy, "/", &[HTML]).text();
    let token = token_in(&page);
    assert!(
        token.len() == 32 && token != token_in(&get(&Proxy::before(std::slice::from_ref(&a.url)), "/", &[HTML]).text())
    );
    assert!(page.contains(&format!("<button form=row name=pause value=\"{}\"", a.url)), "{page}");
    let listed = |states: &[&str]| {
        states
            .iter()
            .map(|row| row.replace("A ", &format!("{} ", a.url)).replace("B ", &format!("{} ", b.url)))
            .collect::<Vec<_>>()
    };
    let (added, replaced) = (format!("{} name=dc2", b.url), format!("{} name=dc1\r\n{}\r\n", a.url, b.url));
    let rows: [(&str, &str, &[&str]); 5] = [
        ("add", &added, &["b1 A racing", "dc2 B racing"]),
        ("pause", &b.url, &["b1 A racing", "dc2 B paused"]),
        ("replace", &replaced, &["dc1 A racing", "dc2 B paused"]),
        ("resume", &b.url, &["dc1 A racing", "dc2 B racing"]),
        ("remove", &a.url, &["dc2 B racing"]),
    ];
    for (verb, value, expected) in rows {
        let reply = post(&proxy, &BROWSER, &[("token", &token), (verb, value)]);
        assert_eq!((reply.status, reply.value("location")), (303, Some("/")), "{verb}: {}", reply.text());
        assert_eq!(states(&proxy), listed(expected), "{verb}");
        assert!(reply.value("content-security-policy").is_some());
    }
    let page = get(&proxy, "/", &[HTML]).text();
    assert!(page.contains(&format!("\n{} name=dc2</textarea>", b.url)), "{page}");
    // A program that takes HTML needs no token, and is sent back as well.
    assert_eq!(post(&proxy, &[HTML], &[("pause", "dc2")]).status, 409);
    assert_eq!(post(&proxy, &[HTML], &[("add", &a.url)]).status, 303);
    assert_eq!(post(&proxy, &[], &[("pause", &a.url)]).status, 200);
}

/// Was seen as: what another operator had added meanwhile was gone, and not a word of it.
#[test]
fn a_list_that_has_changed_since_the_page_showed_it_is_replaced_only_by_a_second_try() {
    let [a, b, c] = ["a", "b", "c"].map(|name| Fake::with(200, name));
    let proxy = Proxy::before(std::slice::from_ref(&a.url));
    let seen_in =
        |page: &str| page.split("name=seen value=\"").nth(1).map(|rest| rest[..16].to_owned()).expect("a mark");
    let page = get(&proxy, "/", &[HTML]).text();
    let (token, typed) = (token_in(&page), format!("{}\r\n{}", a.url, c.url));
    let replace_by = |token: &str, page: &str, typed: &str| {
        post(&proxy, &BROWSER, &[("token", token), ("seen", &seen_in(page)), ("replace", typed)])
    };
    let replace = |page: &str| replace_by(&token, page, &typed);
    assert_eq!(post(&proxy, &[], &[("add", &b.url)]).status, 200);
    // Other refusals come first, and have nobody see the list anew.
    let misspelt = replace_by(&token, &page, "htp//a");
    let late = replace_by("of another start", &misspelt.text(), &typed);
    assert_eq!((misspelt.status, late.status), (400, 403));
    let refused = replace(&late.text());
    let text = refused.text();
    assert!(refused.status == 409 && text.contains("The list has changed since this page showed it"), "{text}");
    assert!(text.contains(&format!("{}</textarea>", c.url)), "what was typed comes back: {text}");
    assert_eq!(states(&proxy), [format!("b1 {} racing", a.url), format!("b2 {} racing", b.url)]);
    assert_eq!(replace(&text).status, 303);
    assert_eq!(states(&proxy), [format!("b1 {} racing", a.url), format!("b2 {} racing", c.url)]);
}

#[test]
fn what_was_typed_comes_back_with_its_error_above_it() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(&[format!("{} name=dc1", good.url)]);
    let token = token_in(&get(&proxy, "/", &[HTML]).text());
    let escaped = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;";
    let list = format!("# mine\r\n\thttp://a\r\n{HOSTILE}");
    let (named, twice) = (format!("http://a name={HOSTILE}"), "http://a name=dc1");
    let rows = [
        ("add", HOSTILE, 400, "it must begin with http:// or https://", format!("value=\"{escaped}\"")),
        ("add", &named, 400, "name", format!("value=\"http://a name={escaped}\"")),
        ("add", twice, 409, "Two backends would be named &#39;dc1&#39;", format!("value=\"{twice}\"")),
        ("add", "", 400, "No backends provided", "value=\"\"".to_owned()),
        ("replace", &list, 400, "it must begin with", format!(">\n# mine\n\thttp://a\n{escaped}</textarea>")),
        ("pause", &good.url, 409, "That would leave no backend to ask", "<textarea".to_owned()),
        ("pause", HOSTILE, 404, "there are dc1", "<textarea".to_owned()),
        (HOSTILE, "x", 400, "Unknown field", "<textarea".to_owned()),
    ];
    for (verb, value, status, error, typed) in rows {
        let reply = post(&proxy, &BROWSER, &[("token", &token), (verb, value)]);
        let text = reply.text();
        assert_eq!((reply.status, reply.value("content-type")), (status, Some("text/html; charset=utf-8")), "{text}");
        let (alert, field) = (text.find("role=alert").expect("an error"), text.find("<textarea").expect("a form"));
        assert!(alert < field && text[alert..field].contains(error), "{value}: {text}");
        assert!(text.contains(&typed) && !text.contains("<script>"), "{value}: {text}");
        assert!(text.contains("<main data-held>") && !text.contains("http-equiv=refresh"), "it isn't loaded anew");
        assert_eq!(reply.values("x-content-type-options"), ["nosniff"]);
        assert!(reply.value("content-security-policy").is_some_and(|policy| policy.contains("form-action 'self'")));
        assert_eq!(states(&proxy), [format!("dc1 {} racing", good.url)]);
    }
}

#[test]
fn a_browser_s_change_needs_the_form_s_token() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    let token = token_in(&get(&proxy, "/", &[HTML]).text());
    let other = if token.starts_with('0') { token.replacen('0', "1", 1) } else { format!("0{}", &token[1..]) };
    let add = ("add", "http://127.0.0.1:1");
    let rows: [(&str, Vec<(&str, &str)>); 6] = [
        ("none", vec![add]),
        ("an empty one", vec![("token", ""), add]),
        ("another", vec![("token", &other), add]),
        ("its beginning", vec![("token", &token[..31]), add]),
        ("two", vec![("token", &token), ("token", &token), add]),
        ("in another case", vec![("Token", &token), add]),
    ];
    for (label, form) in rows {
        let reply = post(&proxy, &BROWSER, &form);
        assert_eq!(reply.status, 403, "{label}");
        // What was typed isn't lost by a restart of the program: it comes back, with the token that is good now.
        let text = reply.text();
        assert!(text.contains("value=\"http://127.0.0.1:1\"") && token_in(&text) == token, "{label}: {text}");
        assert_eq!(post(&proxy, &BROWSER[1..], &form).status, 403, "{label}, without HTML");
    }
    let from_elsewhere: [&[&str]; 4] = [
        &[HTML, "Sec-Fetch-Site: cross-site", OWN],
        &[HTML, "Sec-Fetch-Site: same-origin", "Origin: null"],
        &[HTML, "Origin: http://localhost:3000"],
        &[HTML, "Sec-Fetch-Site: same-site"],
    ];
    for fields in from_elsewhere {
        let reply = post(&proxy, fields, &[("token", &token), add]);
        assert_eq!((reply.status, reply.value("content-type")), (403, Some("text/plain; charset=utf-8")), "{fields:?}");
        assert!(!reply.text().contains(&token), "a stranger gets no page");
    }
    assert_eq!(states(&proxy).len(), 1);
    // Over plain HTTP to another host browsers say nothing of the site.
    assert_eq!(post(&proxy, &[HTML, OWN], &[("token", &token), add]).status, 303);
    assert_eq!(states(&proxy).len(), 2);
}

#[test]
fn with_a_token_a_browser_shows_it_as_a_password() {
    let good = Fake::with(200, "yes");
    let secret = AdminToken::new("s3cret-").expect("a token");
    let proxy = Proxy::with(std::slice::from_ref(&good.url), |config| config.admin_token = Some(secret));
    for path in ["/", "/backends", "/races", "/page.css"] {
        let asked = get(&proxy, path, &[HTML, "Sec-Fetch-Site: none"]);
        assert_eq!(
            (asked.status, asked.value("www-authenticate")),
            (401, Some("Basic realm=\"red-tentacle\"")),
            "{path}"
        );
        assert_eq!(get(&proxy, path, &[]).status, 403, "{path} of curl");
        assert_eq!(get(&proxy, path, &["Authorization: Bearer s3cret-"]).status, 200, "{path} of curl");
        assert_eq!(get(&proxy, path, &[HTML, "Sec-Fetch-Site: cross-site"]).status, 403, "{path} of another site");
    }
    // `me:s3cret-`.
    let password = "Authorization: Basic bWU6czNjcmV0LQ==";
    let page = get(&proxy, "/", &[HTML, "Sec-Fetch-Site: none", password]);
    assert_eq!(page.status, 200);
    let (token, browser) = (token_in(&page.text()), [&BROWSER[..], &[password]].concat());
    let add = ("add", "http://127.0.0.1:1");
    assert_eq!(post(&proxy, &browser, &[add]).status, 403, "a browser sends the password along with any form");
    assert_eq!(post(&proxy, &browser, &[("token", &token), add]).status, 303);
    assert_eq!(post(&proxy, &["Authorization: Bearer s3cret-"], &[("pause", "b1")]).status, 200);
}

#[test]
fn without_scripts_the_page_loads_anew_unless_it_is_held() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    let (running, still) = (get(&proxy, "/", &[HTML]).text(), get(&proxy, "/?still", &[HTML]).text());
    assert!(
        running.contains("<noscript><meta http-equiv=refresh content=5></noscript>") && !running.contains("data-held")
    );
    assert!(running.contains("href=\"/?still#edit\""), "{running}");
    assert!(still.contains("<main data-held>") && !still.contains("http-equiv=refresh"), "{still}");
}

#[test]
fn nothing_of_the_page_is_kept_framed_or_fetched_from_elsewhere() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    for (path, media_type) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let reply = get(&proxy, path, &[HTML]);
        let policy = reply.values("content-security-policy").join("");
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(reply.values("x-content-type-options"), ["nosniff"]);
        assert_eq!(reply.values("cache-control"), ["no-store"]);
        assert!(reply.values("content-type")[0].starts_with(media_type), "{path}");
        // The policy forbids them.
        assert!(!reply.text().contains("style=") && !reply.text().contains("onclick"), "{path}");
    }
}
