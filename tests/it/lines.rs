//! Connections to backends: used again, given up, never mixed up.

use crate::harness::{Client, Proxy, Raw};

/// What came in one read behind the first request was forgotten there: no edge tells of it again.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Raw::echoing();
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let mut client = Client::connect(proxy.address);
    // More than the front reads in one go, and pieces that end within a request.
    let targets: Vec<String> = (0..600).map(|number| format!("/{number}/{}", "x".repeat(number % 100))).collect();
    let requests = targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.send(requests.collect::<String>());
    for target in targets {
        assert_eq!(client.reply().text(), target);
    }
}
