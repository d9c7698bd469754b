//! The wiring: makes the poller, the workers, the services and the frontends, has each exchange served, and ends it all
//! in order. Knows nothing of the bytes of HTTP.

mod certificates;
mod figures;
mod reloader;
mod routes;
mod service_threads;
mod ticker;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::Socket;
use threadpool::ThreadPool;

use crate::access_log;
use crate::bind::{self, Listening, SocketFiles};
use crate::config::{self, Config};
use crate::downstream::{Frontend, Handler, Listener, Timeouts};
use crate::host::{self, Host};
use crate::message::{ReplyTo, Request};
use crate::metrics::{RecentRace, Totals};
use crate::net::server_tls::ServerTls;
use crate::proxy::{Executor, Proxy, Threads};
use crate::runtime::poller::{Event, EventLoop, Poller};
use crate::systemd::{State, Supervisor};
use crate::upstream::{Lookup, SystemLookup};
pub use reloader::Reloader;
use routes::{AdminPort, ProxyPort, Routes, Service, admin_limits, limits, routes};
use service_threads::{ServiceThreads, threads};

/// The most threads of the poller. It has one per core, but no more than these: by then the kernel's part of the work
/// wants the other cores.
const POLLER_THREADS_MAX: usize = 8;
/// The most threads that read bodies from their files. These have just been written, and most of them are in memory.
const DISK_THREADS_MAX: usize = 4;
/// The time between two looks, during a drain, at whether anything is still under way.
const TICK: Duration = Duration::from_millis(5);
/// The longest wait for the ends of what was cut, for their lines' sake. They take some milliseconds, but on a busy host.
const CUT_TIME: Duration = Duration::from_millis(500);
/// The most connections on the admin port. Operators are few; the limit keeps them from costing the clients'
/// descriptors.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// A proxy that listens and is about to run.
pub struct Server {
    config: Arc<Config>,
    supervisor: Arc<Supervisor>,
    poller: Poller,
    event_loops: Vec<EventLoop>,
    routes: Arc<Routes>,
    service_threads: ServiceThreads,
    frontends: [Arc<Frontend>; 2],
    addresses: Vec<Bound>,
    tls: Option<Arc<ServerTls>>,
    tls_addresses: Vec<Bound>,
    admin_addresses: Vec<Bound>,
    socket_files: Arc<SocketFiles>,
    /// Kept to the end: the admin port answers until then.
    admin_socket_files: Arc<SocketFiles>,
    stop: (Sender<()>, Receiver<()>),
}

/// Where a socket listens: its place for the log, and its address and port if it is a TCP socket.
struct Bound {
    place: String,
    address: Option<SocketAddr>,
}

/// Reason why the proxy can't start: the operation, its datum, and the cause.
#[derive(Debug)]
pub enum StartError {
    /// A flag doesn't go with the sockets that the supervisor hands over: another start would fail as well.
    Setting(String),
    /// The host lacks something, which may come back.
    Host(String),
}

impl StartError {
    /// The host refuses a thread.
    pub fn no_thread(reason: &io::Error) -> StartError {
        let limits = "ulimit -u, TasksMax=, --pids-limit";
        StartError::Host(format!("cannot start a thread: {reason}; raise the limit of processes ({limits})"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StartError::Setting(reason) | StartError::Host(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StartError {}

/// Stops a running [`Server`] from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(Sender<()>, [Weak<SocketFiles>; 2]);

impl Stopper {
    /// Has the server finish what is under way and return from [`Server::run`]. Doesn't wait for that.
    pub fn stop(&self) {
        let _ = self.0.try_send(());
    }

    /// Removes the files of the server's sockets, before the process ends at once.
    pub fn remove_socket_files(&self) {
        self.1.iter().filter_map(Weak::upgrade).for_each(|files| files.remove());
    }
}

/// Counts the costs of a running [`Server`]'s races.
#[derive(Clone)]
pub struct Meter(Arc<Proxy>);

impl Meter {
    /// The costs of all races since the start.
    pub fn totals(&self) -> Totals {
        self.0.totals()
    }

    /// The count of races of which a leg is still running.
    pub fn races(&self) -> usize {
        self.0.races()
    }

    /// The newest race with this id, if it is over and is remembered.
    pub fn race(&self, id: &str) -> Option<Arc<RecentRace>> {
        self.0.recent().of(id)
    }
}

impl Server {
    /// Binds every configured address; clients are accepted from [`Server::run`] on. An error names the
    /// address, or what the host lacks.
    pub fn bind(config: Config) -> Result<Server, StartError> {
        Server::bind_supervised(config, Arc::new(SystemLookup), Supervisor::default(), Timeouts::DEFAULT)
    }

    /// Binds for a supervisor: its sockets take the place of the configured addresses, and it is told when clients are
    /// accepted and when the end begins. Names are looked up by `lookup`, and clients have these timeouts. An error says
    /// whether a flag or the host is the reason.
    pub fn bind_supervised(
        config: Config,
        lookup: Arc<dyn Lookup>,
        mut supervisor: Supervisor,
        timeouts: Timeouts,
    ) -> Result<Server, StartError> {
        let (config, handed_over) = (Arc::new(config), supervisor.take_sockets());
        bind::check(&config, &handed_over).map_err(StartError::Setting)?;
        let has_tls = !config.tls.certificates.is_empty();
        let tls = has_tls.then(|| ServerTls::read(config.tls.clone())).transpose();
        let tls = tls.map_err(|reason| StartError::Host(format!("cannot speak TLS with clients: {reason}")))?;
        let Listening { sockets, files: socket_files, admin_files } =
            bind::listening(&config, handed_over).map_err(StartError::Host)?;
        let started = |error: io::Error| StartError::Host(format!("cannot set up the poller: {error}"));
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (poller, event_loops) = Poller::shared_by(cores.min(POLLER_THREADS_MAX)).map_err(started)?;
        let no_thread = |error: io::Error| StartError::no_thread(&error);
        let service_threads = ServiceThreads::new(config.workers.get()).map_err(no_thread)?;
        let disk = threads("disk", cores.min(DISK_THREADS_MAX)).map_err(no_thread)?;
        host::raise_open_files();
        let host = Host::read();
        let connection_limits = host.capacity(config.max_head).limits(config.max_connections.map(NonZeroUsize::get));
        for warning in config::warnings(&config, &host) {
            log::warn!("{warning}");
        }
        let threads = Threads { disk: executing(&disk), long: executing(&service_threads.workers) };
        let routes = routes(&config, connection_limits, &poller, threads, lookup, tls.clone());
        let routes = Arc::new(routes.map_err(StartError::Host)?);
        let frontend = |limits, clients_max| Frontend::new(poller.clone(), limits, clients_max, config.idle_timeout);
        let (limits, admin_limits) =
            (limits(&config, &host, &routes, timeouts), admin_limits(&config, &routes, timeouts));
        let (frontend, admin_frontend) =
            (frontend(limits, connection_limits.clients), frontend(admin_limits, ADMIN_CONNECTIONS_MAX));
        routes.figures.count_clients_of(&frontend);
        let proxy_port = Arc::new(ProxyPort(routes.clone()));
        let addresses = open(&frontend, sockets.proxy, Event::Drain, &service_threads, proxy_port.clone(), None)?;
        let tls_addresses = open(&frontend, sockets.tls, Event::Drain, &service_threads, proxy_port, tls.as_ref())?;
        // A probe that asks for readiness must hear that the proxy isn't ready any more, to its very end.
        let admin_port = Arc::new(AdminPort(routes.clone()));
        let admin_addresses = open(&admin_frontend, sockets.admin, Event::Cut, &service_threads, admin_port, None)?;
        let frontends = [frontend, admin_frontend];
        let stop = bounded(1);
        Ok(Server {
            config,
            supervisor: Arc::new(supervisor),
            poller,
            event_loops,
            routes,
            service_threads,
            frontends,
            addresses,
            tls,
            tls_addresses,
            admin_addresses,
            socket_files,
            admin_socket_files: admin_files,
            stop,
        })
    }

    /// The first TCP port that clients can connect to, if there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(|bound| bound.address)
    }

    /// The first TCP port that clients can connect to by HTTPS, if there is one.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addresses.iter().find_map(|bound| bound.address)
    }

    /// The first TCP port for updates, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addresses.iter().find_map(|bound| bound.address)
    }

    /// A handle that stops the server, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.0.clone(), [&self.socket_files, &self.admin_socket_files].map(Arc::downgrade))
    }

    /// A handle that has its list's file read again, from any thread.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            config: self.config.clone(),
            routes: self.routes.clone(),
            tls: self.tls.clone(),
            supervisor: self.supervisor.clone(),
            asked: Arc::default(),
        }
    }

    /// A handle that counts the costs of its races, from any thread.
    pub fn meter(&self) -> Meter {
        Meter(self.routes.proxy.clone())
    }

    /// Serves until it is stopped, then finishes what is under way for at most the grace period. Blocks. An error means
    /// that the poller's threads couldn't be started.
    pub fn run(mut self) -> io::Result<()> {
        let (poller, event_loops, stopper) =
            (self.poller.clone(), std::mem::take(&mut self.event_loops), self.stopper());
        let failed = |error| {
            log::error!("cannot wait for sockets any more: {error}");
            stopper.stop();
        };
        self.wait_for_names();
        poller.run_beside(event_loops, failed, || self.serve())?;
        log::info!("stopped");
        Ok(())
    }

    /// Waits, before the first client is accepted, for the addresses of names each of whose addresses is a backend: at most for the
    /// timeout, and until the server is stopped.
    fn wait_for_names(&self) {
        let (backends, until) = (self.routes.proxy.backends(), Instant::now() + self.config.timeout);
        while self.stop.1.is_empty() && backends.first_lookups().recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() >= until {
                return backends.tell_slow_lookups();
            }
        }
    }

    /// Runs beside the poller's threads, until the server is stopped and nothing is under way.
    fn serve(self) {
        self.tell_start();
        let Server { config, supervisor, poller, routes, service_threads, frontends, stop, socket_files, .. } = self;
        // A signal may have come before.
        if stop.1.is_empty() {
            supervisor.notify(State::Ready);
        }
        let _ = stop.1.recv();
        // Before the supervisor is told: what asks for readiness on that word must hear it confirmed.
        routes.admin.stop();
        supervisor.notify(State::Stopping);
        log::info!("stopping: no more clients are accepted");
        for frontend in &frontends {
            frontend.drain();
        }
        poller.broadcast(Event::Drain);
        // A process that takes over can listen there from now on.
        socket_files.remove();
        // Idle clients have been closed: those that are left are being read, served or told goodbye. On the admin port
        // others come as long as it lives; only those that are being served count.
        let [frontend, admin_frontend] = &frontends;
        let in_flight = || frontend.connections() + admin_frontend.exchanges() + routes.proxy.races();
        let grace_ends = Instant::now() + config.grace_period;
        while in_flight() > 0 && Instant::now() < grace_ends {
            thread::park_timeout(TICK);
        }
        if in_flight() > 0 {
            log::warn!("the grace period is over: cutting {} clients and races", in_flight());
        }
        poller.broadcast(Event::Cut);
        // Once more for the connections that have been hung up on by it: their legs end, too, and with the last of them
        // the line of the log is written.
        poller.broadcast(Event::Cut);
        // What a client's cut ends, ends on the poller's threads.
        let cut_ends = Instant::now() + CUT_TIME;
        // Not for longer, nor for the thread that reads bodies: the disk may hang.
        while routes.proxy.races() + service_threads.under_way() > 0 && Instant::now() < cut_ends {
            thread::park_timeout(TICK);
        }
    }

    fn tell_start(&self) {
        let list = |bound: &[Bound]| bound.iter().map(|bound| bound.place.as_str()).collect::<Vec<_>>().join(" and ");
        let version = env!("CARGO_PKG_VERSION");
        if self.addresses.is_empty() {
            log::info!("red-tentacle {version} listens for HTTPS on {}", list(&self.tls_addresses));
        } else {
            log::info!("red-tentacle {version} listens on {}", list(&self.addresses));
            if !self.tls_addresses.is_empty() {
                log::info!("HTTPS is spoken on {}", list(&self.tls_addresses));
            }
        }
        if !self.admin_addresses.is_empty() {
            log::info!("updates are taken on {}", list(&self.admin_addresses));
        }
        if let Some(tls) = &self.tls {
            certificates::tell(tls, SystemTime::now());
            certificates::watch(tls.clone(), &self.poller);
        }
        access_log::replaced(&self.routes.admin.list().entries());
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.local_addr()).finish_non_exhaustive()
    }
}

fn executing(pool: &ThreadPool) -> Executor {
    let pool = pool.clone();
    Box::new(move |work| pool.execute(work))
}

/// Has one frontend accept clients on these sockets. Returns their addresses.
fn open(
    frontend: &Arc<Frontend>,
    sockets: Vec<Socket>,
    until: Event,
    threads: &ServiceThreads,
    service: Arc<dyn Service>,
    tls: Option<&Arc<ServerTls>>,
) -> Result<Vec<Bound>, StartError> {
    let handler = Arc::new(Dispatch { service, threads: threads.clone() });
    let failed = |error: io::Error| StartError::Host(format!("cannot accept clients: {error}"));
    let mut addresses = Vec::new();
    for socket in sockets {
        let address = socket.local_addr().map_err(failed)?.as_socket();
        addresses.push(Bound { place: bind::place(&socket), address });
        Listener::open(frontend.clone(), socket, until, handler.clone(), tls.cloned()).map_err(failed)?;
    }
    Ok(addresses)
}

/// Has requests served on the thread that read them if that is quick, else on one for what that may wait for.
struct Dispatch {
    service: Arc<dyn Service>,
    threads: ServiceThreads,
}

impl Handler for Dispatch {
    fn has_room(&self, request: &Request) -> bool {
        self.threads.has_room(self.service.effort(request))
    }

    fn handle(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
        let Some(pool) = self.threads.of(self.service.effort(&request)) else {
            return serve(&*self.service, request, reply_to);
        };
        let service = self.service.clone();
        pool.execute(move || serve(&*service, request, reply_to));
    }
}

fn serve(service: &dyn Service, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
    // The way back to the client answers 500 if it is dropped by a panic.
    let _ = catch_unwind(AssertUnwindSafe(|| service.serve(request, reply_to)));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::panic::resume_unwind;
    use std::time::Duration;

    use http::{HeaderMap, Method, StatusCode, Version};

    use super::routes::Effort;
    use super::*;
    use crate::config::Listen;
    use crate::downstream::Limits;
    use crate::message::{BodySource, OnReady, Reply, ReplyBody, ReplyTo, Target, parse_entries};

    const SOON: Duration = Duration::from_secs(20);

    /// A body whose reading panics after its first bytes.
    struct PanickingBody(usize);

    impl Read for PanickingBody {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => (&b"hello"[..]).read(buffer),
                2 => Err(io::ErrorKind::WouldBlock.into()),
                _ => resume_unwind(Box::new("meant")),
            }
        }
    }

    impl BodySource for PanickingBody {
        fn when_ready(&mut self, _: OnReady) {}
    }

    /// A service that answers as the path says. It panics without the hook's noise.
    struct Panicking;

    impl Service for Panicking {
        fn serve(&self, request: Box<Request>, reply_to: Box<dyn ReplyTo>) {
            let reply = match request.target.path() {
                "/before" => resume_unwind(Box::new("meant")),
                "/midway" => Reply {
                    status: StatusCode::OK,
                    headers: HeaderMap::new(),
                    body: ReplyBody::Stream { length: Some(10), source: Box::new(PanickingBody(0)) },
                },
                _ => Reply::text(StatusCode::OK, "fine"),
            };
            reply_to.send(reply, Box::new(drop));
        }

        fn effort(&self, request: &Request) -> Effort {
            if request.target.path() == "/fine" { Effort::Quick } else { Effort::Long }
        }
    }

    /// Sends a request; returns everything that the client gets until its connection ends, and whether it ends in
    /// order.
    fn get(address: SocketAddr, path: &str) -> (String, bool) {
        let mut client = TcpStream::connect_timeout(&address, SOON).expect("a connection");
        client.set_read_timeout(Some(SOON)).expect("a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).expect("the frontend reads");
        let mut bytes = Vec::new();
        let ended = client.read_to_end(&mut bytes);
        (String::from_utf8_lossy(&bytes).into_owned(), ended.is_ok())
    }

    #[test]
    fn a_panic_in_an_exchange_is_answered_and_costs_no_other_client_anything() {
        let config = Config::new(Vec::new());
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (poller, event_loop) = Poller::new().expect("a poller");
        let polling = thread::spawn(move || event_loop.run());
        let threads = ServiceThreads::new(1).expect("threads");
        let limits = Limits::new(config.max_head, config.max_body, &config.spool_dir);
        let frontend = Frontend::new(poller.clone(), limits, 16, SOON);
        let bound =
            open(&frontend, vec![socket.into()], Event::Drain, &threads, Arc::new(Panicking), None).expect("a port");
        let address = bound[0].address.expect("TCP");
        for _ in 0..3 {
            let (reply, in_order) = get(address, "/before");
            assert!(reply.starts_with("HTTP/1.1 500 ") && reply.ends_with("Internal error\n") && in_order, "{reply}");
            let (reply, in_order) = get(address, "/fine");
            assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("fine\n") && in_order, "{reply}");
            let (reply, in_order) = get(address, "/midway");
            assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("hello") && !in_order, "{reply}");
        }
        threads.workers.join();
        assert_eq!((frontend.exchanges(), threads.workers.panic_count()), (0, 0));
        poller.stop();
        polling.join().expect("no panic").expect("the poller ends");
    }

    /// A server of one worker on free ports, for as many backends.
    fn server_of(backends: usize) -> Server {
        let list: Vec<String> = (1..=backends).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let entries = parse_entries(&list.join(",")).expect("a list");
        let (listen, admin_listen) = (Listen::loopback(0), Listen::loopback(0));
        let (workers, grace_period) = (NonZeroUsize::MIN, Duration::ZERO);
        Server::bind(Config { listen, admin_listen, workers, grace_period, ..Config::new(entries) }).expect("two ports")
    }

    #[test]
    fn only_what_changes_the_list_and_the_page_may_wait_for_the_disk() {
        let (few, many) = (server_of(8).routes, server_of(9).routes);
        let clients = |routes: &Arc<Routes>| ProxyPort(routes.clone());
        let (clients_of_few, clients_of_many, admin) = (clients(&few), clients(&many), AdminPort(few));
        let rows: [(&dyn Service, Method, &str, Effort); 12] = [
            (&clients_of_few, Method::GET, "/", Effort::Quick),
            (&clients_of_few, Method::GET, "/update-backends", Effort::Quick),
            (&clients_of_few, Method::POST, "/backends", Effort::Quick),
            (&clients_of_many, Method::GET, "/", Effort::Long),
            (&clients_of_few, Method::POST, "/update-backends", Effort::Admin),
            (&clients_of_many, Method::POST, "/update-backends", Effort::Admin),
            (&admin, Method::GET, "/healthz", Effort::Quick),
            (&admin, Method::GET, "/metrics", Effort::Long),
            (&admin, Method::GET, "/backends", Effort::Long),
            (&admin, Method::GET, "/", Effort::Admin),
            (&admin, Method::POST, "/backends", Effort::Admin),
            (&admin, Method::POST, "/-update-backends", Effort::Admin),
        ];
        for (port, method, target, expected) in rows {
            let target = Target::parse(&method, target).expect("a target");
            let (version, received) = (Version::HTTP_11, Instant::now());
            let headers = [("host", "localhost"), ("accept", "text/html")];
            let headers = headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
            let (headers, peer) = (headers.into_iter().collect(), SocketAddr::from(([127, 0, 0, 1], 1)).into());
            let mut request = Request { method, target, version, headers, body: None, peer, received };
            assert_eq!(port.effort(&request), expected, "{} {}", request.method, request.target.as_str());
            if expected == Effort::Admin {
                request.headers.insert("host", "evil.example".parse().expect("a value"));
                assert_ne!(port.effort(&request), Effort::Admin, "strangers wait for no disk");
            }
        }
    }

    #[test]
    fn a_disk_that_hangs_holds_up_updates_alone_and_the_end_no_longer_than_the_grace_period() {
        let server = server_of(9);
        let (address, admin) = (server.local_addr().expect("TCP"), server.admin_addr().expect("TCP"));
        let (threads, stopper, (gate, held)) = (server.service_threads.clone(), server.stopper(), bounded::<()>(0));
        let updates = threads.of(Effort::Admin).expect("a thread");
        updates.execute(move || {
            let _ = held.recv();
        });
        let (ended, end) = bounded(1);
        thread::spawn(move || ended.send(server.run().is_ok()));
        let mut update = TcpStream::connect_timeout(&admin, SOON).expect("a connection");
        update.write_all(b"POST /backends?pause=b1 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("room");
        while updates.queued_count() == 0 {
            thread::yield_now();
        }
        for (port, path, expected) in [(address, "/", 502), (admin, "/metrics", 200), (admin, "/readyz", 200)] {
            let (reply, _) = get(port, path);
            assert!(reply.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {reply}");
        }
        stopper.stop();
        assert_eq!(end.recv_timeout(SOON), Ok(true));
        drop(gate);
    }
}
