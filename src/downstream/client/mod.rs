//! One client: its socket with the state that threads share, and its driver, which is its event handler and reads its requests.
//! The driver stands above what sends replies, the socket below.

pub(crate) mod driver;
mod secured;
pub(crate) mod socket;
