//! The cost of a request within the proxy, part by part, with the allocations beside the time: `cargo bench`, or `cargo
//! bench -- head` for a part. No sockets: `benches/peers` measures the whole.

// A head is read by code that is downstream's own business: the bench borrows its file, and what lies below, as
// tests/models does, so that nothing is public for the bench alone.
#![allow(missing_docs, unreachable_pub, dead_code, unused_imports)]

#[path = "../src/downstream/h1/head.rs"]
mod h1_head;

#[path = "../src/message/mod.rs"]
mod message;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use http::{HeaderMap, Version};
use mimalloc::MiMalloc;
use red_tentacle::race::{Next, Race, Verdict};

use h1_head::HeadReader;
use message::headers::{self, ViaId};
use message::{Networks, Request, Spool};

/// The program's own allocator, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

/// The default of `--max-head`.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A request of curl's.
const CURL: &str =
    "GET /api/some-endpoint HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
/// A request of a browser's.
const BROWSER: &str = "GET /articles/2026/11/a-title-of-some-length?page=2&sort=newest HTTP/1.1\r\n\
    Host: www.shop.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.shop.example/articles/2026/11/\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1; seen=17,18,19,20,21,22\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=0, i\r\n\
    If-None-Match: \"5f3c-1a2b3c4d\"\r\n\r\n";
/// The fields of a backend's answer.
const ANSWER: &str = "GET / HTTP/1.1\r\nHost: a\r\n\
    Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n\
    Server: nginx\r\n\
    Content-Type: application/json\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=60\r\n\
    ETag: \"5f3c-1a2b3c4d\"\r\n\
    Vary: Accept-Encoding\r\n\r\n";

fn main() {
    divan::main();
}

fn parsed(text: &str) -> h1_head::Head {
    HeadReader::default().read(text.as_bytes(), HEAD_BYTES_MAX).ok().flatten().expect("a whole head").0
}

fn request(text: &str) -> Request {
    let head = parsed(text);
    Request {
        method: head.method,
        target: head.target,
        version: head.version,
        headers: head.headers,
        body: None::<Spool>,
        peer: std::net::SocketAddr::from(([192, 0, 2, 7], 41234)).into(),
        received: Instant::now(),
    }
}

fn text_of(who: &str) -> &'static str {
    if who == "curl" { CURL } else { BROWSER }
}

/// A request's head, from its bytes to a checked head.
#[divan::bench(args = ["curl", "browser"])]
fn head(bencher: Bencher, who: &str) {
    let bytes = text_of(who).as_bytes();
    bencher.counter(BytesCount::of_slice(bytes)).bench(|| HeadReader::default().read(black_box(bytes), HEAD_BYTES_MAX));
}

/// A request's head in pieces of 64 bytes: no byte is looked at twice but by httparse, once all have come.
#[divan::bench(args = ["curl", "browser"])]
fn head_in_pieces(bencher: Bencher, who: &str) {
    let bytes = text_of(who).as_bytes();
    bencher.counter(BytesCount::of_slice(bytes)).bench(|| {
        let mut reader = HeadReader::default();
        let ends = (64..bytes.len()).step_by(64).chain([bytes.len()]);
        ends.map(|end| reader.read(black_box(&bytes[..end]), HEAD_BYTES_MAX)).last()
    });
}

/// A request's fields, as backends get them.
#[divan::bench(args = ["curl", "browser"])]
fn for_backends(bencher: Bencher, who: &str) {
    let (via, trusted) = (ViaId::random(false), Networks::default());
    bencher
        .with_inputs(|| request(text_of(who)))
        .bench_refs(|request| headers::for_backends(black_box(request), &via, &trusted));
}

/// An answer's fields, as the client gets them.
#[divan::bench]
fn for_client(bencher: Bencher) {
    let (fields, via): (HeaderMap, _) = (parsed(ANSWER).headers, ViaId::random(false));
    bencher
        .with_inputs(|| fields.clone())
        .bench_values(|fields| headers::for_client(black_box(fields), Version::HTTP_11, &via));
}

/// The rules alone: a race of `legs` legs, the first of which wins.
#[divan::bench(args = [1, 3, 8, 32])]
fn verdict(bencher: Bencher, legs: usize) {
    let now = Instant::now();
    bencher.bench(|| {
        let race: Race<&str, u16> = Race::new(black_box(legs), "prize", now);
        assert!(race.claim(0, Verdict::Won).is_some());
        let ends = (0..legs).map(|leg| race.end(leg, 200, Duration::ZERO));
        assert!(matches!(ends.last(), Some(Next::Over(..))));
        race
    });
}
