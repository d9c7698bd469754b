//! One exchange's line of the log. Text from outside is escaped here: no client can forge a line.

use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::message::forwarded::Forwarded;
use crate::message::{Delivery, Elapsed, Excerpt, Outcome, Reason, Refusal, Request, RequestId, ShownTarget, Target};

/// The facts about one exchange, gathered until it is finished.
pub struct Entry {
    id: RequestId,
    forwarded: Forwarded,
    method: Method,
    target: Target,
    received: Instant,
    reply: OnceLock<Sent>,
}

/// The fate of the reply.
struct Sent {
    status: u16,
    after: Duration,
    note: Option<String>,
}

/// The end of one leg of an exchange.
pub struct LegEntry<'a> {
    /// The backend's name in the list.
    pub name: &'a str,
    /// The backend's address.
    pub backend: &'a dyn fmt::Display,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// The time from the request's arrival to the outcome.
    pub after: Duration,
}

impl Entry {
    /// The entry of a request that has just arrived.
    pub fn new(request: &Request, forwarded: Forwarded) -> Entry {
        Entry {
            id: RequestId::of(&request.headers),
            forwarded,
            method: request.method.clone(),
            target: request.target.clone(),
            received: request.received,
            reply: OnceLock::new(),
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
            Delivery::Stopped => Some("cut, since the proxy was stopped".to_owned()),
            Delivery::Evicted => Some("closed, since little moved and others wanted its place".to_owned()),
            Delivery::Panicked => Some("cut, since the proxy has a bug".to_owned()),
        };
        self.set(status.as_u16(), cut, now);
    }

    /// Notes that the proxy has answered by itself, with the reason.
    pub fn refused(&self, refusal: &Refusal, now: Instant) {
        let note = match refusal {
            Refusal::AllFailed(_) => None,
            _ => Some([vec![refusal.sentence().to_owned()], refusal.details()].concat().join("; ")),
        };
        self.set(refusal.status().as_u16(), note, now);
    }

    /// Notes that the client left before there was an answer. 499 is nginx's word for it, and only the log sees it.
    pub fn abandoned(&self, now: Instant) {
        self.set(499, None, now);
    }

    fn set(&self, status: u16, note: Option<String>, now: Instant) {
        let after = now.saturating_duration_since(self.received);
        let _ = self.reply.set(Sent { status, after, note });
    }

    /// Writes the line, now that everything is known. Backends have their names of the list. Doesn't block:
    /// a full queue drops the line.
    pub fn finish(&self, winner: Option<usize>, legs: &[LegEntry]) {
        let level = match self.reply.get() {
            Some(Sent { status: 500.., .. } | Sent { note: Some(_), .. }) | None => log::Level::Warn,
            Some(_) => log::Level::Info,
        };
        if log::log_enabled!(level) {
            log::log!(target: "red_tentacle::access_log", level, "{}", self.line(winner, legs));
        }
    }

    fn line(&self, winner: Option<usize>, legs: &[LegEntry]) -> String {
        let mut line = format!("{} {} ", Excerpt(self.method.as_str()), ShownTarget(self.target.as_str()));
        match self.reply.get() {
            Some(reply) => put(&mut line, format_args!("{} in {}", reply.status, Elapsed(reply.after))),
            None => line.push_str("unanswered"),
        }
        if let Some(winner) = winner.and_then(|winner| legs.get(winner)) {
            put(&mut line, format_args!(" by {}", winner.name));
        }
        if let Some(note) = self.reply.get().and_then(|reply| reply.note.as_ref()) {
            put(&mut line, format_args!(" ({note})"));
        }
        put_legs(&mut line, legs);
        put(&mut line, format_args!(" for {}", self.forwarded));
        line
    }
}

/// Appends ` b1=200/12ms b2=refused [b1 http://a, b2 http://b]`, and the reasons that a word can't hold.
fn put_legs(line: &mut String, legs: &[LegEntry]) {
    for leg in legs {
        put(line, format_args!(" {}={}", leg.name, leg.outcome));
        if matches!(leg.outcome, Outcome::Status(_)) {
            put(line, format_args!("/{}", Elapsed(leg.after)));
        }
    }
    for (index, leg) in legs.iter().enumerate() {
        let before = if index == 0 { " [" } else { ", " };
        put(line, format_args!("{before}{} {}", leg.name, leg.backend));
        if let Some(reason) = leg.outcome.reason() {
            put(line, format_args!(" ({reason})"));
        }
    }
    if !legs.is_empty() {
        line.push(']');
    }
}

fn put(line: &mut String, text: fmt::Arguments) {
    line.write_fmt(text).expect("a string takes all");
}

fn escaped(text: &impl ToString) -> String {
    Reason(&text.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Version};

    use super::*;
    use crate::message::Networks;

    fn entry(target: &str) -> Entry {
        let request = Request {
            method: Method::GET,
            target: Target::parse(&Method::GET, target).expect("a target"),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            body: None,
            peer: "192.0.2.7:1234".parse().expect("an address"),
            received: Instant::now(),
        };
        Entry::new(&request, Forwarded::of(&request, &Networks::default()))
    }

    #[test]
    fn a_line_tells_the_whole_race() {
        let entry = entry("/x");
        entry.delivered(StatusCode::OK, &Delivery::Whole, entry.received + Duration::from_millis(12));
        let outcomes = [
            Outcome::Status(StatusCode::OK),
            Outcome::Status(StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Tls("bad\nname".to_owned()),
            Outcome::Cancelled,
        ];
        let backends = [("b1", "http://a"), ("b2", "http://b"), ("dc3", "https://c"), ("b4", "http://d")];
        let legs: Vec<_> = (outcomes.iter().zip(&backends))
            .map(|(outcome, (name, backend))| LegEntry { name, backend, outcome, after: Duration::from_millis(12) })
            .collect();
        assert_eq!(
            entry.line(Some(0), &legs),
            "GET /x 200 in 12ms by b1 b1=200/12ms b2=503/12ms dc3=tls b4=cancelled \
             [b1 http://a, b2 http://b, dc3 https://c (bad\\nname), b4 http://d] for 192.0.2.7:1234"
        );
    }

    #[test]
    fn a_cut_and_a_disconnect_are_told() {
        let cut = entry("/x");
        cut.delivered(StatusCode::OK, &Delivery::BodyBroke(std::io::ErrorKind::UnexpectedEof.into()), cut.received);
        assert!(cut.line(None, &[]).contains("200 in 0.0ms (cut, since the backend's body broke off"));
        let stopped = entry("/x");
        stopped.delivered(StatusCode::SWITCHING_PROTOCOLS, &Delivery::Stopped, stopped.received);
        assert!(stopped.line(None, &[]).starts_with("GET /x 101 in 0.0ms (cut, since the proxy was stopped) for"));
        let gone = entry("/x");
        gone.abandoned(gone.received);
        assert!(gone.line(None, &[]).starts_with("GET /x 499 in 0.0ms for"));
    }

    #[test]
    fn text_from_outside_stays_on_its_line_and_is_cut() {
        let line = entry("/\u{2028}\u{202e}é\u{85}").line(None, &[]);
        assert!(line.starts_with("GET /\\u{2028}\\u{202e}é\\u{85} unanswered"), "{line}");
        let long = format!("/{}", "x".repeat(5000));
        assert!(entry(&long).line(None, &[]).len() < 1200);
    }
}
