//! `status ADDRESS`: a file's swarm.

mod map;

use std::sync::Arc;

use casnode_cas::{Address, HaveBitmap};
use casnode_dht::{Dht, Multiaddr};

use super::{
    files::{not_here, on_store},
    network::joined,
    seed::seed_report,
};
use crate::{
    api::{Outcome, Response, SwarmPeer, SwarmReport},
    errors,
    node::Node,
    swarm::PeerView,
    tasks::blocking,
};

/// A file's swarm, as this node sees it.
pub(super) async fn status(node: &Arc<Node>, address: &str) -> Outcome {
    let address: Address = super::parse("an address", address)?;
    let dht = joined(node, "this node is in no swarm")?;
    let found = on_store(node, move |store| {
        let Some(entry) = store.file(&address)? else {
            return Ok(None);
        };
        let manifest = store.manifest(&address)?;
        let here = match &manifest {
            Some(manifest) => store.have(manifest)?,
            None => HaveBitmap::new(entry.chunk_count as usize),
        };
        Ok(Some((entry, here)))
    });
    let (entry, here) = found.await?.ok_or_else(|| not_here(&address))?;
    let view = node.swarms.report(entry.manifest);
    let chunks_here = u32::try_from(here.count()).unwrap_or(u32::MAX);
    let holders = view.holders;
    let counted = blocking(move || {
        let held = holders.count(&here);
        (map::copies(&held), map::draw(&here, &held))
    });
    let (copies, map) = counted.await.map_err(errors::panicked)?;
    let mut peers: Vec<SwarmPeer> = view.peers.into_iter().map(|p| peer(dht, p)).collect();
    // Whom most goes to and comes from is seen first.
    peers.sort_by_key(|p| std::cmp::Reverse(p.up_bytes_per_s.saturating_add(p.down_bytes_per_s)));
    Ok(Response::SwarmStatus(SwarmReport {
        address: address.to_string(),
        name: entry.name.clone(),
        bytes: entry.size_bytes,
        chunks: entry.chunk_count,
        chunks_here,
        mode: view.mode,
        copies,
        up_bytes: view.up_bytes,
        down_bytes: view.down_bytes,
        map,
        seed: seed_report(node, &address, entry.size_bytes),
        peers,
    }))
}

fn peer(dht: &Dht, view: PeerView) -> SwarmPeer {
    let seen = dht.traffic_of(&view.peer);
    let cipher = seen.as_ref().and_then(|seen| seen.cipher);
    SwarmPeer {
        peer: view.peer.to_string(),
        transport: seen.as_ref().map(|seen| seen.transport.to_owned()),
        cipher: cipher.map(|cipher| cipher.to_string()),
        addr: seen.map(|seen| without_peer(&seen.addr)),
        up_bytes_per_s: view.up_bytes_per_s,
        down_bytes_per_s: view.down_bytes_per_s,
        up_bytes: view.up_bytes,
        down_bytes: view.down_bytes,
        have_chunks: view.have_chunks,
        choked_by_us: view.choked_by_us,
        chokes_us: view.chokes_us,
        interested_in_us: view.interested_in_us,
        interests_us: view.interests_us,
        snubs_us: view.snubs_us,
    }
}

/// Where a connection goes to, without whom: that is told apart.
fn without_peer(addr: &Multiaddr) -> String {
    let addr = addr.to_string();
    addr.split("/p2p/").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_the_peer_that_is_there() {
        let id = casnode_dht::Keypair::generate_ed25519()
            .public()
            .to_peer_id();
        let addr = format!("/ip4/127.0.0.1/tcp/4101/p2p/{id}").parse().unwrap();
        assert_eq!(without_peer(&addr), "/ip4/127.0.0.1/tcp/4101");
    }
}
