//! A reply whose body comes in pieces, to a client that takes it when it likes. However it goes, what the client takes for
//! whole is whole, its delivery is told once, and nothing is left over.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::panic::resume_unwind;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use socket2::Socket;

use super::surroundings::{
    Deliveries, Disturbance, LONG, PATTERN, Told, any_length, delivered, leave, read_some, set, write_some,
};
use crate::downstream::client::socket::Client;
use crate::downstream::frontend::Frontend;
use crate::message::{BodySource, OnReady, Reply, ReplyBody, ReplyTo, Request};
use crate::runtime::poller::{Meant, survive};
use crate::runtime::sync::atomic::{AtomicBool, Ordering};
use crate::runtime::sync::bell::{ring, wait_for};
use crate::runtime::sync::channel::{Receiver, Sender, bounded};
use crate::runtime::sync::thread::scope;
use crate::runtime::sync::{Arc, Mutex, Weak, chance, pick};

const NEXT_REQUEST: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
const NEXT_BODY: &[u8] = b"the next\n";

/// How the body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sized,
    Chunked,
    UntilClose,
}

/// How the backend's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    Whole,
    Broken,
    /// In order, but before its length.
    Early,
    Panics,
    Never,
}

/// The course of one run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    form: Form,
    finish: Finish,
    length: usize,
    /// The client leaves once it has this many bytes of the reply.
    leaves_after: Option<usize>,
    /// The client asks again before it has the reply, a few bytes at a time.
    is_hasty: bool,
    /// The backend sends what makes no byte for longer than one step.
    pauses: bool,
    /// A wait is over as soon as it begins.
    is_impatient: bool,
    disturbance: Disturbance,
}

impl Plan {
    fn any() -> Plan {
        let form = [Form::Sized, Form::Chunked, Form::UntilClose][pick(3) as usize];
        let mut plan = Plan {
            form,
            finish: [Finish::Whole, Finish::Whole, Finish::Whole, Finish::Broken, Finish::Early, Finish::Panics]
                [pick(6) as usize],
            length: any_length(),
            leaves_after: chance(6).then(|| pick([16, 200, 8 * 1024][pick(3) as usize]) as usize),
            is_hasty: form != Form::UntilClose && chance(2),
            pauses: chance(4),
            is_impatient: chance(12),
            disturbance: Disturbance::any(),
        };
        let has_other_end = matches!(plan.disturbance, Disturbance::Cut | Disturbance::Eviction);
        if plan.finish == Finish::Early && (form != Form::Sized || plan.length == 0) {
            plan.finish = if has_other_end { Finish::Never } else { Finish::Broken };
        }
        plan
    }

    /// Whether nothing keeps the reply from arriving.
    fn is_calm(&self) -> bool {
        self.finish == Finish::Whole
            && self.leaves_after.is_none()
            && !self.is_impatient
            && matches!(self.disturbance, Disturbance::None | Disturbance::Drain)
    }

    /// The number of the body's bytes that the backend sends.
    fn sent(&self) -> usize {
        match self.finish {
            Finish::Whole | Finish::Never => self.length,
            Finish::Broken | Finish::Panics => self.length / 2,
            Finish::Early => self.length - 1,
        }
    }
}

/// The part of a backend's answer that has come.
#[derive(Default)]
struct Arriving {
    events: Mutex<VecDeque<Event>>,
    /// Set as long as the body is read.
    ready: Mutex<Option<OnReady>>,
}

enum Event {
    Bytes(&'static [u8]),
    /// More may be read without another event.
    Pause,
    End(Finish),
}

impl Arriving {
    fn put(&self, event: Event) {
        lock(&self.events).push_back(event);
    }

    /// Tells of what was put, as a backend's poller thread does.
    fn tell(&self) {
        let ready = lock(&self.ready).clone();
        if let Some(ready) = ready {
            survive(|| ready());
            ring();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> crate::runtime::sync::MutexGuard<'_, T> {
    mutex.lock()
}

struct Body(Arc<Arriving>);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut events = lock(&self.0.events);
        match events.pop_front() {
            Some(Event::Bytes(bytes)) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    events.push_front(Event::Bytes(&bytes[count..]));
                }
                Ok(count)
            }
            Some(Event::Pause) => Err(ErrorKind::Interrupted.into()),
            Some(Event::End(Finish::Panics)) => {
                drop(events);
                resume_unwind(Box::new(Meant))
            }
            Some(Event::End(Finish::Broken)) => Err(ErrorKind::ConnectionReset.into()),
            Some(Event::End(_)) => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl BodySource for Body {
    fn when_ready(&mut self, ready: OnReady) {
        *lock(&self.0.ready) = Some(ready);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        *lock(&self.0.ready) = None;
    }
}

/// The reply as the client has seen it.
struct Seen {
    body: Vec<u8>,
    /// The reply looks whole, but for one that ends with its connection.
    is_whole: bool,
    /// The connection has ended.
    has_ended: bool,
    /// The bytes that came after it.
    next: Vec<u8>,
}

pub fn a_reply_arrives_whole_or_is_seen_not_to_be() {
    let plan = Plan::any();
    let frontend = Frontend::new(if plan.is_impatient { Duration::ZERO } else { LONG });
    let (asked, requests) = bounded(1);
    let (socket, client) =
        frontend.accept(Arc::new(move |request: Box<Request>, reply_to| serve(&asked, &request, reply_to)));
    let (deliveries, arriving) = (Deliveries::default(), Arc::new(Arriving::default()));
    let (has_begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut seen = None;
    scope(|scope| {
        scope.spawn(|| frontend.poller.run());
        let backend = scope.spawn(|| answer(plan, requests, &arriving, &deliveries, &client, &has_begun));
        let disturber = scope.spawn(|| plan.disturbance.act(&frontend, &has_begun, &is_over));
        let reader = scope.spawn(|| {
            let seen = ask(plan, &socket);
            leave(socket);
            seen
        });
        seen = Some(reader.join().expect("no panic"));
        backend.join().expect("no panic");
        if plan.disturbance != Disturbance::Cut {
            wait_for(|| (frontend.table.count() == 0).then_some(()));
        }
        set(&is_over);
        disturber.join().expect("no panic");
        frontend.poller.stop();
    });
    check(plan, &seen.expect("the client has ended"), &deliveries);
    assert_eq!(
        (frontend.table.count(), frontend.exchanges.load(Ordering::SeqCst)),
        (0, 0),
        "a client is forgotten: {plan:?}"
    );
    assert!(client.upgrade().is_none() && Arc::strong_count(&arriving) == 1, "something holds the client: {plan:?}");
}

/// The first request goes to the backend, the next is answered at once.
fn serve(asked: &Sender<Box<dyn ReplyTo>>, request: &Request, reply_to: Box<dyn ReplyTo>) {
    if request.target.to_string() == "/next" {
        let (headers, body) = (HeaderMap::new(), ReplyBody::Whole(NEXT_BODY.to_vec()));
        reply_to.send(Reply { status: StatusCode::OK, headers, body }, Box::new(|_| {}));
    } else {
        asked.send(reply_to).expect("the backend answers");
    }
}

/// The backend's poller thread: sends the reply when some of its body has come, then tells of the rest.
fn answer(
    plan: Plan,
    requests: Receiver<Box<dyn ReplyTo>>,
    arriving: &Arc<Arriving>,
    deliveries: &Deliveries,
    client: &Weak<Client>,
    has_begun: &AtomicBool,
) {
    let Ok(reply_to) = requests.recv() else { return };
    drop(requests);
    let mut rest = &PATTERN[..plan.sent()];
    let mut reply_to = Some(reply_to);
    let is_late = chance(2);
    loop {
        if reply_to.is_some() && (!is_late || chance(3) || rest.is_empty()) {
            let length = (plan.form == Form::Sized).then_some(plan.length as u64);
            let body = ReplyBody::Stream { length, source: Box::new(Body(arriving.clone())) };
            let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body };
            let delivered = delivered(deliveries, client.clone());
            set(has_begun);
            let reply_to = reply_to.take();
            survive(|| reply_to.expect("it is sent once").send(reply, delivered));
            ring();
        }
        if rest.is_empty() {
            break;
        }
        let (piece, others) = rest.split_at((1 + pick(6 * 1024) as usize).min(rest.len()));
        rest = others;
        arriving.put(Event::Bytes(piece));
        (0..if plan.pauses { pick(40) } else { 0 }).for_each(|_| arriving.put(Event::Pause));
        // Pieces that come at once are told of once.
        if chance(2) {
            arriving.tell();
        }
    }
    if plan.finish != Finish::Never {
        arriving.put(Event::End(plan.finish));
    }
    arriving.tell();
}

/// The client: asks, reads what comes as it likes, asks again on the same connection if it may, and leaves.
fn ask(plan: Plan, socket: &Socket) -> Seen {
    let request: &[u8] = match plan.form {
        Form::UntilClose => b"GET / HTTP/1.0\r\n\r\n",
        Form::Sized | Form::Chunked => b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    // Refused if the proxy was shut down already.
    let _ = write_some(socket, request);
    let mut next_request = if plan.form == Form::UntilClose { b"" } else { NEXT_REQUEST };
    let mut received = Vec::new();
    loop {
        let seen = Seen::of(plan, &received);
        if seen.is_whole {
            let _ = write_some(socket, std::mem::take(&mut next_request));
        }
        if seen.next.ends_with(NEXT_BODY) || plan.leaves_after.is_some_and(|after| received.len() >= after) {
            return seen;
        }
        let read = wait_for(|| {
            let read = read_some(socket, &mut received, 1 + pick(4096) as usize);
            if read.is_none() && plan.is_hasty {
                let (bytes, rest) = next_request.split_at(next_request.len().min(8));
                next_request = rest;
                let _ = write_some(socket, bytes);
            }
            read
        });
        if read == 0 {
            return Seen { has_ended: true, ..seen };
        }
    }
}

impl Seen {
    fn of(plan: Plan, received: &[u8]) -> Seen {
        let mut seen = Seen { body: Vec::new(), is_whole: false, has_ended: false, next: Vec::new() };
        let Some((head, mut rest)) = split_after(received, b"\r\n\r\n") else { return seen };
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(head));
        match plan.form {
            Form::UntilClose => seen.body.extend_from_slice(rest),
            Form::Sized => {
                let (body, next) = rest.split_at(plan.length.min(rest.len()));
                seen.body.extend_from_slice(body);
                seen.is_whole = body.len() == plan.length;
                seen.next.extend_from_slice(next);
            }
            Form::Chunked => {
                while let Some((size, after)) = split_after(rest, b"\r\n") {
                    let size = str::from_utf8(&size[..size.len() - 2]).expect("digits");
                    let size = usize::from_str_radix(size, 16).expect("digits");
                    seen.body.extend_from_slice(&after[..size.min(after.len())]);
                    let Some(after) = after.get(size..).filter(|after| after.len() >= 2) else { break };
                    assert!(after.starts_with(b"\r\n"), "a chunk ends after its bytes");
                    rest = &after[2..];
                    if size == 0 {
                        seen.is_whole = true;
                        seen.next.extend_from_slice(rest);
                        break;
                    }
                }
            }
        }
        seen
    }
}

fn split_after<'a>(bytes: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(end.len()).position(|window| window == end)?;
    Some(bytes.split_at(at + end.len()))
}

fn check(plan: Plan, seen: &Seen, deliveries: &Deliveries) {
    let told = deliveries.lock().expect("no panic");
    let what = format!("{plan:?}: {told:?}, {} bytes", seen.body.len());
    assert!(seen.body == PATTERN[..seen.body.len()] && seen.body.len() <= plan.sent(), "not what was sent: {what}");
    let &[(told, is_reset)] = &told[..] else {
        let may_be_unasked = plan.disturbance == Disturbance::Cut || plan.leaves_after.is_some();
        return assert!(told.is_empty() && may_be_unasked, "the delivery is told once: {what}");
    };
    let looks_whole = seen.is_whole || (plan.form == Form::UntilClose && seen.has_ended && !is_reset);
    if looks_whole {
        let has_ended = plan.form == Form::Sized || plan.finish == Finish::Whole;
        assert!(has_ended && seen.body.len() == plan.length, "half of it looks whole: {what}");
    }
    if told == Told::Whole {
        assert_eq!(plan.finish, Finish::Whole, "{what}");
        assert!(looks_whole || plan.leaves_after.is_some() || plan.disturbance == Disturbance::Cut, "it isn't: {what}");
        assert!(!is_reset || plan.disturbance == Disturbance::Cut, "{what}");
    } else {
        assert!(is_reset, "it must not look whole: {what}");
    }
    let has_reason = match told {
        Told::Whole => true,
        Told::Broke => matches!(plan.finish, Finish::Broken | Finish::Early) || plan.is_impatient,
        Told::Gone => plan.leaves_after.is_some() || plan.is_impatient,
        Told::Stopped => plan.disturbance == Disturbance::Cut,
        Told::Evicted => plan.disturbance == Disturbance::Eviction,
        Told::Dropped => plan.finish == Finish::Panics,
        Told::Panicked => false,
    };
    assert!(has_reason, "{what}");
    if plan.is_calm() {
        assert_eq!(told, Told::Whole, "{what}");
        let is_answered = seen.next.ends_with(NEXT_BODY);
        assert!(is_answered || plan.form == Form::UntilClose || plan.disturbance == Disturbance::Drain, "{what}");
    }
}
