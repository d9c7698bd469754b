//! HTTP/1.1 towards backends, on ureq: one leg's call, from reaching the backend to the end of its answer.
//! Knows nothing of clients, nor of the rules of the race: whoever calls says what is sent and may hang up.

mod ahead;
mod alarm;
mod ask;
mod buffers;
mod connecting;
mod dial;
mod draining;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod glance;
mod inspector;
mod leg;
mod line;
mod lines;
mod looking;
mod permit;
mod request;
mod resolve;
mod sending;
mod session;
mod slot;
mod story;
mod switched;
mod tls;
mod tls_failure;
mod transport;
mod upload;
mod waiting;
mod wire;

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, Version};
use ureq::config::{AutoHeaderValue, Config};

use crate::message::{Outcome, Source};
use crate::poller::Poller;
use crate::race::CancelToken;
pub use ask::ask;
use buffers::Spare;
pub use draining::Draining;
pub use leg::{Loss, Step, Waits, Woken};
use line::{Line, idle_time_hint};
pub use lines::Lines;
pub use permit::FilePlace;
pub use request::Outgoing;
pub use resolve::{Lookup, SystemLookup};
use session::Seen;
pub use switched::Switched;
pub use tls::BadCertificate;
use tls::Tls;
use upload::SharedLine;
pub use upload::{Upload, UploadStop, Uploaded};

/// A backend's head must fit into the buffer that it is read into.
const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;
const INPUT_BYTES: usize = 32 * 1024;
/// So does almost every head of ours into the one that it is written from; a longer one gets a buffer of its own length.
const OUTPUT_BYTES: usize = 24 * 1024;

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
    /// The most lines to all backends together, and files of bodies that losers still send: what the limit of descriptors
    /// leaves.
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
    spare: Spare,
    /// And files that each take the place of one.
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
    /// The rest of the request, if the answer came before that was out.
    pub upload: Option<Upload>,
}

/// The body of an [`Answer`]. Its end gives the line back; dropping it earlier hangs up.
pub struct AnswerBody {
    /// `None` once bytes have gone past ureq.
    reader: Option<ureq::BodyReader<'static>>,
    line: Option<Line>,
    lines: Arc<Lines>,
    token: CancelToken,
    /// It ends after so many more bytes, whatever they are, if that is known.
    left: Option<u64>,
    /// Whether the backend goes on with the connection after it.
    is_persistent: bool,
    /// If the rest of the request goes on beside it.
    shared: Option<Arc<SharedLine>>,
}

/// What may become of a body that isn't read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prospect {
    /// Its connection is alive, or isn't needed any more: all of it has come.
    Alive,
    /// Its connection has ended: what came before may be all of it, or not.
    Ended,
    /// It will break off.
    Broken(Outcome),
}

impl Upstream {
    /// Reaches backends like this, with names looked up by `lookup`; legs wait in the poller.
    pub fn new(reach: Reach, lookup: Arc<dyn Lookup>, poller: Poller) -> Result<Arc<Upstream>, BadCertificate> {
        let tls = Tls::new(&reach.own_roots)?;
        let config = config(reach.timeout, reach.idle_timeout);
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Upstream {
            config,
            reach,
            tls,
            lookup,
            poller,
            spare: Spare::default(),
            lines: AtomicUsize::new(0),
            opened,
            reused,
        }))
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

impl Answer {
    /// Whether the backend says that no request came in time, and closes the connection.
    fn is_request_timeout_at_close(&self) -> bool {
        self.status == StatusCode::REQUEST_TIMEOUT && !self.body.is_persistent
    }
}

impl AnswerBody {
    /// Reads what is here of a loser's body, so that its line can be used again, unless it is longer than `bytes_max`. Gives
    /// what has to be waited for.
    pub fn drain(self, bytes_max: u64) -> Option<Draining> {
        Draining::begin(self, bytes_max)
    }

    /// What may become of it, by a look. Doesn't block.
    pub fn prospect(&self) -> Prospect {
        let Some(line) = self.line.as_ref().filter(|_| self.left != Some(0)) else { return Prospect::Alive };
        let wire = line.wire();
        if !wire.has_ended() {
            return Prospect::Alive;
        }
        let failed = wire.look(|seen| match seen {
            Seen::Failed(io::ErrorKind::ConnectionReset) => Some(Outcome::Reset),
            Seen::Failed(_) => Some(Outcome::Closed),
            _ => None,
        });
        match self.left {
            Some(left) => match wire.count_unread() {
                Some(unread) if unread >= left => Prospect::Alive,
                Some(_) => Prospect::Broken(failed.unwrap_or(Outcome::Closed)),
                None => Prospect::Ended,
            },
            // The socket tells a failure once: a body that lasts to the end of the connection would look whole.
            None => failed.map_or(Prospect::Ended, Prospect::Broken),
        }
    }
}

impl Read for AnswerBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Err(io::ErrorKind::Unsupported.into()) };
        let count = reader.read(buffer).map_err(tls_failure::told)?;
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        if count == 0 && self.token.is_cancelled() { Err(hung_up_on()) } else { Ok(count) }
    }
}

impl Source for AnswerBody {
    fn is_here(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.has_buffered(self.left.is_some()))
    }

    fn is_movable(&self) -> bool {
        self.left.is_some() && self.line.as_ref().is_some_and(Line::is_movable)
    }

    fn move_into(&mut self, pipe: BorrowedFd, most: usize) -> io::Result<usize> {
        let Some(line) = &self.line else { return Err(io::ErrorKind::NotConnected.into()) };
        let count = line.wire().move_into(pipe, most, Instant::now() + self.lines.idle_timeout())?;
        self.reader = None;
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        if count == 0 && self.token.is_cancelled() { Err(hung_up_on()) } else { Ok(count) }
    }
}

/// Hanging up looks like the end of a body.
fn hung_up_on() -> io::Error {
    io::Error::other("hung up on")
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        let was_moved = self.reader.take().is_none();
        let is_hung_up = self.token.disarm().is_err();
        if !is_hung_up && was_moved && self.left == Some(0) && self.is_persistent {
            line.renew(&self.lines);
        }
        // What is still uploaded on it wants its turns until that ends, too.
        let line = match &self.shared {
            Some(shared) => shared.leave(line),
            None => Some(line),
        };
        if let Some(line) = line.filter(|_| !is_hung_up) {
            self.lines.keep(line, Instant::now());
        }
    }
}
