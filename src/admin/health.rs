//! The replies to probes: whether the process is alive, and whether it takes requests. They tell nothing else, so every
//! peer may ask.

use http::{Method, StatusCode};

use crate::message::{Refusal, Reply, Request};

/// Replies to a probe; `None` if neither of the two paths is asked for.
pub(super) fn probed(request: &Request, is_stopping: bool) -> Option<Result<Reply, Refusal>> {
    let reply = match request.target.path() {
        // A process that finishes what is under way must not be killed for it.
        "/healthz" => Ok(Reply::text(StatusCode::OK, "alive")),
        "/readyz" if is_stopping => Err(Refusal::Stopping),
        "/readyz" => Ok(Reply::text(StatusCode::OK, "ready")),
        _ => return None,
    };
    let is_probe = matches!(request.method, Method::GET | Method::HEAD);
    Some(if is_probe { reply } else { Err(Refusal::MethodNotAllowed("GET, HEAD")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status of the answer, or 0 if it is no probe.
    fn status(method: &str, target: &str, is_stopping: bool) -> u16 {
        // As a kubelet asks: by the pod's address, and with a name that the guard wouldn't know.
        let request = crate::admin::request(method, target, &[("host", "pod.example"), ("via", "1.1 mesh")], b"");
        match probed(&request, is_stopping) {
            Some(Ok(reply)) => reply.status.as_u16(),
            Some(Err(refusal)) => refusal.status().as_u16(),
            None => 0,
        }
    }

    #[test]
    fn only_two_exact_paths_are_probes_and_only_get_and_head_ask() {
        let rows = [
            ("alive", "GET", "/healthz", 200, 200),
            ("ready", "GET", "/readyz", 200, 503),
            ("HEAD", "HEAD", "/readyz", 200, 503),
            ("with a query", "GET", "/healthz?verbose", 200, 200),
            ("POST", "POST", "/healthz", 405, 405),
            ("DELETE", "DELETE", "/readyz", 405, 405),
            ("a slash behind it", "GET", "/healthz/", 0, 0),
            ("in another case", "GET", "/Healthz", 0, 0),
            ("two slashes", "GET", "//readyz", 0, 0),
            ("deeper", "GET", "/healthz/x", 0, 0),
            ("another path", "GET", "/", 0, 0),
        ];
        for (label, method, target, running, stopping) in rows {
            assert_eq!(status(method, target, false), running, "{label}");
            assert_eq!(status(method, target, true), stopping, "{label}, stopping");
        }
    }
}
