//! The line of each exchange, and a log that stops nothing. A logger is global, so these start the program itself.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{TryRecvError, bounded};
use red_tentacle::message::Timestamp;
use serde_json::Value;

use crate::harness::{Binary, Client, Connection, Fake, Gate, Raw, eventually, get, own_address, refusing};

/// The text of a line, behind time, level and module, its durations replaced by `_`.
fn shape(line: &str) -> String {
    let (_, text) = line.split_once("] ").expect("a line of the log");
    text.split(' ').map(without_duration).collect::<Vec<_>>().join(" ")
}

fn without_duration(word: &str) -> String {
    let (before, last) = word.rsplit_once('/').map_or(("", word), |(before, last)| (&word[..=before.len()], last));
    let digits = last.strip_suffix("ms").unwrap_or_default();
    let is_duration = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_duration { format!("{before}_") } else { word.to_owned() }
}

/// A request whose client's address is known: what the line says behind `for`, and the status.
fn ask(address: SocketAddr, method: &str, target: &str, fields: &[&str]) -> (SocketAddr, u16) {
    let mut client = Client::connect(address);
    let own = client.stream.local_addr().expect("an address");
    client.send_request(method, target, fields, None);
    (own, client.reply().status)
}

#[test]
fn each_exchange_is_one_line_with_the_whole_race() {
    let gate = Gate::new();
    let good = Fake::behind(&gate, 200, "good");
    let busy = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.wait_for_hang_up();
    });
    let hanging = Raw::hanging();
    let urls = [busy.url.clone(), good.url.clone(), hanging.url.clone()];
    let program = Binary::start(&["--backends", &urls.join(","), "--linger-unsafe", "0s"]);
    let (address, _) = program.addresses();
    let mut client = Client::connect(address);
    let own = client.stream.local_addr().expect("an address");
    client.send_request("DELETE", "/a/b?c=d", &[], None);
    hanging.next();
    // The proxy closes that connection once it has read the 503.
    busy.expect_hang_up();
    gate.open();
    assert_eq!(client.reply().text(), "good");
    let [b1, b2, b3] = urls;
    let line = shape(&program.line("DELETE"));
    let legs = format!("b1=503/_ b2=200/_ b3=cancelled [b1 {b1}, b2 {b2}, b3 {b3}]");
    assert_eq!(line, format!("DELETE /a/b?c=d 200 in _ by b2 {legs} for {own}"));
}

/// Was seen as: a POST that a hung backend got, too, stood in the log five seconds later, at the time of that.
#[test]
fn a_line_has_the_time_of_arrival_and_waits_for_no_leg_that_takes_long() {
    let (gates, late) = ([Gate::new(), Gate::new()], Gate::new());
    let held = gates.clone();
    let good = Fake::answering(move |request| {
        held[usize::from(request.method == "GET")].pass();
        Fake::reply(200, "good")
    });
    let slow = Fake::behind(&late, 200, "late");
    // Not before the first line is awaited: hung up on by then, the slow leg would have ended.
    let arguments = ["--linger", "60s", "--linger-unsafe", "60s", "--timeout", "60s"];
    let program = Binary::start(&[&["--backends", &[&*good.url, &*slow.url].join(",")][..], &arguments].concat());
    let address = program.address();
    for method in ["POST", "GET"] {
        let gate = gates[usize::from(method == "GET")].clone();
        let mut client = Client::connect(address);
        client.send_request(method, "/x", &[], (method == "POST").then_some(b"body"));
        let asked = [good.next(), slow.next()];
        assert!(asked.iter().all(|request| request.method == *method));
        let arrived = Timestamp(SystemTime::now()).to_string();
        eventually("a millisecond is over", || Timestamp(SystemTime::now()).to_string() > arrived);
        gate.open();
        assert_eq!(client.reply().text(), "good");
        let line = program.line("/x 200");
        let legs = format!("b1=200/_ b2=… [b1 {}, b2 {}]", good.url, slow.url);
        assert!(shape(&line).contains(&legs), "{line}");
        let (time, _) = line.split_once(' ').expect("a time");
        assert!(*time <= *arrived, "{line}: arrived by {arrived}");
    }
    late.open();
    program.signal("TERM");
    assert!(!program.rest().contains("/x"), "each line is written once");
}

#[test]
fn a_line_tells_the_client_before_trusted_proxies() {
    // tiny_http takes no fields beyond ASCII.
    let good = Raw::echoing();
    let program = Binary::start(&["--backends", &good.url, "--trusted-proxies", "127.0.0.1,10.0.0.0/8"]);
    let (address, admin) = program.addresses();
    let rows: [(&[&str], &str); 7] = [
        (&[], ""),
        (&["X-Forwarded-For: 203.0.113.9"], "203.0.113.9 via "),
        (&["X-Forwarded-For: 127.0.0.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9 via "),
        (
            &["X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: [2001:db8::9]:567", "X-Forwarded-For: 10.0.0.7"],
            "[2001:db8::9]:567 via ",
        ),
        (&["X-Forwarded-For: 10.0.0.8, 10.0.0.7"], "10.0.0.8 via "),
        (&["X-Forwarded-For: 203.0.113.9, \u{202e}forged, 10.0.0.7"], "10.0.0.7 via "),
        (&["Forwarded: for=203.0.113.9"], ""),
    ];
    for (number, (fields, client)) in rows.iter().enumerate() {
        let (own, status) = ask(address, "GET", &format!("/client/{number}/"), fields);
        assert_eq!(status, 200);
        let line = program.line(&format!("/client/{number}/"));
        assert!(line.ends_with(&format!("] for {client}{own}")), "{fields:?}: {line}");
    }
    // Who may update is the peer's business, whatever is said of clients before it.
    let (own, status) = ask(admin, "POST", "/update-backends?backends=x", &["X-Forwarded-For: 127.0.0.1"]);
    assert_eq!(status, 403);
    let line = program.line(" 403 ");
    assert!(line.ends_with(&format!("(X-Forwarded-*): use --admin-token-file) for 127.0.0.1 via {own}")), "{line}");
    let program = Binary::start(&["--backends", &good.url, "--trusted-proxies", "none"]);
    let (own, _) = ask(program.address(), "GET", "/none", &["X-Forwarded-For: 203.0.113.9"]);
    assert!(program.line("/none").ends_with(&format!("] for {own}")));
}

#[test]
fn a_race_that_no_leg_won_is_a_warning_with_every_word() {
    let missing = Fake::with(404, "no");
    let (closing, noise, silent) = (Raw::serving(drop_after_request), Raw::answering("noise\r\n\r\n"), Raw::hanging());
    let urls = [missing.url.clone(), refusing(), closing.url.clone(), noise.url.clone(), silent.url.clone()];
    let program = Binary::start(&["--backends", &urls.join(","), "--timeout", "1s"]);
    let (address, _) = program.addresses();
    let (own, status) = ask(address, "GET", "/x", &[]);
    assert_eq!(status, 502);
    let line = program.line("/x");
    assert!(line.contains(" WARN "), "{line}");
    let line = shape(&line);
    assert!(line.starts_with("GET /x 502 in _ b1=404/_ b2=refused b3=closed b4=protocol b5=timeout [b1 "), "{line}");
    assert!(urls.iter().enumerate().all(|(at, url)| line.contains(&format!("b{} {url}", at + 1))), "{line}");
    assert!(line.ends_with(&format!(", b5 {}] for {own}", silent.url)), "{line}");
}

fn drop_after_request(mut connection: Connection) {
    connection.request();
}

#[test]
fn that_a_backend_hangs_and_that_it_answers_again_are_lines_of_their_own() {
    let (good, gate) = (Fake::with(200, "good"), Gate::new());
    let hung = Fake::behind(&gate, 404, "here again");
    let urls = [&*good.url, &*hung.url].join(",");
    let program = Binary::start(&["--backends", &urls, "--linger", "60s", "--timeout", "1s", "--max-unanswered", "2"]);
    let address = program.address();
    let (enough, is_enough) = bounded::<()>(0);
    // One times out, and two more wait.
    let client = thread::spawn(move || {
        while is_enough.try_recv() == Err(TryRecvError::Empty) {
            assert_eq!(get(address, "/").text(), "good");
        }
    });
    let line = program.line(" hangs ");
    let (begin, end) = (format!("b2 {} hangs since 20", hung.url), "Z: asked once a second");
    assert!(line.contains(" WARN ") && line.contains(&begin) && line.ends_with(end), "{line}");
    gate.open();
    let line = program.line(" answers again");
    assert!(line.contains(" INFO ") && line.ends_with(&format!("] b2 {} answers again", hung.url)), "{line}");
    drop(enough);
    client.join().expect("the client");
    program.signal("TERM");
    assert!(!program.rest().contains(" hangs "));
}

#[test]
fn a_client_that_leaves_is_told_as_499() {
    let hanging = Raw::hanging();
    let program = Binary::start(&["--backends", &hanging.url]);
    let (address, _) = program.addresses();
    let mut client = Client::connect(address);
    let own = client.stream.local_addr().expect("an address");
    client.send_request("GET", "/left", &[], None);
    hanging.next();
    drop(client);
    let line = shape(&program.line("/left"));
    assert_eq!(line, format!("GET /left 499 in _ b1=cancelled [b1 {}] for {own}", hanging.url));
}

/// Was seen as: a race went on to its timeout if its client had left before the request was read.
#[test]
fn a_client_that_leaves_at_once_is_noticed_as_well() {
    let hanging = Raw::hanging();
    let program = Binary::start(&["--backends", &hanging.url, "--timeout", "60s"]);
    let (address, _) = program.addresses();
    for number in 0..20 {
        Client::connect(address).send_request("GET", &format!("/at-once/{number}"), &[], None);
    }
    for number in 0..20 {
        let line = program.line("/at-once/");
        assert!(line.contains(" 499 in "), "line {number}: {line}");
    }
}

#[test]
fn a_reply_that_was_cut_is_told_with_the_reason() {
    let breaking = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegin");
    });
    let program = Binary::start(&["--backends", &breaking.url]);
    let (address, _) = program.addresses();
    let reply = get(address, "/broken");
    assert_eq!((reply.whole, reply.text().as_str()), (false, "begin"));
    let line = program.line("/broken");
    assert!(line.contains(" WARN ") && line.contains("by b1 (cut, since the backend's body broke off: "), "{line}");
}

/// Was seen as: each stream that its client had enough of was a warning that its backend's body had broken off; and then a warning
/// still, so that among those of a site with event streams nobody found the others.
#[test]
fn a_client_that_leaves_within_a_body_is_blamed_and_not_the_backend() {
    let heads = ["Content-Length: 100000000\r\n", "Transfer-Encoding: chunked\r\n", ""];
    for (head, is_reset) in heads.into_iter().flat_map(|head| [(head, false), (head, true)]) {
        let backend = Raw::serving(move |mut connection: Connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nbegin\r\n"));
            connection.wait_for_hang_up();
        });
        let program = Binary::start(&["--backends", &backend.url]);
        let mut client = Client::connect(program.address());
        client.send_request("GET", "/endless", &[], None);
        assert_eq!(client.head().expect("a head").status, 200);
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        let line = program.line("/endless");
        let is_blamed = line.contains(" 200 in ") && line.contains(" (cut, since the client went away: ");
        assert!(is_blamed && line.contains(" INFO "), "{head}, by a reset: {is_reset}: {line}");
    }
}

/// Was seen as: the client alone was blamed, and nothing counted, where a backend sent heads and no bodies and clients had less patience than
/// `--idle-timeout`.
#[test]
fn a_client_that_leaves_since_the_body_stands_still_is_told_so_and_counts_for_the_backend() {
    let stuck = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin");
        connection.wait_for_hang_up();
    });
    let program = Binary::start(&["--backends", &stuck.url]);
    let (address, admin) = program.addresses();
    let mut client = Client::connect(address);
    client.send_request("GET", "/stuck", &[], None);
    client.stream.set_read_timeout(Some(Duration::from_millis(1100))).expect("a timeout");
    assert!(client.stream.read_to_end(&mut Vec::new()).is_err(), "patience");
    drop(client);
    let line = program.line("/stuck");
    assert!(line.contains("(cut, since the client went away: no more of the backend's body had come for 1"), "{line}");
    let metrics = get(admin, "/metrics").text();
    assert!(
        metrics.contains(&format!("red_tentacle_broken_answers_total{{backend=\"{}\"}} 1\n", stuck.url)),
        "{metrics}"
    );
}

#[test]
fn another_protocol_is_told_by_its_name() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url]);
    let address = program.address();
    let rows: [(&[u8], &str); 4] = [
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ": 400 The request line isn't a method, a target and a version, but the start of TLS",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ": 505 Only HTTP/1.0 and HTTP/1.1 are spoken here, not HTTP/2"),
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.1 51286 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "a target and a version, but the PROXY protocol, which isn't spoken here",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\xc8\x56\0\x50GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "a target and a version, but the PROXY protocol, which isn't spoken here",
        ),
    ];
    for (bytes, told) in rows {
        let mut client = Client::connect(address);
        client.send(bytes);
        let line = program.line("refused");
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn a_refusal_names_what_was_asked_for_as_far_as_it_is_known() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url, "--max-body", "9B"]);
    let address = program.address();
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000));
    let cut = format!(" (GET /{}…)", "x".repeat(1023));
    let rows: [(&str, &str, &str); 6] = [
        ("a bad field", "PUT /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", " (PUT /a?b)"),
        ("a long body", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", " (PUT /a)"),
        (
            "a body that turns out long",
            "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
            " (PUT /a)",
        ),
        ("a long target", &long, &cut),
        ("no target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("noise", "/ /a HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    ];
    for (label, bytes, asked) in rows {
        let mut client = Client::connect(address);
        client.send(bytes);
        let status = client.reply().status;
        let line = program.line("refused");
        let sentence = line.split_once(&format!(": {status} ")).expect("the status").1;
        assert!(sentence.ends_with(asked) && sentence.contains('(') != asked.is_empty(), "{label}: {line}");
    }
}

#[test]
fn debug_and_trace_tell_what_a_leg_does() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Raw::serving(move |mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin");
        held.pass();
        connection.send("-end");
        connection.request();
        connection.reply(200, "again");
    });
    let url = slow.url.replace("127.0.0.1", "localhost");
    let program = Binary::start(&["--backends", &url, "--log-level", "trace"]);
    let address = program.address();
    let mut client = Client::connect(address);
    client.send_request("GET", "/x", &["X-Request-ID: my-id"], None);
    assert_eq!(client.head().expect("a head").status, 200);
    let begun = program.lines_until("has begun by b1").concat();
    assert!(begun.contains("my-id GET /x for 127.0.0.1:") && begun.contains(": 200 has begun by b1"), "{begun}");
    for step in ["my-id b1 starts", "b1 looks its name up", "looked up localhost: [", "opened a connection to"] {
        assert!(begun.contains(step), "{step}: {begun}");
    }
    assert!(begun.contains("my-id b1 awaits the answer"), "{begun}");
    gate.open();
    let ended = program.lines_until("GET /x 200").concat();
    assert!(ended.contains("my-id b1") && ended.contains("ended as 200 after"), "{ended}");
    assert_eq!(get(address, "/again").text(), "again");
    let again = program.lines_until("closes a connection to").concat();
    assert!(again.contains("uses a connection to") && again.contains("GET /again 200"), "{again}");
}

#[test]
fn the_start_updates_and_refusals_are_told() {
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let program = Binary::start(&["--backends", &old.url]);
    let lines = program.lines_until("the backends are now");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let shapes: Vec<String> = lines.iter().map(|line| shape(line)).collect();
    let address = shapes[0].strip_prefix(concat!("red-tentacle ", env!("CARGO_PKG_VERSION"), " listens on "));
    let admin = shapes[1].strip_prefix("updates are taken on ");
    assert_eq!(shapes[2], format!("the backends are now {}", old.url));
    let address: SocketAddr = address.and_then(|address| address.parse().ok()).expect("an address");
    let admin: SocketAddr = admin.and_then(|address| address.parse().ok()).expect("an address");

    let update = format!("/-update-backends?backends={},http://other.example/base", new.url);
    let (own, status) = ask(admin, "POST", &update, &[]);
    assert_eq!(status, 200);
    let list = format!("{}, http://other.example/base", new.url);
    assert_eq!(shape(&program.line("the backends")), format!("the backends are now {list}"));
    assert_eq!(shape(&program.line("POST")), format!("POST {update} 200 in _ for {own}"));

    let (own, status) = ask(address, "POST", "/update-backends?backends=x", &["Origin: http://page.example"]);
    assert_eq!(status, 403);
    let reason = "(Forbidden; a page in a browser sent the request (Origin): use --admin-token-file)";
    let told = format!("POST /update-backends?backends=x 403 in _ {reason} for {own}");
    assert_eq!(shape(&program.line("403")), told);

    let (own, status) = ask(admin, "POST", "/update-backends?backends=x", &[]);
    assert_eq!(status, 400);
    let line = shape(&program.line("400"));
    assert!(line.contains("the list stays as it was; 'x': it must begin with http:// or https://)"), "{line}");
    assert!(line.ends_with(&format!(" for {own}")), "{line}");

    let mut client = Client::connect(address);
    let own = client.stream.local_addr().expect("an address");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    assert_eq!(shape(&program.line("refused")), format!("refused {own}: 400 Host is missing (GET /)"));
    program.signal("TERM");
    let end = program.lines_until("stopped");
    assert!(end[0].ends_with("stopping: no more clients are accepted"), "{end:#?}");
}

const FORGED: &str = "2026-01-01T00:00:00.000Z INFO  [red_tentacle::access_log] GET /forged";

/// Requests that would end their line, or turn it round.
fn forgeries() -> [(&'static str, String); 10] {
    [
        ("a line's end, encoded", "GET /%0aforged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a line separator", "GET /\u{2028}forged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a paragraph separator", "GET /\u{2029}forged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a next line", "GET /\u{85}forged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("text turned round", "GET /\u{202e}forged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("an escape sequence", "GET /\u{1b}[2Jforged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a CR in a target", format!("GET /\r{FORGED} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("a LF in a field", format!("GET / HTTP/1.1\r\nHost: a\r\nX: b\n{FORGED}\r\n\r\n")),
        ("a separator in Host", "GET / HTTP/1.1\r\nHost: a\u{2028}forged\r\n\r\n".to_owned()),
        ("a method of its own", "FORGED GET /forged HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
    ]
}

#[test]
fn a_client_cannot_forge_a_line() {
    let good = Fake::with(200, "good");
    let program = Binary::start(&["--backends", &good.url]);
    let (address, admin) = program.addresses();
    program.line("the backends are now");
    let rows = forgeries();
    for (label, bytes) in &rows {
        assert_one_clean_line(&program, address, bytes, label);
    }
    let encoded = FORGED.replace(' ', "%20");
    for target in [format!("/-update-backends?backends=x%0A{encoded}"), format!("/x%E2%80%A8{encoded}")] {
        let bytes = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_one_clean_line(&program, admin, &bytes, &target);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8000));
    let line = assert_one_clean_line(&program, address, &long, "a long target");
    assert!(line.len() < 1500, "{} bytes", line.len());
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let (good, noise) = (Fake::with(200, "good"), Raw::answering("HTTP/1.1 200 \u{1b}[2J\"\r\nX: \0\r\n\r\n"));
    let urls = [&*good.url, &*noise.url].join(",");
    let program = Binary::start(&["--backends", &urls, "--log-format", "json", "--log-level", "trace"]);
    let started = program.lines_until("the backends are now");
    let started: Vec<Value> = started.iter().map(|line| object(line)).collect();
    let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned).expect("a string");
    let told = |begin: &str| {
        started.iter().map(|line| text(line, "msg")).find_map(|msg| msg.strip_prefix(begin).map(str::to_owned))
    };
    let listens = told(concat!("red-tentacle ", env!("CARGO_PKG_VERSION"), " listens on "));
    let address: SocketAddr = listens.and_then(|address| address.parse().ok()).expect("an address");
    assert_eq!(
        (&started[0]["level"], &started[0]["target"]),
        (&Value::from("INFO"), &Value::from("red_tentacle::server"))
    );

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let (own, _) = ask(address, "GET", "/a?b=\"c", &["X-Request-ID: my-id", &parent]);
    let line = object(&program.line("\"id\":\"my-id\""));
    let strings = ["id", "trace", "method", "target", "verdict", "by", "how", "peer"].map(|name| text(&line, name));
    assert_eq!(strings, ["my-id", trace, "GET", "/a?b=\"c", "won", "b1", "won", &own.to_string()]);
    assert!(line["status"] == 200 && line["ms"].as_f64().is_some_and(|ms| ms < 20_000.0), "{line}");
    let leg = |at: usize| (line["legs"][at]["b"].clone(), line["legs"][at]["outcome"].clone());
    assert_eq!([leg(0), leg(1)], [("b1".into(), "200".into()), ("b2".into(), "protocol".into())]);
    for (label, bytes) in forgeries() {
        let mut client = Client::connect(address);
        let own = client.stream.local_addr().expect("an address");
        client.send(&bytes);
        client.reply();
        for line in program.lines_until(&own.to_string()) {
            assert!(object(&line).get("ts").is_some(), "{label}: {line}");
        }
    }
    program.signal("TERM");
    assert!(program.rest().lines().all(|line| object(line).is_object()));
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn lines_for_the_journal_begin_with_their_priority() {
    let (good, address) = (Fake::with(200, "good"), own_address());
    let mut command = Binary::command_to_journal();
    command.args(["--backends", &good.url, "--listen", &address.to_string(), "--admin-listen", "off"]);
    let program = Binary::spawn(command);
    assert!(program.line("listens on").starts_with("<6>20"));
    assert_eq!(get(address, "/x").text(), "good");
    assert!(program.line("/x").starts_with("<6>20"));
    Client::connect(address).send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
    assert!(program.line("refused").starts_with("<6>20"));
    let (_, status) = ask(address, "POST", "/update-backends?backends=x", &["Origin: http://page.example"]);
    assert!(status == 403 && program.line("403").starts_with("<4>20"));
}

/// Sends a request: what the log tells of it is one line, which shows no control character and nothing that looks like one.
fn assert_one_clean_line(program: &Binary, address: SocketAddr, bytes: &str, label: &str) -> String {
    let mut client = Client::connect(address);
    let own = client.stream.local_addr().expect("an address");
    client.send(bytes);
    let status = client.reply().status;
    let mut lines = program.lines_until(&own.to_string());
    let line = lines.pop().expect("the line that was waited for");
    assert!(lines.is_empty(), "{label}: {lines:#?}");
    assert!(line.contains(&status.to_string()), "{label}: {line}");
    let (time, rest) = line.split_once(' ').expect("the time");
    assert!(time.len() >= "2026-01-01T00:00:00Z".len() && time.ends_with('Z'), "{label}: {line}");
    assert!(rest.starts_with("INFO  [red_tentacle::") || rest.starts_with("WARN  [red_tentacle::"), "{label}: {line}");
    let misleads = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!line.contains(misleads), "{label}: {line:?}");
    line
}

/// A command for a program before this backend at an address of its own, for logs that can't tell the address.
fn command_at(mut command: Command, backend: &Fake) -> (Command, SocketAddr, SocketAddr) {
    let (address, admin) = (own_address(), own_address());
    command.args(["--backends", &backend.url, "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
    (command, address, admin)
}

fn eventually_up(address: SocketAddr) {
    eventually("the program listens", || TcpStream::connect(address).is_ok());
}

fn assert_serves(address: SocketAddr) {
    for number in 0..20 {
        assert_eq!(get(address, &format!("/still/{number}")).text(), "good");
    }
}

#[test]
fn a_closed_or_failing_standard_error_stops_nothing() {
    let good = Fake::with(200, "good");
    for (redirection, is_counted) in [("2>&-", false), ("2>/dev/full", true)] {
        let (command, address, admin) = command_at(Binary::command_with_redirection(redirection), &good);
        let mut program = Binary::spawn(command);
        eventually_up(address);
        assert_serves(address);
        // Was seen as: of a log whose disk was full none was lost.
        let none = "\nred_tentacle_log_lines_dropped_total 0\n";
        eventually("what is lost is counted", || get(admin, "/metrics").text().contains(none) != is_counted);
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0), "{redirection}");
    }
}

#[test]
fn a_reader_of_the_log_that_goes_away_stops_nothing() {
    let good = Fake::with(200, "good");
    let mut program = Binary::start(&["--backends", &good.url]);
    let (address, admin) = program.addresses();
    program.stop_reading();
    assert_serves(address);
    assert_eq!(get(admin, "/nothing").status, 404);
    assert_serves(address);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

/// More lines than a pipe and the queue of the log take: 64 KiB and 4096 lines.
const FLOOD: usize = 5000;

/// Has lines written until the log is stuck. The cheapest ones: the admin port answers them by itself.
fn flood(admin: SocketAddr) {
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(900));
    let mut client = Client::connect(admin);
    for _ in 0..FLOOD / 50 {
        client.send(request.repeat(50));
        assert!((0..50).all(|_| client.reply().status == 404));
    }
}

#[test]
fn a_blocked_standard_error_stops_nothing_and_is_told_how_many_lines_were_lost() {
    let good = Fake::with(200, "good");
    let (command, address, admin) = command_at(Binary::command(), &good);
    let (mut program, stderr) = Binary::spawn_unread(command);
    eventually_up(admin);
    flood(admin);
    assert_serves(address);
    program.read(stderr);
    let mut lines = program.lines_until("lines of the log were lost");
    // One line has been written since the queue was full, so it has room for this one.
    assert_eq!(get(address, "/after").text(), "good");
    lines.extend(program.lines_until("/after"));
    let lost = |line: &String| {
        shape(line).strip_suffix(" lines of the log were lost: standard error was too slow")?.parse().ok()
    };
    let lost: Vec<usize> = lines.iter().filter_map(lost).collect();
    let written = lines.len() - lost.len();
    assert!(written > 4096 && lost.iter().sum::<usize>() > 0, "{written} written, {lost:?} lost");
    // Three lines tell the start; 20 and 1 requests came besides the flood.
    assert_eq!(written + lost.iter().sum::<usize>(), 3 + FLOOD + 20 + 1, "every line was written or counted");
}

#[test]
fn a_blocked_standard_error_does_not_stop_the_end() {
    let good = Fake::with(200, "good");
    let (command, address, admin) = command_at(Binary::command(), &good);
    let (mut program, _stderr) = Binary::spawn_unread(command);
    eventually_up(admin);
    flood(admin);
    assert_serves(address);
    let told = Instant::now();
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(8), "the end took {:?}", told.elapsed());
}
