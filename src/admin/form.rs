//! The fields of a request: those of its query, then those of a form in its body. Knows nothing of what they mean.

use std::borrow::Cow;
use std::io::Read;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use url::form_urlencoded;

use crate::message::{BadEntry, ListEntry, Refusal, Request, parse_entries};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// The longest form, in bytes. The longest list of the longest entries is 128 KiB, but a real one is 64 short URLs.
pub const FORM_BYTES_MAX: u64 = 64 * 1024;

/// All fields with these names, in their order.
pub(super) fn fields(request: &Request) -> Result<Vec<(String, String)>, Refusal> {
    let (query, form) = (request.target.query().unwrap_or_default().as_bytes(), form(request)?);
    let fields = form_urlencoded::parse(query).chain(form_urlencoded::parse(&form));
    Ok(fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

/// Reads the list in a field.
pub(super) fn entries(list: &str) -> Result<Vec<ListEntry>, Refusal> {
    let lines = |bad: Vec<BadEntry>| bad.iter().map(BadEntry::to_string).collect::<Vec<_>>().join("\n");
    let entries = parse_entries(list).map_err(|bad| Refusal::BadBackends(lines(bad)))?;
    // A list of no backends at all would be a slip, and every request a 502 from then on.
    if entries.is_empty() { Err(Refusal::NoBackends) } else { Ok(entries) }
}

/// Reads the body, if it is a form. A body of no type at all is taken for one: small clients often name none. Blocks
/// only on the disk, and only if all memory for bodies was taken.
fn form(request: &Request) -> Result<Cow<'_, [u8]>, Refusal> {
    let Some(body) = request.body.as_ref().filter(|body| body.length() > 0) else {
        return Ok(Cow::Borrowed(&[]));
    };
    if !request.headers.get_all(CONTENT_TYPE).iter().all(is_form) {
        // Even beside a list in the query: a client that sends another type means something by it that would be lost.
        return Err(Refusal::BadRequest("The body must be a form: Content-Type: application/x-www-form-urlencoded"));
    }
    if body.length() > FORM_BYTES_MAX {
        return Err(Refusal::FormTooLong);
    }
    if let Some(bytes) = body.bytes() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = Vec::new();
    body.reader().read_to_end(&mut bytes).map_err(|_| Refusal::InsufficientStorage)?;
    Ok(Cow::Owned(bytes))
}

/// Whether a media type is a form's, with any parameters (RFC 9110 §8.3.1).
fn is_form(value: &HeaderValue) -> bool {
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(FORM.as_bytes())
}
