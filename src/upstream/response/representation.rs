//! What the heads of answers say of their content: enough to tell backends that agree from one that doesn't. Knows nothing of who
//! is right.

use http::StatusCode;

use crate::message::fnv1a;

/// What the head of an answer says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Representation {
    class: u16,
    length: Option<u64>,
    /// The hash of a strong `ETag` (RFC 9110 §8.8.3).
    etag: Option<u64>,
    /// The hash of `Repr-Digest` (RFC 9530 §3).
    digest: Option<u64>,
}

impl Representation {
    /// Of an answer with this status, length and fields, as far as it has them.
    pub(crate) fn new(
        status: StatusCode,
        length: Option<u64>,
        etag: Option<&[u8]>,
        digest: Option<&[u8]>,
    ) -> Representation {
        let strong = etag.filter(|etag| !etag.starts_with(b"W/"));
        Representation { class: status.as_u16() / 100, length, etag: strong.map(fnv1a), digest: digest.map(fnv1a) }
    }

    /// Whether both have the same `ETag`.
    pub fn has_etag_of(&self, other: &Representation) -> bool {
        self.etag.is_some() && self.etag == other.etag
    }

    /// Whether the class of the status, the length, or the digest is another one, or with `by_etag` the `ETag`. What one of them lacks
    /// isn't compared.
    pub fn differs_from(&self, other: &Representation, by_etag: bool) -> bool {
        let differ = |one: Option<u64>, other: Option<u64>| one.zip(other).is_some_and(|(one, other)| one != other);
        self.class != other.class
            || differ(self.length, other.length)
            || differ(self.digest, other.digest)
            || (by_etag && differ(self.etag, other.etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_by_what_both_say() {
        let of = |status, length, etag: &'static str, digest: &'static str| {
            let field = |text: &'static str| Some(text.as_bytes()).filter(|text| !text.is_empty());
            let status = StatusCode::from_u16(status).expect("a status");
            Representation::new(status, length, field(etag), field(digest))
        };
        let base = of(200, Some(3), "\"a\"", "sha-256=:a:");
        let rows = [
            ("the same", base, false, false, true),
            ("another 2xx", of(204, Some(3), "\"a\"", ""), false, false, true),
            ("another class", of(404, Some(3), "\"a\"", ""), true, true, true),
            ("another length", of(200, Some(4), "\"a\"", ""), true, true, true),
            ("no length", of(200, None, "", ""), false, false, false),
            ("another digest", of(200, Some(3), "\"a\"", "sha-256=:b:"), true, true, true),
            ("another etag", of(200, Some(3), "\"b\"", ""), false, true, false),
            ("a weak etag", of(200, Some(3), "W/\"b\"", ""), false, false, false),
        ];
        for (label, other, differs, differs_by_etag, has_etag) in rows {
            assert_eq!(
                (base.differs_from(&other, false), other.differs_from(&base, false)),
                (differs, differs),
                "{label}"
            );
            assert_eq!(base.differs_from(&other, true), differs_by_etag, "{label}");
            assert_eq!(base.has_etag_of(&other), has_etag, "{label}");
        }
    }
}
