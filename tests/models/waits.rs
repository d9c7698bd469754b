//! Models of a connection in `upstream/conn`, on which a leg parks until there is room for its request, and until its answer:
//! on a real pair of sockets, none of whose calls waits.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::message::{Spool, SpoolMemory, SpoolWriter};
use crate::net::byte_stream::Peeked;
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, Poller};
use crate::runtime::sync::channel::{Receiver, Sender, bounded};
use crate::runtime::sync::thread::{scope, yield_now};
use crate::runtime::sync::{chance, pick};
use crate::upstream::conn::connection::Connection;
use crate::upstream::conn::parking::{Readiness, Waiter};
use crate::upstream::conn::request_bytes::RequestBytes;
use crate::upstream::conn::request_writer::{Early, Judge, Progress};
use shuttle::sync::Arc;

pub const LONG: Duration = Duration::from_secs(3600);

pub fn a_leg_in_the_poller_goes_on_once() {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    near.set_nonblocking(true).expect("a socket");
    far.set_nonblocking(true).expect("a socket");
    let (poller, token) = (Poller::default(), CancelToken::default());
    let connection = Connection::open(near, &poller).expect("a place in the poller");
    let times_out = chance(3);
    let head_by = if times_out { Instant::now() } else { Instant::now() + LONG };
    scope(|scope| {
        scope.spawn(|| poller.run());
        let others = [
            scope.spawn(|| answer(&far, &poller)),
            scope.spawn(|| maybe(2, || token.cancel())),
            scope.spawn(|| maybe(4, || cut(&token, &poller))),
        ];
        if !send_and_wait(&connection, &token, head_by) {
            // Its connection is dropped.
            connection.hang_up();
        }
        for other in others {
            other.join().expect("no panic");
        }
        poller.stop();
    });
}

/// Sends the request and waits for the whole answer, as `upstream` does, and gives whether the connection was armed for it.
fn send_and_wait(connection: &Arc<Connection>, token: &CancelToken, head_by: Instant) -> bool {
    if token.arm(connection.clone()).is_err() {
        return false;
    }
    let leg = Leg::new();
    connection.begin_request(RequestBytes::new(b"request".to_vec(), None));
    loop {
        leg.wait(connection, head_by);
        if !connection.is_request_out() {
            // It was hung up on before.
            connection.hang_up();
            return true;
        }
        // An end may stand behind the first bytes, of which no other event tells.
        let is_received = || connection.stream().peek(|peeked| peeked.bytes == b"answer" || peeked.end.is_some());
        if is_received() || is_received() || Instant::now() >= head_by {
            return true;
        }
    }
}

/// A leg, and the channel by which it is woken.
struct Leg(Arc<Woken>, Receiver<()>);

struct Woken(Sender<()>);

impl Waiter for Woken {
    fn wake(self: Arc<Self>, _: usize) {
        self.0.send(()).expect("the leg listens");
    }
}

impl Leg {
    fn new() -> Leg {
        let (sender, woken) = bounded(2);
        Leg(Arc::new(Woken(sender)), woken)
    }

    fn wait(&self, connection: &Connection, until: Instant) {
        connection.set_deadline(until);
        if connection.park(self.0.clone(), 0) {
            self.1.recv().expect("an event");
        }
        assert!(self.1.try_recv().is_err(), "the leg is woken once for each wait");
    }
}

fn maybe(one_in: u32, deed: impl FnOnce()) {
    if chance(one_in) {
        deed();
    }
}

/// Answers the request in two pieces, with an event for each, or for a socket that was shut.
fn answer(mut far: &Socket, poller: &Poller) {
    while far.read(&mut [0; 16]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        yield_now();
    }
    for piece in [b"ans", b"wer"] {
        let is_shut = far.write(piece).is_err();
        poller.broadcast(Event::Ready { read_closed: is_shut, dead: is_shut });
    }
}

/// Cuts, as a shutdown does, on another thread than the poller's.
fn cut(token: &CancelToken, poller: &Poller) {
    token.cancel();
    poller.broadcast(Event::Cut);
}

/// More than its sockets take at once.
const BODY_BYTES: usize = 24 * 1024;

/// The course of a request that takes more than one step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Whole,
    /// The backend refuses it after its first bytes, and reads no more.
    Refused,
    /// The backend ends after its first bytes.
    Ended,
    /// The leg's time is over at once, whenever it waits for room.
    TimedOut,
    HungUp,
}

pub fn a_request_in_many_goes_arrives_whole_or_its_leg_knows_why() {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    near.set_nonblocking(true).expect("a socket");
    near.set_send_buffer_size(4096).expect("a small buffer");
    far.set_nonblocking(true).expect("a socket");
    let course = match pick(8) {
        0 => Course::Refused,
        1 => Course::Ended,
        2 | 3 => Course::TimedOut,
        4 => Course::HungUp,
        _ => Course::Whole,
    };
    let (poller, token) = (Poller::default(), CancelToken::default());
    let connection = Connection::open(near, &poller).expect("a place in the poller");
    scope(|scope| {
        scope.spawn(|| poller.run());
        let backend = scope.spawn(|| take_and_answer(&far, &poller, course));
        let other = scope.spawn(|| (course == Course::HungUp).then(|| cut(&token, &poller)));
        let progress = send_all(&connection, &token, course);
        let is_answered = progress == Some(Progress::Done) && is_answered(&connection);
        if !is_answered {
            connection.hang_up();
        }
        let has_arrived = backend.join().expect("no panic");
        match course {
            Course::Whole => assert!(is_answered && has_arrived, "nothing keeps it from going out: {progress:?}"),
            Course::TimedOut => assert!(progress.is_some()),
            Course::Refused | Course::Ended => assert_eq!(progress, Some(Progress::Aborted)),
            Course::HungUp => {}
        }
        other.join().expect("no panic");
        poller.stop();
    });
}

/// Sends the request, as `upstream` does, and then waits for the answer. Gives how the sending has ended.
fn send_all(connection: &Arc<Connection>, token: &CancelToken, course: Course) -> Option<Progress> {
    token.arm(connection.clone()).ok()?;
    let leg = Leg::new();
    let head_by = Instant::now() + LONG;
    let silence_max = if course == Course::TimedOut { Duration::from_nanos(1) } else { LONG };
    let body = chance(2).then(|| IN_FILE.clone());
    let head = if body.is_some() { b"head".to_vec() } else { [b"head", &PATTERN[..]].concat() };
    connection.begin_request(RequestBytes::new(head, body));
    let judge: Judge = |peeked: Peeked| (peeked.bytes == b"no" || peeked.end.is_some()).then_some(Early::Ends);
    let progress = loop {
        match connection.send_more(Some(judge), silence_max) {
            Progress::Blocked(until) => leg.wait(connection, until),
            Progress::Yield(_) => {
                // Nothing is to be read of a request in memory.
                if let Some((read, _)) = connection.file_read_until(head_by) {
                    read.run();
                }
            }
            progress @ (Progress::Done | Progress::Answered | Progress::TimedOut | Progress::Aborted) => {
                break progress;
            }
        }
    };
    while progress == Progress::Done
        && !is_answered(connection)
        && !connection.stream().peek(|peeked| peeked.end.is_some())
    {
        leg.wait(connection, head_by);
    }
    Some(progress)
}

/// Waits for the answer, or an end, on a connection that another leg may have used before.
pub fn until_answered(connection: &Connection) {
    let leg = Leg::new();
    while !is_answered(connection) && !connection.stream().peek(|peeked| peeked.end.is_some()) {
        leg.wait(connection, Instant::now() + LONG);
    }
}

fn is_answered(connection: &Connection) -> bool {
    connection.stream().peek(|peeked| peeked.bytes == b"answer")
}

/// Reads all of the request and answers, unless the course is another; each piece that is read makes an event, since there is
/// room again. Gives whether the request has arrived whole.
fn take_and_answer(mut far: &Socket, poller: &Poller, course: Course) -> bool {
    let (mut taken, mut buffer) = (Vec::new(), [0; 4 * 1024]);
    while taken.len() < 4 + BODY_BYTES {
        let is_closed = match far.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                yield_now();
                continue;
            }
            Ok(0) | Err(_) => true,
            Ok(count) => {
                taken.extend_from_slice(&buffer[..count]);
                false
            }
        };
        if is_closed {
            return false;
        }
        poller.broadcast(Event::Ready { read_closed: false, dead: false });
        if course == Course::Refused {
            let is_shut = far.write(b"no").is_err();
            poller.broadcast(Event::Ready { read_closed: is_shut, dead: is_shut });
            return false;
        }
        if course == Course::Ended {
            // One event may tell of a few bytes and of the end, when there has been no room for long.
            (0..20).for_each(|_| yield_now());
            let _ = far.write(b"n");
            let _ = far.shutdown(Shutdown::Write);
            poller.broadcast(Event::Ready { read_closed: true, dead: false });
            return false;
        }
    }
    assert!(taken[4..] == PATTERN[..] && taken.starts_with(b"head"), "every byte once and in order");
    let is_shut = far.write(b"answer").is_err();
    poller.broadcast(Event::Ready { read_closed: is_shut, dead: is_shut });
    true
}

static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..BODY_BYTES).map(|at| u8::try_from((at + at / 251) % 251).expect("below 251")).collect());

/// The pattern as a body that has no place in memory.
static IN_FILE: LazyLock<Spool> = LazyLock::new(|| in_file(&PATTERN));

/// A body that has no place in memory.
pub fn in_file(bytes: &[u8]) -> Spool {
    let memory = SpoolMemory::of(0).into();
    let mut body = SpoolWriter::sharing(memory, std::env::temp_dir().into(), bytes.len() as u64);
    body.append(bytes).expect("room");
    body.finish()
}
