//! ureq's call, and all that it needs. No other file of the product names ureq, but for the one that asks a running proxy.

pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod transport;
