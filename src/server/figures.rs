//! The figures of a running proxy, gathered from the rooms that have them, whenever they are asked for.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime};

use crate::access_log;
use crate::admin::Facts;
use crate::downstream::Frontend;
use crate::list::BackendList;
use crate::metrics::{BackendSample, ClientsSample, Minute, ProcessSample, RACES_MAX, Sample};
use crate::net::server_tls::ServerTls;
use crate::proxy::Proxy;
use crate::runtime::sync::Mutex;
use crate::upstream::Backend;

/// The rooms that have figures.
pub(super) struct Figures {
    proxy: Arc<Proxy>,
    list: Arc<BackendList>,
    /// The clients' port, once there is one. It knows its services, which know this.
    clients: OnceLock<Weak<Frontend>>,
    /// The certificates for clients, if there are some.
    tls: Option<Arc<ServerTls>>,
    started: SystemTime,
    minute: Mutex<Minute>,
}

impl Figures {
    pub(super) fn of(proxy: Arc<Proxy>, list: Arc<BackendList>, tls: Option<Arc<ServerTls>>) -> Figures {
        Figures { proxy, list, clients: OnceLock::new(), tls, started: SystemTime::now(), minute: Mutex::default() }
    }

    /// Counts the clients of this port, too.
    pub(super) fn count_clients_of(&self, frontend: &Arc<Frontend>) {
        let _ = self.clients.set(Arc::downgrade(frontend));
    }

    /// Notes that a second is over. Doesn't block.
    pub(super) fn end_second(&self) {
        let p99 = self.minute.lock().end_second((self.proxy.stats(), self.proxy.replies()), || self.backends());
        self.proxy.recent().set_slow_from(p99);
        self.proxy.first_success().end_second(Instant::now());
    }

    /// What the status page shows to a client that asked for this host. Blocks like [`Figures::sample`].
    pub(super) fn facts(&self, authority: String) -> Facts {
        let sample = self.sample();
        let minute = self.minute.lock().last(&sample);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Facts {
            sample,
            minute,
            races: self.proxy.recent().last(RACES_MAX),
            host,
            authority,
            kept_in: self.list.kept_in(),
            list: self.list.text(),
            not_kept: self.list.check_kept().err(),
            has_looks: self.proxy.has_looks(),
        }
    }

    fn certificates(&self) -> Vec<(String, SystemTime)> {
        let served = self.tls.as_ref().map(|tls| tls.served()).unwrap_or_default();
        served.into_iter().map(|served| (served.file, served.not_after)).collect()
    }

    fn backends(&self) -> Vec<BackendSample> {
        self.proxy.backends().all().iter().map(|backend| sample_of(backend)).collect()
    }

    /// The figures of this moment. Blocks for as long as the kernel needs to list the open descriptors.
    pub(super) fn sample(&self) -> Sample {
        let (connections_opened, connections_reused) = self.proxy.backends().connection_counts();
        Sample {
            races: self.proxy.stats().clone(),
            replies: self.proxy.replies().clone(),
            hedge_delay: self.proxy.hedge_delay(),
            backends: self.backends(),
            list_changed: self.list.changed(),
            is_list_loaded: self.list.is_loaded(),
            clients: self
                .clients
                .get()
                .and_then(Weak::upgrade)
                .map(|clients| sample_of_clients(&clients, Instant::now()))
                .unwrap_or_default(),
            connections_opened,
            connections_reused,
            certificates: self.certificates(),
            log_lines_dropped: access_log::dropped(),
            process: ProcessSample::read(),
            started: self.started,
        }
    }
}

fn sample_of(backend: &Backend) -> BackendSample {
    let state = backend.state();
    let (name, url) = (backend.name().to_owned(), backend.address().to_string());
    BackendSample {
        label: label_of(backend),
        name,
        url,
        stats: backend.stats().clone(),
        is_insecure: backend.is_insecure(),
        state,
        benched: backend.benched(state),
        unanswered: backend.unanswered(),
        addresses: backend.addresses(),
    }
}

/// The text by which a backend's history is told from others'.
fn label_of(backend: &Backend) -> String {
    if backend.has_own_name() { backend.name().to_owned() } else { backend.address().to_string() }
}

fn sample_of_clients(frontend: &Frontend, now: Instant) -> ClientsSample {
    ClientsSample {
        connections: frontend.connections(),
        connections_max: frontend.connections_max(),
        requests: frontend.exchanges(),
        relays: frontend.relays(),
        tunnels: frontend.tunnels(),
        are_waiting: frontend.has_waiting_clients(now),
    }
}
