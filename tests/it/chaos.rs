//! Backends that misbehave in every way, but one: for request `/N` the one that N names answers, and all others don't.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{Binary, Client, Connection, Load, Raw, eventually};

const BACKENDS: usize = 4;
const CLIENTS: usize = 8;
const REQUESTS: usize = 2400;

/// Numbers that look random and are the same for the same seed (`SplitMix64`).
struct Random(u64);

impl Random {
    /// For one request at one backend.
    fn of(seed: u64, number: usize, backend: usize) -> Random {
        let mut random = Random(seed ^ ((number * BACKENDS + backend) as u64).wrapping_mul(0x2545_F491_4F6C_DD1D));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("a small number")
    }
}

/// The body that belongs to a request: most are short, some are longer than any buffer.
fn body(seed: u64, number: usize) -> Vec<u8> {
    let mut random = Random::of(seed, number, BACKENDS);
    let repeated = if random.below(16) == 0 { random.below(20_000) } else { random.below(100) };
    format!("{number} ").repeat(repeated + 1).into_bytes()
}

/// Answers as one should: with a length or in chunks.
fn behave(connection: &mut Connection, seed: u64, number: usize) {
    let body = body(seed, number);
    if number.is_multiple_of(3) {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        return connection.send([head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
    }
    connection.reply(200, body);
}

/// Whether the connection is still good afterwards.
type Misbehaviour = fn(&mut Connection) -> bool;

const MISBEHAVIOURS: [(&str, Misbehaviour); 12] = [
    ("closes", |_| false),
    ("resets", |connection| {
        let _ = socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
        false
    }),
    ("hangs", |connection| {
        connection.wait_for_hang_up();
        false
    }),
    ("sends garbage", |connection| {
        connection.send("\x00\x01 no HTTP at all\r\n\r\n");
        false
    }),
    ("sends garbage and hangs", |connection| {
        connection.send("HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\nx");
        connection.wait_for_hang_up();
        false
    }),
    ("sends half a head and closes", |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Le");
        false
    }),
    ("sends half a head and hangs", |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n");
        connection.wait_for_hang_up();
        false
    }),
    ("answers 404", |connection| {
        connection.reply(404, "wrong");
        true
    }),
    ("answers 500 and something that nobody asked for", |connection| {
        // In one write: had the second answer come later, nothing would show that it isn't meant for the next request.
        let answer = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nwrong");
        connection.send(answer(500) + &answer(200));
        true
    }),
    ("answers 503 and closes", |connection| {
        connection.reply(503, "wrong");
        false
    }),
    ("cuts a body short", |connection| {
        connection.send("HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nwrong");
        false
    }),
    ("leaves a body unfinished", |connection| {
        connection.send("HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwrong\r\n");
        connection.wait_for_hang_up();
        false
    }),
];

/// The number in `GET /N HTTP/1.1`.
fn number_of(head: &str) -> usize {
    head.split(['/', ' ']).nth(2).and_then(|number| number.parse().ok()).expect("a number")
}

fn backend(own: usize, seed: u64) -> Raw {
    Raw::serving(move |mut connection: Connection| {
        while let Some(head) = connection.request_head() {
            let number = number_of(&head);
            if number % BACKENDS == own {
                behave(&mut connection, seed, number);
                continue;
            }
            let (_, misbehave) = MISBEHAVIOURS[Random::of(seed, number, own).below(MISBEHAVIOURS.len())];
            if !misbehave(&mut connection) {
                return;
            }
        }
    })
}

fn ask(client: &mut Client, seed: u64, number: usize) {
    client.send_request("GET", &format!("/{number}"), &[], None);
    let reply = client.reply();
    let is_right = reply.status == 200 && reply.whole && reply.body == body(seed, number);
    assert!(is_right, "request {number} of seed {seed}: {}{:.200}", reply.head, reply.text());
}

#[test]
fn every_request_gets_its_own_whole_answer_whatever_the_other_backends_do() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = std::env::var("CHAOS_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().expect("a seed"));
    println!("CHAOS_SEED={seed}");
    let backends: Vec<Raw> = (0..BACKENDS).map(|own| backend(own, seed)).collect();
    let urls: Vec<String> = backends.iter().map(|backend| backend.url.clone()).collect();
    let program = Binary::start(&["--backends", &urls.join(",")]);
    let (address, _) = program.addresses();
    let before = program.usage();
    let answered = AtomicUsize::new(0);
    let load = Load { address, clients: CLIENTS, requests: REQUESTS };
    let course = load.watch(program.child.id(), |client, number| {
        ask(client, seed, number);
        answered.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(answered.load(Ordering::SeqCst), REQUESTS);
    println!("{} requests/s, at most {:?}", course.requests_per_second, course.peak());
    // Idle connections are kept for 4 s, idle threads for 10 s.
    let mut after = before;
    eventually("threads and descriptors are back where they were", || {
        after = program.usage();
        after.threads <= before.threads && after.descriptors <= before.descriptors
    });
    println!("from {before:?} to {after:?}");
}

#[test]
fn misbehaviours_are_the_same_for_the_same_seed() {
    let all = |seed| -> Vec<usize> {
        (0..200).map(|number| Random::of(seed, number, 1).below(MISBEHAVIOURS.len())).collect()
    };
    assert_eq!(all(7), all(7));
    assert_ne!(all(7), all(8));
    for (at, (label, _)) in MISBEHAVIOURS.iter().enumerate() {
        assert!(all(7).contains(&at), "a backend that {label}");
    }
}
