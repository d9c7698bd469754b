//! A proxy in this process, on free ports, stopped and joined when the test is over.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use red_tentacle::config::{Config, Listen};
use red_tentacle::downstream::Timeouts;
use red_tentacle::message::{ListEntry, parse_entries};
use red_tentacle::metrics::Totals;
use red_tentacle::server::{Meter, Reloader, Server, Stopper};
use red_tentacle::systemd::Supervisor;
use red_tentacle::upstream::{Lookup, SystemLookup};

use super::{Reply, SOON, by_https, eventually, is_over_tls, reply_to, wrapped};

/// What clients have at a hurried proxy, a fifth of all waits: enough for a busy machine, and little for who waits until it is over.
pub static HURRIED: LazyLock<Timeouts> = LazyLock::new(|| {
    let usual = Timeouts::DEFAULT;
    Timeouts {
        head: usual.head / 5,
        body_start: usual.body_start / 5,
        limited_body: usual.limited_body / 5,
        idle: usual.idle / 5,
        closing: usual.closing / 5,
        closing_silence: usual.closing_silence / 5,
        fair_silence: usual.fair_silence / 5,
        fair_hello: usual.fair_hello / 5,
        fair: usual.fair / 5,
        fair_bytes_per_second: usual.fair_bytes_per_second * 5,
        stall: usual.stall / 5,
    }
});

pub struct Proxy {
    pub address: SocketAddr,
    /// Where it speaks HTTPS, if it does.
    pub tls: Option<SocketAddr>,
    pub admin: SocketAddr,
    meter: Meter,
    stopper: Stopper,
    reloader: Reloader,
    running: Option<Receiver<()>>,
}

impl Proxy {
    /// A proxy before these backends, with every default but the ports.
    pub fn before(backends: &[String]) -> Proxy {
        Proxy::with(backends, |_| {})
    }

    /// The same, with some of the configuration changed.
    pub fn with(backends: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
        Proxy::start(Server::bind(Proxy::config(backends, change)).expect("the proxy starts"))
    }

    /// The same, in a hurry: see [`HURRIED`].
    pub fn hurried(backends: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
        let config = Proxy::config(backends, change);
        let server = Server::bind_supervised(config, Arc::new(SystemLookup), Supervisor::default(), *HURRIED);
        Proxy::start(server.expect("the proxy starts"))
    }

    /// One that looks names up like this.
    pub fn naming(config: Config, lookup: Arc<dyn Lookup>) -> Proxy {
        let server = Server::bind_supervised(config, lookup, Supervisor::default(), Timeouts::DEFAULT);
        Proxy::start(server.expect("the proxy starts"))
    }

    pub fn config(backends: &[String], change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::new(entries(backends));
        let free_port = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.listen = vec![free_port.clone()];
        config.admin_listen = vec![free_port];
        config.grace_period = Duration::from_secs(5);
        change(&mut config);
        if is_over_tls() {
            by_https(&mut config);
        }
        config
    }

    pub fn start(server: Server) -> Proxy {
        let (plain, meter, stopper) = (server.local_addr().expect("a TCP port"), server.meter(), server.stopper());
        let admin = server.admin_addr().unwrap_or(plain);
        let (tls, reloader) = (server.tls_addr(), server.reloader());
        let address = tls.filter(|_| is_over_tls()).map_or(plain, wrapped);
        let (ended, running) = bounded(1);
        thread::spawn(move || {
            server.run().expect("the proxy runs");
            let _ = ended.send(());
        });
        Proxy { address, tls, admin, meter, stopper, reloader, running: Some(running) }
    }

    pub fn get(&self, target: &str) -> Reply {
        super::get(self.address, target)
    }

    /// Sends one request with a body on a connection of its own.
    pub fn post(&self, target: &str, body: &[u8]) -> Reply {
        reply_to(self.address, "POST", target, &[], Some(body))
    }

    /// Replaces the list over the admin port.
    pub fn update(&self, backends: &[String]) -> Reply {
        reply_to(self.admin, "POST", &format!("/-update-backends?backends={}", backends.join(",")), &[], None)
    }

    /// What its races have cost so far.
    pub fn totals(&self) -> Totals {
        self.meter.totals()
    }

    /// Waits until `legs` have ended, `hung_up` of them were hung up on, and `connections_opened` weren't used again.
    pub fn expect_costs(&self, legs: u64, hung_up: u64, connections_opened: u64) {
        let expected = Totals { legs, hung_up, connections_opened, connections_reused: 0 };
        eventually(&format!("{expected:?}"), || self.totals() == expected);
    }

    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Whether it has ended by now.
    pub fn has_ended(&self) -> bool {
        self.running.as_ref().is_none_or(|running| !running.is_empty())
    }

    /// Stops the proxy and waits for its end. With a grace period that is longer, fails if anything still runs.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopper.stop();
        if let Some(running) = self.running.take() {
            let ended = running.recv_timeout(SOON);
            if !thread::panicking() {
                ended.expect("the proxy ends in time and without a panic");
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn entries(backends: &[String]) -> Vec<ListEntry> {
    parse_entries(&backends.join(",")).expect("good addresses")
}

/// A configuration under which nothing ends by itself while a test waits: what ends was ended.
pub fn patiently(config: &mut Config) {
    config.linger = Duration::ZERO;
    config.linger_unsafe = Duration::ZERO;
    for time in [&mut config.timeout, &mut config.idle_timeout, &mut config.grace_period] {
        *time = 3 * SOON;
    }
}
