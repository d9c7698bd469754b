//! The protocol state of one client's connection: bytes and `now` in, complete requests or refusals out.
//! Knows no socket: the client's driver feeds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use crate::downstream::eviction::Activity;
use crate::downstream::h1::body::BodyReader;
use crate::downstream::h1::encode::RequestSummary;
use crate::downstream::h1::head::{Head, HeadReader, asked_in, empty_lines, id_in, proxy_protocol_in};
use crate::downstream::h1::http2;
use crate::downstream::limits::{BodyPolicy, Limits};
use crate::downstream::timeouts::Timeouts;
use crate::message::{BodyLength, Peer, Refusal, Request, RequestId, SpoolWriter};

/// Read in one call: a whole head of the usual size, and enough of a body to make the call worth it.
pub(crate) const READ_BYTES: usize = 16 * 1024;
/// Time for the first request of a client that has connected just before a drain: one packet on its way.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);
/// Time for the first request of HTTP/2, which is only waited for so that its refusal can be shown to people.
const HTTP_2_TIME: Duration = Duration::from_secs(1);
/// The lowest rate of a body, on average, once it has had its time to start.
const BODY_BYTES_PER_SECOND_MIN: u64 = 1024;
/// The longest time that a client is read after its last reply during a drain.
const LAST_CLOSING_TIME: Duration = Duration::from_secs(1);

/// The protocol state of one client's connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    limits: Arc<Limits>,
    peer: Peer,
    input: Vec<u8>,
    phase: Phase,
    deadline: Instant,
    /// No request has come yet.
    is_new: bool,
    /// The request that was refused before its body was begun, or once it was whole.
    refused: Option<Box<Request>>,
}

#[derive(Debug)]
enum Phase {
    /// Between requests: not one byte of the next has come.
    Idle { since: Instant },
    /// A part of a head has come.
    Head { reader: HeadReader, since: Instant },
    /// The start of HTTP/2 has come, its first request hasn't.
    Http2 { since: Instant },
    /// The head has come, its body hasn't.
    Body(Box<IncomingBody>),
    /// A refusal or the last reply was sent: what still comes is discarded.
    Closing { since: Instant, until: Instant, has_received: bool },
}

#[derive(Debug)]
struct IncomingBody {
    request: Box<Request>,
    summary: RequestSummary,
    body: BodyReader,
    body_policy: BodyPolicy,
    began: Instant,
    /// Since when it waits for the disk thread. That is no fault of the client's.
    disk_wait_since: Option<Instant>,
    /// When the last of it came.
    received_at: Instant,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Action {
    /// More bytes must come.
    More,
    /// A part of the body must go to its file: call [`Http1::step_on_disk`], on a thread that may wait for that.
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
    pub(crate) fn new(limits: Arc<Limits>, peer: Peer, now: Instant) -> Http1 {
        let (phase, deadline) = (Phase::Idle { since: now }, now + limits.timeouts.head);
        Http1 { limits, peer, input: Vec::new(), phase, deadline, is_new: true, refused: None }
    }

    /// Takes bytes in. [`Http1::step`] says what they mean. After the last reply they aren't kept.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        match &mut self.phase {
            Phase::Closing { has_received, .. } => *has_received = true,
            _ => self.input.extend_from_slice(bytes),
        }
    }

    /// When [`Http1::expire`] is to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether bytes of a further request have come.
    pub(crate) fn has_unread(&self) -> bool {
        !self.input.is_empty()
    }

    /// The bytes that haven't become a request.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// The refusal of what has come in the place of TLS.
    pub(crate) fn refusal_of_plain(&self) -> Refusal {
        proxy_protocol_in(&self.input).unwrap_or(Refusal::PlainHttp)
    }

    /// The method and the target of the request that can't be served, as far as they have come.
    pub(crate) fn asked(&self) -> Option<(&str, &str)> {
        match self.unserved() {
            Some(request) => Some((request.method.as_str(), request.target.as_str())),
            None => asked_in(&self.input),
        }
    }

    /// The client's id of the request that can't be served, if that has come.
    pub(crate) fn given_id(&self) -> Option<RequestId> {
        self.unserved().map_or_else(|| id_in(&self.input), |request| RequestId::given(&request.headers))
    }

    /// Whether the request that can't be served is one for a head alone.
    pub(crate) fn asks_for_head(&self) -> bool {
        self.unserved().map_or_else(|| self.input.starts_with(b"HEAD "), |request| request.method == Method::HEAD)
    }

    /// Notes a whole request that there is no room for.
    pub(crate) fn set_refused(&mut self, request: Box<Request>) {
        self.refused = Some(request);
    }

    fn unserved(&self) -> Option<&Request> {
        match &self.phase {
            Phase::Body(incoming) => Some(&incoming.request),
            _ => self.refused.as_deref(),
        }
    }

    /// Takes the bytes out that were read beyond the request.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Puts back what [`Http1::take_unread`] took out.
    pub(crate) fn put_back(&mut self, unread: Vec<u8>) {
        self.input = unread;
    }

    /// Brings the deadline forward for a drain. Returns whether the connection may be closed at once: a client that has just
    /// connected has a request on its way, and some time for it; one that has had its last reply has a moment left.
    pub(crate) fn drain(&mut self, now: Instant) -> bool {
        if let Phase::Closing { until, .. } = &mut self.phase {
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

    /// Whether nothing of a request has come. Half of an empty line is no more of one than a whole one is.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. }) && matches!(self.input[..], [] | [b'\r'])
    }

    /// What the client uses its place for.
    pub(crate) fn activity(&self) -> Activity {
        let unread = self.input.len() as u64;
        match &self.phase {
            Phase::Idle { since } if self.is_idle() => Activity::Idle { since: *since },
            Phase::Idle { since } | Phase::Head { since, .. } | Phase::Http2 { since } => {
                Activity::Receiving { since: *since, bytes: unread, received_at: *since }
            }
            Phase::Body(incoming) => {
                let bytes = incoming.body.length() + unread;
                Activity::Receiving { since: incoming.began, bytes, received_at: incoming.received_at }
            }
            Phase::Closing { since, .. } => Activity::Closing { since: *since },
        }
    }

    /// Counts the time without a request from now on; its deadline stays.
    pub(crate) fn restart_idling(&mut self, now: Instant) {
        if let Phase::Idle { since } = &mut self.phase {
            *since = now;
        }
    }

    /// Lets another request follow, since the reply was sent.
    pub(crate) fn await_next_request(&mut self, now: Instant) {
        self.phase = Phase::Idle { since: now };
        self.deadline = now + self.limits.timeouts.idle;
    }

    /// Gives the client some time after its last reply, to send what is left of its request, and to read the reply.
    pub(crate) fn start_closing(&mut self, now: Instant) {
        (self.input, self.refused) = (Vec::new(), None);
        self.phase = Phase::Closing { since: now, until: now + self.limits.timeouts.closing, has_received: false };
        self.deadline = now + self.limits.timeouts.closing_silence;
    }

    /// The refusal that a client still gets when it has sent its end.
    pub(crate) fn refusal_at_end(&self) -> Option<Refusal> {
        matches!(self.phase, Phase::Http2 { .. }).then_some(Refusal::Http2NotSupported)
    }

    /// What to do once the deadline has passed.
    pub(crate) fn expire(&mut self) -> Action {
        match self.phase {
            Phase::Idle { .. } | Phase::Closing { .. } => Action::Close,
            Phase::Head { .. } | Phase::Body(_) => Action::Refuse(Refusal::RequestTimeout),
            Phase::Http2 { .. } => Action::Refuse(Refusal::Http2NotSupported),
        }
    }

    /// Continues with what has come. Never blocks.
    pub(crate) fn step(&mut self, now: Instant) -> Action {
        self.step_by(false, now)
    }

    /// Continues with what has come, and writes to a body's file where it must. Blocks only on the disk.
    pub(crate) fn step_on_disk(&mut self, now: Instant) -> Action {
        self.step_by(true, now)
    }

    fn step_by(&mut self, may_write: bool, now: Instant) -> Action {
        let step = match &mut self.phase {
            Phase::Idle { .. } | Phase::Head { .. } => self.step_head(may_write, now),
            Phase::Http2 { .. } if http2::awaits_request(&self.input) => Ok(Action::More),
            Phase::Http2 { .. } => Err(Refusal::Http2NotSupported),
            Phase::Body(_) => self.step_body(may_write, now),
            Phase::Closing { until, .. } if now >= *until => Ok(Action::Close),
            Phase::Closing { until, has_received, .. } => {
                if std::mem::take(has_received) {
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
        if matches!(self.phase, Phase::Idle { .. }) {
            let empty = empty_lines(&self.input);
            self.input.drain(..empty);
            if self.is_idle() {
                return Ok(Action::More);
            }
            self.phase = Phase::Head { reader: HeadReader::default(), since: now };
            self.deadline = now + self.limits.timeouts.head;
        }
        let Phase::Head { reader, since } = &mut self.phase else { return Ok(Action::More) };
        let read = reader.read(&self.input, self.limits.head_bytes_max);
        if matches!(read, Err(Refusal::Http2NotSupported)) && http2::awaits_request(&self.input) {
            self.phase = Phase::Http2 { since: *since };
            self.deadline = self.deadline.min(now + HTTP_2_TIME);
            return Ok(Action::More);
        }
        let Some((head, length)) = read? else { return Ok(Action::More) };
        self.input.drain(..length);
        self.begin_body(head, may_write, now)
    }

    fn begin_body(&mut self, head: Head, may_write: bool, now: Instant) -> Result<Action, Refusal> {
        let mut summary = RequestSummary::new(&head.method, head.version, head.is_persistent(), self.is_new);
        let Head { method, target, version, headers, body, wants_continue } = head;
        let request = Request { method, target, version, headers, body: None, peer: self.peer.clone(), received: now };
        let request = Box::new(request);
        if body == BodyLength::None {
            return Ok(self.complete(request, summary, now));
        }
        let Limits { body_bytes_max, spool_memory, spool_dir, body_policy, .. } = &*self.limits;
        let body_policy = body_policy(&request);
        let bytes_max = match body_policy {
            BodyPolicy::Default => *body_bytes_max,
            BodyPolicy::Limited { bytes_max, .. } => bytes_max,
            BodyPolicy::Reject => {
                // What follows is its body, and never another request.
                (summary.persistent, summary.is_only) = (false, false);
                return Ok(self.complete(request, summary, now));
            }
        };
        let writer = SpoolWriter::sharing(spool_memory.clone(), spool_dir.clone(), bytes_max);
        let body = match BodyReader::new(body, bytes_max, writer) {
            Ok(body) => body,
            Err(refusal) => {
                self.refused = Some(request);
                return Err(body_policy.refusal(refusal));
            }
        };
        let wants_continue = wants_continue && self.input.is_empty();
        let incoming =
            IncomingBody { request, summary, body, body_policy, began: now, disk_wait_since: None, received_at: now };
        self.deadline = incoming.deadline(&self.limits.timeouts);
        self.phase = Phase::Body(Box::new(incoming));
        if wants_continue { Ok(Action::Continue) } else { self.step_body(may_write, now) }
    }

    fn step_body(&mut self, may_write: bool, now: Instant) -> Result<Action, Refusal> {
        let Phase::Body(incoming) = &mut self.phase else { return Ok(Action::More) };
        if let Some(since) = incoming.disk_wait_since.take() {
            incoming.began += now.saturating_duration_since(since);
        }
        let taken =
            incoming.body.take(&self.input, may_write).map_err(|refusal| incoming.body_policy.refusal(refusal))?;
        if taken.bytes > 0 {
            incoming.received_at = now;
        }
        self.input.drain(..taken.bytes);
        if !taken.complete {
            self.deadline = incoming.deadline(&self.limits.timeouts);
            incoming.disk_wait_since = taken.needs_disk.then_some(now);
            return Ok(if taken.needs_disk { Action::Spool } else { Action::More });
        }
        let Phase::Body(incoming) = std::mem::replace(&mut self.phase, Phase::Idle { since: now }) else {
            return Ok(Action::More);
        };
        let IncomingBody { mut request, summary, body, .. } = *incoming;
        request.body = Some(body.finish());
        Ok(self.complete(request, summary, now))
    }

    fn complete(&mut self, mut request: Box<Request>, summary: RequestSummary, now: Instant) -> Action {
        self.is_new = false;
        self.phase = Phase::Idle { since: now };
        request.received = now;
        Action::Request(request, summary)
    }
}

impl IncomingBody {
    /// When it must have arrived, or more of it.
    fn deadline(&self, timeouts: &Timeouts) -> Instant {
        match self.body_policy {
            BodyPolicy::Limited { .. } => self.began + timeouts.limited_body,
            _ => self.began + timeouts.body_start + Duration::from_secs(self.body.length() / BODY_BYTES_PER_SECOND_MIN),
        }
    }
}

impl BodyPolicy {
    /// The refusal of a body, as the policy wants it told.
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

    fn http1(now: Instant) -> Http1 {
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
        let mut http1 = http1(now);
        http1
            .receive(b"\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n");
        assert_eq!(target(&http1.step(now)), "/1");
        assert!(http1.has_unread());
        http1.await_next_request(now);
        assert!(matches!(http1.step(now), Action::More));
        http1.receive(b"\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
        let Action::Request(request, _) = http1.step(now) else { panic!("no request") };
        assert_eq!(request.body.expect("a body").bytes(), Some(&b"abc"[..]));
        http1.await_next_request(now);
        assert_eq!(target(&http1.step(now)), "/3");
        assert!(!http1.has_unread() && http1.is_idle());
    }

    #[test]
    fn every_wait_has_its_deadline() {
        let now = Instant::now();
        let mut http1 = http1(now);
        assert_eq!(http1.deadline(), now + TIMEOUTS.head);
        assert!(matches!(http1.expire(), Action::Close), "a silent client is closed without a word");
        http1.receive(b"POST / HTTP/1.1\r\n");
        assert!(matches!(http1.step(now), Action::More));
        let later = now + Duration::from_secs(5);
        http1.receive(b"Host: a\r\nContent-Length: 100000\r\n");
        assert!(matches!(http1.step(later), Action::More));
        assert_eq!(http1.deadline(), now + TIMEOUTS.head, "a dripping head wins no time");
        assert!(matches!(http1.expire(), Action::Refuse(Refusal::RequestTimeout)));
        http1.receive(b"\r\n");
        assert!(matches!(http1.step(later), Action::More));
        assert_eq!(http1.deadline(), later + TIMEOUTS.body_start);
        http1.receive(&[0; 10 * 1024]);
        assert!(matches!(http1.step(later), Action::More));
        assert_eq!(http1.deadline(), later + TIMEOUTS.body_start + Duration::from_secs(10));
        assert!(matches!(http1.expire(), Action::Refuse(Refusal::RequestTimeout)));
    }

    /// Was seen as: load balancers that keep connections for a minute, or for ten, now and then sent a request into a closed one.
    #[test]
    fn a_client_may_idle_for_longer_than_a_load_balancer_does() {
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(target(&http1.step(now)), "/");
        http1.await_next_request(now);
        assert!(http1.deadline() > now + Duration::from_secs(600));
    }

    /// Was seen as: a client that sent an empty line in two pieces was told that its request came too slowly.
    #[test]
    fn an_empty_line_is_no_request_however_it_comes() {
        let now = Instant::now();
        for pieces in [vec!["\r\n"], vec!["\r", "\n"], vec!["\r\n\r"]] {
            let mut http1 = http1(now);
            for piece in &pieces {
                http1.receive(piece.as_bytes());
                assert!(matches!(http1.step(now + Duration::from_secs(1)), Action::More), "{pieces:?}");
            }
            assert_eq!(http1.deadline(), now + TIMEOUTS.head, "{pieces:?} win no time");
            assert!(http1.is_idle() && matches!(http1.expire(), Action::Close), "{pieces:?}");
        }
    }

    #[test]
    fn the_first_request_of_http_2_is_awaited_for_a_moment() {
        const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.receive(BEGIN);
        assert!(matches!(http1.step(now), Action::More));
        let later = now + HTTP_2_TIME / 2;
        http1.receive(b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84");
        assert!(matches!(http1.step(later), Action::More));
        assert_eq!(http1.deadline(), now + HTTP_2_TIME, "it wins no time");
        assert!(matches!(http1.expire(), Action::Refuse(Refusal::Http2NotSupported)));
        http1.receive(b"\x86");
        assert!(matches!(http1.step(later), Action::Refuse(Refusal::Http2NotSupported)));
        assert_eq!(http1.unread().len(), BEGIN.len() + 12, "its answer needs them");
    }

    #[test]
    fn a_drain_closes_only_those_at_once_whose_request_was_replied_to() {
        let now = Instant::now();
        let mut http1 = http1(now);
        assert!(!http1.drain(now), "its first request may be on its way");
        assert_eq!(http1.deadline(), now + FIRST_REQUEST_TIME);
        assert!(!http1.drain(now + FIRST_REQUEST_TIME / 2));
        assert_eq!(http1.deadline(), now + FIRST_REQUEST_TIME, "it wins no time");
        http1.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET");
        assert_eq!(target(&http1.step(now)), "/");
        http1.await_next_request(now);
        assert!(matches!(http1.step(now), Action::More));
        assert!(!http1.drain(now), "half of its second request has come");
        http1.receive(b" / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(target(&http1.step(now)), "/");
        http1.await_next_request(now);
        assert!(http1.drain(now));
    }

    #[test]
    fn continue_is_sent_once_and_only_before_the_body_came() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.receive(head);
        assert!(matches!(http1.step(now), Action::Continue));
        assert!(matches!(http1.step(now), Action::More));
        http1.receive(b"abc");
        assert_eq!(target(&http1.step(now)), "/");
        http1.await_next_request(now);
        http1.receive(&[&head[..], b"abc"].concat());
        assert_eq!(target(&http1.step(now)), "/");
    }

    /// A scan from the first byte for each of them would be 34 billion steps.
    #[test]
    fn a_long_head_that_comes_byte_by_byte_is_scanned_once() {
        let now = Instant::now();
        let field = [b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", &vec![b'x'; HEAD_BYTES_MAX][..]].concat();
        let empty_lines = b"\r\n".repeat(HEAD_BYTES_MAX / 2);
        for (label, bytes) in [("field", field), ("method", vec![b'x'; HEAD_BYTES_MAX + 1]), ("nothing", empty_lines)] {
            let mut http1 = http1(now);
            let refused = bytes.iter().position(|byte| {
                http1.receive(&[*byte]);
                !matches!(http1.step(now), Action::More)
            });
            assert_eq!(refused, (label != "nothing").then_some(HEAD_BYTES_MAX), "{label}");
        }
        assert!(now.elapsed() < Duration::from_secs(20), "{:?}", now.elapsed());
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_continue() {
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.receive(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
        assert!(matches!(http1.step(now), Action::Refuse(Refusal::BodyTooLarge)));
    }

    /// Was seen as: of a body over the limit 256 KiB were read, and the client that sent more met a reset instead of its 413.
    #[test]
    fn a_client_that_is_closing_is_read_for_a_bounded_time_and_nothing_is_kept() {
        let begun = Instant::now();
        let mut http1 = http1(begun);
        http1.receive(b"GET");
        http1.start_closing(begun);
        assert_eq!(http1.deadline(), begun + TIMEOUTS.closing_silence);
        let mut now = begun;
        while now < begun + TIMEOUTS.closing {
            assert!(http1.deadline() > now);
            http1.receive(&[0; READ_BYTES]);
            assert!(matches!(http1.step(now), Action::More));
            assert_eq!(http1.deadline(), (now + TIMEOUTS.closing_silence).min(begun + TIMEOUTS.closing));
            assert!(matches!(http1.step(now + Duration::from_millis(1)), Action::More), "no bytes, no time");
            assert_eq!(http1.deadline(), (now + TIMEOUTS.closing_silence).min(begun + TIMEOUTS.closing));
            assert_eq!(http1.input.capacity(), 0);
            now += Duration::from_secs(1);
        }
        http1.receive(&[0]);
        assert!(matches!(http1.step(now), Action::Close), "its bytes win no more time");
    }

    #[test]
    fn a_drain_leaves_a_moment_to_a_client_that_is_closing() {
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.start_closing(now);
        let later = now + LAST_CLOSING_TIME / 2;
        assert!(!http1.drain(now) && !http1.drain(later), "its reply may be on its way");
        http1.receive(&[0]);
        assert!(matches!(http1.step(later), Action::More));
        assert_eq!(http1.deadline(), now + LAST_CLOSING_TIME, "neither bytes nor a second word win time");
        assert!(matches!(http1.step(now + LAST_CLOSING_TIME), Action::Close));
    }

    #[test]
    fn a_request_is_the_only_one_if_none_came_before_and_all_of_it_is_read() {
        const BEFORE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let now = Instant::now();
        let rows = [
            ("it is read", "", BodyPolicy::Default, true),
            ("its body isn't", "", BodyPolicy::Reject, false),
            ("it is the second", BEFORE, BodyPolicy::Default, false),
        ];
        for (label, before, policy, is_only) in rows {
            let mut http1 = http1(now);
            let body_policy = Arc::new(move |_: &Request| policy.clone());
            http1.limits = Arc::new(Limits { body_policy, ..(*http1.limits).clone() });
            http1.receive(before.as_bytes());
            if matches!(http1.step(now), Action::Request(..)) {
                http1.await_next_request(now);
            }
            http1.receive(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc");
            let Action::Request(_, summary) = http1.step(now) else { panic!("no request") };
            assert_eq!((summary.persistent, summary.is_only), (false, is_only), "{label}");
        }
    }

    fn posting(length: usize) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    }

    /// Was seen as: with all memory for bodies taken, the thread that waits for all sockets opened a file for each body.
    #[test]
    fn only_a_step_on_disk_touches_a_file() {
        let now = Instant::now();
        let nowhere = Path::new("/nonexistent").into();
        let limits =
            Limits { spool_memory: Arc::new(SpoolMemory::of(0)), spool_dir: nowhere, ..(*http1(now).limits).clone() };
        let mut http1 = Http1::new(Arc::new(limits), "192.0.2.1:1".parse().expect("an address"), now);
        http1.receive(&[posting(2).as_bytes(), b"a"].concat());
        for _ in 0..2 {
            assert!(matches!(http1.step(now), Action::Spool), "it can be asked as often as one likes");
        }
        assert!(matches!(http1.step_on_disk(now), Action::Refuse(Refusal::InsufficientStorage)));
    }

    #[test]
    fn waiting_for_the_disk_costs_the_client_no_time() {
        let now = Instant::now();
        let mut http1 = http1(now);
        http1.receive(&[posting(100_000).as_bytes(), &vec![7; 70_000]].concat());
        assert!(matches!(http1.step(now), Action::Spool));
        let later = now + Duration::from_secs(3600);
        assert!(matches!(http1.step_on_disk(later), Action::More));
        assert_eq!(http1.deadline(), later + TIMEOUTS.body_start + Duration::from_secs(70_000 / 1024));
    }
}
