//! Others cannot make a peer unreachable.
#![allow(clippy::unwrap_used)]

mod common;

use casnode_dht::Multiaddr;
use common::{LONG, node, node_with};

/// Somebody says of a peer that it listens where he does himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_address_of_a_peer_does_not_hide_the_true_one() {
    // Over QUIC, which waits a moment for TCP: the liar is always faster.
    let honest = node_with(vec![], |config| {
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    })
    .await;
    let liar = node(vec![]).await;
    let plain = |mut addr: Multiaddr| {
        addr.pop();
        addr
    };
    let (id, told) = (honest.id(), plain(liar.addr().await));
    let (id2, true_addr) = (honest.id(), plain(honest.addr().await));
    let asker = node_with(vec![], |config| {
        config.known_peers = vec![(id, told), (id2, true_addr)];
    })
    .await;
    let opened = asker.dht.open_exchange(honest.id(), &[], LONG).await;
    assert!(opened.is_ok(), "{:?}", opened.err());
}
