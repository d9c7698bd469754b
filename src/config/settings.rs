//! The settings as checked values, and their defaults. Knows nothing of flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use log::LevelFilter;

use super::listen::Listen;
use super::lose_if::LoseIf;
use super::on_failure::OnFailure;
use super::statuses::Statuses;
use super::token::AdminToken;
use crate::list::ListFile;
use crate::message::{Excerpt, ListEntry};
use crate::net::server_tls::TlsFiles;

/// The settings, all of them checked.
// Each of them is a switch of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone)]
pub struct Config {
    /// The backends to begin with: no duplicates, at most 64, not all paused; empty only for the demo, which brings its own.
    pub backends: Vec<ListEntry>,
    /// The file that the list is kept in, if there is one.
    pub backends_file: Option<ListFile>,
    /// What is odd about how the settings were given, a line each.
    pub oddities: Vec<String>,
    /// Whether the addresses below are listened on: else a supervisor's sockets take their place.
    pub are_addresses_used: bool,
    /// The addresses that clients connect to without TLS.
    pub listen: Vec<Listen>,
    /// The addresses that clients connect to by HTTPS; with `listen` at least one.
    pub tls_listen: Vec<Listen>,
    /// The files for HTTPS; with no certificate there is none.
    pub tls: TlsFiles,
    /// The addresses that take updates; may be empty.
    pub admin_listen: Vec<Listen>,
    /// The longest time to reach a backend (DNS, TCP, TLS), and again from the last request byte to the complete head.
    pub timeout: Duration,
    /// The longest silence while a body moves, either way; at least `timeout`.
    pub idle_timeout: Duration,
    /// The time after the verdict in which losers of a safe method (RFC 9110 §9.2.1) may still finish.
    pub linger: Duration,
    /// The time after the verdict in which losers of any other method may still finish.
    pub linger_unsafe: Duration,
    /// Whether a loser whose backend has had no success lately is let run to its timeout. No flag turns that off: tests of what
    /// else becomes of losers do.
    pub long_look: bool,
    /// The number of losers that may wait in vain at one backend before legs of safe methods to it are deferred.
    pub max_unanswered: NonZeroUsize,
    /// The failures in a row after which a backend sits races out, if any number of them has it do so.
    pub bench: Option<NonZeroU32>,
    /// The most idle connections kept for each backend.
    pub max_idle_connections: usize,
    /// The time for which the addresses of a backend's name count.
    pub dns_ttl: Duration,
    /// Certificates to trust beside the usual roots, in DER.
    pub ca_certificates: Vec<Vec<u8>>,
    /// The file that these were read from, if from one.
    pub ca_file: Option<String>,
    /// The statuses that win a race.
    pub success: Statuses,
    /// The statuses that end a race without being a success; none of them is.
    pub definitive: Statuses,
    /// The methods whose requests are raced, others go to one backend; `None`: all.
    pub race_methods: Option<Vec<Method>>,
    /// The rules by which an answer that would win loses.
    pub lose_if: LoseIf,
    /// Whether an answer wins by the first byte of its body, rather than by its head.
    pub win_on_byte: bool,
    /// What a client gets when no answer wins.
    pub on_failure: OnFailure,
    /// The longest head of a request, in bytes, line ends included: from 1 KiB to 256 KiB.
    pub max_head: usize,
    /// The longest request body, in bytes.
    pub max_body: u64,
    /// The directory for long request bodies; it took a file at the start.
    pub spool_dir: PathBuf,
    /// The most client connections at once; `None` leaves it to the limits of open files and of memory.
    pub max_connections: Option<NonZeroUsize>,
    /// Networks of the proxies before this one, which are believed about a request's source.
    pub trusted_proxies: Vec<IpNet>,
    /// The number of threads that begin races of many backends.
    pub workers: NonZeroUsize,
    /// The longest time that exchanges in flight may still take once the program is told to stop.
    pub grace_period: Duration,
    /// The token that an update must show, if there is one.
    pub admin_token: Option<AdminToken>,
    /// Names that an update's `Host` may have besides `localhost`, in lower case, without the root's dot.
    pub admin_host: Vec<String>,
    /// Networks besides loopback that updates may come from.
    pub admin_from: Vec<IpNet>,
    /// Whether updates are taken where clients connect, too.
    pub admin_on_proxy_port: bool,
    /// The name that the backends see in `Host`.
    pub host: HostHeader,
    /// Whether the backends get `Via`.
    pub via: bool,
    /// Whether clients are told where backends are.
    pub expose_backends: bool,
    /// The least important level that is logged.
    pub log_level: LevelFilter,
    /// The format of the log's lines.
    pub log_format: LogFormat,
}

/// The format of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object of JSON for each line.
    Json,
}

/// The name that the backends see in `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// Each backend sees its own name.
    Backend,
    /// The name that the client wrote.
    Preserve,
}

impl Config {
    /// The longest time that a race takes. The last tier starts after one timeout at the latest, and those that are deferred when its
    /// legs have lost.
    pub fn race_time_max(&self) -> Duration {
        let own = self.backends.iter().filter_map(|entry| entry.options.timeout).max().unwrap_or_default();
        self.timeout + self.timeout.max(own) * 4 + Duration::from_secs(1)
    }

    /// Whether what a body says decides on answers.
    pub(crate) fn looks_at_bodies(&self) -> bool {
        self.win_on_byte || self.lose_if.looks_at_bodies()
    }

    /// Whether requests of this method are raced.
    pub(crate) fn races(&self, method: &Method) -> bool {
        self.race_methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    /// Refuses a list with a backend at which the proxy itself listens: every request would come back. An error names the first.
    pub(crate) fn check_not_own(&self, entries: &[ListEntry]) -> Result<(), String> {
        let own = entries.iter().filter(|_| self.are_addresses_used).find_map(|entry| {
            let (address, socket) = (&entry.address, entry.options.socket.as_deref());
            let is_own = |(_, all): &(&str, &Vec<Listen>)| all.iter().any(|one| one.is_reached_by(address, socket));
            self.ports().into_iter().find(is_own).map(|(flag, _)| (address.to_string(), flag))
        });
        own.map_or(Ok(()), |(address, flag)| {
            let address = Excerpt(&address);
            Err(format!("'{address}': the proxy itself listens there (--{flag}); give one of them another port"))
        })
    }

    /// Where it listens, by the flags that say so.
    pub(super) fn ports(&self) -> [(&'static str, &Vec<Listen>); 3] {
        [("listen", &self.listen), ("tls-listen", &self.tls_listen), ("admin-listen", &self.admin_listen)]
    }

    /// Has a proxy listen on a free port of the loopback alone, and write nothing: for one that only this process asks.
    pub(crate) fn on_loopback(mut self) -> Config {
        self.listen = vec![Listen::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
        (self.admin_listen, self.tls_listen, self.tls) = (Vec::new(), Vec::new(), TlsFiles::default());
        self.backends_file = None;
        self
    }

    /// The default settings with these backends.
    pub fn new(backends: Vec<ListEntry>) -> Config {
        Config {
            backends,
            backends_file: None,
            oddities: Vec::new(),
            are_addresses_used: true,
            listen: Listen::everywhere(8080),
            tls_listen: Vec::new(),
            tls: TlsFiles::default(),
            admin_listen: Listen::loopback(8081),
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            linger: Duration::from_millis(200),
            linger_unsafe: Duration::from_secs(5),
            long_look: true,
            max_unanswered: NonZeroUsize::new(128).expect("it isn't 0"),
            bench: None,
            max_idle_connections: 512,
            dns_ttl: Duration::from_secs(30),
            ca_certificates: Vec::new(),
            ca_file: None,
            success: Statuses::default(),
            definitive: Statuses::NONE,
            on_failure: OnFailure::BadGateway,
            race_methods: None,
            lose_if: LoseIf::default(),
            win_on_byte: false,
            // Tickets and tokens of single sign-on name all groups of a user: 17,000 bytes are seen. Beside them
            // cookies need room.
            max_head: 32 << 10,
            max_body: 10 << 20,
            spool_dir: std::env::temp_dir(),
            max_connections: None,
            trusted_proxies: ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network")).to_vec(),
            // Workers never wait; the second per core takes over while the system pauses the first.
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).saturating_mul(TWO),
            grace_period: Duration::from_secs(10),
            admin_token: None,
            admin_host: Vec::new(),
            admin_from: Vec::new(),
            admin_on_proxy_port: true,
            host: HostHeader::Backend,
            via: false,
            expose_backends: false,
            log_level: LevelFilter::Info,
            log_format: LogFormat::Text,
        }
    }
}

impl Default for Config {
    /// The default settings, without a backend.
    fn default() -> Config {
        Config::new(Vec::new())
    }
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
