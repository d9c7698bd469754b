//! Who is hung up on, when, and who isn't.

use std::io::Read;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use red_tentacle::server::Server;

use crate::harness::{
    Backend, Client, Deaf, Fake, Framing, Gate, Proxy, Raw, Received, SOON, beside_each_other, eventually, patiently,
    pattern,
};

/// More than a cramped backend's socket and the proxy's own hold.
const LONG_BODY_BYTES: usize = 9 << 20;
/// Longer than a test waits for anything.
const LONG: Duration = Duration::from_secs(60);

/// A backend that wins as soon as the gate is open.
fn winning_behind(gate: &Gate) -> Fake {
    Fake::behind(gate, 200, "won")
}

fn urls_of(backends: &[Raw]) -> Vec<String> {
    backends.iter().map(|raw| raw.url.clone()).collect()
}

#[test]
fn a_loser_that_has_not_answered_is_hung_up_on() {
    let gate = Gate::new();
    let (loser, winner) = (Raw::hanging(), winning_behind(&gate));
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], patiently);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    loser.next();
    assert!(!loser.was_hung_up_on());
    gate.open();
    assert_eq!(client.reply().text(), "won");
    loser.expect_hang_up();
    proxy.stop();
}

#[test]
fn a_loser_in_the_midst_of_its_answer_is_hung_up_on() {
    let rows = [
        ("half a head", "HTTP/1.1 200 OK\r\nX-Half: "),
        ("an interim head", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("a dripping sized body", "HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\nsome"),
        ("a dripping chunked body", "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"),
        ("a dripping body without a length", "HTTP/1.1 404 X\r\n\r\nsome"),
    ];
    for (label, begin) in rows {
        let gate = Gate::new();
        let ((loser, begun), winner) = (Raw::stuck_behind(begin), winning_behind(&gate));
        let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], patiently);
        let mut client = Client::connect(proxy.address);
        client.send_request("GET", "/", &[], None);
        begun.recv_timeout(SOON).expect("the loser's answer begins");
        assert!(!loser.was_hung_up_on(), "{label}");
        gate.open();
        assert_eq!(client.reply().text(), "won", "{label}");
        loser.expect_hang_up();
        proxy.stop();
    }
}

#[test]
fn a_loser_that_does_not_read_the_body_is_hung_up_on() {
    let (gate, won) = (Gate::new(), Gate::new());
    let (sender, left) = unbounded();
    let over = won.clone();
    let loser = Raw::cramped(move |mut connection| {
        connection.head().expect("a head");
        let _ = sender.send(0);
        over.pass();
        let _ = sender.send(connection.rest().len());
    });
    let winner = winning_behind(&gate);
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], patiently);
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/", &[], Some(&pattern(LONG_BODY_BYTES)));
    left.recv_timeout(SOON).expect("the upload begins");
    gate.open();
    assert_eq!(client.reply().text(), "won");
    won.open();
    let left = left.recv_timeout(SOON).expect("the upload ends");
    assert!(left < LONG_BODY_BYTES, "the loser got everything");
    proxy.stop();
}

#[test]
fn a_loser_that_is_being_connected_to_is_given_up() {
    let gate = Gate::new();
    let (loser, winner) = (Deaf::new(), winning_behind(&gate));
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], patiently);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    eventually("the loser is dialed", || loser.is_being_dialed());
    gate.open();
    assert_eq!(client.reply().text(), "won");
    eventually("the loser is given up", || !loser.is_being_dialed());
    proxy.stop();
}

#[test]
fn a_winners_body_is_whole_after_its_losers_were_hung_up_on() {
    let body = pattern(512 * 1024);
    for is_chunked in [false, true] {
        let losers = [Raw::hanging(), Raw::hanging(), Raw::hanging()];
        let (decided, hung_up, sent) = (Gate::new(), Gate::new(), body.clone());
        let (start, rest) = (decided.clone(), hung_up.clone());
        let winner = Raw::serving(move |mut connection| {
            connection.request().expect("a request");
            start.pass();
            let framing = if is_chunked {
                "Transfer-Encoding: chunked".into()
            } else {
                format!("Content-Length: {}", sent.len())
            };
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            for (number, piece) in sent.chunks(10_007).enumerate() {
                if number == 1 {
                    rest.pass();
                }
                let size = if is_chunked { format!("{:x}\r\n", piece.len()) } else { String::new() };
                connection.send([size.as_bytes(), piece, if is_chunked { b"\r\n" } else { b"" }].concat());
            }
            connection.send(if is_chunked { "0\r\n\r\n" } else { "" });
        });
        let proxy = Proxy::with(&[urls_of(&losers), vec![winner.url.clone()]].concat(), patiently);
        let mut client = Client::connect(proxy.address);
        client.send_request("GET", "/", &[], None);
        for loser in &losers {
            loser.next();
        }
        decided.open();
        let mut reply = client.head().expect("a head");
        // While the winner's body is still coming.
        for loser in &losers {
            loser.expect_hang_up();
        }
        hung_up.open();
        client.read_body(&mut reply);
        assert!(reply.status == 200 && reply.whole && reply.body == body, "chunked: {is_chunked}");
    }
}

#[test]
fn a_late_hang_up_never_hits_the_next_request_on_that_connection() {
    let backends = [Raw::echoing(), Raw::echoing()];
    let proxy = Proxy::with(&urls_of(&backends), patiently);
    let mut client = Client::connect(proxy.address);
    for number in 0..400 {
        let target = format!("/{number}");
        client.send_request("GET", &target, &[], None);
        let reply = client.reply();
        assert_eq!((reply.status, reply.text(), reply.whole), (200, target, true));
    }
    let opened: usize = backends.iter().map(Raw::accepted).sum();
    assert!(opened < 800, "no line was ever used again");
}

#[test]
fn the_end_of_a_linger_never_hits_the_next_request_on_that_connection() {
    const ROUNDS: usize = 5;
    let is_first = |request: &[u8]| request.starts_with(b"POST /first ");
    let (release, released) = unbounded::<()>();
    let (sender, answered) = unbounded();
    let (here, others) = unbounded();
    let quick = Raw::serving(move |mut connection| {
        while let Some(request) = connection.request() {
            // It wins the first race as soon as both others have the request.
            let waits = if is_first(&request) { 2 } else { 0 };
            let _: Vec<()> = (0..waits).filter_map(|_| others.recv_timeout(SOON).ok()).collect();
            connection.reply(if is_first(&request) { 200 } else { 500 }, "quick");
        }
    });
    // Late for the first race, and the only one that can win the second.
    let late_here = here.clone();
    let late = Raw::serving(move |mut connection| {
        while let Some(request) = connection.request() {
            if is_first(&request) {
                let _ = late_here.send(());
            }
            if released.recv_timeout(SOON).is_err() {
                return;
            }
            connection.reply(200, "late");
            let _ = sender.send(());
        }
    });
    // The last in the list: when it is hung up on, those before it have been.
    let hanging = Raw::serving(move |mut connection| {
        while connection.request().is_some_and(|request| !is_first(&request)) {
            connection.reply(500, "no");
        }
        let _ = here.send(());
        connection.wait_for_hang_up();
    });
    let proxy = Proxy::with(&[quick.url.clone(), late.url.clone(), hanging.url.clone()], |config| {
        patiently(config);
        config.linger_unsafe = Duration::from_millis(100);
    });
    let mut client = Client::connect(proxy.address);
    for _ in 0..ROUNDS {
        client.send_request("POST", "/first", &[], None);
        assert_eq!(client.reply().text(), "quick");
        late.next();
        release.send(()).expect("the late one listens");
        answered.recv_timeout(SOON).expect("the late one answers");
        client.send_request("POST", "/second", &[], None);
        late.next();
        hanging.expect_hang_up();
        release.send(()).expect("the late one listens");
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, "late"));
        answered.recv_timeout(SOON).expect("the late one answers");
    }
    assert!(late.accepted() < 2 * ROUNDS, "no line was ever used again");
}

#[test]
fn a_loser_that_answers_within_its_linger_keeps_its_connection() {
    const ROUNDS: usize = 30;
    let (release, released) = unbounded::<()>();
    let (sender, answered) = unbounded();
    let loser = Raw::serving(move |mut connection| {
        while connection.request().is_some() && released.recv_timeout(SOON).is_ok() {
            connection.reply(200, "late");
            let _ = sender.send(());
        }
    });
    let winner = Fake::with(200, "won");
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], |config| {
        patiently(config);
        config.linger = Duration::from_secs(10);
    });
    let mut client = Client::connect(proxy.address);
    for _ in 0..ROUNDS {
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "won");
        loser.next();
        release.send(()).expect("the loser listens");
        answered.recv_timeout(SOON).expect("the loser answers");
    }
    // One, but for a request that overtakes the thread which has just read the late answer to the one before.
    assert!(loser.accepted() <= 4, "{} lines for {ROUNDS} requests", loser.accepted());
}

#[test]
fn a_loser_that_hangs_longer_than_its_linger_is_hung_up_on() {
    for (method, linger, linger_unsafe) in [("GET", 50, 60_000), ("POST", 60_000, 50)] {
        let (loser, gate) = (Raw::hanging(), Gate::new());
        let winner = winning_behind(&gate);
        let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], |config| {
            patiently(config);
            config.long_look = false;
            config.linger = Duration::from_millis(linger);
            config.linger_unsafe = Duration::from_millis(linger_unsafe);
        });
        let mut client = Client::connect(proxy.address);
        client.send_request(method, "/", &[], None);
        loser.next();
        gate.open();
        assert_eq!(client.reply().text(), "won", "{method}");
        loser.expect_hang_up();
        proxy.stop();
    }
}

#[test]
fn no_client_waits_for_a_loser_that_lingers() {
    let (loser, winner) = (Raw::hanging(), Fake::with(200, "won"));
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], |config| {
        patiently(config);
        config.linger = LONG;
    });
    let mut client = Client::connect(proxy.address);
    for _ in 0..5 {
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "won");
    }
    for _ in 0..5 {
        loser.next();
    }
    assert!(!loser.was_hung_up_on());
    // Nor does shutdown.
    proxy.stop();
    for _ in 0..5 {
        loser.expect_hang_up();
    }
}

/// A backend that reads nothing of a request but its head before the gate is open, and then tells the body.
fn reading_behind(gate: &Gate) -> (Raw, Receiver<Vec<u8>>) {
    let (gate, (sender, bodies)) = (gate.clone(), unbounded());
    let raw = Raw::cramped(move |mut connection| {
        connection.head().expect("a head");
        gate.pass();
        let mut body = Vec::new();
        let _ = (&connection.stream).take(LONG_BODY_BYTES as u64).read_to_end(&mut body);
        let _ = sender.send(body);
    });
    (raw, bodies)
}

#[test]
fn a_post_that_was_won_reaches_the_others_whole() {
    let (won, body) = (Gate::new(), pattern(LONG_BODY_BYTES));
    let (losers, winner) = ([reading_behind(&won), reading_behind(&won)], Fake::with(200, "won"));
    let urls = [losers[0].0.url.clone(), winner.url.clone(), losers[1].0.url.clone()];
    let proxy = Proxy::with(&urls, |config| {
        patiently(config);
        config.linger_unsafe = LONG;
    });
    // The client leaves with its answer.
    assert_eq!(proxy.post("/", &body).text(), "won");
    won.open();
    for (_, bodies) in &losers {
        assert!(bodies.recv_timeout(SOON).expect("an end") == body);
    }
    proxy.stop();
}

/// A client that closed as soon as it had its answer took the request away from the losers.
#[test]
fn a_client_that_leaves_after_the_verdict_takes_no_post_away() {
    let (left, body) = (Gate::new(), pattern(LONG_BODY_BYTES));
    let (loser, bodies) = reading_behind(&left);
    let winner = Raw::serving(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
        connection.wait_for_hang_up();
    });
    let proxy = Proxy::with(&[loser.url.clone(), winner.url.clone()], |config| {
        patiently(config);
        config.linger_unsafe = LONG;
    });
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/", &[], Some(&body));
    assert_eq!(client.head().expect("a head").status, 200);
    drop(client);
    winner.expect_hang_up();
    left.open();
    assert!(bodies.recv_timeout(SOON).expect("an end") == body);
    proxy.stop();
}

/// Leaves a race that no backend answers, in the given way: every leg must be hung up on.
fn leave_a_race(leave: impl FnOnce(Client) -> Option<Client>) {
    let backends = [Raw::hanging(), Raw::stuck_behind("HTTP/1.1 200 OK\r\nX-").0, Raw::hanging()];
    let proxy = Proxy::with(&urls_of(&backends), patiently);
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/", &[], Some(b"hello"));
    for backend in &backends {
        backend.next();
    }
    assert!(!backends.iter().any(Raw::was_hung_up_on));
    let left = leave(client);
    for backend in &backends {
        backend.expect_hang_up();
    }
    if let Some(mut client) = left {
        assert!(client.is_closed(), "nobody answers who was told that the client has left");
    }
    proxy.stop();
}

#[test]
fn a_client_that_closes_abandons_its_race() {
    leave_a_race(|client| {
        drop(client);
        None
    });
}

#[test]
fn a_client_that_resets_abandons_its_race() {
    leave_a_race(|client| {
        client.reset();
        None
    });
}

#[test]
fn a_client_that_sends_no_more_abandons_its_race() {
    leave_a_race(|client| {
        client.half_close();
        Some(client)
    });
}

/// The end of the client came in one event with its request, and was overlooked: the race went on to its timeout.
#[test]
fn a_client_that_has_left_when_its_request_is_read_abandons_its_race() {
    let backends = [Raw::hanging(), Raw::hanging()];
    let server = Server::bind(Proxy::config(&urls_of(&backends), patiently)).expect("the proxy starts");
    // The proxy isn't running yet: the kernel takes the connections.
    let leaving: Vec<Client> = (0..6)
        .map(|_| {
            let mut client = Client::connect(server.local_addr().expect("a TCP port"));
            client.send_request("GET", "/", &[], None);
            client.half_close();
            client
        })
        .collect();
    let mut closing = Client::connect(server.local_addr().expect("a TCP port"));
    closing.send_request("GET", "/", &[], None);
    drop(closing);
    let proxy = Proxy::start(server);
    for mut client in leaving {
        assert!(client.is_closed());
    }
    proxy.stop();
}

/// Was seen as: a reset that came in one event with its request was overlooked, and the race went on on all backends.
#[test]
fn a_client_that_was_reset_when_its_request_is_read_abandons_its_race() {
    const CLIENTS: u64 = 50;
    let (hanging, quick) = (Raw::hanging(), Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"));
    let urls = [hanging.url.clone(), quick.url.clone()];
    let server = Server::bind(Proxy::config(&urls, patiently)).expect("the proxy starts");
    // The proxy isn't running yet: the kernel takes the connections.
    let behind = ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"];
    for (_, more) in (0..CLIENTS).zip(behind.iter().cycle()) {
        let mut client = Client::connect(server.local_addr().expect("a TCP port"));
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{more}"));
        client.reset();
    }
    let proxy = Proxy::start(server);
    eventually("every race is over", || proxy.totals().legs == 2 * CLIENTS);
    assert_eq!(proxy.totals().hung_up, 2 * CLIENTS);
    assert!(quick.requests.is_empty() && hanging.requests.is_empty(), "there was nobody to ask for");
    proxy.stop();
}

/// Was seen as: each request that came with its client's reset destroyed an idle connection to every backend.
#[test]
fn a_client_that_was_reset_before_its_race_costs_no_idle_connection() {
    const CLIENTS: usize = 50;
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
    assert_eq!(proxy.get("/").text(), "good");
    for _ in 0..CLIENTS {
        let mut client = Client::connect(proxy.address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.reset();
    }
    eventually("every race is over", || proxy.totals().legs == 1 + CLIENTS as u64);
    // Of those whose request was read before the reset came, some had been sent.
    let sent = backend.requests.len() - 1;
    assert!(proxy.totals().connections_opened <= 1 + sent as u64, "{:?}, {sent} were sent", proxy.totals());
}

/// Was seen as: one byte of a next request before the client's end kept the race going.
#[test]
fn a_client_that_stops_within_its_next_request_abandons_its_race() {
    let long = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(50_000));
    let rows = [
        ("a byte", "G"),
        ("an empty line", "\r\n"),
        ("a part of a head", "GET /next HTTP/1.1\r\nHost: a\r\n"),
        ("a part of a body", "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab"),
        ("a part of chunks", "POST /next HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("a part of a long body", &long),
    ];
    for (label, part) in rows {
        for is_pipelined in [true, false] {
            let backend = Raw::hanging();
            let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
            let mut client = Client::connect(proxy.address);
            let (behind, later) = if is_pipelined { (part, "") } else { ("", part) };
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{behind}"));
            backend.next();
            assert!(!backend.was_hung_up_on(), "{label}, pipelined: {is_pipelined}");
            client.send(later);
            client.half_close();
            backend.expect_hang_up();
            assert!(client.is_closed(), "{label}, pipelined: {is_pipelined}");
            proxy.stop();
        }
    }
}

#[test]
fn a_client_that_stops_behind_another_whole_request_waits_for_the_first_answer() {
    let rest = "x".repeat(100_000);
    let nexts = [
        "GET /next HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\nGET".to_owned(),
        format!("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{rest}", rest.len()),
        "POST /next HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".to_owned(),
    ];
    for (number, next) in nexts.iter().enumerate() {
        for is_pipelined in [true, false] {
            let gate = Gate::new();
            let backend = winning_behind(&gate);
            let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
            let mut client = Client::connect(proxy.address);
            let (behind, later) = if is_pipelined { (next.as_str(), "") } else { ("", next.as_str()) };
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{behind}"));
            backend.next();
            client.send(later);
            client.half_close();
            // A moment in which the end is noticed.
            assert_eq!(proxy.update(std::slice::from_ref(&backend.url)).status, 200);
            gate.open();
            assert_eq!(client.reply().text(), "won", "next {number}, pipelined: {is_pipelined}");
        }
    }
}

/// What a backend does behind the start of a body.
const FLOWS: [&str; 3] = ["says nothing", "goes on", "can't go on"];

/// A backend that answers `/1/2` in the second framing, and then does the third of those; it tells when it was hung up on.
fn streaming(is_tls: bool) -> (Backend, Receiver<()>) {
    let (sender, hung_up) = unbounded();
    let block = vec![b'x'; 64 * 1024];
    let backend = Backend::serving(is_tls, move |mut far| {
        let Some(request) = far.request() else { return };
        let target = Received::parse(&request).target;
        let mut numbers = target.split('/').skip(1).map(|number| number.parse::<usize>().expect("a number"));
        let (framing, flow) =
            (Framing::ALL[numbers.next().expect("a framing")], FLOWS[numbers.next().expect("a flow")]);
        far.send(framing.head(1 << 30));
        far.send(framing.piece("some"));
        if flow == "says nothing" {
            far.wait_for_hang_up();
        } else {
            let piece = framing.piece(&block);
            while far.try_send(&piece).is_ok() {}
        }
        let _ = sender.send(());
    });
    (backend, hung_up)
}

#[test]
fn a_client_that_leaves_while_a_body_streams_has_the_winner_hung_up_on_at_once() {
    let leaves: [(&str, fn(Client) -> Option<Client>); 3] = [
        ("close", |client| {
            drop(client);
            None
        }),
        ("reset", |client| {
            client.reset();
            None
        }),
        ("half-close", |client| {
            client.half_close();
            Some(client)
        }),
    ];
    beside_each_other([false, true], |is_tls| {
        let (backend, hung_up) = streaming(is_tls);
        let program = backend.program(&["--timeout", "1h", "--idle-timeout", "1h"]);
        let address = program.address();
        for (framing, flow) in
            (0..Framing::ALL.len()).flat_map(|framing| (0..FLOWS.len()).map(move |flow| (framing, flow)))
        {
            for (way, leave) in leaves {
                let label = format!("TLS: {is_tls}, {:?}, {}, {way}", Framing::ALL[framing], FLOWS[flow]);
                let mut client = Client::cramped(address);
                client.send_request("GET", &format!("/{framing}/{flow}"), &[], None);
                assert_eq!(client.reply_to_head().status, 200, "{label}");
                if FLOWS[flow] == "goes on" {
                    client.read_exact(1 << 20);
                }
                assert!(hung_up.is_empty(), "{label}");
                let left_at = Instant::now();
                let left = leave(client);
                hung_up.recv_timeout(SOON).unwrap_or_else(|_| panic!("{label}: its backend isn't hung up on"));
                let took = left_at.elapsed();
                assert!(took < SOON / 10, "{label}: {took:?}");
                let line = program.line(" GET /");
                let is_told = line.contains(" 200 in ") && line.contains(" (cut, since the client went away: ");
                assert!(is_told, "{label}: {line}");
                drop(left);
            }
        }
    });
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let rows = [
        ("sized", SIZED, "", false),
        ("sized, one byte too few", SIZED, "worl", false),
        ("sized, reset", SIZED, "", true),
        ("cut in a chunk", CHUNKED, "9\r\nwo", false),
        ("cut in a chunk's size", CHUNKED, "9", false),
        ("cut between chunks", CHUNKED, "", false),
        ("bad chunk", CHUNKED, "xyz\r\n", false),
        ("chunked, reset", CHUNKED, "", true),
        ("without a length, reset", "HTTP/1.1 200 OK\r\n\r\nhello", "", true),
        ("HTTP/1.0 without a length, reset", "HTTP/1.0 200 OK\r\n\r\nhello", "", true),
    ];
    for (label, begin, rest, reset) in rows {
        for version in ["1.1", "1.0"] {
            let seen = Gate::new();
            let gate = seen.clone();
            let backend = Raw::serving(move |mut connection| {
                connection.request();
                connection.send(begin);
                gate.pass();
                connection.send(rest);
                if reset {
                    connection.reset();
                }
            });
            let proxy = Proxy::with(std::slice::from_ref(&backend.url), patiently);
            let mut client = Client::connect(proxy.address);
            client.send(format!("GET / HTTP/{version}\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"));
            let mut reply = client.head().expect("a head");
            seen.open();
            client.read_body(&mut reply);
            assert_eq!((reply.status, reply.whole), (200, false), "{label}, to a client of {version}");
            assert!(b"helloworl".starts_with(&reply.body), "{label}");
            assert!(client.is_closed(), "{label}, to a client of {version}");
        }
    }
}
