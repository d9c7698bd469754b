//! From a backend's name to a connection: resolving, dialing, shaking hands. A leg that has to wait does so in the poller.
//! Knows nothing of what is said on the connection.

pub(crate) mod connecting;
pub(crate) mod dial;
pub(crate) mod lookup;
pub(crate) mod resolve;
pub(crate) mod resolving;
pub(crate) mod timer;
pub(crate) mod tls;
pub(crate) mod tls_error;
pub(crate) mod watch;
