//! Verdicts on the node's place in the network.

use std::net::IpAddr;

use casnode_dht::{Multiaddr, Protocol, Reach};

use super::Found;
use crate::{
    api::{BehindReport, DhtMode, DoctorCheck, DoctorKind, DoctorOutcome},
    errors::count,
};

/// Where a node listens.
#[derive(Debug, Clone, Default)]
pub(in crate::doctor) struct Addresses {
    pub(in crate::doctor) listening: Vec<Multiaddr>,
}

/// Who can dial an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Programs of this machine.
    Machine,
    /// Machines of this network.
    Near,
    Everybody,
}

fn whose(addr: &Multiaddr) -> Option<(Whose, bool)> {
    let ip = addr.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })?;
    let whose = match ip {
        ip if ip.is_loopback() => Whose::Machine,
        // 100.64/10 is what providers have behind their own NAT.
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip.octets()) => {
            Whose::Near
        }
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Whose::Near,
        _ => Whose::Everybody,
    };
    Some((whose, ip.is_ipv6()))
}

fn is_shared(octets: [u8; 4]) -> bool {
    octets[0] == 100 && (octets[1] & 0xc0) == 64
}

/// Whether there is an address that others can use.
pub(in crate::doctor) fn addresses(seen: &Addresses) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Addresses);
    let all: Vec<_> = seen.listening.iter().filter_map(whose).collect();
    let of = |which: Whose| all.iter().filter(|(whose, _)| *whose == which).count() as u64;
    let public_ipv6 = all.contains(&(Whose::Everybody, true));
    if all.is_empty() {
        found.fail(
            "the node listens nowhere",
            "look at the daemon's log, and at --listen",
        );
    } else if of(Whose::Near) + of(Whose::Everybody) == 0 {
        found.warn(
            format!(
                "the node listens on loopback alone ({}): other machines cannot dial it",
                count(of(Whose::Machine), "port")
            ),
            "start the daemon with --listen /ip4/0.0.0.0/tcp/4101",
        );
    }
    found.or_ok(|| {
        let ipv6 = if public_ipv6 { "public IPv6" } else { "no public IPv6" };
        format!(
            "listens on {} for everybody and {} for this network, {ipv6}; what a router makes of them is not known here",
            count(of(Whose::Everybody), "port"),
            count(of(Whose::Near), "port"),
        )
    })
}

/// Whether others can dial a node.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct Nat {
    pub(in crate::doctor) mode: DhtMode,
    pub(in crate::doctor) reach: Reach,
}

/// What others have found; there are no relays for those that cannot be dialled.
pub(in crate::doctor) fn nat(seen: &Nat) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Nat);
    if seen.reach == Reach::Unreachable {
        found.warn(
            "peers in several places could not dial this node; it reaches others, and serves those that it has dialled: \
             there are no relays",
            "forward TCP and UDP port 4101 to this machine in the router, and allow it in the firewall",
        );
    }
    found.or_ok(|| match (seen.mode, seen.reach) {
        (DhtMode::Auto, Reach::Reached) => "somebody has dialled this node from elsewhere".to_owned(),
        (DhtMode::Auto, _) => {
            "not tested by anybody yet: the node takes itself for reachable until peers find otherwise".to_owned()
        }
        (mode, _) => {
            let mode = if mode == DhtMode::Server { "server" } else { "client" };
            format!("not tested: the part in the DHT was chosen ({mode})")
        }
    })
}

/// What came of dialling a peer to join by.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct Dialled {
    pub(in crate::doctor) address: String,
    /// Who answered, or why nobody did.
    pub(in crate::doctor) answer: Result<String, String>,
    pub(in crate::doctor) took_ms: u64,
}

/// Each peer to join by; one that does not answer is a failure when none does.
pub(in crate::doctor) fn bootstrap(dialled: &[Dialled], peers: usize) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Bootstrap);
    if dialled.is_empty() {
        if peers == 0 {
            found.warn(
                "no peer to join by is named, and nobody is connected",
                "name one with --bootstrap /ip4/…/tcp/4101",
            );
        }
        return found.or_ok(|| "no peer to join by is named, and others are connected".to_owned());
    }
    let none_answers = dialled.iter().all(|one| one.answer.is_err());
    let check = |one: &Dialled| {
        let (outcome, what, next) = match &one.answer {
            Ok(peer) => (
                DoctorOutcome::Ok,
                format!("{} answers: {peer}", one.address),
                "",
            ),
            Err(why) => (
                if none_answers {
                    DoctorOutcome::Fail
                } else {
                    DoctorOutcome::Warn
                },
                format!("{}: {why}", one.address),
                "check that a node of the same network runs there and can be reached, or name another with --bootstrap",
            ),
        };
        let mut check = super::check(DoctorKind::Bootstrap, outcome, what, next);
        check.took_ms = one.took_ms.max(1);
        check
    };
    dialled.iter().map(check).collect()
}

/// A node's part in the DHT.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct Members {
    pub(in crate::doctor) mode: DhtMode,
    pub(in crate::doctor) is_serving: bool,
    pub(in crate::doctor) connected: usize,
    /// Peers in the routing table.
    pub(in crate::doctor) known: usize,
    pub(in crate::doctor) network_peers: u64,
    pub(in crate::doctor) has_bootstrap: bool,
}

/// Whether it knows anybody.
pub(in crate::doctor) fn members(seen: &Members) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Dht);
    if seen.connected == 0 && seen.has_bootstrap {
        found.fail(
            "connected to nobody, although peers to join by are named",
            "see the lines about bootstrap",
        );
    } else if seen.connected == 0 {
        found.warn(
            "connected to nobody",
            "name a peer to join by: --bootstrap /ip4/…/tcp/4101",
        );
    } else if seen.known == 0 {
        found.warn(
            format!(
                "connected to {}, and none of them serves the DHT",
                count(seen.connected as u64, "peer")
            ),
            "join by a peer that others can dial",
        );
    }
    found.or_ok(|| {
        let part = if seen.is_serving { "server" } else { "client" };
        let chosen = if seen.mode == DhtMode::Auto { "by itself" } else { "as it was told" };
        format!(
            "{part} ({chosen}), {} in the routing table, {} connected, the network seems to have {}",
            count(seen.known as u64, "peer"),
            count(seen.connected as u64, "peer"),
            count(seen.network_peers, "node"),
        )
    })
}

/// Whether announcing keeps up.
pub(in crate::doctor) fn announcing(
    keys: u64,
    done: u64,
    failed: u64,
    behind: Option<&BehindReport>,
) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Announcing);
    if let Some(behind) = behind {
        found.warn(
            format!("{}: {}", behind.what, behind.why),
            behind.next.clone(),
        );
    } else if failed > 0 {
        found.warn(
            format!(
                "nobody acknowledged {} of {}; they are tried again",
                count(failed, "key"),
                count(keys, "key")
            ),
            "casnode dht put-test shows which step fails",
        );
    }
    found.or_ok(|| match keys {
        0 => "nothing is to be announced".to_owned(),
        keys => format!(
            "{done} of {} are announced, and it keeps up",
            count(keys, "key")
        ),
    })
}
