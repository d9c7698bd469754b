//! What a client's turns are made of: reading until a request is complete, handing it on, answering what can't be served,
//! and giving the connection back to the poller. What the bytes mean is `connection`'s knowledge, the socket is `client`'s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::client::{Arrived, Client, Presence};
use super::connection::{Connection, Step};
use super::crowd::GivesWay;
use super::http2;
use super::reply::{Asked, CONTINUE, Framing, write_head};
use super::reply_to::ClientReply;
use super::standing::Standing;
use crate::access_log;
use crate::message::{Refusal, ReplyBody, Request};
use crate::runtime::poller::{Event, EventHandler};

/// Reads of one client in one turn: a fast upload mustn't keep the poller's thread from all others.
const READS_MAX: usize = 16;

impl Client {
    /// Goes on with the connection until it needs the poller or somebody else: `may_read` if bytes may be waiting.
    pub(super) fn work(self: &Arc<Self>, connection: Box<Connection>, may_read: bool) {
        self.work_until(connection, may_read, Connection::step);
    }

    /// The same on the thread for it, which may wait for the disk.
    fn spool(self: &Arc<Self>, connection: Box<Connection>) {
        let client = self.clone();
        self.front().spooler.run(Box::new(move || {
            if client.is_gone() {
                // Nothing is written that no answer will be asked for.
                return client.close();
            }
            let work = || client.work_until(connection, true, Connection::step_on_disk);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                client.close();
            }
        }));
    }

    fn work_until(
        self: &Arc<Self>,
        mut connection: Box<Connection>,
        mut may_read: bool,
        step: fn(&mut Connection, Instant) -> Step,
    ) {
        let mut reads = 0;
        loop {
            match step(&mut connection, Instant::now()) {
                Step::Spool if self.front().spooler.start() => return self.spool(connection),
                Step::More if may_read && reads == READS_MAX => return self.go_on_later(connection),
                Step::More if may_read => match self.read_into(&mut connection) {
                    Arrived::Bytes { more } => {
                        reads += 1;
                        may_read = more;
                    }
                    Arrived::Nothing => may_read = false,
                    Arrived::End => return self.end(connection),
                },
                Step::More => match self.give_back(connection) {
                    None => return,
                    Some(again) => {
                        connection = again;
                        may_read = true;
                    }
                },
                Step::Continue => {
                    if self.try_write(CONTINUE).is_err() {
                        return self.close();
                    }
                }
                Step::Request(request, asked) if self.door.handler.has_room(&request) => {
                    return self.hand_on(connection, *request, asked, may_read);
                }
                Step::Spool | Step::Request(..) => {
                    self.refuse(&mut connection, &Refusal::Busy);
                    may_read = true;
                }
                Step::Refuse(refusal) => {
                    self.refuse(&mut connection, &refusal);
                    may_read = true;
                }
                Step::Close => return self.close(),
            }
        }
    }

    /// The client sends no more, and no request is being served.
    fn end(&self, mut connection: Box<Connection>) {
        if let Some(refusal) = connection.end() {
            self.refuse(&mut connection, &refusal);
        }
        self.close();
    }

    /// The reply was sent and the client may ask again. Its request may still be in somebody's hands on this very thread: what
    /// comes next has its own turn, or a client that asks for many such replies would have each answered within the last.
    pub(super) fn answered(self: &Arc<Self>, mut connection: Box<Connection>) {
        connection.answered(Instant::now());
        let pending = self.leave_exchange(&mut connection);
        let more = if pending || connection.has_unread() { Some(connection) } else { self.give_back(connection) };
        if let Some(connection) = more {
            self.go_on_later(connection);
        }
    }

    /// The last reply was sent: the client has some time to read it and to close its side.
    pub(super) fn part(self: &Arc<Self>, mut connection: Box<Connection>) {
        self.leave_exchange(&mut connection);
        self.half_close(&mut connection);
        self.work(connection, true);
    }

    /// Gives the connection to the poller, or back if an edge came meanwhile.
    fn give_back(&self, mut connection: Box<Connection>) -> Option<Box<Connection>> {
        let mut seat = self.seat();
        if std::mem::take(&mut seat.pending) {
            return Some(connection);
        }
        // Under the lock: whoever says that the house closes finds the connection here, or is heard.
        if self.front().is_draining() && connection.drain(Instant::now()) {
            drop(seat);
            self.close();
            return None;
        }
        // Under the lock, so that no later owner's deadline is overwritten by this one.
        self.registration.set_deadline(Some(connection.deadline()));
        seat.connection = Some(connection);
        None
    }

    /// Lets others have their turns first.
    fn go_on_later(&self, mut connection: Box<Connection>) {
        let mut seat = self.seat();
        // Under the lock, as in `give_back`, which a client that sends without end never gets to.
        if self.front().is_draining() {
            connection.drain(Instant::now());
        }
        seat.connection = Some(connection);
        self.registration.set_deadline(Some(Instant::now()));
    }

    /// Hands a request on. `may_read`: the socket may hold more, and no further edge will tell.
    fn hand_on(self: &Arc<Self>, mut connection: Box<Connection>, request: Request, asked: Asked, may_read: bool) {
        let sends_no_more = {
            let mut seat = self.seat();
            seat.pending |= may_read;
            seat.behind = Some(connection.take_unread());
            seat.presence == Presence::SendsNoMore
        };
        let reply_to = ClientReply::new(self.clone(), connection, asked);
        self.door.handler.handle(request, Box::new(reply_to));
        if sends_no_more {
            // The end came with the request, or before it.
            self.notice_departure(false);
        }
    }

    fn refuse(&self, connection: &mut Connection, refusal: &Refusal) {
        access_log::refused(self.peer, refusal);
        let reply = refusal.reply();
        let framing = Framing::of(Asked::UNREADABLE, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(512);
        write_head(&mut bytes, Asked::UNREADABLE, reply.status, &reply.headers, framing, SystemTime::now());
        if let ReplyBody::Whole(body) = reply.body {
            bytes.extend_from_slice(&body);
            if *refusal == Refusal::Http2NotSupported {
                bytes = http2::refusal(connection.unread(), reply.status, &body, &bytes);
            }
        }
        // A client that lets its socket fill up doesn't read; it is told by the close alone.
        let _ = self.try_write(&bytes);
        self.half_close(connection);
    }

    fn expired(self: &Arc<Self>) {
        let Some(mut connection) = self.seat().connection.take() else { return };
        if connection.deadline() > Instant::now() {
            // It was put off meanwhile, or its turn was.
            return self.work(connection, true);
        }
        match connection.expire() {
            Step::Refuse(refusal) => {
                self.refuse(&mut connection, &refusal);
                self.work(connection, true);
            }
            _ => self.close(),
        }
    }

    fn drain(self: &Arc<Self>) {
        let connection = self.seat().connection.take();
        if let Some(connection) = connection {
            // It is closed there if it is idle.
            self.work(connection, true);
        }
    }

    /// The house is closed.
    fn cut(&self) {
        let waiting = self.seat().connection.take();
        if waiting.is_some() { self.close() } else { self.cut_off() }
    }
}

impl GivesWay for Client {
    fn standing(&self) -> Option<Standing> {
        let carrier = {
            let seat = self.seat();
            if let Some(connection) = &seat.connection {
                return Some(connection.standing());
            }
            seat.carrier.clone()
        };
        carrier?.standing()
    }

    /// A client that is sending a request is told, and has a moment to read it where there may be one more such client.
    fn give_way(self: Arc<Self>, goes: &dyn Fn(&Standing) -> bool) -> bool {
        let carrier = self.seat().carrier.clone();
        if let Some(carrier) = carrier {
            return carrier.give_way(goes);
        }
        let Some(mut connection) = self.take_to_go(goes) else { return false };
        if let Step::Refuse(refusal) = connection.expire() {
            self.refuse(&mut connection, &refusal);
            if self.front().crowd.may_part(self.number) {
                // Its own thread reads what it still sends.
                self.go_on_later(connection);
                return true;
            }
        }
        self.close();
        true
    }
}

impl EventHandler for Client {
    fn on_event(self: Arc<Self>, event: Event) {
        if let Some(carrier) = self.carrier_for(event) {
            return carrier.on_event(event);
        }
        let worked = catch_unwind(AssertUnwindSafe(|| match event {
            Event::Ready { read_closed, dead } => match self.take_or_note(read_closed, dead) {
                Some(connection) => self.work(connection, true),
                None if read_closed || dead => self.notice_departure(dead),
                None => {}
            },
            Event::Expired => self.expired(),
            Event::Drain => self.drain(),
            Event::Cut => self.cut(),
        }));
        if worked.is_err() {
            // What it has been sent may be anything.
            self.abort();
        }
    }
}
