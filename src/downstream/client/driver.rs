//! What a client's events lead to: reading until a request is complete, dispatching it, refusing what can't be served, and parking
//! the protocol state until the next event. What the bytes mean is the knowledge of `h1`, the socket that of `socket`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access_log;
use crate::downstream::client::socket::{Client, ClientStatus, Received};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::h1::encode::{CONTINUE, Framing, RequestSummary, write_head};
use crate::downstream::h1::http2;
use crate::downstream::h1::protocol::{Action, Http1};
use crate::downstream::responder::Responder;
use crate::message::{Refusal, ReplyBody, Request, RequestId};
use crate::runtime::poller::{Event, EventHandler};

/// Reads of one client in one event: a fast upload mustn't keep the poller's thread from all others.
const READS_MAX: usize = 16;

impl Client {
    /// Carries the protocol state on until it is parked, or another thread owns it. `may_read`: bytes may be waiting.
    pub(crate) fn drive(self: &Arc<Self>, http1: Box<Http1>, may_read: bool) {
        self.drive_by(Http1::step, http1, may_read);
    }

    /// Carries the protocol state on as [`Client::drive`] does, but on the disk thread, which may wait for the disk.
    fn drive_on_disk(self: &Arc<Self>, http1: Box<Http1>) {
        let client = self.clone();
        self.frontend().disk_thread.run(Box::new(move || {
            if client.is_gone() {
                // A request that will have no reply needs no file.
                return client.close();
            }
            let drive = || client.drive_by(Http1::step_on_disk, http1, true);
            if catch_unwind(AssertUnwindSafe(drive)).is_err() {
                client.close();
            }
        }));
    }

    fn drive_by(self: &Arc<Self>, step: fn(&mut Http1, Instant) -> Action, mut http1: Box<Http1>, mut may_read: bool) {
        let mut reads = 0;
        loop {
            match step(&mut http1, Instant::now()) {
                Action::Spool if self.frontend().disk_thread.start() => return self.drive_on_disk(http1),
                Action::More if may_read && reads == READS_MAX => return self.park_to_yield(http1),
                Action::More if may_read => match self.read_into(&mut http1) {
                    Received::Bytes { more } => {
                        reads += 1;
                        may_read = more;
                    }
                    Received::Nothing => may_read = false,
                    Received::PlainHttp => {
                        let refusal = http1.refusal_of_plain();
                        self.refuse(&mut http1, &refusal);
                    }
                    Received::End => return self.end(http1),
                },
                Action::More => match self.park(http1) {
                    None => return,
                    Some(notified) => {
                        http1 = notified;
                        may_read = true;
                    }
                },
                Action::Continue => {
                    if self.try_write_all(CONTINUE).is_err() {
                        // To close before its body is read would reset what it hasn't read of earlier replies.
                        self.half_close(&mut http1);
                        may_read = true;
                    }
                }
                Action::Request(request, summary) if self.context.handler.has_room(&request) => {
                    return self.dispatch(http1, request, summary, may_read);
                }
                Action::Request(request, _) => {
                    http1.set_refused(request);
                    self.refuse(&mut http1, &Refusal::Busy);
                    may_read = true;
                }
                Action::Spool => {
                    self.refuse(&mut http1, &Refusal::Busy);
                    may_read = true;
                }
                Action::Refuse(refusal) => {
                    self.refuse(&mut http1, &refusal);
                    may_read = true;
                }
                Action::Close => return self.close(),
            }
        }
    }

    /// Closes a client that sends no more, while no request is being served.
    fn end(&self, mut http1: Box<Http1>) {
        if let Some(refusal) = http1.refusal_at_end() {
            self.refuse(&mut http1, &refusal);
        }
        self.close();
    }

    /// Lets the client ask again once its reply was sent. What comes next is served in an event of its own: this may be called from
    /// inside the request's handler, and N pipelined requests with such replies would recurse N deep.
    pub(crate) fn await_next_request(self: &Arc<Self>, mut http1: Box<Http1>) {
        http1.await_next_request(Instant::now());
        let mut has_more = self.end_exchange(&mut http1) || http1.has_unread();
        if self.frontend().is_draining() {
            has_more = http1.has_unread() || self.may_read_on();
            if !has_more {
                // The end of the reply may still wait in the kernel, and a container's network ends with its process.
                return self.start_closing(http1);
            }
        }
        let more = if has_more { Some(http1) } else { self.park(http1) };
        if let Some(http1) = more {
            self.park_to_yield(http1);
        }
    }

    /// Half-closes the connection once the last reply was sent: the client has some time to read it and to close its side.
    pub(crate) fn start_closing(self: &Arc<Self>, mut http1: Box<Http1>) {
        self.end_exchange(&mut http1);
        self.half_close(&mut http1);
        self.drive(http1, true);
    }

    /// Closes the connection after a short reply to the client's only request. If it has sent more all the same, a close would be a
    /// reset, and destroy what it hasn't read: then as after any last reply.
    pub(crate) fn close_after_only(self: &Arc<Self>, mut http1: Box<Http1>) {
        self.end_exchange(&mut http1);
        let has_sent_more = http1.has_unread() || !self.is_silent();
        // TLS's own words may be on their way in both directions, and a container's network ends with its process.
        let is_awaited = self.peer.is_tls || self.frontend().is_draining();
        if has_sent_more || is_awaited { self.start_closing(http1) } else { self.close() }
    }

    /// Half-closes the connection in place of a reply for which there is no room: a reset would destroy what the client hasn't read of
    /// earlier ones. TLS says no farewell.
    pub(crate) fn break_off(self: &Arc<Self>, http1: Box<Http1>) {
        self.drop_unsent();
        self.start_closing(http1);
    }

    /// Parks the protocol state until the next event, or returns it if an edge has arrived meanwhile.
    fn park(&self, mut http1: Box<Http1>) -> Option<Box<Http1>> {
        if self.has_unsent() && self.want_writable().is_err() {
            self.close();
            return None;
        }
        let mut state = self.state.lock();
        if std::mem::take(&mut state.notified) {
            return Some(http1);
        }
        // Under the lock: the broadcast of a drain finds the protocol state parked, or the frontend is draining by now.
        if self.frontend().is_draining() && http1.drain(Instant::now()) {
            drop(state);
            self.close();
            return None;
        }
        // Under the lock, so that no later owner's deadline is overwritten by this one.
        self.registration.set_deadline(Some(http1.deadline()));
        state.http1 = Some(http1);
        None
    }

    /// Parks the protocol state for an event of its own: others have waited for the thread.
    fn park_to_yield(&self, mut http1: Box<Http1>) {
        let mut state = self.state.lock();
        // Under the lock, as in `park`, which a client that sends without end never gets to.
        if self.frontend().is_draining() {
            http1.drain(Instant::now());
        }
        state.http1 = Some(http1);
        self.registration.set_deadline(Some(Instant::now()));
    }

    /// Gives a request to the listener's handler. `may_read`: the socket may hold more, and no further edge will tell.
    fn dispatch(
        self: &Arc<Self>,
        mut http1: Box<Http1>,
        mut request: Box<Request>,
        summary: RequestSummary,
        may_read: bool,
    ) {
        let is_half_closed = {
            let mut state = self.state.lock();
            state.notified |= may_read;
            state.read_ahead = Some(http1.take_unread());
            state.status == ClientStatus::HalfClosed
        };
        request.peer.subject = self.subject();
        let responder = Responder::new(self.clone(), http1, summary);
        self.context.handler.handle(request, Box::new(responder));
        if is_half_closed {
            // The end came with the request, or before it.
            self.notice_disconnect(false);
        }
    }

    /// Refuses what can't be served, and has it logged by what was asked for, as far as that is known.
    fn refuse(&self, http1: &mut Http1, refusal: &Refusal) {
        access_log::refused(&self.peer, refusal, http1.asked());
        let summary = RequestSummary { is_head: http1.asks_for_head(), ..RequestSummary::UNREADABLE };
        let mut reply = self.frontend().limits.refused(refusal);
        reply.headers.extend(http1.given_id().map(|id| (RequestId::FIELD, id.value().clone())));
        let framing = Framing::of(summary, reply.status, &reply.body);
        let mut bytes = Vec::with_capacity(512);
        write_head(&mut bytes, summary, reply.status, &reply.headers, framing, SystemTime::now);
        if let ReplyBody::Whole(body) = reply.body {
            if framing.has_body() {
                bytes.extend_from_slice(&body);
            }
            if *refusal == Refusal::Http2NotSupported {
                bytes = http2::refusal(http1.unread(), reply.status, &body, &bytes);
            }
        }
        // A client that lets its socket fill up doesn't read; it is told by the close alone.
        let _ = self.try_write_all(&bytes);
        self.half_close(http1);
    }

    fn on_expired(self: &Arc<Self>) {
        let Some(mut http1) = self.state.lock().http1.take() else { return };
        if http1.deadline() > Instant::now() {
            // It was put off meanwhile, or the protocol state was parked to yield.
            return self.drive(http1, true);
        }
        match http1.expire() {
            Action::Refuse(refusal) => {
                self.refuse(&mut http1, &refusal);
                self.drive(http1, true);
            }
            _ => self.close(),
        }
    }

    fn on_drain(self: &Arc<Self>) {
        let http1 = self.state.lock().http1.take();
        if let Some(http1) = http1 {
            // `park` closes it if it is idle.
            self.drive(http1, true);
        }
    }

    fn on_cut(&self) {
        let parked = self.state.lock().http1.take();
        if parked.is_some() { self.close() } else { self.cut_off() }
    }
}

impl Evictable for Client {
    fn activity(&self) -> Option<Activity> {
        let stream = {
            let state = self.state.lock();
            if let Some(http1) = &state.http1 {
                return Some(self.activity_in(http1));
            }
            state.stream.clone()
        };
        stream?.activity()
    }

    /// A client that is sending a request gets a refusal, and has a moment to read it if one more client may be closing.
    fn try_evict(self: Arc<Self>, may_evict: &dyn Fn(&Activity) -> bool) -> bool {
        let stream = self.state.lock().stream.clone();
        if let Some(stream) = stream {
            return stream.try_evict(may_evict);
        }
        let Some(mut http1) = self.take_for_eviction(may_evict) else { return false };
        if let Action::Refuse(refusal) = http1.expire() {
            self.refuse(&mut http1, &refusal);
            if self.frontend().table.try_start_closing(self.number) {
                // The client's own poller thread reads what it still sends.
                self.park_to_yield(http1);
                return true;
            }
        }
        self.close();
        true
    }
}

impl EventHandler for Client {
    fn on_event(self: Arc<Self>, event: Event) {
        if let Some(stream) = self.note_for_stream(event) {
            return stream.on_event(event);
        }
        let handled = catch_unwind(AssertUnwindSafe(|| match event {
            Event::Ready { read_closed, dead } => match self.take_or_notify(read_closed, dead) {
                Some(http1) => self.drive(http1, true),
                None if read_closed || dead => self.notice_disconnect(dead),
                None => {}
            },
            Event::Expired => self.on_expired(),
            Event::Drain => self.on_drain(),
            Event::Cut => self.on_cut(),
        }));
        if handled.is_err() {
            // What it has been sent may be anything.
            self.abort();
        }
    }
}
