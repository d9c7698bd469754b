//! Thousands of clients that say nothing, or nearly nothing.

use std::io::Write;
use std::time::Instant;

use crate::harness::{Binary, Client, Raw, SOON, descriptors};

/// What a client that waits may cost in memory.
const BYTES_MAX: usize = 8 * 1024;

/// The program takes a quarter of its descriptors for clients, and other tests need some of ours.
fn clients_max() -> usize {
    (descriptors() / 5).min(5000)
}

#[test]
fn thousands_of_idle_and_dripping_clients_cost_little_and_delay_nobody() {
    let count = clients_max();
    assert!(count >= 150, "raise the limit of open files: ulimit -n");
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let program = Binary::start(&["--backends", &backend.url]);
    let address = program.address();
    let idle = || {
        let mut client = Client::connect(address);
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "good");
        client
    };
    let dripping = || {
        let mut client = Client::connect(address);
        client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Le");
        client
    };
    // What the first ones need is needed once.
    let mut clients: Vec<Client> = (0..count / 10).map(|_| idle()).collect();
    let (before, threads) = (program.resident_bytes(), program.threads());
    let more = count - clients.len();
    // Those that have asked may be silent for a minute, a head may take ten seconds: so it comes last.
    clients.extend((0..more * 3 / 4).map(|_| idle()));
    let silent = clients.len();
    clients.extend((0..more / 4).map(|_| dripping()));
    for client in &mut clients[silent..] {
        // A server that is slower than ten seconds has closed it by now.
        let _ = client.stream.write_all(b"n");
    }
    let each = program.resident_bytes().saturating_sub(before) / more;
    let asked = Instant::now();
    assert_eq!(Client::connect_and_get(address).expect("a reply").text(), "good");
    let took = asked.elapsed();
    println!("{count} clients: {each} bytes each, {} threads, a request takes {took:?}", program.threads());
    assert!(program.descriptors() >= silent, "only {} descriptors are open", program.descriptors());
    assert!(each < BYTES_MAX, "{each} bytes for each client");
    assert!(program.threads() <= threads.max(16), "{} threads, {threads} before", program.threads());
    assert!(took < SOON / 10, "a request takes {took:?}");
}
