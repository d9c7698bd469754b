//! The costs of a race: connections opened, used again and hung up on, counted at the backends.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::harness::{Client, Connection, Load, Proxy, Raw, SOON, eventually};

const FOR_EVER: Duration = Duration::from_secs(3600);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// The longest answer of a loser that is read for its connection's sake.
const SHORT: usize = 64 * 1024;

fn accepted<'a>(backends: impl IntoIterator<Item = &'a Raw>) -> usize {
    backends.into_iter().map(Raw::accepted).sum()
}

fn ask(client: &mut Client, method: &str, body: Option<&[u8]>) {
    client.send_request(method, "/", &[], body);
    assert_eq!(client.reply().text(), "ok");
}

#[test]
fn a_thousand_requests_to_three_quick_backends_open_at_most_ten_new_connections() {
    let quick = || {
        Raw::serving(|mut connection: Connection| {
            while connection.request_head().is_some() {
                connection.send(OK);
            }
        })
    };
    let backends = [quick(), quick(), quick()];
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    // On a busy machine legs might be skipped otherwise, which would be missing below.
    let proxy = Proxy::with(&urls, |config| config.max_unanswered = NonZeroUsize::MAX);
    let load = Load { address: proxy.address, clients: 4, requests: 200 };
    load.run(|client, _| ask(client, "GET", None));
    // On a busy machine losers may be read so late that more connections are needed than before; then those are there.
    let mut news = Vec::new();
    while news.last().is_none_or(|new| *new > 10) {
        assert!(news.len() < 5, "{news:?} new lines");
        let before = proxy.totals().connections_opened;
        Load { requests: 1000, ..load }.run(|client, _| ask(client, "GET", None));
        news.push(proxy.totals().connections_opened - before);
    }
    assert_eq!(accepted(&backends) as u64, proxy.totals().connections_opened);
    let legs = 3 * (200 + 1000 * news.len() as u64);
    eventually("every leg has ended", || proxy.totals().legs == legs);
    let totals = proxy.totals();
    assert!(
        totals.connections_reused + totals.connections_opened <= legs && totals.connections_reused >= legs * 98 / 100,
        "{totals:?}"
    );
    println!("{news:?} new lines");
}

/// A backend that tells of each request when it begins to arrive, and reads and answers it when it is told to.
struct Led {
    raw: Raw,
    arrivals: Receiver<()>,
    answers: Sender<Vec<u8>>,
}

impl Led {
    fn new() -> Led {
        let (arrived, arrivals) = unbounded();
        let (answers, told) = unbounded::<Vec<u8>>();
        let raw = Raw::serving(move |mut connection: Connection| {
            while matches!(connection.stream.peek(&mut [0]), Ok(1)) {
                let _ = arrived.send(());
                let Ok(answer) = told.recv_timeout(SOON) else { return };
                if connection.request().is_none() {
                    break;
                }
                connection.send(answer);
            }
            connection.wait_for_hang_up();
        });
        Led { raw, arrivals, answers }
    }

    fn url(&self) -> String {
        self.raw.url.clone()
    }

    fn wait_for_request(&self) {
        self.arrivals.recv_timeout(SOON).expect("a request arrives");
    }

    /// Has it read the request and answer it.
    fn go_on(&self, answer: impl Into<Vec<u8>>) {
        self.answers.send(answer.into()).expect("the backend listens");
    }

    /// The same, waiting until it has read the request, which is returned.
    fn answer(&self, answer: impl Into<Vec<u8>>) -> Vec<u8> {
        self.go_on(answer);
        self.raw.next()
    }
}

/// A race of a winner and two losers, who are told to answer only after the client has its answer.
/// Returns the request as the winner got it.
fn race(proxy: &Proxy, winner: &Led, losers: &[Led; 2], method: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut client = Client::connect(proxy.address);
    client.send_request(method, "/", &[], body);
    winner.wait_for_request();
    losers.iter().for_each(Led::wait_for_request);
    let request = winner.answer(OK);
    assert_eq!(client.reply().text(), "ok");
    request
}

fn lose(losers: &[Led; 2], answer: impl AsRef<[u8]>) {
    for loser in losers {
        loser.answer(answer.as_ref());
    }
}

fn winner_and_losers() -> (Led, [Led; 2], Vec<String>) {
    let (winner, losers) = (Led::new(), [Led::new(), Led::new()]);
    let urls = vec![losers[0].url(), winner.url(), losers[1].url()];
    (winner, losers, urls)
}

#[test]
fn every_losers_connection_is_used_again() {
    let (winner, losers, urls) = winner_and_losers();
    let proxy = Proxy::with(&urls, |config| config.linger = FOR_EVER);
    for _ in 0..50 {
        race(&proxy, &winner, &losers, "GET", None);
        lose(&losers, OK);
    }
    for led in losers.iter().chain([&winner]) {
        // The next request may come while the last answer is still being read, and a machine may be busy.
        assert!(led.raw.accepted() <= 5, "{} lines", led.raw.accepted());
        assert!(!led.raw.was_hung_up_on());
    }
}

#[test]
fn a_losers_connection_is_used_again_also_if_its_answer_comes_in_pieces() {
    let chunked = ["HTTP/1.1 200 OK\r\nTransfer-", "Encoding: chunked\r\n\r\n2\r\n", "ok\r\n0\r", "\n\r\n"];
    for pieces in [["HTTP/1.1 200 OK\r\nContent-", "Length: 2\r\n\r\n", "o", "k"], chunked] {
        let (winner, (told, piece)) = (Led::new(), unbounded::<()>());
        let (begun, begins) = unbounded();
        let loser = Raw::serving(move |mut connection: Connection| {
            while connection.request().is_some() {
                begun.send(()).expect("the test listens");
                for bytes in pieces {
                    piece.recv_timeout(SOON).expect("the test goes on");
                    connection.send(bytes);
                }
            }
        });
        let proxy = Proxy::with(&[winner.url(), loser.url.clone()], |config| config.linger = FOR_EVER);
        for round in 1..=30 {
            let mut client = Client::connect(proxy.address);
            client.send_request("GET", "/", &[], None);
            begins.recv_timeout(SOON).expect("the loser has the request");
            winner.wait_for_request();
            winner.answer(OK);
            assert_eq!(client.reply().text(), "ok");
            for _ in pieces {
                told.send(()).expect("the loser listens");
            }
            eventually("the loser's leg has ended", || proxy.totals().legs == 2 * round);
        }
        // The next request may come while the connection is still being given back.
        assert!(loser.accepted() <= 5, "{} lines", loser.accepted());
        assert_eq!(proxy.totals().hung_up, 0);
    }
}

/// Losers were hung up on, and their backends taken for silent, since a body was awaited that never comes, or trailers'
/// end was not seen.
#[test]
fn a_losers_connection_is_used_again_whatever_ends_its_answer() {
    // A connection rests for a moment after a head that tells of a body that may not be.
    let rows = [
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", false),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 3\r\n\r\n", false),
    ];
    for (method, answer, rests) in rows {
        let (winner, losers, urls) = winner_and_losers();
        let proxy = Proxy::with(&urls, |config| config.linger = FOR_EVER);
        for round in 1..=10 {
            let mut client = Client::connect(proxy.address);
            client.send_request(method, "/", &[], None);
            winner.wait_for_request();
            losers.iter().for_each(Led::wait_for_request);
            winner.answer("HTTP/1.1 204 No Content\r\n\r\n");
            assert_eq!(client.head().map(|head| head.status), Some(204), "{method} {answer}");
            lose(&losers, answer);
            eventually("the losers' legs have ended", || proxy.totals().legs == 3 * round);
        }
        let lines = accepted(losers.iter().map(|led| &led.raw));
        assert!(rests || lines <= 10, "{method} {answer}: {lines}");
        assert_eq!(proxy.totals().hung_up, 0, "{method} {answer}");
    }
}

#[test]
fn by_default_a_loser_that_answers_a_little_late_keeps_its_connection() {
    let (winner, losers, urls) = winner_and_losers();
    let proxy = Proxy::before(&urls);
    for _ in 0..50 {
        race(&proxy, &winner, &losers, "GET", None);
        lose(&losers, OK);
    }
    for led in &losers {
        // On a busy machine 200 ms may be over sometimes; without them each request would have a connection of its own.
        assert!(led.raw.accepted() <= 25, "{} lines", led.raw.accepted());
    }
}

#[test]
fn by_default_a_loser_is_hung_up_on_after_200_ms() {
    let hanging = Raw::hanging();
    let winner = Led::new();
    let proxy = Proxy::with(&[hanging.url.clone(), winner.url()], |config| {
        config.long_look = false;
        config.timeout = FOR_EVER;
        config.idle_timeout = FOR_EVER;
    });
    for lines in 1..=3 {
        let mut client = Client::connect(proxy.address);
        client.send_request("GET", "/", &[], None);
        hanging.next();
        winner.wait_for_request();
        let before_the_verdict = Instant::now();
        winner.answer(OK);
        assert_eq!(client.reply().text(), "ok");
        hanging.expect_hang_up();
        let lingered = before_the_verdict.elapsed();
        assert!(lingered >= Duration::from_millis(200), "{lingered:?}");
        assert_eq!(hanging.accepted(), lines, "a line that was cut is never used again");
    }
}

#[test]
fn by_default_a_post_reaches_all_backends_whole_though_one_has_won_long_before() {
    for length in [10, 1024 * 1024] {
        let (winner, losers, urls) = winner_and_losers();
        let proxy = Proxy::before(&urls);
        for round in 0..10 {
            let body: Vec<u8> = (0..=250_u8).cycle().skip(round).take(length).collect();
            let mut requests = vec![race(&proxy, &winner, &losers, "POST", Some(&body))];
            requests.extend(losers.iter().map(|loser| loser.answer(OK)));
            for request in requests {
                assert!(request.starts_with(b"POST / HTTP/1.1\r\n") && request.ends_with(&body));
            }
        }
        for led in &losers {
            assert!(led.raw.requests.is_empty(), "each of them once");
            assert!(!led.raw.was_hung_up_on());
        }
    }
}

#[test]
fn a_post_of_three_quick_backends_reaches_each_of_them_every_time() {
    let backends = [Raw::answering(OK), Raw::answering(OK), Raw::answering(OK)];
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let proxy = Proxy::before(&urls);
    Load { address: proxy.address, clients: 4, requests: 500 }.run(|client, number| {
        ask(client, "POST", Some(format!("body {number:04}").as_bytes()));
    });
    for backend in &backends {
        let mut requests: Vec<String> = (0..500).map(|_| String::from_utf8(backend.next()).expect("text")).collect();
        requests.sort_unstable_by_key(|request| request[request.len() - 4..].to_owned());
        for (number, request) in requests.iter().enumerate() {
            assert!(request.ends_with(&format!("\r\n\r\nbody {number:04}")), "each of them once: {request}");
        }
    }
}

#[test]
fn without_linger_unsafe_the_losers_of_a_post_are_hung_up_on_at_once() {
    let (winner, losers, urls) = winner_and_losers();
    let proxy = Proxy::with(&urls, |config| {
        config.linger = FOR_EVER;
        config.timeout = FOR_EVER;
        config.idle_timeout = FOR_EVER;
        config.linger_unsafe = Duration::ZERO;
    });
    race(&proxy, &winner, &losers, "POST", Some(&vec![b'x'; 1024 * 1024]));
    for loser in &losers {
        loser.go_on(OK);
        loser.raw.expect_hang_up();
    }
}

/// A loser's answer, and whether its connection is kept for it.
#[test]
fn a_loser_with_a_long_answer_is_hung_up_on_at_once_and_one_with_a_short_one_keeps_its_connection() {
    let sized = |status: u16, length: usize, sent: usize| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), &vec![b'x'; sent]].concat()
    };
    let chunked = |length: usize, end: &str| {
        let head = format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
        [head.as_bytes(), &vec![b'x'; length], end.as_bytes()].concat()
    };
    let rows = [
        ("short", sized(200, 2, 2), true),
        ("as long as it may be", sized(200, SHORT, SHORT), true),
        ("a byte longer, none of which is here", sized(200, SHORT + 1, 0), false),
        ("a byte longer, all of which is here", sized(200, SHORT + 1, SHORT + 1), false),
        ("short chunks", chunked(10, "\r\n0\r\n\r\n"), true),
        ("as long in chunks as it may be", chunked(SHORT, "\r\n0\r\n\r\n"), true),
        ("long chunks without an end", chunked(SHORT + 1, ""), false),
        ("an error of any length", sized(500, SHORT + 1, 0), false),
        ("a short error", sized(500, 7, 7), true),
    ];
    for (label, answer, is_kept) in rows {
        let (winner, losers, urls) = winner_and_losers();
        let proxy = Proxy::with(&urls, |config| config.linger = FOR_EVER);
        for _ in 0..10 {
            race(&proxy, &winner, &losers, "GET", None);
            lose(&losers, &answer);
            if !is_kept {
                for loser in &losers {
                    loser.raw.expect_hang_up();
                }
            }
        }
        for loser in &losers {
            let lines = loser.raw.accepted();
            assert!(if is_kept { lines <= 5 } else { lines == 10 }, "{label}: {lines} lines");
            assert!(!loser.raw.was_hung_up_on(), "{label}");
        }
    }
}
