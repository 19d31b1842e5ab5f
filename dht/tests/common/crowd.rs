//! Peers that follow Kademlia's protocol, know each other, hold nothing, and do nothing of their own.

use casnode_dht::{Keypair, Multiaddr, PeerId};
use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{StreamProtocol, SwarmBuilder, identify, kad, noise, tcp, yamux};

#[derive(NetworkBehaviour)]
struct Member {
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
}

/// A crowd of these identities: who and where they are. They live as long as the runtime.
pub async fn crowd(identities: Vec<Keypair>) -> Vec<(PeerId, Multiaddr)> {
    let mut swarms = Vec::new();
    let mut members = Vec::new();
    for keypair in identities {
        let mut swarm = member(keypair);
        swarm
            .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .unwrap();
        let addr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        members.push((*swarm.local_peer_id(), addr));
        swarms.push(swarm);
    }
    for mut swarm in swarms {
        for (peer, addr) in &members {
            if peer != swarm.local_peer_id() {
                swarm.behaviour_mut().kad.add_address(peer, addr.clone());
            }
        }
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
    }
    members
}

fn member(keypair: Keypair) -> Swarm<Member> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut config = kad::Config::new(StreamProtocol::new("/casnode/main/kad/1.0.0"));
            config.set_periodic_bootstrap_interval(None);
            // Strangers that ask it are not taken in: it leads to the crowd alone.
            config.set_kbucket_inserts(kad::BucketInserts::Manual);
            let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Server));
            Member {
                kad,
                identify: identify::Behaviour::new(identify::Config::new(
                    "/x".into(),
                    key.public(),
                )),
            }
        })
        .unwrap();
    swarm
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(std::time::Duration::from_secs(600))
        })
        .build()
}
