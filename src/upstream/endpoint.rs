//! One backend as far as connecting to it goes: its address, those of its name, and how many connections to it there may be.
//! Knows nothing of what becomes of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::list::LocalFiles;
use crate::message::{Address, Outcome, shown_path};
use crate::runtime::poller::Poller;
use crate::runtime::sync::{Arc, Weak};
use crate::upstream::connect::resolve::Resolver;
use crate::upstream::connect::tls::Tls;
use crate::upstream::connect::tls_error::{CA_FILE, OWN_CA};
use crate::upstream::connect::watch::NameWatch;
use crate::upstream::permit::Permit;
use crate::upstream::shared::Upstream;

/// Where a backend is reached.
pub(crate) enum Place {
    /// At its URL's host and port.
    Url,
    /// At this Unix socket, in place of them.
    Socket(PathBuf),
    /// At this one of the addresses of its URL's name.
    OneOf(SocketAddr, Weak<NameWatch>),
}

/// One backend, to be connected to.
pub(crate) struct Endpoint {
    address: Address,
    socket: Option<PathBuf>,
    upstream: Arc<Upstream>,
    resolver: Resolver,
    open: Arc<AtomicUsize>,
    /// Its own files, if it has some, and TLS by them.
    own: Option<(Arc<LocalFiles>, Tls)>,
    /// The timeout of its own, in milliseconds; 0 if it has the common one. It changes with the list.
    own_timeout: AtomicU64,
    /// Whether its URL's path is that of a request for `/`, without a slash behind it. It changes with the list.
    is_exact: AtomicBool,
}

impl Endpoint {
    /// The backend with this address, which is reached there. Calls `moved` on a lookup's thread when one of its name's addresses
    /// isn't that any more.
    pub(crate) fn new(
        address: Address,
        place: Place,
        upstream: Arc<Upstream>,
        files: Option<Arc<LocalFiles>>,
        moved: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Endpoint> {
        let (lookups, ttl) = (upstream.lookups.clone(), upstream.options.dns_ttl);
        let (host, port) = (address.host(), address.port());
        let (resolver, socket) = match place {
            Place::Url => (Resolver::new(host, port, lookups, ttl, moved), None),
            // It needs no name: an address that is never looked up stands in for it.
            Place::Socket(path) => (Resolver::new("127.0.0.1", port, lookups, ttl, moved), Some(path)),
            Place::OneOf(address, watch) => (Resolver::one_of(address, watch), None),
        };
        let own = files.map(|files| {
            let tls = upstream.tls.by_files(&files);
            (files, tls)
        });
        let (open, own_timeout, is_exact) = (Arc::default(), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Endpoint { address, socket, upstream, resolver, open, own, own_timeout, is_exact })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The Unix socket at which the backend is reached, if it is at one.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Where it is reached by this address, which stands in for a socket's: for the log.
    pub(crate) fn place(&self, address: SocketAddr) -> String {
        self.socket().map_or_else(|| address.to_string(), shown_path)
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Bounds resolving, connecting and the TLS handshake, and again the wait for the answer's head.
    pub(crate) fn timeout(&self) -> Duration {
        self.own_timeout().unwrap_or(self.upstream.options.timeout)
    }

    /// The timeout of its own, if it has one.
    pub(crate) fn own_timeout(&self) -> Option<Duration> {
        match self.own_timeout.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Sets the timeout of its own, or none, for all that begins from now on.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        let millis = timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
        self.own_timeout.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.is_exact.load(Ordering::Relaxed)
    }

    /// Sets whether its URL's path is exact, for all that begins from now on.
    pub(crate) fn set_exact(&self, is_exact: bool) {
        self.is_exact.store(is_exact, Ordering::Relaxed);
    }

    /// Bounds each silence while bytes move. It is no shorter than the timeout: waiting for a head is a silence, too.
    pub(crate) fn idle_timeout(&self) -> Duration {
        let own = Duration::from_millis(self.own_timeout.load(Ordering::Relaxed));
        self.upstream.options.idle_timeout.max(own)
    }

    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.upstream.poller
    }

    /// Its own files, if it has some.
    pub(crate) fn files(&self) -> Option<&Arc<LocalFiles>> {
        self.own.as_ref().map(|(files, _)| files)
    }

    /// The option by which the authorities are given that count for its certificate.
    pub(crate) fn authorities_option(&self) -> &'static str {
        if self.files().is_some_and(|files| files.roots.is_some()) { OWN_CA } else { CA_FILE }
    }

    /// Takes a permit for one more connection, if there may be one.
    pub(crate) fn permit(&self) -> Result<Permit, Outcome> {
        Permit::take(&self.upstream, &self.open)
    }

    /// The number of its connections that must end before there may be one more.
    pub(crate) fn excess_connections(&self) -> usize {
        Permit::excess(&self.upstream, &self.open)
    }

    /// Takes a permit for what counts as a connection, whether there may be one or not.
    pub(crate) fn counted_permit(&self) -> Permit {
        Permit::count(&self.upstream, &self.open).0
    }

    /// The proxy's side of TLS before the handshake, if the backend wants it.
    pub(crate) fn tls_session(&self) -> Result<Option<Box<rustls::Connection>>, Outcome> {
        let tls = self.own.as_ref().map_or(&self.upstream.tls, |(_, tls)| tls);
        if self.address.is_tls() { tls.connection(self.address.host()).map(Some) } else { Ok(None) }
    }
}
