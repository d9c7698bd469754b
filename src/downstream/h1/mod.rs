//! HTTP/1.1 as bytes: requests in, replies out. Knows no socket.

pub(crate) mod body;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod http2;
pub(crate) mod pipelined;
pub(crate) mod protocol;
