//! The media type that a client would rather have (RFC 9110 §12.5.1). Knows nothing of what is sent.

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether the client prefers JSON to a plain text. A client that says nothing, or takes anything, gets the text.
pub fn prefers_json(headers: &HeaderMap) -> bool {
    let json = ["application/json", "application/problem+json"].map(|offer| Wish::for_type(offer, headers));
    let json = json.into_iter().flatten().max();
    json.is_some_and(|json| json.thousandths > 0 && Some(json) > Wish::for_type("text/plain", headers))
}

/// Whether the client takes HTML by that name, as browsers do. One that takes anything, as curl does, isn't meant.
pub fn takes_html(headers: &HeaderMap) -> bool {
    let wish = Wish::for_type("text/html", headers);
    wish.is_some_and(|wish| wish.precision == NAMED && wish.thousandths > 0)
}

/// The precision of a range that names the type.
const NAMED: u8 = 2;

/// How much a type is wanted. The first field in which two differ decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    /// The quality value (§12.4.2).
    thousandths: u16,
    /// Whether the type is named, 2, or only its kind, 1, or neither.
    precision: u8,
    /// Counts down from the first range of the list.
    place: usize,
}

impl Wish {
    /// The wish of the most precise range that has the type; `None` if no range has it.
    fn for_type(offer: &str, headers: &HeaderMap) -> Option<Wish> {
        let lists = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges = lists.flat_map(|list| list.split(','));
        let wishes = ranges.enumerate().filter_map(|(index, range)| {
            let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
            let precision = precision(range.trim(), offer)?;
            Some(Wish { thousandths: thousandths(parameters), precision, place: usize::MAX - index })
        });
        wishes.max_by_key(|wish| (wish.precision, wish.place))
    }
}

fn precision(range: &str, offer: &str) -> Option<u8> {
    let (kind, _) = offer.split_once('/')?;
    let is_kind = |range: &str| range.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(kind));
    match range {
        range if range.eq_ignore_ascii_case(offer) => Some(NAMED),
        range if is_kind(range) => Some(1),
        "*/*" => Some(0),
        _ => None,
    }
}

/// The weight among the parameters of a range; one that can't be read counts as none.
fn thousandths(parameters: &str) -> u16 {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(weight) = weight else { return 1000 };
    let Some(weight) = weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight)) else { return 0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    let thousandths = (weight * 1000.0).round() as u16;
    thousandths
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_sent_to_clients_that_would_rather_have_it() {
        let rows: [(&str, &[&str], bool); 16] = [
            ("nothing is said", &[], false),
            ("curl", &["*/*"], false),
            ("a browser", &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false),
            ("JSON", &["application/json"], true),
            ("in another case", &["Application/JSON"], true),
            ("a problem", &["application/problem+json"], true),
            ("JSON, or else anything", &["application/json, */*"], true),
            ("JSON first", &["application/json, text/plain, */*"], true),
            ("text first", &["text/plain, application/json"], false),
            ("text weighs more", &["application/json;q=0.5, text/plain"], false),
            ("JSON weighs more", &["text/plain;q=0.5, application/json;q=0.9"], true),
            ("any text weighs less", &["text/*;q=0.1, application/*"], true),
            ("no JSON", &["application/json;q=0"], false),
            ("in a second field", &["text/plain;q=0.1", "application/json"], true),
            ("a weight that is none", &["application/json;q=x"], false),
            ("two parameters", &["application/json;charset=utf-8;Q=0.7,text/plain; q=0.6"], true),
        ];
        for (label, fields, expected) in rows {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(ACCEPT, HeaderValue::from_str(field).expect("a value"));
            }
            assert_eq!(prefers_json(&headers), expected, "{label}");
        }
    }
    #[test]
    fn html_is_sent_to_clients_that_name_it() {
        let rows = [
            ("a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("in another case", "Text/HTML", true),
            ("curl", "*/*", false),
            ("any text", "text/*", false),
            ("anything but HTML", "*/*, text/html;q=0", false),
            ("another type", "text/html-x", false),
        ];
        for (label, accept, expected) in rows {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(takes_html(&headers), expected, "{label}");
        }
        assert!(!takes_html(&HeaderMap::new()));
    }
}
