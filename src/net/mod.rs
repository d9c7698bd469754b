//! What both sides have in common below HTTP: the bytes of a connection, plain or out of TLS, and certificates. Knows nothing of
//! clients and backends.

pub(crate) mod byte_stream;
pub(crate) mod certificate;
pub(crate) mod client_failure;
pub(crate) mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod pem;
pub(crate) mod records;
pub mod server_tls;
