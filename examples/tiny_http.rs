//! The race behind a `tiny_http` accept loop: what the crate offers to a program that has its own way of serving
//! clients. `cargo run --example tiny_http -- http://127.0.0.1:8001 http://127.0.0.1:8002` prints where it listens. A
//! sketch: it isn't told that a client leaves, and `tiny_http` ends a body that broke off as if it were whole.

use std::io::{self, Cursor, ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use http::{HeaderMap, HeaderName, Method, Version, header};
use red_tentacle::message::parse_entries;
use red_tentacle::message::{BodySource, Refusal, Reply, ReplyBody};
use red_tentacle::message::{Delivery, Disconnect, OnDelivered, ReplyTo, Request, SpoolWriter, Target};
use red_tentacle::proxy::{Executor, Proxy, Threads};
use red_tentacle::race::{Linger, Reaper, Starter};
use red_tentacle::runtime::poller::Poller;
use red_tentacle::upstream::Backends;
use red_tentacle::upstream::{ConnectOptions, SystemLookup, Upstream};
use threadpool::ThreadPool;
use tiny_http::{Header, Response, Server};

/// The longest silence of a backend within its body.
const IDLE_TIME: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let list = std::env::args().skip(1).collect::<Vec<_>>().join(",");
    let entries = parse_entries(&list).map_err(|bad| bad[0].to_string())?;
    assert!(!entries.is_empty(), "give backends' URLs as arguments");
    let (poller, waiter) = Poller::new()?;
    let upstream =
        Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller.clone()).map_err(|bad| bad.reason)?;
    let backends = Backends::new(&entries, upstream);
    let reaper = Reaper::new(Linger::NONE, &poller);
    let executor = |pool: ThreadPool| -> Executor { Box::new(move |work| pool.execute(work)) };
    let threads = Threads { disk: executor(ThreadPool::new(2)), long: executor(ThreadPool::new(2)) };
    let proxy = Proxy::new(Arc::default(), backends, threads, reaper, Starter::new(&poller), &poller);
    let server = Server::http("127.0.0.1:0").map_err(|error| error.to_string())?;
    println!("{}", server.server_addr());
    std::thread::spawn(move || waiter.run().expect("sockets can be waited for"));
    // Workers read bodies and start races, which never waits; repliers wait for clients and for the answers that these
    // get.
    let (workers, repliers) = (ThreadPool::new(4), ThreadPool::new(16));
    for mut request in server.incoming_requests() {
        let (proxy, repliers) = (proxy.clone(), repliers.clone());
        workers.execute(move || {
            let complete = read(&mut request);
            let client = Box::new(Client { request, repliers });
            match complete {
                Some(complete) => proxy.serve(Box::new(complete), client),
                None => client.send(Refusal::BadRequest("It can't be read").reply(), Box::new(drop)),
            }
        });
    }
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
        peer: (*request.remote_addr()?).into(),
        received: Instant::now(),
    })
}

struct Client {
    request: tiny_http::Request,
    repliers: ThreadPool,
}

/// A body whose reader waits for what comes next.
struct Waiting {
    source: Box<dyn BodySource>,
    ready: Receiver<()>,
}

struct Unnoticed;

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready.recv_timeout(IDLE_TIME).map_err(|_| ErrorKind::TimedOut)?;
                }
                read => return read,
            }
        }
    }
}

impl ReplyTo for Client {
    fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered) {
        let Client { request, repliers } = *self;
        repliers.execute(move || delivered(respond(request, reply)));
    }

    fn disconnect(&self) -> Arc<dyn Disconnect> {
        Arc::new(Unnoticed)
    }
}

fn respond(request: tiny_http::Request, reply: Reply) -> Delivery {
    let (length, body): (_, Box<dyn Read>) = match reply.body {
        ReplyBody::Whole(bytes) => (Some(bytes.len() as u64), Box::new(Cursor::new(bytes))),
        ReplyBody::Withheld { length } => (length, Box::new(io::empty())),
        ReplyBody::Stream { length, mut source } => {
            let (event, ready) = bounded(1);
            source.when_ready(Arc::new(move || _ = event.try_send(())));
            (length, Box::new(Waiting { source, ready }))
        }
    };
    let length = length.and_then(|length| usize::try_from(length).ok());
    let fields = reply.headers.iter().flat_map(|(name, value)| Header::from_bytes(name.as_str(), value.as_bytes()));
    let status = reply.status.as_u16().into();
    let response = Response::new(status, fields.collect(), body, length, None).with_chunked_threshold(usize::MAX);
    request.respond(response).map_or_else(Delivery::BodyBroke, |()| Delivery::Whole)
}

impl Disconnect for Unnoticed {
    fn when_gone(&self, _: Box<dyn FnOnce() + Send>) {}
}
