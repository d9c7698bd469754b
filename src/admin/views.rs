//! What the admin port shows of a running proxy: its figures for Prometheus, and its last races. Knows nothing of where they come
//! from.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use url::form_urlencoded;

use super::page::{self, Attempt, Facts, Form, STILL};
use crate::message::headers::host_of;
use crate::message::{Elapsed, Json, Refusal, Reply, Request, Target, Timestamp, takes_html};
use crate::metrics::{self, Note, RACES_MAX, RecentRace, RecentRaces, ShownLeg};

const PAGE: &str = "/";
const STYLE: &str = "/page.css";
const SCRIPT: &str = "/page.js";
const METRICS: &str = "/metrics";
const RACES: &str = "/races";
/// The races that are shown if their number isn't given.
const RACES_SHOWN: usize = 20;

/// What there is to show.
pub struct Views {
    /// The figures, as Prometheus reads them: made anew for every request.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// What the page shows to a client that asked for this host: gathered anew for every request.
    pub facts: Box<dyn Fn(String) -> Facts + Send + Sync>,
    /// The last races.
    pub races: Arc<RecentRaces>,
}

impl Views {
    /// Whether a target's path leads to one of them.
    pub(super) fn are_at(target: &Target) -> bool {
        matches!(target.path(), PAGE | STYLE | SCRIPT | METRICS | RACES) || id_in(target).is_some()
    }

    /// Whether a target's path leads to the page.
    pub(super) fn is_page(target: &Target) -> bool {
        target.path() == PAGE
    }

    /// Whether the page is asked for by a client that doesn't take HTML: curl gets the list instead.
    pub(super) fn is_list_instead(request: &Request) -> bool {
        Views::is_page(&request.target) && !takes_html(&request.headers)
    }

    /// The page, whose forms carry this token; after a change that was refused, with what was typed.
    pub(super) fn page(&self, request: &Request, form_token: &str, attempt: Option<Attempt>) -> Reply {
        let is_still = request.target.query() == Some(STILL);
        page::page(
            &(self.facts)(host_asked_for(request)),
            &Form { token: form_token, attempt, is_still },
            SystemTime::now(),
        )
    }

    /// Shows what is asked for; the page's forms carry this token.
    pub(super) fn show(&self, request: &Request, form_token: &str) -> Result<Reply, Refusal> {
        match request.target.path() {
            PAGE => return Ok(self.page(request, form_token, None)),
            STYLE => return Ok(page::with_headers("text/css; charset=utf-8", page::STYLE.to_owned())),
            SCRIPT => return Ok(page::with_headers("text/javascript; charset=utf-8", page::SCRIPT.to_owned())),
            METRICS => return Ok(Reply::typed(StatusCode::OK, metrics::CONTENT_TYPE, (self.metrics)())),
            _ => {}
        }
        let json = match id_in(&request.target) {
            Some(id) => json_of(&*self.race_of(id).ok_or(Refusal::NoSuchRace)?),
            None => {
                let races = self.races.last(count_in(&request.target)?);
                Json::object([("races", races.iter().map(|race| json_of(race)).collect())])
            }
        };
        Ok(Reply::typed(StatusCode::OK, "application/json", json.to_string()))
    }

    /// The race with this id, as it stands in the path: percent-encoded where a path needs that.
    fn race_of(&self, id: &str) -> Option<Arc<RecentRace>> {
        // Decodes it as the value of a field: a plus sign or an ampersand, which mean something else there, are themselves in a path.
        let field = format!("={}", id.replace('+', "%2B").replace('&', "%26"));
        let decoded = form_urlencoded::parse(field.as_bytes()).next().map(|(_, id)| id.into_owned());
        self.races.of(id).or_else(|| self.races.of(&decoded?))
    }
}

fn host_asked_for(request: &Request) -> String {
    host_of(request).map_or_else(String::new, |host| String::from_utf8_lossy(host.as_bytes()).into_owned())
}

fn id_in(target: &Target) -> Option<&str> {
    target.path().strip_prefix(RACES)?.strip_prefix('/').filter(|id| !id.is_empty())
}

/// The number of races that is asked for.
fn count_in(target: &Target) -> Result<usize, Refusal> {
    let mut parameters = form_urlencoded::parse(target.query().unwrap_or_default().as_bytes());
    let Some((_, count)) = parameters.find(|(name, _)| name == "n") else { return Ok(RACES_SHOWN) };
    let count = count.parse().ok().filter(|count| (1..=RACES_MAX).contains(count));
    count.ok_or(Refusal::BadRequest("n must be a whole number from 1 to 64"))
}

fn json_of(race: &RecentRace) -> Json {
    Json::object([
        ("id", race.id.as_str().into()),
        ("at", Timestamp(race.at).to_string().into()),
        ("method", race.method.as_str().into()),
        ("target", race.path.as_str().into()),
        ("status", race.status.map(|status| u64::from(status.as_u16())).into()),
        ("ms", Elapsed(race.after).millis().into()),
        ("verdict", race.end.word().into()),
        ("by", race.by().into()),
        ("note", race.note.map(Note::word).into()),
        ("legs", race.legs().map(|leg| json_of_leg(&leg)).collect()),
    ])
}

fn json_of_leg(leg: &ShownLeg) -> Json {
    let millis = |time| Elapsed(time).millis();
    Json::object([
        ("backend", leg.backend.into()),
        ("outcome", leg.end.to_string().into()),
        ("start_ms", leg.started.map(millis).into()),
        ("ms", leg.started.map(|_| millis(leg.ended)).into()),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::admin::request;
    use crate::message::{Outcome, ReplyBody, RequestId};
    use crate::metrics::{LegEnd, RaceEnd};

    fn race(id: &str, method: &str, target: &str) -> RecentRace {
        let mut headers = HeaderMap::new();
        headers.insert(RequestId::FIELD, HeaderValue::from_str(id).expect("a value"));
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let target = Target::parse(&method, target).expect("a target");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_490_047_120);
        let mut race = RecentRace::new(RequestId::of(&headers), at, &method, &target, RaceEnd::Won);
        let (refused, ok) = (Outcome::Refused, Outcome::Status(StatusCode::OK));
        let micros = |micros| Duration::from_micros(micros);
        let end = |outcome, ended| LegEnd {
            outcome,
            has_won: *outcome == ok,
            is_success: *outcome == ok,
            started: Duration::ZERO,
            ended,
        };
        let ends = [end(&refused, micros(449)), end(&ok, micros(12_345)), end(&Outcome::Skipped, Duration::ZERO)];
        race.set_legs([Some(micros(100)), Some(micros(120)), None].into_iter().zip(&ends));
        (race.status, race.after, race.winner) = (Some(StatusCode::OK), micros(12_345), Some(1));
        race
    }

    fn views(races: impl IntoIterator<Item = RecentRace>, names: &[&str]) -> Views {
        let recent = RecentRaces::default();
        for race in races {
            recent.keep(race, names.iter().map(|name| (*name).to_owned()).collect());
        }
        let facts = Box::new(|_| panic!("no test looks at the page here"));
        Views { metrics: Box::new(|| "figures".to_owned()), facts, races: Arc::new(recent) }
    }

    fn shown(views: &Views, target: &str) -> Result<String, u16> {
        let reply = views.show(&request("GET", target, &[], b""), "").map_err(|refusal| refusal.status().as_u16())?;
        let ReplyBody::Whole(body) = reply.body else { panic!("it is a text") };
        Ok(String::from_utf8(body).expect("UTF-8"))
    }

    #[test]
    fn a_race_is_shown_leg_by_leg_in_one_line() {
        let views = views([race("6f1c", "GET", "/block/latest?token=secret")], &["b1", "b2", "b3"]);
        let race = "{\"id\":\"6f1c\",\"at\":\"2026-11-24T03:14:07.120Z\",\"method\":\"GET\",\"target\":\"/block/latest\",\
                    \"status\":200,\"ms\":12,\"verdict\":\"won\",\"by\":\"b2\",\"note\":null,\"legs\":[\
                    {\"backend\":\"b1\",\"outcome\":\"refused\",\"start_ms\":0.1,\"ms\":0.4},\
                    {\"backend\":\"b2\",\"outcome\":\"200\",\"start_ms\":0.1,\"ms\":12},\
                    {\"backend\":\"b3\",\"outcome\":\"skipped\",\"start_ms\":null,\"ms\":null}]}";
        assert_eq!(shown(&views, "/races/6f1c"), Ok(format!("{race}\n")));
        assert_eq!(shown(&views, "/races"), Ok(format!("{{\"races\":[{race}]}}\n")));
    }

    #[test]
    fn races_are_found_by_their_ids_and_shown_by_the_number() {
        let ids = ["a", "a/b", "a+b", "a%62", "?", "a/b==", "=a", "a&b/c"];
        let views = views(ids.iter().map(|id| race(id, "GET", "/")), &["b1", "b2", "b3"]);
        let rows = [
            ("/races/a", Ok("a")),
            ("/races/a/b", Ok("a/b")),
            ("/races/a%2Fb", Ok("a/b")),
            ("/races/a+b", Ok("a+b")),
            ("/races/a%62", Ok("a%62")),
            ("/races/%3F", Ok("?")),
            ("/races/a%2Fb==", Ok("a/b==")),
            ("/races/%3Da", Ok("=a")),
            ("/races/a&b%2Fc", Ok("a&b/c")),
            ("/races/ab", Err(404)),
            ("/races/a=b%2Fc", Err(404)),
            ("/races/a&b", Err(404)),
            ("/races?n=0", Err(400)),
            ("/races?n=65", Err(400)),
            ("/races?n=x", Err(400)),
        ];
        for (target, expected) in rows {
            let found = shown(&views, target);
            match expected {
                Ok(id) => {
                    let found = found.expect("a race");
                    assert!(found.starts_with(&format!("{{\"id\":\"{id}\",")), "{target}: {found}");
                }
                Err(status) => assert_eq!(found, Err(status), "{target}"),
            }
        }
        for (target, count) in [("/races", 8), ("/races?n=2", 2), ("/races?n=64", 8), ("/races?x=2", 8)] {
            assert_eq!(shown(&views, target).expect("races").matches("\"id\":").count(), count, "{target}");
        }
    }

    proptest! {
        /// Whatever a client sends, or a backend is called, a race is one line of JSON with each text in its place.
        #[test]
        fn no_text_breaks_the_json(path in "(\\PC|[\"\\\\<>\u{85}\u{2028}]){0,80}", name in any::<String>()) {
            let Ok(target) = Target::parse(&Method::GET, &format!("/{}", path.replace(['#', ' '], ""))) else { return Ok(()) };
            let views = views([race("x", "GET", target.as_str())], &[&name, "b2", "b3"]);
            let shown = shown(&views, "/races/x").expect("a race");
            let line = shown.trim_end_matches('\n');
            prop_assert!(!line.contains(char::is_control), "{line:?}");
            // Without what is in its strings it is always the same.
            let (mut outside, mut in_string, mut escaped) = (String::new(), false, false);
            for c in line.chars() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if in_string => escaped = true,
                    '"' => in_string = !in_string,
                    c if !in_string => outside.push(c),
                    _ => {}
                }
            }
            let expected = "{:,:,:,:,:200,:12,:,:,:null,:[{:,:,:0.1,:0.4},{:,:,:0.1,:12},{:,:,:null,:null}]}";
            prop_assert_eq!(outside, expected);
        }
    }
}
