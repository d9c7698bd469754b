//! What is refused, with which status, and that nothing behind it is ever served. Each row is sent whole, with a second
//! request right behind it, and byte by byte.

use std::io::{Read, Write};

use super::{drip, final_reply};
use crate::harness::{Client, Proxy, Raw, Received, beside_each_other};

/// A label, the bytes, the status and a part of the reason.
type Row = (String, Vec<u8>, u16, &'static str);

const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

const FORM: &str = "isn't a method, a target and a version";
const TLS: &str = "TLS, which isn't spoken on this port";
const LINE_END: &str = "doesn't end with CR LF";
const NAME: &str = "isn't a token";
const VALUE: &str = "has a control character";

fn assert_all_refused(rows: &[Row]) {
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.max_body = 64 * 1024);
    for (label, bytes, status, reason) in rows {
        let paces: [(&str, &(dyn Fn(&mut Client) + Sync)); 3] = [
            ("whole", &|client| drop(client.stream.write_all(bytes))),
            ("with a second behind it", &|client| drop(client.stream.write_all(&[bytes, SMUGGLED].concat()))),
            ("byte by byte", &|client| drip(client, bytes)),
        ];
        // Half of HTTP/2 is waited for, and nothing else.
        beside_each_other(paces, |(pace, send)| {
            let mut client = Client::connect(proxy.address);
            send(&mut client);
            let reply = final_reply(&mut client);
            assert_eq!(reply.status, *status, "{label}, {pace}: {}", reply.text());
            assert!(reply.text().contains(reason), "{label}, {pace}: {}", reply.text());
            assert!(reply.whole && reply.values("connection") == ["close"], "{label}, {pace}");
            assert!(client.is_closed(), "{label}, {pace}");
        });
        // Whatever reached the backend would be there before this.
        assert_eq!(proxy.get("/after").status, 204);
        assert_eq!(Received::parse(&backend.next()).target, "/after", "{label}");
    }
    assert!(backend.requests.is_empty());
}

fn row(label: &str, bytes: impl AsRef<[u8]>, status: u16, reason: &'static str) -> Row {
    (label.to_owned(), bytes.as_ref().to_vec(), status, reason)
}

/// A row for each text between two others.
fn between(begin: &[u8], texts: &[&[u8]], end: &[u8], status: u16, reason: &'static str) -> Vec<Row> {
    let label = |text: &[u8]| String::from_utf8_lossy(&[begin, text].concat()).escape_debug().to_string();
    texts.iter().map(|text| (label(text), [begin, text, end].concat(), status, reason)).collect()
}

#[test]
pub(super) fn request_lines_that_are_none_are_refused() {
    let lines: &[&[u8]] = &[
        b"/ HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /",
        b"GET",
        b"GET HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET: / HTTP/1.1",
        b"G\xc3\x89T / HTTP/1.1",
        b"G\0T / HTTP/1.1",
        b"\"GET\" / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/11",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTP/1.1x",
        b"GET / HTTP /1.1",
        b"GET / HTTP/ 1.1",
        b"GET / HTTP/+1.1",
        b"GET / HTTP/1,1",
        b"GET / HTTPS/1.1",
        b"GET / ICY/1.0",
        b"GET / HTTP/a.b",
        b"HTTP/1.1 200 OK",
    ];
    assert_all_refused(&between(b"", lines, b"\r\nHost: a\r\n\r\n", 400, ""));
}

#[test]
pub(super) fn targets_that_are_none_are_refused() {
    let mut rows = between(
        b"GET ",
        &[b"/a#b", b"/#", b"/?a#b", b"http://b/#c", b"#"],
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "has a fragment",
    );
    let relative: &[&[u8]] = &[
        b"a",
        b"a/b",
        b"a:80",
        b"../a",
        b"?a",
        b"\\a",
        b"*a",
        b"http:",
        b"http:/a",
        b"http://",
        b"http:///a",
        b"http://?a",
        b"http://u@b/",
        b"http://u:p@b/",
        b"http://b:x/",
        b"http://b:99999/",
        b"http://[::1/",
        b"http://b c/",
        b"ftp://b/",
        b"ws://b/",
        b"file:///etc/passwd",
        b"javascript:alert(1)",
        b"http//b/",
        b"://b/",
        b"http://b\\c/",
    ];
    rows.extend(between(b"GET ", relative, b" HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""));
    rows.extend(between(
        b"",
        &[b"GET", b"POST", b"BREW"],
        b" * HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "goes with OPTIONS only",
    ));
    let bytes: &[&[u8]] = &[b"\0", b"\x01", b"\x0b", b"\x1f", b"\x7f", b"\t", b"\r", b"\xe9", b"\xff\xfe"];
    rows.extend(between(b"GET /a", bytes, b"b HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""));
    rows.extend(between(b"GET http://a", bytes, b"b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn other_versions_and_protocols_are_refused() {
    let versions: &[&[u8]] =
        &[b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/5.6", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.0"];
    let mut rows = between(b"GET / ", versions, b"\r\nHost: a\r\n\r\n", 505, "Only HTTP/1.0 and HTTP/1.1");
    rows.push(row("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505, "Only HTTP/1.0 and HTTP/1.1"));
    rows.extend([
        row("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, TLS),
        row("TLS with a line end in it", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n", 400, TLS),
        row("no handshake", b"\x16\x16\x03\x01", 400, FORM),
        row("the end of TLS", b"\x15\x03\x01\x00\x02\x01\x00", 400, FORM),
        row("SSH", "SSH-2.0-OpenSSH_9.6\r\n\r\n", 400, FORM),
        row("the PROXY protocol", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, FORM),
        row("the PROXY protocol, 2", b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", 400, ""),
        row("noise", b"\0\xff\x80\r\n\r\n", 400, FORM),
        row("JSON", "{\"a\": 1}\r\n\r\n", 400, FORM),
    ]);
    let connect: &[&[u8]] = &[b"a:443", b"/", b"*", b"http://a/", b"[::1]:443"];
    rows.extend(between(b"CONNECT ", connect, b" HTTP/1.1\r\nHost: a\r\n\r\n", 501, "CONNECT"));
    let expectations: &[&[u8]] = &[b"x", b"100-continue, x", b"200-ok", b"100-continue=1", b"100-continue,, x", b"100"];
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: ",
        expectations,
        b"\r\n\r\nabc",
        417,
        "100-continue",
    ));
    rows.push(row(
        "two expectations",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc",
        417,
        "100-continue",
    ));
    assert_all_refused(&rows);
}

/// Was seen as: bytes that a client of HTTP/2 can't read, "Empty reply from server" in curl's words.
#[test]
pub(super) fn a_client_of_http_2_is_answered_in_frames() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const REQUEST: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let sentence = "Only HTTP/1.0 and HTTP/1.1 are spoken here, not HTTP/2\n";
    let rows = [
        (PREFACE.to_vec(), false, vec![4, 7]),
        (PREFACE.to_vec(), true, vec![4, 7]),
        ([PREFACE, REQUEST].concat(), false, vec![4, 4, 1, 0, 7]),
    ];
    for (sent, is_all, kinds) in rows {
        let mut client = Client::connect(proxy.address);
        client.send(&sent);
        if is_all {
            client.half_close();
        }
        for kind in &kinds {
            let head = client.read_exact(9);
            assert_eq!(head[3], *kind, "{kinds:?}");
            let payload = client.read_exact(usize::from(head[1]) << 8 | usize::from(head[2]));
            let text = String::from_utf8_lossy(&payload);
            match kind {
                0 => assert_eq!((text.as_ref(), head[4], head[8]), (sentence, 1, 1), "the end of the stream"),
                1 => assert!(text.contains("505") && text.contains("text/plain"), "{text:?}"),
                7 => assert!(payload[4..8] == *b"\0\0\0\x0d" && text.ends_with(sentence), "{text:?}"),
                _ => assert_eq!(payload, b""),
            }
        }
        assert!(client.is_closed(), "{kinds:?}");
    }
    assert!(backend.requests.is_empty());
}

#[test]
pub(super) fn fields_that_are_none_are_refused() {
    let names: &[&[u8]] = &[
        b"",
        b" ",
        b"X-A ",
        b"X-A\t",
        b"X A",
        b"X\tA",
        b"X-\0A",
        b"X-\x01A",
        b"X-\x7fA",
        b"X-\xc3\xa9",
        b"X-(A)",
        b"X/A",
        b"X@A",
        b"X[A]",
        b"X{A}",
        b"\"X\"",
        b"X=A",
        b"X;A",
        b"X,A",
        b"X<A>",
        b"X?A",
        b"X\\A",
        b"X\rA",
        b"X\x0bA",
        b"Transfer-Encoding ",
        b"Content-Length\t",
        b"Transfer-Encoding\0",
        b"Host ",
        b"Transfer-Encoding\x0b",
    ];
    let mut rows = between(b"GET / HTTP/1.1\r\nHost: a\r\n", names, b": chunked\r\n\r\n", 400, NAME);
    rows.push(row("no colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", 400, NAME));
    rows.push(row("no colon, with a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A b\r\n\r\n", 400, NAME));
    let folded: &[&[u8]] = &[
        b"X-A: b\r\n c",
        b"X-A: b\r\n\tc",
        b"X-A:\r\n b",
        b"X-A: b\r\n \r\nX-B: c",
        b"X-A: b\r\n X-B: c",
        b"Transfer-Encoding:\r\n chunked",
        b"X-A: b\r\n ",
        b" X-A: b",
    ];
    rows.extend(between(b"GET / HTTP/1.1\r\nHost: a\r\n", folded, b"\r\n\r\n", 400, NAME));
    rows.push(row("the first line folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, NAME));
    let values: &[&[u8]] =
        &[b"\0", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x1f", b"\x7f", b"\r", b"\rContent-Length: 5", b"\r\r"];
    rows.extend(between(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b", values, b"c\r\n\r\n", 400, ""));
    rows.extend(between(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b", &values[..8], b"\r\n\r\n", 400, VALUE));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn lines_that_do_not_end_with_cr_lf_are_refused() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
        b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let mut rows = between(b"", heads, b"", 400, LINE_END);
    let returns: &[&[u8]] = &[
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\r\nHost: a\r\n\r\n",
    ];
    rows.extend(between(b"", returns, b"", 400, ""));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn a_host_that_is_none_or_two_is_refused() {
    let hosts: &[&[u8]] = &[
        b"a b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"u@a",
        b"u:p@a",
        b"@",
        b"http://a",
        b"a:b",
        b"a:-1",
        b"a:+80",
        b"a:80:80",
        b"a:65536",
        b"a:99999",
        b":80x",
        b"[::1",
        b"::1]",
        b"[::1]x",
        b"a\tb",
        b"caf\xc3\xa9",
        b"caf\xe9",
        b"a<b>",
        b"a\"b",
        b"[a]b]",
    ];
    let mut rows = between(b"GET / HTTP/1.1\r\nHost: ", hosts, b"\r\n\r\n", 400, "Host isn't a host");
    rows.extend([
        row("no Host", "GET / HTTP/1.1\r\n\r\n", 400, "Host is missing"),
        row("no Host, other fields", "GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", 400, "Host is missing"),
        row("no Host with an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n", 400, "Host is missing"),
        row("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than once"),
        row("the same twice", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\nhost: a\r\n\r\n", 400, "more than once"),
        row("two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than once"),
        row("bad in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", 400, "Host isn't a host"),
        row("bad beside an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host isn't a host"),
    ]);
    assert_all_refused(&rows);
}

#[test]
pub(super) fn lengths_that_are_none_or_two_are_refused() {
    let lengths: &[&[u8]] = &[
        b"",
        b"\t",
        b"+5",
        b"-5",
        b"-0",
        b"5,5",
        b"5, 5",
        b"5,",
        b",5",
        b"5 5",
        b"0x5",
        b"5.0",
        b"5e0",
        b"five",
        b"5;a",
        b"\"5\"",
        b"_5",
        b"1_0",
        b"5\tx",
        b"0b1",
        b"\xef\xbc\x95",
        b"\xb2",
        b"NaN",
        b"18446744073709551616",
        b"99999999999999999999999999",
        b"-18446744073709551611",
        b"5, 6",
        b"chunked",
    ];
    let mut rows = between(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ",
        lengths,
        b"\r\n\r\nhello",
        400,
        "isn't one run of digits",
    );
    let others: &[&[u8]] = &[b"6", b"05", b"", b"5, 5", b"+5", b"0"];
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: ",
        others,
        b"\r\n\r\nhello",
        400,
        "twice with different values",
    ));
    rows.extend(between(
        b"POST / HTTP/1.0\r\nContent-Length: ",
        &[b"+5", b"5\r\nContent-Length: 6"],
        b"\r\n\r\nhello",
        400,
        "Content-Length",
    ));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn codings_that_are_not_exactly_one_chunked_are_refused() {
    const BODY: &[u8] = b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let begin = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ";
    let mut rows = between(
        begin,
        &[
            b"chunked, chunked",
            b"chunked,chunked",
            b"chunked,",
            b",chunked",
            b"",
            b",",
            b"identity",
            b"identity, chunked",
            b"chunked, identity",
            b"\t,chunked",
        ],
        BODY,
        400,
        "isn't exactly one chunked",
    );
    let unknown: &[&[u8]] = &[
        b"gzip",
        b"gzip, chunked",
        b"chunked, gzip",
        b"deflate",
        b"compress, chunked",
        b"br",
        b"xchunked",
        b"chunkedx",
        b"chunk",
        b"chunked;q=1",
        b"chunked; a",
        b"\"chunked\"",
        b"'chunked'",
        b"chunked chunked",
        b"cow",
        b"cow, chunked",
        b"\xffchunked",
        b"chunked\xff",
        b"ch\xc5\xabnked",
        b"chun ked",
        b"trailers",
        b"chunked:",
        b"[chunked]",
        b"0",
        b"chunked-1",
    ];
    rows.extend(between(begin, unknown, BODY, 501, "transfer coding"));
    rows.extend(between(
        begin,
        &[b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\0", b"\0chunked", b"chunked\x7f"],
        BODY,
        400,
        VALUE,
    ));
    let again: &[&[u8]] = &[b"chunked", b"identity", b"gzip", b"", b"cow"];
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: ",
        again,
        BODY,
        400,
        "more than once",
    ));
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
        &[b"identity", b"cow"],
        b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "more than once",
    ));
    let codings: &[&[u8]] = &[b"chunked", b"identity", b"", b"cow", b"gzip, chunked"];
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: ",
        codings,
        BODY,
        400,
        "Both",
    ));
    rows.extend(between(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
        codings,
        b"\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "Both",
    ));
    rows.extend(between(b"POST / HTTP/1.0\r\nTransfer-Encoding: ", codings, BODY, 400, "HTTP/1.0"));
    rows.push(row("both, at odds", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Both"));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn chunks_that_are_none_are_refused() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sizes: &[&[u8]] = &[
        b"",
        b"+5",
        b"-5",
        b"0x5",
        b"0X5",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"g",
        b"5g",
        b"5.",
        b"5,",
        b"5_0",
        b"5 5",
        b"5h",
        b"\xef\xbc\x95",
        b"10000000000000000",
        b"fffffffffffffffff",
        b"-1",
        b"5\xa0",
        b"5:a",
        b"\"5\"",
        b";a",
        b" ;a",
    ];
    let mut rows = between(head, sizes, b"\r\nhello\r\n0\r\n\r\n", 400, "size isn't a hex number");
    let bare: &[&[u8]] = &[
        b"5\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\0\r\nhello\r\n0\r\n\r\n",
        b"5;\x7f\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\r\nX-T: 1\n\r\n",
        b"5\r\nhello\r\n0\r\nX-T: 1\rX-U: 2\r\n\r\n",
        b"\n5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX-T: \0\r\n\r\n",
    ];
    rows.extend(between(head, bare, b"", 400, LINE_END));
    let long: &[&[u8]] = &[
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\rx0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello \r\n0\r\n\r\n",
    ];
    rows.extend(between(head, long, b"", 400, "longer than its size"));
    let trailers: &[&[u8]] = &[
        b"X-T",
        b"X-T 1",
        b": 1",
        b" X-T: 1",
        b"X-T : 1",
        b"X-T: 1\r\n folded",
        b"X T: 1",
        b"X-\xc3\xa9: 1",
        b"GET /smuggled HTTP/1.1",
    ];
    rows.extend(between(
        &[&head[..], b"5\r\nhello\r\n0\r\n"].concat(),
        trailers,
        b"\r\n\r\n",
        400,
        "trailer isn't a field",
    ));
    let extension = [&head[..], b"5;", &[b'x'; 300], b"\r\nhello\r\n0\r\n\r\n"].concat();
    rows.push(row("a very long extension", &extension, 400, "too long"));
    rows.push(row("an endless extension", &extension[..extension.len() - 17], 400, "too long"));
    rows.push(row("endless zeros", [&head[..], &[b'0'; 300]].concat(), 400, "too long"));
    rows.push(row(
        "many trailers",
        [&head[..], b"0\r\n", &b"X-T: 1\r\n".repeat(600), b"\r\n"].concat(),
        431,
        "trailers",
    ));
    // Was seen as: one trailer that is too long was a line that is too long, 400, where several were 431.
    for (label, length) in [("a trailer of 5,000 bytes", 5000), ("one just above the bound", 4096)] {
        let trailer = [&head[..], b"0\r\nX-T: ", &vec![b'x'; length], b"\r\n\r\n"].concat();
        rows.push(row(label, &trailer, 431, "trailers"));
    }
    rows.push(row("an endless trailer", [&head[..], b"0\r\nX-T: ", &[b'x'; 5000]].concat(), 431, "trailers"));
    assert_all_refused(&rows);
}

#[test]
pub(super) fn what_is_too_long_is_refused() {
    let target = "x".repeat(8 * 1024);
    let value = "x".repeat(32 * 1024);
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "x".repeat(40_000)).repeat(2);
    let many = "A: b\r\n".repeat(100);
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let rows = [
        row("a target", format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "target"),
        row("an absolute target", format!("GET http://a/{target} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "target"),
        row("a target without end", format!("GET /{target}{target}"), 414, "target"),
        row("a value", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {value}\r\n\r\n"), 431, "--max-head"),
        row("a value without end", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {value}"), 431, "--max-head"),
        row("a name", format!("GET / HTTP/1.1\r\nHost: a\r\n{value}: b\r\n\r\n"), 431, "--max-head"),
        row("a method", format!("{value} / HTTP/1.1\r\nHost: a\r\n\r\n"), 431, "--max-head"),
        row("a method without end", format!("{value}x"), 431, "--max-head"),
        row("101 fields", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "100 fields"),
        row("a body", format!("{post}Content-Length: 65537\r\n\r\n"), 413, "--max-body"),
        row(
            "a body that waits",
            format!("{post}Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n"),
            413,
            "--max-body",
        ),
        row("the longest length", format!("{post}Content-Length: 18446744073709551615\r\n\r\n"), 413, "--max-body"),
        row("chunks", format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"), 413, "--max-body"),
        row(
            "the longest chunk",
            [format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").as_bytes(), &vec![b'x'; 65_537]]
                .concat(),
            413,
            "--max-body",
        ),
    ];
    assert_all_refused(&rows);
}

#[test]
pub(super) fn a_refused_request_hides_nothing_behind_the_ones_before_it() {
    let backend = Raw::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let bodies: &[(&str, &[u8])] = &[
        ("CL.TE", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
        ("TE.CL", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n24\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n"),
        ("TE.TE", b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n0\r\n\r\n"),
        ("CL.CL", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 35\r\n\r\n"),
        ("CL.0", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 35\r\n\r\n"),
        ("TE.0", b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        ("a folded coding", b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
        ("a chunk's bare LF", b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\n0\r\n\r\n"),
    ];
    for (label, bytes) in bodies {
        let mut client = Client::connect(proxy.address);
        client.send([b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", *bytes, SMUGGLED, SMUGGLED].concat());
        assert_eq!(client.reply().status, 204, "{label}");
        let reply = client.reply();
        assert!(matches!(reply.status, 400 | 501), "{label}");
        assert!(client.is_closed(), "{label}");
        assert_eq!(Received::parse(&backend.next()).target, "/1", "{label}");
    }
    assert_eq!(proxy.get("/last").status, 204);
    assert_eq!(Received::parse(&backend.next()).target, "/last");
    assert!(backend.requests.is_empty());
}

/// What follows a head by which no body follows would be the next reply's (RFC 9110 §9.3.2).
#[test]
fn a_refused_head_has_the_length_of_its_reason_and_no_body() {
    let proxy = Proxy::before(&["http://127.0.0.1:9".to_owned()]);
    let long = format!("HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8200));
    let rows = [
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n", 413),
        ("HEAD http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("HEAD * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (&long, 414),
    ];
    for (bytes, status) in rows {
        let mut client = Client::connect(proxy.address);
        client.send(bytes);
        let mut reply = String::new();
        client.stream.read_to_string(&mut reply).expect("an end in order");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:.40}: {reply}");
        assert!(reply.ends_with("\r\n\r\n") && reply.to_ascii_lowercase().contains("\r\ncontent-length: "), "{reply}");
    }
}
