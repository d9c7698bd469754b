//! What both sides have in common below HTTP: the bytes of a connection, plain or out of TLS. Knows nothing of clients and backends.

pub(crate) mod byte_stream;
