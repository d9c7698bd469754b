//! What a client is told of a race that every leg has lost, as text and as JSON. Knows nothing of the race.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::accept::prefers_json;
use super::field::values_of;
use super::json::Json;
use super::outcome::{Elapsed, Outcome};

/// One leg of a race that every leg has lost, as its client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostLeg {
    /// The name of its backend.
    pub name: String,
    /// The backend's address, if clients may know where backends are.
    pub address: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the request's arrival to its end.
    pub after: Duration,
}

impl LostLeg {
    /// The line of a text about it.
    pub(super) fn line(&self) -> String {
        let LostLeg { name, address, outcome, .. } = self;
        match address {
            Some(address) => format!("{name} {address} {outcome}: {}", self.why()),
            None => format!("{name} {outcome}: {}", self.why()),
        }
    }

    pub(super) fn json(&self) -> Json {
        let mut fields = vec![("backend", self.name.as_str().into())];
        fields.extend(self.address.as_deref().map(|address| ("url", address.into())));
        fields.extend([
            ("outcome", self.outcome.word().into()),
            ("ms", Elapsed(self.after).millis().into()),
            ("why", self.why().into()),
        ]);
        Json::Object(fields)
    }

    /// The reason in a sentence. What a library or a certificate says may tell where the backend is, too.
    fn why(&self) -> String {
        if self.address.is_some() { self.outcome.sentence() } else { self.outcome.plain_sentence() }
    }
}

/// Whether a client is told of a failure in JSON: if it prefers that, or sends it and doesn't say what it prefers, as clients
/// of JSON-RPC do.
pub fn takes_problem(headers: &HeaderMap) -> bool {
    let is_open = |value: &HeaderValue| value.as_bytes().trim_ascii() == b"*/*";
    if values_of(headers, &ACCEPT).all(is_open) { sends_json(headers) } else { prefers_json(headers) }
}

fn sends_json(headers: &HeaderMap) -> bool {
    let Some(value) = values_of(headers, &CONTENT_TYPE).next().and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_json_to_those_who_prefer_it_and_to_those_who_send_it_and_say_nothing() {
        let rows = [
            ("nothing is said", None, None, false),
            ("JSON preferred", Some("application/json"), None, true),
            ("a problem preferred", Some("text/plain;q=0.5, application/problem+json"), None, true),
            ("text preferred", Some("text/plain, application/json;q=0.9"), None, false),
            ("JSON-RPC", None, Some("application/json"), true),
            ("JSON-RPC by curl", Some("*/*"), Some("application/json; charset=utf-8"), true),
            ("JSON of a kind", Some(" */* "), Some("Application/VND.api+json"), true),
            ("JSON sent, text preferred", Some("text/plain"), Some("application/json"), false),
            ("JSON sent, a page preferred", Some("text/html, */*"), Some("application/json"), false),
            ("a form", Some("*/*"), Some("application/x-www-form-urlencoded"), false),
            ("no JSON", None, Some("application/jsonx"), false),
        ];
        for (label, accept, content_type, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in [(ACCEPT, accept), (CONTENT_TYPE, content_type)] {
                headers.extend(value.map(|value| (name, HeaderValue::from_static(value))));
            }
            assert_eq!(takes_problem(&headers), expected, "{label}");
        }
    }

    #[test]
    fn a_leg_tells_its_address_only_where_clients_may_know_it() {
        let outcome = Outcome::Dns("no answer for dc1.example in time".to_owned());
        let hidden = LostLeg { name: "b1".to_owned(), address: None, outcome, after: Duration::from_micros(449) };
        let shown = LostLeg { address: Some("http://dc1.example".to_owned()), ..hidden.clone() };
        let reason = "the name doesn't resolve";
        assert_eq!(hidden.line(), format!("b1 dns: {reason}"));
        assert_eq!(shown.line(), format!("b1 http://dc1.example dns: {reason}: no answer for dc1.example in time"));
        let json = r#"{"backend":"b1","outcome":"dns","ms":0.4,"why":"the name doesn't resolve"}"#;
        assert_eq!(hidden.json().to_string(), json);
        let begin = r#"{"backend":"b1","url":"http://dc1.example","outcome":"dns","ms":0.4,"why":"#;
        assert!(shown.json().to_string().starts_with(begin), "{}", shown.json());
    }
}
