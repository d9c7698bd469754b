//! The two services that answer requests, `admin` and `proxy`, and their terms for bodies. Knows nothing of listeners
//! or threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::figures::Figures;
use super::ticker::Ticker;
use crate::access_log::{self, Entry};
use crate::admin::{Admin, FORM_BYTES_MAX, Guard, Views};
use crate::config::{AdminToken, Config};
use crate::downstream::{BodyPolicy, Eviction, Limits, Timeouts};
use crate::host::{ConnectionLimits, Host};
use crate::list::{BackendList, BadFiles, Check, load_files};
use crate::message::{ListEntry, Refusal, ReplyTo, Request, SpoolMemory};
use crate::metrics::{self, ReplyStats};
use crate::net::server_tls::ServerTls;
use crate::proxy::{Proxy, Threads, answer_alone};
use crate::race::{Linger, Reaper, Starter};
use crate::runtime::poller::Poller;
use crate::upstream::{Backends, ConnectOptions, Lookup, Upstream};

/// The most legs that start with their race on a poller's thread: some microseconds each. A worker starts more than these, and
/// other clients don't wait meanwhile.
const QUICK_LEGS_MAX: usize = 8;
/// The least room for a head on the admin port, in bytes: a target and a token of the longest fit.
const ADMIN_HEAD_BYTES: usize = 32 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// The services behind both ports.
pub(super) struct Routes {
    pub(super) admin: Admin,
    pub(super) proxy: Arc<Proxy>,
    pub(super) figures: Arc<Figures>,
    admin_on_proxy_port: bool,
}

/// Serves the requests from one port.
pub(super) trait Service: Send + Sync {
    /// Answers the request, now or later. Takes what [`Service::effort`] says.
    fn serve(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>);
    /// What serving the request takes.
    fn effort(&self, request: &Request) -> Effort;
}

/// What serving a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Some microseconds: waking another thread would cost more.
    Quick,
    /// Some milliseconds, and never the disk.
    Long,
    /// As long as the disk takes that the list is on.
    Admin,
}

/// The service where clients connect.
pub(super) struct ProxyPort(pub(super) Arc<Routes>);

/// The service where operators and probes connect.
pub(super) struct AdminPort(pub(super) Arc<Routes>);

impl Service for ProxyPort {
    fn serve(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        if self.0.is_update(&request) {
            return self.0.answer(&request, reply_to, Some(self.0.proxy.replies()));
        }
        self.0.proxy.serve(request, reply_to);
    }

    fn effort(&self, request: &Request) -> Effort {
        match self.0.proxy.legs_at_once() {
            _ if self.0.is_update(request) && self.0.admin.may_wait_for_disk(request) => Effort::Admin,
            // A refusal, too, is quick: strangers don't wait behind operators.
            _ if self.0.is_update(request) => Effort::Quick,
            ..=QUICK_LEGS_MAX => Effort::Quick,
            _ => Effort::Long,
        }
    }
}

impl Service for AdminPort {
    fn serve(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        match self.0.admin.probed(&request) {
            // Not logged: a probe comes every few seconds, for ever, and its line is never read.
            Some(probed) => reply_to.send(probed.unwrap_or_else(|refusal| refusal.reply()), Box::new(drop)),
            None => self.0.answer(&request, reply_to, None),
        }
    }

    fn effort(&self, request: &Request) -> Effort {
        match self.0.admin.probed(request) {
            // Neither a probe nor Prometheus waits behind updates that wait for the disk.
            Some(_) => Effort::Quick,
            None if self.0.admin.may_wait_for_disk(request) => Effort::Admin,
            None => Effort::Long,
        }
    }
}

impl Routes {
    fn is_update(&self, request: &Request) -> bool {
        self.admin_on_proxy_port && Admin::is_update(&request.target)
    }

    /// The terms for the body of a request about the proxy itself. Strangers are refused without it.
    fn body_policy(&self, request: &Request) -> BodyPolicy {
        if !self.admin.wants_body(request) {
            return BodyPolicy::Reject;
        }
        BodyPolicy::Limited { bytes_max: FORM_BYTES_MAX, too_long: Refusal::FormTooLong }
    }

    /// Answers a request about the proxy itself; on the clients' port the reply counts.
    fn answer(&self, request: &Request, reply_to: Box<dyn ReplyTo>, counts: Option<&ReplyStats>) {
        let entry = Entry::new(request, self.proxy.forwarded_of(request));
        let (reply, refusal) = match self.admin.answer(request) {
            // Not logged, like a probe: Prometheus asks every few seconds.
            Ok(reply) if Admin::is_view(&request.target) => return reply_to.send(reply, Box::new(drop)),
            Ok(reply) => (reply, None),
            Err(refusal) => (self.admin.refused(request, &refusal), Some(refusal)),
        };
        match (counts, &refusal) {
            (Some(counts), Some(refusal)) => counts.count_refusal(refusal.status()),
            (Some(counts), None) => counts.count_own(reply.status),
            (None, _) => {}
        }
        answer_alone(reply_to, entry, reply, refusal);
    }
}

/// Makes the services by the configuration. An error names what can't be used: a certificate, or a file of an entry.
pub(super) fn routes(
    config: &Arc<Config>,
    connection_limits: ConnectionLimits,
    poller: &Poller,
    threads: Threads,
    lookup: Arc<dyn Lookup>,
    tls: Option<Arc<ServerTls>>,
) -> Result<Routes, String> {
    let options = ConnectOptions {
        timeout: config.timeout,
        idle_timeout: config.idle_timeout,
        idle_connections_max: config.max_idle_connections,
        dns_ttl: config.dns_ttl,
        connections_max: connection_limits.upstream,
        own_roots: config.ca_certificates.clone(),
    };
    let upstream = Upstream::new(options, lookup, poller.clone())
        .map_err(|bad| format!("--ca-file: its certificate {} {}", bad.number, bad.reason))?;
    let files = load_files(&config.backends)
        .map_err(|bad| bad.iter().map(BadFiles::to_string).collect::<Vec<_>>().join("; "))?;
    warn_of_insecure(&config.backends);
    let backends = Backends::with_files(&config.backends, files, upstream);
    let token = config.admin_token.as_ref().map(AdminToken::as_str);
    let guard = Guard::new(token, &config.admin_host, &config.admin_from);
    // A leg has its timeout to reach its backend, and again to the head of the answer.
    let look = if config.long_look { config.timeout * 2 } else { Duration::ZERO };
    let linger = Linger { safe: config.linger, not_safe: config.linger_unsafe, look };
    let replaced = backends.clone();
    let publish = move |entries: &[ListEntry]| {
        access_log::replaced(entries);
        warn_of_insecure(entries);
        replaced.replace(entries);
        // A name may stand for several.
        if let Some(complaint) = connection_limits.complaint(entries.len().max(replaced.snapshot().len())) {
            log::warn!("{complaint}");
        }
    };
    let reloaded = backends.clone();
    let load = move |entries: &[ListEntry]| load_files(entries).map(|files| reloaded.set_files(files));
    let list = BackendList::new(config.backends.clone(), config.backends_file.clone(), Box::new(publish));
    let list = Arc::new(list.with_timeout(config.timeout).loading_by(Box::new(load)).checked_by(own_check(config)));
    let (reaper, starter) = (Reaper::new(linger, poller), Starter::new(poller));
    let proxy = Proxy::new(config.clone(), backends.clone(), threads, reaper, starter, poller);
    let figures = Arc::new(Figures::of(proxy.clone(), list.clone(), tls));
    let (shown, on_page, ticking) = (figures.clone(), figures.clone(), figures.clone());
    let views = Views {
        metrics: Box::new(move || metrics::text(shown.sample())),
        facts: Box::new(move |authority| on_page.facts(authority)),
        races: proxy.recent().clone(),
    };
    Ticker::start(poller, Instant::now(), SECOND, move || ticking.end_second());
    let admin = Admin::new(guard, list, Box::new(move || backends.all()), views);
    Ok(Routes { admin, proxy, figures, admin_on_proxy_port: config.admin_on_proxy_port })
}

/// Checks that no backend is the proxy itself.
fn own_check(config: &Arc<Config>) -> Check {
    let config = config.clone();
    Box::new(move |entries| config.check_not_own(entries))
}

/// Tells of each backend whose certificate isn't checked.
fn warn_of_insecure(entries: &[ListEntry]) {
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.options.local.is_insecure) {
        log::warn!(
            "{} {}: its certificate isn't checked (insecure): whoever sits between can read and change everything",
            entry.name_at(index),
            entry.address
        );
    }
}

/// Request limits for clients.
pub(super) fn limits(config: &Config, host: &Host, routes: &Arc<Routes>, timeouts: Timeouts) -> Limits {
    let (routes, replies) = (routes.clone(), Some(routes.proxy.replies().clone()));
    let body_policy = move |request: &Request| {
        if routes.is_update(request) { routes.body_policy(request) } else { BodyPolicy::Default }
    };
    let spool_memory = Arc::new(SpoolMemory::within(host.memory_bytes));
    Limits {
        spool_memory,
        timeouts,
        replies,
        body_policy: Arc::new(body_policy),
        ..Limits::new(config.max_head, config.max_body, &config.spool_dir)
    }
}

/// Request limits for operators and probes: a head and a form in some seconds each, and memory that clients can't take.
pub(super) fn admin_limits(config: &Config, routes: &Arc<Routes>, timeouts: Timeouts) -> Limits {
    let routes = routes.clone();
    Limits {
        timeouts: Timeouts { head: timeouts.limited_body, ..timeouts },
        body_policy: Arc::new(move |request| routes.body_policy(request)),
        eviction: Eviction::Oldest,
        ..Limits::new(config.max_head.max(ADMIN_HEAD_BYTES), FORM_BYTES_MAX, &config.spool_dir)
    }
}
