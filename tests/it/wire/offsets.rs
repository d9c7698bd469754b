//! Answers that their backend breaks off after each of their bytes, in every way in which a connection ends. What a client gets
//! looks whole only if it is, and it gets all that came before an end in order.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::harness::{Backend, Client, Far, Framing, Proxy, Received, Reply, SOON, beside_each_other};

/// How a backend ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order, under TLS with its farewell.
    InOrder,
    /// In TCP's order, but without TLS's farewell.
    Cut,
    Reset,
}

/// When it sends the rest behind the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// All in one go.
    AtOnce,
    /// When the client has the head.
    BehindHead,
    /// The same, and byte by byte.
    Dripping,
}

/// An answer, and what a client is to have got of it.
struct Answer {
    label: &'static str,
    framing: Framing,
    bytes: &'static str,
    /// Where its own head ends, behind any interim ones.
    head: usize,
    /// The start and the end of each piece of its body.
    pieces: Vec<(usize, usize)>,
}

const BODY: &str = "hello world";
/// The clients that ask for what breaks off behind the head, and how it comes to them.
const READERS: [(&str, Pace); 4] =
    [("1.1", Pace::AtOnce), ("1.0", Pace::AtOnce), ("1.1", Pace::BehindHead), ("1.0", Pace::Dripping)];

impl Answer {
    /// The body is in these pieces, in this order.
    fn new(label: &'static str, framing: Framing, bytes: &'static str, pieces: &[&str]) -> Answer {
        let head = bytes.rfind("\r\n\r\n").filter(|_| framing != Framing::Chunked);
        // Chunks may end with an empty line, too.
        let head = head.or_else(|| bytes.find("\r\n\r\n")).expect("a head") + 4;
        let mut at = head;
        let found = |piece: &&str| {
            let begin = at + bytes[at..].find(piece).expect("a piece of the body");
            at = begin + piece.len();
            (begin, at)
        };
        Answer { label, framing, bytes, head, pieces: pieces.iter().map(found).collect() }
    }

    /// How much of the body is in the answer's first bytes.
    fn body_in(&self, sent: usize) -> &'static str {
        let in_piece = |(begin, end): &(usize, usize)| sent.clamp(*begin, *end) - begin;
        &BODY[..self.pieces.iter().map(in_piece).sum()]
    }

    /// Whether it is whole if that is all, and the connection ends like this. `None`: the last chunk has come, so nothing of the
    /// body is missing (RFC 9112 §8), but what follows it hasn't.
    fn is_whole(&self, sent: usize, end: End, is_tls: bool) -> Option<bool> {
        match self.framing {
            Framing::UntilClose => Some(end == End::InOrder || (end == End::Cut && !is_tls)),
            Framing::Chunked if sent < self.bytes.len() && sent >= self.last_chunk_end() => None,
            _ => Some(sent == self.bytes.len()),
        }
    }

    /// Where the size line of the last chunk ends.
    fn last_chunk_end(&self) -> usize {
        let begin = self.pieces.last().expect("a piece").1 + 2;
        begin + self.bytes[begin..].find("\r\n").expect("a line") + 2
    }
}

fn answers() -> [Answer; 6] {
    [
        Answer::new("sized", Framing::Sized, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", &[BODY]),
        Answer::new(
            "sized, behind an interim answer",
            Framing::Sized,
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            &[BODY],
        ),
        Answer::new(
            "chunked",
            Framing::Chunked,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            &["hello", " world"],
        ),
        Answer::new(
            "chunked, with extensions and trailers",
            Framing::Chunked,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5;a=\"b\"\r\nhello\r\n006 ;c\r\n world\r\n00;d\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
            &["hello", " world"],
        ),
        Answer::new("until the close", Framing::UntilClose, "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhello world", &[BODY]),
        Answer::new("of HTTP/1.0", Framing::UntilClose, "HTTP/1.0 200 OK\r\n\r\nhello world", &[BODY]),
    ]
}

/// A request for an answer that breaks off: `/2/117/Reset/AtOnce`.
fn target(answer: usize, sent: usize, end: End, pace: Pace) -> String {
    format!("/{answer}/{sent}/{end:?}/{pace:?}")
}

/// Sends this many bytes of an answer, and ends as it is told.
fn break_off(mut far: Far, answers: &[Answer], has_head: impl Fn()) {
    let Some(request) = far.request() else { return };
    let target = Received::parse(&request).target;
    let words: Vec<&str> = target.split('/').skip(1).collect();
    let [answer, sent, end, pace] = words[..] else { panic!("{target}") };
    let answer = &answers[answer.parse::<usize>().expect("a number")];
    let bytes = &answer.bytes.as_bytes()[..sent.parse::<usize>().expect("a number")];
    if pace == "AtOnce" {
        far.send(bytes);
    } else {
        let (head, rest) = bytes.split_at(answer.head);
        far.send(head);
        has_head();
        let size = if pace == "Dripping" { 1 } else { rest.len().max(1) };
        rest.chunks(size).for_each(|piece| far.send(piece));
    }
    match end {
        "InOrder" => far.close(),
        "Cut" => far.cut(),
        _ => far.reset(),
    }
}

/// What a client of this version gets: as much as there is, if there is anything. It may tell when it has the head.
fn ask(proxy: &Proxy, version: &str, target: &str, has_head: Option<&Sender<()>>) -> Option<Reply> {
    let mut client = Client::connect(proxy.address);
    client.send(format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n"));
    let mut reply = client.head()?;
    if let Some(has_head) = has_head {
        has_head.send(()).expect("the backend listens");
    }
    client.read_body(&mut reply);
    Some(reply)
}

/// What a backend broke off behind its head, as the client of either version got it.
fn assert_rest(label: &str, answer: &Answer, sent: usize, end: End, is_whole: Option<bool>, reply: Option<Reply>) {
    if end == End::Reset {
        // It may overtake whatever was sent before.
        let Some(reply) = reply else { return };
        let has_lost = reply.status == 502 && reply.text().contains(" reset: ");
        let is_begin = reply.status == 200 && answer.body_in(sent).starts_with(&reply.text());
        assert!(has_lost || (is_begin && (!reply.whole || is_whole != Some(false))), "{label}: {reply:?}");
        return;
    }
    let reply = reply.unwrap_or_else(|| panic!("{label}: nothing"));
    let expected = (200, answer.body_in(sent), is_whole.unwrap_or(reply.whole));
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), expected, "{label}");
}

/// Breaks every answer off after each of its bytes, in these ways.
fn assert_breaks_are_seen(is_tls: bool, ends: &[End]) {
    let answers = Arc::new(answers());
    let (sender, seen) = bounded(1);
    let told = answers.clone();
    let backend = Backend::serving(is_tls, move |far| {
        break_off(far, told.as_slice(), || seen.recv_timeout(SOON).expect("the client has the head"));
    });
    let proxy = backend.proxy(|_| {});
    for (number, answer) in answers.iter().enumerate() {
        for (sent, end) in (0..=answer.bytes.len()).flat_map(|sent| ends.iter().map(move |end| (sent, *end))) {
            let label = format!("TLS: {is_tls}, {}, {sent} bytes, {end:?}", answer.label);
            if sent < answer.head {
                let reply = ask(&proxy, "1.1", &target(number, sent, end, Pace::AtOnce), None).expect("a refusal");
                let word = if end == End::Reset { " reset: " } else { " closed: " };
                assert!(reply.status == 502 && reply.text().contains(word), "{label}: {}", reply.text());
                continue;
            }
            for (version, pace) in READERS {
                let label = format!("{label}, HTTP/{version}, {pace:?}");
                let has_head = (pace != Pace::AtOnce).then_some(&sender);
                let reply = ask(&proxy, version, &target(number, sent, end, pace), has_head);
                assert_rest(&label, answer, sent, end, answer.is_whole(sent, end, is_tls), reply);
            }
        }
    }
}

#[test]
pub(super) fn an_answer_that_breaks_off_after_any_byte_never_looks_whole_and_loses_no_byte_before_an_end_in_order() {
    let rows: [(bool, &[End]); 5] = [
        (false, &[End::InOrder]),
        (false, &[End::Reset]),
        (true, &[End::InOrder]),
        (true, &[End::Cut]),
        (true, &[End::Reset]),
    ];
    beside_each_other(rows, |(is_tls, ends)| assert_breaks_are_seen(is_tls, ends));
}
