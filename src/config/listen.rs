//! Addresses to listen on. Knows nothing of sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::values;
use crate::message::{Address, bracketed, shown_path, unix_path};

/// The most entries of one flag, each of which is two addresses at most. A host has few; each costs a socket that the
/// poller watches.
const LISTEN_MAX: usize = 16;

/// The kinds of a flag for addresses: clients' and updates'.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The port that is offered in place of a bad one.
    pub(super) port: u16,
    /// Whether it is for this host by default.
    pub(super) is_private: bool,
}

impl Kind {
    /// The advice at the end of a complaint: the texts that would be right.
    fn right(self) -> String {
        match self {
            Kind { port, is_private: false } => {
                format!("write :{port}, localhost:{port}, 127.0.0.1:{port} or [::1]:{port}")
            }
            Kind { port, is_private: true } => format!("write localhost:{port}, 127.0.0.1:{port}, [::1]:{port} or off"),
        }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp {
        /// The IP address and port; port 0 takes a free one.
        address: SocketAddr,
        /// Whether the program runs without it where the address doesn't exist: the default's IPv6 half.
        optional: bool,
    },
    /// A Unix socket: the file that is made, for the user and the group that the program runs as.
    Unix(PathBuf),
}

/// What a Unix socket's path begins with.
const UNIX: &str = "unix:";

impl Listen {
    /// Checks a list of addresses. `:8080`, `*:8080` and `8080` are every address of this host, `localhost:8080` its loopback
    /// addresses, both for IPv4 and, where it exists, IPv6.
    pub(super) fn parse_list(list: &str, kind: Kind) -> Result<Vec<Listen>, String> {
        if list.eq_ignore_ascii_case("off") {
            return Ok(Vec::new());
        }
        let listen = values::entries(list, LISTEN_MAX, |entry| Listen::parse(entry, kind))?.concat();
        for (at, one) in listen.iter().enumerate() {
            match one.overlapping(&listen[..at]) {
                Some(earlier) if earlier.place() == one.place() => {
                    return Err(format!("'{}': given twice; leave one out", one.place()));
                }
                Some(earlier) => {
                    return Err(format!("'{}': overlaps {}; leave one out", one.place(), earlier.place()));
                }
                None => {}
            }
        }
        Ok(listen)
    }

    fn parse(entry: &str, kind: Kind) -> Result<Vec<Listen>, String> {
        if let Ok(address) = entry.parse::<SocketAddr>() {
            return Ok(vec![Listen::from(address)]);
        }
        if let Some(path) = entry.strip_prefix(UNIX) {
            return Ok(vec![Listen::Unix(unix_path(path)?)]);
        }
        let right = || kind.right();
        if let Some(meant) = bracketed(entry) {
            let meant = if meant.ends_with(']') { format!("{meant}:{}", kind.port) } else { meant };
            return Err(format!("an IPv6 address stands between brackets, its port behind them; write {meant}"));
        }
        if let Some((_, rest)) = entry.split_once("//") {
            let meant = rest.split('/').next().unwrap_or_default();
            let is_good = !meant.is_empty() && Listen::parse(meant, kind).is_ok();
            let right = if is_good { format!("write {meant}") } else { right() };
            return Err(format!("an address, not a URL; {right}"));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            None if entry.bytes().all(|byte| byte.is_ascii_digit()) => ("", entry),
            _ => return Err(format!("no port; {}", right())),
        };
        // A sign is no digit, though std takes one.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| format!("not a port from 0 to 65535; {}", right()))?;
        match host {
            "" | "*" => Ok(Listen::everywhere(port)),
            host if host.eq_ignore_ascii_case("localhost") => Ok(Listen::loopback(port)),
            host if values::host_name(host).is_ok() && !is_numeric(host) => {
                Err(format!("no other host name than localhost; {}", right()))
            }
            _ => Err(format!("not an IP address with a port; {}", right())),
        }
    }

    /// Every address of this host.
    pub(super) fn everywhere(port: u16) -> Vec<Listen> {
        Listen::both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port)
    }

    /// This host's loopback addresses.
    pub fn loopback(port: u16) -> Vec<Listen> {
        Listen::both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port)
    }

    fn both(v4: Ipv4Addr, v6: Ipv6Addr, port: u16) -> Vec<Listen> {
        vec![
            Listen::Tcp { address: SocketAddr::from((v4, port)), optional: false },
            Listen::Tcp { address: SocketAddr::from((v6, port)), optional: true },
        ]
    }

    /// The first of these addresses that can't be listened on beside this one: an equal one, or one that contains the
    /// other.
    pub(super) fn overlapping<'a>(&self, others: &'a [Listen]) -> Option<&'a Listen> {
        // Each family's sockets take that family alone.
        let covers = |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && all.is_ipv4() == one.is_ipv4();
        let overlaps = |other: &&Listen| match (self, other) {
            (Listen::Unix(own), Listen::Unix(other)) => own == other,
            (Listen::Tcp { address: own, .. }, Listen::Tcp { address: other, .. }) => {
                let is_covered = other.ip() == own.ip() || covers(*other, *own) || covers(*own, *other);
                own.port() != 0 && other.port() == own.port() && is_covered
            }
            _ => false,
        };
        others.iter().find(overlaps)
    }

    /// The address as a flag takes it.
    pub(crate) fn place(&self) -> String {
        match self {
            Listen::Tcp { address, .. } => address.to_string(),
            Listen::Unix(path) => format!("{UNIX}{}", shown_path(path)),
        }
    }

    /// The address as a client on this host writes it.
    pub fn reached(&self) -> String {
        self.tcp_address().map_or_else(|| self.place(), |address| reached_at(address).to_string())
    }

    /// The IP address and port, of a TCP port.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listen::Tcp { address, .. } => Some(*address),
            Listen::Unix(_) => None,
        }
    }

    /// Whether a client on this host that asks a backend at this address comes here, as far as the address alone tells.
    pub(super) fn is_reached_by(&self, backend: &Address, socket: Option<&Path>) -> bool {
        let address = match (self, socket) {
            (Listen::Unix(own), socket) => return Some(own.as_path()) == socket,
            (Listen::Tcp { .. }, Some(_)) => return false,
            (Listen::Tcp { address, .. }, None) => address,
        };
        let own = address.ip();
        let is_it = match backend.host().parse::<IpAddr>() {
            // As a destination, 0.0.0.0 is this host, as a loopback address is.
            Ok(ip) if own.is_unspecified() => {
                own.is_ipv4() == ip.is_ipv4() && (ip.is_loopback() || ip.is_unspecified())
            }
            Ok(ip) => ip == own || (own.is_loopback() && ip.is_unspecified() && own.is_ipv4() == ip.is_ipv4()),
            Err(_) => backend.host().eq_ignore_ascii_case("localhost") && (own.is_unspecified() || own.is_loopback()),
        };
        is_it && address.port() == backend.port()
    }

    /// Whether only this host can reach it.
    pub fn is_loopback(&self) -> bool {
        self.tcp_address().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

/// The address that a client on this host connects to: an unspecified address is no destination, so its loopback address.
pub fn reached_at(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Whether the text is an IPv4 address or meant as one.
fn is_numeric(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::Tcp { address, optional: false }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_optional = matches!(self, Listen::Tcp { optional: true, .. });
        write!(f, "{}{}", self.place(), if is_optional { " (where IPv6 exists)" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        let rows = [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ];
        for (address, expected) in rows {
            let listen = Listen::from(address.parse::<SocketAddr>().expect(address));
            assert_eq!(listen.is_loopback(), expected, "{address}");
        }
    }

    const CLIENTS: Kind = Kind { port: 8080, is_private: false };
    const ADMIN: Kind = Kind { port: 8081, is_private: true };

    /// The addresses in a list, the optional ones in parentheses.
    fn listed(list: &str) -> Result<String, String> {
        let shown = |listen: &Listen| match listen {
            Listen::Tcp { address, optional: true } => format!("({address})"),
            listen => listen.place(),
        };
        Ok(Listen::parse_list(list, CLIENTS)?.iter().map(shown).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_users_of_other_programs_write_is_taken() {
        let rows = [
            ("127.0.0.1:8090", "127.0.0.1:8090"),
            ("[::1]:8090", "[::1]:8090"),
            ("[::]:8090", "[::]:8090"),
            (":8090", "0.0.0.0:8090 ([::]:8090)"),
            ("*:8090", "0.0.0.0:8090 ([::]:8090)"),
            ("8090", "0.0.0.0:8090 ([::]:8090)"),
            (" :8090 ", "0.0.0.0:8090 ([::]:8090)"),
            ("localhost:8090", "127.0.0.1:8090 ([::1]:8090)"),
            ("LocalHost:8090", "127.0.0.1:8090 ([::1]:8090)"),
            ("localhost:8090,:8091", "127.0.0.1:8090 ([::1]:8090) 0.0.0.0:8091 ([::]:8091)"),
            (":0", "0.0.0.0:0 ([::]:0)"),
            ("0", "0.0.0.0:0 ([::]:0)"),
            (":65535", "0.0.0.0:65535 ([::]:65535)"),
            ("0.0.0.0:80,[::1]:80", "0.0.0.0:80 [::1]:80"),
            ("127.0.0.1:80,127.0.0.2:80,:81", "127.0.0.1:80 127.0.0.2:80 0.0.0.0:81 ([::]:81)"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:/run/a b.sock,unix:///x,0", "unix:/run/a b.sock unix:///x 0.0.0.0:0 ([::]:0)"),
        ];
        for (list, expected) in rows {
            assert_eq!(listed(list), Ok(expected.to_owned()), "{list}");
        }
    }

    #[test]
    fn bad_lists_are_refused_with_the_reason() {
        let right = "; write :8080, localhost:8080, 127.0.0.1:8080 or [::1]:8080";
        let (no_port, bad_port) = (format!("no port{right}"), format!("not a port from 0 to 65535{right}"));
        let (no_ip, no_name) =
            (format!("not an IP address with a port{right}"), format!("no other host name than localhost{right}"));
        let brackets = |meant| format!("an IPv6 address stands between brackets, its port behind them; write {meant}");
        let (loopback, every, own_port) = (brackets("[::1]:8080"), brackets("[::]:8080"), brackets("[::1]:28090"));
        let rows = [
            ("", bad_port.as_str()),
            (":", &bad_port),
            ("*", &no_port),
            ("localhost", &no_port),
            ("[::1]", &no_port),
            ("127.0.0.1", &no_port),
            ("none", &no_port),
            ("*:", &bad_port),
            ("localhost:", &bad_port),
            ("127.0.0.1:", &bad_port),
            ("65536", &bad_port),
            (":65536", &bad_port),
            (":http", &bad_port),
            ("+80", &no_port),
            (":+80", &bad_port),
            (":-1", &bad_port),
            ("127.0.0.1:65536", &bad_port),
            ("[::1]:65536", &bad_port),
            ("dc1.example:8080", &no_name),
            ("localhost.:8080", &no_name),
            ("127.0.0.400:8080", &no_ip),
            ("1.2.3:8080", &no_ip),
            ("[::1:8080", &no_ip),
            ("::1]:8080", &no_ip),
            ("**:8080", &no_ip),
            ("127.0.0.1:80:81", &no_ip),
            ("::1", &loopback),
            ("::1:8080", &loopback),
            ("::1:28090", &own_port),
            ("::", &every),
        ];
        for (list, expected) in rows {
            assert_eq!(listed(list), Err(format!("'{list}': {expected}")), "{list}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for (list, expected) in [
            ("http://127.0.0.1:80", "'http://127.0.0.1:80': an address, not a URL; write 127.0.0.1:80"),
            ("HTTPS://[::1]:80/x", "'HTTPS://[::1]:80/x': an address, not a URL; write [::1]:80"),
            ("//localhost:80", "'//localhost:80': an address, not a URL; write localhost:80"),
            ("http://:80/", "'http://:80/': an address, not a URL; write :80"),
            ("http://127.0.0.1", "'http://127.0.0.1': an address, not a URL; write :8080, localhost:8080,"),
            ("http://a:80/", "'http://a:80/': an address, not a URL; write :8080, localhost:8080,"),
            ("http:///", "'http:///': an address, not a URL; write :8080, localhost:8080,"),
            ("unix:", "'unix:': no path from the root to a file; write unix:/run/red-tentacle.sock, say"),
            ("unix:run/x", "'unix:run/x': no path from the root to a file;"),
            ("unix:/run/", "'unix:/run/': no path from the root to a file;"),
            ("unix:@x", "'unix:@x': no path from the root to a file;"),
            ("unix:/a,80,unix:/a", "'unix:/a': given twice; leave one out"),
            (long.as_str(), "'unix:/xxxx"),
            ("127.0.0.1:80,", "'': an entry is empty"),
            (",127.0.0.1:80", "'': an entry is empty"),
            ("127.0.0.1:80;127.0.0.1:81", "'127.0.0.1:80;127.0.0.1:81': entries stand between commas, not semicolons"),
            ("127.0.0.1:80, 127.0.0.1:80", "'127.0.0.1:80': given twice"),
            (":80,80", "'0.0.0.0:80': given twice"),
            ("localhost:80,[::1]:80", "'[::1]:80': given twice"),
            (":80,127.0.0.1:80", "'127.0.0.1:80': overlaps 0.0.0.0:80; leave one out"),
            ("10.0.0.1:80,0.0.0.0:80", "'0.0.0.0:80': overlaps 10.0.0.1:80; leave one out"),
            ("localhost:80,:80", "'0.0.0.0:80': overlaps 127.0.0.1:80; leave one out"),
            ("[::]:80,[::1]:80", "'[::1]:80': overlaps [::]:80; leave one out"),
        ] {
            let reason = listed(list).expect_err(list);
            assert!(reason.starts_with(expected), "{list}: {reason}");
        }
    }

    #[test]
    fn the_port_for_updates_gets_offers_of_its_own() {
        // Was seen as: `--admin-listen localhost` was offered the clients' port on every address, which it refuses.
        for (list, reason) in [
            ("localhost", "no port"),
            ("127.0.0.1", "no port"),
            ("none", "no port"),
            ("off,127.0.0.1:1", "no port"),
            ("dc1.example:8081", "no other host name than localhost"),
            ("http://a", "an address, not a URL"),
        ] {
            let right = "write localhost:8081, 127.0.0.1:8081, [::1]:8081 or off";
            let entry = list.split(',').next().unwrap_or_default();
            assert_eq!(Listen::parse_list(list, ADMIN), Err(format!("'{entry}': {reason}; {right}")));
        }
        let reason = Listen::parse_list("::1", ADMIN).expect_err("no brackets");
        assert!(reason.ends_with("; write [::1]:8081"), "{reason}");
        for off in ["off", "OFF", "Off"] {
            assert_eq!(Listen::parse_list(off, ADMIN), Ok(Vec::new()));
            assert_eq!(Listen::parse_list(off, CLIENTS), Ok(Vec::new()), "by HTTPS alone, say");
        }
    }

    #[test]
    fn free_ports_may_be_asked_for_twice() {
        assert_eq!(listed("127.0.0.1:0,127.0.0.1:0,:0").map(|listed| listed.split(' ').count()), Ok(4));
    }

    #[test]
    fn an_unspecified_address_is_reached_at_loopback() {
        let rows =
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1"), ("[::1]:1", "[::1]:1")];
        for (address, expected) in rows {
            let address = address.parse().expect(address);
            assert_eq!(reached_at(address).to_string(), expected);
        }
    }

    #[test]
    fn a_backend_that_is_the_proxy_itself_is_known_by_its_address() {
        let rows = [
            (":8080", "http://127.0.0.1:8080", true),
            (":8080", "http://127.1.2.3:8080/base", true),
            (":8080", "http://localhost:8080", true),
            (":8080", "http://[::1]:8080", true),
            (":8080", "http://0.0.0.0:8080", true),
            (":80", "http://localhost", true),
            (":8080", "http://127.0.0.1:8081", false),
            (":8080", "http://10.0.0.1:8080", false),
            (":8080", "http://dc1.example:8080", false),
            ("10.0.0.1:8080", "http://10.0.0.1:8080", true),
            ("10.0.0.1:8080", "http://127.0.0.1:8080", false),
            ("10.0.0.1:8080", "http://localhost:8080", false),
            ("127.0.0.1:8080", "http://localhost:8080", true),
            ("127.0.0.1:8080", "http://127.0.0.2:8080", false),
            (":0", "http://127.0.0.1:8080", false),
        ];
        for (list, backend, expected) in rows {
            let listen = Listen::parse_list(list, Kind { port: 8080, is_private: false }).expect(list);
            let backend = Address::parse(backend).expect(backend);
            assert_eq!(listen.iter().any(|listen| listen.is_reached_by(&backend, None)), expected, "{list} {backend}");
        }
    }
}
