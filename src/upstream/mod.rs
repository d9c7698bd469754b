//! HTTP/1.1 towards backends, on ureq: one leg's call, from reaching the backend to the end of its answer.
//! Knows nothing of clients, nor of the rules of the race: whoever calls says what is sent and may hang up.

mod ahead;
mod ask;
mod connecting;
mod dial;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod glance;
mod inspector;
mod line;
mod permit;
mod request;
mod resolve;
mod slot;
mod switched;
mod tls;
mod transport;
mod wire;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, Version};
use ureq::config::{AutoHeaderValue, Config};

use crate::message::{Outcome, Source};
use crate::poller::Poller;
use crate::race::CancelToken;
use ahead::Ahead;
pub use ask::ask;
use connecting::{Connecting, Progress};
pub use line::Lines;
use line::{Failure, Line, idle_time_hint};
pub use request::Outgoing;
pub use resolve::{Lookup, SystemLookup};
use slot::Wake;
pub use switched::Switched;
pub use tls::BadCertificate;
use tls::Tls;

/// A backend's head must fit into the buffer that it is read into.
const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;
const INPUT_BYTES: usize = 32 * 1024;
/// And ours into the one that it is written from: what a client may send, and 8 KiB for what is added.
const OUTPUT_BYTES: usize = crate::message::REQUEST_HEAD_BYTES_MAX + 8 * 1024;

/// How backends are reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Bounds reaching a backend (name, TCP, TLS) and, again, the wait for its head.
    pub timeout: Duration,
    /// Bounds each silence while bytes move; no shorter than `timeout`.
    pub idle_timeout: Duration,
    /// The most idle lines kept for each backend.
    pub idle_lines_max: usize,
    /// How long a name's addresses count.
    pub dns_ttl: Duration,
    /// The most lines to all backends together: what the limit of descriptors leaves.
    pub lines_max: usize,
    /// Root certificates beside the usual ones, in DER.
    pub own_roots: Vec<Vec<u8>>,
}

/// What all backends have in common.
pub struct Upstream {
    config: Config,
    reach: Reach,
    tls: Tls,
    lookup: Arc<dyn Lookup>,
    poller: Poller,
    lines: AtomicUsize,
    opened: AtomicU64,
    reused: AtomicU64,
}

/// A backend's answer: a complete head, and a body that is still coming.
pub struct Answer {
    /// The final status; 1xx have been swallowed.
    pub status: StatusCode,
    /// The backend's version of HTTP.
    pub version: Version,
    /// All fields.
    pub headers: HeaderMap,
    /// The body's length in bytes if it is known, or the one that it would have (HEAD, 304).
    pub length: Option<u64>,
    /// The body.
    pub body: AnswerBody,
    /// The line, if the status is 101: it speaks another protocol now.
    pub switched: Option<Switched>,
}

/// The body of an [`Answer`]. Its end gives the line back; dropping it earlier hangs up.
pub struct AnswerBody {
    reader: ureq::BodyReader<'static>,
    line: Option<Line>,
    lines: Arc<Lines>,
    token: CancelToken,
}

impl Upstream {
    /// Reaches backends like this, with names looked up by `lookup`; legs wait in the poller.
    pub fn new(reach: Reach, lookup: Arc<dyn Lookup>, poller: Poller) -> Result<Arc<Upstream>, BadCertificate> {
        let tls = Tls::new(&reach.own_roots)?;
        let config = config(reach.timeout, reach.idle_timeout);
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Upstream { config, reach, tls, lookup, poller, lines: AtomicUsize::new(0), opened, reused }))
    }

    /// How many lines have been opened, and how often an open one was used again.
    pub fn line_counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed))
    }
}

impl Default for Reach {
    fn default() -> Reach {
        Reach {
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            idle_lines_max: 64,
            dns_ttl: Duration::from_secs(30),
            lines_max: 512,
            own_roots: Vec::new(),
        }
    }
}

/// Every switch that a transparent proxy needs, also where today's default is right.
fn config(timeout: Duration, idle_timeout: Duration) -> Config {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        // Else HTTP_PROXY and its like would be obeyed silently.
        .proxy(None)
        .allow_non_standard_methods(true)
        .max_response_header_size(ANSWER_HEAD_BYTES_MAX)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        // Lines age by our own clock; ureq must not drop a connection that a request was meant for.
        .max_idle_age(Duration::from_secs(3600))
        // A timeout for the whole call or for names would spawn a thread per request.
        .timeout_global(None)
        .timeout_per_call(None)
        .timeout_resolve(None)
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_per_read(Some(idle_timeout))
        .timeout_per_write(Some(idle_timeout))
        .build()
}

impl Lines {
    /// A line on which the request can be sent at once. Doesn't block.
    pub fn at_once(self: &Arc<Lines>, request: &Outgoing) -> Option<Waits> {
        let ahead = self.ahead(request)?;
        let line = self.take(request.is_idempotent(), Instant::now())?;
        Some(Waits::for_answer(line, ahead, self))
    }

    /// Reaches the backend; what can't be sent ahead is sent and answered here. Blocks; the token hangs up at any time.
    pub fn start(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        match self.take(request.is_idempotent(), Instant::now()) {
            Some(line) => self.start_on(line, request, token),
            None => self.start_afresh(request, token),
        }
    }

    fn start_afresh(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match Connecting::begin(self, Instant::now())? {
            // On a short way it has connected by now.
            Some(connecting) => self.after_connecting(connecting.go_on(token)?, request, token),
            None => self.start_on(self.open(token)?, request, token),
        }
    }

    fn after_connecting(
        self: &Arc<Lines>,
        progress: Progress,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match progress {
            Progress::Connected(line) => self.start_on(line, request, token),
            Progress::Waits(connecting) => Ok(Step::Waits(Waits(Wait::Connection(connecting)))),
        }
    }

    fn start_on(self: &Arc<Lines>, line: Line, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match self.ahead(request) {
            Some(ahead) => Ok(Step::Waits(Waits::for_answer(line, ahead, self))),
            None => self.after(line.call(self, request, token), request, token),
        }
    }

    /// What a call means for its leg: a backend may close an idle connection just when it is used; then the request goes
    /// out once more, on a fresh one.
    fn after(
        self: &Arc<Lines>,
        called: Result<Answer, Failure>,
        request: &Outgoing,
        token: &CancelToken,
    ) -> Result<Step, Outcome> {
        match called {
            Err(failure) if failure.died_unanswered && request.is_idempotent() => self.start_afresh(request, token),
            called => called.map(Step::Answered).map_err(|failure| failure.outcome),
        }
    }

    /// The request, if it may be on the wire before ureq knows of it. Under TLS it can't.
    fn ahead(&self, request: &Outgoing) -> Option<Ahead> {
        if self.address().is_tls() { None } else { request.ahead(self.address()) }
    }
}

/// How far a leg has come.
#[expect(clippy::large_enum_variant, reason = "it is made once for each leg and taken apart at once")]
pub enum Step {
    /// The head of the answer is here.
    Answered(Answer),
    /// The leg has to wait, and can do so in the poller.
    Waits(Waits),
}

/// A leg that is about to wait in the poller.
pub struct Waits(Wait);

/// What for.
enum Wait {
    /// For the answer to a request that is sent before ureq knows of it, on a line that is ready for it.
    Answer {
        sent: Sent,
        ahead: Ahead,
    },
    /// For the rest of an answer that has lost.
    Rest(Sent),
    Connection(Connecting),
}

/// A leg whose wait is over.
pub struct Woken(News);

enum News {
    Answer(Sent),
    Connection(Connecting),
}

/// A leg whose request is on the wire.
struct Sent {
    line: Line,
    lines: Arc<Lines>,
}

impl Waits {
    fn for_answer(line: Line, ahead: Ahead, lines: &Arc<Lines>) -> Waits {
        Waits(Wait::Answer { sent: Sent { line, lines: lines.clone() }, ahead })
    }

    /// Begins the wait, for which a request may be sent. The leg goes on when there is enough for its next step, or when it
    /// is hung up on, or when the time is over. Doesn't block. An error: the leg won't go on, and nothing was sent that a
    /// backend could act on.
    pub fn begin(self, token: &CancelToken, go_on: impl FnOnce(Woken) + Send + 'static) -> Result<(), Outcome> {
        match self.0 {
            Wait::Answer { sent, ahead } => sent.wait(ahead, token, |sent| go_on(Woken(News::Answer(sent)))),
            Wait::Rest(sent) => {
                sent.wait_for_rest(|sent| go_on(Woken(News::Answer(sent))));
                Ok(())
            }
            Wait::Connection(connecting) => {
                connecting.wait(token, |connecting| go_on(Woken(News::Connection(connecting))))
            }
        }
    }
}

impl Woken {
    /// Does the next step: reads the head of the answer, say, which blocks only if not all of it is here. The leg may have to
    /// wait once more.
    pub fn finish(self, request: &Outgoing, token: &CancelToken) -> Result<Step, Outcome> {
        match self.0 {
            News::Answer(Sent { line, lines }) => lines.after(line.finish(&lines, request, token), request, token),
            News::Connection(connecting) => {
                let lines = connecting.lines.clone();
                lines.after_connecting(connecting.go_on(token)?, request, token)
            }
        }
    }

    /// What becomes of a leg that has lost. Doesn't block.
    pub fn lose(self, request: &Outgoing, token: &CancelToken) -> Loss {
        if token.is_cancelled() {
            return Loss::Ended(Outcome::Cancelled);
        }
        match self.0 {
            News::Answer(sent) => sent.lose(request, token),
            connecting @ News::Connection(_) => Loss::GoesOn(Woken(connecting)),
        }
    }
}

/// What becomes of a leg that has lost.
pub enum Loss {
    /// It was hung up on, or its answer is here whole and its line free again.
    Ended(Outcome),
    /// The rest of its short answer is awaited, for the sake of the line.
    Waits(Waits),
    /// It takes its next step like any other.
    GoesOn(Woken),
}

impl Sent {
    fn wait(self, ahead: Ahead, token: &CancelToken, go_on: impl FnOnce(Sent) + Send + 'static) -> Result<(), Outcome> {
        let wire = self.line.wire();
        self.line.arm(token)?;
        let head_by = Instant::now() + self.lines.timeout();
        let wake = Wake { is_due: Some(glance::is_head_here), go_on: Box::new(move || go_on(self)) };
        wire.send_ahead(ahead, head_by, wake).map_err(|unsent| {
            // The line ends with it, and so does the wait that the token knows.
            drop(unsent);
            if token.disarm().is_err() { Outcome::Cancelled } else { Outcome::Closed }
        })
    }

    fn wait_for_rest(self, go_on: impl FnOnce(Sent) + Send + 'static) {
        let wire = self.line.wire();
        wire.await_more(Wake { is_due: Some(glance::is_more_than_begin), go_on: Box::new(move || go_on(self)) });
    }

    fn lose(mut self, request: &Outgoing, token: &CancelToken) -> Loss {
        let Some(status) = self.line.take_whole(request.method()) else {
            if self.line.is_rest_coming() {
                return Loss::Waits(Waits(Wait::Rest(self)));
            }
            return Loss::GoesOn(Woken(News::Answer(self)));
        };
        if token.disarm().is_err() {
            return Loss::Ended(Outcome::Cancelled);
        }
        self.lines.keep(self.line, Instant::now());
        Loss::Ended(Outcome::Status(status))
    }
}

impl AnswerBody {
    /// Reads the rest of a loser's body so that its line can be used again, unless it is longer than `bytes_max`.
    /// Blocks as long as the body comes; the token hangs up.
    pub fn finish(mut self, length: Option<u64>, bytes_max: u64) {
        if length.is_none_or(|length| length <= bytes_max) {
            let _ = io::copy(&mut (&mut self).take(bytes_max + 1), &mut io::sink());
        }
    }
}

impl Read for AnswerBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0 && self.token.is_cancelled() {
            // Hanging up looks like the end of a body that has no length.
            return Err(io::Error::other("hung up on"));
        }
        Ok(count)
    }
}

impl Source for AnswerBody {
    fn is_here(&self) -> bool {
        self.line.as_ref().is_some_and(Line::has_buffered)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        if self.token.disarm().is_ok() {
            self.lines.keep(line, Instant::now());
        }
    }
}
