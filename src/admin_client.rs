//! Sends a command to a proxy that runs already: one request, one answer, three seconds at most. Knows nothing of pools
//! and races: it is for probes and for operators.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use socket2::{Domain, SockAddr, Socket, Type};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Body};
use url::{Url, form_urlencoded};

use crate::config::{AdminCommand, AdminToken, AskedAt, Listen, Update, reached_at};
use crate::message::{ListEntry, Printable, Reason, TABLE_BEGIN, UPDATED};

/// The longest time for a whole command. Probes are sent every few seconds, and a proxy that is too busy for that long
/// isn't healthy.
const ASK_TIME: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: the list of a form of 64 KiB. What encodes it is longer than its names.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Room for a head, and for a form of the same length.
const BUFFER_BYTES: usize = 128 * 1024;

/// Carries out the command. Blocks for at most three seconds beside looking up a name. Returns the text to print, or
/// the reason for a failure, in one line.
pub fn ask(command: &AdminCommand) -> Result<String, String> {
    match command {
        // Its body is nothing to the verdict: it may be long, or no text.
        AdminCommand::Health(place) => {
            let url = asked(place, if matches!(place, AskedAt::Socket(_)) { &["readyz"] } else { &[] });
            send(place, Request::get(url.as_str()), "").map(|_| String::new())
        }
        AdminCommand::Reach(listen) => {
            let reached = match listen {
                Listen::Tcp { address, .. } => {
                    TcpStream::connect_timeout(&reached_at(*address), ASK_TIME).map(|_| String::new())
                }
                Listen::Unix(path) => connected(path).map(|_| String::new()),
            };
            reached.map_err(|error| format!("cannot connect to {}: {error}", listen.reached()))
        }
        AdminCommand::Update { admin, update, token } => self::update(admin, update, token.as_ref()),
    }
}

fn update(admin: &AskedAt, update: &Update, token: Option<&AdminToken>) -> Result<String, String> {
    let (path, form) = match update {
        Update::List(entries) => ("-update-backends", form(&[("backends", list(entries))])),
        Update::Changes(changes) => ("backends", form(changes)),
    };
    let mut url = asked(admin, &[path]);
    url.set_query(None);
    let mut request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let place = if matches!(admin, AskedAt::Socket(_)) { admin.clone() } else { AskedAt::Url(url) };
    let mut response = send(&place, request, &form)?;
    let (text, ended) = read(&mut response);
    ended.map_err(|error| format!("cannot read the answer of {place}: {}", reason(&error.into())))?;
    // Where no updates are taken, a backend may have answered.
    let is_taken = match update {
        Update::List(_) => text.lines().next() == Some(UPDATED),
        Update::Changes(_) => text.starts_with(TABLE_BEGIN),
    };
    if !is_taken {
        let status = response.status().as_u16();
        return Err(format!("{place} answers {status}, but is no port for updates{}", quoted(&text)));
    }
    // The answer comes from outside, and may not write to a terminal what it likes.
    Ok(text.lines().map(|line| Printable(line).to_string() + "\n").collect())
}

/// The URL to ask: this one, or that of the proxy behind this socket, with these segments at the end of its path.
fn asked(place: &AskedAt, segments: &[&str]) -> Url {
    let mut url = match place {
        AskedAt::Url(url) => url.clone(),
        AskedAt::Socket(_) => Url::parse("http://127.0.0.1/").expect("a URL"),
    };
    if !segments.is_empty() {
        url.path_segments_mut().expect("http has a path").pop_if_empty().extend(segments);
    }
    url
}

fn list(entries: &[ListEntry]) -> String {
    entries.iter().map(ListEntry::to_string).collect::<Vec<_>>().join(",")
}

fn form(fields: &[(&str, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Reads what a proxy on this host answers, whatever its status; for at most this long.
pub fn get_text(address: SocketAddr, time: Duration) -> Result<String, String> {
    let url = format!("http://{address}/");
    let asked = agent(None, time).get(&url).call();
    let mut response = asked.map_err(|error| format!("cannot ask {url}: {}", Printable(&error.to_string())))?;
    Ok(read(&mut response).0)
}

/// Sends the request to that place. An answer other than 2xx is an error that quotes the start of its body, as far as that can be
/// read.
fn send(place: &AskedAt, request: http::request::Builder, body: &str) -> Result<Response<Body>, String> {
    let request = request.body(body).map_err(|error| format!("cannot ask {place}: {error}"))?;
    let socket = if let AskedAt::Socket(path) = place { Some(path.clone()) } else { None };
    let mut response =
        agent(socket, ASK_TIME).run(request).map_err(|error| format!("cannot ask {place}: {}", reason(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (text, _) = read(&mut response);
    Err(format!("{place} answers {}{}", response.status().as_u16(), quoted(&text)))
}

/// Reads the body's text, at most [`ANSWER_BYTES_MAX`] of it, and says whether it ended early.
fn read(response: &mut Response<Body>) -> (String, io::Result<usize>) {
    let mut bytes = Vec::new();
    let ended = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
    (String::from_utf8_lossy(&bytes).into_owned(), ended)
}

/// Quotes an answer in one line, behind a colon; nothing if the answer is empty.
fn quoted(text: &str) -> String {
    let text = text.lines().collect::<Vec<_>>().join("; ");
    if text.is_empty() { text } else { format!(": {}", Reason(&text)) }
}

/// Connects to this Unix socket, or to whatever a URL's host is.
fn agent(socket: Option<PathBuf>, time: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Else HTTP_PROXY and its like would be asked instead.
        .proxy(None)
        .user_agent(concat!("red-tentacle/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(time))
        .build();
    match socket {
        Some(path) => Agent::with_parts(config, UnixConnector(path), DefaultResolver::default()),
        None => config.new_agent(),
    }
}

/// Connects to the Unix socket at this path, whatever the URL's host.
#[derive(Debug)]
struct UnixConnector(PathBuf);

/// A connection to it.
#[derive(Debug)]
struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// Connects to the Unix socket at this path. Doesn't block: where its queue is full, that is an error.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

impl Connector<()> for UnixConnector {
    type Out = UnixTransport;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<UnixTransport>, ureq::Error> {
        let (stream, length) = (connected(&self.0)?, BUFFER_BYTES);
        Ok(Some(UnixTransport { stream, buffers: LazyBuffers::new(length, length) }))
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|time| *time))?;
        Ok(self.stream.write_all(&self.buffers.output()[..amount]).map_err(|error| late(&error))?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|time| *time))?;
        let count = self.stream.read(self.buffers.input_append_buf()).map_err(|error| late(&error))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }
}

/// The error of a socket whose time is over says so.
fn late(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(format!("no answer within {} s", ASK_TIME.as_secs())),
        kind => kind.into(),
    }
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", ASK_TIME.as_secs()),
        ureq::Error::Io(error) => Printable(&error.to_string()).to_string(),
        error => Printable(&error.to_string()).to_string(),
    }
}
