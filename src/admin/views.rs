//! What the admin port shows of a running proxy: its figures for Prometheus. Knows nothing of where they come from.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};

use crate::message::{Refusal, Reply, Request, Target};
use crate::metrics;

const METRICS: &str = "/metrics";

/// What there is to show. Each is asked for anew by every request.
pub struct Views {
    /// The figures, as Prometheus reads them.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

impl Views {
    /// Whether a target's path leads to one of them.
    pub(super) fn are_at(target: &Target) -> bool {
        target.path() == METRICS
    }

    /// Shows what is asked for.
    pub(super) fn show(&self, request: &Request) -> Result<Reply, Refusal> {
        check_method(request)?;
        let mut reply = Reply::text(StatusCode::OK, (self.metrics)());
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        Ok(reply)
    }
}

/// Refuses methods that don't only read.
pub(super) fn check_method(request: &Request) -> Result<(), Refusal> {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if reads { Ok(()) } else { Err(Refusal::MethodNotAllowed("GET, HEAD")) }
}
