//! A client's end of a connection. Knows nothing of what is said on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A client's end of a connection. `Display` writes its address, or `unix` where a socket of this host's files has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address and port; `None` at a Unix socket.
    pub address: Option<SocketAddr>,
    /// Whether it speaks TLS with the proxy.
    pub is_tls: bool,
    /// The subject of the certificate that it has shown, where backends are told that.
    pub subject: Option<String>,
}

impl Peer {
    /// A client of this host, at a Unix socket.
    pub const UNIX: Peer = Peer { address: None, is_tls: false, subject: None };

    /// The address that rules about networks are asked for: one at a Unix socket is on this host, as one on loopback is.
    pub fn network_ip(&self) -> IpAddr {
        self.address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
    }
}

impl From<SocketAddr> for Peer {
    /// Takes an address of IPv4 for one, also where a socket for both kinds writes it as one of IPv6 (RFC 4291 §2.5.5.2).
    fn from(address: SocketAddr) -> Peer {
        let ip = address.ip().to_canonical();
        // One of IPv6 keeps its zone.
        let address = if ip.is_ipv4() { SocketAddr::new(ip, address.port()) } else { address };
        Peer { address: Some(address), ..Peer::UNIX }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(any(test, fuzzing))]
impl std::str::FromStr for Peer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Peer, Self::Err> {
        text.parse::<SocketAddr>().map(Peer::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Was seen as: `for [::ffff:192.0.2.7]:41234` in the log.
    #[test]
    fn an_address_of_ipv4_is_told_as_one_whatever_the_socket() {
        let rows = [
            ("192.0.2.7:41234", "192.0.2.7:41234"),
            ("[::ffff:192.0.2.7]:41234", "192.0.2.7:41234"),
            ("[2001:db8::7]:41234", "[2001:db8::7]:41234"),
            ("[fe80::7%3]:41234", "[fe80::7%3]:41234"),
            ("[::1]:41234", "[::1]:41234"),
        ];
        for (address, expected) in rows {
            let peer: Peer = address.parse().expect(address);
            assert_eq!(peer.to_string(), expected);
        }
    }
}
