//! Tells until when the certificates for clients are valid: at the start, when they are read again and, once the end is near, each
//! day. Knows nothing of what they are for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::ticker::Ticker;
use crate::net::server_tls::{Served, ServerTls};
use crate::runtime::poller::Poller;
use crate::runtime::sync::Mutex;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The time between two looks at the clock: one that is set, or stood still with its host, is noticed soon.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// Says what to warn of, and not more often than each day.
struct Reminder {
    warned_at: SystemTime,
}

/// Tells the ends of all certificates.
pub(super) fn tell(tls: &ServerTls, now: SystemTime) {
    for served in tls.served() {
        for warning in served.warnings(now) {
            log::warn!("{warning}");
        }
        if !served.ends_soon(now) {
            log::info!("{}", served.sentence());
        }
    }
}

/// Warns each day from tomorrow on, until the cut.
pub(super) fn watch(tls: Arc<ServerTls>, poller: &Poller) {
    let reminder = Mutex::new(Reminder { warned_at: SystemTime::now() });
    Ticker::start(poller, Instant::now() + PAUSE, PAUSE, move || {
        let now = SystemTime::now();
        let due = reminder.lock().due(tls.served(), now);
        for warning in due.iter().filter_map(|served| served.ending(now)) {
            log::warn!("{warning}");
        }
    });
}

impl Reminder {
    /// The certificates to warn of now.
    fn due(&mut self, served: Vec<Served>, now: SystemTime) -> Vec<Served> {
        // Of a clock that was set back it isn't known how long that is ago.
        if now.duration_since(self.warned_at).is_ok_and(|since| since < DAY) {
            return Vec::new();
        }
        let due: Vec<Served> = served.into_iter().filter(|served| served.ends_soon(now)).collect();
        if !due.is_empty() {
            self.warned_at = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::net::server_tls::{CertificateFiles, TlsFiles};

    /// Puts a certificate there that is valid for this number of days.
    fn put(path: &Path, days: u32) {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + DAY * days).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(path, certificate.pem() + &key.serialize_pem()).expect("a file");
    }

    #[test]
    fn each_day_of_the_last_fourteen_has_a_warning_until_the_certificate_is_renewed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("ends.pem"), folder.path().join("lasts.pem"));
        put(&path, 20);
        put(&other, 200);
        let files = [&path, &other].map(|path| CertificateFiles { chain: path.clone(), key: path.clone() });
        let files = TlsFiles { certificates: files.to_vec(), ..TlsFiles::default() };
        let tls = ServerTls::read(files).expect("good files");
        let start = SystemTime::now();
        let mut reminder = Reminder { warned_at: start };
        // The hours since the start that have a warning.
        let mut warned = |hours: std::ops::Range<u32>| {
            let is_warned = |hour: &u32| {
                let due = reminder.due(tls.served(), start + PAUSE * *hour);
                assert!(due.iter().all(|served| served.file.ends_with("ends.pem")), "{due:?}");
                !due.is_empty()
            };
            hours.filter(is_warned).collect::<Vec<u32>>()
        };
        assert!(warned(0..6 * 24).is_empty());
        let daily: Vec<u32> = (0..10).map(|day| (6 + day) * 24).collect();
        let found = warned(6 * 24..16 * 24);
        // The certificate was made a moment before the start, to the second.
        assert!(found.iter().zip(&daily).all(|(found, day)| found.abs_diff(*day) <= 1), "{found:?}");
        assert_eq!(found.len(), daily.len());
        put(&path, 90);
        tls.reload().expect("good files");
        assert!(warned(16 * 24..70 * 24).is_empty());
        assert_eq!(warned(80 * 24..83 * 24).len(), 3, "and then of that one");
    }

    #[test]
    fn a_clock_that_is_set_back_silences_no_warning() {
        let now = SystemTime::now();
        let soon = || vec![Served { file: "a".to_owned(), not_after: now + DAY, oddities: Vec::new() }];
        let mut reminder = Reminder { warned_at: now + DAY * 365 };
        assert_eq!(reminder.due(soon(), now).len(), 1);
        assert_eq!(reminder.due(soon(), now + PAUSE).len(), 0);
    }
}
