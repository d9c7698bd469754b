//! Backends that speak TLS: whom to trust, and what a broken one can't do.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use red_tentacle::config::{Config, HostHeader};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tempfile::NamedTempFile;

use crate::harness::{
    Authority, Binary, Client, Fake, Gate, Hello, Identity, Manner, Names, Proxy, Raw, SOON, Secured, TlsBackend, Told,
    get, patiently, pattern, refusing,
};

/// A proxy that trusts this authority; every name is this host's.
fn proxy_trusting(authority: &Authority, backends: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
    let config = Proxy::config(backends, |config| {
        config.ca_certificates = vec![authority.der()];
        config.expose_backends = true;
        change(config);
    });
    Proxy::naming(config, Names::of_this_host())
}

fn file_with(text: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_ref()).expect("room on the disk");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("a path in ASCII")
}

#[test]
fn a_backend_with_a_certificate_of_our_own_authority_wins() {
    let authority = Authority::new();
    let good = TlsBackend::with(authority.identity(&["good.example"]), "good");
    let missing = Fake::with(404, "no");
    let urls = [missing.url.clone(), good.url("good.example"), refusing()];
    let proxy = proxy_trusting(&authority, &urls, |_| {});
    let reply = proxy.get("/path?query");
    assert_eq!((reply.status, reply.text().as_str()), (200, "good"));
    let request = String::from_utf8(good.next()).expect("a request in ASCII");
    assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: good.example:{}\r\n", good.port)), "{request}");
}

#[test]
fn the_name_of_the_backend_is_asked_for_and_nothing_but_http_1_1_is_offered() {
    let authority = Authority::new();
    let rows = [("good.example", Some("good.example")), ("under_score.example", Some("under_score.example"))];
    // RFC 6066 §3: names are asked for without the root's dot, IP addresses not at all.
    let rows = rows.into_iter().chain([("dot.example.", Some("dot.example")), ("127.0.0.1", None)]);
    for (host, asked_for) in rows {
        let good = TlsBackend::with(authority.identity(&[asked_for.unwrap_or(host)]), "good");
        // Clients don't decide whose certificate it must be.
        let proxy = proxy_trusting(&authority, &[good.url(host)], |config| config.host = HostHeader::Preserve);
        assert_eq!(proxy.get("/").text(), "good", "{host}");
        let hello = Hello { name: asked_for.map(str::to_owned), protocols: vec!["http/1.1".to_owned()] };
        assert_eq!(good.hello(), hello, "{host}");
    }
}

#[test]
fn a_backend_at_an_ipv6_address_is_verified_by_its_address() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
    drop(listener);
    let authority = Authority::new();
    let good = TlsBackend::on("[::1]:0", authority.identity(&["::1"]), |mut secured| secured.reply_to_all("good"));
    let bad = TlsBackend::on("[::1]:0", authority.identity(&["::2"]), |mut secured| secured.reply_to_all("bad"));
    let proxy = proxy_trusting(&authority, &[bad.url("[::1]"), good.url("[::1]")], |_| {});
    assert_eq!(proxy.get("/").text(), "good");
    let proxy = proxy_trusting(&authority, &[bad.url("[::1]")], |_| {});
    let reply = proxy.get("/");
    assert!(reply.status == 502 && reply.text().contains(" tls: TLS failed: "), "{}", reply.text());
}

/// Who can't be trusted, under which host, and a part of the reason.
fn untrusted(trusted: &Authority) -> [(TlsBackend, &'static str, &'static str); 10] {
    let backend = |identity: Identity| TlsBackend::with(identity, "bad");
    let needs_certificate = Manner { clients_of: Some(trusted.der()), ..Manner::default() };
    let identity = trusted.identity(&["choosy.example"]);
    let choosy = TlsBackend::in_manner(needs_certificate, identity, |mut secured| secured.reply_to_all("bad"));
    let impostor = Authority::named(&trusted.name);
    [
        (backend(impostor.identity(&["impostor.example"])), "impostor.example", "has a bad signature"),
        (backend(Authority::new().identity(&["stranger.example"])), "stranger.example", "is signed by nobody we trust"),
        (
            backend(trusted.identity(&["other.example"])),
            "wrong.example",
            "is not for wrong.example but for other.example",
        ),
        (
            backend(trusted.expired_identity(&["expired.example"])),
            "expired.example",
            "expired on Tue, 01 Jan 2002 00:00:00 GMT",
        ),
        (
            backend(trusted.future_identity(&["early.example"])),
            "early.example",
            "is not valid before Thu, 01 Jan 3001 00:00:00 GMT",
        ),
        (
            backend(trusted.identity(&["other.example", "127.0.0.2"])),
            "127.0.0.1",
            "is not for 127.0.0.1 but for other.example, 127.0.0.2",
        ),
        (
            backend(trusted.identity(&["*.example"])),
            "deep.under.example",
            "is not for deep.under.example but for *.example",
        ),
        (backend(trusted.clients_identity(&["client.example"])), "client.example", "is not for servers"),
        (
            backend(Authority::serving_identity(&["authority.example"]).0),
            "authority.example",
            "is an authority, used as that of a server: issue one from it",
        ),
        (choosy, "choosy.example", "demands a certificate of its client"),
    ]
}

#[test]
fn who_cannot_be_trusted_loses_and_the_reason_is_told_to_client_and_log() {
    let authority = Authority::new();
    let backends = untrusted(&authority);
    let plain = Raw::serving(|mut connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        connection.wait_for_hang_up();
    });
    let mut rows: Vec<(String, &str)> = backends.iter().map(|(it, host, why)| (it.url(host), *why)).collect();
    rows.push((plain.url.replace("http:", "https:"), "the backend does not speak TLS on this port"));
    let urls: Vec<String> = rows.iter().map(|(url, _)| url.clone()).collect();
    let proxy = proxy_trusting(&authority, &urls, |_| {});
    let told = Told::about("GET /untrusted ");
    let reply = proxy.get("/untrusted");
    assert_eq!(reply.status, 502);
    let (text, line) = (reply.text(), told.line());
    for (at, (url, why)) in rows.iter().enumerate() {
        let row = text.lines().nth(at + 1).unwrap_or_default();
        let begin = format!("b{} {url} tls: TLS failed: ", at + 1);
        let reason = row.strip_prefix(&begin).unwrap_or_else(|| panic!("no {begin:?} in {text}"));
        assert!(reason.contains(why), "{url}: {reason}");
        assert!(line.contains(&format!(" b{}=tls ", at + 1)), "{line}");
        assert!(line.contains(&format!("b{} {url} ({reason})", at + 1)), "{line}");
    }
    assert!(backends.iter().all(|(backend, ..)| backend.requests.is_empty()), "nobody untrusted saw the request");
}

/// Was seen as: `Other(OtherError(CaUsedAsEndEntity))`, also where the certificate itself was in `--ca-file`.
#[test]
fn an_authority_that_serves_by_itself_is_told_what_to_do() {
    let (identity, der) = Authority::serving_identity(&["authority.example"]);
    let backend = TlsBackend::with(identity, "bad");
    let config = Proxy::config(&[backend.url("authority.example")], |config| {
        config.ca_certificates = vec![der];
        config.expose_backends = true;
    });
    let proxy = Proxy::naming(config, Names::of_this_host());
    let text = proxy.get("/").text();
    let reason = "tls: TLS failed: its certificate is an authority, used as that of a server: issue one from it";
    assert!(text.contains(reason), "{text}");
}

#[test]
fn a_backend_with_nothing_in_common_is_told_so() {
    let rows: [(&str, &'static [u8], &str); 4] = [
        ("an old version", b"\x15\x03\x01\0\x02\x02\x46", "no version of TLS in common"),
        ("old ciphers", b"\x15\x03\x03\0\x02\x02\x28", "no cipher or key in common"),
        ("another host", b"\x15\x03\x03\0\x02\x02\x70", "the backend knows no host of this name"),
        ("SSH", b"SSH-2.0-x\r\n", "the backend does not speak TLS on this port"),
    ];
    for (label, answer, reason) in rows {
        let backend = Raw::serving(move |mut connection| {
            connection.send(answer);
            connection.wait_for_hang_up();
        });
        let url = backend.url.replace("http:", "https:");
        let text = Proxy::with(&[url], |config| config.expose_backends = true).get("/").text();
        assert!(text.contains(&format!(" tls: TLS failed: {reason}")), "{label}: {text}");
    }
}

#[test]
fn what_is_no_tls_behind_a_handshake_is_told_in_a_sentence() {
    let (authority, begun) = (Authority::new(), Gate::new());
    let has_begun = begun.clone();
    let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured| {
        if secured.request().is_some_and(|request| request.starts_with(b"GET /body-breaks ")) {
            secured.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngood");
            has_begun.pass();
        }
        secured.connection.send("HTTP/1.1 ");
        secured.connection.wait_for_hang_up();
    });
    let proxy = proxy_trusting(&authority, &[backend.url("127.0.0.1")], |_| {});
    let sentence = "the backend breaks the rules of TLS (InvalidContentType)";
    let text = proxy.get("/no-head").text();
    assert!(text.contains(&format!(" tls: TLS failed: {sentence}\n")), "{text}");
    let told = Told::about("GET /body-breaks ");
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/body-breaks", &[], None);
    let mut reply = client.head().expect("a head");
    begun.open();
    client.read_body(&mut reply);
    assert!(!reply.whole);
    let line = told.line();
    assert!(line.contains(&format!("(cut, since the backend's body broke off: {sentence})")), "{line}");
}

/// Was seen as: the names of a certificate put line ends and escape sequences into the text of the 502.
#[test]
fn what_a_certificate_says_is_escaped_and_cut_wherever_it_is_shown() {
    let authority = Authority::new();
    let evil = "x\r\nb9 http://evil 200: \u{1b}[2J".repeat(20);
    let names: Vec<&str> = vec![&evil; 100];
    let backend = TlsBackend::with(authority.identity(&names), "bad");
    let url = backend.url("good.example");
    let proxy = proxy_trusting(&authority, std::slice::from_ref(&url), |_| {});
    let told = Told::about("GET /evil-names ");
    let (text, line) = (proxy.get("/evil-names").text(), told.line());
    assert_eq!(text.lines().count(), 2, "{text}");
    let row = text.lines().nth(1).unwrap_or_default();
    let begin = format!("b1 {url} tls: TLS failed: its certificate is not for good.example but for x\\r\\nb9 ");
    assert!(row.starts_with(&begin) && row.contains("\\u{1b}[2J") && row.len() < 1500, "{row}");
    let reason = row.split_once("TLS failed: ").map(|(_, reason)| reason).unwrap_or_default();
    assert!(line.contains(&format!("[b1 {url} ({reason})]")), "{line}");
    assert!(!row.contains(char::is_control) && !line.trim_end().contains(char::is_control));
}

#[test]
fn tls_where_plain_http_is_meant_is_no_http() {
    let authority = Authority::new();
    let backend = TlsBackend::with(authority.identity(&["127.0.0.1"]), "bad");
    let proxy = Proxy::before(&[backend.url("127.0.0.1").replace("https:", "http:")]);
    let text = proxy.get("/").text();
    let row = text.lines().nth(1).unwrap_or_default();
    assert!([" protocol: ", " closed: ", " reset: "].iter().any(|word| row.contains(word)), "{text}");
}

#[test]
fn connections_are_used_again() {
    let authority = Authority::new();
    let backend = TlsBackend::with(authority.identity(&["good.example"]), "good");
    let proxy = proxy_trusting(&authority, &[backend.url("good.example")], |_| {});
    for number in 0..20 {
        // Not even what can't be repeated wants a fresh one.
        assert_eq!(proxy.post("/", b"body").text(), "good", "{number}");
    }
    assert_eq!((backend.raw.accepted(), backend.resumed.len(), backend.requests.len()), (1, 1, 20));
}

static VERSIONS: [(&str, [&SupportedProtocolVersion; 1]); 2] = [("TLS 1.3", [&TLS13]), ("TLS 1.2", [&TLS12])];

#[test]
fn a_session_is_resumed_on_a_new_connection() {
    let authority = Authority::new();
    for (name, versions) in &VERSIONS {
        let manner = Manner { versions, ..Manner::default() };
        let identity = authority.identity(&["good.example"]);
        let backend = TlsBackend::in_manner(manner, identity, |mut secured| secured.reply_to_all("good"));
        let proxy =
            proxy_trusting(&authority, &[backend.url("good.example")], |config| config.max_idle_connections = 0);
        for number in 0..5 {
            assert_eq!(proxy.get("/").text(), "good", "{name}");
            let resumed = backend.resumed.recv_timeout(SOON).expect("a handshake");
            assert_eq!(resumed, number > 0, "{name}, connection {number}");
        }
    }
}

/// Was a danger seen in a review: what is decrypted already can't be seen by a look at the socket.
#[test]
fn bytes_behind_an_answer_reach_no_client() {
    const EVIL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    let rows: [(&str, &[u8], bool); 5] = [
        ("in the same record", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", false),
        ("in the next record", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", true),
        ("behind chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n", true),
        ("behind no body, in the same record", b"HTTP/1.1 204 No Content\r\n\r\n", false),
        ("behind no body, in the next record", b"HTTP/1.1 204 No Content\r\n\r\n", true),
    ];
    let authority = Authority::new();
    for (name, answer, in_two_records) in rows {
        let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured| {
            let is_first = secured.number() == 0;
            while secured.request().is_some() {
                match (is_first, in_two_records) {
                    (true, true) => secured.send_at_once(&[answer, EVIL], false),
                    (true, false) => secured.send_at_once(&[&[answer, EVIL].concat()], false),
                    (false, _) => secured.reply("fresh"),
                }
            }
        });
        let proxy = proxy_trusting(&authority, &[backend.url("127.0.0.1")], |_| {});
        let first = proxy.get("/");
        let is_good = (first.status == 200 && first.text() == "good") || first.status == 204;
        assert!(is_good && first.whole, "{name}: {first:?}");
        assert_eq!(proxy.get("/").text(), "fresh", "{name}");
        assert_eq!(backend.raw.accepted(), 2, "{name}");
    }
}

#[test]
fn a_backend_that_says_farewell_behind_its_answer_is_asked_on_a_new_connection() {
    let authority = Authority::new();
    let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), |mut secured| {
        while secured.request().is_some() {
            // The connection itself stays open.
            secured.send_at_once(&[b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"], true);
        }
    });
    let proxy = proxy_trusting(&authority, &[backend.url("127.0.0.1")], |_| {});
    for connections in 1..=3 {
        // What can't be repeated: it must not go out where nothing listens.
        assert_eq!(proxy.post("/", b"body").text(), "good");
        assert_eq!(backend.raw.accepted(), connections);
    }
}

#[test]
fn a_request_on_a_used_connection_that_dies_goes_out_once_more_on_a_fresh_one() {
    let authority = Authority::new();
    for with_farewell in [false, true] {
        let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured| {
            secured.request();
            secured.reply("good");
            secured.request();
            secured.send_at_once(&[], with_farewell);
        });
        let proxy = proxy_trusting(&authority, &[backend.url("127.0.0.1")], |_| {});
        for connections in 1..=3 {
            assert_eq!(proxy.get("/").text(), "good", "farewell: {with_farewell}");
            assert_eq!(backend.raw.accepted(), connections);
        }
    }
}

/// How a backend ends its connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    Farewell,
    Cut,
    Reset,
}

/// Answers with these bytes and ends the connection; whether it is whole, for a client of either version.
fn is_whole(authority: &Authority, answer: &'static [u8], ending: Ending) -> [bool; 2] {
    let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured: Secured| {
        secured.request();
        secured.send_at_once(&[answer], ending == Ending::Farewell);
        if ending == Ending::Reset {
            secured.connection.reset();
        } else {
            let _ = secured.connection.stream.shutdown(Shutdown::Write);
            secured.connection.wait_for_hang_up();
        }
    });
    let proxy = proxy_trusting(authority, &[backend.url("127.0.0.1")], |_| {});
    ["1.1", "1.0"].map(|version| {
        let mut client = Client::connect(proxy.address);
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        let Some(mut reply) = client.head() else { return false };
        client.read_body(&mut reply);
        assert!(reply.status == 502 || "good".starts_with(&reply.text()), "{reply:?}");
        reply.status == 200 && reply.whole
    })
}

/// More comes at once than is taken in before it is read, and the farewell with it. Was seen as: the client got 32 of 37 KiB, in order.
#[test]
fn what_came_before_a_farewell_reaches_the_client_whole() {
    const LENGTHS: [usize; 6] = [33_000, 36_000, 39_000, 42_000, 45_000, 48_000];
    let authority = Authority::new();
    let backend = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured: Secured| {
        let Some(request) = secured.request() else { return };
        let request = String::from_utf8_lossy(&request);
        let length = request.split(['/', ' ']).nth(2).and_then(|length| length.parse().ok()).expect("a length");
        secured.send_at_once(&[b"HTTP/1.1 200 OK\r\n\r\n", &pattern(length)], true);
        secured.connection.wait_for_hang_up();
    });
    let proxy = proxy_trusting(&authority, &[backend.url("127.0.0.1")], |_| {});
    for length in LENGTHS.repeat(4) {
        let reply = get(proxy.address, &format!("/{length}"));
        assert!(reply.whole && reply.body == pattern(length), "{} of {length} bytes", reply.body.len());
    }
}

#[test]
fn a_body_that_is_cut_never_looks_whole() {
    let rows: [(&str, &[u8], Ending, bool); 9] = [
        ("no length, farewell", b"HTTP/1.1 200 OK\r\n\r\ngood", Ending::Farewell, true),
        ("no length, cut", b"HTTP/1.1 200 OK\r\n\r\ngood", Ending::Cut, false),
        ("no length, reset", b"HTTP/1.1 200 OK\r\n\r\ngood", Ending::Reset, false),
        ("HTTP/1.0, cut", b"HTTP/1.0 200 OK\r\n\r\ngood", Ending::Cut, false),
        ("nothing, cut", b"HTTP/1.1 200 OK\r\n\r\n", Ending::Cut, false),
        ("length, farewell", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngood", Ending::Farewell, false),
        ("length, cut", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngood", Ending::Cut, false),
        (
            "chunks, farewell",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n",
            Ending::Farewell,
            false,
        ),
        ("a length that is there, cut", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", Ending::Cut, true),
    ];
    let authority = Authority::new();
    for (name, answer, ending, whole) in rows {
        assert_eq!(is_whole(&authority, answer, ending), [whole, whole], "{name}");
    }
}

#[test]
fn a_handshake_that_hangs_ends_with_the_timeout() {
    let hanging = Raw::serving(|mut connection| connection.wait_for_hang_up());
    let authority = Authority::new();
    let proxy = proxy_trusting(&authority, &[hanging.url.replace("http:", "https:")], |config| {
        config.timeout = Duration::from_millis(300);
    });
    let told = Told::about("GET /hanging-handshake ");
    let reply = proxy.get("/hanging-handshake");
    let text = reply.text();
    assert!(
        reply.status == 502 && text.contains(" connect-timeout: the backend couldn't be reached in time\n"),
        "{text}"
    );
    assert!(told.line().contains(" b1=connect-timeout ["));
    hanging.expect_hang_up();
}

#[test]
fn a_handshake_that_hangs_is_hung_up_on_when_another_wins() {
    let gate = Gate::new();
    let held = gate.clone();
    let hanging = Raw::serving(move |mut connection| {
        held.open();
        connection.wait_for_hang_up();
    });
    let good = Fake::behind(&gate, 200, "good");
    let authority = Authority::new();
    let urls = [hanging.url.replace("http:", "https:"), good.url.clone()];
    let proxy = proxy_trusting(&authority, &urls, patiently);
    let told = Told::about("GET /hung-up-on ");
    assert_eq!(proxy.get("/hung-up-on").text(), "good");
    hanging.expect_hang_up();
    let line = told.line();
    assert!(line.contains(" b1=cancelled b2=200/"), "{line}");
}

/// The leg waited for the whole timeout: the event that told of the farewell was used up by the handshake.
#[test]
fn a_backend_that_leaves_with_the_last_of_its_handshake_is_noticed_at_once() {
    let authority = Authority::new();
    let versions: &[&SupportedProtocolVersion] = const { &[&TLS12] };
    let manner = Manner { versions, leaves_at_once: true, ..Manner::default() };
    let leaving = TlsBackend::in_manner(manner, authority.identity(&["127.0.0.1"]), |mut secured| {
        secured.connection.wait_for_hang_up();
    });
    // A proxy of its own each time: a session that is resumed ends its handshake in another order.
    for _ in 0..5 {
        let proxy = proxy_trusting(&authority, &[leaving.url("127.0.0.1")], patiently);
        let told = Told::about("GET /leaves ");
        assert_eq!(proxy.get("/leaves").status, 502);
        let line = told.line();
        assert!(line.contains(" b1=closed ["), "{line}");
    }
}

#[test]
fn an_answer_that_does_not_come_ends_with_the_timeout() {
    let authority = Authority::new();
    let hanging = TlsBackend::serving(authority.identity(&["127.0.0.1"]), |mut secured| {
        while secured.request().is_some() {}
        secured.connection.wait_for_hang_up();
    });
    let proxy = proxy_trusting(&authority, &[hanging.url("127.0.0.1")], |config| {
        config.timeout = Duration::from_millis(500);
    });
    let told = Told::about("GET /no-answer ");
    let text = proxy.get("/no-answer").text();
    assert!(text.contains(" timeout: the backend's answer didn't come in time\n"), "{text}");
    assert!(told.line().contains(" b1=timeout ["));
    hanging.raw.expect_hang_up();
}

#[test]
fn a_backend_that_does_not_answer_is_hung_up_on_when_another_wins() {
    let gate = Gate::new();
    let held = gate.clone();
    let authority = Authority::new();
    let hanging = TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured| {
        secured.request();
        held.open();
        while secured.request().is_some() {}
        secured.connection.wait_for_hang_up();
    });
    let good = Fake::behind(&gate, 200, "good");
    let proxy = proxy_trusting(&authority, &[hanging.url("127.0.0.1"), good.url.clone()], patiently);
    let told = Told::about("GET /hangs-in-tls ");
    assert_eq!(proxy.get("/hangs-in-tls").text(), "good");
    hanging.raw.expect_hang_up();
    let line = told.line();
    assert!(line.contains(" b1=cancelled b2=200/"), "{line}");
}

/// `openssl req -x509` makes such certificates, but for the mark that it is an authority.
#[test]
fn a_certificate_that_signs_itself_is_trusted_if_it_is_in_the_file() {
    let (identity, der) = Authority::self_signed_identity(&["self.example"]);
    let backend = TlsBackend::with(identity, "good");
    let config = Proxy::config(&[backend.url("self.example")], |config| config.ca_certificates = vec![der]);
    let proxy = Proxy::naming(config, Names::of_this_host());
    assert_eq!(proxy.get("/").text(), "good");
}

#[test]
fn a_large_body_arrives_whole_at_every_backend_and_a_large_answer_at_the_client() {
    const BYTES: usize = 4 << 20;
    let authority = Authority::new();
    let answer: Arc<[u8]> = pattern(BYTES + 77).into();
    let backend = || {
        let answer = answer.clone();
        TlsBackend::serving(authority.identity(&["127.0.0.1"]), move |mut secured| {
            while secured.request().is_some() {
                secured.reply(&answer);
            }
        })
    };
    let backends = [backend(), backend()];
    let urls = backends.each_ref().map(|backend| backend.url("127.0.0.1"));
    let proxy = proxy_trusting(&authority, &urls, |config| config.linger_unsafe = SOON);
    let body = pattern(BYTES);
    let reply = proxy.post("/", &body);
    assert!(reply.status == 200 && reply.whole && reply.body == *answer, "{} bytes came", reply.body.len());
    for backend in &backends {
        assert!(backend.next().ends_with(&body), "the request has come whole");
    }
}

#[test]
fn a_file_of_authorities_is_trusted_beside_whatever_else_is_in_it() {
    let authorities = [Authority::new(), Authority::new()];
    let backends = authorities.each_ref().map(|authority| {
        let missing = |mut secured: Secured| {
            secured.request();
            secured.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        TlsBackend::serving(authority.identity(&["127.0.0.1"]), missing)
    });
    let file = file_with(format!(
        "An explanation.\n{}{}{}",
        authorities[0].pem(),
        // Glued to what comes next, as by `cat`.
        authorities[0].key_pem().trim_end(),
        authorities[1].pem()
    ));
    let urls = backends.each_ref().map(|backend| backend.url("127.0.0.1"));
    let program = Binary::start(&["--backends", &urls.join(","), "--ca-file", path(&file)]);
    let text = get(program.address(), "/").text();
    let missing = "404: the backend answered 404 Not Found";
    assert_eq!(text, format!("All backend requests failed\nb1 {missing}\nb2 {missing}\n"));
}

#[test]
fn a_bad_file_of_authorities_stops_the_start_with_one_line() {
    let authority = Authority::new();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let begun = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let noise = [0x80, 0xff, 0, 1, 2];
    let files: [(&str, NamedTempFile, i32, &str); 6] = [
        ("empty", file_with(""), 2, "it holds no certificate"),
        ("noise", file_with(noise), 2, "it holds no certificate"),
        ("a key", file_with(authority.key_pem()), 2, "it holds no certificate"),
        ("half", file_with(begun), 2, "not a PEM file"),
        ("garbage", file_with(garbage), 2, "its certificate 1 is cut off, damaged, or none of X.509; export it again"),
        ("half good", file_with(authority.pem() + garbage), 2, "its certificate 2 is cut off"),
    ];
    let files = files.iter().map(|(name, file, code, why)| (*name, path(file), *code, *why));
    let nowhere = [("missing", "/nowhere/ca.pem", 2, "cannot read it"), ("a folder", "/", 2, "cannot read it")];
    for (name, path, code, why) in files.chain(nowhere) {
        let mut command = Binary::command();
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--backends", "https://127.0.0.1:1", "--ca-file", path]);
        let ended = Binary::run(command);
        assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
        assert_eq!((ended.stderr.lines().count(), ended.stdout.as_str()), (1, ""), "{name}: {ended:?}");
        let is_told = ended.stderr.contains(why) && ended.stderr.contains("--ca-file");
        assert!(is_told && (code == 1 || ended.stderr.contains(path)), "{name}: {ended:?}");
    }
}
