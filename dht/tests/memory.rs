//! Nodes over a transport of the caller's: within this process, without a socket.
#![allow(clippy::unwrap_used)]

mod common;

use casnode_dht::{Dht, IncomingStreams, Keypair, Multiaddr, lab};
use common::{LONG, config, eventually, finds, keys};
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::{noise, yamux};

async fn in_memory(bootstrap: Vec<Multiaddr>) -> (Dht, IncomingStreams) {
    let dir = tempfile::tempdir().unwrap();
    let keypair = Keypair::generate_ed25519();
    let mut config = config(dir.path(), &keypair, bootstrap);
    config.in_memory = true;
    config.listen = vec!["/memory/0".parse().unwrap()];
    let transport = MemoryTransport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    lab::start_over(config, transport).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_in_memory_find_each_other_and_a_provider() {
    let a = in_memory(vec![]).await;
    let first = a.0.listen_addrs().await.remove(0);
    assert!(first.to_string().starts_with("/memory/"), "{first}");
    let b = in_memory(vec![first.clone()]).await;
    assert!(b.0.connected_within(LONG).await > 0);
    let key = keys(1, 1)[0];
    let announced = b.0.announce_file(key, vec![key[0]], LONG).await.unwrap();
    assert_eq!(announced.peers, 1);
    // The third knows the first alone and has to dial the second by what it is told of it.
    let c = in_memory(vec![first]).await;
    assert!(c.0.connected_within(LONG).await > 0);
    assert!(finds(&c.0, key, b.0.local_peer_id()).await);
    eventually("all connected", || async {
        c.0.connected_within(LONG).await == 2
    })
    .await;
    assert_eq!(c.0.peers().await[0].transport, "memory");
}
