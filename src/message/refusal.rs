//! Every status that the proxy itself makes, with its sentence, in one table. Knows nothing of which room refuses, nor
//! of bytes.

use http::{HeaderValue, StatusCode, header};

use super::json::Json;
use super::loss::LostLeg;
use super::{Outcome, Reply};

/// A reply that the proxy itself makes instead of passing an answer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request's head breaks a rule; the text says which.
    BadRequest(&'static str),
    /// The update names no list.
    NoBackends,
    /// The update's list is bad; the text names each bad entry.
    BadBackends(String),
    /// The change of the list is bad; the text says why.
    BadChange(String),
    /// No backend has that name; the text says which there are.
    NoSuchBackend(String),
    /// The change of the list can't be made as things are; the text says why.
    Conflict(String),
    /// The peer may not do this; the text says why and which flag would allow it.
    Forbidden(String),
    /// The status page needs a password; the text says why this one isn't good.
    Unauthorized(String),
    /// The admin port has no such path.
    NotFound,
    /// The race that is asked for isn't kept any more, or never was.
    NoSuchRace,
    /// The path takes another method; `Allow` names it.
    MethodNotAllowed(&'static str),
    /// The client took too long to send its request.
    RequestTimeout,
    /// The body is longer than `--max-body`.
    BodyTooLarge,
    /// The form of an update is longer than allowed.
    FormTooLong,
    /// The target is longer than allowed.
    TargetTooLong,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    ExpectationFailed,
    /// The head is longer than `--max-head`.
    HeadTooLarge,
    /// The head has more fields than allowed.
    TooManyFields,
    /// The trailers of a chunked body are longer than allowed.
    TrailersTooLarge,
    /// The client speaks plain HTTP where TLS is spoken.
    PlainHttp,
    /// A bug in the proxy.
    Internal,
    /// The method or a transfer coding isn't implemented; the text says which.
    NotImplemented(&'static str),
    /// Every backend failed, each leg in its way. If no leg could run for want of descriptors or ports, the refusal says that
    /// this host is too busy.
    AllFailed(Vec<LostLeg>),
    /// A queue is full: the proxy is too busy.
    Busy,
    /// There is no descriptor for the body's file.
    NoDescriptor,
    /// The proxy drains: an update would be lost with it.
    Stopping,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
    /// The connection begins with HTTP/2's preface.
    Http2NotSupported,
    /// The spool directory has no room for the body.
    InsufficientStorage,
    /// The request came back to this very process.
    Loop,
    /// The request has passed too many proxies, so it must be in a loop.
    TooManyHops,
}

impl Refusal {
    /// Every status that a refusal may have where clients connect: `401` is the admin port's alone.
    pub const STATUSES: [u16; 17] =
        [400, 403, 404, 405, 408, 409, 413, 414, 417, 431, 500, 501, 502, 503, 505, 507, 508];

    /// The status of this refusal and its sentence.
    fn row(&self) -> (u16, &str) {
        match self {
            Refusal::BadRequest(why) => (400, why),
            Refusal::NoBackends => (400, "No backends provided"),
            Refusal::BadBackends(_) => (400, "Backends not updated: the list stays as it was"),
            Refusal::BadChange(why) => (400, why),
            Refusal::NoSuchBackend(why) => (404, why),
            Refusal::Conflict(why) => (409, why),
            Refusal::Unauthorized(_) => (401, "Unauthorized"),
            Refusal::Forbidden(_) => (403, "Forbidden"),
            Refusal::NotFound => {
                (404, "Not found: updates go to /-update-backends or /update-backends, the list is at /backends")
            }
            Refusal::NoSuchRace => (404, "No such race: the last 64 are kept, of a busy proxy not all"),
            Refusal::MethodNotAllowed(_) => (405, "Invalid request method"),
            Refusal::RequestTimeout => (408, "The request took too long to arrive"),
            Refusal::BodyTooLarge => (413, "The body is longer than allowed (--max-body)"),
            Refusal::FormTooLong => (413, "The form of an update is longer than 64 KiB"),
            Refusal::TargetTooLong => (414, "The request target is longer than 8 KiB"),
            Refusal::ExpectationFailed => (417, "The only expectation that can be met is 100-continue"),
            Refusal::HeadTooLarge => (431, "The head is longer than allowed (--max-head)"),
            Refusal::TooManyFields => (431, "The head has more than 100 fields"),
            Refusal::TrailersTooLarge => (431, "The trailers are longer than 4 KiB"),
            Refusal::PlainHttp => {
                (400, "This port speaks HTTPS, and the request is plain HTTP: write https:// for http://")
            }
            Refusal::Internal => (500, "Internal error"),
            Refusal::NotImplemented(what) => (501, what),
            Refusal::AllFailed(legs) => row_of_loss(legs.iter().map(|leg| &leg.outcome)),
            Refusal::Busy => (503, "Too busy: too many requests are waiting already"),
            Refusal::NoDescriptor => (503, "Too busy: this host has no descriptor left for the request's body"),
            Refusal::Stopping => (503, "Stopping: what is under way is finished, nothing else is begun"),
            Refusal::VersionNotSupported => (505, "Only HTTP/1.0 and HTTP/1.1 are spoken here"),
            Refusal::Http2NotSupported => (505, "Only HTTP/1.0 and HTTP/1.1 are spoken here, not HTTP/2"),
            Refusal::InsufficientStorage => (507, "No room for the request's body (--spool-dir)"),
            Refusal::Loop => (508, "The request came back to this proxy: a backend leads to it"),
            Refusal::TooManyHops => (
                508,
                "More than 32 proxies have passed the request on (X-Forwarded-For, Forwarded, Via, CDN-Loop), or its sender has \
                 more than 8 times: a backend seems to lead back here",
            ),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        status_of(self.row())
    }

    /// The reason in one line, for the client and the log.
    pub fn sentence(&self) -> &str {
        self.row().1
    }

    /// The body's lines beyond the sentence.
    pub fn details(&self) -> Vec<String> {
        match self {
            Refusal::BadBackends(details) | Refusal::Unauthorized(details) | Refusal::Forbidden(details) => {
                details.lines().map(str::to_owned).collect()
            }
            Refusal::AllFailed(legs) => legs.iter().map(LostLeg::line).collect(),
            _ => Vec::new(),
        }
    }

    /// Makes the reply that tells the client.
    pub fn reply(&self) -> Reply {
        let mut text = self.sentence().to_owned();
        for line in self.details() {
            text.push('\n');
            text.push_str(&line);
        }
        self.with_fields(Reply::text(self.status(), text))
    }

    /// Makes the reply as problem details (RFC 9457) with a member more, for a client that takes those.
    pub fn problem(&self, more: (&'static str, Json)) -> Reply {
        let mut fields = vec![
            ("type", "about:blank".into()),
            ("title", self.sentence().into()),
            ("status", u64::from(self.status().as_u16()).into()),
            more,
        ];
        if let Refusal::AllFailed(legs) = self {
            fields.push(("legs", legs.iter().map(LostLeg::json).collect()));
        }
        let problem = Json::Object(fields).to_string();
        self.with_fields(Reply::typed(self.status(), "application/problem+json", problem))
    }

    fn with_fields(&self, mut reply: Reply) -> Reply {
        match self {
            Refusal::MethodNotAllowed(allow) => {
                reply.headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Refusal::Unauthorized(_) => {
                let challenge = HeaderValue::from_static("Basic realm=\"red-tentacle\"");
                reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Refusal::Busy | Refusal::NoDescriptor => put_retry_after(&mut reply),
            Refusal::AllFailed(_) if self.status() == StatusCode::SERVICE_UNAVAILABLE => put_retry_after(&mut reply),
            _ => {}
        }
        reply
    }
}

/// The status of the refusal of a race that every leg has lost.
pub fn status_of_loss<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> StatusCode {
    status_of(row_of_loss(outcomes))
}

fn row_of_loss<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> (u16, &'static str) {
    let mut needed = outcomes.filter(|outcome| **outcome != Outcome::Unneeded).peekable();
    // If no leg that was needed could run, nothing is said of the backends.
    if needed.peek().is_some() && needed.all(|outcome| *outcome == Outcome::NoSocket) {
        (503, "Too busy: this host has no descriptor or port left, or each backend holds its share of them")
    } else {
        (502, "All backend requests failed")
    }
}

fn status_of((status, _): (u16, &str)) -> StatusCode {
    StatusCode::from_u16(status).expect("the table holds valid statuses")
}

/// Adds `Retry-After` of a second: a full queue is empty again by then, or the host is too small for its load.
fn put_retry_after(reply: &mut Reply) {
    reply.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_if_no_leg_could_run_is_it_worth_asking_again_soon() {
        let failed = || Outcome::Status(StatusCode::NOT_FOUND);
        let rows = [
            (vec![Outcome::NoSocket], 503, Some("1")),
            (vec![Outcome::NoSocket, Outcome::NoSocket], 503, Some("1")),
            (vec![Outcome::NoSocket, failed()], 502, None),
            (vec![failed()], 502, None),
            (vec![Outcome::Refused, Outcome::NoSocket], 502, None),
        ];
        for (outcomes, status, retry_after) in rows {
            let leg = |outcome: &Outcome| LostLeg {
                name: "b1".to_owned(),
                address: None,
                outcome: outcome.clone(),
                after: Duration::ZERO,
            };
            let refusal = Refusal::AllFailed(outcomes.iter().map(leg).collect());
            let reply = refusal.reply();
            let found = reply.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            assert_eq!((reply.status.as_u16(), found), (status, retry_after), "{outcomes:?}");
            assert_eq!(refusal.details().len(), outcomes.len(), "each leg has its line");
        }
    }
}
