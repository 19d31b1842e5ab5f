use super::*;
use proptest::prelude::*;

/// What a node knows of a network of this size.
fn usual_depth(size: u16) -> u32 {
    (size / 20).checked_ilog2().unwrap_or(0)
}

/// No key is crowded where holders usually share this many bits.
const NO_CROWD: u32 = 200;

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
                let _ = plan.lookup_done(lookup.id, naive_closest(peers, &lookup.key, replication));
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
        let mut plan = Plan::new(keys.clone(), replication, NO_CROWD, 1);
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
        let mut plan = Plan::new(keys.clone(), 5, NO_CROWD, 1);
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
            prop_assert_eq!(plan.alive_holders(key, &failed), naive_closest(&alive, key, 5));
        }
    }
}

#[test]
fn lookups_grow_with_the_network_and_not_with_the_keys() {
    let lookups = |size: u16, count: usize| {
        let peers = network(size, 4);
        let mut plan = Plan::new(keys(count, 5), 20, usual_depth(size), 1);
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
    let mut plan = Plan::new(keys.clone(), 20, NO_CROWD, 1);
    run(&mut plan, &peers, 20, 0);
    let mut right = 0;
    for key in &keys {
        let got: HashSet<_> = plan
            .alive_holders(key, &HashSet::new())
            .into_iter()
            .collect();
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
    let mut plan = Plan::new(keys.clone(), 20, NO_CROWD, 1);
    let first = plan.next_lookup().unwrap();
    plan.lookup_cut_off(first.id, peers[..3].iter().copied());
    assert!(!plan.is_complete() && plan.batches().is_empty());
    run(&mut plan, &peers, 20, 0);
    let holders = plan.alive_holders(&keys[0], &HashSet::new());
    assert_eq!(holders, naive_closest(&peers, &keys[0], 20));
}

#[test]
fn when_every_lookup_is_cut_off_what_was_found_must_do() {
    let peers = network(3, 8);
    let mut plan = Plan::new(keys(50, 1), 20, NO_CROWD, 1);
    while let Some(lookup) = plan.next_lookup() {
        plan.lookup_cut_off(lookup.id, peers.iter().copied());
    }
    assert!(plan.is_complete() && plan.lookups() <= MAX_FAILED_LOOKUPS);
    assert_eq!(plan.batches().len(), 3);
}

#[test]
fn endless_failure_ends() {
    let mut plan = Plan::new(keys(50, 1), 20, NO_CROWD, 1);
    while let Some(lookup) = plan.next_lookup() {
        plan.lookup_failed(lookup.id);
    }
    assert!(plan.is_complete());
    assert!(plan.batches().is_empty());
}

/// Identities that share `bits` bits with a key.
fn ground(key: &Key, bits: u32, count: usize) -> Vec<PeerId> {
    let target = Point::of_key(key);
    let ids = std::iter::repeat_with(PeerId::random);
    let near = ids.filter(|id| Point::of_peer(id).common_bits(&target) >= bits);
    near.take(count).collect()
}

#[test]
fn a_crowd_next_to_a_key_does_not_keep_it_from_the_others() {
    let honest = network(200, 9);
    let victim = [7; 32];
    let crowd = ground(&victim, 9, 30);
    // Few are enough to have the records, if 20 are all that get them.
    let sizes = [
        (30, 0, 3),
        (19, 0, 3),
        (30, 0, 0),
        (19, 0, 0),
        (14, 400, 3),
        (30, 400, 0),
    ];
    for (crowding, others, usual) in sizes {
        let all: Vec<_> = honest.iter().chain(&crowd[..crowding]).copied().collect();
        let mut keys = keys(others, 11);
        keys.push(victim);
        let mut plan = Plan::new(keys, 20, usual, 1);
        run(&mut plan, &all, 20, 0);
        let held = plan
            .batches()
            .into_iter()
            .filter(|(_, at)| plan.keys_at(at).any(|key| key == victim));
        let held: HashSet<_> = held.map(|(peer, _)| peer).collect();
        let near = naive_closest(&honest, &victim, 20);
        let good = near.iter().filter(|peer| held.contains(*peer)).count();
        assert!(
            good >= 10,
            "{good} of 20 with a crowd of {crowding} and {others} other keys"
        );
        assert!(held.len() <= 40, "{}", held.len());
    }
}

#[test]
fn without_a_crowd_nobody_is_sent_more_than_a_record_needs() {
    let peers = network(1000, 10);
    for usual in [0, 5] {
        let mut plan = Plan::new(keys(2_000, 12), 20, usual, 1);
        let lookups = run(&mut plan, &peers, 20, 0);
        assert!(lookups <= 200, "{lookups}");
        let sent: usize = plan.batches().values().map(Vec::len).sum();
        assert!(sent <= 2_000 * 41 / 2, "{sent}");
    }
}

#[test]
fn what_is_known_of_regions_saves_lookups() {
    let peers = network(300, 13);
    let mut regions = Vec::new();
    let mut first = Plan::new(keys(3_000, 14), 20, 3, 1);
    while let Some(lookup) = first.next_lookup() {
        regions.extend(first.lookup_done(lookup.id, naive_closest(&peers, &lookup.key, 20)));
    }
    let mut again = Plan::new(keys(3_000, 15), 20, 3, 1);
    regions.iter().for_each(|region| again.know(region));
    assert_eq!(run(&mut again, &peers, 20, 0), 0);
    assert_eq!(again.peer_count(), first.peer_count());
    // Half of what is known leaves half to look up.
    let mut half = Plan::new(keys(3_000, 15), 20, 3, 1);
    regions
        .iter()
        .step_by(2)
        .for_each(|region| half.know(region));
    let lookups = run(&mut half, &peers, 20, 0) as usize;
    assert!(
        (1..=regions.len() * 2 / 3).contains(&lookups),
        "{lookups} of {}",
        regions.len()
    );
}

#[test]
fn a_run_of_a_part_of_the_keyspace_reaches_the_peers_next_door() {
    let peers = network(1000, 17);
    // As the schedule does it: bucket by bucket, one part after the other.
    let mut all: Vec<_> = keys(4_000, 18);
    all.sort_by_key(Point::of_key);
    let (mut known, mut right, mut due) = (Vec::new(), 0, 0);
    for part in all.chunks(40) {
        let mut plan = Plan::new(part.iter().copied(), 20, 5, 1);
        known.iter().for_each(|region| plan.know(region));
        while let Some(lookup) = plan.next_lookup() {
            known.extend(plan.lookup_done(lookup.id, naive_closest(&peers, &lookup.key, 20)));
        }
        let batches = plan.batches();
        for key in part.iter().step_by(8) {
            for peer in naive_closest(&peers, key, 20) {
                let sent = batches.get(&peer);
                due += 1;
                right +=
                    u32::from(sent.is_some_and(|at| plan.keys_at(at).any(|sent| sent == *key)));
            }
        }
    }
    assert!(right * 100 >= due * 95, "{right} of {due}");
}

#[test]
fn a_lame_first_lookup_in_a_large_network_does_not_speak_for_the_whole_of_it() {
    let network = network(2000, 5);
    let keys = (0..200u8).map(|n| [n; 32]);
    // The routing table says that holders share six bits.
    let mut plan = Plan::new(keys, 20, 6, 1);
    let first = plan.next_lookup().unwrap();
    let target = Point::of_key(&first.key);
    let mut nearest = network;
    nearest.sort_by_key(|peer| Point::of_peer(peer).distance(&target));
    plan.lookup_done(first.id, nearest[..19].iter().copied());
    assert!(
        plan.next_lookup().is_some(),
        "19 peers are to hold all keys"
    );
}
