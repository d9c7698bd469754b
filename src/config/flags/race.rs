//! The race: its backends, its winners, and its losers.

use std::num::NonZeroU32;

use super::flag::{ENTRIES_MAX, Flag};
use crate::config::{LoseIf, OnFailure, Statuses, values};
use crate::message::shown_path;

/// The most unanswered requests. Each costs a connection, of which no host has more to one address.
const UNANSWERED_MAX: usize = 1 << 16;

/// The most failures in a row: more would never come together.
const FAILURES_MAX: u32 = 1000;

/// Whether an answer wins by the first byte of its body.
const WIN_ON: [(&str, bool); 2] = [("head", false), ("byte", true)];

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "backends",
        env: "BACKEND_SERVERS",
        value: "URL,...",
        default: "",
        help: "The backends, at most 64: http://a,https://b:8443/base; behind a URL may stand name=NAME, after=200ms or p95, timeout=1s, each, exact, paused; or socket=, header-file=, ca=, cert=, insecure",
        set: |draft, text| values::backends(text).map(|backends| draft.config.backends = backends),
        show: |draft| {
            if draft.demo { "(the demo's own)".to_owned() } else { values::show_list(&draft.config.backends) }
        },
    },
    Flag {
        name: "backends-file",
        env: "RED_TENTACLE_BACKENDS_FILE",
        value: "FILE",
        default: "",
        help: "Where the list is kept: if it exists, it is the list; updates are written to it, SIGHUP reads it again",
        set: |draft, text| {
            if text.is_empty() {
                return Err(values::bad(text, "no file; write /etc/red-tentacle/backends, say"));
            }
            draft.backends_file = Some(text.into());
            Ok(())
        },
        show: |draft| match &draft.backends_file {
            Some(path) if !draft.demo => shown_path(path),
            _ => "(none)".to_owned(),
        },
    },
    Flag {
        name: "success",
        env: "RED_TENTACLE_SUCCESS",
        value: "CODES",
        default: "200-299",
        help: "Which answers win: 200-299,304 (304 always wins a conditional request)",
        set: |draft, text| Statuses::parse(text).map(|statuses| draft.config.success = statuses),
        show: |draft| draft.config.success.to_string(),
    },
    Flag {
        name: "final",
        env: "RED_TENTACLE_FINAL",
        value: "CODES",
        default: "",
        help: "Which failures end a race and go to the client: 404,410; the quickest of them beats a slower success",
        set: |draft, text| Statuses::parse_failures(text).map(|statuses| draft.config.definitive = statuses),
        show: |draft| values::show_or_none(draft.config.definitive.to_string()),
    },
    Flag {
        name: "on-failure",
        env: "RED_TENTACLE_ON_FAILURE",
        value: "WAY",
        default: "bad-gateway",
        help: "What a client gets if none wins: bad-gateway; best, the answer that says most; best..500ms, that soon after the first 4xx",
        set: |draft, text| OnFailure::parse(text).map(|way| draft.config.on_failure = way),
        show: |draft| draft.config.on_failure.to_string(),
    },
    Flag {
        name: "lose-if",
        env: "RED_TENTACLE_LOSE_IF",
        value: "RULE...",
        default: "",
        help: "Which answers lose that would win, by up to 8 rules, a flag or a line each: header NAME, header NAME ~ PATTERN, body ~ PATTERN",
        set: |draft, text| LoseIf::parse(text).map(|rules| draft.config.lose_if = rules),
        show: |draft| values::show_or_none(draft.config.lose_if.to_string()),
    },
    Flag {
        name: "win-on",
        env: "RED_TENTACLE_WIN_ON",
        value: "head|byte",
        default: "head",
        help: "What an answer wins by: its head, or the first byte of its body, where comments of an event stream don't count",
        set: |draft, text| values::either(text, WIN_ON).map(|on_byte| draft.config.win_on_byte = on_byte),
        show: |draft| values::show_either(draft.config.win_on_byte, WIN_ON),
    },
    Flag {
        name: "race-methods",
        env: "RED_TENTACLE_RACE_METHODS",
        value: "METHOD,...",
        default: "",
        help: "The methods that are raced, all without it; others go to one backend, whose answer is the reply: GET,HEAD",
        set: |draft, text| {
            values::entries(text, ENTRIES_MAX, values::method).map(|methods| draft.config.race_methods = Some(methods))
        },
        show: |draft| match &draft.config.race_methods {
            Some(methods) => values::show_list(methods),
            None => "(all)".to_owned(),
        },
    },
    Flag {
        name: "linger",
        env: "RED_TENTACLE_LINGER",
        value: "DURATION",
        default: "200ms",
        help: "How long losers of GET, HEAD, OPTIONS and TRACE may still finish, for their connections' sake",
        set: |draft, text| values::duration(text).map(|time| draft.config.linger = time),
        show: |draft| values::show_duration(draft.config.linger),
    },
    Flag {
        name: "linger-unsafe",
        env: "RED_TENTACLE_LINGER_UNSAFE",
        value: "DURATION",
        default: "the timeout",
        help: "How long losers of other methods may, so that the request reaches every backend; 0s cancels them, which costs a connection and a handshake each and favours the last winner",
        set: |draft, text| values::duration(text).map(|time| draft.linger_unsafe = Some(time)),
        show: |draft| values::show_duration(draft.config.linger_unsafe),
    },
    Flag {
        name: "max-unanswered",
        env: "RED_TENTACLE_MAX_UNANSWERED",
        value: "COUNT",
        default: "128",
        help: "Losers that may wait in vain at one backend before it gets no more legs; 8 times as many if it answers others. One that hangs is asked once a second",
        set: |draft, text| {
            draft.config.max_unanswered = values::count(text, 1, UNANSWERED_MAX, draft.config.max_unanswered.get())?;
            Ok(())
        },
        show: |draft| draft.config.max_unanswered.to_string(),
    },
    Flag {
        name: "bench",
        env: "RED_TENTACLE_BENCH",
        value: "COUNT|off",
        default: "off",
        help: "Failures in a row after which a backend sits out, for 1s and then for longer; POST doesn't reach it either",
        set: |draft, text| {
            draft.config.bench = match text.to_ascii_lowercase().as_str() {
                "off" => None,
                _ => Some(bench(text)?),
            };
            Ok(())
        },
        show: |draft| draft.config.bench.map_or_else(|| "off".to_owned(), |count| count.to_string()),
    },
];

/// A count of failures. One is no row: a backend that is restarted would be benched by each request.
fn bench(text: &str) -> Result<NonZeroU32, String> {
    let count = text.parse().ok().filter(|count: &NonZeroU32| (2..=FAILURES_MAX).contains(&count.get()));
    count.filter(|_| !text.starts_with('+')).ok_or_else(|| {
        values::bad(text, format_args!("neither off nor a whole number from 2 to {FAILURES_MAX}; write 5, say"))
    })
}
