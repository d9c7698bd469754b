//! The meaning of ureq's errors for their leg. Knows nothing of connections.

use std::io;

use ureq::Error;

use crate::message::Outcome;
use crate::upstream::io_error::outcome_of_io;

/// Turns an error of ureq's into the outcome of its leg.
pub(crate) fn outcome_of(error: Error) -> Outcome {
    match error {
        Error::LargeResponseHeader(..) => Outcome::TooLarge,
        Error::Io(error) => outcome_of_io(&error),
        Error::Other(error) => match error.downcast_ref::<io::Error>() {
            Some(error) => outcome_of_io(error),
            None => Outcome::Protocol(error.to_string()),
        },
        Error::Protocol(error) => Outcome::Protocol(error.to_string()),
        other => Outcome::Protocol(other.to_string()),
    }
}
