//! `--try`: one race from the shell, by the very configuration.

use std::net::TcpListener;

use crate::harness::{Binary, Fake, Raw, refusing};

#[test]
fn a_race_that_is_won_is_drawn_a_line_a_leg_and_ends_with_0() {
    let (good, missing) = (Fake::with(200, "good"), Fake::with(404, "no"));
    let list = format!("{} name=dc1,{},{}", missing.url, good.url, refusing());
    // Neither is used: whatever runs there isn't disturbed.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let mut command = Binary::command();
    command.args([
        "--backends",
        &list,
        "--try",
        "/a?b=c",
        "--listen",
        &listen,
        "--admin-listen",
        &listen.replace("127.0.0.1", "127.0.0.2"),
    ]);
    let ended = Binary::run(command);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!((ended.code, lines.len(), ended.stderr.as_str()), (Some(0), 4, ""), "{ended:?}");
    assert!(lines[0].starts_with("GET /a 200 in ") && lines[0].ends_with(" by b2"), "{ended:?}");
    let rows = [
        ("  dc1  ", "404", missing.url.as_str()),
        ("  b2   ", "▶", good.url.as_str()),
        ("  b3   ", "refused", "http://"),
    ];
    for (line, (name, mark, url)) in lines[1..].iter().zip(rows) {
        assert!(line.starts_with(name) && line.contains(mark) && line.contains(url), "{line}");
    }
    assert_eq!((good.next().target, missing.next().target), ("/a?b=c".to_owned(), "/a?b=c".to_owned()));
}

#[test]
fn a_race_that_is_lost_ends_with_1_and_waits_for_the_timeout_of_a_backend_that_hangs() {
    let hanging = Raw::hanging();
    let mut command = Binary::command();
    command.args(["--backends", &format!("{},{}", refusing(), hanging.url), "--timeout", "300ms", "--try", "/"]);
    let ended = Binary::run(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.starts_with("GET / 502 in ") && ended.stdout.contains("timeout"), "{ended:?}");
    // Why stands in the log.
    assert!(ended.stderr.contains("WARN") && ended.stderr.contains("b1=refused b2=timeout"), "{ended:?}");
}

#[test]
fn tiers_are_drawn_from_their_starts_and_one_that_is_not_needed_not_at_all() {
    let (hanging, good, spare) = (Raw::hanging(), Fake::with(200, "good"), Fake::with(200, "spare"));
    let list =
        format!("{} timeout=300ms,{} name=next after=60ms,{} name=spare after=5s", hanging.url, good.url, spare.url);
    let mut command = Binary::command();
    command.args(["--backends", &list, "--try", "/"]);
    let ended = Binary::run(command);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!((ended.code, lines.len(), ended.stderr.as_str()), (Some(0), 4, ""), "{ended:?}");
    assert!(lines[0].ends_with(" by next") && lines[1].contains("timeout"), "{ended:?}");
    assert!(lines[2].starts_with("  next   ··") && lines[2].contains('▶'), "{ended:?}");
    assert!(lines[3].contains("unneeded") && !lines[3].contains('·'), "{ended:?}");
    assert!(spare.received.is_empty());
}

#[test]
fn a_stream_without_an_end_is_tried_as_well() {
    let endless = Raw::serving(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        connection.wait_for_hang_up();
    });
    let mut command = Binary::command();
    command.args(["--backends", &endless.url, "--timeout", "300ms", "--try", "/events"]);
    let ended = Binary::run(command);
    assert!(ended.code == Some(0) && ended.stdout.starts_with("GET /events 200 in "), "{ended:?}");
    assert!(ended.stdout.contains(" by b1, but its body had no end within --timeout\n"), "{ended:?}");
}

/// Was seen as: a race that was won like any other, by a backend whose body broke off.
#[test]
fn a_body_that_breaks_off_is_told() {
    let half = Raw::serving(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    });
    let mut command = Binary::command();
    command.args(["--backends", &half.url, "--try", "/"]);
    let ended = Binary::run(command);
    assert!(ended.stdout.contains(" by b1, but its body broke off\n"), "{ended:?}");
}

/// Was seen as: the path was the proxy's own, and after 26 s there was no race.
#[test]
fn the_path_of_an_update_is_raced_like_any_other() {
    let good = Fake::with(200, "good");
    let mut command = Binary::command();
    command.args(["--backends", &good.url, "--try", "/update-backends"]);
    let ended = Binary::run(command);
    assert!(ended.code == Some(0) && ended.stdout.starts_with("GET /update-backends 200 in "), "{ended:?}");
    assert_eq!(good.next().target, "/update-backends");
}

/// Was seen as: the reply was there at once, and after 26 s the program said that there was none from a race.
#[test]
fn without_a_race_the_reason_is_told_at_once() {
    let good = Fake::with(200, "good");
    let mut command = Binary::command();
    command.args(["--backends", &good.url, "--max-head", "1KiB", "--timeout", "1h"]);
    command.args(["--try", &format!("/{}", "x".repeat(2048))]);
    let ended = Binary::run(command);
    let expected = "red-tentacle: no race: the proxy answered 431: The head is longer than allowed (--max-head)\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), expected));
    assert!(good.received.is_empty());
}
