//! The same race behind a `tiny_http` accept loop: what the crate offers to a program that has a front of its own.
//! `cargo run --example tiny_http -- http://127.0.0.1:8001 http://127.0.0.1:8002` prints where it listens.
//! A sketch: nobody tells it that a client leaves, and `tiny_http` ends a body that broke off as if it were whole.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, Method, Version, header};
use red_tentacle::backends::Backends;
use red_tentacle::message::parse_addresses;
use red_tentacle::message::{Delivery, Departure, Refusal, Reply, ReplyBody, ReplyTo, Request, SpoolWriter, Target};
use red_tentacle::poller::Poller;
use red_tentacle::proxy::{Proxy, Rules};
use red_tentacle::race::{Bounds, Legs, Linger, Reaper};
use red_tentacle::upstream::{Reach, SystemLookup, Upstream};
use tiny_http::{Header, Response, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let list = std::env::args().skip(1).collect::<Vec<_>>().join(",");
    let addresses = parse_addresses(&list).map_err(|bad| bad[0].to_string())?;
    assert!(!addresses.is_empty(), "give backends' URLs as arguments");
    let (poller, waiter) = Poller::new()?;
    let (legs, foreman) = Legs::new(Bounds::default());
    let upstream = Upstream::new(Reach::default(), Arc::new(SystemLookup), poller.clone()).map_err(|bad| bad.reason)?;
    let backends = Arc::new(Backends::new(addresses, upstream));
    let reaper = Reaper::new(Linger::NONE, &poller);
    let proxy = Proxy::new(Rules::default(), backends, legs, reaper);
    let server = Server::http("127.0.0.1:0").map_err(|error| error.to_string())?;
    println!("{}", server.server_addr());
    std::thread::spawn(move || waiter.run().expect("sockets can be waited for"));
    std::thread::spawn(move || {
        // A worker reads the body and starts the race; the leg that decides it answers.
        let workers = threadpool::ThreadPool::new(4);
        for mut request in server.incoming_requests() {
            let proxy = proxy.clone();
            workers.execute(move || match read(&mut request) {
                Some(complete) => proxy.serve(complete, Box::new(Client(request))),
                None => drop(Box::new(Client(request)).reply(Refusal::BadRequest("It can't be read").reply())),
            });
        }
    });
    // Legs run on threads that this one spawns, for as long as the program runs.
    foreman.work(&crossbeam_channel::never(), || {}, |_| true);
    Ok(())
}

fn read(request: &mut tiny_http::Request) -> Option<Request> {
    let method = Method::from_bytes(request.method().as_str().as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    for Header { field, value } in request.headers() {
        headers.append(field.as_str().as_str().parse::<HeaderName>().ok()?, value.as_str().parse().ok()?);
    }
    let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    let mut spool = SpoolWriter::new(std::env::temp_dir().into(), 10 << 20);
    let mut piece = [0; 16 * 1024];
    while let count @ 1.. = request.as_reader().read(&mut piece).ok()? {
        spool.append(&piece[..count]).ok()?;
    }
    Some(Request {
        target: Target::parse(&method, request.url()).ok()?,
        method,
        version: if *request.http_version() <= (1, 0) { Version::HTTP_10 } else { Version::HTTP_11 },
        headers,
        body: has_body.then(|| spool.finish()),
        peer: *request.remote_addr()?,
        received: Instant::now(),
    })
}

struct Client(tiny_http::Request);

struct Unnoticed;

impl ReplyTo for Client {
    fn reply(self: Box<Self>, reply: Reply) -> Delivery {
        let (length, body): (_, Box<dyn Read>) = match reply.body {
            ReplyBody::Whole(bytes) => (Some(bytes.len() as u64), Box::new(Cursor::new(bytes))),
            ReplyBody::Stream { length, source } => (length, Box::new(source)),
            ReplyBody::Withheld { length } => (length, Box::new(io::empty())),
        };
        let length = length.and_then(|length| usize::try_from(length).ok());
        let fields = reply.headers.iter().flat_map(|(name, value)| Header::from_bytes(name.as_str(), value.as_bytes()));
        let status = reply.status.as_u16().into();
        let response = Response::new(status, fields.collect(), body, length, None).with_chunked_threshold(usize::MAX);
        self.0.respond(response).map_or_else(Delivery::BodyBroke, |()| Delivery::Whole)
    }

    fn departure(&self) -> Arc<dyn Departure> {
        Arc::new(Unnoticed)
    }
}

impl Departure for Unnoticed {
    fn when_gone(&self, _: Box<dyn FnOnce() + Send>) {}
}
