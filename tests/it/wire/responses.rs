//! What backends may answer, and what becomes of it. A liar's leg loses with its reason, and the race goes on; a winner that
//! begins to lie in its body has its client cut off. Each answer is sent whole and byte by byte.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};

use crate::harness::{Client, Connection, Gate, Proxy, Raw, Received, Reply, SOON, patiently};

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
enum Then {
    Waits,
    Closes,
    Resets,
}
use Then::{Closes, Resets, Waits};

/// What a backend sends.
struct Answer {
    label: String,
    bytes: Vec<u8>,
    then: Then,
}

fn answer(label: &str, bytes: impl AsRef<[u8]>, then: Then) -> Answer {
    Answer { label: label.to_owned(), bytes: bytes.as_ref().to_vec(), then }
}

/// An answer for each text between two others.
fn between(begin: &str, texts: &[&str], end: &str, then: Then) -> Vec<Answer> {
    let label = |text: &str| format!("{begin}{text}").escape_debug().to_string();
    texts.iter().map(|text| answer(&label(text), format!("{begin}{text}{end}"), then)).collect()
}

/// A backend that answers `/whole/3` and `/drip/3` with the fourth of these, and tells when it has; anything else with
/// `clean`.
fn answering(answers: Arc<Vec<Answer>>) -> (Raw, Receiver<()>) {
    let (sender, sent) = unbounded();
    let backend = Raw::serving(move |mut connection| {
        while let Some(request) = connection.request() {
            let target = Received::parse(&request).target;
            let number = target.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
            let Some(answer) = number.map(|number| &answers[number]) else {
                connection.reply(200, "clean");
                continue;
            };
            send(&mut connection, &answer.bytes, target.starts_with("/drip/"));
            let _ = sender.send(());
            match answer.then {
                Waits => {}
                Closes => return,
                Resets => return connection.reset(),
            }
        }
        connection.wait_for_hang_up();
    });
    (backend, sent)
}

fn send(connection: &mut Connection, bytes: &[u8], in_pieces: bool) {
    let size = if in_pieces { bytes.len() / super::PIECES_MAX + 1 } else { bytes.len().max(1) };
    bytes.chunks(size).for_each(|piece| connection.send(piece));
}

/// The targets of each answer, with its label.
fn targets(answers: &[Answer]) -> impl Iterator<Item = (String, &str)> {
    let numbered = answers.iter().enumerate();
    numbered.flat_map(|(number, answer)| {
        ["/whole", "/drip"].map(|pace| (format!("{pace}/{number}"), answer.label.as_str()))
    })
}

/// Each answer loses with this word and a reason, and another backend wins.
fn assert_all_lose(answers: Vec<Answer>, word: &str) {
    let answers = Arc::new(answers);
    let (liar, lied) = answering(answers.clone());
    let good = Raw::serving({
        let lied = lied.clone();
        move |mut connection| {
            while connection.request().is_some() {
                let _ = lied.recv_timeout(SOON);
                connection.reply(200, "good");
            }
        }
    });
    let alone = Proxy::with(std::slice::from_ref(&liar.url), patiently);
    let beside = Proxy::with(&[liar.url.clone(), good.url.clone()], patiently);
    for (target, label) in targets(&answers) {
        let reply = alone.get(&target);
        let text = reply.text();
        assert!(
            reply.status == 502 && text.contains(&format!(" {word}: ")),
            "{label}, {target}: {} {text}",
            reply.status
        );
        let _ = lied.recv_timeout(SOON);
        assert_eq!(beside.get(&target).text(), "good", "{label}, {target}");
    }
}

#[test]
pub(super) fn lines_of_a_head_that_others_read_differently_lose() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let mut answers = vec![
        answer("bare LF throughout", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Waits),
        answer("bare LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", Waits),
        answer("bare LF behind a field", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\nok", Waits),
        answer("bare LF at the end", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", Waits),
        answer("two bare LF at the end", "HTTP/1.1 200 OK\r\nContent-Length: 2\n\nok", Waits),
        answer(
            "bare LF in an interim answer",
            "HTTP/1.1 103 Early\nX-A: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Waits,
        ),
        answer("CR CR LF", "HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\n\r\nok", Waits),
        answer("bare CR behind the status line", "HTTP/1.1 200 OK\rContent-Length: 2\r\n\r\nok", Waits),
        answer("an empty line before", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Waits),
        answer("a line feed before", "\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Waits),
        answer("a blank before", " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Waits),
    ];
    let fields = [
        "X-A: b\r\n c",
        "X-A: b\r\n\tc",
        " X-A: b",
        "X-A : b",
        "X-A\t: b",
        ": b",
        "X A: b",
        "X-A",
        "X-\u{e9}: b",
        "X-(A): b",
        "X-\0: b",
        "X-A: b\0c",
        "X-A: b\rc",
        "X-A: b\x0bc",
        "X-A: b\x01",
        "X-A: b\x7f",
        "X-A: \x1b[2J",
        "X-A: b\r\r",
        "\0",
    ];
    answers.extend(between(ok, &fields, "\r\nContent-Length: 2\r\n\r\nok", Waits));
    assert_all_lose(answers, "protocol");
}

#[test]
pub(super) fn status_lines_that_are_none_lose() {
    let lines = [
        "HTTP/1.1 20",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1200 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 2 0 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\x1bK",
        "HTTP/1.1",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/3 200",
        "http/1.1 200 OK",
        "HTTP/1.1x 200 OK",
        "HTTP/11 200 OK",
        "HTTP 200 OK",
        "ICY 200 OK",
        "200 OK",
        "GET / HTTP/1.1",
        "SSH-2.0-OpenSSH_9.6",
        "220 mail ESMTP",
        "+OK",
        "\x15\x03\x01\x02\x02(",
        "<html>",
        "\0\0\0\0",
    ];
    assert_all_lose(between("", &lines, "\r\nContent-Length: 2\r\n\r\nok", Waits), "protocol");
}

#[test]
pub(super) fn lengths_and_codings_that_others_read_differently_lose() {
    let lengths = [
        "+2",
        "-2",
        "2,2",
        "2, 2",
        "2, 3",
        "2 2",
        "0x2",
        "2.0",
        "2e0",
        "",
        "two",
        "2;a",
        "18446744073709551616",
        "2\r\nContent-Length: 3",
        "2\r\nContent-Length: 02",
        "2\r\nContent-Length: ",
        "3\r\nContent-Length: 2",
    ];
    let mut answers = between("HTTP/1.1 200 OK\r\nContent-Length: ", &lengths, "\r\n\r\nok", Waits);
    let codings = [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "identity",
        "",
        "xchunked",
        "chunked;a",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: gzip",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\nContent-Length: 2",
        "gzip\r\nContent-Length: 2",
    ];
    answers.extend(between("HTTP/1.1 200 OK\r\nTransfer-Encoding: ", &codings, "\r\n\r\n2\r\nok\r\n0\r\n\r\n", Waits));
    answers.push(answer(
        "a length before a coding",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
    ));
    answers.push(answer(
        "a coding in HTTP/1.0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
    ));
    assert_all_lose(answers, "protocol");
}

/// The longest head that an answer may have.
const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;

/// An answer with a head of this many bytes.
fn head_of_length(length: usize) -> String {
    let (begin, end) = ("HTTP/1.1 200 OK\r\nX-A: ", "\r\nContent-Length: 2\r\n\r\n");
    format!("{begin}{}{end}ok", "x".repeat(length - begin.len() - end.len()))
}

#[test]
pub(super) fn heads_that_are_too_large_lose() {
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "A: b\r\n".repeat(count));
    let begun = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(129));
    let answers = vec![
        answer("129 fields", fields(128), Waits),
        answer("1,000 fields", fields(999), Waits),
        // It need not be waited for what is too much already.
        answer("129 fields without an end", begun, Waits),
    ];
    assert_all_lose(answers, "protocol");
    let long = |size: usize| format!("HTTP/1.1 200 OK\r\nX-A: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(size));
    let endless = format!("HTTP/1.1 200 OK\r\nX-A: {}", "x".repeat(25 * 1024));
    let answers = vec![
        answer("a byte too many", head_of_length(ANSWER_HEAD_BYTES_MAX + 1), Waits),
        answer("a long value", long(25 * 1024), Waits),
        answer("a longer one", long(100_000), Waits),
        answer("endless", endless, Waits),
    ];
    assert_all_lose(answers, "too-large");
}

#[test]
pub(super) fn answers_that_break_off_in_their_head_lose() {
    let begins = [
        "",
        "H",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\nX-A: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ];
    assert_all_lose(between("", &begins, "", Closes), "closed");
    assert_all_lose(between("", &begins, "", Resets), "reset");
}

#[test]
pub(super) fn a_switch_of_protocols_that_was_not_asked_for_loses() {
    let heads = [
        "",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n",
    ];
    assert_all_lose(between("HTTP/1.1 101 Switching Protocols\r\n", &heads, "\r\nok", Waits), "protocol");
}

/// The reply, or as much of it as came before the connection was cut.
fn reply_or_cut(client: &mut Client) -> Option<Reply> {
    let mut reply = client.head()?;
    client.read_body(&mut reply);
    Some(reply)
}

/// With either version of HTTP, no client takes what it gets for a whole body, and the next gets its own answer.
fn assert_all_are_cut(answers: Vec<Answer>) {
    let answers = Arc::new(answers);
    let (backend, _) = answering(answers.clone());
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    for (target, label) in targets(&answers) {
        for version in ["1.0", "1.1"] {
            let mut client = Client::connect(proxy.address);
            client.send(format!("GET {target} HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
            let reply = reply_or_cut(&mut client);
            // A reset may have overtaken the head, and a lie may have come with it: then the leg has lost before it could
            // win.
            let has_lost = |text: &str| [" reset: ", " protocol: "].iter().any(|word| text.contains(word));
            let is_cut = reply.as_ref().is_none_or(|reply| !reply.whole || has_lost(&reply.text()));
            assert!(is_cut, "{label}, {target}, {version}: {reply:?}");
            assert_eq!(proxy.get("/next").text(), "clean", "{label}, {target}");
        }
    }
}

/// Chunks that are none.
fn bad_chunks() -> Vec<Answer> {
    let bodies = [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\x0b\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5\u{a0}\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello",
        "5\nhello\n0\n\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\x01\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n+0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-T\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-T : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-T: 1\nX-U: 2\r\n\r\n",
        "5\r\nhello\r\n0\r\n folded\r\n\r\n",
        // It need not be waited for what can't become right.
        "5\n",
        "5\rh",
        "5\r\nhello\n",
        "5\r\nhello\rx",
        "5;\0",
    ];
    between("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bodies, "", Waits)
}

#[test]
pub(super) fn chunks_that_others_read_differently_are_cut_at_once() {
    assert_all_are_cut(bad_chunks());
}

/// Was seen as: a reset without a head, though another backend would have had an answer.
#[test]
pub(super) fn chunks_that_are_bad_from_the_begin_lose_and_the_race_goes_on() {
    let answers = Arc::new(bad_chunks());
    let ((liar, lied), good) = (answering(answers.clone()), Gate::new());
    let opened = good.clone();
    let honest = Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            opened.pass();
            connection.reply(200, "good");
        }
    });
    let alone = Proxy::with(std::slice::from_ref(&liar.url), patiently);
    for (number, answer) in answers.iter().enumerate() {
        let reply = alone.get(&format!("/whole/{number}"));
        assert!(reply.status == 502 && reply.text().contains(" protocol: "), "{}: {reply:?}", answer.label);
        lied.recv_timeout(SOON).expect("it has answered");
    }
    good.open();
    let beside = Proxy::with(&[liar.url.clone(), honest.url.clone()], patiently);
    assert_eq!(beside.get("/whole/0").text(), "good");
}

#[test]
pub(super) fn interim_answers_without_end_lose() {
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let with_fields = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(200);
    assert_all_lose(vec![answer("102", endless, Waits), answer("103", with_fields, Waits)], "protocol");
}

#[test]
pub(super) fn trailers_without_end_are_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    let answers = vec![
        answer("many", format!("{head}{}", "X-T: 1\r\n".repeat(4000)), Waits),
        answer("a long one", format!("{head}X-T: {}", "x".repeat(40_000)), Waits),
        answer("one that ends with the connection", format!("{head}X-T: 1"), Closes),
    ];
    assert_all_are_cut(answers);
}

#[test]
pub(super) fn other_statuses_lose_by_their_number() {
    for status in [304, 418, 599, 600, 999] {
        let bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
        assert_all_lose(vec![answer(&status.to_string(), bytes, Waits)], &status.to_string());
    }
}

/// A label, what the client asks for, what the backend answers and how that ends, and what the client gets: status,
/// Content-Length, Transfer-Encoding, Connection, body.
type Framed<'a> = (&'a str, &'a str, &'a str, Then, u16, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a str);

const OLD: &str = "GET /0 HTTP/1.0\r\n\r\n";
const KEPT: &str = "GET /0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const GET: &str = "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD /0 HTTP/1.1\r\nHost: a\r\n\r\n";
const IF: &str = "GET /0 HTTP/1.1\r\nHost: a\r\nIf-None-Match: x\r\n\r\n";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

fn assert_framed((label, request, bytes, then, status, length, coding, connection, body): Framed) {
    let (backend, _) = answering(Arc::new(vec![answer(label, bytes, then)]));
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut client = Client::connect(proxy.address);
    client.send(request);
    let mut reply = client.head().expect("a reply");
    if request != HEAD {
        client.read_body(&mut reply);
    }
    assert_eq!(reply.status, status, "{label}");
    assert_eq!(reply.values("content-length"), Vec::from_iter(length), "{label}");
    assert_eq!(reply.values("transfer-encoding"), Vec::from_iter(coding), "{label}");
    assert_eq!(reply.values("connection"), Vec::from_iter(connection), "{label}");
    assert!(reply.text() == body && reply.whole, "{label}: {reply:?}");
    if connection == Some("close") {
        assert!(client.is_closed(), "{label}");
        client = Client::connect(proxy.address);
    }
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().text(), "clean", "{label}: the next request");
}

#[test]
pub(super) fn bodies_are_framed_for_the_client_that_asked() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let trailers =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n2;a=b\r\nok\r\n0;c\r\nX-T: 1\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let old = "HTTP/1.0 200 OK\r\n\r\nok";
    let (chunks, close, keep) = (Some("chunked"), Some("close"), Some("keep-alive"));
    let rows: [Framed; 17] = [
        ("length", GET, sized, Waits, 200, Some("2"), None, None, "ok"),
        ("length, 1.0", OLD, sized, Waits, 200, Some("2"), None, close, "ok"),
        ("length, 1.0, kept", KEPT, sized, Waits, 200, Some("2"), None, keep, "ok"),
        (
            "the same length twice",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            Waits,
            200,
            Some("2"),
            None,
            None,
            "ok",
        ),
        (
            "a length with zeros",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok",
            Waits,
            200,
            Some("2"),
            None,
            None,
            "ok",
        ),
        ("length zero", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Waits, 200, Some("0"), None, None, ""),
        ("chunks", GET, chunked, Waits, 200, None, chunks, None, "ok"),
        ("chunks, 1.0", OLD, chunked, Waits, 200, None, None, close, "ok"),
        ("chunks, 1.0, kept", KEPT, chunked, Waits, 200, None, None, close, "ok"),
        ("trailers and extensions", GET, trailers, Waits, 200, None, chunks, None, "ok"),
        (
            "no chunk",
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Waits,
            200,
            None,
            chunks,
            None,
            "",
        ),
        ("until the close", GET, "HTTP/1.1 200 OK\r\n\r\nok", Closes, 200, None, chunks, None, "ok"),
        ("until the close, 1.0 behind", GET, old, Closes, 200, None, chunks, None, "ok"),
        ("until the close, 1.0", OLD, old, Closes, 200, None, None, close, "ok"),
        ("until the close, 1.0, kept", KEPT, old, Closes, 200, None, None, close, "ok"),
        ("nothing until the close", GET, "HTTP/1.1 200 OK\r\n\r\n", Closes, 200, None, chunks, None, ""),
        (
            "1.0 with a length",
            GET,
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Waits,
            200,
            Some("2"),
            None,
            None,
            "ok",
        ),
    ];
    rows.into_iter().for_each(assert_framed);
}

#[test]
pub(super) fn odd_bodies_are_framed_like_others() {
    // Was seen as: a reset, since ureq takes no more than 20 bytes for a chunk's size with its extensions.
    let long = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;signature={}\r\no\r\n{}1\r\nk\r\n0;signature=\"{}\"\r\nX-T: {}\r\n\r\n",
        "x".repeat(200),
        "0".repeat(100),
        "y".repeat(200),
        "z".repeat(10_000)
    );
    let (chunks, close) = (Some("chunked"), Some("close"));
    // Was seen as: a refusal, or a reset in mid-body, though nginx, haproxy and curl take padded sizes.
    let padded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1  \r\no\r\n1\t\r\nk\r\n0 \r\n\r\n";
    let rows: [Framed; 8] = [
        ("padded sizes", GET, padded, Waits, 200, None, chunks, None, "ok"),
        ("padded sizes, 1.0", OLD, padded, Waits, 200, None, None, close, "ok"),
        ("long extensions", GET, &long, Waits, 200, None, chunks, None, "ok"),
        ("long extensions, 1.0", OLD, &long, Waits, 200, None, None, close, "ok"),
        (
            "205 with a body",
            GET,
            "HTTP/1.1 205 X\r\nContent-Length: 2\r\n\r\nok",
            Waits,
            205,
            Some("2"),
            None,
            None,
            "ok",
        ),
        (
            "206",
            GET,
            "HTTP/1.1 206 X\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
            Waits,
            206,
            Some("2"),
            None,
            None,
            "ok",
        ),
        (
            "more than its length before the close",
            GET,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok, and more",
            Closes,
            200,
            Some("2"),
            None,
            None,
            "ok",
        ),
        (
            "a coding named by Connection",
            GET,
            "HTTP/1.1 200 OK\r\nConnection: transfer-encoding, content-length\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Waits,
            200,
            None,
            chunks,
            None,
            "ok",
        ),
    ];
    rows.into_iter().for_each(assert_framed);
}

#[test]
pub(super) fn head_204_and_304_have_no_body_whatever_the_backend_sends() {
    let head = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let none = |status: &str, fields: &str, body: &str| format!("HTTP/1.1 {status} X\r\n{fields}\r\n{body}");
    let (sized, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let rows: [(&str, &str, String, u16, Option<&str>); 16] = [
        ("HEAD", HEAD, head(sized, ""), 200, Some("5")),
        ("HEAD with a body", HEAD, head(sized, "hello"), 200, Some("5")),
        ("HEAD with an answer behind it", HEAD, head(sized, EVIL), 200, Some("5")),
        ("HEAD, nothing", HEAD, head("Content-Length: 0\r\n", ""), 200, Some("0")),
        ("HEAD, unknown", HEAD, head("", ""), 200, None),
        ("HEAD, chunks", HEAD, head(chunked, ""), 200, None),
        ("HEAD with chunks", HEAD, head(chunked, "5\r\nhello\r\n0\r\n\r\n"), 200, None),
        ("204", GET, none("204", "", ""), 204, None),
        ("204 with a length", GET, none("204", "Content-Length: 0\r\n", ""), 204, None),
        ("204 with a body", GET, none("204", sized, "hello"), 204, None),
        ("204 with an answer behind it", GET, none("204", "", EVIL), 204, None),
        ("204 with chunks", GET, none("204", chunked, "5\r\nhello\r\n0\r\n\r\n"), 204, None),
        ("304", IF, none("304", "", ""), 304, None),
        ("304 with a length", IF, none("304", sized, ""), 304, Some("5")),
        ("304 with a body", IF, none("304", sized, "hello"), 304, Some("5")),
        ("304 with chunks", IF, none("304", chunked, "5\r\nhello\r\n0\r\n\r\n"), 304, None),
    ];
    for (label, request, bytes, status, length) in &rows {
        assert_framed((label, request, bytes, Waits, *status, *length, None, None, ""));
    }
}

#[test]
pub(super) fn bytes_behind_an_answer_reach_no_client() {
    for answer in
        ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n"]
    {
        let bytes = format!("{answer}{EVIL}{EVIL}");
        assert_framed(("a length", GET, &bytes, Waits, 200, Some("2"), None, None, "ok"));
    }
    let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{EVIL}");
    assert_framed(("chunks", GET, &bytes, Waits, 200, None, Some("chunked"), None, "ok"));
}

#[test]
pub(super) fn odd_heads_pass() {
    let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "A: b\r\n".repeat(count - 1));
    let (fields_65, fields_100, fields_128) = (many(65), many(100), many(128));
    let longest = head_of_length(ANSWER_HEAD_BYTES_MAX);
    let long = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(23 * 1024));
    let rows = [
        ("no reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        ("no blank either", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        ("a long reason", "HTTP/1.1 200 It's all right, isn't it? \u{e9}\t!\r\nContent-Length: 2\r\n\r\nok"),
        ("no blank behind the colon", "HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok"),
        ("blanks around a length", "HTTP/1.1 200 OK\r\nCONTENT-LENGTH: \t2 \t\r\n\r\nok"),
        ("an unknown success", "HTTP/1.1 299 Miscellaneous\r\nContent-Length: 2\r\n\r\nok"),
        ("65 fields", &fields_65),
        ("100 fields", &fields_100),
        ("128 fields", &fields_128),
        ("23 KiB", &long),
        ("24 KiB", &longest),
        (
            "an upgrade that is offered",
            "HTTP/1.1 200 OK\r\nUpgrade: h2c, websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok",
        ),
        ("100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "100 with fields",
            "HTTP/1.1 100 Continue\r\nDate: now\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        ("100 without reason", "HTTP/1.1 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "102, 103, 199",
            "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: </a>\r\n\r\nHTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
    ];
    let answers: Arc<Vec<Answer>> = Arc::new(rows.iter().map(|(label, bytes)| answer(label, bytes, Waits)).collect());
    let (backend, _) = answering(answers.clone());
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    let mut client = Client::connect(proxy.address);
    for (target, label) in targets(&answers) {
        client.send_request("GET", &target, &[], None);
        let reply = client.reply();
        assert!(
            matches!(reply.status, 200 | 299) && reply.text() == "ok" && reply.whole,
            "{label}, {target}: {reply:?}"
        );
        assert_eq!(
            (reply.value("link"), reply.value("upgrade"), reply.values("content-length")),
            (None, None, vec!["2"]),
            "{label}"
        );
    }
    assert_eq!(backend.accepted(), 1, "all on one line");
}

#[test]
pub(super) fn fields_pass_in_order_and_what_is_missing_is_added() {
    let values = [("", ""), ("\u{e9} \u{1f41c}", ""), ("a\tb", ""), ("a: b, \"c\"", "")];
    for (value, _) in values {
        let bytes = format!(
            "HTTP/1.1 200 OK\r\nX-A: {value}\r\nSet-Cookie: a=1\r\nX-B: 1\r\nSet-Cookie: b=2\r\nset-cookie: a=3\r\nServer: of its own\r\nVia: 1.0 other\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\0\r\n"
        );
        let (backend, _) = answering(Arc::new(vec![answer(value, bytes, Waits)]));
        let reply = Proxy::with(std::slice::from_ref(&backend.url), patiently).get("/0");
        let seen: String = value.bytes().map(char::from).collect();
        assert_eq!(reply.values("x-a"), [seen.as_str()]);
        assert_eq!(reply.values("set-cookie"), ["a=1", "b=2", "a=3"]);
        assert_eq!((reply.values("server"), reply.values("content-encoding")), (vec!["of its own"], vec!["gzip"]));
        assert_eq!(reply.values("date").len(), 1);
        assert!(reply.values("via").len() == 2 && reply.values("via")[1].ends_with(" (red-tentacle)"));
        assert_eq!(reply.body, b"\x1f\0\r\n");
    }
    let bytes = "HTTP/1.1 200 OK\r\nDate: its own\r\nContent-Length: 0\r\n\r\n";
    let (backend, _) = answering(Arc::new(vec![answer("a date", bytes, Waits)]));
    let reply = Proxy::with(std::slice::from_ref(&backend.url), patiently).get("/0");
    assert_eq!((reply.values("date"), reply.values("server")), (vec!["its own"], vec![]));
}
