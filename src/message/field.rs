//! Fields: names that `http` lacks, values that are lists, and how a field goes out, towards backends and clients alike.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Appends a line with a field: its name in title case, as Go and nginx send it, since some programs look for
/// `Content-Length:` byte for byte. `http` keeps names in lower case, so a client's or a backend's own spelling is
/// lost.
pub(crate) fn put_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.reserve(name.len() + value.len() + 4);
    let begin = bytes.len();
    bytes.extend_from_slice(name.as_bytes());
    if let Some((first, rest)) = bytes[begin..].split_first_mut() {
        first.make_ascii_uppercase();
        for (before, byte) in name.bytes().zip(rest) {
            if before == b'-' {
                byte.make_ascii_uppercase();
            }
        }
    }
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

/// A byte of a name as CGI and its kin see it, which make a variable of the name: letters of one case, digits, and one byte for all
/// others.
pub(crate) fn of_variable(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Whether there is a field of this name. Most that are asked for aren't there, and messages have few: to look at the names of all takes
/// less time than to hash one.
pub(crate) fn has_field(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|other| other == name)
}

/// The values of the fields of this name, in their order.
pub(crate) fn values_of<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a HeaderValue> + use<'a> {
    has_field(headers, name).then(|| headers.get_all(name)).into_iter().flatten()
}

/// Whether a list field (`Connection`, say) has the token, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The entries of a list field, without the blanks around them; some may be empty.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    values_of(headers, name).flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether the value of a list field has the token, in any case.
pub(crate) fn has_listed(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_in_title_case_and_values_as_they_are() {
        let rows: [(&str, &[u8], &[u8]); 10] = [
            ("content-length", b"3", b"Content-Length: 3\r\n"),
            ("host", b"a.example:80", b"Host: a.example:80\r\n"),
            ("etag", b"\"a-b\"", b"Etag: \"a-b\"\r\n"),
            ("www-authenticate", b"Basic", b"Www-Authenticate: Basic\r\n"),
            ("x-a-1b-c_d", b"caf\xe9", b"X-A-1b-C_d: caf\xe9\r\n"),
            ("1-a", b"", b"1-A: \r\n"),
            ("-", b"b", b"-: b\r\n"),
            ("--a-", b"b", b"--A-: b\r\n"),
            ("a.b", b"b", b"A.b: b\r\n"),
            ("x", b"b", b"X: b\r\n"),
        ];
        for (name, value, expected) in rows {
            let mut bytes = b"before".to_vec();
            put_field(&mut bytes, name, value);
            assert_eq!(bytes, [b"before", expected].concat(), "{name}");
        }
    }
}
