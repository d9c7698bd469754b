//! Lines as JSON, an object each. Whatever clients and backends have sent, it is one line of at most 8 KiB.

use std::time::{Duration, SystemTime};

use log::Level;

use super::entry::{Entry, LegEntry, RaceEntry};
use crate::message::{Json, Outcome, Timestamp};

/// The longest line, in bytes: what readers of logs take whole, half of what Docker does.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of texts from outside, escaped; less where there are very many legs.
const TARGET_BYTES_MAX: usize = 1024;
const METHOD_BYTES_MAX: usize = 100;
const NOTE_BYTES_MAX: usize = 512;
const MESSAGE_BYTES_MAX: usize = LINE_BYTES_MAX - 512;
/// The most bytes of a reason that an outcome's word can't hold.
const REASON_BYTES_MAX: usize = 400;
/// The most bytes of a line without its legs, its target and its note: an id of 128, a method, a trace of 32, two addresses, a
/// name with its address.
const FRAME_BYTES_MAX: usize = 660;
/// The most bytes of one leg without its reason and its name, of which a word has 15 and a time 12.
const LEG_BYTES_MAX: usize = 80;
/// The bytes that are kept from names, for the target and a note, where there are very many legs: of 64 each has a name of 32, and
/// one with a long address is cut.
const TEXTS_BYTES_MIN: usize = 340;
/// The bytes around a reason, and of the mark that it is cut.
const REASON_FRAME_BYTES: usize = 12;

/// The object of an exchange that arrived at that time.
pub(super) fn exchange(entry: &Entry, race: Option<&RaceEntry>, at: SystemTime) -> String {
    let reply = entry.reply.get();
    let verdict = race.map(|race| race.end.word());
    let legs = race.map(|race| race.legs).unwrap_or_default();
    let winner = race.and_then(|race| race.winner).and_then(|(leg, how)| Some((legs.get(leg)?.name, how)));
    let room = LINE_BYTES_MAX.saturating_sub(FRAME_BYTES_MAX + legs.len() * LEG_BYTES_MAX);
    let name_max = room.saturating_sub(TEXTS_BYTES_MIN) / legs.len().max(1);
    let room = room - legs.iter().map(|leg| leg.name.len().min(name_max)).sum::<usize>();
    let note_max = NOTE_BYTES_MAX.min(room / 3);
    let target_max = TARGET_BYTES_MAX.min(room - note_max);
    let mut fields: Vec<(&'static str, Json)> = vec![
        ("ts", Timestamp(at).to_string().into()),
        ("id", entry.id.as_str().into()),
        ("trace", entry.trace.clone().into()),
        ("method", cut(entry.method.as_str(), METHOD_BYTES_MAX).into()),
        ("target", cut(entry.target.as_str(), target_max).into()),
        ("status", reply.map(|reply| u64::from(reply.status)).into()),
        ("ms", reply.map(|reply| millis(reply.after)).into()),
        ("verdict", verdict.into()),
        ("by", winner.map(|(name, _)| name).into()),
        ("how", winner.map(|(_, how)| how.word()).into()),
        ("peer", entry.forwarded.to_string().into()),
    ];
    if let Some(note) = reply.and_then(|reply| reply.note.as_ref()) {
        fields.push(("note", cut(note, note_max).into()));
    }
    fields.push(("legs", legs_of(legs, name_max, room - note_max - target_max)));
    Json::Object(fields).to_string()
}

/// The legs. A name has that many bytes at most, and reasons have that many, the first legs' first.
fn legs_of(legs: &[LegEntry], name_max: usize, mut room: usize) -> Json {
    let one = |leg: &LegEntry| {
        let is_long = leg.name.len() > name_max;
        let name = if is_long { cut(leg.name, name_max - bytes_of('…')).into() } else { leg.name.into() };
        let mut fields: Vec<(&'static str, Json)> = vec![
            ("b", name),
            ("outcome", leg.outcome.map(Outcome::word).into()),
            ("start_ms", leg.started.map(millis).into()),
            ("ms", leg.outcome.map(|_| millis(leg.after)).into()),
        ];
        if let Some(reason) = leg.outcome.and_then(Outcome::reason).filter(|_| room > REASON_FRAME_BYTES) {
            let reason = cut(&reason.to_string(), REASON_BYTES_MAX.min(room - REASON_FRAME_BYTES));
            room -= reason.chars().map(bytes_of).sum::<usize>().min(room - REASON_FRAME_BYTES) + REASON_FRAME_BYTES;
            fields.push(("why", reason.into()));
        }
        Json::Object(fields)
    };
    legs.iter().map(one).collect()
}

/// The object of any other line.
pub(super) fn other(level: Level, target: &str, text: &str, at: SystemTime) -> String {
    let fields = [
        ("ts", Timestamp(at).to_string().into()),
        ("level", level.as_str().into()),
        ("target", cut(target, METHOD_BYTES_MAX).into()),
        ("msg", cut(text, MESSAGE_BYTES_MAX).into()),
    ];
    Json::object(fields).to_string()
}

/// A time in milliseconds, to a microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// At most that many bytes of a text, as it is escaped.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut bytes = 0;
    let whole = text.char_indices().find(|(_, c)| {
        bytes += bytes_of(*c);
        bytes > bytes_max
    });
    whole.map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

/// The most bytes that a character may take in a string: of `\u001b`, six.
fn bytes_of(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        ' '..='~' => 1,
        _ => 6,
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
    use crate::message::proxy_status::How;
    use crate::message::{Delivery, Networks, Request, Target};
    use crate::metrics::RaceEnd;

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

    fn legs<'a>(outcomes: &'a [Option<Outcome>], name: &'a str) -> Vec<LegEntry<'a>> {
        let after = Duration::from_micros(12_345);
        let leg = |outcome: &'_ Option<Outcome>| outcome.as_ref().map_or(after, |_| after);
        outcomes
            .iter()
            .map(|outcome| LegEntry {
                name,
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
        let legs = legs(&outcomes, "dc1");
        let race = RaceEntry { end: RaceEnd::Won, winner: Some((0, How::Won)), legs: &legs };
        let line = exchange(&entry, Some(&race), UNIX_EPOCH);
        let told: Value = serde_json::from_str(&line).expect("JSON");
        let expected = json!({
            "ts": "1970-01-01T00:00:00.000Z", "id": "my-id", "trace": trace, "method": "GET", "target": "/x?y=\"z",
            "status": 200, "ms": 12.4, "verdict": "won", "by": "dc1", "how": "won", "peer": "192.0.2.7:1234",
            "legs": [
                {"b": "dc1", "outcome": "200", "start_ms": 0.07, "ms": 12.345},
                {"b": "dc1", "outcome": "tls", "start_ms": 0.07, "ms": 12.345, "why": "bad\\nname"},
                {"b": "dc1", "outcome": null, "start_ms": 0.07, "ms": null},
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
            name in prop_oneof![Just("a-name-of-thirty-two-characters."),
                Just("a-name-of-thirty-two-characters.@2001:db8:1111:2222:3333:4444:5555:6666")],
        ) {
            prop_assume!(Target::parse(&Method::GET, &target).is_ok() && method != "CONNECT");
            let entry = entry(&method, &target, &[("x-request-id", &id), ("traceparent", &id)]);
            let error = std::io::Error::other(text.repeat(50));
            entry.delivered(StatusCode::OK, &Delivery::BodyBroke(error), entry.received + Duration::from_secs(86_400));
            let legs = legs(&outcomes, name);
            let race = RaceEntry { end: RaceEnd::Abandoned, winner: Some((63, How::Failover)), legs: &legs };
            for line in [exchange(&entry, Some(&race), UNIX_EPOCH), other(Level::Warn, &text, &text.repeat(200), UNIX_EPOCH)] {
                prop_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
                let told: Value = serde_json::from_str(&line).expect("JSON");
                prop_assert!(told.is_object() && !line.contains(char::is_control));
            }
        }
    }
}
