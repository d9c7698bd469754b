//! HTTP/1.1 towards backends: the list of them, the connections to each, and a leg's way from taking a connection to the end of
//! its answer. Knows nothing of clients, nor of the rules of the race: its caller says what is sent and may hang up.
//!
//! From the top down: a [`Backend`] has a [`Pool`], which starts a leg (`leg`); the leg gets addresses and a connection
//! (`connect`), sends its request on it (`conn`), and reads the answer (`response`), by ureq where that isn't short (`client`).

mod backend;
mod backends;
mod bench;
mod breaker;
mod client;
mod conn;
mod connect;
#[cfg(test)]
mod connection_tests;
mod endpoint;
mod file_permit;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hedge_budget;
mod io_error;
mod leg;
mod look;
mod permit;
mod pool;
mod pooled;
mod request;
#[cfg(test)]
mod request_writer_tests;
mod response;
#[cfg(test)]
pub(crate) mod scenario;
mod shared;
mod upload;

pub use backend::Backend;
pub use backends::Backends;
pub use bench::{Admission, Bench, BenchChange, BenchTicket, Finding, Told};
pub use breaker::{Breaker, PathKey, PendingRequest};
pub use conn::connection::FileRead;
pub use conn::parking::{Readiness, Waiter};
pub use connect::lookup::{Lookup, SystemLookup};
pub use connect::tls::BadCertificate;
pub use file_permit::FilePermit;
pub use hedge_budget::HedgeBudget;
pub use leg::{LegStep, PendingAnswer};
pub use look::{Look, LookLease};
pub use pool::Pool;
pub use request::UpstreamRequest;
pub use response::answer::Answer;
pub use response::body::{AnswerBody, Looked, Prospect};
pub use response::draining::Draining;
pub use response::representation::Representation;
pub use response::upgraded::Upgraded;
pub use shared::{ConnectOptions, Upstream};
pub use upload::{Upload, UploadStop, Uploaded};
