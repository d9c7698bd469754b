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
        self.address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip().to_canonical())
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
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
