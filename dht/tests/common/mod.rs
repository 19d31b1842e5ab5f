//! Nodes on loopback, in this process.
#![allow(dead_code, unreachable_pub)]

pub mod crowd;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use casnode_dht::{
    Dht, DhtConfig, FindEvent, FindOptions, IncomingStreams, Key, Keypair, Mode, Multiaddr, PeerId,
};

/// Nothing here takes long; whatever takes this long has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// A node and the folder it lives in.
pub struct Node {
    pub dht: Dht,
    pub incoming: IncomingStreams,
    pub keypair: Keypair,
    pub dir: tempfile::TempDir,
}

/// The values these tests take for true: those that begin with the key's first byte.
pub fn is_true(key: &Key, value: &[u8]) -> bool {
    value.first() == Some(&key[0])
}

pub fn config(dir: &Path, keypair: &Keypair, bootstrap: Vec<Multiaddr>) -> DhtConfig {
    let mut config = DhtConfig::new(keypair.clone(), dir, Arc::new(is_true));
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.bootstrap = bootstrap;
    config
}

pub async fn node_with(bootstrap: Vec<Multiaddr>, change: impl FnOnce(&mut DhtConfig)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let keypair = Keypair::generate_ed25519();
    let mut config = config(dir.path(), &keypair, bootstrap);
    change(&mut config);
    let (dht, incoming) = casnode_dht::start(config).await.unwrap();
    Node {
        dht,
        incoming,
        keypair,
        dir,
    }
}

pub async fn node(bootstrap: Vec<Multiaddr>) -> Node {
    node_with(bootstrap, |_| {}).await
}

pub async fn client(bootstrap: Vec<Multiaddr>) -> Node {
    node_with(bootstrap, |config| config.mode = Mode::Client).await
}

impl Node {
    pub async fn addr(&self) -> Multiaddr {
        self.dht.listen_addrs().await.remove(0)
    }

    pub fn id(&self) -> PeerId {
        self.dht.local_peer_id()
    }

    /// Stops the node and starts it again on the same data directory, on a new port.
    pub async fn restart(self, bootstrap: Vec<Multiaddr>) -> Node {
        self.dht.shutdown().await;
        let Node {
            dir,
            keypair,
            dht,
            incoming,
        } = self;
        drop((dht, incoming));
        let (dht, incoming) = casnode_dht::start(config(dir.path(), &keypair, bootstrap))
            .await
            .unwrap();
        Node {
            dht,
            incoming,
            keypair,
            dir,
        }
    }
}

/// A chain of nodes that know only the one before.
pub async fn chain(count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..count {
        let bootstrap = match nodes.last() {
            None => Vec::new(),
            Some(before) => vec![before.addr().await],
        };
        let node = node(bootstrap).await;
        if let Some(before) = nodes.last() {
            assert!(node.dht.connected_within(LONG).await > 0);
            assert!(before.dht.connected_within(LONG).await > 0);
        }
        nodes.push(node);
    }
    nodes
}

/// Providers found and the last event.
pub async fn providers(
    dht: &Dht,
    key: Key,
    options: FindOptions,
) -> (Vec<(PeerId, Vec<Multiaddr>)>, FindEvent) {
    let mut events = dht.find_providers(key, options);
    let mut found = Vec::new();
    loop {
        let event = tokio::time::timeout(LONG, events.recv())
            .await
            .unwrap()
            .expect("an end");
        match event {
            FindEvent::Provider { peer, addrs } => found.push((peer, addrs)),
            done => return (found, done),
        }
    }
}

/// Whether a search finds this provider, with an address. Does not wait for the peers that have yet to answer once it is
/// found: those that are silent take ten seconds.
pub async fn finds(dht: &Dht, key: Key, provider: PeerId) -> bool {
    let options = FindOptions {
        deadline: LONG,
        ..FindOptions::default()
    };
    let mut events = dht.find_providers(key, options);
    loop {
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap();
        match event.expect("an end") {
            FindEvent::Provider { peer, addrs } if peer == provider && !addrs.is_empty() => {
                return true;
            }
            FindEvent::Provider { .. } => {}
            FindEvent::Done { .. } => return false,
        }
    }
}

/// Asks again and again until it is so; fails after [`LONG`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let ends = tokio::time::Instant::now() + LONG;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < ends, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Distinct keys, the same every time.
pub fn keys(count: u32, seed: u8) -> Vec<Key> {
    let key = |n: u32| {
        let mut key = [seed; 32];
        key[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
        key[4..8].copy_from_slice(&n.to_le_bytes());
        key
    };
    (0..count).map(key).collect()
}
