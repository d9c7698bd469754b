//! What passes: everything that the RFCs allow, also if it is odd. Each row is sent whole, with a second request right
//! behind it, and byte by byte; a recording backend shows what reached it.

use std::net::Shutdown;

use red_tentacle::config::HostHeader;

use super::{drip, final_reply};
use crate::harness::{Authority, Client, Proxy, Raw, Received, SOON, TlsBackend, eventually};

/// A label, the bytes, the request line that reaches the backend, some of its fields with all their values, its body.
type Row<'a> = (&'a str, &'a [u8], &'a str, &'a [(&'a str, &'a [&'a str])], &'a [u8]);

const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n";
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A proxy before a backend that answers everything without a body.
fn recording() -> (Proxy, Raw) {
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    (Proxy::before(std::slice::from_ref(&backend.url)), backend)
}

fn assert_all_pass(rows: &[Row]) {
    let (proxy, backend) = recording();
    for row in rows {
        let (label, bytes) = (row.0, row.1);
        let mut client = Client::connect(proxy.address);
        client.send([bytes, SECOND].concat());
        assert_eq!(final_reply(&mut client).status, 204, "{label}");
        assert_eq!(client.reply().status, 204, "{label}: the second");
        assert_reached(row, &backend.next());
        assert_eq!(Received::parse(&backend.next()).target, "/second", "{label}");

        let mut client = Client::connect(proxy.address);
        drip(&mut client, bytes);
        assert_eq!(final_reply(&mut client).status, 204, "{label}, byte by byte");
        client.send(SECOND);
        assert_eq!(client.reply().status, 204, "{label}, byte by byte: the second");
        assert_reached(row, &backend.next());
        assert_eq!(Received::parse(&backend.next()).target, "/second", "{label}, byte by byte");
    }
    assert!(backend.requests.is_empty());
}

fn assert_reached((label, _, line, fields, body): &Row, bytes: &[u8]) {
    let received = Received::parse(bytes);
    assert_eq!(format!("{} {}", received.method, received.target), *line, "{label}");
    for (name, values) in *fields {
        assert_eq!(received.values(name), *values, "{label}: {name}");
    }
    assert!(received.body == *body, "{label}: {:?}", String::from_utf8_lossy(&received.body));
    // However it was framed on its way here, no server behind can be of two minds.
    assert_eq!(received.values("host").len(), 1, "{label}");
    assert!(
        received.values("content-length").len() <= usize::from(!body.is_empty() || line.starts_with('P')),
        "{label}"
    );
    for name in ["transfer-encoding", "trailer", "te", "expect", "connection", "keep-alive", "proxy-connection"] {
        assert_eq!(received.values(name), [""; 0], "{label}: {name}");
    }
}

#[test]
pub(super) fn odd_request_lines_pass() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8 * 1024 - 1));
    let long_line = format!("GET /{}", "x".repeat(8 * 1024 - 1));
    let angles = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "<".repeat(8191));
    let angles_line = format!("GET /{}", "<".repeat(8191));
    let long_method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "X".repeat(2000));
    let long_method_line = format!("{} /", "X".repeat(2000));
    let rows: &[Row] = &[
        ("plain", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /", &[], b""),
        ("an empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /", &[], b""),
        ("three empty lines before", b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /", &[], b""),
        ("an unknown method", b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /pot", &[], b""),
        ("a method in small letters", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "get /", &[], b""),
        ("every sign of a token", b"!#$%&'*+-.^_`|~9 / HTTP/1.1\r\nHost: a\r\n\r\n", "!#$%&'*+-.^_`|~9 /", &[], b""),
        ("a long method", long_method.as_bytes(), &long_method_line, &[], b""),
        ("a method that begins with H", b"HELLO / HTTP/1.1\r\nHost: a\r\n\r\n", "HELLO /", &[], b""),
        (
            "odd bytes in the path",
            b"GET /|{}\"\\%zz%//../. HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /|{}\"\\%zz%//../.",
            &[],
            b"",
        ),
        (
            "odd bytes in the query",
            b"GET /?|{}\\^`%zz//..?a[]=' HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?|{}\\^`%zz//..?a[]='",
            &[],
            b"",
        ),
        ("encoded controls", b"GET /%00%0d%0aX:%20y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%00%0d%0aX:%20y", &[], b""),
        ("encoded slashes and dots", b"GET /%2e%2E/%2f%5c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%2e%2E/%2f%5c", &[], b""),
        (
            "a path that looks like a host",
            b"GET //evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET //evil.example/x",
            &[],
            b"",
        ),
        ("a URL behind the slash", b"GET /http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /http://b/", &[], b""),
        ("what a URI can't hold", b"GET /<^`>?\"<> HTTP/1.1\r\nHost: a\r\n\r\n", "GET /<^`>?\"<>", &[], b""),
        ("UTF-8 in the path", b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /caf\u{c3}\u{a9}", &[], b""),
        ("8 KiB of target", long.as_bytes(), &long_line, &[], b""),
        ("8 KiB that no URI can hold", angles.as_bytes(), &angles_line, &[], b""),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS *", &[], b""),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn the_authority_of_an_absolute_target_replaces_host() {
    let rows: &[Row] = &[
        (
            "with a port",
            b"GET http://b.example:8/p?q HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET /p?q",
            &[("x-forwarded-host", &["b.example:8"])],
            b"",
        ),
        ("https", b"GET https://b/p HTTP/1.1\r\nHost: other\r\n\r\n", "GET /p", &[("x-forwarded-host", &["b"])], b""),
        (
            "a scheme in capitals",
            b"GET HTTP://b/p HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET /p",
            &[("x-forwarded-host", &["b"])],
            b"",
        ),
        ("without a path", b"GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET /", &[("x-forwarded-host", &["b"])], b""),
        (
            "with a query alone",
            b"GET http://b:1?q=/ HTTP/1.1\r\nHost: b:1\r\n\r\n",
            "GET /?q=/",
            &[("x-forwarded-host", &["b:1"])],
            b"",
        ),
        (
            "OPTIONS without a path",
            b"OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n",
            "OPTIONS *",
            &[("x-forwarded-host", &["b"])],
            b"",
        ),
        (
            "OPTIONS with a path",
            b"OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "OPTIONS /",
            &[("x-forwarded-host", &["b"])],
            b"",
        ),
        (
            "IPv6",
            b"GET http://[::1]:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /",
            &[("x-forwarded-host", &["[::1]:80"])],
            b"",
        ),
        (
            "HTTP/1.0 without Host",
            b"GET http://b/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET /",
            &[("x-forwarded-host", &["b"])],
            b"",
        ),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn odd_fields_pass() {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: b\r\n".repeat(99));
    let many_values = ["b"; 99];
    let begin = "GET / HTTP/1.1\r\nHost: a\r\nX-A: ";
    let value = "v".repeat(32 * 1024 - begin.len() - 4);
    let large = format!("{begin}{value}\r\n\r\n");
    let rows: &[Row] = &[
        ("an empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\n\r\n", "GET /", &[("x-a", &[""])], b""),
        ("no blank", b"GET / HTTP/1.1\r\nHost:a\r\nX-A:b\r\n\r\n", "GET /", &[("x-a", &["b"])], b""),
        (
            "blanks around a value",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \t b c \t \r\n\r\n",
            "GET /",
            &[("x-a", &["b c"])],
            b"",
        ),
        ("a tab in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\tc\r\n\r\n", "GET /", &[("x-a", &["b\tc"])], b""),
        ("colons in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: :b: c\r\n\r\n", "GET /", &[("x-a", &[":b: c"])], b""),
        (
            "UTF-8",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: caf\xc3\xa9\r\n\r\n",
            "GET /",
            &[("x-a", &["caf\u{c3}\u{a9}"])],
            b"",
        ),
        (
            "Latin-1",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: caf\xe9\xff\r\n\r\n",
            "GET /",
            &[("x-a", &["caf\u{e9}\u{ff}"])],
            b"",
        ),
        (
            "every sign of a token",
            b"GET / HTTP/1.1\r\nHost: a\r\nX!#$%&'*+-.^_`|~9: b\r\n\r\n",
            "GET /",
            &[("x!#$%&'*+-.^_`|~9", &["b"])],
            b"",
        ),
        (
            "repeats, in order",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n",
            "GET /",
            &[("x-a", &["1", "3"]), ("x-b", &["2"])],
            b"",
        ),
        ("100 fields", many.as_bytes(), "GET /", &[("x-a", &many_values)], b""),
        ("32 KiB", large.as_bytes(), "GET /", &[("x-a", &[&value])], b""),
        ("an underscore", b"GET / HTTP/1.1\r\nHost: a\r\nX_A: b\r\n\r\n", "GET /", &[("x_a", &["b"])], b""),
        (
            "cookies",
            b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=\"b\"; c=\\,{}\r\n\r\n",
            "GET /",
            &[("cookie", &["a=\"b\"; c=\\,{}"])],
            b"",
        ),
    ];
    assert_all_pass(rows);
}

/// Was seen as: a ticket of 17,000 bytes was refused by 431.
#[test]
pub(super) fn a_head_of_the_longest_reaches_every_backend_whole() {
    const KIB: usize = 1024;
    let authority = Authority::new();
    let secured = TlsBackend::with(authority.identity(&["localhost"]), "good");
    for (max_head, host) in
        [(KIB, HostHeader::Backend), (32 * KIB, HostHeader::Preserve), (256 * KIB, HostHeader::Backend)]
    {
        let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
        let base = format!("{}/{}", backend.url, "b".repeat(1900));
        let proxy = Proxy::with(&[base, secured.url("localhost")], |config| {
            (config.max_head, config.host, config.ca_certificates) = (max_head, host, vec![authority.der()]);
            config.linger = SOON;
        });
        // The value of a field, or a host, as long as there is room.
        let rows = [
            ("a field", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate ", "", "authorization"),
            ("a host", "GET / HTTP/1.1\r\nHost: ", "", "x-forwarded-host"),
            ("a way", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ", "", "x-forwarded-for"),
            ("fields", "GET / HTTP/1.1\r\nHost: a\r\nX-A:", &"\r\na:b".repeat(90), "x-a"),
            (
                "a target",
                &format!("GET /{} HTTP/1.1\r\nHost: a\r\nX-A: ", "<".repeat(max_head.min(2700) / 2)),
                "",
                "x-a",
            ),
        ];
        for (label, begin, end, name) in rows {
            let long = "v".repeat(max_head - begin.len() - end.len() - 4);
            for more in ["", "v"] {
                let mut client = Client::connect(proxy.address);
                client.send(format!("{begin}{long}{more}{end}\r\n\r\n"));
                let reply = client.reply();
                if more == "v" {
                    assert_eq!(reply.status, 431, "{label}, {max_head}");
                    assert!(reply.text().contains("--max-head"), "{}", reply.text());
                    continue;
                }
                assert!(matches!(reply.status, 200 | 204), "{label}, {max_head}: {}", reply.text());
                for received in [backend.next(), secured.next()] {
                    let received = Received::parse(&received);
                    assert!(received.values(name)[0].contains(&long), "{label}, {max_head}");
                    assert_eq!(received.values("a").len(), end.len() / 5, "{label}, {max_head}");
                }
            }
        }
    }
}

#[test]
pub(super) fn every_valid_host_passes() {
    let hosts = [
        "",
        "a",
        "A.Example",
        "a:",
        "a:80",
        "a:65535",
        "1.2.3.4:5",
        "[::1]",
        "[::1]:80",
        "a-b_c",
        "a%41",
        "xn--bcher-kva.example",
        "a,b;c",
        "*",
        "a:0",
        "[v1.x]:80",
    ];
    for host in hosts {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_all_pass(&[(host, bytes.as_bytes(), "GET /", &[("x-forwarded-host", &[host])], b"")]);
    }
}

/// CGI and its kin turn all but letters and digits into `_`: what this proxy says in its own name no client may say in a name that
/// looks the same there.
#[test]
pub(super) fn fields_that_a_backend_could_take_for_the_proxys_own_are_dropped() {
    let rows: &[Row] = &[
        (
            "forwarded",
            b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\nX_FORWARDED-HOST: b\r\nX_Real_IP: 1.1.1.1\r\nX-A: 1\r\n\r\n",
            "GET /",
            &[("x_forwarded_for", &[]), ("x-forwarded_proto", &[]), ("x_forwarded-host", &[]), ("x_real_ip", &[]), ("x-a", &["1"]), ("x-forwarded-for", &["127.0.0.1"])],
            b"",
        ),
        (
            "forwarded, by other bytes",
            b"GET / HTTP/1.1\r\nHost: a\r\nX.Forwarded.For: 1.1.1.1\r\nX~Forwarded~Client~Cert: Subject=\"CN=a\"\r\nX!Real-IP: 1.1.1.1\r\nX.A: 1\r\n\r\n",
            "GET /",
            &[("x.forwarded.for", &[]), ("x~forwarded~client~cert", &[]), ("x!real-ip", &[]), ("x.a", &["1"]), ("x-forwarded-for", &["127.0.0.1"])],
            b"",
        ),
        (
            "framing",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
            "POST /",
            &[("content_length", &[]), ("transfer_encoding", &[]), ("content-length", &["2"])],
            b"hi",
        ),
        ("what else is known", b"GET / HTTP/1.1\r\nHost: a\r\nX_Client_IP: 1.1.1.1\r\nContent_Type: x\r\n\r\n", "GET /", &[("x_client_ip", &["1.1.1.1"]), ("content_type", &["x"])], b""),
    ];
    assert_all_pass(rows);
}

/// Was seen as: a client with a small buffer was cut off in the middle of it.
#[test]
pub(super) fn a_long_trace_is_reflected_without_what_is_long() {
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.max_head = 256 * 1024);
    let mut client = Client::cramped(proxy.address);
    let long = "x".repeat(250 * 1024);
    client.send(format!("TRACE / HTTP/1.1\r\nHost: a\r\nX-A: {long}\r\nMax-Forwards: 0\r\n\r\n"));
    let reply = client.reply();
    assert_eq!((reply.whole, reply.text().as_str()), (true, "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"));
    assert!(backend.requests.is_empty());
}

#[test]
pub(super) fn the_proxies_that_trace_and_options_may_pass_are_counted() {
    let rows: &[Row] = &[
        (
            "OPTIONS",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n",
            "OPTIONS *",
            &[("max-forwards", &["4"])],
            b"",
        ),
        (
            "TRACE",
            b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n",
            "TRACE /",
            &[("max-forwards", &["0"])],
            b"",
        ),
        (
            "another method",
            b"GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "GET /",
            &[("max-forwards", &["0"])],
            b"",
        ),
        (
            "no number",
            b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: +0\r\n\r\n",
            "OPTIONS /",
            &[("max-forwards", &["+0"])],
            b"",
        ),
    ];
    assert_all_pass(rows);
    let (proxy, backend) = recording();
    let mut client = Client::connect(proxy.address);
    client.send("TRACE /a?b HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nX-A: 1\r\nMax-Forwards: 0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.value("content-type")), (200, Some("message/http")));
    assert_eq!(reply.text(), "TRACE /a?b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nMax-Forwards: 0\r\n\r\n");
    client.send("TRACE HTTPS://x:81/y?q HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(client.reply().text(), "TRACE HTTPS://x:81/y?q HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    client.send("OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.value("content-length")), (200, Some("0")));
    client.send(SECOND);
    assert_eq!(client.reply().status, 204);
    assert_eq!(Received::parse(&backend.next()).target, "/second");
}

#[test]
pub(super) fn bodies_of_known_length_pass() {
    let rows: &[Row] = &[
        ("five bytes", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST /", &[("content-length", &["5"])], b"hello"),
        ("none", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST /", &[("content-length", &["0"])], b""),
        ("neither length nor coding", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /", &[("content-length", &["0"])], b""),
        ("leading zeros", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000000000005\r\n\r\nhello", "PUT /", &[("content-length", &["5"])], b"hello"),
        ("the same twice", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello", "PUT /", &[("content-length", &["5"])], b"hello"),
        ("blanks around it", b"PUT / HTTP/1.1\r\nHost: a\r\nconTENT-Length: \t5\t \r\n\r\nhello", "PUT /", &[("content-length", &["5"])], b"hello"),
        ("with GET", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "GET /", &[("content-length", &["5"])], b"hello"),
        ("with DELETE", b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "DELETE /", &[("content-length", &["5"])], b"hello"),
        ("all bytes", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n\0\r\n\xff\r\n\r\n", "POST /", &[], b"\0\r\n\xff\r\n\r\n"),
        ("HTTP/1.0", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "POST /", &[("content-length", &["5"])], b"hello"),
        ("100-continue", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", "POST /", &[], b"hello"),
        ("an expectation in HTTP/1.0", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: more\r\nContent-Length: 5\r\n\r\nhello", "POST /", &[], b"hello"),
        ("Content-Length named by Connection", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length, Host, X-Forwarded-For, Via\r\nContent-Length: 5\r\n\r\nhello", "POST /", &[("content-length", &["5"]), ("x-forwarded-for", &["127.0.0.1"])], b"hello"),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn chunks_pass_and_their_framing_stays_here() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(250));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(60));
    let rows: &[(&str, &str)] = &[
        ("one", "5\r\nhello\r\n0\r\n\r\n"),
        ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("leading zeros", "0005\r\nhello\r\n00\r\n\r\n"),
        ("many zeros", &zeros),
        ("an extension", "5;a\r\nhello\r\n0;b=c\r\n\r\n"),
        ("a quoted extension", "5;a=\"b;c d\"\r\nhello\r\n0\r\n\r\n"),
        ("blanks before an extension", "5 \t; a = b\r\nhello\r\n0\r\n\r\n"),
        ("a long extension", &extension),
        ("an empty extension", "5;\r\nhello\r\n0;\r\n\r\n"),
        ("a quoted extension without end", "5;a=\"\r\nhello\r\n0\r\n\r\n"),
        ("trailers", "5\r\nhello\r\n0\r\nX-T: 1\r\nX-U:\r\n\r\n"),
        (
            "a trailer that would frame",
            "5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: b\r\n\r\n",
        ),
    ];
    for (label, body) in rows {
        let bytes = [head, body].concat();
        assert_all_pass(&[(label, bytes.as_bytes(), "POST /", &[("content-length", &["5"]), ("x-t", &[])], b"hello")]);
    }
    let rows: &[Row] = &[
        ("capitals", b"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING:CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", "POST /", &[("content-length", &["10"])], b"0123456789"),
        ("blanks around the coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tchunked \t\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", "POST /", &[("content-length", &["10"])], b"0123456789"),
        ("nothing", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /", &[("content-length", &["0"])], b""),
        ("with GET", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "GET /", &[("content-length", &["1"])], b"x"),
        ("100-continue", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST /", &[("content-length", &["1"])], b"x"),
        ("100-continue twice", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST /", &[("content-length", &["1"])], b"x"),
        ("100-continue in HTTP/1.0", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST /", &[("content-length", &["1"])], b"x"),
        ("the coding named by Connection", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST /", &[("content-length", &["1"])], b"x"),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn a_request_within_a_body_stays_a_body() {
    let sized =
        [format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len()).as_bytes(), SMUGGLED]
            .concat();
    let chunked = [
        format!("POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", SMUGGLED.len()).as_bytes(),
        SMUGGLED,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let in_extension =
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;GET /smuggled HTTP/1.1\r\nx\r\n0\r\n\r\n";
    let rows: &[Row] = &[
        ("sized", &sized, "POST /1", &[], SMUGGLED),
        ("chunked", &chunked, "POST /2", &[], SMUGGLED),
        ("in an extension", in_extension, "POST /3", &[], b"x"),
        (
            "in a field",
            b"GET /4 HTTP/1.1\r\nHost: a\r\nX-A: GET /smuggled HTTP/1.1\r\n\r\n",
            "GET /4",
            &[("x-a", &["GET /smuggled HTTP/1.1"])],
            b"",
        ),
        (
            "in the target",
            b"GET /5?%0d%0a%0d%0aGET%20/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /5?%0d%0a%0d%0aGET%20/smuggled",
            &[],
            b"",
        ),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn what_is_about_the_clients_own_connection_stays_here() {
    let rows: &[Row] = &[
        (
            "h2c",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
            "GET /",
            &[("upgrade", &[]), ("http2-settings", &[])],
            b"",
        ),
        ("no upgrade with HTTP/1.0", b"GET / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /", &[("upgrade", &[])], b""),
        ("an upgrade that Connection doesn't name", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET /", &[("upgrade", &[])], b""),
        ("odd lists", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, x-a ,(),keep-alive,\r\nX-A: 1\r\nX-B: 2\r\n\r\n", "GET /", &[("x-a", &[]), ("x-b", &["2"])], b""),
        ("bytes that are no list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: \xff, ;;; \"close\"\r\n\r\n", "GET /", &[], b""),
        ("an upgrade with a body", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", "POST /", &[("upgrade", &[])], b"x"),
        ("TE", b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers, chunked\r\nTrailer: X-T\r\nKeep-Alive: 300\r\n\r\n", "GET /", &[], b""),
    ];
    assert_all_pass(rows);
}

#[test]
pub(super) fn a_request_that_never_becomes_whole_reaches_no_backend() {
    let (proxy, backend) = recording();
    let rows: &[(&str, &[u8])] = &[
        ("a head", b"GET /half HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"),
        ("a sized body", b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "chunks",
            b"POST /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        ),
    ];
    for (label, bytes) in rows {
        for length in 0..bytes.len() {
            let mut client = Client::connect(proxy.address);
            client.send(&bytes[..length]);
            match length % 3 {
                0 => client.reset(),
                1 => client.stream.shutdown(Shutdown::Both).expect("an open connection"),
                _ => {
                    client.half_close();
                    assert!(client.is_closed(), "{label}, {length} bytes");
                }
            }
        }
    }
    assert_eq!(proxy.get("/whole").status, 204);
    assert_eq!(Received::parse(&backend.next()).target, "/whole");
    assert!(backend.requests.is_empty());
}

#[test]
pub(super) fn a_client_that_leaves_in_the_middle_of_a_long_body_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.spool_dir = directory.path().into());
    let open = || crate::clients::open_files_in(directory.path());
    let mut client = Client::connect(proxy.address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 300_000]);
    eventually("the body is spooled", || open() == 1);
    client.reset();
    eventually("the spool is closed", || open() == 0);
    assert!(backend.requests.is_empty());
}
