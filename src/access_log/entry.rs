//! The facts about one exchange, as they come about. Knows nothing of how they are told.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::message::forwarded::Forwarded;
use crate::message::proxy_status::How;
use crate::message::{Delivery, Elapsed, Outcome, Reason, Refusal, Request, RequestId, Target, values_of};
use crate::metrics::RaceEnd;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The facts about one exchange, gathered until they are told.
pub struct Entry {
    pub(super) id: RequestId,
    pub(super) forwarded: Forwarded,
    pub(super) method: Method,
    pub(super) target: Target,
    /// The id of the trace that the request is part of, where lines have it.
    pub(super) trace: Option<String>,
    pub(super) received: Instant,
    pub(super) reply: OnceLock<Sent>,
    is_told: AtomicBool,
}

/// The fate of the reply.
pub(super) struct Sent {
    pub(super) status: u16,
    pub(super) after: Duration,
    pub(super) note: Option<String>,
    /// The client has ended it, as it may at any time: it has seen enough of a stream, say.
    pub(super) has_left: bool,
}

/// The race of an exchange, as far as it has come.
pub struct RaceEntry<'a> {
    /// Its end for the client.
    pub end: RaceEnd,
    /// The leg whose answer the client got, and how it came to answer.
    pub winner: Option<(usize, How)>,
    /// The legs, in the order of the list.
    pub legs: &'a [LegEntry<'a>],
}

/// One leg of an exchange.
pub struct LegEntry<'a> {
    /// The backend's name in the list, and the address where a name stands for each of its own.
    pub name: &'a str,
    /// The backend's address.
    pub backend: &'a dyn fmt::Display,
    /// How it ended; `None` while it is out.
    pub outcome: Option<&'a Outcome>,
    /// The time from the request's arrival to its start, if it has started.
    pub started: Option<Duration>,
    /// The time from the request's arrival to the outcome.
    pub after: Duration,
}

impl Entry {
    /// The entry of a request that has just arrived. `has_trace`: the id of its trace is to be told.
    pub(super) fn of(request: &Request, forwarded: Forwarded, has_trace: bool) -> Entry {
        Entry {
            id: RequestId::of(&request.headers),
            forwarded,
            method: request.method.clone(),
            target: request.target.clone(),
            trace: has_trace.then(|| trace_id(&request.headers)).flatten(),
            received: request.received,
            reply: OnceLock::new(),
            is_told: AtomicBool::new(false),
        }
    }

    /// The request's id, which its replies carry, too.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Notes that a reply has been sent, or has failed to arrive. Only the first note of an entry counts.
    pub fn delivered(&self, status: StatusCode, delivery: &Delivery, now: Instant) {
        let cut = match delivery {
            Delivery::Whole => None,
            Delivery::BodyBroke(error) => Some(format!("cut, since the backend's body broke off: {}", escaped(error))),
            Delivery::ClientGone(error) => Some(format!("cut, since the client went away: {}", escaped(error))),
            Delivery::GaveUp(time) => Some(format!(
                "cut, since the client went away: no more of the backend's body had come for {}",
                Elapsed(*time)
            )),
            Delivery::Stopped => Some("cut, since the proxy was stopped".to_owned()),
            Delivery::Evicted => Some("closed, since little moved and others wanted its place".to_owned()),
            Delivery::Panicked => Some("cut, since the proxy has a bug".to_owned()),
        };
        // One that is cut off since it takes nothing hasn't left by itself.
        let has_left = matches!(delivery, Delivery::ClientGone(error) if error.kind() != io::ErrorKind::TimedOut);
        self.set(status.as_u16(), cut, has_left, now);
    }

    /// Notes that the proxy has answered by itself, with the reason.
    pub fn refused(&self, refusal: &Refusal, now: Instant) {
        let note = match refusal {
            Refusal::AllFailed(_) => None,
            _ => Some([vec![refusal.sentence().to_owned()], refusal.details()].concat().join("; ")),
        };
        self.set(refusal.status().as_u16(), note, false, now);
    }

    /// Notes that the client left before there was an answer. 499 is nginx's word for it, and only the log sees it.
    pub fn abandoned(&self, now: Instant) {
        self.set(499, None, true, now);
    }

    fn set(&self, status: u16, note: Option<String>, has_left: bool, now: Instant) {
        let after = now.saturating_duration_since(self.received);
        let _ = self.reply.set(Sent { status, after, note, has_left });
    }

    /// Whether its line has been written.
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// Gives the right to write its line, to one caller only.
    pub(super) fn try_tell(&self) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
    }
}

fn escaped(text: &impl ToString) -> String {
    Reason(&text.to_string()).to_string()
}

/// The id of the trace in a valid `traceparent` (W3C Trace Context, "traceparent Header Field Values"): later versions may have
/// more behind the flags.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let mut given = values_of(headers, &TRACEPARENT);
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let mut parts = value.to_str().ok()?.trim().splitn(5, '-');
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() || version != "00";
    let is_valid = is_hex(version, 2) && version != "ff" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2);
    (is_valid && is_whole).then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_trace_is_told_by_the_id_in_a_valid_field_alone() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let rows = [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("cc-{trace}-{parent}-01-what-comes-later"), true),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{trace}-{parent}"), false),
            (format!("00-{trace}{parent}-01"), false),
            (String::new(), false),
        ];
        for (value, is_valid) in rows {
            let mut headers = HeaderMap::new();
            headers.append("traceparent", HeaderValue::from_str(&value).expect("a value"));
            assert_eq!(trace_id(&headers).as_deref(), is_valid.then_some(trace), "{value}");
            headers.append("traceparent", HeaderValue::from_str(&value).expect("a value"));
            assert_eq!(trace_id(&headers), None, "twice");
        }
        assert_eq!(trace_id(&HeaderMap::new()), None);
    }
}
