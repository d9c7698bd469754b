//! Lists of networks, with a test for addresses. Knows nothing of what they are for.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Networks; those of IPv4-mapped addresses are networks of IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// A list of these networks, IPv4-mapped ones as IPv4.
    pub fn new(networks: &[IpNet]) -> Networks {
        Networks(networks.iter().copied().map(canonical).collect())
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is in one of them. A mapped address is one of IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Makes an IPv4-mapped network one of IPv4. The proxy knows its own clients as IPv4 even where they come in on an IPv6
/// socket, so it must know networks so too.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(prefix) = mapped.prefix_len().checked_sub(96)
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Ok(network) = Ipv4Net::new(address, prefix)
    {
        return network.into();
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_and_networks_are_those_of_ipv4() {
        let rows = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("::ffff:0:0/96", "192.0.2.7", true),
            ("::/0", "192.0.2.7", false),
            ("::/0", "2001:db8::1", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fdff::1", true),
        ];
        for (network, address, expected) in rows {
            let networks = Networks::new(&[network.parse().expect("a network")]);
            assert_eq!(networks.contain(address.parse().expect("an address")), expected, "{network} {address}");
        }
        assert!(!Networks::default().contain(IpAddr::from([127, 0, 0, 1])));
    }
}
