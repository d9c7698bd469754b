//! `Max-Forwards` (RFC 9110 §7.6.2): the proxies that TRACE and OPTIONS may still pass, and the reply of the last one.
//! Knows nothing of backends.

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::field::put_field;
use super::{Reply, ReplyBody, Request};

/// Fields that a reflected request must not have (RFC 9110 §9.3.8): scripts that can't read them could learn them so.
const SECRETS: [http::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// The longest reflected request, in bytes: the thread that answers doesn't wait, and every socket takes this much at
/// once.
const REFLECTED_BYTES_MAX: usize = 32 * 1024;

/// Replies to a request that may not go any further: TRACE with the request, OPTIONS with nothing. `None` if it may.
pub fn last_reply(request: &Request) -> Option<Reply> {
    if left(&request.method, &request.headers)? > 0 {
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut body = Vec::new();
    if request.method == Method::TRACE {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
        body = reflected(request);
    }
    Some(Reply { status: StatusCode::OK, headers, body: ReplyBody::Whole(body) })
}

/// Writes one proxy less into the fields for the next one.
pub(super) fn count_down(method: &Method, headers: &mut HeaderMap) {
    if let Some(left) = left(method, headers) {
        headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

/// The number of proxies that the request may still pass, if it says so in a way that counts.
fn left(method: &Method, headers: &HeaderMap) -> Option<u64> {
    if !matches!(*method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    let text = headers.get(MAX_FORWARDS)?.to_str().ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The request as it arrived, but for the secrets and for fields beyond [`REFLECTED_BYTES_MAX`].
fn reflected(request: &Request) -> Vec<u8> {
    let Request { method, target, version, .. } = request;
    let mut bytes = format!("{method} {}{target} {version:?}\r\n", target.origin()).into_bytes();
    for (name, value) in request.headers.iter().filter(|(name, _)| !SECRETS.contains(name)) {
        if bytes.len() + name.as_str().len() + value.len() > REFLECTED_BYTES_MAX {
            continue;
        }
        put_field(&mut bytes, name.as_str(), value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
