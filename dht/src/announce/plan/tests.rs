use super::*;
use proptest::prelude::*;

fn network(size: u16, seed: u8) -> Vec<PeerId> {
    (0..size)
        .map(|n| {
            let mut bytes = [seed; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let hash = libp2p::multihash::Multihash::<64>::wrap(0, &bytes).unwrap();
            PeerId::from_multihash(hash).unwrap()
        })
        .collect()
}

fn naive_closest(peers: &[PeerId], key: &Key, count: usize) -> Vec<PeerId> {
    let target = Point::of_key(key).0;
    let mut sorted: Vec<_> = peers.to_vec();
    sorted.sort_by_cached_key(|peer| {
        let point = Point::of_peer(peer).0;
        std::array::from_fn::<u8, 32, _>(|i| point[i] ^ target[i])
    });
    sorted.truncate(count);
    sorted
}

fn keys(count: usize, seed: u64) -> Vec<Key> {
    let key = |n: usize| {
        Point::of_key(&std::array::from_fn(|i| {
            (n as u64 ^ seed).to_le_bytes()[i % 8]
        }))
        .0
    };
    (0..count).map(key).collect()
}

/// Runs a plan against perfect lookups; returns it and the number of lookups.
fn run(plan: &mut Plan, peers: &[PeerId], replication: usize, fail_every: u32) -> u32 {
    let mut turn = 0;
    while !plan.is_complete() {
        let mut started = Vec::new();
        while started.len() < 4 {
            let Some(lookup) = plan.next_lookup() else {
                break;
            };
            started.push(lookup);
        }
        assert!(!started.is_empty(), "no lookup to make and not complete");
        for lookup in started {
            turn += 1;
            if fail_every > 0 && turn % fail_every == 0 {
                plan.lookup_failed(lookup.id);
            } else {
                plan.lookup_done(lookup.id, naive_closest(peers, &lookup.key, replication));
            }
        }
    }
    plan.lookups()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_closest_are_the_closest(size in 0u16..120, count in 0usize..25, key: [u8; 32]) {
        let peers = network(size, 1);
        let mut sorted: Vec<_> = peers.iter().map(|peer| (Point::of_peer(peer), *peer)).collect();
        sorted.sort();
        prop_assert_eq!(closest(&sorted, &Point::of_key(&key), count), naive_closest(&peers, &key, count));
    }

    #[test]
    fn every_key_goes_to_its_closest_of_the_peers_found(
        size in 1u16..150, count in 1usize..300, seed: u64, replication in 1usize..21, fail_every in 0u32..6,
    ) {
        let fail_every = if fail_every == 1 { 0 } else { fail_every };
        let peers = network(size, 2);
        let keys = keys(count, seed);
        let mut plan = Plan::new(keys.clone(), replication);
        run(&mut plan, &peers, replication, fail_every);
        let found: Vec<_> = plan.peers.values().copied().collect();
        let mut given: HashMap<Key, HashSet<PeerId>> = HashMap::new();
        for (peer, positions) in plan.batches() {
            for key in plan.keys_at(&positions) {
                prop_assert!(given.entry(key).or_default().insert(peer), "a key goes to a peer once");
            }
        }
        if plan.failed.is_empty() {
            for key in &keys {
                let expected: HashSet<_> = naive_closest(&found, key, replication).into_iter().collect();
                prop_assert_eq!(given.get(key), Some(&expected));
            }
        }
    }

    #[test]
    fn the_keys_of_failed_peers_go_to_the_next_closest(size in 2u16..80, count in 1usize..100, seed: u64) {
        let peers = network(size, 3);
        let keys = keys(count, seed);
        let mut plan = Plan::new(keys.clone(), 5);
        run(&mut plan, &peers, 5, 0);
        let found: Vec<_> = plan.peers.values().copied().collect();
        let failed: HashSet<_> = found.iter().copied().step_by(3).collect();
        let alive: Vec<_> = found.iter().copied().filter(|peer| !failed.contains(peer)).collect();
        let (first, second) = (plan.batches(), plan.replacements(&failed));
        for key in &keys {
            let holders = |batches: &Batches| -> HashSet<PeerId> {
                batches.iter().filter(|(_, at)| plan.keys_at(at).any(|k| k == *key)).map(|(peer, _)| *peer).collect()
            };
            let (first, second) = (holders(&first), holders(&second));
            prop_assert!(first.is_disjoint(&second));
            let held: HashSet<_> = first.union(&second).filter(|peer| !failed.contains(peer)).copied().collect();
            prop_assert_eq!(held, naive_closest(&alive, key, 5).into_iter().collect::<HashSet<_>>());
            prop_assert_eq!(plan.alive(&failed).closest_to(key), naive_closest(&alive, key, 5));
        }
    }
}

#[test]
fn lookups_grow_with_the_network_and_not_with_the_keys() {
    let lookups = |size: u16, count: usize| {
        let peers = network(size, 4);
        let mut plan = Plan::new(keys(count, 5), 20);
        run(&mut plan, &peers, 20, 0)
    };
    assert_eq!(lookups(12, 4_000), 1);
    assert_eq!(lookups(20, 4_000), 1 + 1);
    assert!(lookups(50, 4_000) <= 8);
    assert!(lookups(50, 40_000) <= 8);
    assert!(lookups(200, 4_000) <= 40);
    assert_eq!(lookups(50, 0), 0);
}

#[test]
fn nearly_all_true_closest_peers_are_found() {
    let peers = network(300, 6);
    let keys = keys(300, 9);
    let mut plan = Plan::new(keys.clone(), 20);
    run(&mut plan, &peers, 20, 0);
    let alive = plan.alive(&HashSet::new());
    let mut right = 0;
    for key in &keys {
        let got: HashSet<_> = alive.closest_to(key).into_iter().collect();
        right += naive_closest(&peers, key, 20)
            .iter()
            .filter(|peer| got.contains(peer))
            .count();
    }
    assert!(
        right * 100 >= keys.len() * 20 * 99,
        "{right} of {}",
        keys.len() * 20
    );
}

#[test]
fn a_lookup_that_was_cut_off_is_not_the_whole_network() {
    let peers = network(60, 7);
    let keys = keys(500, 3);
    let mut plan = Plan::new(keys.clone(), 20);
    let first = plan.next_lookup().unwrap();
    plan.lookup_cut_off(first.id, peers[..3].iter().copied());
    assert!(!plan.is_complete() && plan.batches().is_empty());
    run(&mut plan, &peers, 20, 0);
    let holders = plan.alive(&HashSet::new()).closest_to(&keys[0]);
    assert_eq!(holders, naive_closest(&peers, &keys[0], 20));
}

#[test]
fn when_every_lookup_is_cut_off_what_was_found_must_do() {
    let peers = network(3, 8);
    let mut plan = Plan::new(keys(50, 1), 20);
    while let Some(lookup) = plan.next_lookup() {
        plan.lookup_cut_off(lookup.id, peers.iter().copied());
    }
    assert!(plan.is_complete() && plan.lookups() <= MAX_FAILED_LOOKUPS);
    assert_eq!(plan.batches().len(), 3);
}

#[test]
fn endless_failure_ends() {
    let mut plan = Plan::new(keys(50, 1), 20);
    while let Some(lookup) = plan.next_lookup() {
        plan.lookup_failed(lookup.id);
    }
    assert!(plan.is_complete());
    assert!(plan.batches().is_empty());
}
