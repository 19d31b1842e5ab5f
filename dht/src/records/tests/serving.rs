//! What is answered from the tables.

use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;

use super::*;
use crate::announce::schedule::Kind;

#[test]
fn one_peer_cannot_use_up_what_is_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), small_limits(), &clock);
    let many: Vec<Key> = (0..100).map(key).collect();
    let ttl = Duration::from_secs(3600);
    assert_eq!(add_provided(&records, &peer(1), &[addr(1)], &many, ttl), 12);
    assert_eq!(
        add_provided(&records, &peer(2), &[addr(2)], &many[..12], ttl),
        12
    );
    // What it holds already it may renew.
    assert_eq!(
        add_provided(&records, &peer(1), &[addr(1)], &many[..12], ttl),
        12
    );
    assert_eq!(add_provided(&records, &peer(1), &[], &many[50..], ttl), 0);
}

#[test]
fn the_latest_providers_do_not_hide_an_earlier_one() {
    let mut tables = tables(Limits::default());
    for n in 1..=40u8 {
        tables
            .add_provider(key(1), &peer(n), Origin(1), START + u32::from(n), START)
            .unwrap();
    }
    let answer = |seed: u64| -> Vec<PeerId> {
        let live = tables.providers(&key(1), START, seed).into_iter();
        live.map(|provider| provider.peer).collect()
    };
    assert_eq!(answer(5), answer(5));
    assert_eq!(answer(5).len(), 20);
    let latest: Vec<_> = (31..=40).rev().map(peer).collect();
    assert_eq!(answer(5)[..10], latest);
    for n in 1..=30 {
        let seen = (0..200).filter(|seed| answer(*seed).contains(&peer(n)));
        let seen = seen.count();
        assert!((30..110).contains(&seen), "{n}: in {seen} of 200 answers");
    }
}

#[test]
fn kademlia_sees_own_keys_with_own_addresses_first() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), Limits::default(), &clock);
    records.set_own_addrs(&[addr(9)]);
    runtime()
        .block_on(records.schedule(&[key(1)], Kind::Chunk))
        .unwrap();
    add_provided(
        &records,
        &peer(4),
        &[addr(4)],
        &[key(1)],
        Duration::from_secs(60),
    );
    let store = KadStore(records.clone());
    let providers = store.providers(&RecordKey::new(&key(1)));
    let seen: Vec<_> = providers
        .iter()
        .map(|record| (record.provider, record.addresses.clone()))
        .collect();
    assert_eq!(seen, [(peer(0), vec![addr(9)]), (peer(4), vec![addr(4)])]);
    assert!(store.providers(&RecordKey::new(&b"short")).is_empty());
    records.tables().set_addrs(&peer(4), &[addr(5)]);
    assert_eq!(
        store.providers(&RecordKey::new(&key(1)))[1].addresses,
        [addr(5)]
    );
}

#[test]
fn the_sweep_goes_round() {
    let mut tables = tables(Limits::default());
    for n in 0..100 {
        tables
            .add_provider(key(n), &peer(1), Origin(1), START + 10, START)
            .unwrap();
    }
    let dropped: usize = (0..12).map(|_| tables.sweep(START + 10, 10)).sum();
    assert_eq!(dropped, 100);
    assert_eq!(tables.sweep(START + 10, 10), 0);
}

#[test]
fn what_is_held_for_others_is_counted() {
    let mut tables = tables(small_limits());
    let put = |tables: &mut Tables, n: u8, from: u8| {
        let bytes = sealed(&key(n), from, b"value", START);
        let len = bytes.len();
        let put = tables.put_value(key(n), bytes, &peer(from), Origin(1), START);
        put.map(|()| len).unwrap()
    };
    // The own one is nobody else's.
    put(&mut tables, 1, 0);
    let value_bytes = put(&mut tables, 2, 5) + put(&mut tables, 3, 6);
    for n in 0..3 {
        let added = tables.add_provider(key(n), &peer(5), Origin(1), START + HOUR, START);
        added.unwrap();
    }
    let sizes = tables.sizes();
    assert_eq!((sizes.providers, sizes.peers, sizes.values), (3, 2, 2));
    assert_eq!((sizes.value_bytes, sizes.remembered), (value_bytes, 0));
    tables.sweep(START + 72 * HOUR, 1_000);
    let sizes = tables.sizes();
    assert_eq!((sizes.providers, sizes.peers, sizes.values), (0, 0, 0));
}
