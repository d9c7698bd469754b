//! Where the program listens. Knows nothing of sockets.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::values;

/// The most addresses of one flag. A host has few; each costs a socket that the poller watches.
const LISTEN_MAX: usize = 16;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The IP address and TCP port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether the program runs without it where the address doesn't exist: the default's IPv6 half.
    pub optional: bool,
}

impl Listen {
    /// Checks a list of socket addresses.
    pub(super) fn parse_list(list: &str) -> Result<Vec<Listen>, String> {
        let listen = values::entries(list, LISTEN_MAX, |entry| {
            let address: SocketAddr = entry
                .parse()
                .map_err(|_| "not an IP address with a port; write 0.0.0.0:8080 or [::]:8080".to_owned())?;
            Ok(Listen::from(address))
        })?;
        for (at, Listen { address, .. }) in listen.iter().enumerate() {
            if address.port() != 0 && listen[..at].iter().any(|earlier| earlier.address == *address) {
                return Err(format!("'{address}': given twice; leave one out"));
            }
        }
        Ok(listen)
    }

    /// Every address of this host.
    pub(super) fn everywhere(port: u16) -> Vec<Listen> {
        Listen::both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port)
    }

    /// This host's loopback addresses.
    pub(super) fn loopback(port: u16) -> Vec<Listen> {
        Listen::both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port)
    }

    fn both(v4: Ipv4Addr, v6: Ipv6Addr, port: u16) -> Vec<Listen> {
        vec![
            Listen { address: SocketAddr::from((v4, port)), optional: false },
            Listen { address: SocketAddr::from((v6, port)), optional: true },
        ]
    }

    /// Whether only this host itself can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen { address, optional: false }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = if self.optional { " (where IPv6 exists)" } else { "" };
        write!(f, "{}{condition}", self.address)
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

    #[test]
    fn bad_lists_are_refused_with_the_reason() {
        let rows = [
            ("", "'': not an IP address with a port; write 0.0.0.0:8080 or [::]:8080"),
            ("8080", "'8080': not an IP"),
            (":8080", "':8080': not an IP"),
            ("localhost:8080", "'localhost:8080': not an IP"),
            ("127.0.0.1", "'127.0.0.1': not an IP"),
            ("::1:8080", "'::1:8080': not an IP"),
            ("127.0.0.1:65536", "'127.0.0.1:65536': not an IP"),
            ("127.0.0.1:80,", "'': not an IP"),
            ("127.0.0.1:80, 127.0.0.1:80", "'127.0.0.1:80': given twice"),
        ];
        for (list, start) in rows {
            let reason = Listen::parse_list(list).expect_err(list);
            assert!(reason.starts_with(start), "{list}: {reason}");
        }
    }

    #[test]
    fn free_ports_may_be_asked_for_twice() {
        assert_eq!(Listen::parse_list("127.0.0.1:0,127.0.0.1:0").map(|listen| listen.len()), Ok(2));
    }
}
