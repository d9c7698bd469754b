//! The meaning of a backend's bytes, by all ways that must agree: what a leg makes of them as they come, whether it may win or
//! has lost, what a look takes for a whole answer, and what ureq by itself makes of all of them at once.

use std::mem::discriminant;

use http::{Method, StatusCode};

use super::exchange::{self, Script};
use super::meaning::{Begin, Head, Kept, Meaning};
use super::reference;
use crate::message::{Outcome, bind_connection};
use crate::net::byte_stream::Peeked;
use crate::upstream::conn::request_writer::Early;
use crate::upstream::pooled::IDLE_TIME_MAX;
use crate::upstream::response::head::ResponseHead;
use crate::upstream::response::received::{CompleteAnswer, Received, early};

/// The most begins of an answer that are looked at: the longest ones.
const PREFIXES_MAX: usize = 256;

/// Checks that what a backend sends is the same answer to a leg, which reads at most `room` bytes of the body at a time, and to
/// ureq. What is against rules of the proxy's own is a failure, and nothing else.
pub fn from_backend(method: &Method, script: &Script, room: usize) {
    let begin = Begin::of(script.input);
    let expected = reference::read(method, script.input, &begin);
    let (winner, loser) = (exchange::read(method, script, room), exchange::read_loser(method, script));
    check_loser(&loser, &winner);
    let is_refused = begin.is_refused() || expected.head.as_ref().is_some_and(Head::is_refused);
    let takes = !is_refused && expected.head.as_ref().is_some_and(|head| head.status.is_success());
    let early = early(Peeked { bytes: script.input, end: None });
    assert_eq!(early == Some(Early::Accepts), takes, "what an early answer means");
    if is_refused {
        let is_failure = matches!(winner.failed, Some(Outcome::Protocol(_) | Outcome::TooLarge));
        assert!(is_failure && winner.head.is_none(), "{winner:?}");
        return;
    }
    check_winner(&winner, &expected);
    let Some(head) = &expected.head else { return };
    assert_eq!(winner.is_reused, expected.is_reused && head.allows_more() && !script.ends_at_once, "{winner:?}");
    if let Some(kept) = &winner.kept {
        let idle_time_max = head.idle_time().map_or(IDLE_TIME_MAX, |idle_time| idle_time.min(IDLE_TIME_MAX));
        assert_eq!(*kept, Kept { idle_time_max, is_suspect: head.is_suspect(method) });
    }
    // Chunks that are none are no answer to a look that sees all of them.
    if !matches!(expected.failed, Some(Outcome::Protocol(_))) {
        check_looks(method, &script.input[begin.bytes..], head);
    }
}

fn check_winner(found: &Meaning, expected: &Meaning) {
    match (&found.failed, &expected.failed) {
        (None, None) => {
            assert_eq!(found.head, expected.head);
            let (Some(head), Some(expected_head)) = (&found.head, &expected.head) else { panic!("no head") };
            assert!(head.headers.iter().eq(&expected_head.headers), "{head:?}, by ureq {expected_head:?}");
            assert_eq!(found.length, expected_head.declared_bytes());
            assert_eq!(text_of(&found.body), text_of(&expected.body));
            assert_eq!(text_of(&found.rest), text_of(&expected.rest));
        }
        (Some(outcome), Some(other)) => {
            assert_eq!(discriminant(outcome), discriminant(other), "{outcome:?}, by ureq {other:?}");
            assert!(!found.is_reused, "{found:?}");
            // What is wrong with chunks that have been received is told before any of them is read.
            let is_same = (&found.head, &found.body) == (&expected.head, &expected.body);
            let is_begin = found.head.is_none() || found.head == expected.head;
            let is_begin = is_begin && expected.body.starts_with(&found.body);
            assert!(is_same || (is_begin && *outcome != Outcome::Closed), "{found:?}, by ureq {expected:?}");
        }
        _ => panic!("{found:?}, by ureq {expected:?}"),
    }
}

/// Checks that the answer is the same to a leg that has lost, as far as that needs it.
fn check_loser(loser: &Meaning, winner: &Meaning) {
    let Some(head) = &winner.head else {
        let kind = |meaning: &Meaning| meaning.failed.as_ref().map(discriminant);
        assert!(loser.head.is_none() && kind(loser) == kind(winner), "{loser:?}, {winner:?}");
        return;
    };
    let begin = loser.head.as_ref().map(|head| (head.status, head.version));
    assert_eq!(begin, Some((head.status, head.version)), "{loser:?}");
    assert_eq!((loser.is_reused, &loser.kept), (winner.is_reused, &winner.kept));
    // A tunnel is dropped with what came on it.
    let is_through = winner.failed.is_none() && head.status != StatusCode::SWITCHING_PROTOCOLS;
    assert!(!is_through || loser.rest == winner.rest, "{loser:?}, {winner:?}");
}

/// Checks what a look takes the bytes for whose first are a final head.
fn check_looks(method: &Method, bytes: &[u8], expected: &Head) {
    let look = |bytes, has_lost| match Received::of(&Peeked { bytes, end: None }, method, has_lost) {
        Received::Head(head, whole) => Some((*head, whole)),
        _ => None,
    };
    let bytes_of = |whole: &Option<CompleteAnswer>| whole.as_ref().map(|whole| whole.bytes);
    let ((head, whole), (same, lost)) = (look(bytes, false).expect("a head"), look(bytes, true).expect("a head"));
    assert_eq!((&head, bytes_of(&whole)), (&same, bytes_of(&lost)), "of an answer that has lost");
    let ResponseHead { declared_length, is_suspect, idle_time, binds_connection, .. } = head;
    assert_eq!((declared_length, idle_time), (expected.declared_bytes(), expected.idle_time()));
    assert_eq!(is_suspect, expected.is_suspect(method), "whether a body may follow by mistake");
    assert_eq!(
        binds_connection,
        bind_connection(&expected.headers),
        "whether the connection is one user's from now on"
    );
    for end in (0..bytes_of(&whole).unwrap_or_default()).rev().take(PREFIXES_MAX) {
        let is_whole = look(&bytes[..end], true).is_some_and(|(_, whole)| whole.is_some());
        assert!(!is_whole, "its first {end} bytes are taken for all of it");
    }
}

fn text_of(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::collection::vec;
    use proptest::option::weighted;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::fuzzing;
    use crate::upstream::response::head::ANSWER_HEAD_BYTES_MAX;

    const STATUSES: [&str; 18] = [
        "200", "201", "204", "205", "206", "301", "304", "307", "401", "404", "408", "500", "503", "508", "999", "100",
        "101", "099",
    ];
    /// Begins of status lines that tell another version, or that something is wrong.
    const VERSIONS: [&str; 7] =
        ["HTTP/1.2 ", "HTTP/2 ", "http/1.1 ", "HTTP/1.1  ", "\r\nHTTP/1.1 ", " HTTP/1.1 ", "HTTP/1.1\t"];
    const REASONS: [&str; 7] = [" OK", " ", "", " caf\u{e9}", " a\tb", "\r", "x"];
    const INTERIM: [&str; 7] = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100\r\nA: b\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.0 102 \r\n\r\n",
        "HTTP/1.1 103 X\n\n",
        "\r\nHTTP/1.1 103 X\r\n\r\n",
        "HTTP/1.1 1xx X\r\n\r\n",
    ];
    /// Fields that tell a body's length, and some that look like it. The length stands for `#`.
    const FRAMING: [&str; 26] = [
        "Content-Length: #",
        "content-length:#",
        "Content-Length: \t# \t",
        "Content-Length: 0#",
        "Content-Length: 3",
        "Content-Length: 0",
        "Content-Length: #0",
        "Content-Length: +#",
        "Content-Length: -#",
        "Content-Length: #, #",
        "Content-Length: #,",
        "Content-Length: 0x#",
        "Content-Length: # #",
        "Content-Length:",
        "Content-Length: 18446744073709551615",
        "Content-Length: 18446744073709551616",
        "Content-Length : #",
        " Content-Length: #",
        "Content_Length: 3",
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked ",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer_Encoding: chunked",
    ];
    /// Fields that tell whose the connection is and how long it lasts, and some that travel on.
    const FIELDS: [&str; 27] = [
        "Connection: close",
        "Connection: Close",
        "connection:keep-alive ",
        "Connection: Keep-Alive",
        "Connection: keep-alive, close",
        "Connection: close\t,keep-alive",
        "Connection: keep-alive,",
        "Connection: x-a",
        "Connection: upgrade",
        "Connection:",
        "Connection: close;",
        "Proxy-Connection: close",
        "Keep-Alive: timeout=3",
        "keep-alive: timeout=2, max=9",
        "Keep-Alive: max=9",
        "Keep-Alive: timeout=x",
        "WWW-Authenticate: NTLM",
        "WWW-Authenticate: Basic realm=\"a, b\", Negotiate",
        "WWW-Authenticate: Basic realm=\"a\"",
        "Persistent-Auth: true",
        "Proxy-Support: Session-Based-Authentication",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "X-A: b",
        "x-a:",
        "X-B: caf\u{e9} \t",
        "Upgrade: websocket",
    ];
    const BAD_FIELDS: [&str; 8] =
        ["X-A: a\r\n b", "X-A: a\nX-A: b", "X-A: a\rb", "X-A: \0", "X A: b", "X-\u{e9}: a", ": a", "X-A"];
    const BODIES: [&str; 5] = ["", "hello", "abc", "HTTP/1.1 200 OK\r\n\r\n", "\r\n"];
    const CHUNKS: [&str; 10] = [
        "5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "5;a=\"longer than twenty bytes\"\r\nhello\r\n00;b\r\nT: u\r\nV:\r\n\r\n",
        "05  \r\nhello\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\nT: u\r\n",
        "0\r\nT: u",
        "5\r\nhello",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
    ];

    /// Usually the one, and at times one of the others.
    fn mostly(usual: &'static str, odd: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
        prop_oneof![9 => Just(usual), 1 => select(odd)]
    }

    fn status_lines() -> impl Strategy<Value = String> {
        let status = prop_oneof![2 => Just("200"), 1 => select(&["204", "304"][..]), 2 => select(&STATUSES[..])];
        let version = prop_oneof![9 => mostly("HTTP/1.1 ", &VERSIONS), 1 => Just("HTTP/1.0 ")];
        let parts = (version, status, mostly(" OK", &REASONS));
        parts.prop_map(|(version, status, reason)| [version, status, reason].concat())
    }

    /// Fields, the end of the head, and a body.
    fn framed() -> impl Strategy<Value = String> {
        let (length, chunked) = (mostly("Content-Length: #", &FRAMING), mostly("Transfer-Encoding: chunked", &FRAMING));
        let framed = prop_oneof![
            6 => (vec(length, 1..2), select(&BODIES[..])),
            3 => (vec(chunked, 1..2), select(&CHUNKS[..])),
            1 => (vec(select(&FRAMING[..]), 0..3), select(&BODIES[..])),
        ];
        let field = prop_oneof![20 => select(&FIELDS[..]), 1 => select(&BAD_FIELDS[..]), 1 => select(&FRAMING[..])];
        let others = prop_oneof![30 => vec(field, 0..4), 1 => (55..135_usize).prop_map(|count| vec!["X-A: b"; count])];
        let parts = framed.prop_flat_map(move |(framing, body)| {
            let fields = others.clone().prop_map(move |others| [&framing[..], &others].concat());
            // What answers HEAD has no body, however long it is declared to be.
            (fields.prop_shuffle(), Just(body), proptest::bool::weighted(0.25))
        });
        parts.prop_map(|(fields, body, is_bare)| {
            let length = body.len().to_string();
            let fields: String = fields.iter().map(|field| field.replace('#', &length) + "\r\n").collect();
            fields + "\r\n" + if is_bare { "" } else { body }
        })
    }

    /// The input of a fuzzer, in a form that can be read.
    struct Fed(Vec<u8>);

    impl fmt::Debug for Fed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0.escape_ascii())
        }
    }

    /// Adds, drops or changes one byte, at a place that far into 65536.
    fn mutate(bytes: &mut Vec<u8>, (place, kind, byte): (u16, u8, u8)) {
        let at = (bytes.len() * usize::from(place)) >> 16;
        match kind {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }

    /// Answers that are nearly plain, with the settings before them.
    fn answers() -> impl Strategy<Value = Fed> {
        let interim = prop_oneof![
            20 => vec(select(&INTERIM[..]), 0..2).prop_map(|answers| answers.concat()),
            1 => (99..103_usize).prop_map(|count| INTERIM[0].repeat(count)),
        ];
        let interim = weighted(0.15, interim).prop_map(Option::unwrap_or_default);
        let behind = mostly("", &["!", "\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
        let byte = prop_oneof![select(&b"\r\n \t:,;01 "[..]), any::<u8>()];
        let mutations = prop_oneof![4 => Just(Vec::new()), 1 => vec((any::<u16>(), 0..5_u8, byte), 1..3)];
        let parts = (interim, status_lines(), framed(), behind, mutations);
        (any::<[u8; 3]>(), parts).prop_map(|(settings, (interim, status_line, framed, behind, mutations))| {
            let mut answer = [&*interim, &*status_line, "\r\n", &*framed, behind].concat().into_bytes();
            for mutation in mutations {
                mutate(&mut answer, mutation);
            }
            Fed([&settings[..], &answer].concat())
        })
    }

    /// Feeds these bytes in pieces of any size, as the answer to each method.
    fn feed(input: &[u8], label: &str) {
        for settings in [0, 1, 2 | 4 | 7 << 3] {
            for sizes in [[0, 0], [7, 2], [1, 6]] {
                let bytes = [&[settings], &sizes[..], input].concat();
                let fed = std::panic::catch_unwind(|| fuzzing::from_backend(&bytes));
                assert!(fed.is_ok(), "{label}: {}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn an_answer_means_the_same_to_whatever_byte_it_comes() {
        let rows = [
            ("sized", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            ("more than its size", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1"),
            ("to the end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"),
            ("of 1.0", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"),
            ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nT: u\r\n\r\nx"),
            ("no chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nx\r\n"),
            ("none", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("told of", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            (
                "an interim answer before",
                "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            ),
            ("another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\nx"),
        ];
        for (label, answer) in rows {
            for end in 0..=answer.len() {
                feed(&answer.as_bytes()[..end], label);
            }
        }
    }

    #[test]
    fn an_answer_that_was_not_the_same_each_way_is() {
        let begin = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
        let final_answer = format!("{begin}\r\n");
        let with_fields = |count| format!("{begin}{}\r\n", "A: b\r\n".repeat(count));
        let behind_interim = |count| "HTTP/1.1 103 X\r\n\r\n".repeat(count) + &final_answer;
        let rows = [
            ("many fields", with_fields(64)),
            ("as many fields as ureq takes", with_fields(127)),
            ("more", with_fields(128)),
            ("two times to idle", format!("{begin}Keep-Alive: timeout=2\r\nKeep-Alive: timeout=3\r\n\r\n")),
            ("as many interim answers as may be", behind_interim(100)),
            ("more of them", behind_interim(101)),
            ("one that is none", format!("HTTP/1.1 103 X\r A: b\r\n\r\n{final_answer}")),
            ("one behind an empty line", format!("\r\nHTTP/1.1 103 X\r\n\r\n{final_answer}")),
            ("one with a bare LF", format!("HTTP/1.1 103 X\n\n{final_answer}")),
        ];
        for (label, answer) in rows {
            feed(answer.as_bytes(), label);
        }
    }

    #[test]
    fn a_long_answer_means_the_same_where_it_is_longer_than_what_is_read_at_once() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ";
        // A head that is as long as may be, and one that is longer.
        let heads = [0, 1]
            .map(|spare| head.to_owned() + &"b".repeat(ANSWER_HEAD_BYTES_MAX + spare - head.len() - 4) + "\r\n\r\n");
        let long: String = (0..10_000).map(|number: u32| number.to_string()).collect();
        let sized = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len());
        let behind = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned() + &long;
        for answer in heads.into_iter().chain([sized, behind]) {
            for ends_at_once in [false, true] {
                let script = Script { input: answer.as_bytes(), ends: &[answer.len()], ends_at_once };
                from_backend(&Method::GET, &script, 1000);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_answer_means_the_same_to_a_leg_in_pieces_as_to_ureq_at_once(answer in answers()) {
            fuzzing::from_backend(&answer.0);
        }
    }
}
