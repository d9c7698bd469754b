//! What a client's turns are made of: reading until a request is complete, handing it on, answering what can't be served,
//! and giving the connection back to the poller. What the bytes mean is `connection`'s knowledge, the socket is `client`'s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access_log;
use crate::downstream::client::socket::{Arrived, Client, ClientStatus};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::h1::encode::{CONTINUE, Framing, RequestSummary, write_head};
use crate::downstream::h1::http2;
use crate::downstream::h1::protocol::{Action, Http1};
use crate::downstream::responder::Responder;
use crate::message::{Refusal, ReplyBody, Request};
use crate::runtime::poller::{Event, EventHandler};

/// Reads of one client in one turn: a fast upload mustn't keep the poller's thread from all others.
const READS_MAX: usize = 16;

impl Client {
    /// Goes on with the connection until it needs the poller or somebody else: `may_read` if bytes may be waiting.
    pub(crate) fn work(self: &Arc<Self>, connection: Box<Http1>, may_read: bool) {
        self.work_until(connection, may_read, Http1::step);
    }

    /// The same on the thread for it, which may wait for the disk.
    fn spool(self: &Arc<Self>, connection: Box<Http1>) {
        let client = self.clone();
        self.frontend().disk.run(Box::new(move || {
            if client.is_gone() {
                // Nothing is written that no answer will be asked for.
                return client.close();
            }
            let work = || client.work_until(connection, true, Http1::step_on_disk);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                client.close();
            }
        }));
    }

    fn work_until(
        self: &Arc<Self>,
        mut connection: Box<Http1>,
        mut may_read: bool,
        step: fn(&mut Http1, Instant) -> Action,
    ) {
        let mut reads = 0;
        loop {
            match step(&mut connection, Instant::now()) {
                Action::Spool if self.frontend().disk.start() => return self.spool(connection),
                Action::More if may_read && reads == READS_MAX => return self.go_on_later(connection),
                Action::More if may_read => match self.read_into(&mut connection) {
                    Arrived::Bytes { more } => {
                        reads += 1;
                        may_read = more;
                    }
                    Arrived::Nothing => may_read = false,
                    Arrived::End => return self.end(connection),
                },
                Action::More => match self.give_back(connection) {
                    None => return,
                    Some(again) => {
                        connection = again;
                        may_read = true;
                    }
                },
                Action::Continue => {
                    if self.try_write(CONTINUE).is_err() {
                        return self.close();
                    }
                }
                Action::Request(request, summary) if self.context.handler.has_room(&request) => {
                    return self.hand_on(connection, *request, summary, may_read);
                }
                Action::Spool | Action::Request(..) => {
                    self.refuse(&mut connection, &Refusal::Busy);
                    may_read = true;
                }
                Action::Refuse(refusal) => {
                    self.refuse(&mut connection, &refusal);
                    may_read = true;
                }
                Action::Close => return self.close(),
            }
        }
    }

    /// The client sends no more, and no request is being served.
    fn end(&self, mut connection: Box<Http1>) {
        if let Some(refusal) = connection.end() {
            self.refuse(&mut connection, &refusal);
        }
        self.close();
    }

    /// The reply was sent and the client may ask again. Its request may still be in somebody's hands on this very thread: what
    /// comes next has its own turn, or a client that asks for many such replies would have each answered within the last.
    pub(crate) fn answered(self: &Arc<Self>, mut connection: Box<Http1>) {
        connection.answered(Instant::now());
        let notified = self.leave_exchange(&mut connection);
        let more = if notified || connection.has_unread() { Some(connection) } else { self.give_back(connection) };
        if let Some(connection) = more {
            self.go_on_later(connection);
        }
    }

    /// The last reply was sent: the client has some time to read it and to close its side.
    pub(crate) fn start_closing(self: &Arc<Self>, mut connection: Box<Http1>) {
        self.leave_exchange(&mut connection);
        self.half_close(&mut connection);
        self.work(connection, true);
    }

    /// Gives the connection to the poller, or back if an edge came meanwhile.
    fn give_back(&self, mut connection: Box<Http1>) -> Option<Box<Http1>> {
        let mut state = self.state();
        if std::mem::take(&mut state.notified) {
            return Some(connection);
        }
        // Under the lock: whoever says that the house closes finds the connection here, or is heard.
        if self.frontend().is_draining() && connection.drain(Instant::now()) {
            drop(state);
            self.close();
            return None;
        }
        // Under the lock, so that no later owner's deadline is overwritten by this one.
        self.registration.set_deadline(Some(connection.deadline()));
        state.connection = Some(connection);
        None
    }

    /// Lets others have their turns first.
    fn go_on_later(&self, mut connection: Box<Http1>) {
        let mut state = self.state();
        // Under the lock, as in `give_back`, which a client that sends without end never gets to.
        if self.frontend().is_draining() {
            connection.drain(Instant::now());
        }
        state.connection = Some(connection);
        self.registration.set_deadline(Some(Instant::now()));
    }

    /// Hands a request on. `may_read`: the socket may hold more, and no further edge will tell.
    fn hand_on(
        self: &Arc<Self>,
        mut connection: Box<Http1>,
        request: Request,
        summary: RequestSummary,
        may_read: bool,
    ) {
        let sends_no_more = {
            let mut state = self.state();
            state.notified |= may_read;
            state.behind = Some(connection.take_unread());
            state.status == ClientStatus::HalfClosed
        };
        let reply_to = Responder::new(self.clone(), connection, summary);
        self.context.handler.handle(request, Box::new(reply_to));
        if sends_no_more {
            // The end came with the request, or before it.
            self.notice_disconnect(false);
        }
    }

    fn refuse(&self, connection: &mut Http1, refusal: &Refusal) {
        access_log::refused(self.peer, refusal);
        let reply = refusal.reply();
        let framing = Framing::of(RequestSummary::UNREADABLE, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(512);
        write_head(&mut bytes, RequestSummary::UNREADABLE, reply.status, &reply.headers, framing, SystemTime::now());
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
        let Some(mut connection) = self.state().connection.take() else { return };
        if connection.deadline() > Instant::now() {
            // It was put off meanwhile, or its turn was.
            return self.work(connection, true);
        }
        match connection.expire() {
            Action::Refuse(refusal) => {
                self.refuse(&mut connection, &refusal);
                self.work(connection, true);
            }
            _ => self.close(),
        }
    }

    fn drain(self: &Arc<Self>) {
        let connection = self.state().connection.take();
        if let Some(connection) = connection {
            // It is closed there if it is idle.
            self.work(connection, true);
        }
    }

    /// The house is closed.
    fn cut(&self) {
        let waiting = self.state().connection.take();
        if waiting.is_some() { self.close() } else { self.cut_off() }
    }
}

impl Evictable for Client {
    fn activity(&self) -> Option<Activity> {
        let stream = {
            let state = self.state();
            if let Some(connection) = &state.connection {
                return Some(connection.activity());
            }
            state.stream.clone()
        };
        stream?.activity()
    }

    /// A client that is sending a request is told, and has a moment to read it where there may be one more such client.
    fn try_evict(self: Arc<Self>, goes: &dyn Fn(&Activity) -> bool) -> bool {
        let stream = self.state().stream.clone();
        if let Some(stream) = stream {
            return stream.try_evict(goes);
        }
        let Some(mut connection) = self.take_for_eviction(goes) else { return false };
        if let Action::Refuse(refusal) = connection.expire() {
            self.refuse(&mut connection, &refusal);
            if self.frontend().table.try_start_closing(self.number) {
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
        if let Some(stream) = self.stream_for(event) {
            return stream.on_event(event);
        }
        let worked = catch_unwind(AssertUnwindSafe(|| match event {
            Event::Ready { read_closed, dead } => match self.take_or_note(read_closed, dead) {
                Some(connection) => self.work(connection, true),
                None if read_closed || dead => self.notice_disconnect(dead),
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
