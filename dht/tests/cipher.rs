//! What connections between real nodes run over and are encrypted with.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use casnode_dht::{Cipher, CipherPreference, Multiaddr, PeerInfo};
use common::{LONG, Node, eventually, node_with};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

async fn listener(on: &[&str], cipher: CipherPreference) -> Node {
    node_with(vec![], |config| {
        config.listen = on.iter().map(|addr| addr.parse().unwrap()).collect();
        config.cipher = cipher;
    })
    .await
}

async fn shown(from: &Node, to: &Node) -> Option<PeerInfo> {
    let mut peers = from.dht.peers().await.into_iter();
    peers.find(|info| info.peer == to.id())
}

/// Transport and cipher of the connection with another, as people see them and as the traffic's count has them.
async fn seen(from: &Node, to: &Node) -> (&'static str, Option<Cipher>) {
    eventually("both are connected", async || {
        from.dht.traffic_of(&to.id()).is_some() && shown(from, to).await.is_some()
    })
    .await;
    let shown = shown(from, to).await.unwrap();
    let traffic = from.dht.traffic_of(&to.id()).unwrap();
    assert_eq!(shown.cipher, traffic.cipher);
    assert_eq!(shown.transport, traffic.transport);
    (shown.transport, shown.cipher)
}

#[tokio::test]
async fn nodes_agree_on_the_cipher_that_is_preferred_and_say_which() {
    use CipherPreference::{Aes, Auto, ChaCha20};
    for (dials, listens, expected) in [
        (Aes, Auto, Cipher::TlsAes128),
        (ChaCha20, Auto, Cipher::TlsChaCha20),
        (Auto, Aes, Cipher::TlsAes128),
        (Auto, ChaCha20, Cipher::TlsChaCha20),
        (Aes, ChaCha20, Cipher::TlsChaCha20),
    ] {
        let far = listener(&[TCP], listens).await;
        let near = listener(&[TCP], dials).await;
        near.dht.dial(far.addr().await, LONG).await.unwrap();
        assert_eq!(seen(&near, &far).await, ("tcp", Some(expected)));
        assert_eq!(seen(&far, &near).await, ("tcp", Some(expected)));
    }
}

#[tokio::test]
async fn over_quic_its_own_encryption_is_named() {
    let far = listener(&[QUIC], CipherPreference::Auto).await;
    let near = listener(&[QUIC], CipherPreference::Aes).await;
    near.dht.dial(far.addr().await, LONG).await.unwrap();
    assert_eq!(seen(&near, &far).await, ("quic", Some(Cipher::Quic)));
    assert_eq!(seen(&far, &near).await, ("quic", Some(Cipher::Quic)));
}

#[tokio::test]
async fn a_peer_with_both_addresses_is_reached_over_tcp() {
    let far = listener(&[QUIC, TCP], CipherPreference::Auto).await;
    let near = listener(&[QUIC, TCP], CipherPreference::Auto).await;
    // Who knows nobody on this machine believes nothing that leads to it.
    let neighbour = listener(&[TCP], CipherPreference::Auto).await;
    near.dht.dial(neighbour.addr().await, LONG).await.unwrap();
    // The address that is not wanted is the first.
    let mut addrs: Vec<Multiaddr> = far.dht.listen_addrs().await;
    addrs.sort_by_key(|addr| !addr.to_string().contains("quic"));
    assert_eq!(addrs.len(), 2);
    let stream = near.dht.open_exchange(far.id(), &addrs, LONG);
    let _stream = stream.await.unwrap();
    assert_eq!(seen(&near, &far).await.0, "tcp");
    assert_eq!(seen(&far, &near).await.0, "tcp");
    // Nor does a connection over QUIC come after it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(seen(&near, &far).await.0, "tcp");
}
