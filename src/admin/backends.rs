//! `/backends`: the list with what each backend has done, and its changes. Knows nothing of who may ask.

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;

use super::form;
use super::secret::Secret;
use crate::list::{BackendList, BadChange, BadStart, Change};
use crate::message::{
    Address, EntryOptions, Excerpt, Json, ListEntry, Refusal, Reply, Request, Timestamp, prefers_json, same_name,
    too_many,
};
use crate::metrics::{BackendState, BackendStats, Benched, bench_reason, is_failure};
use crate::upstream::Backend;

/// The most changes at once.
const CHANGES_MAX: usize = 64;

/// The verbs, as a complaint tells them.
const VERBS: &str = "use add, remove, pause, resume or replace";

/// The field of a form's token.
pub(super) const TOKEN: &str = "token";

/// Makes the changes that a request asks for, all of them or none. With a token it must be among the fields. What is resumed is
/// benched no more, either; `listed` gives the backends in force.
pub(super) fn change(
    request: &Request,
    token: Option<&Secret>,
    list: &BackendList,
    listed: impl FnOnce() -> Vec<Arc<Backend>>,
) -> Result<(), Refusal> {
    let fields = form::fields(request)?;
    let (tokens, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == TOKEN);
    if token.is_some_and(|token| tokens.len() != 1 || !token.is(tokens[0].1.as_bytes())) {
        let why =
            "the form is from before the last start of the program, or from another page: send it again from here";
        return Err(Refusal::Forbidden(why.to_owned()));
    }
    if fields.is_empty() {
        return Err(Refusal::BadChange(format!("No field: {VERBS}")));
    }
    if fields.len() > CHANGES_MAX {
        return Err(Refusal::BadChange(format!("More than {CHANGES_MAX} fields")));
    }
    let changes = fields.into_iter().map(change_of).collect::<Result<Vec<_>, _>>()?;
    let who_resumes =
        |change: &Change| if let Change::Resume(who) = change { Some(who.trim().to_owned()) } else { None };
    let resumed: Vec<String> = changes.iter().filter_map(who_resumes).collect();
    // By the names that its sender saw.
    let before = if resumed.is_empty() { Vec::new() } else { listed() };
    list.change(changes).map_err(refusal)?;
    for who in resumed {
        end_bench(&before, &who);
    }
    Ok(())
}

fn end_bench(backends: &[Arc<Backend>], who: &str) {
    let address = Address::parse(who).ok();
    let is_it = |backend: &Backend| backend.name() == who || address.as_ref() == Some(backend.address());
    for backend in backends.iter().filter(|backend| is_it(backend)) {
        for one in iter::once(backend).chain(backend.each().into_iter().flatten()) {
            if one.bench().resume() {
                log::info!("{} {} races again, as an operator has said", one.full_name(), one.address());
            }
        }
    }
}

fn change_of((verb, value): (String, String)) -> Result<Change, Refusal> {
    Ok(match verb.as_str() {
        // The page's own: it shows the list, and may have done so a while ago.
        "seen" => Change::Seen(value),
        "replace" => Change::Replace(form::entries(&value)?),
        "add" => Change::Add(form::entries(&value)?),
        "remove" => Change::Remove(value),
        "pause" => Change::Pause(value),
        "resume" => Change::Resume(value),
        _ => return Err(Refusal::BadChange(format!("Unknown field '{}': {VERBS}", Excerpt(&verb)))),
    })
}

/// The refusal of a change.
pub(super) fn refusal(bad: BadChange) -> Refusal {
    match bad {
        BadChange::Unseen => Refusal::Conflict(
            "The list has changed since this page showed it: look at it, and send yours again to put it in its place"
                .to_owned(),
        ),
        BadChange::Unlisted(who, names) => {
            Refusal::NoSuchBackend(format!("No backend '{}': there are {}", Excerpt(&who), names.join(", ")))
        }
        BadChange::SameName(name) => Refusal::Conflict(capitalised(&same_name(&name))),
        BadChange::NothingLeft(paused) => {
            let why = match paused.as_slice() {
                [] => String::new(),
                [one] => format!(": {one} is paused; resume it"),
                several => format!(": {} are paused; resume one", several.join(", ")),
            };
            Refusal::Conflict(format!("That would leave no backend to ask{why}"))
        }
        BadChange::Start(bad @ BadStart::NoneAtOnce) => Refusal::Conflict(capitalised(&bad.to_string())),
        BadChange::KeptAfter(name, after) => {
            Refusal::Conflict(format!("No backend starts at once: {name} keeps its after={after}; write after=0s"))
        }
        BadChange::Start(bad @ BadStart::TooLate(..)) => Refusal::BadBackends(bad.to_string()),
        BadChange::Local(option) => Refusal::BadChange(format!(
            "'{option}' can't be set over HTTP: write it where the list is kept, or in the flag or the environment"
        )),
        BadChange::Options(why) => Refusal::BadBackends(why),
        BadChange::TooMany(count) => Refusal::BadBackends(too_many(count)),
        BadChange::NotKept(why) => Refusal::Conflict(why),
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The list in the form that the client prefers: a table for people, or JSON.
pub(super) fn shown(request: &Request, list: &BackendList, backends: &[Arc<Backend>]) -> Reply {
    let rows = rows_of(backends, &list.entries());
    if prefers_json(&request.headers) {
        return Reply::typed(StatusCode::OK, "application/json", in_json(list, &rows).to_string());
    }
    Reply::text(StatusCode::OK, table(&rows))
}

/// A refusal as JSON (RFC 9457).
pub(super) fn problem(refusal: &Refusal) -> Reply {
    let details = refusal.details().join("\n");
    refusal.problem(("detail", (!details.is_empty()).then_some(details).into()))
}

/// What is told of one backend.
struct Row {
    name: String,
    url: String,
    state: BackendState,
    benched: Option<Benched>,
    is_insecure: bool,
    /// When its legs start.
    after: String,
    /// What else the list says of it than its name and that it is paused.
    options: String,
    legs: u64,
    won: u64,
    late: u64,
    failed: u64,
    saved_s: f64,
    rescued: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    last_success: Option<SystemTime>,
    last_failure: Option<(SystemTime, &'static str)>,
    /// The addresses of its name, if each of them is a backend.
    addresses: Option<Vec<(IpAddr, BackendState)>>,
}

/// A row for each backend of the list.
fn rows_of(backends: &[Arc<Backend>], entries: &[ListEntry]) -> Vec<Row> {
    let row_of = |backend: &Arc<Backend>| {
        let entry = entries.iter().find(|entry| entry.address == *backend.address());
        Row { options: entry.map_or_else(String::new, told_options), ..Row::of(backend) }
    };
    backends.iter().map(row_of).collect()
}

/// The options of an entry, as they would be written, but for what has columns of its own.
fn told_options(entry: &ListEntry) -> String {
    let options = EntryOptions { name: None, is_paused: false, ..entry.options.clone() };
    options.to_string().trim_start().to_owned()
}

impl Row {
    fn of(backend: &Backend) -> Row {
        let state = backend.state();
        let row = Row::counted(backend.name(), &backend.address().to_string(), state, backend.stats());
        let (benched, addresses) = (backend.benched(state), backend.addresses());
        let after = backend.after().map_or_else(|| row.after.clone(), |after| after.to_string());
        Row { is_insecure: backend.is_insecure(), after, benched, addresses, ..row }
    }

    fn counted(name: &str, url: &str, state: BackendState, counts: &BackendStats) -> Row {
        let sum = |is_counted: &dyn Fn(&str) -> bool| {
            counts.ends().filter(|(end, _)| is_counted(end)).map(|(_, count)| count).sum::<u64>()
        };
        let answers = counts.answers().snapshot();
        // To a hundredth: its buckets are coarser than that.
        let quantile =
            |share| answers.quantile(share).map(|duration| (duration.as_secs_f64() * 100_000.0).round() / 100.0);
        Row {
            name: name.to_owned(),
            url: url.to_owned(),
            state,
            benched: None,
            is_insecure: false,
            after: "0s".to_owned(),
            options: String::new(),
            legs: sum(&|end| end != "skipped"),
            won: sum(&|end| end == "won"),
            late: sum(&|end| end == "late"),
            failed: sum(&is_failure),
            saved_s: (counts.saved().as_secs_f64() * 1000.0).round() / 1000.0,
            rescued: counts.rescues(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            last_success: counts.last_success(),
            last_failure: counts.last_failure(),
            addresses: None,
        }
    }

    /// Its state, and that its certificate isn't checked.
    fn told_state(&self) -> String {
        format!("{}{}", self.state.word(), if self.is_insecure { ", insecure" } else { "" })
    }
}

fn in_json(list: &BackendList, rows: &[Row]) -> Json {
    let moment = |at| Json::from(Timestamp(at).to_string());
    let address = |(address, state): &(IpAddr, BackendState)| {
        Json::object([("address", address.to_string().into()), ("state", state.word().into())])
    };
    let backend = |row: &Row| {
        let benched = row.benched.map(|benched| {
            let times = u64::from(benched.times).into();
            Json::object([
                ("until", moment(benched.until)),
                ("why", bench_reason(benched.was_asked_for).into()),
                ("times", times),
            ])
        });
        let failure =
            row.last_failure.map(|(at, outcome)| Json::object([("at", moment(at)), ("outcome", outcome.into())]));
        Json::object([
            ("name", row.name.as_str().into()),
            ("url", row.url.as_str().into()),
            ("state", row.state.word().into()),
            ("insecure", row.is_insecure.into()),
            ("after", row.after.as_str().into()),
            ("options", row.options.as_str().into()),
            ("legs", row.legs.into()),
            ("won", row.won.into()),
            ("late", row.late.into()),
            ("failed", row.failed.into()),
            ("saved_s", row.saved_s.into()),
            ("rescued", row.rescued.into()),
            ("p50_ms", row.p50_ms.into()),
            ("p99_ms", row.p99_ms.into()),
            ("last_success", row.last_success.map(moment).into()),
            ("last_failure", failure.into()),
            ("benched", benched.into()),
            (
                "addresses",
                row.addresses.as_ref().map(|addresses| addresses.iter().map(address).collect::<Json>()).into(),
            ),
        ])
    };
    Json::object([
        ("changed", moment(list.changed())),
        ("kept_in", list.kept_in().into()),
        ("backends", rows.iter().map(backend).collect()),
    ])
}

/// Columns as wide as their widest text, numbers to the right. A backend's addresses follow it.
fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 12] =
        ["name", "url", "state", "legs", "won", "late", "failed", "saved", "rescued", "p50", "p99", "options"];
    let millis = |millis: Option<f64>| millis.map_or("-".to_owned(), |millis| format!("{millis}ms"));
    let mut lines = vec![HEAD.map(str::to_owned)];
    for row in rows {
        lines.push([
            row.name.clone(),
            row.url.clone(),
            row.told_state(),
            row.legs.to_string(),
            row.won.to_string(),
            row.late.to_string(),
            row.failed.to_string(),
            format!("{}s", row.saved_s),
            row.rescued.to_string(),
            millis(row.p50_ms),
            millis(row.p99_ms),
            row.options.clone(),
        ]);
        for (address, state) in row.addresses.iter().flatten() {
            let mut line = <[String; 12]>::default();
            (line[0], line[2]) = (format!("{}@{address}", row.name), state.word().to_owned());
            lines.push(line);
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let cell = |(column, text): (usize, &String)| match column {
        0..=2 | 11 => format!("{text:<width$}", width = widths[column]),
        _ => format!("{text:>width$}", width = widths[column]),
    };
    let line =
        |line: &[String; 12]| line.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::message::{Outcome, parse_entries};
    use crate::metrics::{Gain, LegEnd};

    fn rows() -> Vec<Row> {
        let stats = BackendStats::new(UNIX_EPOCH);
        let (ok, bad) = (Outcome::Status(StatusCode::OK), Outcome::Status(StatusCode::BAD_GATEWAY));
        let leg = |outcome, is_success, has_won| LegEnd {
            outcome,
            has_won,
            is_success,
            started: Duration::ZERO,
            ended: Duration::from_millis(10),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_795_489_928);
        for end in [
            leg(&ok, true, true),
            leg(&ok, true, false),
            leg(&bad, false, false),
            leg(&Outcome::Cancelled, false, false),
            leg(&Outcome::Skipped, false, false),
        ] {
            stats.count(&end, now);
        }
        stats.note_success(now);
        stats.count_gain(Gain::Saved(Duration::from_millis(1500)), Duration::from_millis(10));
        let fresh = BackendStats::new(UNIX_EPOCH);
        let addresses = [("10.0.0.4", BackendState::Racing), ("fd00::7", BackendState::Benched)];
        let addresses = addresses.map(|(address, state)| (address.parse().expect(address), state)).to_vec();
        let benched = Some(Benched { until: now, is_probed: false, was_asked_for: true, times: 3 });
        let of_each = Row::counted("b2", "https://longer.example/base", BackendState::Racing, &fresh);
        vec![
            Row {
                benched,
                after: "100ms".to_owned(),
                options: "after=100ms timeout=2s".to_owned(),
                ..Row::counted("dc1", "http://a", BackendState::Benched, &stats)
            },
            Row { addresses: Some(addresses), ..of_each },
        ]
    }

    #[test]
    fn a_table_lines_up() {
        let expected = "\
name         url                          state    legs  won  late  failed  saved  rescued      p50      p99  options
dc1          http://a                     benched     4    1     1       1   1.5s        0  10.24ms  10.24ms  after=100ms timeout=2s
b2           https://longer.example/base  racing      0    0     0       0     0s        0        -        -
b2@10.0.0.4                               racing
b2@fd00::7                                benched";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn the_list_as_json_has_what_its_table_has_and_moments() {
        let list = BackendList::new(parse_entries("http://a").expect("a list"), None, Box::new(|_| {}));
        let text = in_json(&list, &rows()).to_string();
        let expected = r#""kept_in":null,"backends":[{"name":"dc1","url":"http://a","state":"benched","insecure":false,"after":"100ms","options":"after=100ms timeout=2s","legs":4,"won":1,"late":1,"failed":1,"saved_s":1.5,"rescued":0,"p50_ms":10.24,"p99_ms":10.24,"last_success":"2026-11-24T03:12:08.000Z","last_failure":{"at":"2026-11-24T03:12:08.000Z","outcome":"5xx"},"benched":{"until":"2026-11-24T03:12:08.000Z","why":"retry-after","times":3},"addresses":null},{"name":"b2","url":"https://longer.example/base","state":"racing","insecure":false,"after":"0s","options":"","legs":0,"won":0,"late":0,"failed":0,"saved_s":0,"rescued":0,"p50_ms":null,"p99_ms":null,"last_success":null,"last_failure":null,"benched":null,"addresses":[{"address":"10.0.0.4","state":"racing"},{"address":"fd00::7","state":"benched"}]}]}"#;
        assert!(text.starts_with("{\"changed\":\"20") && text.ends_with(expected), "{text}");
    }

    #[test]
    fn each_wrong_change_has_its_answer() {
        let many = "pause=b1&".repeat(65);
        let rows = [
            ("no field", "", 400, "No field: use add, remove, pause, resume or replace"),
            ("an unknown field", "delete=b1", 400, "Unknown field 'delete': use add, remove, pause, resume or replace"),
            ("too many", many.as_str(), 400, "More than 64 fields"),
            ("an unknown name", "pause=dc9", 404, "No backend 'dc9': there are dc1, b2"),
            ("a name twice", "add=http://c name=dc1", 409, "Two backends would be named 'dc1'"),
            ("nothing left", "pause=dc1&pause=b2", 409, "That would leave no backend to ask"),
            ("an empty list", "replace=", 400, "No backends provided"),
            ("a bad entry", "add=http://c aftr=1s", 400, "Backends not updated: the list stays as it was"),
            ("a good one before a bad one", "remove=b2&pause=x", 404, "No backend 'x': there are dc1"),
        ];
        for (label, form, status, sentence) in rows {
            let entries = parse_entries("http://a name=dc1,http://b").expect("a list");
            let list = BackendList::new(entries, None, Box::new(|_| panic!("it was changed")));
            let request = crate::admin::request("POST", "/backends", &[], form.replace(' ', "+").as_bytes());
            let refusal = change(&request, None, &list, Vec::new).expect_err(label);
            assert_eq!((refusal.status().as_u16(), refusal.sentence()), (status, sentence), "{label}");
        }
    }

    /// Was seen as: an update of one URL was refused as none, without a word of the pause that it had kept.
    #[test]
    fn a_change_that_would_leave_none_is_told_who_is_paused() {
        let one = "That would leave no backend to ask: dc1 is paused; resume it";
        let several = "That would leave no backend to ask: dc1, b2 are paused; resume one";
        for (form, sentence) in [("replace=http://a", one), ("remove=b3", several)] {
            let entries = parse_entries("http://a name=dc1 paused,http://b paused,http://c").expect("a list");
            let list = BackendList::new(entries, None, Box::new(|_| panic!("it was changed")));
            let request = crate::admin::request("POST", "/backends", &[], form.as_bytes());
            let refusal = change(&request, None, &list, Vec::new).expect_err(form);
            assert_eq!((refusal.status().as_u16(), refusal.sentence()), (409, sentence));
        }
    }

    #[test]
    fn an_entry_s_options_are_told_but_for_what_has_its_own_column() {
        let rows = [
            ("http://a", ""),
            ("http://a name=x paused", ""),
            ("http://a paused timeout=2s name=x after=100ms", "after=100ms timeout=2s"),
            ("http://a.example each", "each"),
            ("https://a socket=/run/a insecure", "socket=/run/a insecure"),
        ];
        for (entry, options) in rows {
            assert_eq!(told_options(&parse_entries(entry).expect(entry)[0]), options, "{entry}");
        }
    }
}
