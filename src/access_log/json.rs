//! Lines as JSON, an object each. Whatever clients and backends have sent, it is one line of at most 8 KiB.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use log::Level;

use super::entry::{Entry, LegEntry, RaceEntry};
use crate::message::json::JsonObject;
use crate::message::{Outcome, Timestamp};
use crate::metrics::RaceEnd;

/// The longest line, in bytes: what readers of logs take whole, half of what Docker does.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of a target, escaped. 64 legs of 70 bytes each and all the rest fit beside it.
const TARGET_BYTES_MAX: usize = 1024;
const METHOD_BYTES_MAX: usize = 100;
const PEER_BYTES_MAX: usize = 200;
const NOTE_BYTES_MAX: usize = 512;
/// The most bytes of a reason that an outcome's word can't hold.
const REASON_BYTES_MAX: usize = 400;
/// The most bytes of one leg without its reason, of which a word has 15 and a time 12.
const LEG_BYTES_MAX: usize = 84;
/// The bytes around a reason.
const REASON_FRAME_BYTES: usize = 20;

/// The object of an exchange that arrived at that time.
pub(super) fn exchange(entry: &Entry, race: Option<&RaceEntry>, at: SystemTime) -> String {
    let mut line = String::with_capacity(512);
    let mut object = JsonObject::begin(&mut line);
    object.text("ts", &Timestamp(at).to_string(), 30);
    object.text("id", entry.id.as_str(), 128);
    put_or_null(&mut object, "trace", entry.trace.as_deref(), 32);
    object.text("method", entry.method.as_str(), METHOD_BYTES_MAX);
    object.text("target", entry.target.as_str(), TARGET_BYTES_MAX);
    let reply = entry.reply.get();
    put_number(&mut object, "status", reply.map(|reply| reply.status));
    put_number(&mut object, "ms", reply.map(|reply| Millis(reply.after)));
    let verdict = race.map(|race| match race.end {
        RaceEnd::Won => "won",
        RaceEnd::Lost => "lost",
        RaceEnd::Abandoned => "abandoned",
    });
    put_or_null(&mut object, "verdict", verdict, 9);
    let winner = race.and_then(|race| Some((race.winner?, race.is_failover)));
    put_or_null(&mut object, "by", winner.map(|(leg, _)| format!("b{}", leg + 1)).as_deref(), 10);
    put_or_null(&mut object, "how", winner.map(|(_, late)| if late { "failover" } else { "won" }), 10);
    object.text("peer", &entry.forwarded.to_string(), PEER_BYTES_MAX);
    if let Some(note) = reply.and_then(|reply| reply.note.as_ref()) {
        object.text("note", note, NOTE_BYTES_MAX);
    }
    put_legs(object.member("legs"), race.map(|race| race.legs).unwrap_or_default());
    object.end();
    debug_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
    line
}

fn put_legs(line: &mut String, legs: &[LegEntry]) {
    line.push('[');
    for (index, leg) in legs.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        let taken = line.len() + (legs.len() - index) * LEG_BYTES_MAX + REASON_FRAME_BYTES;
        let mut object = JsonObject::begin(line);
        let _ = write!(object.member("b"), "\"b{}\"", index + 1);
        put_or_null(&mut object, "outcome", leg.outcome.map(Outcome::word), 15);
        put_number(&mut object, "start_ms", leg.started.map(Millis));
        put_number(&mut object, "ms", leg.outcome.map(|_| Millis(leg.after)));
        let room = LINE_BYTES_MAX.saturating_sub(taken).min(REASON_BYTES_MAX);
        if let Some(reason) = leg.outcome.and_then(Outcome::reason).filter(|_| room > 0) {
            object.text("why", &reason.to_string(), room);
        }
        object.end();
    }
    line.push(']');
}

/// The object of any other line.
pub(super) fn other(level: Level, target: &str, text: &str, at: SystemTime) -> String {
    let mut line = String::with_capacity(text.len() + 128);
    let mut object = JsonObject::begin(&mut line);
    object.text("ts", &Timestamp(at).to_string(), 30);
    object.text("level", level.as_str(), 5);
    object.text("target", target, 100);
    object.text("msg", text, LINE_BYTES_MAX - 256);
    object.end();
    line
}

fn put_or_null(object: &mut JsonObject, name: &str, value: Option<&str>, bytes_max: usize) {
    match value {
        Some(value) => object.text(name, value, bytes_max),
        None => object.bare(name, "null"),
    }
}

fn put_number(object: &mut JsonObject, name: &str, value: Option<impl Display>) {
    match value {
        Some(value) => object.bare(name, value),
        None => object.bare(name, "null"),
    }
}

/// A time in milliseconds, to a microsecond.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, UNIX_EPOCH};

    use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::message::forwarded::Forwarded;
    use crate::message::{Delivery, Networks, Request, Target};

    fn entry(method: &str, target: &str, fields: &[(&'static str, &str)]) -> Entry {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let request = Request {
            target: Target::parse(&method, target).expect("a target"),
            method,
            version: Version::HTTP_11,
            headers,
            body: None,
            peer: "192.0.2.7:1234".parse().expect("an address"),
            received: Instant::now(),
        };
        Entry::of(&request, Forwarded::of(&request, &Networks::default()), true)
    }

    fn legs(outcomes: &[Option<Outcome>]) -> Vec<LegEntry<'_>> {
        let after = Duration::from_micros(12_345);
        let leg = |outcome: &'_ Option<Outcome>| outcome.as_ref().map_or(after, |_| after);
        outcomes
            .iter()
            .map(|outcome| LegEntry {
                backend: &"http://a",
                outcome: outcome.as_ref(),
                started: Some(Duration::from_micros(70)),
                after: leg(outcome),
            })
            .collect()
    }

    #[test]
    fn an_object_tells_the_whole_race() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        let entry = entry("GET", "/x?y=\"z", &[("traceparent", &parent), ("x-request-id", "my-id")]);
        entry.delivered(StatusCode::OK, &Delivery::Whole, entry.received + Duration::from_micros(12_400));
        let outcomes = [Some(Outcome::Status(StatusCode::OK)), Some(Outcome::Tls("bad\nname".to_owned())), None];
        let legs = legs(&outcomes);
        let race = RaceEntry { end: RaceEnd::Won, winner: Some(0), is_failover: false, legs: &legs };
        let line = exchange(&entry, Some(&race), UNIX_EPOCH);
        let told: Value = serde_json::from_str(&line).expect("JSON");
        let expected = json!({
            "ts": "1970-01-01T00:00:00.000Z", "id": "my-id", "trace": trace, "method": "GET", "target": "/x?y=\"z",
            "status": 200, "ms": 12.4, "verdict": "won", "by": "b1", "how": "won", "peer": "192.0.2.7:1234",
            "legs": [
                {"b": "b1", "outcome": "200", "start_ms": 0.07, "ms": 12.345},
                {"b": "b2", "outcome": "tls", "start_ms": 0.07, "ms": 12.345, "why": "bad\\nname"},
                {"b": "b3", "outcome": null, "start_ms": 0.07, "ms": null},
            ],
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_reply_without_a_race_has_no_verdict_and_says_why() {
        let entry = entry("GET", "/x", &[]);
        entry.delivered(StatusCode::OK, &Delivery::Stopped, entry.received);
        let told: Value = serde_json::from_str(&exchange(&entry, None, UNIX_EPOCH)).expect("JSON");
        assert_eq!((&told["verdict"], &told["by"], &told["trace"]), (&Value::Null, &Value::Null, &Value::Null));
        assert_eq!((&told["note"], &told["legs"]), (&json!("cut, since the proxy was stopped"), &json!([])));
    }

    fn outcomes() -> impl Strategy<Value = Option<Outcome>> {
        prop_oneof![
            Just(None),
            Just(Some(Outcome::ConnectTimeout)),
            (200..600u16).prop_map(|status| Some(Outcome::Status(StatusCode::from_u16(status).expect("a status")))),
            any::<String>().prop_map(|reason| Some(Outcome::Tls(reason.repeat(100)))),
            "[\"\\\\\\x00-\\x1f\u{2028}\u{202e}]{0,900}".prop_map(|reason| Some(Outcome::Protocol(reason))),
        ]
    }

    proptest! {
        /// Whatever clients and backends send, and however many legs there are.
        #[test]
        fn every_line_is_one_object_of_8_kib_at_most(
            method in "[A-Z!#$%&'*+.^_`|~-]{1,300}",
            target in "/[^\\x00-\\x20\\x7f-\u{a0}#]{0,3000}",
            id in "[ -~]{0,200}",
            outcomes in proptest::collection::vec(outcomes(), 0..=64),
            text in any::<String>(),
        ) {
            prop_assume!(Target::parse(&Method::GET, &target).is_ok() && method != "CONNECT");
            let entry = entry(&method, &target, &[("x-request-id", &id), ("traceparent", &id)]);
            let error = std::io::Error::other(text.repeat(50));
            entry.delivered(StatusCode::OK, &Delivery::BodyBroke(error), entry.received + Duration::from_secs(86_400));
            let legs = legs(&outcomes);
            let race = RaceEntry { end: RaceEnd::Abandoned, winner: Some(63), is_failover: true, legs: &legs };
            for line in [exchange(&entry, Some(&race), UNIX_EPOCH), other(Level::Warn, &text, &text.repeat(200), UNIX_EPOCH)] {
                prop_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
                let told: Value = serde_json::from_str(&line).expect("JSON");
                prop_assert!(told.is_object() && !line.contains(char::is_control));
            }
        }
    }
}
