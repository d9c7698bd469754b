//! An exchange's line as text. Text from outside is escaped here: no client can forge a line.

use std::fmt::{self, Write};
use std::ops::Range;

use super::entry::{Entry, LegEntry, RaceEntry};
use super::style::Paint;
use crate::message::{Elapsed, Excerpt, Outcome, ShownTarget};

/// What is known at the start of an exchange: its method, its target, the client and the id.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, target) = (Excerpt(self.method.as_str()), ShownTarget(self.target.as_str()));
        write!(f, "{} {method} {target} for {}:", self.id.as_str(), self.forwarded)
    }
}

/// The line of an exchange, and where the list of its backends stands in it, with the blank before it.
pub(super) fn line(entry: &Entry, race: Option<&RaceEntry>, paint: Paint) -> (String, Range<usize>) {
    let mut line = format!("{} {} ", Excerpt(entry.method.as_str()), ShownTarget(entry.target.as_str()));
    match entry.reply.get() {
        Some(reply) => {
            put(&mut line, format_args!("{} in {}", paint.status(reply.status), Elapsed(reply.after)));
        }
        None => line.push_str("unanswered"),
    }
    let winner = race.and_then(|race| race.winner).map(|(leg, _)| leg);
    if let Some(leg) = race.and_then(|race| race.legs.get(winner?)) {
        put(&mut line, format_args!(" by {}", leg.name));
    }
    if let Some(note) = entry.reply.get().and_then(|reply| reply.note.as_ref()) {
        put(&mut line, format_args!(" ({note})"));
    }
    let legs = race.map(|race| race.legs).unwrap_or_default();
    put_legs(&mut line, legs, winner, paint);
    let begin = line.len();
    put_list(&mut line, legs, paint);
    let list = begin..line.len();
    put(&mut line, format_args!(" for {}", entry.forwarded));
    (line, list)
}

/// Appends ` b1=200/12ms b2=refused b3=…`, and in a terminal the reasons that a word can't hold.
fn put_legs(line: &mut String, legs: &[LegEntry], winner: Option<usize>, paint: Paint) {
    for (index, leg) in legs.iter().enumerate() {
        line.push(' ');
        let name = paint.leg(leg.name, winner == Some(index));
        let Some(outcome) = leg.outcome else {
            put(line, format_args!("{name}=…"));
            continue;
        };
        put(line, format_args!("{name}={outcome}"));
        if matches!(outcome, Outcome::Status(_)) {
            put(line, format_args!("/{}", Elapsed(leg.after)));
        }
        if let Some(reason) = outcome.reason().filter(|_| paint.is_terminal) {
            put(line, format_args!(" ({reason})"));
        }
    }
}

/// Appends ` [b1 http://a, b2 http://b]`, with the reasons, unless the legs have them.
fn put_list(line: &mut String, legs: &[LegEntry], paint: Paint) {
    for (index, leg) in legs.iter().enumerate() {
        let before = if index == 0 { " [" } else { ", " };
        put(line, format_args!("{before}{} {}", leg.name, leg.backend));
        if let Some(reason) = leg.outcome.and_then(Outcome::reason).filter(|_| !paint.is_terminal) {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http::{HeaderMap, Method, StatusCode, Version};

    use super::*;
    use crate::message::forwarded::Forwarded;
    use crate::message::proxy_status::How;
    use crate::message::{Delivery, Networks, Request, Target};
    use crate::metrics::RaceEnd;

    const PIPE: Paint = Paint::NONE;
    const TERMINAL: Paint = Paint { is_terminal: true, has_colours: false };

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
        Entry::of(&request, Forwarded::of(&request, &Networks::default()), false)
    }

    fn alone(entry: &Entry) -> String {
        line(entry, None, PIPE).0
    }

    #[test]
    fn a_line_tells_the_whole_race() {
        let entry = entry("/x");
        entry.delivered(StatusCode::OK, &Delivery::Whole, entry.received + Duration::from_millis(12));
        let outcomes = [
            Some(Outcome::Status(StatusCode::OK)),
            Some(Outcome::Status(StatusCode::SERVICE_UNAVAILABLE)),
            Some(Outcome::Tls("bad\nname".to_owned())),
            Some(Outcome::Cancelled),
            None,
        ];
        let backends =
            [("b1", "http://a"), ("b2", "http://b"), ("dc3", "https://c"), ("b4", "http://d"), ("b5", "http://e")];
        let after = Duration::from_millis(12);
        let legs: Vec<_> = (outcomes.iter().zip(&backends))
            .map(|(outcome, (name, backend))| LegEntry {
                name,
                backend,
                outcome: outcome.as_ref(),
                started: Some(Duration::ZERO),
                after,
            })
            .collect();
        let race = RaceEntry { end: RaceEnd::Won, winner: Some((0, How::Won)), legs: &legs };
        assert_eq!(
            line(&entry, Some(&race), PIPE).0,
            "GET /x 200 in 12ms by b1 b1=200/12ms b2=503/12ms dc3=tls b4=cancelled b5=… \
             [b1 http://a, b2 http://b, dc3 https://c (bad\\nname), b4 http://d, b5 http://e] for 192.0.2.7:1234"
        );
        let (mut text, list) = line(&entry, Some(&race), TERMINAL);
        assert_eq!(&text[list.clone()], " [b1 http://a, b2 http://b, dc3 https://c, b4 http://d, b5 http://e]");
        text.replace_range(list, "");
        let expected = "GET /x 200 in 12ms by b1 b1=200/12ms b2=503/12ms dc3=tls (bad\\nname) b4=cancelled b5=… for 192.0.2.7:1234";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_cut_and_a_disconnect_are_told() {
        let cut = entry("/x");
        cut.delivered(StatusCode::OK, &Delivery::BodyBroke(std::io::ErrorKind::UnexpectedEof.into()), cut.received);
        assert!(alone(&cut).contains("200 in 0.0ms (cut, since the backend's body broke off"));
        let stopped = entry("/x");
        stopped.delivered(StatusCode::SWITCHING_PROTOCOLS, &Delivery::Stopped, stopped.received);
        assert!(alone(&stopped).starts_with("GET /x 101 in 0.0ms (cut, since the proxy was stopped) for"));
        let gone = entry("/x");
        gone.abandoned(gone.received);
        assert!(alone(&gone).starts_with("GET /x 499 in 0.0ms for"));
    }

    #[test]
    fn text_from_outside_stays_on_its_line_and_is_cut() {
        let line = alone(&entry("/\u{2028}\u{202e}é\u{85}"));
        assert!(line.starts_with("GET /\\u{2028}\\u{202e}é\\u{85} unanswered"), "{line}");
        let long = format!("/{}", "x".repeat(5000));
        assert!(alone(&entry(&long)).len() < 1200);
    }
}
