//! `Proxy-Status` (RFC 9209): which backend a reply is from and how it won, or why there is no answer. Pure: values in, a
//! field's value out.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::field::values_of;
use super::loss::LostLeg;
use super::outcome::Outcome;
use super::refusal::Refusal;

/// The field. Proxies nearer to the client append theirs.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The member's name.
const OWN: &str = "red-tentacle";
/// The longest account of a loss, in bytes: a list of 64 backends would fill a client's room for heads.
const DETAILS_BYTES_MAX: usize = 512;

/// Appends this proxy's account to those of the proxies behind it. Theirs are dropped if one leaves a string open: it would swallow
/// ours, and a client ignores a field that can't be parsed as a whole (RFC 9651 §4.2).
pub fn append(headers: &mut HeaderMap, own: HeaderValue) {
    if !values_of(headers, &PROXY_STATUS).all(|value| closes_its_strings(value.as_bytes())) {
        headers.remove(PROXY_STATUS);
    }
    headers.append(PROXY_STATUS, own);
}

fn closes_its_strings(value: &[u8]) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    !in_string
}

/// How a leg came to answer the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was the first success.
    Won,
    /// It was that, and started after the race's begin, since its time had come.
    Hedge,
    /// It was that, and started since all legs before it had lost.
    Failover,
    /// Its answer is no success, and ended the race all the same.
    Final,
    /// No leg succeeded, and its answer said most.
    Best,
}

impl How {
    /// Its word, as the log and `Proxy-Status` use it.
    pub fn word(self) -> &'static str {
        match self {
            How::Won => "won",
            How::Hedge => "hedge",
            How::Failover => "failover",
            How::Final => "final",
            How::Best => "best",
        }
    }
}

/// A leg's victory.
#[derive(Debug, Clone, Copy)]
pub struct Victory<'a> {
    /// The backend, as clients may know it.
    pub next_hop: &'a str,
    /// The status of its answer.
    pub status: StatusCode,
    /// How it came to answer.
    pub how: How,
    /// From the request's arrival to the head of the answer.
    pub after: Duration,
    /// The count of legs that were started.
    pub legs: usize,
}

/// Tells of a victory: `red-tentacle; next-hop=b2; received-status=200; details="won 12ms of 4"`.
pub fn of_victory(victory: &Victory) -> HeaderValue {
    let mut text = String::with_capacity(96);
    text.push_str(OWN);
    text.push_str("; next-hop=");
    put_token_or_string(&mut text, victory.next_hop);
    for part in ["; received-status=", victory.status.as_str(), "; details=\"", victory.how.word(), " "] {
        text.push_str(part);
    }
    put_elapsed(&mut text, victory.after);
    text.push_str(" of ");
    text.push_str(itoa::Buffer::new().format(victory.legs));
    text.push('"');
    value_of(text)
}

/// Appends a time as [`Elapsed`](super::Elapsed) writes it, without what formatting costs: every reply of a race has one.
fn put_elapsed(text: &mut String, time: Duration) {
    let millis = time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into());
    text.push_str(itoa::Buffer::new().format(millis));
    if millis < 10 {
        text.push('.');
        text.push_str(itoa::Buffer::new().format(time.subsec_micros() / 100 % 10));
    }
    text.push_str("ms");
}

/// Tells of a refusal, the loss of every leg included.
pub fn of_refusal(refusal: &Refusal) -> HeaderValue {
    let error = match (refusal, refusal.status().as_u16()) {
        (Refusal::AllFailed(legs), _) => return of_loss(legs),
        (_, 503) => "connection_limit_reached",
        (_, 508) => "proxy_loop_detected",
        (_, 500 | 507) => "proxy_internal_error",
        _ => "http_request_error",
    };
    value_of(format!("{OWN}; error={error}"))
}

/// `red-tentacle; error=destination_unavailable; details="b1=refused b2=503"`. Legs that all have one status are no error of
/// the way to them.
fn of_loss(legs: &[LostLeg]) -> HeaderValue {
    let mut outcomes = legs.iter().map(|leg| &leg.outcome);
    let mut text = OWN.to_owned();
    match outcomes.next() {
        Some(Outcome::Status(first)) if outcomes.clone().all(|other| *other == Outcome::Status(*first)) => {
            write!(text, "; received-status={}", first.as_str()).expect("a string takes all");
        }
        first => {
            let error = first.and_then(error_of).filter(|error| outcomes.all(|other| error_of(other) == Some(error)));
            write!(text, "; error={}", error.unwrap_or("destination_unavailable")).expect("a string takes all");
        }
    }
    let ends: Vec<String> = legs.iter().map(|leg| format!("{}={}", leg.name, leg.outcome)).collect();
    text.push_str("; details=");
    put_string(&mut text, &cut(ends.join(" ")));
    value_of(text)
}

/// The error type of RFC 9209 §2.3; `None` for an answer, and for what no leg of a lost race ends with.
fn error_of(outcome: &Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::Status(_) | Outcome::Unfit(_) | Outcome::Skipped | Outcome::Unneeded | Outcome::Cancelled => {
            return None;
        }
        Outcome::Refused | Outcome::RefusedAtSocket(_) => "connection_refused",
        Outcome::Unreachable => "destination_ip_unroutable",
        Outcome::ConnectTimeout => "connection_timeout",
        Outcome::Timeout => "http_response_timeout",
        Outcome::Reset | Outcome::Closed => "connection_terminated",
        Outcome::Protocol(_) => "http_protocol_error",
        Outcome::TooLarge => "http_response_header_section_size",
        Outcome::Tls(_) if outcome.is_of_certificate() => "tls_certificate_error",
        Outcome::Tls(_) => "tls_protocol_error",
        Outcome::Dns(_) => "dns_error",
        Outcome::Loop => "proxy_loop_detected",
        Outcome::NoSocket => "connection_limit_reached",
        Outcome::Panic => "proxy_internal_error",
    })
}

fn cut(mut details: String) -> String {
    if details.len() > DETAILS_BYTES_MAX {
        let end = (0..=DETAILS_BYTES_MAX - 3).rev().find(|at| details.is_char_boundary(*at)).unwrap_or(0);
        details.truncate(end);
        details.push_str("...");
    }
    details
}

/// Appends a token if the text is one (RFC 9651 §3.3.4), else a string.
fn put_token_or_string(text: &mut String, value: &str) {
    let is_tail = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let is_token = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*') && value.bytes().all(is_tail);
    if is_token { text.push_str(value) } else { put_string(text, value) }
}

/// Appends a string (RFC 9651 §3.3.3), which has ASCII alone: any other character becomes a question mark.
fn put_string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

fn value_of(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("tokens and strings are ASCII without controls")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Elapsed;

    fn legs(outcomes: &[Outcome]) -> Vec<LostLeg> {
        let leg = |(at, outcome): (usize, &Outcome)| LostLeg {
            name: format!("b{}", at + 1),
            address: None,
            outcome: outcome.clone(),
            after: Duration::ZERO,
        };
        outcomes.iter().enumerate().map(leg).collect()
    }

    fn status(status: u16) -> Outcome {
        Outcome::Status(StatusCode::from_u16(status).expect("a status"))
    }

    fn of(refusal: &Refusal) -> String {
        of_refusal(refusal).to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn a_victory_names_the_backend_and_how_it_won() {
        let after = Duration::from_millis(12);
        let victory = Victory { next_hop: "b2", status: StatusCode::OK, how: How::Won, after, legs: 4 };
        let rows = [
            (victory, "red-tentacle; next-hop=b2; received-status=200; details=\"won 12ms of 4\""),
            (
                Victory {
                    next_hop: "dc2.example:8443",
                    status: StatusCode::SWITCHING_PROTOCOLS,
                    how: How::Failover,
                    after: Duration::from_micros(449),
                    legs: 1,
                },
                "red-tentacle; next-hop=dc2.example:8443; received-status=101; details=\"failover 0.4ms of 1\"",
            ),
            (
                Victory { next_hop: "[::1]:81", ..victory },
                "red-tentacle; next-hop=\"[::1]:81\"; received-status=200; details=\"won 12ms of 4\"",
            ),
            (
                Victory { next_hop: "10.0.0.1", ..victory },
                "red-tentacle; next-hop=\"10.0.0.1\"; received-status=200; details=\"won 12ms of 4\"",
            ),
        ];
        for (victory, expected) in rows {
            assert_eq!(of_victory(&victory), expected);
        }
    }

    #[test]
    fn a_string_that_another_proxy_leaves_open_does_not_swallow_the_own_account() {
        let rows: &[(&[&str], bool)] = &[
            (&[], true),
            (&["a; details=\"b, \\\"c\\\\\"", "d"], true),
            (&["a\\; b"], true),
            (&["\"unterminated; a, b"], false),
            (&["a", "b; details=\"c\\\""], false),
            (&["a; details=\"b", "c\""], false),
        ];
        for (others, are_kept) in rows {
            let mut headers = HeaderMap::new();
            for other in *others {
                headers.append(PROXY_STATUS, HeaderValue::from_static(other));
            }
            append(&mut headers, HeaderValue::from_static("own"));
            let found: Vec<_> = headers.get_all(PROXY_STATUS).into_iter().collect();
            let expected = [if *are_kept { *others } else { &[] }, &["own"]].concat();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_loss_has_the_one_error_on_which_all_legs_agree() {
        let tls = |reason: &str| Outcome::Tls(reason.to_owned());
        let rows = [
            (vec![Outcome::Refused], "error=connection_refused"),
            (vec![Outcome::RefusedAtSocket("/x: no such file".to_owned())], "error=connection_refused"),
            (vec![Outcome::Unreachable, Outcome::Unreachable], "error=destination_ip_unroutable"),
            (vec![Outcome::ConnectTimeout], "error=connection_timeout"),
            (vec![Outcome::Timeout], "error=http_response_timeout"),
            (vec![Outcome::Reset, Outcome::Closed], "error=connection_terminated"),
            (vec![Outcome::Protocol("x".to_owned())], "error=http_protocol_error"),
            (vec![Outcome::TooLarge], "error=http_response_header_section_size"),
            (vec![tls("its certificate has expired")], "error=tls_certificate_error"),
            (vec![tls("the backend gave up")], "error=tls_protocol_error"),
            (vec![tls("its certificate has expired"), tls("x")], "error=destination_unavailable"),
            (vec![Outcome::Dns("x".to_owned())], "error=dns_error"),
            (vec![Outcome::Loop], "error=proxy_loop_detected"),
            (vec![Outcome::NoSocket, Outcome::NoSocket], "error=connection_limit_reached"),
            (vec![Outcome::Panic], "error=proxy_internal_error"),
            (vec![status(503)], "received-status=503"),
            (vec![status(404), status(404)], "received-status=404"),
            (vec![status(404), status(503)], "error=destination_unavailable"),
            (vec![status(503), Outcome::Refused], "error=destination_unavailable"),
            (vec![Outcome::Refused, status(503)], "error=destination_unavailable"),
            (vec![], "error=destination_unavailable"),
        ];
        for (outcomes, expected) in rows {
            let ends: Vec<String> = outcomes.iter().enumerate().map(|(at, end)| format!("b{}={end}", at + 1)).collect();
            let expected = format!("red-tentacle; {expected}; details=\"{}\"", ends.join(" "));
            assert_eq!(of(&Refusal::AllFailed(legs(&outcomes))), expected);
        }
    }

    #[test]
    fn a_refusal_says_whose_fault_it_is() {
        let rows = [
            (Refusal::BadRequest("x"), "http_request_error"),
            (Refusal::BodyTooLarge, "http_request_error"),
            (Refusal::RequestTimeout, "http_request_error"),
            (Refusal::NotImplemented("x"), "http_request_error"),
            (Refusal::VersionNotSupported, "http_request_error"),
            (Refusal::Busy, "connection_limit_reached"),
            (Refusal::Loop, "proxy_loop_detected"),
            (Refusal::TooManyHops, "proxy_loop_detected"),
            (Refusal::Internal, "proxy_internal_error"),
            (Refusal::InsufficientStorage, "proxy_internal_error"),
        ];
        for (refusal, expected) in rows {
            assert_eq!(of(&refusal), format!("red-tentacle; error={expected}"), "{refusal:?}");
        }
    }

    #[test]
    fn the_account_of_a_long_list_is_cut() {
        let value = of(&Refusal::AllFailed(legs(&vec![Outcome::ConnectTimeout; 64])));
        let details = value.split("details=\"").nth(1).expect("details");
        assert_eq!(details.len(), DETAILS_BYTES_MAX + 1);
        assert!(
            details.starts_with("b1=connect-timeout b2=connect-timeout ") && details.ends_with("...\""),
            "{details}"
        );
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_elsewhere(micros in prop_oneof![0..20_000_u64, any::<u64>()]) {
            let (time, mut text) = (Duration::from_micros(micros), String::new());
            put_elapsed(&mut text, time);
            prop_assert_eq!(text, Elapsed(time).to_string());
        }

        /// Whatever a backend is called, the value is one member whose strings end where they should.
        #[test]
        fn no_name_breaks_the_field(name in any::<String>(), long in "[a\"\\\\é]{0,700}") {
            for name in [name, long] {
                let victory =
                    Victory { next_hop: &name, status: StatusCode::OK, how: How::Won, after: Duration::ZERO, legs: 1 };
                let lost = LostLeg { name: name.clone(), address: None, outcome: Outcome::Refused, after: Duration::ZERO };
                for value in [of_victory(&victory), of_refusal(&Refusal::AllFailed(vec![lost]))] {
                    let text = value.to_str().expect("ASCII");
                    prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
                    // Outside of strings there is no quotation mark, no comma and no backslash.
                    let (mut in_string, mut escaped) = (false, false);
                    for c in text.chars() {
                        match c {
                            _ if escaped => escaped = false,
                            '\\' if in_string => escaped = true,
                            '"' => in_string = !in_string,
                            ',' | '\\' => prop_assert!(in_string, "{text}"),
                            _ => {}
                        }
                    }
                    prop_assert!(!in_string && !escaped, "{text}");
                }
            }
        }
    }
}
