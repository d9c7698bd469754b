//! ureq's call for an answer that isn't short and whole: made once the head has been received, so that it has nothing to wait
//! for. The request is on the wire already; ureq gets a stub: a GET, or a HEAD for HEAD.

use std::sync::Arc;

use http::{HeaderMap, Method, Request};
use ureq::config::{AutoHeaderValue, Config};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Error};

use crate::message::Outcome;
use crate::upstream::client::error::outcome_of;
use crate::upstream::client::transport::{PreconnectedConnector, Transport};
use crate::upstream::conn::connection::Connection;
use crate::upstream::response::head::{ANSWER_HEAD_BYTES_MAX, BodyFraming, ResponseHead};

/// The stub's URL: never resolved, never connected to, never seen by a backend.
const STUB: &str = "http://stub.invalid/";

/// Sets every switch that a transparent proxy needs, also where today's default is right. There are no timeouts, since a call
/// doesn't wait; one for all of it or for names would start a thread each.
pub(crate) fn config() -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        // Else HTTP_PROXY and its like would be obeyed silently.
        .proxy(None)
        .allow_non_standard_methods(true)
        .max_response_header_size(ANSWER_HEAD_BYTES_MAX)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .timeout_global(None)
        .timeout_per_call(None)
        .timeout_resolve(None)
        .timeout_connect(None)
        .timeout_recv_response(None)
        .timeout_per_read(None)
        .timeout_per_write(None)
        .build()
}

/// Calls ureq, with one configuration for all calls.
pub(crate) struct Caller(Config);

/// Reads a body. It can be read again after it would have had to wait.
pub(crate) type BodyReader = ureq::BodyReader<'static>;

impl Caller {
    pub(crate) fn new() -> Caller {
        Caller(config())
    }

    /// Has ureq read the head, and gives its fields and the reader of the body.
    pub(crate) fn call(
        &self,
        method: &Method,
        connection: &Arc<Connection>,
        head: &ResponseHead,
    ) -> Result<(HeaderMap, BodyReader), Outcome> {
        let transport = Transport::new(connection.clone(), head.bytes, head.framing == BodyFraming::Chunked);
        let agent = Agent::with_parts(self.0.clone(), PreconnectedConnector::new(transport), Resolved);
        // Only HEAD changes how an answer is read, and other methods may be longer than ureq has room for.
        let stub_method = if *method == Method::HEAD { Method::HEAD } else { Method::GET };
        let stub = Request::builder().method(stub_method).uri(STUB).body(());
        let response = agent.run(stub.map_err(Error::from).map_err(outcome_of)?).map_err(outcome_of)?;
        let (head, body) = response.into_parts();
        Ok((head.headers, body.into_reader()))
    }
}

/// Resolves nothing: ureq resolves before it connects, but the connection is made already, so any address will do.
#[derive(Debug)]
pub(crate) struct Resolved;

impl UreqResolver for Resolved {
    fn resolve(&self, _: &http::Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}
