//! Real nodes on loopback: finding, announcing, restarting.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use casnode_dht::{Dht, FindEvent, FindOptions, Multiaddr, Reply, Request};
use common::{LONG, chain, client, eventually, finds, is_true, keys, node, node_with, providers};

fn value_of(key: &[u8; 32]) -> Vec<u8> {
    let mut value = vec![key[0]];
    value.extend_from_slice(b" is the value");
    assert!(is_true(key, &value));
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_found_through_a_node_in_the_middle() {
    let mut nodes = chain(2).await;
    let (b, mut a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let key = keys(1, 1)[0];
    let announced = a
        .dht
        .announce_file(key, value_of(&key), LONG)
        .await
        .unwrap();
    assert_eq!(announced.peers, 1);
    assert_eq!(a.dht.announce_status().announced, 1);

    // C comes later and knows only B.
    let c = node(vec![b.addr().await]).await;
    assert!(c.dht.connected_within(LONG).await > 0);
    let found = c.dht.get_record(key, LONG).await.unwrap();
    assert_eq!(found.value, Some(value_of(&key)));
    assert!(found.asked_peers >= 1);
    let (providers, _) = providers(&c.dht, key, FindOptions::default()).await;
    assert_eq!(
        providers,
        [(a.id(), without_peer(a.dht.listen_addrs().await))]
    );

    // The provider can be talked to by what the search has left behind.
    let a_id = a.id();
    let serve = async {
        let mut incoming = a.incoming.recv().await.unwrap();
        assert_eq!(incoming.peer, c.id());
        let (id, request) = incoming.requests.next().await.unwrap().unwrap();
        assert_eq!(
            request,
            Request::Chunk {
                index: 0,
                hash: key
            }
        );
        let chunk = Reply::Chunk(vec![7; 300_000].into());
        incoming.replies.send(id, &chunk).await.unwrap();
        incoming.requests.next().await.unwrap()
    };
    let ask = async {
        let (mut requests, mut replies) = c.dht.open_exchange(a_id, &[], LONG).await.unwrap();
        requests
            .send(
                9,
                &Request::Chunk {
                    index: 0,
                    hash: key,
                },
            )
            .await
            .unwrap();
        let reply = replies.next().await.unwrap();
        requests.close().await.unwrap();
        reply
    };
    let (end, reply) = tokio::time::timeout(LONG, async { tokio::join!(serve, ask) })
        .await
        .unwrap();
    assert_eq!(reply, Some((9, Reply::Chunk(vec![7; 300_000].into()))));
    assert_eq!(end, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_answers_with_itself_when_it_is_asked_later() {
    let a = node(vec![]).await;
    let key = keys(1, 2)[0];
    let announced = a
        .dht
        .announce_file(key, value_of(&key), Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(announced.peers, 0);
    let status = a.dht.announce_status();
    assert_eq!((status.announced, status.to_announce), (0, 1));
    let own = FindOptions {
        include_self: true,
        ..FindOptions::default()
    };
    assert_eq!(
        providers(&a.dht, key, own).await.0,
        [(a.id(), without_peer(a.dht.listen_addrs().await))]
    );

    let b = client(vec![a.addr().await]).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    let (found, done) = providers(&b.dht, key, FindOptions::default()).await;
    assert_eq!(found, [(a.id(), without_peer(a.dht.listen_addrs().await))]);
    assert!(matches!(
        done,
        FindEvent::Done {
            found: 1,
            timed_out: false,
            ..
        }
    ));
    assert_eq!(
        b.dht.get_record(key, LONG).await.unwrap().value,
        Some(value_of(&key))
    );

    // When a server comes, the file that stayed due is announced by itself.
    let c = node(vec![a.addr().await]).await;
    eventually("the file announced", || async {
        a.dht.announce_status().to_announce == 0
    })
    .await;
    drop(c);
}

fn without_peer(addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
    addrs
        .into_iter()
        .map(|mut addr| {
            addr.pop();
            addr
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_chunks_are_announced_and_survive_restarts() {
    let mut nodes = chain(5).await;
    let keys = keys(2_000, 3);
    let a = nodes.remove(0);
    let a_id = a.id();
    a.dht.schedule(keys.clone()).await.unwrap();
    eventually("all announced", || async {
        a.dht.announce_status().to_announce == 0
    })
    .await;
    assert_eq!(a.dht.announce_status().announced, 2_000);
    let sample: Vec<_> = keys.iter().step_by(100).collect();
    let last = nodes.pop().unwrap();
    for key in &sample {
        assert!(finds(&last.dht, **key, a_id).await);
    }

    // The announcing node comes back on another port: it has nothing to do again, and is found there.
    let bootstrap = vec![nodes[0].addr().await];
    let a = a.restart(bootstrap).await;
    let status = a.dht.announce_status();
    assert_eq!((status.announced, status.to_announce), (2_000, 0));
    assert!(a.dht.connected_within(LONG).await > 0);
    let here = without_peer(a.dht.listen_addrs().await);
    eventually("the new address known", || async {
        let (found, _) = providers(&last.dht, *sample[0], FindOptions::default()).await;
        found
            .iter()
            .any(|(peer, addrs)| *peer == a_id && addrs.first() == here.first())
    })
    .await;

    // A node that holds records comes back with them, although the announcer is gone by then.
    let holder = nodes.remove(0);
    a.dht.shutdown().await;
    let holder = holder.restart(vec![]).await;
    let asker = client(vec![holder.addr().await]).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    for key in sample {
        assert!(finds(&asker.dht, *key, a_id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_stops_at_its_limit_and_a_key_of_nobody_ends() {
    let nodes = chain(4).await;
    let key = keys(1, 4)[0];
    for node in &nodes[..3] {
        node.dht
            .announce_file(key, value_of(&key), LONG)
            .await
            .unwrap();
    }
    let two = FindOptions {
        limit: 2,
        deadline: LONG,
        ..FindOptions::default()
    };
    let (found, done) = providers(&nodes[3].dht, key, two).await;
    assert_eq!(found.len(), 2);
    assert!(matches!(
        done,
        FindEvent::Done {
            found: 2,
            timed_out: false,
            ..
        }
    ));
    let nobody = keys(1, 5)[0];
    let (found, done) = providers(&nodes[3].dht, nobody, two).await;
    assert!(found.is_empty());
    assert!(matches!(
        done,
        FindEvent::Done {
            asked_peers: 1..,
            found: 0,
            timed_out: false
        }
    ));
    assert_eq!(
        nodes[3].dht.get_record(nobody, LONG).await.unwrap().value,
        None
    );
    nodes[0].dht.unschedule(vec![key]).await.unwrap();
    assert_eq!(nodes[0].dht.announce_status().announced, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_announces_and_is_not_asked_to_hold_records() {
    let server = node(vec![]).await;
    let client = client(vec![server.addr().await]).await;
    let other = node(vec![server.addr().await]).await;
    assert!(client.dht.connected_within(LONG).await > 0);
    assert!(other.dht.connected_within(LONG).await > 0);
    let key = keys(1, 6)[0];
    assert!(
        client
            .dht
            .announce_file(key, value_of(&key), LONG)
            .await
            .unwrap()
            .peers
            >= 1
    );
    assert!(finds(&other.dht, key, client.id()).await);
    let theirs = keys(1, 7)[0];
    let announced = other
        .dht
        .announce_file(theirs, value_of(&theirs), LONG)
        .await
        .unwrap();
    assert_eq!(announced.peers, 1, "the server alone, not the client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_alone_works_and_names_are_resolved() {
    let quic = |config: &mut casnode_dht::DhtConfig| {
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    };
    let a = node_with(vec![], quic).await;
    let b = node_with(vec![a.addr().await], quic).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    let peers = b.dht.peers().await;
    assert_eq!(
        (peers[0].peer, peers[0].transport, peers[0].outbound),
        (a.id(), "quic", true)
    );
    assert!(
        peers[0]
            .agent
            .as_deref()
            .is_some_and(|agent| agent.starts_with("casnode/"))
    );

    let c = node(vec![]).await;
    let port = c
        .addr()
        .await
        .to_string()
        .split('/')
        .nth(4)
        .unwrap()
        .to_owned();
    let by_name: Multiaddr = format!("/dns4/localhost/tcp/{port}").parse().unwrap();
    let d = node(vec![by_name]).await;
    assert!(d.dht.connected_within(LONG).await > 0);
    assert_eq!(d.dht.peers().await[0].transport, "tcp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_told_with_all_its_addresses_and_connected() {
    let both = |config: &mut casnode_dht::DhtConfig| {
        config
            .listen
            .push("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
    };
    let a = node_with(vec![], both).await;
    let b = node(vec![a.addr().await]).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    assert!(a.dht.connected_within(LONG).await > 0);
    let key = keys(1, 8)[0];
    assert!(
        a.dht
            .announce_file(key, value_of(&key), LONG)
            .await
            .unwrap()
            .peers
            >= 1
    );
    let c = node(vec![b.addr().await]).await;
    assert!(c.dht.connected_within(LONG).await > 0);
    let connect = FindOptions {
        connect: true,
        deadline: LONG,
        ..FindOptions::default()
    };
    let (found, _) = providers(&c.dht, key, connect).await;
    assert!(
        found
            .iter()
            .any(|(peer, addrs)| *peer == a.id() && addrs.len() == 2)
    );
    eventually("connected to the provider", || async {
        c.dht.peers().await.iter().any(|peer| peer.peer == a.id())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_again_when_its_bootstrap_node_comes_back() {
    let a = node(vec![]).await;
    let addr = a.addr().await;
    let b = node(vec![without_peer(vec![addr.clone()]).remove(0)]).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    // As if killed: the node is dropped without a word.
    let (a_id, keypair, dir) = (a.id(), a.keypair.clone(), a.dir);
    drop((a.dht, a.incoming));
    eventually("noticed", || async { b.dht.peers().await.is_empty() }).await;
    let mut config = common::config(dir.path(), &keypair, vec![]);
    config.listen = without_peer(vec![addr]);
    let started = {
        let mut tries = 0;
        loop {
            match casnode_dht::start(config.clone()).await {
                Ok(started) => break started,
                // The dropped node's tasks are still letting go of its files and port.
                Err(_) if tries < 200 => tries += 1,
                Err(error) => panic!("{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    eventually("joined again", || async {
        b.dht.connected_within(LONG).await > 0
    })
    .await;
    assert_eq!(b.dht.peers().await[0].peer, a_id);
    drop(started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_without_a_name_is_dialled_once() {
    let a = node(vec![]).await;
    let b = node(vec![]).await;
    let plain = without_peer(vec![a.addr().await]).remove(0);
    for _ in 0..6 {
        let peer = b.dht.dial(plain.clone(), LONG).await.unwrap();
        assert_eq!(peer, a.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_test_record_is_put_and_read_back() {
    let nodes = chain(4).await;
    let dht = &nodes[0].dht;
    eventually("all four are known", || async {
        dht.lookup([1; 32], LONG).await.unwrap().peers.len() == 3
    })
    .await;
    let key = keys(1, 5)[0];
    let test = dht.put_test(key, value_of(&key), LONG).await.unwrap();
    assert_eq!(
        (test.closest, test.provider_copies, test.value_copies),
        (3, 3, 3)
    );
    assert_eq!((test.provider_read, test.value_read), (3, true));
    assert_eq!(dht.provide_status().keys, 0, "nothing of it is renewed");
    // A value that is not true for its key is acknowledged by Kademlia, and kept by nobody.
    let test = dht.put_test([3; 32], vec![9; 9], LONG).await.unwrap();
    assert!(!test.value_read);
    let lookup = dht.lookup(key, LONG).await.unwrap();
    assert!(lookup.complete && lookup.asked_peers >= 3);
    assert!(lookup.peers.iter().all(|(_, addrs, _)| !addrs.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn announcing_is_told_key_by_key_and_can_be_asked_for() {
    let nodes = chain(2).await;
    let dht = &nodes[1].dht;
    let keys = keys(300, 6);
    dht.schedule(keys.clone()).await.unwrap();
    eventually("all are announced", || async {
        dht.provide_status().done == 300
    })
    .await;
    let status = dht.provide_status();
    assert_eq!((status.keys, status.due, status.failed), (300, 0, 0));
    assert!(status.behind.is_none() && status.keys_per_hour > 0 && status.last_success.is_some());
    let some = dht.keys_status(&keys[..10]);
    assert_eq!(
        (some.keys, some.done, some.copies_min, some.copies_median),
        (10, 10, 1, 1)
    );
    let announced = |dht: &Dht| {
        let metrics = dht.metrics();
        let metric = metrics
            .iter()
            .find(|metric| metric.name == "casnode_dht_announced_keys_total");
        metric.unwrap().value
    };
    assert!((announced(dht) - 300.0).abs() < 0.5);
    assert_eq!(dht.provide_now(Some(&keys[..7])), 7);
    eventually("those asked for are announced again", || async {
        (announced(dht) - 307.0).abs() < 0.5
    })
    .await;
    assert_eq!(dht.provide_now(Some(&[[0; 32]])), 0, "not in the schedule");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_stored_at_the_same_time_are_all_announced() {
    let nodes = chain(2).await;
    let dht = &nodes[0].dht;
    // Far more than there are places for streams: each waits for its turn, and none is refused.
    let announced = keys(300, 8).into_iter().map(|key| async move {
        let announced = dht.announce_file(key, value_of(&key), LONG).await;
        announced.unwrap().peers
    });
    let announced = futures::future::join_all(announced).await;
    assert_eq!(announced, vec![1; 300]);
    assert_eq!(nodes[1].dht.dropped().refused_streams, 0);
}
