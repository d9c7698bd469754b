//! Sends a command to a proxy that runs already: one request, one answer, three seconds at most. Knows nothing of pools
//! and races: it is for probes and for operators.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use ureq::{Agent, Body};
use url::{Url, form_urlencoded};

use crate::config::{AdminCommand, AdminToken, Update};
use crate::message::{ListEntry, Printable, Reason, TABLE_BEGIN, UPDATED};

/// The longest time for a whole command. Probes are sent every few seconds, and a proxy that is too busy for that long
/// isn't healthy.
const ASK_TIME: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: the list of a form of 64 KiB. What encodes it is longer than its names.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Carries out the command. Blocks for at most three seconds beside looking up a name. Returns the text to print, or
/// the reason for a failure, in one line.
pub fn ask(command: &AdminCommand) -> Result<String, String> {
    match command {
        // Its body is nothing to the verdict: it may be long, or no text.
        AdminCommand::Health(url) => send(url, Request::get(url.as_str()), "").map(|_| String::new()),
        AdminCommand::Reach(address) => match TcpStream::connect_timeout(address, ASK_TIME) {
            Ok(_) => Ok(String::new()),
            Err(error) => Err(format!("cannot connect to {address}: {error}")),
        },
        AdminCommand::Update { admin, update, token } => self::update(admin, update, token.as_ref()),
    }
}

fn update(admin: &Url, update: &Update, token: Option<&AdminToken>) -> Result<String, String> {
    let (path, form) = match update {
        Update::List(entries) => ("-update-backends", form(&[("backends", list(entries))])),
        Update::Changes(changes) => ("backends", form(changes)),
    };
    let mut url = admin.clone();
    url.set_query(None);
    url.path_segments_mut().expect("http has a path").pop_if_empty().push(path);
    let mut request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let mut response = send(&url, request, &form)?;
    let (text, ended) = read(&mut response);
    ended.map_err(|error| format!("cannot read the answer of {url}: {}", reason(&error.into())))?;
    // Where no updates are taken, a backend may have answered.
    let is_taken = match update {
        Update::List(_) => text.lines().next() == Some(UPDATED),
        Update::Changes(_) => text.starts_with(TABLE_BEGIN),
    };
    if !is_taken {
        let status = response.status().as_u16();
        return Err(format!("{url} answers {status}, but is no port for updates{}", quoted(&text)));
    }
    // The answer comes from outside, and may not write to a terminal what it likes.
    Ok(text.lines().map(|line| Printable(line).to_string() + "\n").collect())
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
    let asked = agent(time).get(&url).call();
    let mut response = asked.map_err(|error| format!("cannot ask {url}: {}", Printable(&error.to_string())))?;
    Ok(read(&mut response).0)
}

/// Sends the request. An answer other than 2xx is an error that quotes the begin of its body, as far as that can be
/// read.
fn send(url: &Url, request: http::request::Builder, body: &str) -> Result<Response<Body>, String> {
    let request = request.body(body).map_err(|error| format!("cannot ask {url}: {error}"))?;
    let mut response = agent(ASK_TIME).run(request).map_err(|error| format!("cannot ask {url}: {}", reason(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (text, _) = read(&mut response);
    Err(format!("{url} answers {}{}", response.status().as_u16(), quoted(&text)))
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

fn agent(time: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Else HTTP_PROXY and its like would be asked instead.
        .proxy(None)
        .user_agent(concat!("red-tentacle/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(time))
        .build()
        .new_agent()
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", ASK_TIME.as_secs()),
        ureq::Error::Io(error) => Printable(&error.to_string()).to_string(),
        error => Printable(&error.to_string()).to_string(),
    }
}
