//! One connection to a backend: its bytes, the request on it, and the place where its leg parks. Knows nothing of what the
//! bytes mean, nor of when the connection may be used again.

pub(crate) mod connection;
pub(crate) mod parking;
pub(crate) mod request_bytes;
pub(crate) mod request_writer;
