use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;
use proptest::prelude::*;

use super::*;
use crate::announce::due::RunLimits;

const START: u32 = 2_000_000_000;
const HOUR: u32 = 3600;

fn peer(n: u8) -> PeerId {
    let hash = libp2p::multihash::Multihash::<64>::wrap(0, &[n; 32]).unwrap();
    PeerId::from_multihash(hash).unwrap()
}

fn key(n: u8) -> Key {
    let mut key = [0; 32];
    // Keys differ at both ends, so that neither order nor prefix is an accident.
    (key[0], key[31]) = (n.reverse_bits(), n);
    key
}

fn addr(n: u8) -> Multiaddr {
    format!("/ip4/10.0.0.{n}/tcp/4101").parse().unwrap()
}

fn small_limits() -> Limits {
    Limits {
        provider_records: 40,
        provider_records_per_peer: 12,
        value_records: 12,
        value_records_per_peer: 5,
        value_bytes: 8192,
        ..Limits::default()
    }
}

fn open(dir: &Path, limits: Limits, clock: &Arc<AtomicU32>) -> Arc<Records> {
    let clock = clock.clone();
    let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
    Records::open(dir, peer(0), limits, &AnnounceTimes::default(), clock).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Provide {
        key: u8,
        peer: u8,
        hours: u32,
    },
    Unprovide {
        key: u8,
        peer: u8,
    },
    Put {
        key: u8,
        peer: u8,
        value: u8,
        len: usize,
        hours: u32,
    },
    RemoveValue {
        key: u8,
    },
    Wait {
        hours: u32,
    },
    Sweep,
    Reload,
}

fn any_op() -> impl Strategy<Value = Op> {
    let (keys, peers, hours) = (0u8..24, 1u8..6, 0u32..40);
    prop_oneof![
        6 => (keys.clone(), peers.clone(), hours.clone())
            .prop_map(|(key, peer, hours)| Op::Provide { key, peer, hours }),
        1 => (keys.clone(), peers.clone()).prop_map(|(key, peer)| Op::Unprovide { key, peer }),
        4 => (keys.clone(), peers, 0u8..3, 0usize..9000, hours.clone())
            .prop_map(|(key, peer, value, len, hours)| Op::Put { key, peer, value, len, hours }),
        1 => keys.prop_map(|key| Op::RemoveValue { key }),
        1 => hours.prop_map(|hours| Op::Wait { hours }),
        1 => Just(Op::Sweep),
        1 => Just(Op::Reload),
    ]
}

/// What the store should hold, kept in the plainest way.
#[derive(Default)]
struct Model {
    /// (key, peer) -> expiry; what has expired stays until a sweep or a reload, and counts as long.
    providers: BTreeMap<(u8, u8), u32>,
    values: BTreeMap<u8, (u8, Vec<u8>, u32)>,
}

impl Model {
    fn provide(&mut self, limits: &Limits, key: u8, peer: u8, expires: u32, now: u32) -> bool {
        let provided = self
            .providers
            .keys()
            .filter(|(_, other)| *other == peer)
            .count();
        let free = limits.provider_records - self.providers.len();
        let room = provided < limits.provider_records_per_peer.min(free);
        let taken = expires > now && (room || self.providers.contains_key(&(key, peer)));
        if taken {
            self.providers.insert((key, peer), expires);
        }
        taken
    }

    fn put(&mut self, limits: &Limits, key: u8, new: (u8, Vec<u8>, u32), now: u32) -> bool {
        if new.1.len() > limits.value_bytes || new.2 <= now {
            return false;
        }
        if let Some(held) = self.values.get_mut(&key).filter(|held| held.2 > now) {
            if held.1 == new.1 {
                held.2 = held.2.max(new.2);
                return true;
            }
            if held.0 != new.0 {
                return false;
            }
        }
        let of_peer = self.values.values().filter(|held| held.0 == new.0).count();
        let free = limits.value_records - self.values.len();
        let room = of_peer < limits.value_records_per_peer.min(free);
        if !room && !self.values.contains_key(&key) {
            return false;
        }
        self.values.insert(key, new);
        true
    }

    fn drop_expired(&mut self, now: u32) {
        self.providers.retain(|_, expires| *expires > now);
        self.values.retain(|_, held| held.2 > now);
    }
}

fn value(fill: u8, len: usize) -> Vec<u8> {
    vec![fill; len]
}

fn compare(records: &Records, model: &Model, now: u32) {
    let tables = records.tables();
    for n in 0..24 {
        let held: BTreeSet<_> = tables
            .providers(&key(n), now, 0)
            .into_iter()
            .map(|p| (p.peer, p.expires))
            .collect();
        let expected = model
            .providers
            .iter()
            .filter(|((k, _), expires)| *k == n && **expires > now);
        let expected: BTreeSet<_> = expected
            .map(|((_, p), expires)| (peer(*p), *expires))
            .collect();
        assert_eq!(held, expected, "providers of {n}");
        let held = tables
            .value(&key(n), now)
            .map(|(value, expires)| (value.to_vec(), expires));
        let expected = model.values.get(&n).filter(|held| held.2 > now);
        assert_eq!(
            held,
            expected.map(|(_, value, expires)| (value.clone(), *expires)),
            "value of {n}"
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_is_what_the_model_says(ops in proptest::collection::vec(any_op(), 1..120)) {
        let (dir, limits) = (tempfile::tempdir().unwrap(), small_limits());
        let clock = Arc::new(AtomicU32::new(START));
        let runtime = runtime();
        let mut records = open(dir.path(), limits.clone(), &clock);
        let mut model = Model::default();
        for op in ops {
            let now = clock.load(Ordering::SeqCst);
            match op {
                Op::Provide { key: k, peer: p, hours } => {
                    let expires = now + hours * HOUR;
                    let taken = records.tables().add_provider(key(k), &peer(p), expires, now).is_ok();
                    prop_assert_eq!(taken, model.provide(&limits, k, p, expires, now));
                }
                Op::Unprovide { key: k, peer: p } => {
                    records.tables().remove_provider(&key(k), &peer(p));
                    model.providers.remove(&(k, p));
                }
                Op::Put { key: k, peer: p, value: fill, len, hours } => {
                    let (expires, bytes) = (now + hours * HOUR, value(fill, len));
                    let taken = records.tables().put_value(key(k), bytes.clone(), &peer(p), expires, now).is_ok();
                    prop_assert_eq!(taken, model.put(&limits, k, (p, bytes, expires), now));
                }
                Op::RemoveValue { key: k } => {
                    records.tables().remove_value(&key(k));
                    model.values.remove(&k);
                }
                Op::Wait { hours } => { clock.fetch_add(hours * HOUR, Ordering::SeqCst); }
                Op::Sweep => {
                    records.sweep_step();
                    model.drop_expired(now);
                }
                Op::Reload => {
                    runtime.block_on(records.close()).unwrap();
                    drop(records);
                    records = open(dir.path(), limits.clone(), &clock);
                    model.drop_expired(now);
                }
            }
            compare(&records, &model, clock.load(Ordering::SeqCst));
        }
        runtime.block_on(records.close()).unwrap();
    }
}

#[test]
fn expiry_goes_on_while_the_node_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), Limits::default(), &clock);
    let two_days = Duration::from_secs(48 * 3600);
    assert_eq!(
        records.add_provided(&peer(1), &[addr(1)], &[key(1)], two_days),
        1
    );
    clock.store(START + 47 * HOUR, Ordering::SeqCst);
    runtime().block_on(records.close()).unwrap();
    drop(records);
    let records = open(dir.path(), Limits::default(), &clock);
    let held = records
        .tables()
        .providers(&key(1), clock.load(Ordering::SeqCst), 0);
    assert_eq!(
        (held[0].peer, held[0].addrs.clone()),
        (peer(1), vec![addr(1)])
    );
    runtime().block_on(records.close()).unwrap();
    drop(records);
    clock.store(START + 48 * HOUR, Ordering::SeqCst);
    let records = open(dir.path(), Limits::default(), &clock);
    assert!(
        records.tables().providers(&key(1), START, 0).is_empty(),
        "loaded although expired"
    );
    runtime().block_on(records.close()).unwrap();
}

#[test]
fn a_clock_set_back_does_not_keep_records_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), Limits::default(), &clock);
    let ttl = Duration::from_secs(48 * 3600);
    records.add_provided(&peer(1), &[], &[key(1), key(2)], ttl);
    let put = |n: u8, source: u8, expires: u32| {
        let now = clock.load(Ordering::SeqCst);
        let mut tables = records.tables();
        tables.put_value(key(n), value(1, 9), &peer(source), expires, now)
    };
    put(1, 1, START + 48 * HOUR).unwrap();
    put(2, 0, NEVER).unwrap();
    // An hour is what clocks may differ by.
    let past = START - HOUR;
    assert_eq!(records.tables().providers(&key(1), past, 0).len(), 1);
    let past = past - 1;
    clock.store(past, Ordering::SeqCst);
    assert!(records.tables().providers(&key(1), past, 0).is_empty());
    assert!(records.tables().value(&key(1), past).is_none());
    // The announcer comes again: its record is good from now on.
    records.add_provided(&peer(1), &[], &[key(1)], ttl);
    assert_eq!(records.tables().sweep(past, 10), 2);
    assert_eq!(records.tables().providers(&key(1), past, 0).len(), 1);
    assert!(records.tables().value(&key(2), past).is_some());
    runtime().block_on(records.close()).unwrap();
    drop(records);
    clock.store(past - 2 * HOUR, Ordering::SeqCst);
    let records = open(dir.path(), Limits::default(), &clock);
    assert!(records.tables().providers(&key(1), past, 0).is_empty());
    runtime().block_on(records.close()).unwrap();
}

#[test]
fn the_schedule_and_own_values_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let runtime = runtime();
    let records = open(dir.path(), Limits::default(), &clock);
    let keys: Vec<Key> = (0..200).map(key).collect();
    records.put_own_value(keys[0], value(7, 8000)).unwrap();
    runtime
        .block_on(records.schedule(&keys[..1], Kind::File))
        .unwrap();
    runtime
        .block_on(records.schedule(&keys, Kind::Chunk))
        .unwrap();
    records.due().take_run(START, &RunLimits::ALL);
    records
        .due()
        .acknowledged(keys[..150].iter().copied(), START);
    runtime.block_on(records.unschedule(&keys[190..])).unwrap();
    runtime.block_on(records.close()).unwrap();
    drop(records);

    clock.store(START + HOUR, Ordering::SeqCst);
    let records = open(dir.path(), Limits::default(), &clock);
    assert_eq!(records.due().status(START + HOUR), (150, 40));
    assert_eq!(
        records.tables().own_value(&keys[0]),
        Some(&value(7, 8000)[..])
    );
    let run: BTreeSet<Key> = records
        .due()
        .take_run(START + HOUR, &RunLimits::ALL)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        run,
        keys[150..190].iter().copied().collect(),
        "only what was never announced is due"
    );
    runtime.block_on(records.unschedule(&keys[..1])).unwrap();
    assert!(records.tables().own_value(&keys[0]).is_none());
    runtime.block_on(records.close()).unwrap();
}

#[test]
fn an_own_value_without_a_scheduled_file_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let runtime = runtime();
    let records = open(dir.path(), Limits::default(), &clock);
    for n in 1..=3 {
        records.put_own_value(key(n), value(n, 3000)).unwrap();
    }
    let ttl = START + HOUR;
    let foreign = records
        .tables()
        .put_value(key(4), value(4, 10), &peer(1), ttl, START);
    foreign.unwrap();
    runtime
        .block_on(records.schedule(&[key(1)], Kind::File))
        .unwrap();
    runtime
        .block_on(records.schedule(&[key(2)], Kind::Chunk))
        .unwrap();
    runtime.block_on(records.close()).unwrap();
    drop(records);
    for _ in 0..2 {
        let records = open(dir.path(), Limits::default(), &clock);
        let held = |n: u8| records.tables().value(&key(n), START).is_some();
        assert_eq!([1, 2, 3, 4].map(held), [true, false, false, true]);
        runtime.block_on(records.close()).unwrap();
    }
}

#[test]
fn one_peer_cannot_use_up_what_is_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), small_limits(), &clock);
    let many: Vec<Key> = (0..100).map(key).collect();
    let ttl = Duration::from_secs(3600);
    assert_eq!(records.add_provided(&peer(1), &[addr(1)], &many, ttl), 12);
    assert_eq!(
        records.add_provided(&peer(2), &[addr(2)], &many[..12], ttl),
        12
    );
    // What it holds already it may renew.
    assert_eq!(
        records.add_provided(&peer(1), &[addr(1)], &many[..12], ttl),
        12
    );
    assert_eq!(records.add_provided(&peer(1), &[], &many[50..], ttl), 0);
}

#[test]
fn a_few_peers_together_cannot_either() {
    let limits = Limits {
        provider_records: 64,
        provider_records_per_peer: 64,
        value_records: 64,
        value_records_per_peer: 64,
        value_records_bytes: 6400,
        ..Limits::default()
    };
    let mut tables = Tables::new(peer(0), limits);
    let (mut provided, mut stored) = (Vec::new(), Vec::new());
    for p in 1..=4u8 {
        let (mut records, mut values) = (0, 0);
        for n in 0..64 {
            let own = key((p - 1) * 64 + n);
            let added = tables.add_provider(own, &peer(p), START + 9, START);
            let put = tables.put_value(own, value(p, 100), &peer(p), START + 9, START);
            records += usize::from(added.is_ok());
            values += usize::from(put.is_ok());
        }
        provided.push(records);
        stored.push(values);
    }
    assert_eq!(provided, [32, 16, 8, 4]);
    assert_eq!(stored, [32, 16, 8, 4]);
}

#[test]
fn the_bytes_of_values_are_shared_too() {
    let limits = Limits {
        value_records_bytes: 6400,
        ..Limits::default()
    };
    let mut tables = Tables::new(peer(0), limits);
    let put = |tables: &mut Tables, p: u8, n: u8| {
        tables.put_value(key(n), value(p, 100), &peer(p), START + 9, START)
    };
    let first = (0..64).filter(|n| put(&mut tables, 1, *n).is_ok()).count();
    let second = (64..128)
        .filter(|n| put(&mut tables, 2, *n).is_ok())
        .count();
    assert_eq!((first, second), (32, 16));
    (0..64).for_each(|n| tables.remove_value(&key(n)));
    let third = (128..192)
        .filter(|n| put(&mut tables, 1, *n).is_ok())
        .count();
    assert_eq!(third, 24);
}

#[test]
fn a_key_keeps_its_latest_providers() {
    let mut tables = Tables::new(peer(0), Limits::default());
    for n in 1..=60u8 {
        tables
            .add_provider(key(1), &peer(n), START + u32::from(n), START)
            .unwrap();
    }
    let held: BTreeSet<_> = tables
        .providers(&key(1), START, 0)
        .into_iter()
        .map(|provider| provider.peer)
        .collect();
    assert_eq!(held, (21..=60).map(peer).collect());
    assert_eq!(
        tables.add_provider(key(1), &peer(99), START + 2, START),
        Err(Refused::Quota)
    );
}

#[test]
fn the_latest_providers_do_not_hide_an_earlier_one() {
    let mut tables = Tables::new(peer(0), Limits::default());
    for n in 1..=40u8 {
        tables
            .add_provider(key(1), &peer(n), START + u32::from(n), START)
            .unwrap();
    }
    let first_20 = |seed: u64| -> Vec<PeerId> {
        let live = tables.providers(&key(1), START, seed).into_iter();
        live.take(20).map(|provider| provider.peer).collect()
    };
    assert_eq!(first_20(5), first_20(5));
    for n in 1..=40 {
        let seen = (0..200)
            .filter(|seed| first_20(*seed).contains(&peer(n)))
            .count();
        assert!((50..150).contains(&seen), "{n}: in {seen} of 200 answers");
    }
}

#[test]
fn own_values_are_not_replaced_by_others() {
    let mut tables = Tables::new(peer(0), Limits::default());
    tables
        .put_value(key(1), value(1, 10), &peer(0), NEVER, START)
        .unwrap();
    let foreign = tables.put_value(key(1), value(2, 10), &peer(3), START + HOUR, START);
    assert_eq!(foreign, Err(Refused::Known));
    assert_eq!(tables.own_value(&key(1)), Some(&value(1, 10)[..]));
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
    records.add_provided(&peer(4), &[addr(4)], &[key(1)], Duration::from_secs(60));
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
    let mut tables = Tables::new(peer(0), Limits::default());
    for n in 0..100 {
        tables
            .add_provider(key(n), &peer(1), START + 10, START)
            .unwrap();
    }
    let dropped: usize = (0..12).map(|_| tables.sweep(START + 10, 10)).sum();
    assert_eq!(dropped, 100);
    assert_eq!(tables.sweep(START + 10, 10), 0);
}

#[test]
fn values_are_bounded_by_their_bytes_too() {
    let limits = Limits {
        value_records_bytes: 1000,
        ..Limits::default()
    };
    let mut tables = Tables::new(peer(0), limits);
    tables
        .put_value(key(1), value(1, 600), &peer(1), START + 9, START)
        .unwrap();
    let second = tables.put_value(key(2), value(1, 600), &peer(2), START + 9, START);
    assert_eq!(second, Err(Refused::Quota));
    // Own values do not count, a replaced one counts once, and a removed one no more.
    tables
        .put_value(key(3), value(1, 600), &peer(0), NEVER, START)
        .unwrap();
    tables
        .put_value(key(1), value(2, 900), &peer(1), START + 9, START)
        .unwrap();
    tables.remove_value(&key(1));
    tables
        .put_value(key(2), value(1, 600), &peer(2), START + 9, START)
        .unwrap();
}
