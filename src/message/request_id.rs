//! The id by which a request is found again in logs: the client's own, or one of this process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::field::values_of;

/// The longest id of a client's that is kept, in bytes.
const LENGTH_MAX: usize = 128;

/// The id of a request. Nothing is trusted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The field that carries it, on requests and on replies.
    pub const FIELD: HeaderName = HeaderName::from_static("x-request-id");

    /// Keeps the client's id, if it sent exactly one of 1 to 128 visible ASCII characters other than `"`, `,` and `\`; else makes
    /// one of 16 hex digits.
    pub fn of(headers: &HeaderMap) -> RequestId {
        RequestId::given(headers).unwrap_or_else(RequestId::random)
    }

    /// The client's id, if it is one that is kept.
    pub fn given(headers: &HeaderMap) -> Option<RequestId> {
        let mut given = values_of(headers, &RequestId::FIELD);
        match (given.next(), given.next()) {
            (Some(id), None) if is_plain(id.as_bytes()) => Some(RequestId(id.clone())),
            _ => None,
        }
    }

    /// An id that this process gives once, and others hardly ever.
    fn random() -> RequestId {
        static KEY: OnceLock<u64> = OnceLock::new();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let key = KEY.get_or_init(|| getrandom::u64().unwrap_or(0));
        let id = mixed(key.wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut digits = [0; 16];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[usize::try_from(id >> (60 - 4 * at) & 15).unwrap_or(0)];
        }
        RequestId(HeaderValue::from_bytes(&digits).expect("hex digits make a value"))
    }

    /// The id as the field has it.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("an id is visible ASCII")
    }
}

fn is_plain(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\",\\".contains(byte);
    (1..=LENGTH_MAX).contains(&id.len()) && id.iter().all(is_plain)
}

/// The last step of `SplitMix64`: numbers that follow each other become ones that don't look like it, and no two become one.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_client_keeps_an_id_that_can_break_nothing() {
        let long = "x".repeat(128);
        let kept = ["a", "0f-1e.2d_3c:~", &long];
        let longer = "x".repeat(129);
        let replaced = ["", "a b", "a,b", "a\"b", "a\\b", "é", "a\tb", &longer];
        let of = |ids: &[&str]| {
            let mut headers = HeaderMap::new();
            for id in ids {
                headers.append(RequestId::FIELD, HeaderValue::from_bytes(id.as_bytes()).expect("a value"));
            }
            RequestId::of(&headers)
        };
        for id in kept {
            assert_eq!(of(&[id]).as_str(), id);
        }
        for ids in replaced.iter().map(|id| vec![*id]).chain([vec![], vec!["a", "a"]]) {
            let id = of(&ids);
            let is_own = id.as_str().len() == 16 && id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_own, "{ids:?}: {id:?}");
        }
    }

    #[test]
    fn no_id_of_this_process_is_given_twice() {
        let ids: HashSet<_> = (0..10_000).map(|_| RequestId::random().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
