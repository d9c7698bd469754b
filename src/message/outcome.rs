//! The ends of a leg: one variant for each, and the one place that gives each its word and its sentence. Knows nothing
//! of how a leg comes to its end.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::Reason;

/// How a reason of TLS begins that is about the backend's certificate.
pub const OF_CERTIFICATE: &str = "its certificate";

/// The end of a leg. `Display` gives its word, as the log and the 502 use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered with this status.
    Status(StatusCode),
    /// The backend's host refused the connection.
    Refused,
    /// The backend's Unix socket takes no connection: its path, and why.
    RefusedAtSocket(String),
    /// No route leads to the backend.
    Unreachable,
    /// Reaching the backend (TCP, TLS) took longer than the timeout.
    ConnectTimeout,
    /// The complete head of the answer didn't come within the timeout.
    Timeout,
    /// The backend reset the connection.
    Reset,
    /// The backend closed the connection before its answer was complete.
    Closed,
    /// The answer isn't valid HTTP/1.1.
    Protocol(String),
    /// TLS failed: a bad certificate, say.
    Tls(String),
    /// The backend's name doesn't resolve, or not in time.
    Dns(String),
    /// The request came back to this very process.
    Loop,
    /// This host has no descriptor or port left for the leg, or its backend holds as many as one may.
    NoSocket,
    /// The leg was deferred, since its backend hangs or is benched, and the race was over before its turn came.
    Skipped,
    /// The leg didn't start: the race was over before its time.
    Unneeded,
    /// The leg was hung up on: the race was decided, or its client left.
    Cancelled,
    /// The head of the answer is longer than allowed.
    TooLarge,
    /// The answer would have won, but for this rule.
    Unfit(String),
    /// A bug in the proxy; the log has the details.
    Panic,
}

impl Outcome {
    /// Its word, as log, 502 and metrics use it: a status by its digits.
    pub fn word(&self) -> &str {
        match self {
            Outcome::Status(status) => status.as_str(),
            Outcome::Refused | Outcome::RefusedAtSocket(_) => "refused",
            Outcome::Unreachable => "unreachable",
            Outcome::ConnectTimeout => "connect-timeout",
            Outcome::Timeout => "timeout",
            Outcome::Reset => "reset",
            Outcome::Closed => "closed",
            Outcome::Protocol(_) => "protocol",
            Outcome::Tls(_) => "tls",
            Outcome::Dns(_) => "dns",
            Outcome::Loop => "loop",
            Outcome::NoSocket => "no-socket",
            Outcome::Skipped => "skipped",
            Outcome::Unneeded => "unneeded",
            Outcome::Cancelled => "cancelled",
            Outcome::TooLarge => "too-large",
            Outcome::Unfit(_) => "unfit",
            Outcome::Panic => "panic",
        }
    }

    /// The detail that a word can't hold, made safe to show: it may quote the backend.
    pub fn reason(&self) -> Option<Reason<'_>> {
        match self {
            Outcome::RefusedAtSocket(reason)
            | Outcome::Protocol(reason)
            | Outcome::Tls(reason)
            | Outcome::Dns(reason)
            | Outcome::Unfit(reason) => Some(Reason(reason)),
            _ => None,
        }
    }

    /// Whether the backend can't be reached, or this host can't reach it.
    pub fn is_unreached(&self) -> bool {
        matches!(
            self,
            Outcome::Refused
                | Outcome::RefusedAtSocket(_)
                | Outcome::Unreachable
                | Outcome::ConnectTimeout
                | Outcome::Dns(_)
                | Outcome::Tls(_)
                | Outcome::NoSocket
        )
    }

    /// Whether TLS failed for the backend's certificate.
    pub(super) fn is_of_certificate(&self) -> bool {
        matches!(self, Outcome::Tls(reason) if reason.starts_with(OF_CERTIFICATE))
    }

    /// The reason in a sentence that tells neither names nor addresses nor paths: those that certificates and lookups quote are left
    /// out.
    pub fn plain_sentence(&self) -> String {
        match self {
            Outcome::RefusedAtSocket(_) => Outcome::Refused.sentence(),
            Outcome::Tls(_) => "TLS failed".to_owned(),
            Outcome::Dns(_) => "the name doesn't resolve".to_owned(),
            Outcome::Unfit(_) => "the answer is unfit by the proxy's rules".to_owned(),
            other => other.sentence(),
        }
    }

    /// The reason in a sentence for an operator. Quotations are made safe to show.
    pub fn sentence(&self) -> String {
        let fixed = match self {
            Outcome::Status(status) => {
                return match status.canonical_reason() {
                    Some(reason) => format!("the backend answered {} {reason}", status.as_u16()),
                    None => format!("the backend answered {}", status.as_u16()),
                };
            }
            Outcome::RefusedAtSocket(reason) => {
                return format!("the backend refused the connection: {}", Reason(reason));
            }
            Outcome::Protocol(reason) => return format!("the answer isn't valid HTTP: {}", Reason(reason)),
            Outcome::Tls(reason) => return format!("TLS failed: {}", Reason(reason)),
            Outcome::Dns(reason) => return format!("the name doesn't resolve: {}", Reason(reason)),
            Outcome::Unfit(reason) => return format!("the answer is unfit by the proxy's rules: {}", Reason(reason)),
            Outcome::Refused => "the backend refused the connection",
            Outcome::Unreachable => "no route leads to the backend",
            Outcome::ConnectTimeout => "the backend couldn't be reached in time",
            Outcome::Timeout => "the backend's answer didn't come in time",
            Outcome::Reset => "the backend reset the connection",
            Outcome::Closed => "the backend closed the connection before its answer was complete",
            Outcome::Loop => "the request came back to this proxy",
            Outcome::NoSocket => "this host has no descriptor or port left, or the backend holds its share of them",
            Outcome::Skipped => "not asked, since the backend hangs or is benched, and the race was over",
            Outcome::Unneeded => "not asked, since the race was over before its time",
            Outcome::Cancelled => "hung up on, since the race was over",
            Outcome::TooLarge => "the head of the answer is too large",
            Outcome::Panic => "a bug in the proxy",
        };
        fixed.to_owned()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A duration as the log writes it: `12ms`, `0.4ms`.
pub struct Elapsed(pub Duration);

impl Elapsed {
    /// In milliseconds, as precisely as it is written.
    pub fn millis(&self) -> f64 {
        let tenths = match self.0.as_micros() {
            micros @ 0..10_000 => micros / 100,
            micros => micros / 1000 * 10,
        };
        f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            micros @ 0..10_000 => write!(f, "{}.{}ms", micros / 1000, micros % 1000 / 100),
            micros => write!(f, "{}ms", micros / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_keeps_a_tenth_of_a_millisecond() {
        for (micros, text) in [(0, "0.0ms"), (449, "0.4ms"), (9_999, "9.9ms"), (12_345, "12ms")] {
            let elapsed = Elapsed(Duration::from_micros(micros));
            assert_eq!(
                (elapsed.to_string(), format!("{:.1}ms", elapsed.millis())),
                (text.to_owned(), text.replace("12ms", "12.0ms"))
            );
        }
    }

    /// Was seen as: the names of a certificate put line ends and escape sequences into the text of the 502.
    #[test]
    fn what_a_backend_says_is_escaped_and_cut_in_the_sentence() {
        for outcome in [Outcome::Tls, Outcome::Dns, Outcome::Protocol].map(|of| of("a\r\nb1 \u{1b}[2J".repeat(1000))) {
            let sentence = outcome.sentence();
            assert!(sentence.contains(": a\\r\\nb1 \\u{1b}[2Ja\\r") && sentence.len() < 1500, "{sentence}");
            assert!(!sentence.contains(char::is_control), "{sentence}");
            let reason = outcome.reason().expect("a reason").to_string();
            assert!(sentence.ends_with(&format!(": {reason}")), "{sentence}");
        }
        assert!(Outcome::Refused.reason().is_none());
        let at_socket = Outcome::RefusedAtSocket("/run/x.sock: no such file".to_owned());
        assert_eq!(at_socket.sentence(), "the backend refused the connection: /run/x.sock: no such file");
        assert_eq!(at_socket.plain_sentence(), "the backend refused the connection", "paths aren't for clients");
    }

    #[test]
    fn a_status_is_its_own_word() {
        let outcome = Outcome::Status(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(outcome.to_string(), "503");
        assert_eq!(outcome.sentence(), "the backend answered 503 Service Unavailable");
    }
}
