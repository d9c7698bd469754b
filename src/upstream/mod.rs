//! HTTP/1.1 towards backends, on ureq: one leg's call, from reaching the backend to the end of its answer.
//! Knows nothing of clients, nor of the rules of the race: whoever calls says what is sent and may hang up.

mod alarm;
mod answer;
mod ask;
mod backends;
mod body;
mod breaker;
mod byte_stream;
mod call;
mod chunked;
mod connecting;
mod dial;
mod draining;
mod endpoint;
mod failure;
mod file_place;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod leg;
mod line;
mod lines;
mod looking;
mod lookup;
mod outbound;
mod permit;
mod reading;
mod request;
mod resolve;
mod response;
mod sending;
mod shared;
mod slot;
mod switched;
mod tls;
mod tls_failure;
mod transport;
mod upload;
mod wire;

pub use answer::Answer;
pub use ask::ask;
pub use backends::{Backend, Backends};
pub use body::{AnswerBody, Prospect};
pub use breaker::{Breaker, PathKey, PendingRequest};
pub use draining::Draining;
pub use file_place::FilePlace;
pub use leg::{Step, Waiting};
pub use lines::Lines;
pub use lookup::{Lookup, SystemLookup};
pub use request::Outgoing;
pub use shared::{Reach, Upstream};
pub use slot::{Events, Waiter};
pub use switched::Switched;
pub use tls::BadCertificate;
pub use upload::{Upload, UploadStop, Uploaded};
