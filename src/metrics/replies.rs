//! The replies that clients have got, by number: whose they were, their class, and the proxy's refusals by status.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::message::Refusal;

/// The classes of statuses, as metrics call them.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counts of replies. A reply counts when its head is about to be sent, so a client that has read it finds it counted.
#[derive(Debug, Default)]
pub struct ReplyStats {
    of_backends: [AtomicU64; CLASSES.len()],
    own: [AtomicU64; CLASSES.len()],
    refusals: [AtomicU64; Refusal::STATUSES.len()],
    /// Clients with whom TLS has failed: those that don't take the certificate, and others.
    tls_failures: [AtomicU64; 2],
}

/// Why TLS has failed with a client, as metrics call it.
const TLS_FAILURES: [&str; 2] = ["certificate", "other"];

impl ReplyStats {
    /// Counts a backend's answer that is passed on.
    pub fn count_answer(&self, status: StatusCode) {
        count_class(&self.of_backends, status);
    }

    /// Counts a reply that the proxy makes itself, and that refuses nothing.
    pub fn count_own(&self, status: StatusCode) {
        count_class(&self.own, status);
    }

    /// Counts a refusal with this status.
    pub fn count_refusal(&self, status: StatusCode) {
        self.count_own(status);
        if let Some(at) = Refusal::STATUSES.iter().position(|known| *known == status.as_u16()) {
            self.refusals[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a client with whom TLS has failed, which gets no reply.
    pub fn count_tls_failure(&self, is_of_our_certificate: bool) {
        self.tls_failures[usize::from(!is_of_our_certificate)].fetch_add(1, Ordering::Relaxed);
    }

    /// The clients with whom TLS has failed, by why: they don't take our certificate, or anything else.
    pub fn tls_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TLS_FAILURES.into_iter().zip(self.tls_failures.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// The replies of each class: those of backends, and the proxy's own.
    pub fn classes(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let counts = self.of_backends.iter().zip(&self.own);
        let loaded = counts.map(|(theirs, own)| (theirs.load(Ordering::Relaxed), own.load(Ordering::Relaxed)));
        CLASSES.into_iter().zip(loaded).map(|(class, (theirs, own))| (class, theirs, own))
    }

    /// The refusals with each status.
    pub fn refusals(&self) -> impl Iterator<Item = (u16, u64)> {
        Refusal::STATUSES.into_iter().zip(self.refusals.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

fn count_class(counts: &[AtomicU64; CLASSES.len()], status: StatusCode) {
    // A backend's 600 and above count with the errors.
    let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
    counts[class - 1].fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_counts_once_by_its_maker_and_its_class() {
        let replies = ReplyStats::default();
        let status = |status| StatusCode::from_u16(status).expect("a status");
        for answered in [101, 200, 299, 304, 404, 503, 999] {
            replies.count_answer(status(answered));
        }
        replies.count_own(status(200));
        for refused in [502, 502, 431] {
            replies.count_refusal(status(refused));
        }
        let classes: Vec<_> = replies.classes().collect();
        assert_eq!(classes, [("1xx", 1, 0), ("2xx", 2, 1), ("3xx", 1, 0), ("4xx", 1, 1), ("5xx", 2, 2)]);
        let refused: Vec<_> = replies.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(431, 1), (502, 2)]);
    }
}
