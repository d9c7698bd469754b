//! A backend's answer: its head, what has been received of it, its body, and what becomes of the connection behind it.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod draining;
pub(crate) mod head;
pub(crate) mod received;
pub(crate) mod representation;
pub(crate) mod upgraded;
