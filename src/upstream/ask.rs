//! Asks a proxy that runs already: one request, one answer, a few seconds at most.
//! Knows nothing of lines and races: it is for probes and for people.

use std::net::TcpStream;
use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::Agent;
use url::{Url, form_urlencoded};

use crate::config::{AdminToken, Errand};
use crate::message::{Address, Printable};

/// For all of it. Probes are asked every few seconds, and whoever is too busy for so long isn't healthy.
const ASK_TIME: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: the list of a form of 64 KiB. What encodes it is longer than its names.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Does the errand. Returns what is to be printed, or why it failed, in one line.
pub fn ask(errand: &Errand) -> Result<String, String> {
    match errand {
        Errand::Health(url) => send(url, Request::get(url.as_str()), "").map(|_| String::new()),
        Errand::Reach(address) => match TcpStream::connect_timeout(address, ASK_TIME) {
            Ok(_) => Ok(String::new()),
            Err(error) => Err(format!("cannot connect to {address}: {error}")),
        },
        Errand::Update { admin, backends, token } => update(admin, backends, token.as_ref()),
    }
}

fn update(admin: &Url, backends: &[Address], token: Option<&AdminToken>) -> Result<String, String> {
    let mut url = admin.clone();
    url.set_query(None);
    url.path_segments_mut().expect("http has a path").pop_if_empty().push("-update-backends");
    let mut request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let list = backends.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("backends", &list).finish();
    send(&url, request, &form)
}

/// Sends the request; an answer other than 2xx is an error.
fn send(url: &Url, request: http::request::Builder, body: &str) -> Result<String, String> {
    let request = request.body(body).map_err(|error| format!("cannot ask {url}: {error}"))?;
    let mut response = agent().run(request).map_err(|error| format!("cannot ask {url}: {}", reason(&error)))?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    // The answer comes from outside, and may not write to a terminal what it likes.
    let lines = |text: &str| text.lines().map(|line| Printable(line).to_string()).collect::<Vec<_>>();
    if status.is_success() {
        let text = text.map_err(|error| format!("cannot read the answer of {url}: {}", reason(&error)))?;
        return Ok(lines(&text).into_iter().map(|line| line + "\n").collect());
    }
    let lines = lines(&text.unwrap_or_default());
    Err(format!("{url} answers {}: {}", status.as_u16(), lines.join("; ")))
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Else HTTP_PROXY and its like would be asked instead.
        .proxy(None)
        .user_agent(concat!("red-tentacle/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(ASK_TIME))
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
