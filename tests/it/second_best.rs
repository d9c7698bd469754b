//! Answers that would do if nothing better came: a page for a client that asked to switch protocols. And which answers win for
//! which request.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never, unbounded};

use crate::harness::{
    BRIEFLY, Binary, Client, Connection, Gate, Proxy, Raw, Reply, SOON, beside_each_other, eventually, patiently,
    pattern,
};

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const MIB: usize = 1024 * 1024;

/// A backend that answers every request by a status and a text at once, and tells it.
fn page(status: u16, text: &'static str) -> (Raw, Receiver<()>) {
    let (sender, answered) = unbounded();
    let raw = Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            connection.reply(status, text);
            let _ = sender.send(());
        }
    });
    (raw, answered)
}

/// A backend that serves its connections by the function once the gate is open; requests are read before.
fn gated(gate: &Gate, serve: impl Fn(Connection) + Send + Sync + 'static) -> Raw {
    let gate = gate.clone();
    Raw::serving(move |mut connection| {
        if connection.request().is_some() {
            gate.pass();
            serve(connection);
        }
    })
}

fn answering(gate: &Gate, bytes: impl Into<Vec<u8>>) -> Raw {
    let bytes = bytes.into();
    gated(gate, move |mut connection| {
        connection.send(&bytes);
        connection.wait_for_hang_up();
    })
}

fn ask(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(REQUEST);
    client
}

/// Whether nothing has come for a while.
fn is_waiting(client: &Client) -> bool {
    client.stream.set_read_timeout(Some(BRIEFLY)).expect("a timeout");
    let is_silent = client.stream.peek(&mut [0]).is_err();
    client.stream.set_read_timeout(Some(SOON)).expect("a timeout");
    is_silent
}

fn urls(raws: &[&Raw]) -> Vec<String> {
    raws.iter().map(|raw| raw.url.clone()).collect()
}

/// Was seen as: a WebSocket handshake answered by the 200 of one backend at once, in 10 of 10, though another switched a moment
/// later.
#[test]
fn a_page_at_once_does_not_win_over_a_switch_that_comes_later() {
    beside_each_other([0, 20, 200], |milliseconds| {
        let (early, answered) = page(200, "page");
        let late = Raw::serving(move |mut connection| {
            connection.head();
            let _ = never::<()>().recv_timeout(Duration::from_millis(milliseconds));
            connection.send(SWITCHED);
            let mut byte = [0];
            connection.stream.read_exact(&mut byte).expect("a byte");
            connection.send([byte[0] + 1]);
        });
        let proxy = Proxy::with(&urls(&[&early, &late]), patiently);
        for round in 0..10 {
            let mut client = ask(proxy.address);
            let reply = client.reply_to_head();
            assert_eq!((reply.status, reply.value("upgrade")), (101, Some("echo")), "{milliseconds} ms, round {round}");
            client.send("a");
            assert_eq!(client.read_exact(1), b"b");
            // A switch at once may win before the other backend is reached.
            assert!(milliseconds < 200 || answered.recv_timeout(SOON).is_ok());
            drop(client);
        }
    });
}

#[test]
fn the_page_that_lost_to_a_switch_is_an_ordinary_loser_with_its_status_and_its_connection() {
    let gate = Gate::new();
    let ((early, answered), late) = (page(200, "page"), answering(&gate, SWITCHED));
    let program = Binary::start(&["--backends", &urls(&[&early, &late]).join(","), "--linger", "20s"]);
    let address = program.address();
    let mut client = ask(address);
    answered.recv_timeout(SOON).expect("a page");
    assert!(is_waiting(&client));
    gate.open();
    assert_eq!(client.reply_to_head().status, 101);
    Client::connect(address).send_request("GET", "/next", &[], None);
    answered.recv_timeout(SOON).expect("another page");
    assert_eq!(early.accepted(), 1, "its line is used again");
    drop(client);
    let line = program.line("GET /chat 101 ");
    assert!(line.contains(" by b2 b1=200/") && line.contains(" b2=101/"), "{line}");
}

#[test]
fn a_page_wins_and_streams_whole_once_no_leg_can_switch_any_more() {
    let rows: [(&str, Option<&'static str>); 6] = [
        ("a refusal", Some("HTTP/1.1 426 X\r\nContent-Length: 0\r\n\r\n")),
        ("another protocol", Some("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")),
        ("no HTTP", Some("garbage\r\n\r\n")),
        ("a closed connection", Some("")),
        ("a later page", Some("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nlater")),
        ("silence until the timeout", None),
    ];
    for (label, end) in rows {
        let (gate, rest) = (Gate::new(), Gate::new());
        let held = rest.clone();
        let body = pattern(3 * MIB);
        let (begin, end_of_body) = (body[..MIB].to_vec(), body[MIB..].to_vec());
        let early = Raw::serving(move |mut connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", 3 * MIB));
            connection.send(&begin);
            held.pass();
            connection.send(&end_of_body);
            connection.wait_for_hang_up();
        });
        let late = gated(&gate, move |mut connection| match end {
            Some(bytes) => connection.send(bytes),
            None => connection.wait_for_hang_up(),
        });
        let proxy = Proxy::with(&urls(&[&early, &late]), |config| {
            patiently(config);
            if end.is_none() {
                // The page waits for longer than a silence may last.
                (config.timeout, config.idle_timeout) = (3 * BRIEFLY, 3 * BRIEFLY);
            }
        });
        let mut client = ask(proxy.address);
        early.next();
        late.next();
        assert!(end.is_none() || is_waiting(&client), "{label}");
        gate.open();
        let mut reply = client.head().expect("a reply");
        rest.open();
        client.read_body(&mut reply);
        assert!((reply.status, reply.whole) == (200, true) && reply.body == body, "{label}");
    }
}

#[test]
fn among_pages_the_first_one_wins() {
    let (second, last) = (Gate::new(), Gate::new());
    let (first, answered) = page(201, "first");
    let later = answering(&second, "HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nlater");
    let no = answering(&last, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::with(&urls(&[&later, &first, &no]), patiently);
    let mut client = ask(proxy.address);
    answered.recv_timeout(SOON).expect("a page");
    // Nothing tells that the proxy has it by then.
    assert!(is_waiting(&client) && is_waiting(&client));
    second.open();
    assert!(is_waiting(&client));
    last.open();
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (201, "first"));
    eventually("the losers' legs have ended", || proxy.totals().legs == 3);
    client.send_request("GET", "/", &[], None);
    assert!(matches!(client.reply().status, 200 | 201), "the connection speaks HTTP as before");
}

#[test]
fn a_page_that_breaks_off_while_it_waits_is_passed_over() {
    let head = "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n";
    let chunked = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    let begun = "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf";
    let rows: [(&str, &str, fn(Connection), Option<&str>); 6] = [
        ("reset in its body", begun, Connection::reset, Some("reset")),
        ("closed in its body", begun, drop, Some("closed")),
        ("reset", head, Connection::reset, Some("reset")),
        ("closed", head, drop, Some("closed")),
        ("reset among chunks", chunked, Connection::reset, Some("reset")),
        ("reset without a length", "HTTP/1.1 200 X\r\n\r\n", Connection::reset, Some("reset")),
    ];
    let rows = rows.into_iter().flat_map(|row| [(row, true), (row, false)]);
    beside_each_other(rows, |((label, head, end, word), has_other)| {
        let (sender, begun) = bounded(1);
        let (second, last) = (Gate::new(), Gate::new());
        let broken = Raw::serving(move |mut connection| {
            connection.request();
            connection.send(head);
            let _ = sender.send(());
            // The head has been taken before the end comes.
            let _ = never::<()>().recv_timeout(BRIEFLY);
            end(connection);
        });
        let status = if has_other { "200" } else { "503" };
        let other = answering(&second, format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nother"));
        let no = answering(&last, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n");
        let proxy = Proxy::with(&urls(&[&broken, &other, &no]), patiently);
        let mut client = ask(proxy.address);
        begun.recv_timeout(SOON).expect("a head");
        assert!(is_waiting(&client) && is_waiting(&client), "{label}");
        second.open();
        assert!(is_waiting(&client), "{label}");
        last.open();
        let reply = client.reply();
        if has_other {
            assert_eq!((reply.status, reply.text().as_str()), (200, "other"), "{label}");
        } else {
            let expected = format!("b1 {}: ", word.expect("a word"));
            assert!(reply.status == 502 && reply.text().contains(&expected), "{label}: {}", reply.text());
        }
    });
}

/// What has come before the end of its connection isn't lost.
#[test]
fn a_page_that_is_here_whole_wins_also_if_its_connection_has_ended() {
    for head in ["HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 200 X\r\n\r\n"] {
        let gate = Gate::new();
        let (early, answered) = (
            Raw::serving(move |mut connection| {
                connection.request();
                connection.send([head, "page"].concat());
            }),
            answering(&gate, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"),
        );
        let proxy = Proxy::with(&urls(&[&early, &answered]), patiently);
        let mut client = ask(proxy.address);
        early.next();
        assert!(is_waiting(&client));
        gate.open();
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "page", true), "{head}");
    }
}

/// A page that is too long to be here whole, so that its connection waits with it; it tells when it is hung up on.
fn long_page() -> (Raw, Receiver<()>) {
    Raw::stuck_behind(format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\nbegin", 3 * MIB))
}

#[test]
fn a_page_that_waits_is_hung_up_on_when_its_client_leaves() {
    let gate = Gate::new();
    let ((early, begun), silent) = (long_page(), answering(&gate, ""));
    let arguments = ["--timeout", "1h", "--idle-timeout", "1h", "--backends", &urls(&[&early, &silent]).join(",")];
    let program = Binary::start(&arguments);
    let client = ask(program.address());
    begun.recv_timeout(SOON).expect("a page");
    silent.next();
    assert!(is_waiting(&client) && !early.was_hung_up_on());
    drop(client);
    early.expect_hang_up();
    let line = program.line("/chat");
    assert!(line.contains(" 499 in ") && line.contains(" b1=cancelled b2=cancelled "), "{line}");
    gate.open();
}

#[test]
fn a_page_that_waits_is_cut_when_the_grace_period_is_over() {
    let gate = Gate::new();
    let ((early, begun), silent) = (long_page(), answering(&gate, ""));
    let urls = urls(&[&early, &silent]).join(",");
    let mut program = Binary::start(&["--timeout", "1h", "--grace-period", "300ms", "--backends", &urls]);
    let client = ask(program.address());
    begun.recv_timeout(SOON).expect("a page");
    assert!(is_waiting(&client));
    program.signal("TERM");
    early.expect_hang_up();
    assert_eq!(program.wait().code(), Some(0));
    let rest = program.rest();
    assert!(rest.contains("GET /chat 499 in "), "{rest}");
    gate.open();
}

#[test]
fn many_pages_that_wait_cost_no_threads() {
    const CLIENTS: usize = 200;
    let gate = Gate::new();
    let ((early, begun), silent) = (long_page(), answering(&gate, SWITCHED));
    let arguments = ["--timeout", "1h", "--idle-timeout", "1h", "--backends", &urls(&[&early, &silent]).join(",")];
    let program = Binary::start(&arguments);
    let address = program.address();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| ask(address)).collect();
    for _ in 0..CLIENTS {
        begun.recv_timeout(SOON).expect("a page");
    }
    assert!(program.usage().threads <= 16, "{:?}", program.usage());
    gate.open();
    for client in &mut clients {
        assert_eq!(client.reply_to_head().status, 101);
    }
}

/// A deferred leg might switch, so it starts before a page wins.
#[test]
fn a_deferred_leg_starts_before_a_page_wins() {
    for switches in [true, false] {
        let ill = Raw::serving(move |mut connection| {
            while let Some(request) = connection.request() {
                match String::from_utf8_lossy(&request).contains("Upgrade: echo") {
                    false => connection.wait_for_hang_up(),
                    true if switches => connection.send(SWITCHED),
                    true => connection.reply(404, "no"),
                }
            }
        });
        let (good, _) = page(200, "page");
        let program = Binary::start(
            &[
                &["--max-unanswered", "8", "--linger", "1h", "--timeout", "1h", "--idle-timeout", "1h", "--backends"],
                &[urls(&[&ill, &good]).join(",").as_str()][..],
            ]
            .concat(),
        );
        let address = program.address();
        let mut client = Client::connect(address);
        let mut hang = || -> Reply {
            client.send_request("GET", "/hang", &[], None);
            client.reply()
        };
        for _ in 0..8 {
            hang();
            ill.next();
        }
        eventually("its legs are held back", || {
            hang();
            ill.requests.recv_timeout(BRIEFLY).is_err()
        });
        let mut client = Client::connect(address);
        client.send(REQUEST.replace("/chat", "/hang"));
        let expected = if switches { 101 } else { 200 };
        assert_eq!(client.reply_to_head().status, expected);
    }
}

/// The table of docs/races.md, row by row.
#[test]
fn which_answers_win_for_which_request() {
    let rows: [(&str, &[&str], &str, bool); 15] = [
        ("GET", &[], "200 X", true),
        ("GET", &[], "206 X", true),
        ("GET", &[], "304 X", false),
        ("HEAD", &[], "200 X", true),
        ("HEAD", &[], "404 X", false),
        ("HEAD", &["If-None-Match: \"a\""], "304 X", true),
        ("GET", &["If-None-Match: \"a\""], "304 X", true),
        ("GET", &["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], "304 X", true),
        ("PUT", &["If-None-Match: *"], "304 X", false),
        ("PUT", &["If-Match: \"a\""], "412 X", false),
        ("GET", &["Range: bytes=0-1"], "206 X\r\nContent-Range: bytes 0-1/9", true),
        ("GET", &["Range: bytes=0-1"], "200 X", true),
        ("GET", &["Range: bytes=99-"], "416 X\r\nContent-Range: bytes */9", false),
        ("GET", &["Range: bytes=0-1", "If-Range: \"a\""], "200 X", true),
        ("GET", &[], "101 X\r\nConnection: upgrade\r\nUpgrade: echo", false),
    ];
    for (method, fields, answer, wins) in rows {
        let backend = Raw::answering(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n"));
        let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
        let mut client = Client::connect(proxy.address);
        client.send_request(method, "/", fields, None);
        let reply = client.head().expect("a reply");
        let expected = if wins { &answer[..3] } else { "502" };
        assert_eq!(reply.status.to_string(), expected, "{method} {fields:?}: {answer}");
    }
}
