//! Finding: many keys at once, from memory, and in spite of those who hide what they hold.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use casnode_dht::{FindEvent, FindManyEvent, FindOptions, Key, Keypair, Multiaddr, PeerId};
use common::{LONG, Node, chain, client, crowd::crowd, eventually, keys, node_with, providers};
use sha2::{Digest, Sha256};

const PATIENT: FindOptions = FindOptions {
    limit: 8,
    deadline: LONG,
    connect: false,
    include_self: false,
    use_cache: true,
};

fn asked_of(done: &FindEvent) -> u32 {
    match done {
        FindEvent::Done { asked_peers, .. } => *asked_peers,
        FindEvent::Provider { .. } => panic!("not an end"),
    }
}

/// How many bits a peer's point has in common with a key's.
fn common_bits(key: &Key, peer: &PeerId) -> u32 {
    let (key, peer) = (Sha256::digest(key), Sha256::digest(peer.to_bytes()));
    let differing = key.iter().zip(peer).map(|(a, b)| a ^ b);
    let mut bits = 0;
    for byte in differing {
        bits += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    bits
}

/// An identity that shares so many bits with a key.
fn identity(key: &Key, bits: impl std::ops::RangeBounds<u32>) -> Keypair {
    loop {
        let keypair = Keypair::generate_ed25519();
        if bits.contains(&common_bits(key, &keypair.public().to_peer_id())) {
            return keypair;
        }
    }
}

/// What a search for many keys brings: providers of each key, lookups, peers asked, whether it ran out of time.
async fn find_many(
    node: &Node,
    keys: Vec<Key>,
    options: FindOptions,
) -> (HashMap<Key, HashSet<PeerId>>, (u32, u32, bool)) {
    let mut events = node.dht.find_many(keys, options);
    let mut found: HashMap<Key, HashSet<PeerId>> = HashMap::new();
    loop {
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap();
        match event.expect("an end") {
            FindManyEvent::Provider { key, peer, addrs } => {
                assert!(!addrs.is_empty());
                assert!(found.entry(key).or_default().insert(peer), "told once");
            }
            FindManyEvent::Done {
                lookups,
                asked_peers,
                found_keys,
                timed_out,
            } => {
                assert_eq!(found_keys, found.len());
                assert!(events.recv().await.is_none(), "nothing after the end");
                return (found, (lookups, asked_peers, timed_out));
            }
        }
    }
}

async fn announced(node: &Node) {
    eventually("all announced", || async {
        node.dht.announce_status().to_announce == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_chunks_are_found_with_few_lookups() {
    let nodes = chain(5).await;
    let (all, nobodys) = (keys(300, 1), keys(5, 2));
    nodes[0].dht.schedule(all.clone()).await.unwrap();
    nodes[1].dht.schedule(all[..100].to_vec()).await.unwrap();
    announced(&nodes[0]).await;
    announced(&nodes[1]).await;

    let asker = client(vec![nodes[3].addr().await]).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    let wanted: Vec<Key> = all.iter().chain(&nobodys).chain(&all).copied().collect();
    let (found, (lookups, asked, timed_out)) = find_many(&asker, wanted, PATIENT).await;
    assert_eq!(found.len(), 300);
    for (at, key) in all.iter().enumerate() {
        assert!(found[key].contains(&nodes[0].id()));
        assert_eq!(found[key].contains(&nodes[1].id()), at < 100);
    }
    assert!(lookups <= 3, "{lookups} lookups");
    assert!(asked <= 15 && !timed_out, "{asked} asked");

    // A second time nobody has to be asked, neither for all nor for one.
    let (again, (lookups, asked, _)) = find_many(&asker, all.clone(), PATIENT).await;
    assert_eq!((again, lookups, asked), (found, 0, 0));
    let fresh = FindOptions {
        use_cache: false,
        ..PATIENT
    };
    let (again, (lookups, ..)) = find_many(&asker, all[..50].to_vec(), fresh).await;
    assert!(again.len() == 50 && lookups >= 1);

    // What was found dead is looked for again, for its key alone.
    asker.dht.forget_provider(all[200], nodes[0].id());
    let (again, (_, asked, _)) = find_many(&asker, all[199..202].to_vec(), PATIENT).await;
    assert!(again.len() == 3 && asked >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_is_found_again_without_asking_anybody() {
    let nodes = chain(3).await;
    let key = keys(1, 3)[0];
    nodes[0].dht.schedule(vec![key]).await.unwrap();
    announced(&nodes[0]).await;
    let asker = client(vec![nodes[2].addr().await]).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    let (first, done) = providers(&asker.dht, key, PATIENT).await;
    assert_eq!(first[0].0, nodes[0].id());
    assert!(asked_of(&done) >= 1);
    let (second, done) = providers(&asker.dht, key, PATIENT).await;
    assert_eq!((&second, asked_of(&done)), (&first, 0));
    let fresh = FindOptions {
        use_cache: false,
        ..PATIENT
    };
    let (_, done) = providers(&asker.dht, key, fresh).await;
    assert!(asked_of(&done) >= 1);

    // A provider found dead is not taken from memory; who says that it is there has to be asked.
    asker.dht.forget_provider(key, nodes[0].id());
    let (_, done) = providers(&asker.dht, key, PATIENT).await;
    assert!(asked_of(&done) >= 1);
    // And that it was not found is no news to remember.
    let nobodys = keys(1, 4)[0];
    let (found, _) = providers(&asker.dht, nobodys, PATIENT).await;
    assert!(found.is_empty());
    nodes[1].dht.schedule(vec![nobodys]).await.unwrap();
    announced(&nodes[1]).await;
    let (found, _) = providers(&asker.dht, nobodys, PATIENT).await;
    assert_eq!(found[0].0, nodes[1].id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_provider_is_not_reported_from_memory() {
    let nodes = chain(3).await;
    let key = keys(1, 5)[0];
    nodes[0].dht.schedule(vec![key]).await.unwrap();
    announced(&nodes[0]).await;
    let asker = client(vec![nodes[2].addr().await]).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    assert!(common::finds(&asker.dht, key, nodes[0].id()).await);
    asker.dht.ban(nodes[0].id(), LONG).await;
    let (found, _) = providers(&asker.dht, key, PATIENT).await;
    assert!(found.is_empty());
    let (found, _) = find_many(&asker, vec![key], PATIENT).await;
    assert!(found.is_empty());
}

/// A node that joins and then says nothing any more, although its connections stand: its threads have stopped.
struct Silent {
    id: PeerId,
    _wake: std::sync::mpsc::SyncSender<()>,
}

async fn silent(keypair: Keypair, to: &Node) -> Silent {
    let id = keypair.public().to_peer_id();
    let (wake, asleep) = std::sync::mpsc::sync_channel(0);
    let (sleep, is_time) = tokio::sync::oneshot::channel::<()>();
    let (stopped, has_stopped) = tokio::sync::oneshot::channel();
    let entry = to.addr().await;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let node = runtime.block_on(async {
            let node = memory_node(vec![entry], keypair).await;
            let _ = is_time.await;
            node
        });
        let _ = stopped.send(());
        let _ = asleep.recv();
        drop(node);
    });
    eventually("introduced", || async {
        casnode_dht::lab::routing_table(&to.dht).contains(&id)
    })
    .await;
    drop(sleep);
    tokio::time::timeout(LONG, has_stopped)
        .await
        .unwrap()
        .unwrap();
    Silent { id, _wake: wake }
}

async fn memory_node(bootstrap: Vec<casnode_dht::Multiaddr>, keypair: Keypair) -> Node {
    node_with(bootstrap, |config| {
        config.in_memory = true;
        config.keypair = keypair;
    })
    .await
}

/// A lookup comes to the crowd alone: it begins with the twenty closest that the node knows, and these lead to more of
/// the crowd. One of them that is slow would let it go on to whoever else it has heard of.
async fn know_the_crowd(node: &Node, key: &Key, crowd: &[(PeerId, Multiaddr)]) {
    let is_of_crowd = |peer: &PeerId| crowd.iter().any(|(other, _)| other == peer);
    eventually("a lookup comes to the crowd alone", || async {
        let table = casnode_dht::lab::routing_table(&node.dht);
        let known = table.iter().filter(|peer| is_of_crowd(peer)).count();
        let found = node.dht.lookup(*key, LONG).await.unwrap().peers;
        let alone = found.iter().all(|(peer, ..)| is_of_crowd(peer));
        known >= 20 && found.len() == 20 && alone
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_only_peers_beyond_the_closest_hold_is_found() {
    let key = keys(1, 6)[0];
    // All in the other half of the keyspace: they take no places from the crowd in the asker's routing table.
    let first = memory_node(vec![], identity(&key, ..1)).await;
    let entry = first.addr().await;
    let mut honest = vec![first];
    for _ in 0..5 {
        let node = memory_node(vec![entry.clone()], identity(&key, ..1)).await;
        assert!(node.dht.connected_within(LONG).await > 0);
        honest.push(node);
    }
    let provider = memory_node(vec![entry.clone()], identity(&key, ..1)).await;
    assert!(provider.dht.connected_within(LONG).await > 0);
    provider.dht.schedule(vec![key]).await.unwrap();
    announced(&provider).await;
    // It tells nobody who comes later: a record with few copies would be announced again.
    provider.dht.shutdown().await;

    // Identities made to be the closest to the key. They follow the protocol, hold nothing, and are too many
    // for a lookup to come to anybody else.
    let crowd = crowd((0..30).map(|_| identity(&key, 8..)).collect()).await;
    let asker = memory_node(vec![entry], identity(&key, ..1)).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    for (_, addr) in &crowd {
        asker.dht.dial(addr.clone(), LONG).await.unwrap();
    }
    know_the_crowd(&asker, &key, &crowd).await;
    let (found, done) = providers(&asker.dht, key, PATIENT).await;
    assert!(
        found
            .iter()
            .any(|(peer, addrs)| *peer == provider.id() && !addrs.is_empty()),
        "{found:?} {done:?}"
    );
    assert!(asked_of(&done) > 20, "{done:?}");
    // Nor from a search for many keys, which has nothing in memory that would help it.
    let stranger = memory_node(vec![honest[1].addr().await], identity(&key, ..1)).await;
    assert!(stranger.dht.connected_within(LONG).await > 0);
    for (_, addr) in &crowd {
        stranger.dht.dial(addr.clone(), LONG).await.unwrap();
    }
    know_the_crowd(&stranger, &key, &crowd).await;
    let (found, _) = find_many(&stranger, vec![key], PATIENT).await;
    assert!(
        found
            .get(&key)
            .is_some_and(|peers| peers.contains(&provider.id()))
    );
    // Soon again, nobody is asked in vain a second time; and what nobody has is not found.
    let nobodys = keys(1, 7)[0];
    let (found, done) = providers(&asker.dht, nobodys, PATIENT).await;
    assert!(
        found.is_empty()
            && matches!(
                done,
                FindEvent::Done {
                    timed_out: false,
                    ..
                }
            )
    );
}

/// Searches again and again; whoever is reported and lies is found out. Returns all that were told.
async fn search_until_told(asker: &Node, key: Key, liars: &HashSet<PeerId>) -> HashSet<PeerId> {
    let fresh = FindOptions {
        use_cache: false,
        ..PATIENT
    };
    let mut told = HashSet::new();
    for _ in 0..8 {
        let (found, done) = providers(&asker.dht, key, fresh).await;
        assert!(
            found.len() <= fresh.limit && asked_of(&done) >= 1,
            "{done:?}"
        );
        for (peer, _) in found {
            if liars.contains(&peer) {
                asker.dht.forget_provider(key, peer);
            }
            told.insert(peer);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_held_here_do_not_end_a_search() {
    let key = keys(1, 16)[0];
    let first = memory_node(vec![], Keypair::generate_ed25519()).await;
    let entry = first.addr().await;
    let provider = memory_node(vec![entry.clone()], Keypair::generate_ed25519()).await;
    assert!(provider.dht.connected_within(LONG).await > 0);
    provider.dht.schedule(vec![key]).await.unwrap();
    announced(&provider).await;
    // It tells nobody who comes later.
    provider.dht.shutdown().await;
    let asker = memory_node(vec![entry.clone()], Keypair::generate_ed25519()).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    let mut liars = Vec::new();
    for _ in 0..PATIENT.limit {
        let liar = memory_node(vec![entry.clone()], Keypair::generate_ed25519()).await;
        assert!(liar.dht.connected_within(LONG).await > 0);
        liar.dht.schedule(vec![key]).await.unwrap();
        liars.push(liar);
    }
    eventually("all tell the asker", || async {
        casnode_dht::lab::held_providers(&asker.dht, &key).len() >= PATIENT.limit
    })
    .await;
    let liars = liars.iter().map(Node::id).collect();
    let told = search_until_told(&asker, key, &liars).await;
    assert!(told.contains(&provider.id()), "{} told", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_around_a_key_that_were_found_out_do_not_hide_who_has_it() {
    let key = keys(1, 17)[0];
    let first = memory_node(vec![], identity(&key, ..1)).await;
    let entry = first.addr().await;
    let mut honest = vec![first];
    for _ in 0..6 {
        let node = memory_node(vec![entry.clone()], identity(&key, ..1)).await;
        assert!(node.dht.connected_within(LONG).await > 0);
        honest.push(node);
    }
    honest[6].dht.schedule(vec![key]).await.unwrap();
    announced(&honest[6]).await;
    // The crowd says of itself that it has the key.
    let mut crowd = Vec::new();
    for _ in 0..22 {
        let node = memory_node(vec![entry.clone()], identity(&key, 8..)).await;
        assert!(node.dht.connected_within(LONG).await > 0);
        node.dht.schedule(vec![key]).await.unwrap();
        crowd.push(node);
    }
    let asker = memory_node(vec![entry], identity(&key, ..1)).await;
    let liars: HashSet<PeerId> = crowd.iter().map(Node::id).collect();
    eventually("the crowd known", || async {
        asker.dht.lookup(key, LONG).await.unwrap();
        let table = casnode_dht::lab::routing_table(&asker.dht);
        table.iter().filter(|peer| liars.contains(peer)).count() >= 20
    })
    .await;
    let told = search_until_told(&asker, key, &liars).await;
    assert!(told.contains(&honest[6].id()), "{} told", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_that_is_silent_or_lies_hides_nothing() {
    let all = keys(40, 8);
    let first = memory_node(vec![], Keypair::generate_ed25519()).await;
    let entry = first.addr().await;
    let mut nodes = vec![first];
    for _ in 0..8 {
        let node = memory_node(vec![entry.clone()], Keypair::generate_ed25519()).await;
        assert!(node.dht.connected_within(LONG).await > 0);
        nodes.push(node);
    }
    nodes[3].dht.schedule(all.clone()).await.unwrap();
    announced(&nodes[3]).await;
    // One that says it has everything, and has nothing; it is close to a key. And one that says nothing.
    let liar = memory_node(vec![entry.clone()], identity(&all[0], 6..)).await;
    assert!(liar.dht.connected_within(LONG).await > 0);
    liar.dht.schedule(all.clone()).await.unwrap();
    let asker = memory_node(vec![entry], Keypair::generate_ed25519()).await;
    let mute = silent(identity(&all[0], 6..), &asker).await;
    eventually("both known", || async {
        let peers = asker.dht.peers().await;
        let knows = |id| peers.iter().any(|peer| peer.peer == id);
        knows(liar.id()) && knows(mute.id)
    })
    .await;
    for key in &all[..3] {
        assert!(common::finds(&asker.dht, *key, nodes[3].id()).await);
    }
    let fresh = FindOptions {
        use_cache: false,
        ..PATIENT
    };
    let (found, _) = find_many(&asker, all.clone(), fresh).await;
    let true_one = all.iter().filter(|key| {
        found
            .get(*key)
            .is_some_and(|peers| peers.contains(&nodes[3].id()))
    });
    assert_eq!(true_one.count(), all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_search_that_nobody_answers() {
    let node = memory_node(vec![], Keypair::generate_ed25519()).await;
    let _mute = silent(Keypair::generate_ed25519(), &node).await;
    assert!(node.dht.connected_within(LONG).await > 0);
    let short = FindOptions {
        deadline: Duration::from_millis(700),
        ..PATIENT
    };
    let key = keys(1, 9)[0];
    let (found, done) = providers(&node.dht, key, short).await;
    assert!(found.is_empty());
    assert!(matches!(
        done,
        FindEvent::Done {
            timed_out: true,
            found: 0,
            ..
        }
    ));
    let (found, (_, _, timed_out)) = find_many(&node, vec![key], short).await;
    assert!(found.is_empty() && timed_out);
}

/// Lets twice as many searches begin as may run at once, each of which takes as long as a silent peer; when nobody
/// listens to them any more, others get their turn.
async fn gives_way_when_nobody_listens<T>(search: impl Fn(&Node, Key) -> T) {
    let node = memory_node(vec![], Keypair::generate_ed25519()).await;
    let _mute = silent(Keypair::generate_ed25519(), &node).await;
    let searches: Vec<T> = keys(128, 10)
        .into_iter()
        .map(|key| search(&node, key))
        .collect();
    eventually("as many under way as may be", || async {
        let metrics = node.dht.metrics().into_iter();
        let mut begun = metrics.filter(|metric| metric.name == "casnode_dht_lookups_total");
        begun.next().unwrap().value >= 64.0
    })
    .await;
    drop(searches);
    // One that waits its turn gets it, although its own patience is short.
    let key = keys(1, 11)[0];
    assert!(node.dht.lookup(key, Duration::from_secs(3)).await.is_ok());
}

const VERY_PATIENT: FindOptions = FindOptions {
    deadline: Duration::from_secs(600),
    ..PATIENT
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_any_more_ends_the_search() {
    gives_way_when_nobody_listens(|node, key| node.dht.find_providers(key, VERY_PATIENT)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_any_more_ends_the_search_for_many() {
    gives_way_when_nobody_listens(|node, key| node.dht.find_many(vec![key], VERY_PATIENT)).await;
}
