//! The request as all backends get it.

use http::header::ACCEPT_ENCODING;

use crate::config::{Config, HostHeader};
use crate::message::headers::{self, ViaId};
use crate::message::{Networks, Request, RequestId, forwarded};
use crate::upstream::UpstreamRequest;

/// Makes the request that all backends get.
pub(crate) fn outgoing(
    mut request: Box<Request>,
    via: &ViaId,
    config: &Config,
    trusted_proxies: &Networks,
    id: &RequestId,
) -> UpstreamRequest {
    let host = match config.host {
        HostHeader::Backend => None,
        HostHeader::Preserve => headers::host_of(&request),
    };
    let is_plain = config.looks_at_bodies() && config.races(&request.method);
    if is_plain {
        // Else the text of a body could hide in an encoding, and so could comments of an event stream.
        request.headers.remove(ACCEPT_ENCODING);
    }
    if config.tls.tells_subject {
        forwarded::forget_subject(&mut request.headers);
    }
    let mut headers = headers::for_backends(&mut request, via, trusted_proxies);
    headers.insert(RequestId::FIELD, id.value().clone());
    let request = UpstreamRequest::new(request.method, request.target, headers, host, request.body);
    if is_plain { request.plain() } else { request }
}
