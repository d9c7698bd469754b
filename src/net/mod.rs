//! What both sides have in common below HTTP: the bytes of a connection, plain or out of TLS, and certificates. Knows nothing of
//! clients and backends.

pub(crate) mod byte_stream;
pub(crate) mod certificate;
pub(crate) mod file;
pub(crate) mod pem;
pub mod server_tls;
