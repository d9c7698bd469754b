//! Carries a reply to its client that can't be written at once: whenever more of it has come, or the client has room, on the thread
//! that hears of it. In between it waits in the poller. Knows nothing of where the reply comes from.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Carrier, Client};
use super::reply_to::ClientReply;
use super::standing::Standing;
use super::transfer::{Stop, Transfer};
use crate::message::{Delivered, Delivery};
use crate::poller::Turn;

/// A reply that waits, or is being carried on.
pub(super) struct Relay {
    client: Arc<Client>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// `None` while a thread carries it on. Whoever takes it out owns it.
    cargo: Option<Box<Cargo>>,
    /// Something has happened meanwhile: whoever gives it back must look.
    pending: bool,
}

/// The reply, its way, and who is told of its end. Dropped on its way, by a panic or at the end of the house, it cuts the client off.
pub(super) struct Cargo {
    reply: Box<ClientReply>,
    transfer: Transfer,
    delivered: Delivered,
}

impl Cargo {
    pub(super) fn new(reply: Box<ClientReply>, transfer: Transfer, delivered: Delivered) -> Box<Cargo> {
        Box::new(Cargo { reply, transfer, delivered })
    }

    /// Sends what goes without waiting, and leaves the rest to the poller. Doesn't block.
    pub(super) fn send(mut self: Box<Self>, client: &Arc<Client>) {
        match self.go_on(client) {
            Ok(Stop::Over) => self.end(Ok(())),
            Ok(_) => Relay::open(client.clone(), self),
            Err(failed) => self.end(Err(failed)),
        }
    }

    fn go_on(&mut self, client: &Client) -> Result<Stop, Delivery> {
        if client.is_gone() {
            return Err(Delivery::ClientGone(io::ErrorKind::ConnectionAborted.into()));
        }
        self.transfer.go_on(client, client.front().write_timeout)
    }

    fn end(self: Box<Self>, written: Result<(), Delivery>) {
        let Cargo { mut reply, transfer, delivered } = *self;
        let framing = transfer.framing();
        // Who has the reply may want the line that it came on.
        drop(transfer);
        delivered(reply.leave(framing, written));
    }
}

impl Relay {
    fn open(client: Arc<Client>, mut cargo: Box<Cargo>) {
        let relay = Arc::new(Relay { client, shared: Mutex::default() });
        let weak = Arc::downgrade(&relay);
        cargo.transfer.when_ready(Arc::new(move || {
            if let Some(relay) = weak.upgrade() {
                relay.wake();
            }
        }));
        relay.client.seat().carrier = Some(relay.clone());
        // What has happened meanwhile, nobody was told.
        relay.carry(cargo);
    }

    /// Something has come, or there is room.
    fn wake(&self) {
        let cargo = {
            let mut shared = self.shared();
            let cargo = shared.cargo.take();
            shared.pending |= cargo.is_none();
            cargo
        };
        if let Some(cargo) = cargo {
            self.carry(cargo);
        }
    }

    fn carry(&self, mut cargo: Box<Cargo>) {
        let _way = Way(&self.client);
        loop {
            let patience = self.client.front().write_timeout;
            let gone_on = cargo.go_on(&self.client).and_then(|stop| Ok((stop, self.wait(&mut cargo, stop, patience)?)));
            let again = match gone_on {
                Ok((Stop::Over, _)) => return self.end(cargo, Ok(())),
                Ok((Stop::Turn, now)) => return self.put(&mut self.shared(), cargo, now),
                Ok((_, until)) => self.give_back(cargo, until),
                Err(failed) => return self.end(cargo, Err(failed)),
            };
            let Some(again) = again else { return };
            cargo = again;
        }
    }

    fn wait(&self, cargo: &mut Cargo, stop: Stop, patience: Duration) -> Result<Instant, Delivery> {
        if stop == Stop::Client {
            self.client.tell_of_room().map_err(Delivery::ClientGone)?;
        }
        cargo.transfer.wait(stop, patience, Instant::now())
    }

    /// Leaves it to the poller until then at most, or gives it back if something has happened meanwhile.
    fn give_back(&self, cargo: Box<Cargo>, until: Instant) -> Option<Box<Cargo>> {
        let mut shared = self.shared();
        if std::mem::take(&mut shared.pending) {
            return Some(cargo);
        }
        self.put(&mut shared, cargo, until);
        None
    }

    fn put(&self, shared: &mut Shared, cargo: Box<Cargo>, until: Instant) {
        shared.cargo = Some(cargo);
        if let Some(watch) = self.client.watch.get() {
            watch.set_deadline(Some(until));
        }
    }

    fn end(&self, cargo: Box<Cargo>, written: Result<(), Delivery>) {
        self.client.seat().carrier = None;
        cargo.end(written);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's way while its reply is carried on: given up by a panic, or each would keep the other for ever.
struct Way<'a>(&'a Client);

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.seat().carrier = None;
        }
    }
}

impl Carrier for Relay {
    fn turn(self: Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { read_closed, dead } => {
                // If the reply has come to its end meanwhile, on another thread, what has come is the next request.
                self.client.ready(read_closed, dead);
                self.wake();
            }
            Turn::Expired => self.wake(),
            Turn::Drain => {}
            Turn::Cut => {
                self.client.cut_off();
                self.wake();
            }
        }
    }

    fn standing(&self) -> Option<Standing> {
        self.shared().cargo.as_ref().map(|cargo| cargo.transfer.standing())
    }

    fn give_way(self: Arc<Self>, goes: &dyn Fn(&Standing) -> bool) -> bool {
        let cargo = self.shared().cargo.take_if(|cargo| goes(&cargo.transfer.standing()));
        let Some(cargo) = cargo else { return false };
        self.end(cargo, Err(Delivery::GaveWay));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::front::{ClientReply, Door, Front, Limits};
    use crate::message::{Ready, Reply, ReplyBody, ReplyTo, Request, Source};
    use crate::poller::{Owner, Poller};

    const SOON: Duration = Duration::from_secs(10);
    const READY: Turn = Turn::Ready { read_closed: false, dead: false };
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A body of a byte, which comes when the test says so.
    #[derive(Clone)]
    struct Late(Arc<Mutex<(bool, Option<Ready>)>>, io::Cursor<&'static [u8]>);

    impl Late {
        fn come(&self) {
            let ready = {
                let mut state = self.0.lock().expect("no panic");
                state.0 = true;
                state.1.take()
            };
            ready.expect("somebody waits for it")();
        }
    }

    impl Read for Late {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let has_come = self.0.lock().expect("no panic").0;
            if has_come { self.1.read(buffer) } else { Err(io::ErrorKind::WouldBlock.into()) }
        }
    }

    impl Source for Late {
        fn when_ready(&mut self, ready: Ready) {
            self.0.lock().expect("no panic").1 = Some(ready);
        }
    }

    /// A client whose every request is answered so, its far end, and what must stay there. The poller is asleep: the test gives turns.
    fn joined(body: &Late) -> (Arc<Client>, TcpStream, impl Sized) {
        let (poller, waiter) = Poller::new().expect("a poller");
        let front = Front::new(poller, Limits::new(1024, 0, &std::env::temp_dir()), 8, SOON);
        let body = body.clone();
        let serve = move |_: Request, reply_to: ClientReply| {
            let body = ReplyBody::Stream { length: Some(1), source: Box::new(body.clone()) };
            let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body };
            Box::new(reply_to).send(reply, Box::new(drop));
            Ok(())
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let far = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        far.set_read_timeout(Some(SOON)).expect("a timeout");
        let (near, peer) = listener.accept().expect("a connection");
        near.set_nonblocking(true).expect("a socket");
        let door = Arc::new(Door { front, serve: Arc::new(serve) });
        (Client::open(door, near, peer).expect("a watch"), far, waiter)
    }

    fn ask(client: &Client, far: &mut TcpStream) {
        far.write_all(REQUEST).expect("room");
        while client.socket.peek(&mut [0]).is_err() {
            thread::yield_now();
        }
    }

    fn assert_answered(far: &mut TcpStream) {
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\nx") {
            let mut byte = [0];
            far.read_exact(&mut byte).expect("a reply");
            reply.push(byte[0]);
        }
    }

    /// The end of a reply is written on the thread of its backend's poller, and the next request comes on the client's. Was seen
    /// as: whoever asked again just then got no answer until the connection had idled for a minute, and then its end.
    #[test]
    fn a_request_that_comes_at_the_very_end_of_a_reply_is_served() {
        let body = Late(Arc::default(), io::Cursor::new(b"x"));
        let (client, mut far, _waiter) = joined(&body);
        ask(&client, &mut far);
        client.clone().turn(READY);
        let carrier = client.seat().carrier.clone().expect("a reply that waits");
        body.come();
        assert_answered(&mut far);
        ask(&client, &mut far);
        // The poller had looked whose turn it is before the reply ended.
        carrier.turn(READY);
        assert_answered(&mut far);
    }
}
