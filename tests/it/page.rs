//! The status page, as a browser and curl get it.

use crate::harness::{Client, Fake, Proxy, Reply, eventually};

const HTML: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";

fn get(proxy: &Proxy, path: &str, fields: &[&str]) -> Reply {
    let mut client = Client::connect(proxy.admin);
    client.send_request("GET", path, fields, None);
    client.reply()
}

#[test]
fn a_browser_gets_the_page_and_curl_the_list() {
    let (good, bad) = (Fake::with(200, "yes"), Fake::with(503, "no"));
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
    let list = get(&proxy, "/", &[]).text();
    assert!(list.starts_with("name") && list.contains(&good.url), "{list}");
}

#[test]
fn the_page_may_look_again_but_no_other_page_may() {
    let good = Fake::with(200, "yes");
    let proxy = Proxy::before(std::slice::from_ref(&good.url));
    let own = "Origin: http://localhost";
    let rows: [(&[&str], u16); 8] = [
        (&["Sec-Fetch-Site: none"], 200),
        (&["Sec-Fetch-Site: same-origin"], 200),
        (&["Sec-Fetch-Site: same-origin", own], 200),
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
    let mut client = Client::connect(proxy.admin);
    client.send_request("POST", "/backends", &["Sec-Fetch-Site: same-origin", own], Some(b"pause=b1"));
    assert_eq!(client.reply().status, 403, "a page changes nothing");
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
