//! The scenarios of the public Easy Racer course (github.com/jamesward/easyracer) that a racing proxy can run: each asks
//! for the answer `right`, and for losers that are hung up on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Client, Connection, Fake, Gate, Proxy, Raw, Reply, refusing};

/// Longer than any test: a loser that is hung up on before has not been let linger.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A backend that answers `right` once the gate is open.
fn right_behind(gate: &Gate) -> Fake {
    Fake::behind(gate, 200, "right")
}

/// A proxy that hangs up on losers once their linger is over, and on no leg for any other reason.
fn before(backends: &[String]) -> Proxy {
    Proxy::with(backends, |config| {
        config.timeout = FOR_EVER;
        config.idle_timeout = FOR_EVER;
        config.long_look = false;
    })
}

/// A request on its way.
fn ask(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    client
}

fn assert_right(reply: &Reply) {
    assert_eq!((reply.status, reply.text().as_str(), reply.whole), (200, "right", true));
}

/// Scenario 1.
#[test]
fn of_two_racers_the_first_wins_and_the_other_is_hung_up_on() {
    let gate = Gate::new();
    let (slow, quick) = (Raw::hanging(), right_behind(&gate));
    let proxy = before(&[slow.url.clone(), quick.url.clone()]);
    let mut client = ask(&proxy);
    slow.next();
    assert!(!slow.was_hung_up_on(), "it may still win");
    gate.open();
    assert_right(&client.reply());
    slow.expect_hang_up();
    assert_eq!(slow.accepted(), 1);
    proxy.expect_costs(2, 1, 2);
}

/// Scenario 1, with the two at the same moment: the winner's answer is never mixed with the loser's.
#[test]
fn of_two_racers_that_arrive_at_once_one_wins() {
    let backend = |text: &'static str, gate: &Gate| {
        let gate = gate.clone();
        Fake::answering(move |_| {
            gate.pass();
            Fake::reply(200, text.repeat(1000))
        })
    };
    for _ in 0..50 {
        let gate = Gate::new();
        let (left, right) = (backend("left ", &gate), backend("right", &gate));
        let proxy = before(&[left.url.clone(), right.url.clone()]);
        let mut client = ask(&proxy);
        left.next();
        right.next();
        gate.open();
        let text = client.reply().text();
        assert!(text == "left ".repeat(1000) || text == "right".repeat(1000), "{text}");
        proxy.expect_costs(2, 0, 2);
    }
}

/// Scenario 2.
#[test]
fn a_connection_error_loses() {
    let gate = Gate::new();
    let right = right_behind(&gate);
    let breaking = Raw::serving(|mut connection: Connection| {
        connection.request_head();
    });
    let hanging = Raw::hanging();
    let proxy = before(&[refusing(), breaking.url.clone(), hanging.url.clone(), right.url.clone()]);
    let mut client = ask(&proxy);
    hanging.next();
    gate.open();
    assert_right(&client.reply());
    hanging.expect_hang_up();
    proxy.expect_costs(4, 1, 3);
}

/// Scenario 3: no request is answered before all have arrived.
#[test]
fn of_1024_racers_at_once_one_of_each_race_wins_and_all_others_are_hung_up_on() {
    const CLIENTS: usize = 16;
    const BACKENDS: usize = 64;
    let (gate, arrived) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let backend = |number: usize| {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        Raw::serving(move |mut connection: Connection| {
            if connection.request_head().is_none() {
                return;
            }
            if arrived.fetch_add(1, Ordering::SeqCst) + 1 == CLIENTS * BACKENDS {
                gate.open();
            }
            gate.pass();
            if number == BACKENDS / 2 {
                connection.reply(200, "right");
            }
            connection.wait_for_hang_up();
        })
    };
    let backends: Vec<Raw> = (0..BACKENDS).map(backend).collect();
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let proxy = before(&urls);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| ask(&proxy)).collect();
    for client in &mut clients {
        assert_right(&client.reply());
    }
    assert_eq!(arrived.load(Ordering::SeqCst), CLIENTS * BACKENDS);
    for (number, backend) in backends.iter().enumerate().filter(|(number, _)| *number != BACKENDS / 2) {
        (0..CLIENTS).for_each(|_| backend.expect_hang_up());
        assert_eq!(backend.accepted(), CLIENTS, "backend {number}");
    }
    let racers = (CLIENTS * BACKENDS) as u64;
    proxy.expect_costs(racers, racers - CLIENTS as u64, racers);
}

/// Scenario 4: one of two racers is silent for longer than the timeout, and the other for no longer.
#[test]
fn a_racer_that_takes_too_long_loses_alone() {
    let silent = Raw::hanging();
    let moved_on = Gate::new();
    let right = {
        let moved_on = moved_on.clone();
        Raw::serving(move |mut connection: Connection| {
            connection.request_head();
            // The head comes in time; the body may take as long as it likes.
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            moved_on.pass();
            connection.send("right");
            connection.wait_for_hang_up();
        })
    };
    let proxy = Proxy::with(&[silent.url.clone(), right.url.clone()], |config| {
        config.timeout = Duration::from_secs(1);
        config.linger = FOR_EVER;
    });
    let mut client = ask(&proxy);
    silent.expect_hang_up();
    moved_on.open();
    assert_right(&client.reply());
    assert!(!right.was_hung_up_on(), "the winner's line lives on");
    proxy.expect_costs(2, 0, 2);
}

/// A backend that answers with an error and learns that it has been read: the proxy closes the connection then.
fn wrong() -> Raw {
    Raw::serving(|mut connection: Connection| {
        connection.request_head();
        connection.send("HTTP/1.1 500 X\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong");
        connection.wait_for_hang_up();
    })
}

/// Scenario 5.
#[test]
fn an_answer_that_is_no_success_loses_though_it_is_first() {
    let gate = Gate::new();
    let (wrong, right) = (wrong(), right_behind(&gate));
    let proxy = before(&[wrong.url.clone(), right.url.clone()]);
    let mut client = ask(&proxy);
    wrong.expect_hang_up();
    gate.open();
    assert_right(&client.reply());
    proxy.expect_costs(2, 0, 2);
}

/// Scenario 6.
#[test]
fn of_three_racers_one_wrong_and_one_hanging_the_right_one_wins() {
    let gate = Gate::new();
    let (wrong, hanging, right) = (wrong(), Raw::hanging(), right_behind(&gate));
    let proxy = before(&[wrong.url.clone(), hanging.url.clone(), right.url.clone()]);
    let mut client = ask(&proxy);
    wrong.expect_hang_up();
    hanging.next();
    assert!(!hanging.was_hung_up_on(), "it may still win");
    gate.open();
    assert_right(&client.reply());
    hanging.expect_hang_up();
    proxy.expect_costs(3, 1, 3);
}

#[test]
fn a_racer_may_be_a_race_itself() {
    let gate = Gate::new();
    let (inner_loser, right, outer_loser) = (Raw::hanging(), right_behind(&gate), Raw::hanging());
    let inner = before(&[inner_loser.url.clone(), right.url.clone()]);
    let outer = before(&[format!("http://{}", inner.address), outer_loser.url.clone()]);
    let mut client = ask(&outer);
    inner_loser.next();
    outer_loser.next();
    gate.open();
    let reply = client.reply();
    assert_right(&reply);
    assert_eq!(reply.values("via").len(), 2, "both races have signed it: {}", reply.head);
    inner_loser.expect_hang_up();
    outer_loser.expect_hang_up();
    inner.expect_costs(2, 1, 2);
    outer.expect_costs(2, 1, 2);
}

/// Hanging up on a race hangs up on all its racers.
#[test]
fn a_race_that_loses_hangs_up_on_its_racers() {
    let gate = Gate::new();
    let (first, second, right) = (Raw::hanging(), Raw::hanging(), right_behind(&gate));
    // Its own linger doesn't hold them: no leg has won there.
    let inner = Proxy::with(&[first.url.clone(), second.url.clone()], |config| {
        config.linger = FOR_EVER;
        config.timeout = FOR_EVER;
        config.idle_timeout = FOR_EVER;
    });
    let outer = before(&[format!("http://{}", inner.address), right.url.clone()]);
    let mut client = ask(&outer);
    first.next();
    second.next();
    gate.open();
    assert_right(&client.reply());
    first.expect_hang_up();
    second.expect_hang_up();
    inner.expect_costs(2, 2, 2);
    outer.expect_costs(2, 1, 2);
}
