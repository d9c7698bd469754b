//! Replaces the list of backends: reads the new one from the query or a form, and hands it on if all of it is good.
//! Knows nothing of who may ask, nor of what becomes of the list.

use std::fmt::Write;

use http::StatusCode;

use super::backends::refusal;
use super::form;
use crate::list::{BackendList, Change};
use crate::message::{Refusal, Reply, Request, UPDATED};

/// Replies to an update with the list that is in force now, by the names that the log has for it. Everything is checked
/// before the list is changed, so a refusal leaves it as it was.
pub(super) fn update(request: &Request, list: &BackendList) -> Result<Reply, Refusal> {
    let entries = list.change(vec![Change::Replace(form::entries(&given(request)?)?)]).map_err(refusal)?;
    let mut text = UPDATED.to_owned();
    for (index, entry) in entries.iter().enumerate() {
        let state = if entry.options.is_paused { " paused" } else { "" };
        write!(text, "\n{} {}{state}", entry.name_at(index), entry.address).expect("a string takes all");
    }
    Ok(Reply::text(StatusCode::OK, text))
}

/// Reads the text of the list. Parameters of other names are ignored.
fn given(request: &Request) -> Result<String, Refusal> {
    let mut lists = form::fields(request)?.into_iter().filter_map(|(name, list)| (name == "backends").then_some(list));
    let list = lists.next().ok_or(Refusal::NoBackends)?;
    if lists.next().is_some() {
        // Which one is meant can't be known; joining them would be a guess as well.
        return Err(Refusal::BadRequest("The list of backends is given twice: give it once, divided by commas"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::admin::form::FORM;
    use crate::message::{ListEntry, ReplyBody};

    /// The reply's status and text, and the lists that were handed on.
    fn outcome(request: &Request) -> (u16, String, Vec<String>) {
        let replaced = Arc::new(Mutex::new(Vec::new()));
        let log = replaced.clone();
        let publish = move |list: &[ListEntry]| {
            let texts: Vec<_> = list.iter().map(ListEntry::to_string).collect();
            log.lock().expect("no panic").push(texts.join(" "));
        };
        let list = BackendList::new(Vec::new(), None, Box::new(publish));
        let reply = update(request, &list).unwrap_or_else(|refusal| refusal.reply());
        let ReplyBody::Whole(text) = reply.body else { panic!("a short text") };
        let text = String::from_utf8(text).expect("text");
        let replaced = replaced.lock().expect("no panic").clone();
        (reply.status.as_u16(), text, replaced)
    }

    fn post(query: &str, fields: &[(&str, &str)], body: &[u8]) -> Request {
        crate::admin::request("POST", &format!("/-update-backends{query}"), fields, body)
    }

    fn numbered(count: usize) -> String {
        (1..=count).map(|number| format!("http://b{number}")).collect::<Vec<_>>().join(",")
    }

    const FORM_FIELD: (&str, &str) = ("content-type", FORM);

    #[test]
    fn a_good_list_replaces_the_old_one_whole() {
        let rows: &[(&str, &str, &str, &str)] = &[
            ("in the query", "?backends=http://a,https://b:8443/x", "", "http://a https://b:8443/x"),
            ("in a form", "", "backends=http://a,http://b", "http://a http://b"),
            ("one", "?backends=http://a", "", "http://a"),
            ("spaces around commas", "", "backends= http://a , http://b ", "http://a http://b"),
            ("spaces as plus", "?backends=http://a,+http://b+", "", "http://a http://b"),
            ("spaces as %20", "?backends=http://a%20,%20http://b", "", "http://a http://b"),
            ("percent-encoded", "?backends=http%3A%2F%2Fa%2Chttp%3A%2F%2Fb", "", "http://a http://b"),
            ("percent-encoded in a form", "", "backends=http%3A%2F%2Fa%2Chttp%3A%2F%2Fb", "http://a http://b"),
            ("a percent-encoded name", "?%62ackends=http://a", "", "http://a"),
            ("a line's end behind it", "", "backends=http://a\n", "http://a"),
            ("a comma at the end", "?backends=http://a,", "", "http://a"),
            ("lines", "", "backends=http://a%0Ahttp://b", "http://a http://b"),
            ("other parameters beside it", "?x=1&backends=http://a&y", "", "http://a"),
            ("other parameters twice", "?x=1&x=2&backends=http://a", "", "http://a"),
            ("a form of other parameters", "?backends=http://a", "x=1", "http://a"),
            ("a query of other parameters", "?x=1", "backends=http://a", "http://a"),
            ("a name in another case beside it", "?Backends=http://b&backends=http://a", "", "http://a"),
        ];
        for (label, query, body, expected) in rows {
            let (status, text, replaced) = outcome(&post(query, &[FORM_FIELD], body.as_bytes()));
            let numbered = (1..).zip(expected.split(' '));
            let list: Vec<_> = numbered.map(|(number, address)| format!("b{number} {address}")).collect();
            let expected_text = format!("Backends updated successfully\n{}\n", list.join("\n"));
            assert_eq!((status, text), (200, expected_text), "{label}");
            assert_eq!(replaced, [*expected], "{label}");
        }
    }

    #[test]
    fn a_body_must_be_a_form_of_at_most_64_kib() {
        let wrong = "The body must be a form: Content-Type: application/x-www-form-urlencoded\n";
        let rows: &[(&str, &[&str], &str, u16, &str)] = &[
            ("a form", &[FORM], "backends=http://a", 200, ""),
            ("with parameters", &["application/x-www-form-urlencoded; charset=utf-8"], "backends=http://a", 200, ""),
            ("in another case", &["Application/X-WWW-Form-Urlencoded ;a=b"], "backends=http://a", 200, ""),
            ("no type", &[], "backends=http://a", 200, ""),
            ("JSON", &["application/json"], r#"{"backends":"http://a"}"#, 400, wrong),
            ("multipart", &["multipart/form-data; boundary=x"], "--x\r\n", 400, wrong),
            ("plain text", &["text/plain"], "backends=http://a", 400, wrong),
            ("an empty type", &[""], "backends=http://a", 400, wrong),
            ("a longer type", &["application/x-www-form-urlencoded-x"], "backends=http://a", 400, wrong),
            ("a form and another", &[FORM, "text/plain"], "backends=http://a", 400, wrong),
        ];
        for (label, types, body, expected, expected_text) in rows {
            let fields: Vec<_> = types.iter().map(|value| ("content-type", *value)).collect();
            let (status, text, replaced) = outcome(&post("", &fields, body.as_bytes()));
            assert_eq!((status, replaced.len()), (*expected, usize::from(*expected == 200)), "{label}: {text}");
            assert!(text.starts_with(expected_text), "{label}: {text}");
        }
        let json = [("content-type", "application/json")];
        assert_eq!(outcome(&post("?backends=http://a", &json, b"{}")).0, 400, "JSON beside a list in the query");
        assert_eq!(outcome(&post("?backends=http://a", &json, b"")).0, 200, "a type without a body");
    }

    #[test]
    fn a_form_that_is_not_in_memory_is_too_long() {
        let form = |length: usize| format!("backends=http://a&x={}", "x".repeat(length - 20)).into_bytes();
        assert_eq!(outcome(&post("", &[FORM_FIELD], &form(64 * 1024))).0, 200);
        let (status, text, replaced) = outcome(&post("", &[FORM_FIELD], &form(64 * 1024 + 1)));
        assert_eq!((status, text.as_str()), (413, "The form of an update is longer than 64 KiB\n"));
        assert!(replaced.is_empty());
    }

    #[test]
    fn an_update_without_exactly_one_list_is_refused() {
        let none = "No backends provided\n";
        let twice = "The list of backends is given twice: give it once, divided by commas\n";
        let rows = [
            ("nothing at all", "", "", none),
            ("an empty query", "?", "", none),
            ("other parameters", "?backend=http://a", "x=1", none),
            ("a name in another case", "?Backends=http://a", "", none),
            ("no value", "?backends", "", none),
            ("an empty value", "?backends=", "", none),
            ("an empty value in a form", "", "backends=", none),
            ("a blank value", "?backends=+%20%09", "", none),
            ("a form without a name", "", "http://a", none),
            ("twice in the query", "?backends=http://a&backends=http://b", "", twice),
            ("twice in a form", "", "backends=http://a&backends=http://b", twice),
            ("in the query and in a form", "?backends=http://a", "backends=http://b", twice),
            ("twice the same", "?backends=http://a&backends=http://a", "", twice),
            ("twice, one of them empty", "?backends=http://a&backends=", "", twice),
            ("twice, one of them bad", "?backends=http://a", "backends=x", twice),
        ];
        for (label, query, body, expected) in rows {
            let (status, text, replaced) = outcome(&post(query, &[FORM_FIELD], body.as_bytes()));
            assert_eq!((status, text.as_str()), (400, expected), "{label}");
            assert!(replaced.is_empty(), "{label}");
        }
    }

    #[test]
    fn every_bad_entry_is_named_and_the_old_list_stays() {
        let userinfo = "'http://u:p@a': it must not contain a user name or password\n";
        let query = "'http://a?x=1': it must not contain a query\n";
        let fragment = "'http://a#f': it must not contain a fragment\n";
        let too_many = format!("backends={}", numbered(65));
        let rows: &[(&str, &str, &[u8], &str)] = &[
            ("no URL", "?backends=a", b"", "'a': it must begin with http:// or https://\n"),
            ("another scheme", "?backends=ftp://a", b"", "'ftp://a': it must begin with http:// or https://\n"),
            ("no host", "?backends=http://", b"", "'http://': it has no host\n"),
            ("userinfo", "?backends=http://u:p@a", b"", userinfo),
            ("a query", "?backends=http://a?x=1&y=2", b"", query),
            ("a fragment", "?backends=http://a%23f", b"", fragment),
            ("a duplicate", "?backends=http://a,http://a/", b"", "'http://a/': http://a is in the list twice\n"),
            ("an empty entry", "?backends=http://a,,http://b", b"", "'': an entry is empty\n"),
            ("one too many", "", too_many.as_bytes(), "'http://b65': the list has 65 entries"),
            ("not UTF-8", "?backends=http://%FF", b"", "'http://\u{fffd}': its host isn't valid: a name beyond ASCII"),
            (
                "not UTF-8 in a form",
                "",
                b"backends=http://\xff",
                "'http://\u{fffd}': its host isn't valid: a name beyond ASCII",
            ),
            ("a line of its own", "?backends=http://a%0Ab", b"", "'b': it must begin with http:// or https://\n"),
            (
                "two among good ones, in their order",
                "?backends=http://a,x,http://b,ftp://c,http://d",
                b"",
                "'x': it must begin with http:// or https://\n'ftp://c': it must begin with http:// or https://\n",
            ),
        ];
        for (label, query, body, expected) in rows {
            let (status, text, replaced) = outcome(&post(query, &[FORM_FIELD], body));
            let details = text.strip_prefix("Backends not updated: the list stays as it was\n");
            assert!(status == 400 && details.is_some_and(|details| details.starts_with(expected)), "{label}: {text}");
            let lines = expected.lines().count();
            assert_eq!(details.map(|details| details.lines().count()), Some(lines), "{label}: {text}");
            assert!(replaced.is_empty(), "{label}");
        }
    }

    #[test]
    fn a_list_of_64_is_taken() {
        let (status, _, replaced) = outcome(&post("", &[FORM_FIELD], format!("backends={}", numbered(64)).as_bytes()));
        assert_eq!((status, replaced), (200, vec![numbered(64).replace(',', " ")]));
    }
}
