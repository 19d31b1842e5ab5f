//! Which addresses are worth knowing.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::origin::Origin;
use crate::records::tables::MAX_ADDRS_PER_PEER;

/// The transport of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Quic,
    /// Within this process, for simulations.
    Memory,
}

/// Whether a node of this process listens in memory. An address in memory leads to nodes of this very
/// process and to nobody else, so one answer for all of them is the right one.
static IN_MEMORY: AtomicBool = AtomicBool::new(false);

/// Notes where a node is going to listen: addresses in memory are worth knowing from then on, if one is.
pub(super) fn will_listen(on: &[Multiaddr]) {
    let is_memory = |addr: &Multiaddr| matches!(addr.iter().next(), Some(Protocol::Memory(_)));
    if on.iter().any(is_memory) {
        IN_MEMORY.store(true, Ordering::Relaxed);
    }
}

/// The transport this node would reach an address by, if any.
pub(crate) fn transport(addr: &Multiaddr) -> Option<Transport> {
    transport_from(addr, IN_MEMORY.load(Ordering::Relaxed))
}

fn transport_from(addr: &Multiaddr, in_memory: bool) -> Option<Transport> {
    let mut parts = addr.iter();
    match parts.next()? {
        Protocol::Memory(port) if port != 0 && in_memory => {
            let ends = matches!(parts.next(), None | Some(Protocol::P2p(_)));
            return ends.then_some(Transport::Memory);
        }
        Protocol::Ip4(ip) if !ip.is_unspecified() => {}
        Protocol::Ip6(ip) if !ip.is_unspecified() => {}
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => {}
        _ => return None,
    }
    let transport = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), rest) if port != 0 => {
            return matches!(rest, None | Some(Protocol::P2p(_))).then_some(Transport::Tcp);
        }
        (Protocol::Udp(port), Some(Protocol::QuicV1)) if port != 0 => Transport::Quic,
        _ => return None,
    };
    matches!(parts.next(), None | Some(Protocol::P2p(_))).then_some(transport)
}

/// The transport of a connection, for people: `tcp`, `quic`, `memory` or `other`.
pub(crate) fn transport_name(remote: &Multiaddr) -> &'static str {
    for part in remote {
        match part {
            Protocol::QuicV1 => return "quic",
            Protocol::Tcp(_) => return "tcp",
            Protocol::Memory(_) => return "memory",
            _ => {}
        }
    }
    "other"
}

/// What of these addresses somebody at `remote` may be told: such as may lead it where they lead this node. Loopback
/// is for this machine, private networks are for those in one, the rest is for everybody.
pub(crate) fn tellable_at(remote: &Multiaddr, mut addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
    if !is_loopback(remote) {
        addrs.retain(|addr| !is_loopback(addr));
    }
    if Origin::is_public(remote) {
        addrs.retain(Origin::is_public);
    }
    addrs
}

/// What of a peer's own list of addresses may be kept: addresses this node could dial and that name
/// no other peer, without `/p2p`, each once, TCP first, at most 16.
pub(crate) fn usable(peer: &PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let mut kept: Vec<(Transport, Multiaddr)> = Vec::new();
    for mut addr in addrs {
        if let Some(Protocol::P2p(named)) = addr.iter().last() {
            if named != *peer {
                continue;
            }
            addr.pop();
        }
        let Some(transport) = transport(&addr) else {
            continue;
        };
        let known = kept.iter().any(|(_, other)| *other == addr);
        if !known && kept.len() < MAX_ADDRS_PER_PEER {
            kept.push((transport, addr));
        }
    }
    // A stable sort: the peer's own order stays within each transport.
    kept.sort_by_key(|(transport, _)| *transport);
    kept.into_iter().map(|(_, addr)| addr).collect()
}

/// What of the addresses that somebody tells of another peer is worth dialling: like what a peer says of itself, but
/// no names, and none on this machine unless whoever told is on it, too. `from` is where that one is, if known.
pub fn told_addrs(
    peer: &PeerId,
    addrs: impl IntoIterator<Item = Multiaddr>,
    from: Option<&Multiaddr>,
) -> Vec<Multiaddr> {
    let is_near = from.is_some_and(is_loopback);
    let mut kept = usable(peer, addrs);
    kept.retain(|addr| !is_name(addr) && !is_link_local(addr) && (is_near || !is_loopback(addr)));
    kept
}

/// Of usable addresses, those for the routing table: TCP where there is any. Bulk data costs a third
/// over TCP of what it costs over QUIC, and whatever connects first is what the exchange uses.
pub(crate) fn for_routing(addrs: &[Multiaddr]) -> Vec<Multiaddr> {
    let tcp = addrs
        .iter()
        .filter(|addr| transport(addr) == Some(Transport::Tcp));
    let tcp: Vec<_> = tcp.cloned().collect();
    if tcp.is_empty() { addrs.to_vec() } else { tcp }
}

/// Whether the address can only be reached on this machine.
pub(crate) fn is_loopback(addr: &Multiaddr) -> bool {
    ip(addr).is_some_and(|ip| ip.is_loopback())
}

/// Without the addresses that lead to this very machine, whoever dials them: another machine does not know who
/// lives there.
pub(super) fn far(mut addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
    addrs.retain(|addr| !is_loopback(addr));
    addrs
}

/// Whether the address is a name, to be resolved.
pub(crate) fn is_name(addr: &Multiaddr) -> bool {
    matches!(
        addr.iter().next(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    )
}

/// The addresses to tell others, out of those listened on: all that are reachable from another
/// machine, or, when there is none, those that are reachable on this one.
pub(crate) fn to_tell<'a>(listened: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let dialable = listened.filter(|addr| transport(addr).is_some() && !is_link_local(addr));
    let (local, mut far): (Vec<_>, Vec<_>) = dialable.cloned().partition(is_loopback);
    if far.is_empty() {
        far = local;
    }
    far.sort_by_key(transport);
    far.truncate(MAX_ADDRS_PER_PEER);
    far
}

/// The addresses to show a person, the one to copy first: reachable from elsewhere before loopback, IPv4 before
/// IPv6, TCP before QUIC. None that needs a zone.
pub(crate) fn to_show<'a>(listened: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let mut shown: Vec<Multiaddr> = listened
        .filter(|addr| !is_link_local(addr))
        .cloned()
        .collect();
    shown.sort_by_key(|addr| {
        let ip6 = ip(addr).is_some_and(|ip| ip.is_ipv6());
        (
            is_loopback(addr),
            ip6,
            transport(addr).is_none(),
            transport(addr),
        )
    });
    shown
}

/// Link-local addresses need a zone, which a multiaddr of ours does not carry.
fn is_link_local(addr: &Multiaddr) -> bool {
    match ip(addr) {
        Some(IpAddr::V4(ip)) => ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_unicast_link_local(),
        None => false,
    }
}

fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Fails when another socket listens on this TCP address. libp2p shares ports on purpose, so that it
/// could dial from them, and would split the connections with another process without a word.
pub(super) fn check_free(addr: &Multiaddr) -> std::io::Result<()> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// The peer an address names at its end.
pub(crate) fn named_peer(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// An address without the peer it names at its end.
pub(super) fn unnamed(addr: &Multiaddr) -> Multiaddr {
    let mut addr = addr.clone();
    if named_peer(&addr).is_some() {
        addr.pop();
    }
    addr
}

/// Listeners and the addresses they use.
pub(super) type Listened = Vec<(ListenerId, Multiaddr)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<Multiaddr> {
        list.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn from_afar_nobody_knows_who_lives_on_this_machine() {
        let all = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
        ];
        let all: Vec<Multiaddr> = all.iter().map(|addr| addr.parse().unwrap()).collect();
        assert_eq!(far(all.clone()), all[2..]);
    }

    #[test]
    fn what_others_tell_leads_to_no_name_and_to_this_machine_only_from_here() {
        let peer = PeerId::random();
        let told = addrs(&[
            "/dns4/node.example/tcp/4101",
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/198.51.100.1/tcp/1",
            "/ip4/198.51.100.1/tcp/0",
            "/ip6/fe80::1/tcp/1",
        ]);
        let (far, near) = ("/ip4/198.51.100.7/tcp/9", "/ip4/127.0.0.1/tcp/9");
        let (far, near) = (far.parse().unwrap(), near.parse().unwrap());
        assert_eq!(told_addrs(&peer, told.clone(), Some(&far)), told[2..3]);
        assert_eq!(told_addrs(&peer, told.clone(), None), told[2..3]);
        assert_eq!(told_addrs(&peer, told.clone(), Some(&near)), told[1..3]);
    }

    #[test]
    fn nobody_is_told_of_networks_it_is_not_in() {
        let all = addrs(&[
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/8.8.8.8/tcp/1",
            "/dns4/node.example/tcp/1",
        ]);
        let told = |remote: &str| tellable_at(&remote.parse().unwrap(), all.clone());
        assert_eq!(told("/ip4/127.0.0.1/tcp/9"), all);
        assert_eq!(told("/ip4/10.0.0.9/tcp/9"), all[1..]);
        assert_eq!(told("/ip6/2600::1/udp/9/quic-v1"), all[2..]);
        assert_eq!(told("/dns4/other.example/tcp/9"), all[2..]);
    }

    #[test]
    fn only_own_dialable_addresses_are_kept() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut list = addrs(&[
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/10.0.0.1/udp/4101/quic-v1",
            "/ip4/10.0.0.1/tcp/0",
            "/ip4/10.0.0.1/tcp/4101",
            "/ip4/10.0.0.1/tcp/4101",
            "/ip4/10.0.0.1/tcp/4101/ws",
            "/dns4/node.example/tcp/4101",
        ]);
        list.push(format!("/ip4/10.0.0.2/tcp/9/p2p/{peer}").parse().unwrap());
        list.push(format!("/ip4/10.0.0.3/tcp/9/p2p/{other}").parse().unwrap());
        let kept = usable(&peer, list);
        let expected = addrs(&[
            "/ip4/10.0.0.1/tcp/4101",
            "/dns4/node.example/tcp/4101",
            "/ip4/10.0.0.2/tcp/9",
            "/ip4/10.0.0.1/udp/4101/quic-v1",
        ]);
        assert_eq!(kept, expected);
        assert_eq!(for_routing(&kept), expected[..3]);
    }

    #[test]
    fn addresses_in_memory_are_for_those_who_listen_there() {
        let addr = &addrs(&["/memory/7"])[0];
        assert_eq!(transport_from(addr, false), None);
        assert_eq!(transport_from(addr, true), Some(Transport::Memory));
        for bad in addrs(&["/memory/0", "/memory/7/tcp/1"]) {
            assert_eq!(transport_from(&bad, true), None);
        }
        // Nothing else changes with it.
        let tcp = &addrs(&["/ip4/10.0.0.1/tcp/1"])[0];
        assert_eq!(transport_from(tcp, true), Some(Transport::Tcp));
    }

    #[test]
    fn a_hostile_list_is_cut() {
        let many = (1..=5000u16).map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
        assert_eq!(usable(&PeerId::random(), many).len(), MAX_ADDRS_PER_PEER);
    }

    #[test]
    fn loopback_is_told_only_when_there_is_nothing_else() {
        let local = addrs(&["/ip4/127.0.0.1/tcp/5", "/ip6/fe80::1/tcp/5"]);
        assert_eq!(to_tell(local.iter()), local[..1]);
        let both = addrs(&["/ip4/127.0.0.1/tcp/5", "/ip4/192.168.1.2/tcp/5"]);
        assert_eq!(to_tell(both.iter()), both[1..]);
    }

    #[test]
    fn the_address_to_copy_comes_first() {
        let listened: Vec<Multiaddr> = [
            "/ip6/::1/tcp/4101",
            "/ip6/fe80::1/tcp/4101",
            "/ip4/127.0.0.1/tcp/4101",
            "/ip6/2001:db8::1/tcp/4101",
            "/ip4/192.0.2.1/udp/4101/quic-v1",
            "/ip4/192.0.2.1/tcp/4101",
        ]
        .map(|addr| addr.parse().unwrap())
        .to_vec();
        let shown = to_show(listened.iter());
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        let expected = [
            "/ip4/192.0.2.1/tcp/4101",
            "/ip4/192.0.2.1/udp/4101/quic-v1",
            "/ip6/2001:db8::1/tcp/4101",
            "/ip4/127.0.0.1/tcp/4101",
            "/ip6/::1/tcp/4101",
        ];
        assert_eq!(shown, expected);
    }
}
