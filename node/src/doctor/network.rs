//! Asks the node itself how it stands in the network.

use std::{sync::Arc, time::Duration};

use casnode_dht::{Dht, Multiaddr};
use futures::future::join_all;

use super::verdict::{
    Addresses, Dialled, Members, Nat, Port, PortState, addresses, announcing, bootstrap, check,
    members, nat, port,
};
use crate::{
    api::{DoctorCheck, DoctorKind, DoctorOutcome},
    clock, errors,
    node::Node,
    ops,
};

/// A peer to join by that does not answer so soon does not answer.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Whoever is connected is in the routing table so soon, or does not belong there.
const TABLE_PATIENCE: Duration = Duration::from_secs(3);

/// Peers to join by that are dialled; whoever names more has other troubles.
const MAX_DIALS: usize = 32;

/// Makes a check that the node alone can make.
pub(super) async fn look(node: &Arc<Node>, kind: DoctorKind) -> Vec<DoctorCheck> {
    let Some(dht) = &node.dht else {
        let what = "this node is in no network";
        return vec![check(
            kind,
            DoctorOutcome::Warn,
            what,
            "start `casnode daemon`",
        )];
    };
    match kind {
        DoctorKind::Ports => ports(node, dht).await,
        DoctorKind::Addresses => addresses(&Addresses {
            listening: dht.listen_addrs().await,
        }),
        DoctorKind::Nat => nat(&Nat {
            mode: node.mode(),
            reach: dht.reach().await,
        }),
        DoctorKind::Bootstrap => {
            let dialled = dial(node, dht).await;
            bootstrap(&dialled, dht.peers().await.len())
        }
        DoctorKind::Dht => {
            let routed = dht.connected_within(TABLE_PATIENCE).await;
            members(&Members {
                mode: node.mode(),
                is_serving: ops::is_serving(dht),
                connected: dht.peers().await.len(),
                // What is told of the table is a second old.
                known: dht.routing_peers().max(routed),
                network_peers: dht.provide_status().network_peers,
                has_bootstrap: node.has_bootstrap(),
            })
        }
        DoctorKind::Announcing => {
            let report = ops::provide_report(node, dht);
            announcing(
                report.keys,
                report.done,
                report.failed,
                report.behind.as_ref(),
            )
        }
        _ => Vec::new(),
    }
}

/// Where the node listens, and where its API is.
async fn ports(node: &Node, dht: &Dht) -> Vec<DoctorCheck> {
    let ours = |address: String, of| Port {
        address,
        of,
        flag: "",
        is_optional: false,
        state: PortState::Ours,
    };
    let listening = dht.listen_addrs().await;
    let listening = listening.iter().map(|addr| {
        let text = addr.to_string();
        let bare = text.split("/p2p/").next().unwrap_or(&text);
        ours(bare.to_owned(), "the network")
    });
    let mut seen: Vec<_> = listening.collect();
    seen.extend(node.http().map(|at| ours(at.to_string(), "the API")));
    let mut checks: Vec<_> = seen.iter().flat_map(port).collect();
    if let Some(why) = node.no_http() {
        checks.push(check(
            DoctorKind::Ports,
            DoctorOutcome::Warn,
            format!("the API is on the socket alone: {why}"),
            "end whoever has the port (`ss -tlnp` tells), or start the daemon with another --http",
        ));
    }
    checks
}

/// Dials everybody who was named to join by, all at once.
async fn dial(node: &Node, dht: &Dht) -> Vec<Dialled> {
    let named = node.bootstrap.iter().take(MAX_DIALS);
    let dials = named.map(|named| async move {
        let began = clock::now();
        let answer = match named.parse::<Multiaddr>() {
            Ok(addr) => dht
                .dial(addr, DIAL_DEADLINE)
                .await
                .map_err(|error| errors::brief(&error)),
            Err(error) => Err(error.to_string()),
        };
        Dialled {
            address: named.clone(),
            answer: answer.map(|peer| peer.to_string()),
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    });
    join_all(dials).await
}
