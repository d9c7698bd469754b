//! One client: its socket and what threads share of it, and the driver, which is its event handler and reads its requests. The
//! driver stands above what sends replies, the socket below.

pub(crate) mod driver;
pub(crate) mod socket;
