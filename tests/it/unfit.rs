//! Answers that would win by their heads, and don't: since a rule matches, or since no byte of their body has come.

use std::time::Duration;

use red_tentacle::config::LoseIf;

use crate::harness::{Binary, Client, Connection, Fake, Gate, Proxy, Raw, SOON, eventually, get, patiently};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

fn shown(proxy: &Proxy, target: &str) -> String {
    get(proxy.admin, target).text()
}

#[test]
fn an_error_of_json_rpc_in_a_200_loses_to_a_result() {
    let (wrong, right) =
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000}}"#, r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#);
    let gate = Gate::new();
    let failing = Fake::with(200, wrong);
    let slow = Fake::behind(&gate, 200, right);
    let proxy = Proxy::with(&[failing.url.clone(), slow.url.clone()], |config| {
        patiently(config);
        config.linger_unsafe = 3 * SOON;
        config.lose_if = LoseIf::parse("body ~ \"error\"\\s*:").expect("a rule");
    });
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/", &["X-Request-ID: rpc", "Accept-Encoding: gzip"], Some(b"{}"));
    assert!(failing.next().values("accept-encoding").is_empty(), "a rule could not see through it");
    slow.next();
    gate.open();
    assert_eq!(client.reply().text(), right);
    eventually("the race is over", || shown(&proxy, "/races/rpc").contains("\"backend\":\"b1\",\"outcome\":\"unfit\""));
    let series = format!("legs_total{{backend=\"{}\",outcome=\"unfit\"}} 1", failing.url);
    assert!(shown(&proxy, "/metrics").contains(&series));
}

#[test]
fn the_log_tells_the_rule_and_the_client_its_number_alone() {
    let stale = Raw::answering("HTTP/1.1 200 OK\r\nX-Cache: STALE\r\nContent-Length: 0\r\n\r\n");
    let program =
        Binary::start(&["--backends", &stale.url, "--lose-if", "header x-a", "--lose-if", "header x-cache ~ ^STALE"]);
    let reply = get(program.address(), "/");
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("b1 unfit: the answer is unfit by the proxy's rules\n"), "{}", reply.text());
    program.line("(rule 2, header x-cache ~ ^STALE)");
}

#[test]
fn an_encoded_body_is_not_looked_at_which_is_told_once() {
    let encoded = Raw::answering("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nerror");
    let program = Binary::start(&["--backends", &encoded.url, "--lose-if", "body ~ error"]);
    let address = program.address();
    assert_eq!(get(address, "/").text(), "error");
    program.line("encodes bodies unasked: rules for bodies don't match them");
    assert_eq!(get(address, "/").text(), "error");
}

#[test]
fn of_two_providers_the_first_that_says_something_wins_and_its_comments_are_passed_on() {
    let gate = Gate::new();
    let held = gate.clone();
    let empty = Raw::serving(|mut connection: Connection| {
        connection.request();
        connection.send([STREAM, ": PROCESSING\n\n"].concat());
        connection.wait_for_hang_up();
    });
    let talking = Raw::serving(move |mut connection: Connection| {
        connection.request();
        connection.send([STREAM, ": connected\n\n"].concat());
        held.pass();
        connection.send("data: hello\n\ndata: [DONE]\n\n");
    });
    let proxy = Proxy::with(&[empty.url.clone(), talking.url.clone()], |config| {
        patiently(config);
        config.win_on_byte = true;
    });
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/v1/chat/completions", &[], Some(b"{}"));
    empty.next();
    talking.next();
    gate.open();
    let reply = client.reply();
    assert_eq!(reply.text(), ": connected\n\ndata: hello\n\ndata: [DONE]\n\n");
    empty.expect_hang_up();
}

#[test]
fn a_provider_that_sends_a_head_and_nothing_else_times_out() {
    let (silent, _told) = Raw::stuck_behind([STREAM, ": x\n\n"].concat());
    let proxy = Proxy::with(std::slice::from_ref(&silent.url), |config| {
        config.timeout = Duration::from_millis(200);
        config.win_on_byte = true;
    });
    let reply = proxy.get("/");
    assert!(reply.status == 502 && reply.text().contains("b1 timeout"), "{}", reply.text());
}

#[test]
fn what_no_rule_has_matched_by_the_timeout_wins() {
    let (endless, _told) = Raw::stuck_behind([STREAM, "data: x\n\n"].concat());
    let proxy = Proxy::with(std::slice::from_ref(&endless.url), |config| {
        config.timeout = Duration::from_millis(200);
        config.lose_if = LoseIf::parse("body ~ error").expect("a rule");
    });
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    assert_eq!(client.head().expect("a head").status, 200);
}
