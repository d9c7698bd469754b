//! The status page: HTML without a need for scripts, made anew for each request. It says first how things stand, then the last
//! minute's figures, the backends and the races, and has the list to edit. Knows nothing of where any of it comes from.

mod edit;
mod facts;
mod html;
mod known;
mod summary;
mod waterfall;
mod what_if;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::message::Reply;
use crate::metrics::{ANSWERS, BackendMinute, BackendSample, BackendState, LastMinute, RecentRace, Second};
use crate::runtime::few::sorted_few;
pub(super) use edit::{Attempt, Form, STILL};
use edit::{put_buttons, put_edit, put_row_form};
pub use facts::Facts;
use html::{Escaped, Html, grouped, spoken, spoken_or_dash};
use known::{NOT_KNOWN, has_answered, has_hidden_ends, has_no_address, is_unknown, was_asked};
use summary::Summary;
use waterfall::{put_axis, put_marks, put_race, scale_of};
use what_if::without;

/// The style sheet, at `/page.css`.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script that fetches the page anew, at `/page.js`.
pub(super) const SCRIPT: &str = include_str!("page.js");
/// Nothing but the page's own style sheet and script, in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Races of each kind that are shown.
const NOTEWORTHY_MAX: usize = 20;
const LATEST_MAX: usize = 10;

/// Loads the page anew where the script can't.
const REFRESH: &str = "<noscript><meta http-equiv=refresh content=5></noscript>";

/// Makes the page. Doesn't block.
pub(super) fn page(facts: &Facts, form: &Form, now: SystemTime) -> Reply {
    let summary = Summary::of(facts, now);
    let (refresh, held) = if form.is_held() { ("", " data-held") } else { (REFRESH, "") };
    let mut html = Html::default();
    html.put(format_args!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{} red-tentacle</title>\
         <link rel=stylesheet href=/page.css>{refresh}<script src=/page.js defer></script></head>\
         <body><p id=note role=status></p><main{held}>",
        Escaped(&summary.title)
    ));
    put_head(&mut html, facts, &summary, now);
    if form.attempt.is_some() {
        // What was wrong comes first.
        put_edit(&mut html, facts, form);
    }
    put_figures(&mut html, &facts.minute);
    put_backends(&mut html, facts, form, now);
    let unanswered = facts.sample.backends.iter().map(|backend| backend.unanswered).sum();
    put_races(&mut html, &facts.races, unanswered);
    if form.attempt.is_none() {
        put_edit(&mut html, facts, form);
    }
    html.put(format_args!(
        "<p class=dim><a href=/metrics>metrics</a> · <a href=/backends>backends</a> · <a href=/races>races</a></p></main></body></html>"
    ));
    let mut reply = with_headers("text/html; charset=utf-8", html.into_string());
    reply.status = form.attempt.as_ref().map_or(StatusCode::OK, |attempt| attempt.refusal.status());
    reply
}

/// The reply to a change from the page: the browser fetches the page anew, and doesn't send the change again with it.
pub(super) fn see_page() -> Reply {
    let mut reply = Reply::text(StatusCode::SEE_OTHER, "See /");
    reply.headers.insert(LOCATION, HeaderValue::from_static("/"));
    protected(reply)
}

/// A text that a browser keeps to itself and shows nowhere else.
pub(super) fn with_headers(content_type: &'static str, body: String) -> Reply {
    protected(Reply::typed(StatusCode::OK, content_type, body))
}

/// The reply, with the fields that forbid a browser whatever it needn't do with it.
pub(super) fn protected(mut reply: Reply) -> Reply {
    let fields = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (RESOURCE_POLICY, "same-origin"),
    ];
    for (name, value) in fields {
        reply.headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn put_head(html: &mut Html, facts: &Facts, summary: &Summary, now: SystemTime) {
    let ago = |then: SystemTime| spoken(now.duration_since(then).unwrap_or_default());
    let kept = facts.kept_in.as_ref().map_or_else(|| "in memory only".to_owned(), |path| format!("in {path}"));
    html.put(format_args!(
        "<h1><span class={} aria-hidden=true>{}</span> {}</h1><small>red-tentacle {} on {} · up {} · the list changed {} ago, \
         kept {}</small>",
        summary.class,
        summary.symbol,
        Escaped(&summary.sentence),
        env!("CARGO_PKG_VERSION"),
        Escaped(&facts.host),
        ago(facts.sample.started),
        ago(facts.sample.list_changed),
        Escaped(&kept)
    ));
    if !facts.sample.is_list_loaded {
        html.put(format_args!(
            "<p class=warn>What was last read of the list is bad, so that the one before stays: the log says why.</p>"
        ));
    }
}

/// The last minute in four figures, each with its course.
fn put_figures(html: &mut Html, minute: &LastMinute) {
    #[expect(clippy::cast_precision_loss, reason = "what a person reads")]
    let per = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let course = |value: fn(&Second) -> f64| minute.course.iter().map(value).collect::<Vec<_>>();
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let figures: [(&str, String, Vec<f64>); 4] = [
        (
            "requests a second",
            format!("{:.1}", per(minute.requests(), minute.seconds)),
            course(|second| second.requests() as f64),
        ),
        (
            "lost",
            format!("{} ({:.1} %)", grouped(minute.lost), 100.0 * per(minute.lost, minute.races)),
            course(|second| second.lost as f64),
        ),
        (
            "clients waited, p50 / p99",
            format!("{} / {}", spoken_or_dash(minute.p50), spoken_or_dash(minute.p99)),
            course(|second| second.p99.unwrap_or_default().as_secs_f64()),
        ),
        (
            "legs a request",
            format!("{:.2}", per(minute.legs, minute.requests())),
            course(|second| if second.requests() == 0 { 0.0 } else { second.legs as f64 / second.requests() as f64 }),
        ),
    ];
    html.put(format_args!("<ul class=figures>"));
    for (label, figure, course) in figures {
        html.put(format_args!("<li><b>{figure}</b><small>{label}</small>"));
        put_course(html, label, &course);
        html.put(format_args!("</li>"));
    }
    html.put(format_args!("</ul>"));
}

/// A column a second, the last minute from left to right.
fn put_course(html: &mut Html, label: &str, course: &[f64]) {
    const HEIGHT: f64 = 28.0;
    let most = course.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    html.put(format_args!(
        "<svg viewBox=\"0 0 60 {HEIGHT}\" preserveAspectRatio=none role=img aria-label=\"{label}, second by second\">"
    ));
    let first = 60 - course.len().min(60);
    for (at, value) in course.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let height = (value / most * (HEIGHT - 2.0)).max(1.0);
        html.put(format_args!(
            "<rect class=bar x={} y={:.1} width=.8 height={height:.1} />",
            first + at,
            HEIGHT - height
        ));
    }
    html.put(format_args!("</svg>"));
}

/// A row for each backend, the worst first.
fn put_backends(html: &mut Html, facts: &Facts, form: &Form, now: SystemTime) {
    let wins: u64 = facts.minute.backends.iter().map(|minute| minute.count_of(&["won"])).sum();
    let slowest = facts.minute.backends.iter().filter_map(|minute| minute.p99).max().unwrap_or_default();
    let rows = facts.sample.backends.iter().zip(&facts.minute.backends);
    let rows = sorted_few(rows, |(backend, minute)| rank(backend, minute));
    let is_changeable = form.is_shown(facts);
    html.put(format_args!("<h2>Backends, the last minute</h2>"));
    if is_changeable {
        put_row_form(html, form);
    }
    html.put(format_args!(
        "<table class=backends><thead><tr><th scope=col>backend<th scope=col>state<th scope=col>wins<th scope=col>p50 / p99\
         <th scope=col>failed<th scope=col class=t>last success<th scope=col class=n>saved<th scope=col class=n>rescued<th scope=col>\
         </tr></thead><tbody>"
    ));
    for (backend, minute) in rows {
        put_backend(html, backend, minute, (wins, slowest, facts), now);
        if is_changeable {
            put_buttons(html, &backend.name, &backend.url, backend.state);
        }
        html.put(format_args!("</tr>"));
    }
    html.put(format_args!("</tbody></table>"));
}

/// The worst come first: those that fail or are held, then those that fail most; of those that are well the one that wins most.
fn rank(backend: &BackendSample, minute: &BackendMinute) -> (u8, Reverse<u64>, Reverse<u64>) {
    let class = match backend.state {
        BackendState::Paused => 3,
        BackendState::Held | BackendState::Benched => 0,
        BackendState::Racing if has_no_address(backend) => 0,
        BackendState::Racing if minute.count_of(&ANSWERS) == 0 && !minute.failures().is_empty() => 0,
        BackendState::Racing if !minute.failures().is_empty() || minute.broken > 0 => 1,
        BackendState::Racing => 2,
    };
    let failures = minute.failures().iter().map(|(_, count)| count).sum();
    (class, Reverse(failures), Reverse(minute.count_of(&["won"])))
}

#[expect(clippy::cast_precision_loss, reason = "what a person reads")]
fn put_backend(
    html: &mut Html,
    backend: &BackendSample,
    minute: &BackendMinute,
    (wins, slowest, facts): (u64, Duration, &Facts),
    now: SystemTime,
) {
    let won = minute.count_of(&["won"]);
    let share = if wins == 0 { 0.0 } else { 100.0 * won as f64 / wins as f64 };
    let (class, state) = state_of(backend, minute, facts.has_answers(now), facts.has_looks, now);
    let failures =
        minute.failures().iter().map(|(word, count)| format!("{word} ×{}", grouped(*count))).collect::<Vec<_>>();
    let last = backend.stats.last_success().map_or_else(
        || if has_hidden_ends(backend, facts.has_looks) { "not known" } else { "never" }.to_owned(),
        |then| format!("{} ago", spoken(now.duration_since(then).unwrap_or_default())),
    );
    let insecure = if backend.is_insecure { " <b class=bad>insecure</b>" } else { "" };
    html.put(format_args!(
        "<tr><th scope=row>{}<small>{}{insecure}{}{}{}</small><td class={class}>{state}<td class=t>{share:.0} %",
        Escaped(&backend.name),
        Escaped(&backend.url),
        told_addresses(backend),
        told_broken(minute) + &told_differing(minute),
        without(minute, &facts.minute).map_or_else(String::new, |told| format!("<br>{told}")),
    ));
    html.put(format_args!(
        "<svg class=span aria-hidden=true><rect class=rest width=100% height=6 /><rect class=win width={share:.1}% height=6 /></svg><td class=t>"
    ));
    put_span(html, minute, slowest);
    html.put(format_args!(
        "<td class={}>{}<td class=t>{last}<td class=n>{}<td class=n>{}<td class=act>",
        if failures.is_empty() { "dim" } else { "bad" },
        if failures.is_empty() { "–".to_owned() } else { Escaped(&failures.join(", ")).to_string() },
        spoken_or_dash(Some(minute.saved).filter(|saved| !saved.is_zero())),
        if minute.rescues == 0 { "–".to_owned() } else { grouped(minute.rescues) }
    ));
}

/// How many of the backend's answers broke off midway, if one did.
fn told_broken(minute: &BackendMinute) -> String {
    match minute.broken {
        0 => String::new(),
        1 => "<br><b class=bad>1 answer broke off midway</b>".to_owned(),
        count => format!("<br><b class=bad>{} answers broke off midway</b>", grouped(count)),
    }
}

/// How often the backend's late successes say something else of their content than the winners', if they do.
fn told_differing(minute: &BackendMinute) -> String {
    let late = minute.count_of(&["late"]).max(minute.differing);
    if minute.differing == 0 {
        return String::new();
    }
    let percent = (100 * minute.differing).div_ceil(late);
    format!("<br><b class=warn>differs in {percent} % of its late answers</b>")
}

/// The addresses of a backend's name, if each of them is one: those that aren't asked with their state.
fn told_addresses(backend: &BackendSample) -> String {
    let Some(addresses) = &backend.addresses else { return String::new() };
    let told = |(address, state): &(IpAddr, BackendState)| match state {
        BackendState::Held | BackendState::Benched => format!("{address} <b class=bad>{}</b>", state.word()),
        BackendState::Racing | BackendState::Paused => address.to_string(),
    };
    format!("<br>{}", addresses.iter().map(told).collect::<Vec<_>>().join(", "))
}

/// A backend's times as a box on an axis that all share, so that slow is longer.
fn put_span(html: &mut Html, minute: &BackendMinute, slowest: Duration) {
    html.put(format_args!("{} / {}", spoken_or_dash(minute.p50), spoken_or_dash(minute.p99)));
    if let (Some(p50), Some(p99)) = (minute.p50, minute.p99) {
        let at = |time: Duration| 100.0 * time.as_secs_f64() / slowest.as_secs_f64().max(0.000_001);
        html.put(format_args!(
            "<svg class=span aria-hidden=true><rect class=rest width=100% height=6 /><rect class=pale width={:.1}% height=6 />\
             <rect class=bar width={:.1}% height=6 /></svg>",
            at(p99).max(1.0),
            at(p50).max(1.0)
        ));
    }
}

/// Its class of colour, and its state in words.
fn state_of(
    backend: &BackendSample,
    minute: &BackendMinute,
    has_answers: bool,
    has_looks: bool,
    now: SystemTime,
) -> (&'static str, Cow<'static, str>) {
    let answers = has_answered(backend, minute, now);
    let (class, state) = match backend.state {
        BackendState::Paused => ("dim", "paused"),
        _ if has_no_address(backend) => ("bad", "no address of its name is known"),
        BackendState::Held => ("bad", "held: it hangs, and is asked little until it answers"),
        BackendState::Benched => return ("bad", told_bench(backend, now).into()),
        BackendState::Racing if answers && minute.failures().is_empty() && minute.broken == 0 => ("good", "answers"),
        BackendState::Racing if answers => ("warn", "answers, but not always"),
        BackendState::Racing if !minute.failures().is_empty() => ("bad", "fails"),
        BackendState::Racing if !was_asked(minute) => ("dim", "not asked"),
        // No winner has cut its legs.
        BackendState::Racing if !has_answers => ("warn", "no answer before its clients left"),
        BackendState::Racing if is_unknown(minute, has_looks) => ("dim", NOT_KNOWN),
        BackendState::Racing => ("dim", "slower than the winners"),
    };
    (class, state.into())
}

fn told_bench(backend: &BackendSample, now: SystemTime) -> String {
    let was_asked_for = backend.benched.is_some_and(|benched| benched.was_asked_for);
    let why = if was_asked_for { "it has asked for a pause" } else { "it has failed often in a row" };
    let left = backend.benched.and_then(|benched| benched.until.duration_since(now).ok());
    match left {
        _ if backend.benched.is_some_and(|benched| benched.is_probed) => {
            format!("benched, and asked by a probe now: {why}")
        }
        Some(left) => format!("benched for {} more, then asked by a probe: {why}", spoken(left)),
        None => format!("benched; the next request probes it: {why}"),
    }
}

/// The races: first those that teach something, then the latest.
fn put_races(html: &mut Html, races: &[Arc<RecentRace>], unanswered: usize) {
    let latest: Vec<&RecentRace> = races.iter().map(|race| &**race).take(LATEST_MAX).collect();
    let noteworthy: Vec<&RecentRace> =
        races.iter().map(|race| &**race).filter(|race| race.note.is_some()).take(NOTEWORTHY_MAX).collect();
    put_marks(html);
    if unanswered > 0 {
        let (legs, them) = if unanswered == 1 { ("1 leg is", "its race") } else { ("legs are", "their races") };
        let count = if unanswered == 1 { String::new() } else { format!("{} ", grouped(unanswered as u64)) };
        html.put(format_args!(
            "<p class=dim>{count}{legs} still out: {them} will be here once every leg has ended.</p>"
        ));
    }
    for (label, list) in [("Noteworthy races", noteworthy), ("Latest races", latest)] {
        if list.is_empty() {
            continue;
        }
        let scale = scale_of(&list);
        html.put(format_args!("<h2>{label}</h2>"));
        put_axis(html, scale);
        for race in list {
            put_race(html, race, scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::metrics::{BackendStats, Benched};

    fn backend(state: BackendState) -> BackendSample {
        BackendSample {
            label: "b1".to_owned(),
            name: "b1".to_owned(),
            url: "http://a".to_owned(),
            stats: Arc::new(BackendStats::new(UNIX_EPOCH)),
            is_insecure: false,
            state,
            benched: None,
            unanswered: 0,
            addresses: None,
        }
    }

    #[test]
    fn a_backend_is_called_what_its_last_minute_shows() {
        type Ends = &'static [(&'static str, u64)];
        let rows: [(Ends, bool, &str); 8] = [
            (&[("won", 1), ("cancelled", 9)], true, "answers"),
            (&[("late", 1), ("timeout", 1)], true, "answers, but not always"),
            (&[("timeout", 1), ("cancelled", 9)], false, "fails"),
            (&[], false, "not asked"),
            (&[("skipped", 9)], true, "not asked"),
            (&[("cancelled", 9)], true, "slower than the winners"),
            (&[("cancelled", 9)], false, "not known: losers don't linger"),
            (&[("cancelled", 9), ("skipped", 1)], false, "not known: losers don't linger"),
        ];
        for (ends, has_looks, expected) in rows {
            let minute = BackendMinute { ends: ends.to_vec(), ..BackendMinute::default() };
            let (_, state) = state_of(&backend(BackendState::Racing), &minute, true, has_looks, UNIX_EPOCH);
            assert_eq!(state, expected, "{ends:?} {has_looks}");
        }
    }

    /// Its legs count at their end.
    #[test]
    fn a_backend_answers_whose_streams_are_under_way() {
        let backend = backend(BackendState::Racing);
        backend.stats.note_success(UNIX_EPOCH + Duration::from_secs(1));
        for (seconds, expected) in [(61, "answers"), (62, "not asked")] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            let (_, state) = state_of(&backend, &BackendMinute::default(), true, true, now);
            assert_eq!(state, expected, "after {seconds} s");
        }
    }

    /// Was seen as: "slower than the winners" of backends that all hung.
    #[test]
    fn where_no_race_was_answered_no_backend_is_slower_than_a_winner() {
        let rows: [(&[_], &str); 3] = [
            (&[("cancelled", 9)], "no answer before its clients left"),
            (&[("cancelled", 9), ("refused", 1)], "fails"),
            (&[("skipped", 9)], "not asked"),
        ];
        for (ends, expected) in rows {
            let minute = BackendMinute { ends: ends.to_vec(), ..BackendMinute::default() };
            for has_looks in [false, true] {
                let (_, state) = state_of(&backend(BackendState::Racing), &minute, false, has_looks, UNIX_EPOCH);
                assert_eq!(state, expected, "{ends:?} {has_looks}");
            }
        }
    }

    /// Was seen as: "asked by a probe now" of a bench that was over, while no request came.
    #[test]
    fn a_bench_is_told_with_who_probes_it_and_when() {
        let now = UNIX_EPOCH + Duration::from_secs(60);
        let second = Duration::from_secs(1);
        let rows = [
            (now + 34 * second, false, "benched for 34 s more, then asked by a probe: it has failed often in a row"),
            (now - second, false, "benched; the next request probes it: it has failed often in a row"),
            (now - second, true, "benched, and asked by a probe now: it has failed often in a row"),
        ];
        for (until, is_probed, expected) in rows {
            let benched = Some(Benched { until, is_probed, was_asked_for: false, times: 1 });
            let told = told_bench(&BackendSample { benched, ..backend(BackendState::Benched) }, now);
            assert_eq!(told, expected);
        }
    }
}
