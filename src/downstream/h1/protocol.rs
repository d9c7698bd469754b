//! The states of one client's connection: bytes and `now` in, complete requests or refusals out.
//! Knows no socket; whoever owns one feeds it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::downstream::eviction::Activity;
use crate::downstream::h1::body::BodyReader;
use crate::downstream::h1::encode::RequestSummary;
use crate::downstream::h1::head::{Head, HeadReader, empty_lines};
use crate::downstream::h1::http2;
use crate::downstream::limits::{BodyPolicy, Limits};
use crate::downstream::timeouts::Timeouts;
use crate::message::{BodyLength, Refusal, Request, SpoolWriter};

/// Read in one call: a whole head of the usual size, and enough of a body to make the call worth it.
pub(crate) const READ_BYTES: usize = 16 * 1024;
/// How long a client may take for its first request that has connected just before the house closes: one packet on its way.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);
/// For the first request of HTTP/2, which is only waited for so that its refusal can be shown to people.
const HTTP_2_TIME: Duration = Duration::from_secs(1);
/// Once a body has had its time to start, it must come at this rate at least, on average.
const BODY_BYTES_PER_SECOND_MIN: u64 = 1024;
/// A client that was told to go is read for so long at most once the house closes.
const LAST_CLOSING_TIME: Duration = Duration::from_secs(1);

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    limits: Arc<Limits>,
    peer: SocketAddr,
    input: Vec<u8>,
    state: State,
    deadline: Instant,
    /// No request has come yet.
    is_new: bool,
}

#[derive(Debug)]
enum State {
    /// Between requests: not one byte of the next has come.
    Idle { since: Instant },
    /// A part of a head is here.
    Head { reader: HeadReader, since: Instant },
    /// The begin of HTTP/2 is here, its first request isn't yet.
    Http2 { since: Instant },
    /// The head is here, its body isn't yet.
    Body(Box<Arriving>),
    /// A refusal or the last reply was sent: what still comes is thrown away.
    Closing { since: Instant, until: Instant, is_heard: bool },
}

#[derive(Debug)]
struct Arriving {
    request: Box<Request>,
    summary: RequestSummary,
    body: BodyReader,
    body_policy: BodyPolicy,
    began: Instant,
    /// Since when it waits for its turn at the disk. That is no fault of the client's.
    waits_since: Option<Instant>,
    /// When the last of it came.
    heard: Instant,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Action {
    /// More bytes must come.
    More,
    /// A part of the body must go to its file: [`Http1::step_on_disk`], on a thread that may wait for that.
    Spool,
    /// The client waits for `100 Continue` before it sends the body.
    Continue,
    /// A complete request.
    Request(Box<Request>, RequestSummary),
    /// The request can't be served; the connection ends with the reply.
    Refuse(Refusal),
    /// Nothing more is to be done for this client.
    Close,
}

impl Http1 {
    pub(crate) fn new(limits: Arc<Limits>, peer: SocketAddr, now: Instant) -> Http1 {
        let (state, deadline) = (State::Idle { since: now }, now + limits.timeouts.head);
        Http1 { limits, peer, input: Vec::new(), state, deadline, is_new: true }
    }

    /// Takes bytes in. [`Http1::step`] says what they mean. Those of a client that was told to go aren't kept.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Closing { is_heard, .. } => *is_heard = true,
            _ => self.input.extend_from_slice(bytes),
        }
    }

    /// When [`Http1::expire`] is to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether bytes of a further request are here.
    pub(crate) fn has_unread(&self) -> bool {
        !self.input.is_empty()
    }

    /// The bytes that haven't become a request.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Gives the bytes that came behind the request.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Takes them back.
    pub(crate) fn put_back(&mut self, unread: Vec<u8>) {
        self.input = unread;
    }

    /// The house closes. Whether the client may be left at once: one that has just connected has a request on its way, and
    /// some time for it; one that was told to go has a moment left.
    pub(crate) fn drain(&mut self, now: Instant) -> bool {
        if let State::Closing { until, .. } = &mut self.state {
            *until = (*until).min(now + LAST_CLOSING_TIME);
            self.deadline = self.deadline.min(*until);
            return false;
        }
        if self.is_idle() && self.is_new {
            self.deadline = self.deadline.min(now + FIRST_REQUEST_TIME);
            return false;
        }
        self.is_idle()
    }

    /// Whether nothing of a request is here. Half of an empty line is no more of one than a whole one is.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. }) && matches!(self.input[..], [] | [b'\r'])
    }

    /// What it makes of its client's place.
    pub(crate) fn activity(&self) -> Activity {
        let unread = self.input.len() as u64;
        match &self.state {
            State::Idle { since } if self.is_idle() => Activity::Idle { since: *since },
            State::Idle { since } | State::Head { since, .. } | State::Http2 { since } => {
                Activity::Receiving { since: *since, bytes: unread, heard: *since }
            }
            State::Body(arriving) => {
                let bytes = arriving.body.length() + unread;
                Activity::Receiving { since: arriving.began, bytes, heard: arriving.heard }
            }
            State::Closing { since, .. } => Activity::Closing { since: *since },
        }
    }

    /// The request has been answered and another may follow.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.state = State::Idle { since: now };
        self.deadline = now + self.limits.timeouts.idle;
    }

    /// The last reply was sent: the client has some time to send what is left of its request, and to read the reply.
    pub(crate) fn start_closing(&mut self, now: Instant) {
        self.input = Vec::new();
        self.state = State::Closing { since: now, until: now + self.limits.timeouts.closing, is_heard: false };
        self.deadline = now + self.limits.timeouts.closing_silence;
    }

    /// The client sends no more: what it is still to be told.
    pub(crate) fn end(&self) -> Option<Refusal> {
        matches!(self.state, State::Http2 { .. }).then_some(Refusal::Http2NotSupported)
    }

    /// The deadline has passed.
    pub(crate) fn expire(&mut self) -> Action {
        match self.state {
            State::Idle { .. } | State::Closing { .. } => Action::Close,
            State::Head { .. } | State::Body(_) => Action::Refuse(Refusal::RequestTimeout),
            State::Http2 { .. } => Action::Refuse(Refusal::Http2NotSupported),
        }
    }

    /// Goes on with what is here. Never blocks.
    pub(crate) fn step(&mut self, now: Instant) -> Action {
        self.step_by(false, now)
    }

    /// Goes on with what is here, and writes to a body's file where it must. Blocks only on the disk.
    pub(crate) fn step_on_disk(&mut self, now: Instant) -> Action {
        self.step_by(true, now)
    }

    fn step_by(&mut self, may_write: bool, now: Instant) -> Action {
        let step = match &mut self.state {
            State::Idle { .. } | State::Head { .. } => self.step_head(may_write, now),
            State::Http2 { .. } if http2::awaits_request(&self.input) => Ok(Action::More),
            State::Http2 { .. } => Err(Refusal::Http2NotSupported),
            State::Body(_) => self.step_body(may_write, now),
            State::Closing { until, .. } if now >= *until => Ok(Action::Close),
            State::Closing { until, is_heard, .. } => {
                if std::mem::take(is_heard) {
                    self.deadline = (now + self.limits.timeouts.closing_silence).min(*until);
                }
                Ok(Action::More)
            }
        };
        if self.input.is_empty() {
            // An idle connection keeps no buffer: ten thousand of them are to cost little.
            self.input = Vec::new();
        }
        step.unwrap_or_else(Action::Refuse)
    }

    fn step_head(&mut self, may_write: bool, now: Instant) -> Result<Action, Refusal> {
        if matches!(self.state, State::Idle { .. }) {
            let empty = empty_lines(&self.input);
            self.input.drain(..empty);
            if self.is_idle() {
                return Ok(Action::More);
            }
            self.state = State::Head { reader: HeadReader::default(), since: now };
            self.deadline = now + self.limits.timeouts.head;
        }
        let State::Head { reader, since } = &mut self.state else { return Ok(Action::More) };
        let read = reader.read(&self.input, self.limits.max_head);
        if matches!(read, Err(Refusal::Http2NotSupported)) && http2::awaits_request(&self.input) {
            self.state = State::Http2 { since: *since };
            self.deadline = self.deadline.min(now + HTTP_2_TIME);
            return Ok(Action::More);
        }
        let Some((head, length)) = read? else { return Ok(Action::More) };
        self.input.drain(..length);
        self.begin_body(head, may_write, now)
    }

    fn begin_body(&mut self, head: Head, may_write: bool, now: Instant) -> Result<Action, Refusal> {
        let mut summary = RequestSummary::new(&head.method, head.version, head.is_persistent());
        let Head { method, target, version, headers, body, wants_continue } = head;
        let request = Request { method, target, version, headers, body: None, peer: self.peer, received: now };
        let request = Box::new(request);
        if body == BodyLength::None {
            return Ok(self.complete(request, summary, now));
        }
        let Limits { max_body, spool_memory, spool_dir, body_policy, .. } = &*self.limits;
        let body_policy = body_policy(&request);
        let bytes_max = match body_policy {
            BodyPolicy::Default => *max_body,
            BodyPolicy::Limited { bytes_max, .. } => bytes_max,
            BodyPolicy::Reject => {
                // What follows is its body, and never another request.
                summary.persistent = false;
                return Ok(self.complete(request, summary, now));
            }
        };
        let writer = SpoolWriter::sharing(spool_memory.clone(), spool_dir.clone(), bytes_max);
        let body = BodyReader::new(body, bytes_max, writer).map_err(|refusal| body_policy.refusal(refusal))?;
        let wants_continue = wants_continue && self.input.is_empty();
        let arriving = Arriving { request, summary, body, body_policy, began: now, waits_since: None, heard: now };
        self.deadline = arriving.deadline(&self.limits.timeouts);
        self.state = State::Body(Box::new(arriving));
        if wants_continue { Ok(Action::Continue) } else { self.step_body(may_write, now) }
    }

    fn step_body(&mut self, may_write: bool, now: Instant) -> Result<Action, Refusal> {
        let State::Body(arriving) = &mut self.state else { return Ok(Action::More) };
        if let Some(since) = arriving.waits_since.take() {
            arriving.began += now.saturating_duration_since(since);
        }
        let taken =
            arriving.body.take(&self.input, may_write).map_err(|refusal| arriving.body_policy.refusal(refusal))?;
        if taken.bytes > 0 {
            arriving.heard = now;
        }
        self.input.drain(..taken.bytes);
        if !taken.complete {
            self.deadline = arriving.deadline(&self.limits.timeouts);
            arriving.waits_since = taken.needs_disk.then_some(now);
            return Ok(if taken.needs_disk { Action::Spool } else { Action::More });
        }
        let State::Body(arriving) = std::mem::replace(&mut self.state, State::Idle { since: now }) else {
            return Ok(Action::More);
        };
        let Arriving { mut request, summary, body, .. } = *arriving;
        request.body = Some(body.finish());
        Ok(self.complete(request, summary, now))
    }

    fn complete(&mut self, mut request: Box<Request>, summary: RequestSummary, now: Instant) -> Action {
        self.is_new = false;
        self.state = State::Idle { since: now };
        request.received = now;
        Action::Request(request, summary)
    }
}

impl Arriving {
    /// When it must have arrived, or more of it.
    fn deadline(&self, timeouts: &Timeouts) -> Instant {
        match self.body_policy {
            BodyPolicy::Limited { .. } => self.began + timeouts.limited_body,
            _ => self.began + timeouts.body_start + Duration::from_secs(self.body.length() / BODY_BYTES_PER_SECOND_MIN),
        }
    }
}

impl BodyPolicy {
    /// What the client is told if its body isn't taken.
    fn refusal(&self, refusal: Refusal) -> Refusal {
        match (self, refusal) {
            (BodyPolicy::Limited { too_long, .. }, Refusal::BodyTooLarge) => too_long.clone(),
            (_, refusal) => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::message::SpoolMemory;

    const HEAD_BYTES_MAX: usize = 256 * 1024;
    const TIMEOUTS: Timeouts = Timeouts::DEFAULT;

    fn connection(now: Instant) -> Http1 {
        let limits = Limits::new(HEAD_BYTES_MAX, 1 << 20, &std::env::temp_dir());
        Http1::new(Arc::new(limits), "192.0.2.1:1".parse().expect("an address"), now)
    }

    fn target(step: &Action) -> &str {
        match step {
            Action::Request(request, _) => request.target.as_str(),
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn pipelined_requests_come_out_one_by_one() {
        let now = Instant::now();
        let mut connection = connection(now);
        connection
            .receive(b"\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n");
        assert_eq!(target(&connection.step(now)), "/1");
        assert!(connection.has_unread());
        connection.answered(now);
        assert!(matches!(connection.step(now), Action::More));
        connection.receive(b"\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
        let Action::Request(request, _) = connection.step(now) else { panic!("no request") };
        assert_eq!(request.body.expect("a body").bytes(), Some(&b"abc"[..]));
        connection.answered(now);
        assert_eq!(target(&connection.step(now)), "/3");
        assert!(!connection.has_unread() && connection.is_idle());
    }

    #[test]
    fn every_wait_has_its_deadline() {
        let now = Instant::now();
        let mut connection = connection(now);
        assert_eq!(connection.deadline(), now + TIMEOUTS.head);
        assert!(matches!(connection.expire(), Action::Close), "a silent client is closed without a word");
        connection.receive(b"POST / HTTP/1.1\r\n");
        assert!(matches!(connection.step(now), Action::More));
        let later = now + Duration::from_secs(5);
        connection.receive(b"Host: a\r\nContent-Length: 100000\r\n");
        assert!(matches!(connection.step(later), Action::More));
        assert_eq!(connection.deadline(), now + TIMEOUTS.head, "a dripping head wins no time");
        assert!(matches!(connection.expire(), Action::Refuse(Refusal::RequestTimeout)));
        connection.receive(b"\r\n");
        assert!(matches!(connection.step(later), Action::More));
        assert_eq!(connection.deadline(), later + TIMEOUTS.body_start);
        connection.receive(&[0; 10 * 1024]);
        assert!(matches!(connection.step(later), Action::More));
        assert_eq!(connection.deadline(), later + TIMEOUTS.body_start + Duration::from_secs(10));
        assert!(matches!(connection.expire(), Action::Refuse(Refusal::RequestTimeout)));
    }

    /// Was seen as: a client that sent an empty line in two pieces was told that its request came too slowly.
    #[test]
    fn an_empty_line_is_no_request_however_it_comes() {
        let now = Instant::now();
        for pieces in [vec!["\r\n"], vec!["\r", "\n"], vec!["\r\n\r"]] {
            let mut connection = connection(now);
            for piece in &pieces {
                connection.receive(piece.as_bytes());
                assert!(matches!(connection.step(now + Duration::from_secs(1)), Action::More), "{pieces:?}");
            }
            assert_eq!(connection.deadline(), now + TIMEOUTS.head, "{pieces:?} win no time");
            assert!(connection.is_idle() && matches!(connection.expire(), Action::Close), "{pieces:?}");
        }
    }

    #[test]
    fn the_first_request_of_http_2_is_awaited_for_a_moment() {
        const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let now = Instant::now();
        let mut connection = connection(now);
        connection.receive(BEGIN);
        assert!(matches!(connection.step(now), Action::More));
        let later = now + HTTP_2_TIME / 2;
        connection.receive(b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84");
        assert!(matches!(connection.step(later), Action::More));
        assert_eq!(connection.deadline(), now + HTTP_2_TIME, "it wins no time");
        assert!(matches!(connection.expire(), Action::Refuse(Refusal::Http2NotSupported)));
        connection.receive(b"\x86");
        assert!(matches!(connection.step(later), Action::Refuse(Refusal::Http2NotSupported)));
        assert_eq!(connection.unread().len(), BEGIN.len() + 12, "its answer needs them");
    }

    #[test]
    fn when_the_house_closes_only_those_are_left_at_once_whose_request_was_answered() {
        let now = Instant::now();
        let mut connection = connection(now);
        assert!(!connection.drain(now), "its first request may be on its way");
        assert_eq!(connection.deadline(), now + FIRST_REQUEST_TIME);
        assert!(!connection.drain(now + FIRST_REQUEST_TIME / 2));
        assert_eq!(connection.deadline(), now + FIRST_REQUEST_TIME, "it wins no time");
        connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET");
        assert_eq!(target(&connection.step(now)), "/");
        connection.answered(now);
        assert!(matches!(connection.step(now), Action::More));
        assert!(!connection.drain(now), "half of its second request is here");
        connection.receive(b" / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(target(&connection.step(now)), "/");
        connection.answered(now);
        assert!(connection.drain(now));
    }

    #[test]
    fn continue_is_asked_for_once_and_only_before_the_body_came() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let now = Instant::now();
        let mut connection = connection(now);
        connection.receive(head);
        assert!(matches!(connection.step(now), Action::Continue));
        assert!(matches!(connection.step(now), Action::More));
        connection.receive(b"abc");
        assert_eq!(target(&connection.step(now)), "/");
        connection.answered(now);
        connection.receive(&[&head[..], b"abc"].concat());
        assert_eq!(target(&connection.step(now)), "/");
    }

    /// A scan from the begin for each of them would be 34 billion steps.
    #[test]
    fn a_long_head_that_comes_byte_by_byte_is_looked_at_once() {
        let now = Instant::now();
        let field = [b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", &vec![b'x'; HEAD_BYTES_MAX][..]].concat();
        let empty_lines = b"\r\n".repeat(HEAD_BYTES_MAX / 2);
        for (label, bytes) in [("field", field), ("method", vec![b'x'; HEAD_BYTES_MAX + 1]), ("nothing", empty_lines)] {
            let mut connection = connection(now);
            let refused = bytes.iter().position(|byte| {
                connection.receive(&[*byte]);
                !matches!(connection.step(now), Action::More)
            });
            assert_eq!(refused, (label != "nothing").then_some(HEAD_BYTES_MAX), "{label}");
        }
        assert!(now.elapsed() < Duration::from_secs(20), "{:?}", now.elapsed());
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_continue() {
        let now = Instant::now();
        let mut connection = connection(now);
        connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
        assert!(matches!(connection.step(now), Action::Refuse(Refusal::BodyTooLarge)));
    }

    /// Was seen as: of a body over the limit 256 KiB were read, and the client that sent more met a reset instead of its 413.
    #[test]
    fn a_parting_client_is_read_while_it_sends_but_not_for_ever_and_nothing_is_kept() {
        let begun = Instant::now();
        let mut connection = connection(begun);
        connection.receive(b"GET");
        connection.start_closing(begun);
        assert_eq!(connection.deadline(), begun + TIMEOUTS.closing_silence);
        let mut now = begun;
        while now < begun + TIMEOUTS.closing {
            assert!(connection.deadline() > now);
            connection.receive(&[0; READ_BYTES]);
            assert!(matches!(connection.step(now), Action::More));
            assert_eq!(connection.deadline(), (now + TIMEOUTS.closing_silence).min(begun + TIMEOUTS.closing));
            assert!(matches!(connection.step(now + Duration::from_millis(1)), Action::More), "no bytes, no time");
            assert_eq!(connection.deadline(), (now + TIMEOUTS.closing_silence).min(begun + TIMEOUTS.closing));
            assert_eq!(connection.input.capacity(), 0);
            now += Duration::from_secs(1);
        }
        connection.receive(&[0]);
        assert!(matches!(connection.step(now), Action::Close), "its bytes win no more time");
    }

    #[test]
    fn when_the_house_closes_a_parting_client_has_a_moment_left() {
        let now = Instant::now();
        let mut connection = connection(now);
        connection.start_closing(now);
        let later = now + LAST_CLOSING_TIME / 2;
        assert!(!connection.drain(now) && !connection.drain(later), "its reply may be on its way");
        connection.receive(&[0]);
        assert!(matches!(connection.step(later), Action::More));
        assert_eq!(connection.deadline(), now + LAST_CLOSING_TIME, "neither bytes nor a second word win time");
        assert!(matches!(connection.step(now + LAST_CLOSING_TIME), Action::Close));
    }

    fn posting(length: usize) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    }

    /// Was seen as: with all memory for bodies taken, the thread that waits for all sockets opened a file for each body.
    #[test]
    fn no_file_is_touched_before_a_thread_for_the_disk_goes_on() {
        let now = Instant::now();
        let nowhere = Path::new("/nonexistent").into();
        let limits = Limits {
            spool_memory: Arc::new(SpoolMemory::of(0)),
            spool_dir: nowhere,
            ..(*connection(now).limits).clone()
        };
        let mut connection = Http1::new(Arc::new(limits), "192.0.2.1:1".parse().expect("an address"), now);
        connection.receive(&[posting(2).as_bytes(), b"a"].concat());
        for _ in 0..2 {
            assert!(matches!(connection.step(now), Action::Spool), "it can be asked as often as one likes");
        }
        assert!(matches!(connection.step_on_disk(now), Action::Refuse(Refusal::InsufficientStorage)));
    }

    #[test]
    fn waiting_for_the_disk_is_no_fault_of_the_clients() {
        let now = Instant::now();
        let mut connection = connection(now);
        connection.receive(&[posting(100_000).as_bytes(), &vec![7; 70_000]].concat());
        assert!(matches!(connection.step(now), Action::Spool));
        let later = now + Duration::from_secs(3600);
        assert!(matches!(connection.step_on_disk(later), Action::More));
        assert_eq!(connection.deadline(), later + TIMEOUTS.body_start + Duration::from_secs(70_000 / 1024));
    }
}
