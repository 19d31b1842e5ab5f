//! Where a peer comes from, as far as its address tells: who has one machine or one network has as many
//! identities as it likes, but few origins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use sha2::{Digest, Sha256};

/// A group of addresses that one party is likely to have all of: a /24 of the public IPv4 internet, a /48
/// of IPv6, a single address of a private network, all names together. 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin(pub(crate) u64);

/// What tells the families apart in an origin.
const V4: u64 = 1 << 62;
const V6: u64 = 2 << 62;
/// All names: anybody has as many as they like, and they do not say where they lead.
const NAMES: u64 = 3 << 62;
/// What tells single addresses of IPv6 from networks, which have 48 bits.
const SINGLE_V6: u64 = 1 << 61;

impl Origin {
    /// Of the remote address of a connection.
    pub(crate) fn of(remote: &Multiaddr) -> Self {
        match remote.iter().next() {
            Some(Protocol::Ip4(ip)) => Self::of_ip(ip.into()),
            Some(Protocol::Ip6(ip)) => Self::of_ip(ip.to_canonical()),
            Some(
                Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_),
            ) => Self(NAMES),
            _ => Self::default(),
        }
    }

    fn of_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let bits = u64::from(u32::from(ip));
                Self(V4 | if is_local_v4(ip) { bits } else { bits & !0xff })
            }
            IpAddr::V6(ip) if is_local_v6(ip) => {
                let hash = Sha256::digest(ip.octets());
                let bits = hash
                    .iter()
                    .take(8)
                    .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                Self(V6 | SINGLE_V6 | bits >> 3)
            }
            IpAddr::V6(ip) => {
                let bits = u128::from(ip) >> 80;
                Self(V6 | u64::try_from(bits).unwrap_or(0))
            }
        }
    }

    /// Whether it is this machine itself.
    pub(crate) fn is_loopback(self) -> bool {
        let v4 = self.0 & !0xff_ffff == V4 | u64::from(127u8) << 24;
        v4 || self == Self::of_ip(Ipv6Addr::LOCALHOST.into())
    }

    /// Whether the address is one of the public internet, where addresses are scarce, or a name, which may lead
    /// there.
    pub(crate) fn is_public(remote: &Multiaddr) -> bool {
        let ip = match remote.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.to_canonical(),
            _ => return Self::of(remote) == Self(NAMES),
        };
        match ip {
            IpAddr::V4(ip) => !(is_local_v4(ip) || ip.is_unspecified() || ip.is_documentation()),
            IpAddr::V6(ip) => !(is_local_v6(ip) || ip.is_unspecified()),
        }
    }
}

/// Whether the address is this machine's or one of a private network: loopback, link-local, RFC 1918, fc00::/7. A provider's
/// inside is not: it lies behind the line.
pub(crate) fn is_on_local_network(remote: &Multiaddr) -> bool {
    let ip = match remote.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.to_canonical(),
        _ => return false,
    };
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => is_local_v6(ip),
    }
}

/// Of one machine, one household or one provider's inside (100.64.0.0/10).
fn is_local_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && second & 0xc0 == 64;
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addr: &str) -> Origin {
        Origin::of(&addr.parse().unwrap())
    }

    #[test]
    fn neighbours_on_the_internet_are_one_origin_and_in_a_private_network_they_are_not() {
        assert_eq!(of("/ip4/8.8.8.8/tcp/1"), of("/ip4/8.8.8.9/udp/2/quic-v1"));
        assert_ne!(of("/ip4/8.8.8.8/tcp/1"), of("/ip4/8.8.9.8/tcp/1"));
        assert_ne!(of("/ip4/10.0.0.1/tcp/1"), of("/ip4/10.0.0.2/tcp/1"));
        assert_eq!(
            of("/ip6/2600:1:2:3::4/tcp/1"),
            of("/ip6/2600:1:2:9::8/tcp/1")
        );
        assert_ne!(
            of("/ip6/2600:1:2:3::4/tcp/1"),
            of("/ip6/2600:1:3:3::4/tcp/1")
        );
        assert_eq!(of("/ip6/::ffff:8.8.8.8/tcp/1"), of("/ip4/8.8.8.1/tcp/1"));
        assert_eq!(of("/memory/5"), Origin::default());
    }

    #[test]
    fn a_local_address_is_an_origin_of_its_own() {
        for [one, other] in [
            ["/ip4/100.64.0.1/tcp/1", "/ip4/100.64.0.2/tcp/1"],
            ["/ip6/fd00::1/tcp/1", "/ip6/fd00::2/tcp/1"],
            ["/ip6/fe80::1/tcp/1", "/ip6/fe80::2/tcp/1"],
            ["/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1"],
        ] {
            assert_ne!(of(one), of(other));
            assert_ne!(of(one), Origin::default());
        }
        assert_eq!(of("/ip6/fd00::1/tcp/1"), of("/ip6/fd00::1/udp/2/quic-v1"));
        assert_eq!(of("/ip4/100.128.0.1/tcp/1"), of("/ip4/100.128.0.2/tcp/1"));
    }

    #[test]
    fn a_name_is_no_way_around_the_limits_of_an_origin() {
        // The remote address of a connection that was dialled by a name is the name.
        let public = |addr: &str| Origin::is_public(&addr.parse().unwrap());
        assert!(public("/dns4/many.example/tcp/1"));
        assert_ne!(of("/dns4/many.example/tcp/1"), Origin::default());
    }

    #[test]
    fn the_local_network_ends_where_the_line_begins() {
        let local = |addr: &str| is_on_local_network(&addr.parse().unwrap());
        for addr in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.0.1/udp/1/quic-v1",
            "/ip4/169.254.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
        ] {
            assert!(local(addr), "{addr}");
        }
        for addr in [
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/8.8.8.8/tcp/1",
            "/ip6/2600::1/tcp/1",
            "/dns4/localhost/tcp/1",
        ] {
            assert!(!local(addr), "{addr}");
        }
    }

    #[test]
    fn the_public_internet_is_told_apart() {
        let public = |addr: &str| Origin::is_public(&addr.parse().unwrap());
        assert!(public("/ip4/8.8.8.8/tcp/1") && public("/ip6/2600::1/tcp/1"));
        for private in [
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/100.127.255.1/tcp/1",
            "/memory/1",
        ] {
            assert!(!public(private), "{private}");
        }
    }
}
