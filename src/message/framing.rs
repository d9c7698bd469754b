//! The length of a request's body, decided in the numbered steps of RFC 9112 §6.3, or the refusal if it can't be told.
//! Stricter than the RFC where being lenient invites smuggling. Knows nothing of the bytes themselves.

use http::{HeaderMap, Version, header};

use super::Refusal;
use super::field::has_field;

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// A known number of bytes.
    Sized(u64),
    /// Chunks, until the last one.
    Chunked,
}

impl BodyLength {
    /// Decides the length of a request's body (RFC 9112 §6.3).
    pub fn of_request(version: Version, headers: &HeaderMap) -> Result<BodyLength, Refusal> {
        let has_length = has_field(headers, &header::CONTENT_LENGTH);
        // Steps 1 and 2 are about responses. Step 3: both fields are a smuggler's sign, or a broken client's.
        if has_field(headers, &header::TRANSFER_ENCODING) {
            if has_length {
                return Err(Refusal::BadRequest("Both Transfer-Encoding and Content-Length are given"));
            }
            // Step 4: the codings. `chunked` must be the only one.
            return BodyLength::of_codings(version, headers);
        }
        // Steps 5 and 6: Content-Length. Step 7: neither means no body.
        if has_length {
            return content_length(headers).map(BodyLength::Sized);
        }
        Ok(BodyLength::None)
    }

    fn of_codings(version: Version, headers: &HeaderMap) -> Result<BodyLength, Refusal> {
        if version == Version::HTTP_10 {
            return Err(Refusal::BadRequest("Transfer-Encoding doesn't exist in HTTP/1.0"));
        }
        let mut fields = headers.get_all(header::TRANSFER_ENCODING).iter();
        let coding = fields.next().map_or(&b""[..], |value| value.as_bytes());
        if fields.next().is_some() {
            return Err(Refusal::BadRequest("Transfer-Encoding is given more than once"));
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            return Ok(BodyLength::Chunked);
        }
        let is_known = |name: &[u8]| {
            let name = name.trim_ascii();
            name.eq_ignore_ascii_case(b"chunked") || name.eq_ignore_ascii_case(b"identity") || name.is_empty()
        };
        if coding.split(|byte| *byte == b',').all(is_known) {
            return Err(Refusal::BadRequest("Transfer-Encoding isn't exactly one chunked"));
        }
        Err(Refusal::NotImplemented("The only transfer coding that is known here is chunked"))
    }
}

/// Parses the one value of Content-Length, which must be there.
fn content_length(headers: &HeaderMap) -> Result<u64, Refusal> {
    let mut fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = fields.next().map_or(&b""[..], |value| value.as_bytes());
    if fields.any(|other| other.as_bytes() != first) {
        return Err(Refusal::BadRequest("Content-Length is given twice with different values"));
    }
    parse_content_length(first).ok_or(Refusal::BadRequest("Content-Length isn't one run of digits"))
}

/// Parses one run of digits that fits into 64 bits; nothing else.
pub(crate) fn parse_content_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_length_of_a_body_is_told_or_refused() {
        let rows: &[(&str, &[(&str, &str)], Result<BodyLength, u16>)] = &[
            ("none", &[], Ok(BodyLength::None)),
            ("sized", &[("content-length", "5")], Ok(BodyLength::Sized(5))),
            ("zero", &[("content-length", "0")], Ok(BodyLength::Sized(0))),
            ("leading zeros", &[("content-length", "005")], Ok(BodyLength::Sized(5))),
            ("same twice", &[("content-length", "5"), ("content-length", "5")], Ok(BodyLength::Sized(5))),
            ("different", &[("content-length", "5"), ("content-length", "6")], Err(400)),
            ("list", &[("content-length", "5, 5")], Err(400)),
            ("plus", &[("content-length", "+5")], Err(400)),
            ("minus", &[("content-length", "-5")], Err(400)),
            ("empty", &[("content-length", "")], Err(400)),
            ("hex", &[("content-length", "0x5")], Err(400)),
            ("overflow", &[("content-length", "18446744073709551616")], Err(400)),
            ("chunked", &[("transfer-encoding", "chunked")], Ok(BodyLength::Chunked)),
            ("upper case", &[("transfer-encoding", "Chunked")], Ok(BodyLength::Chunked)),
            ("both", &[("transfer-encoding", "chunked"), ("content-length", "5")], Err(400)),
            ("two fields", &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(400)),
            ("twice", &[("transfer-encoding", "chunked, chunked")], Err(400)),
            ("identity", &[("transfer-encoding", "identity")], Err(400)),
            ("empty coding", &[("transfer-encoding", "")], Err(400)),
            ("gzip", &[("transfer-encoding", "gzip, chunked")], Err(501)),
            ("unknown", &[("transfer-encoding", "xchunked")], Err(501)),
        ];
        for (label, fields, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in *fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let found = BodyLength::of_request(Version::HTTP_11, &headers);
            assert_eq!(found.map_err(|refusal| refusal.status().as_u16()), *expected, "{label}");
        }
    }

    #[test]
    fn http_1_0_has_no_transfer_encoding() {
        let mut headers = HeaderMap::new();
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        assert!(BodyLength::of_request(Version::HTTP_10, &headers).is_err());
    }
}
