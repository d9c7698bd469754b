//! A client and a backend that are joined, each of which sends, ends and leaves when it likes. However it goes, what a side has
//! sent reaches the other in order, the delivery is told once, and nothing is left over.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use http::{HeaderMap, StatusCode};
use socket2::{Domain, Socket, Type};

use super::surroundings::{
    Deliveries, Disturbance, LONG, PATTERN, Told, any_length, delivered, leave, read_some, set, write_some,
};
use crate::downstream::client::socket::Client;
use crate::downstream::frontend::Frontend;
use crate::message::{OnReady, Reply, ReplyBody, ReplyTo, Request, TunnelPeer};
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::atomic::{AtomicBool, Ordering};
use crate::runtime::sync::bell::{ring, wait_for};
use crate::runtime::sync::channel::{Receiver, bounded};
use crate::runtime::sync::thread::scope;
use crate::runtime::sync::{Arc, Mutex, Weak, chance, pick};

/// The course of one run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    client: Side,
    backend: Side,
    /// The backend's side holds some of what it has taken, as TLS does.
    holds_some: bool,
    /// And reads what makes no byte for longer than one event.
    pauses: bool,
    disturbance: Disturbance,
}

/// What a side does: it sends this many bytes, ends, and reads to the end.
#[derive(Debug, Clone, Copy)]
struct Side {
    sends: usize,
    /// It ends only once it has heard the end.
    ends_last: bool,
    /// It leaves instead once this many bytes have been sent and read.
    leaves_after: Option<usize>,
}

impl Side {
    fn any() -> Side {
        Side { sends: any_length(), ends_last: false, leaves_after: chance(6).then(any_length) }
    }
}

impl Plan {
    fn any() -> Plan {
        let (mut client, mut backend) = (Side::any(), Side::any());
        match pick(3) {
            0 => client.ends_last = true,
            1 => backend.ends_last = true,
            _ => {}
        }
        Plan { client, backend, holds_some: chance(3), pauses: chance(10), disturbance: Disturbance::any() }
    }

    fn is_left_alone(&self) -> bool {
        matches!(self.disturbance, Disturbance::None | Disturbance::Drain)
    }
}

/// The backend's connection, with its registration.
struct BackendConnection {
    socket: Socket,
    registration: Registration,
    reader: Mutex<Option<OnReady>>,
}

impl BackendConnection {
    /// The connection, and the backend's own side of it.
    fn open(poller: &Poller) -> (Arc<BackendConnection>, Socket) {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
        for socket in [&near, &far] {
            socket.set_nonblocking(true).expect("a socket");
            socket.set_send_buffer_size(4096).expect("a small buffer");
        }
        let connection =
            Arc::new(BackendConnection { socket: near, registration: poller.reserve(), reader: Mutex::default() });
        connection.registration.start(connection.clone());
        connection.registration.watch(&connection.socket).expect("a place in the poller");
        (connection, far)
    }

    fn set_reader(&self, reader: Option<OnReady>) {
        *self.reader.lock() = reader;
    }
}

impl EventHandler for BackendConnection {
    fn on_event(self: Arc<Self>, _: Event) {
        let reader = self.reader.lock().clone();
        if let Some(reader) = reader {
            reader();
        }
    }
}

/// The backend's side of the tunnel.
struct BackendPeer {
    connection: Arc<BackendConnection>,
    holds_some: bool,
    /// The number of reads that bring no byte, and after which more may be read without another event.
    pauses: u32,
    unsent: Vec<u8>,
    is_ending: bool,
}

impl Read for BackendPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.pauses > 0 {
            self.pauses -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        (&self.connection.socket).read(buffer)
    }
}

impl Write for BackendPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.holds_some {
            return (&self.connection.socket).write(bytes);
        }
        self.flush()?;
        let count = bytes.len().min(3000);
        self.unsent.extend_from_slice(&bytes[..count]);
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = (&self.connection.socket).write(&self.unsent)?;
            self.unsent.drain(..count);
        }
        if self.is_ending {
            let _ = self.connection.socket.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

impl AsFd for BackendPeer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.socket.as_fd()
    }
}

impl TunnelPeer for BackendPeer {
    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn end_writing(&mut self) {
        self.is_ending = true;
        let _ = self.flush();
    }

    fn abort(&mut self) {}

    fn when_ready(&mut self, ready: OnReady) {
        self.connection.set_reader(Some(ready));
    }
}

impl Drop for BackendPeer {
    fn drop(&mut self) {
        self.connection.set_reader(None);
        self.connection.registration.end();
        let _ = self.connection.socket.shutdown(Shutdown::Both);
    }
}

/// The bytes that a side has sent and received.
struct Said {
    sent: usize,
    received: Vec<u8>,
}

pub fn what_a_side_of_a_tunnel_sends_reaches_the_other() {
    let plan = Plan::any();
    let frontend = Frontend::new(LONG);
    let (asked, requests) = bounded(1);
    let serve = move |_: Box<Request>, reply_to| asked.send(reply_to).expect("the leg answers");
    let (socket, client) = frontend.accept(Arc::new(serve));
    let backend_poller = Poller::with_sockets();
    let (connection, backend_socket) = BackendConnection::open(&backend_poller);
    let deliveries = Deliveries::default();
    let (has_begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut said = None;
    scope(|scope| {
        scope.spawn(|| frontend.poller.run());
        scope.spawn(|| backend_poller.run());
        let leg = scope.spawn(|| join(plan, requests, connection.clone(), &deliveries, &client, &has_begun));
        let disturber = scope.spawn(|| {
            plan.disturbance.act(&frontend, &has_begun, &is_over);
            if plan.disturbance == Disturbance::Cut {
                backend_poller.stop();
            }
        });
        let backend = scope.spawn(move || talk(plan.backend, backend_socket));
        let talker = scope.spawn(move || ask(plan.client, socket));
        leg.join().expect("no panic");
        said = Some((talker.join().expect("no panic"), backend.join().expect("no panic")));
        if plan.disturbance != Disturbance::Cut {
            wait_for(|| (frontend.table.count() == 0).then_some(()));
        }
        set(&is_over);
        disturber.join().expect("no panic");
        frontend.poller.stop();
        backend_poller.stop();
    });
    let (of_client, of_backend) = said.expect("both have ended");
    check(plan, of_client.as_ref(), &of_backend, &deliveries);
    let left = (frontend.table.count(), frontend.exchanges.load(Ordering::SeqCst));
    assert_eq!(left, (0, 0), "a client is forgotten: {plan:?}");
    assert!(client.upgrade().is_none() && Arc::strong_count(&connection) == 1, "something holds the client: {plan:?}");
}

fn join(
    plan: Plan,
    requests: Receiver<Box<dyn ReplyTo>>,
    connection: Arc<BackendConnection>,
    deliveries: &Deliveries,
    client: &Weak<Client>,
    has_begun: &AtomicBool,
) {
    let pauses = if plan.pauses { 60 + pick(20) } else { 0 };
    let far = BackendPeer { connection, holds_some: plan.holds_some, pauses, unsent: Vec::new(), is_ending: false };
    // Without a request the backend is hung up on.
    let Ok(reply_to) = requests.recv() else {
        drop(far);
        return ring();
    };
    drop(requests);
    let (headers, body) = (HeaderMap::new(), ReplyBody::Withheld { length: None });
    let head = Reply { status: StatusCode::SWITCHING_PROTOCOLS, headers, body };
    set(has_begun);
    reply_to.join(head, Box::new(far), delivered(deliveries, client.clone()));
    ring();
}

/// Acts as the client. `None` if it gets no tunnel.
fn ask(side: Side, socket: Socket) -> Option<Said> {
    let _ = write_some(&socket, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if wait_for(|| read_some(&socket, &mut head, 1)) == 0 {
            leave(socket);
            return None;
        }
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&head));
    Some(talk(side, socket))
}

/// Acts as one side: it sends, reads and ends in whatever order that comes, and leaves.
fn talk(side: Side, socket: Socket) -> Said {
    let mut said = Said { sent: 0, received: Vec::new() };
    let (mut has_told_end, mut has_heard_end) = (false, false);
    wait_for(|| {
        loop {
            let is_evictable = side.leaves_after.is_some_and(|after| said.sent + said.received.len() >= after);
            if is_evictable || (has_told_end && has_heard_end) {
                return Some(());
            }
            let before = (said.sent, said.received.len(), has_told_end, has_heard_end);
            if !has_told_end {
                let until = side.sends.min(said.sent + 1 + pick(4096) as usize);
                let written = write_some(&socket, &PATTERN[said.sent..until]);
                said.sent += written.as_ref().copied().unwrap_or(0);
                let is_over = said.sent == side.sends && (has_heard_end || !side.ends_last);
                if written.is_err() || is_over {
                    let _ = socket.shutdown(Shutdown::Write);
                    has_told_end = true;
                    ring();
                }
            }
            if !has_heard_end {
                let read = read_some(&socket, &mut said.received, 1 + pick(4096) as usize);
                has_heard_end = read == Some(0);
            }
            if before == (said.sent, said.received.len(), has_told_end, has_heard_end) {
                return None;
            }
        }
    });
    leave(socket);
    said
}

fn check(plan: Plan, of_client: Option<&Said>, of_backend: &Said, deliveries: &Deliveries) {
    let told = deliveries.lock().expect("no panic");
    let (sent, received) = of_client.map_or((0, &[][..]), |said| (said.sent, &said.received[..]));
    let (up, down) = ((sent, &of_backend.received[..]), (of_backend.sent, received));
    let what = format!("{plan:?}: {told:?}, up {} of {}, down {} of {}", up.1.len(), up.0, down.1.len(), down.0);
    for (sent, received) in [up, down] {
        assert!(received == &PATTERN[..received.len()] && received.len() <= sent, "not what was sent: {what}");
    }
    let &[(told, _)] = &told[..] else {
        return assert!(told.is_empty() && plan.disturbance == Disturbance::Cut, "the delivery is told once: {what}");
    };
    let stays = |side: Side| side.leaves_after.is_none();
    if plan.is_left_alone() || told == Told::Whole {
        assert!(!stays(plan.backend) || up.0 == up.1.len(), "the backend misses something: {what}");
        assert!(!stays(plan.client) || down.0 == down.1.len(), "the client misses something: {what}");
    }
    let a_side_leaves = !stays(plan.client) || !stays(plan.backend);
    let has_reason = match told {
        Told::Whole => true,
        Told::Broke => !stays(plan.backend) || plan.disturbance != Disturbance::None,
        Told::Gone => !stays(plan.client) || plan.disturbance != Disturbance::None,
        Told::Stopped => plan.disturbance == Disturbance::Cut,
        Told::Evicted => plan.disturbance == Disturbance::Eviction,
        Told::Dropped | Told::Panicked => false,
    };
    assert!(has_reason, "{what}");
    assert!(told == Told::Whole || a_side_leaves || !plan.is_left_alone(), "{what}");
}
