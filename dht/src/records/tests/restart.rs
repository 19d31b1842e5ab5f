//! What a restart keeps, and what it must not.

use super::*;
use crate::announce::schedule::{Kind, RunLimits};

#[test]
fn expiry_goes_on_while_the_node_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), Limits::default(), &clock);
    let two_days = Duration::from_secs(48 * 3600);
    assert_eq!(
        add_provided(&records, &peer(1), &[addr(1)], &[key(1)], two_days),
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
    add_provided(&records, &peer(1), &[], &[key(1), key(2)], ttl);
    let put = |n: u8, source: u8| {
        let now = clock.load(Ordering::SeqCst);
        let bytes = sealed(&key(n), source, &value(1, 9), now);
        let mut tables = records.tables();
        tables.put_value(key(n), bytes, &peer(source), Origin(1), now)
    };
    put(1, 1).unwrap();
    put(2, 0).unwrap();
    // An hour is what clocks may differ by.
    let past = START - HOUR;
    assert_eq!(records.tables().providers(&key(1), past, 0).len(), 1);
    let past = past - 1;
    clock.store(past, Ordering::SeqCst);
    assert!(records.tables().providers(&key(1), past, 0).is_empty());
    assert!(records.tables().value(&key(1), past).is_none());
    // The announcer comes again: its record is good from now on.
    add_provided(&records, &peer(1), &[], &[key(1)], ttl);
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
    records.put_own_value(keys[0], &value(7, 8000)).unwrap();
    runtime
        .block_on(records.schedule(&keys[..1], Kind::File))
        .unwrap();
    runtime
        .block_on(records.schedule(&keys, Kind::Chunk))
        .unwrap();
    records.due().take_run(START, &RunLimits::ALL);
    records
        .due()
        .acknowledged(keys[..150].iter().map(|key| (*key, 20)), START);
    runtime.block_on(records.unschedule(&keys[190..])).unwrap();
    runtime.block_on(records.close()).unwrap();
    drop(records);

    clock.store(START + HOUR, Ordering::SeqCst);
    let records = open(dir.path(), Limits::default(), &clock);
    let totals = records.due().totals(START + HOUR);
    assert_eq!((totals.done, totals.due), (150, 40));
    assert_eq!(
        records.tables().own_value(&keys[0]),
        Some(&value(7, 8000)[..])
    );
    let run: BTreeSet<Key> = records
        .due()
        .take_run(START + HOUR, &RunLimits::ALL)
        .keys
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
        records.put_own_value(key(n), &value(n, 3000)).unwrap();
    }
    let bytes = sealed(&key(4), 1, &value(4, 10), START);
    let foreign = records
        .tables()
        .put_value(key(4), bytes, &peer(1), Origin(1), START);
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
fn origins_addresses_and_remembered_peers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let runtime = runtime();
    let mut records = open(dir.path(), Limits::default(), &clock);
    let near = Neighbourhood::new(records.me(), []);
    for n in 1..=3 {
        let from = Announcer {
            peer: peer(n),
            origin: Origin(u64::from(n) + 7),
            addrs: &[addr(n)],
        };
        records.add_provided(&from, &[key(n)], Duration::from_secs(60), &near);
    }
    let known = |n: u8| Remembered {
        peer: peer(n),
        addrs: vec![addr(n)],
        last_seen_secs: u64::from(n),
    };
    records.remember(vec![known(4)]);
    records.remember(vec![known(5), known(6)]);
    for _ in 0..2 {
        let count = records.tables().peers.len();
        runtime.block_on(records.close()).unwrap();
        records = open(dir.path(), Limits::default(), &clock);
        assert_eq!(records.remembered(), [known(6), known(5), known(4)]);
        let tables = records.tables();
        assert_eq!(tables.peers.len(), count);
        for n in 1..=3 {
            let index = tables.peers.index_of(&peer(n)).unwrap();
            assert_eq!(tables.peers.origin_of(index), Origin(u64::from(n) + 7));
            assert_eq!(tables.addrs(&peer(n)), [addr(n)]);
        }
    }
    runtime.block_on(records.close()).unwrap();
}

#[test]
fn the_bytes_of_the_log_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let runtime = runtime();
    let records = open(dir.path(), Limits::default(), &clock);
    let near = Neighbourhood::new(records.me(), []);
    let from = Announcer {
        peer: peer(1),
        origin: Origin(3),
        addrs: &[addr(1)],
    };
    records.add_provided(&from, &[[2; 32]], Duration::from_secs(60), &near);
    runtime.block_on(records.sync()).unwrap();
    runtime
        .block_on(records.schedule(&[[4; 32]], Kind::File))
        .unwrap();
    records.put_own_value([4; 32], b"v").unwrap();
    runtime.block_on(records.close()).unwrap();
    let entries = Disk::open(dir.path()).unwrap().dump();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let entries = entries
        .iter()
        .map(|(name, value)| format!("{} {}", hex(name), hex(value)));
    assert_eq!(entries.collect::<Vec<_>>(), PINNED);
}

/// Peer 1 (the key of 32 bytes of 1) at 10.0.0.1 provides 02…; this node (0…) publishes the file 04…, whose value was not
/// sent yet and has no signature.
const PINNED: [&str; 3] = [
    "46 03000000",
    "6c0000000000000000000000000000 \
     61010000004f0000000126000000000000000024080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121b\
     f3748801b40f6f5c030000000000000001000000000000000800000000000000040a0000010610057002020202020202\
     02020202020202020202020202020202020202020202020202010000003c943577",
    "6c0000000000000000000000010000 \
     7604040404040404040404040404040404040404040404040404040404040404046e00000000000000013b6a27bcceb6\
     a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da2900000000000000000000000000000000000000000000\
     000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
     000076",
];
