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

/// Turns an error of a body, its connection's or ureq's, into the outcome of its leg.
pub(crate) fn outcome_of_body(error: io::Error) -> Outcome {
    match error.downcast() {
        Ok(error) => outcome_of(error),
        Err(error) => outcome_of_io(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_connection_means_the_same_however_ureq_wraps_it() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let rows = [
            (io::ErrorKind::ConnectionReset, Outcome::Reset),
            (io::ErrorKind::BrokenPipe, Outcome::Reset),
            (io::ErrorKind::UnexpectedEof, Outcome::Closed),
            (io::ErrorKind::TimedOut, Outcome::Timeout),
        ];
        for (kind, expected) in rows {
            assert_eq!(outcome_of(Error::Io(io(kind))), expected);
            assert_eq!(outcome_of(Error::Other(Box::new(io(kind)))), expected);
        }
        assert_eq!(outcome_of(Error::LargeResponseHeader(2, 1)), Outcome::TooLarge);
        assert_eq!(outcome_of(Error::Other("a chunk is bad".into())), Outcome::Protocol("a chunk is bad".to_owned()));
        assert!(matches!(outcome_of(Error::BodyStalled), Outcome::Protocol(_)));
    }
}
