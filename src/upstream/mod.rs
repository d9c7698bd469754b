//! HTTP/1.1 towards backends, on ureq: one leg's call, from reaching the backend to the end of its answer.
//! Knows nothing of clients, nor of the rules of the race: whoever calls says what is sent and may hang up.

mod dial;
mod line;
mod resolve;
mod transport;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use ureq::config::{AutoHeaderValue, Config};
use ureq::unversioned::transport::RustlsConnector;

use crate::message::{Address, Outcome, Source, Spool, Target};
use crate::race::CancelToken;
use line::Line;
pub use line::Lines;
pub use resolve::{Lookup, SystemLookup};

/// A backend's head must fit into the buffer that it is read into.
const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;
const INPUT_BYTES: usize = 32 * 1024;
/// And ours into the one that it is written from: what a client may send, and 8 KiB for what is added.
const OUTPUT_BYTES: usize = crate::message::REQUEST_HEAD_BYTES_MAX + 8 * 1024;

/// What all backends have in common.
pub struct Upstream {
    config: Config,
    /// One for all lines: building its configuration parses 150 root certificates.
    tls: Arc<RustlsConnector>,
    timeout: Duration,
    lookup: Arc<dyn Lookup>,
}

/// A request on its way to every backend of a race.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// What is asked for, behind each backend's base path.
    pub target: Target,
    /// The fields for all backends, without `Host` and framing.
    pub headers: HeaderMap,
    /// The `Host` to send instead of the backend's own.
    pub host: Option<HeaderValue>,
    /// The body.
    pub body: Option<Spool>,
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
}

/// The body of an [`Answer`]. Its end gives the line back; dropping it earlier hangs up.
pub struct AnswerBody {
    reader: ureq::BodyReader<'static>,
    line: Option<Line>,
    lines: Arc<Lines>,
    token: CancelToken,
}

impl Upstream {
    /// `timeout` bounds reaching a backend and, again, the wait for its head; `idle_timeout`, which is no shorter,
    /// each silence while bytes move.
    pub fn new(timeout: Duration, idle_timeout: Duration, lookup: Arc<dyn Lookup>) -> Upstream {
        Upstream { config: config(timeout, idle_timeout), tls: Arc::default(), timeout, lookup }
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

impl Outgoing {
    /// RFC 9110 §9.2.2: sending it twice does no more than sending it once.
    fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

impl Lines {
    /// Sends the request to this backend and waits for a complete head. Blocks; the token hangs up at any time.
    pub fn call(self: &Arc<Lines>, request: &Outgoing, token: &CancelToken) -> Result<Answer, Outcome> {
        if token.is_cancelled() {
            return Err(Outcome::Cancelled);
        }
        if let Some(line) = self.take(request.is_idempotent(), Instant::now()) {
            match line.call(self, request, token) {
                // The backend closed an idle connection just when it was used: once more, on a fresh one.
                Err(failure) if failure.died_unanswered && request.is_idempotent() => {}
                called => return called.map_err(|failure| failure.outcome),
            }
        }
        let line = self.open(token)?;
        line.call(self, request, token).map_err(|failure| failure.outcome)
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
        let kept = self.token.disarm().is_ok();
        if let Some(line) = self.line.take()
            && kept
        {
            self.lines.keep(line, Instant::now());
        }
    }
}

/// What is said to a backend, and to whom.
fn request_for(address: &Address, request: &Outgoing) -> http::Request<ureq::SendBody<'static>> {
    let needs_length = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    let body = match &request.body {
        Some(spool) => ureq::SendBody::from_owned_reader(spool.reader()),
        None => ureq::SendBody::none(),
    };
    let mut outgoing = http::Request::new(body);
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = address.uri(&request.target);
    *outgoing.version_mut() = Version::HTTP_11;
    *outgoing.headers_mut() = request.headers.clone();
    if let Some(host) = &request.host {
        outgoing.headers_mut().insert(http::header::HOST, host.clone());
    }
    let length = request.body.as_ref().map(Spool::length).or(needs_length.then_some(0));
    if let Some(length) = length {
        outgoing.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    if request.body.is_some() && request.method == Method::HEAD {
        allow_body_with_head(&mut outgoing);
    }
    outgoing
}

/// ureq refuses a body with HEAD unless its own builder says that it is meant, by a mark among the extensions.
fn allow_body_with_head<B>(request: &mut http::Request<B>) {
    let marked = ureq::head("http://unused.invalid").force_send_body();
    if let Some(marks) = marked.extensions_ref() {
        request.extensions_mut().extend(marks.clone());
    }
}
