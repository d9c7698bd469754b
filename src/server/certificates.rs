//! Tells until when the certificates for clients are valid: at the start, when they are read again and, once the end is near, each
//! day. Knows nothing of what they are for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::net::server_tls::ServerTls;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct CertificateWatch {
    tls: Arc<ServerTls>,
    registration: Registration,
}

/// Tells the ends of all certificates.
pub(super) fn tell(tls: &ServerTls, now: SystemTime) {
    for served in tls.served() {
        if served.ends_soon(now) {
            log::warn!("{}: renew it, then send SIGHUP", served.sentence());
        } else {
            log::info!("{}", served.sentence());
        }
    }
}

impl CertificateWatch {
    /// Warns each day from tomorrow on, until the cut.
    pub(super) fn start(tls: Arc<ServerTls>, poller: &Poller) {
        let watch = Arc::new(CertificateWatch { tls, registration: poller.reserve() });
        watch.registration.start(watch.clone());
        watch.registration.set_deadline(Some(Instant::now() + DAY));
    }
}

impl EventHandler for CertificateWatch {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Expired => {
                let now = SystemTime::now();
                if self.tls.served().iter().any(|served| served.ends_soon(now)) {
                    tell(&self.tls, now);
                }
                self.registration.set_deadline(Some(Instant::now() + DAY));
            }
            Event::Cut => self.registration.end(),
            Event::Ready { .. } | Event::Drain => {}
        }
    }
}
