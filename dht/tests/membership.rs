//! Who is taken for a member of the network, and for how long.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use casnode_dht::{DhtConfig, FindOptions, Mode, Multiaddr, NetworkName, lab};
use common::{LONG, Node, eventually, keys, node_with, providers};

fn hasty(config: &mut DhtConfig) {
    config.membership.check = Duration::from_millis(500);
    config.membership.retry = Duration::from_millis(100);
}

fn in_network(name: &str) -> impl FnOnce(&mut DhtConfig) {
    let network = NetworkName::new(name).unwrap();
    move |config| config.network = network
}

async fn joined(bootstrap: &Node, change: impl FnOnce(&mut DhtConfig)) -> Node {
    let node = node_with(vec![bootstrap.addr().await], change).await;
    assert!(node.dht.connected_within(LONG).await > 0);
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_gone_leaves_the_routing_table() {
    let a = node_with(vec![], hasty).await;
    let b = joined(&a, hasty).await;
    let c = joined(&a, hasty).await;
    let (b_id, c_id) = (b.id(), c.id());
    let knows = |node: &Node, peer| lab::routing_table(&node.dht).contains(peer);
    eventually("both known", || async {
        knows(&a, &b_id) && knows(&a, &c_id)
    })
    .await;
    // As if killed. The other one stays, although nothing happens between the two.
    drop((c.dht, c.incoming));
    eventually("the dead one forgotten", || async {
        !knows(&a, &c_id) && !knows(&b, &c_id)
    })
    .await;
    assert!(knows(&a, &b_id) && knows(&b, &a.id()));
    assert!(a.dht.dropped().stale_peers_removed >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_networks_on_one_machine_have_nothing_to_do_with_each_other() {
    let a = node_with(vec![], in_network("one")).await;
    let addr = a.addr().await;
    // Each is told to join the other.
    let b = node_with(vec![addr.clone()], in_network("two")).await;
    let ours = joined(&a, in_network("one")).await;
    let key = keys(1, 1)[0];
    let announced = b
        .dht
        .announce_file(key, vec![key[0]], Duration::from_secs(1));
    assert_eq!(announced.await.unwrap().peers, 0);
    eventually("strangers noticed", || async {
        a.dht.dropped().foreign_peers > 0
            && b.dht.dropped().foreign_peers > 0
            && b.dht.peers().await.is_empty()
            && a.dht
                .peers()
                .await
                .iter()
                .all(|peer| peer.peer == ours.id())
    })
    .await;
    // Not dialled again, and not let in.
    let again = b.dht.dial(addr, LONG).await;
    assert!(again.is_err(), "{again:?}");
    let back = a.dht.dial(b.addr().await, LONG).await;
    assert!(back.is_err(), "{back:?}");
    assert!(b.dht.peers().await.is_empty());
    assert_eq!(lab::routing_table(&b.dht), []);
    assert_eq!(a.dht.get_record(key, LONG).await.unwrap().value, None);
    let (found, _) = providers(&ours.dht, key, FindOptions::default()).await;
    assert_eq!(found, [] as [(_, Vec<Multiaddr>); 0]);
    assert!(lab::held_providers(&a.dht, &key).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_as_long_as_it_is_told_to() {
    let a = node_with(vec![], |config| config.mode = Mode::Auto).await;
    assert_eq!(a.dht.mode(), Mode::Server, "nothing speaks against it");
    let b = joined(&a, |_| ()).await;
    let deaf = |config: &mut DhtConfig| {
        config.mode = Mode::Auto;
        config.listen.clear();
    };
    assert_eq!(joined(&a, deaf).await.dht.mode(), Mode::Client);

    a.dht.set_mode(Mode::Client).await;
    assert_eq!(a.dht.mode(), Mode::Client);
    eventually("the client forgotten", || async {
        lab::routing_table(&b.dht).is_empty()
    })
    .await;
    let keys = keys(2, 3);
    let announce = |key: [u8; 32]| b.dht.announce_file(key, vec![key[0]], LONG);
    assert_eq!(announce(keys[0]).await.unwrap().peers, 0);
    assert!(lab::held_providers(&a.dht, &keys[0]).is_empty());

    a.dht.set_mode(Mode::Auto).await;
    assert_eq!(a.dht.mode(), Mode::Server);
    eventually("a server again", || async {
        lab::routing_table(&b.dht).contains(&a.id())
    })
    .await;
    assert_eq!(announce(keys[1]).await.unwrap().peers, 1);
    assert_eq!(lab::held_providers(&a.dht, &keys[1]), [b.id()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_can_dial_finds_that_out() {
    let quick = |config: &mut DhtConfig| {
        config.membership.between_tests = Duration::from_millis(50);
        config.membership.test_private = true;
    };
    let mut servers = Vec::new();
    for last in 2..5 {
        let at = format!("/ip4/127.0.0.{last}/tcp/0").parse().unwrap();
        servers.push(
            node_with(vec![], |config| {
                quick(config);
                config.listen = vec![at];
            })
            .await,
        );
    }
    let mut bootstrap = Vec::new();
    for server in &servers {
        bootstrap.push(server.addr().await);
    }
    let auto = |config: &mut DhtConfig| {
        quick(config);
        config.mode = Mode::Auto;
    };
    // As behind a router: it listens, but what comes in gets no further.
    let hidden = node_with(bootstrap.clone(), |config| {
        auto(config);
        config.limits.pending_in = 0;
    })
    .await;
    let open = node_with(bootstrap, auto).await;
    assert_eq!(hidden.dht.mode(), Mode::Server, "not known yet");
    eventually("found out", || async { hidden.dht.mode() == Mode::Client }).await;
    eventually("told", || async {
        servers.iter().all(|server| {
            let table = lab::routing_table(&server.dht);
            !table.contains(&hidden.id()) && table.contains(&open.id())
        })
    })
    .await;
    assert_eq!(open.dht.mode(), Mode::Server);
    // Trying leaves no connection behind, and takes nobody for gone.
    eventually("one connection each", || async {
        servers[0].dht.peers().await.len() >= 2
    })
    .await;
    assert!(servers.iter().all(|s| s.dht.dropped().bad_frames == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_finds_its_network_again_without_being_told_where() {
    let a = node_with(vec![], |_| ()).await;
    let b = joined(&a, |_| ()).await;
    // It is saved from time to time, and when a node stops.
    let often = |config: &mut DhtConfig| config.membership.save = Duration::from_millis(100);
    let c = joined(&a, often).await;
    eventually("known", || async {
        lab::routing_table(&b.dht).contains(&a.id()) && !lab::remembered(&c.dht).is_empty()
    })
    .await;
    assert_eq!(lab::remembered(&b.dht), [], "not yet time");
    let b = b.restart(vec![]).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    // It may have heard of `c`, and found that one first.
    eventually("the first one again", || async {
        b.dht.peers().await.iter().any(|peer| peer.peer == a.id())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_gone_to_another_network_leaves_the_routing_table() {
    let a = node_with(vec![], hasty).await;
    let b = joined(&a, hasty).await;
    let (id, at) = (b.id(), b.addr().await);
    eventually("a member", || async {
        lab::routing_table(&a.dht).contains(&id)
    })
    .await;
    b.dht.shutdown().await;
    // The same identity and place, another network.
    let mut config = common::config(b.dir.path(), &b.keypair, vec![a.addr().await]);
    in_network("elsewhere")(&mut config);
    config.listen = vec![at.iter().filter(|part| part.tag() != "p2p").collect()];
    let _elsewhere = casnode_dht::start(config).await.unwrap();
    eventually("the stranger noticed", || async {
        a.dht.dropped().foreign_peers > 0
    })
    .await;
    eventually("the stranger's seat given up", || async {
        !lab::routing_table(&a.dht).contains(&id)
    })
    .await;
}
