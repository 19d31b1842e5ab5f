use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

mod fair;
mod restart;
mod serving;
mod values;
mod writing;

const START: u32 = 2_000_000_000;
const HOUR: u32 = 3600;

static KEYPAIRS: LazyLock<Vec<Keypair>> = LazyLock::new(|| {
    let keypair = |n| Keypair::ed25519_from_bytes([n; 32]).unwrap();
    (0..=255).map(keypair).collect()
});
static PEERS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
    KEYPAIRS
        .iter()
        .map(|key| key.public().to_peer_id())
        .collect()
});

fn keypair(n: u8) -> &'static Keypair {
    &KEYPAIRS[usize::from(n)]
}

fn peer(n: u8) -> PeerId {
    PEERS[usize::from(n)]
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

fn value(fill: u8, len: usize) -> Vec<u8> {
    vec![fill; len]
}

/// A value of a key in the envelope of a publisher.
fn sealed(key: &Key, publisher: u8, value: &[u8], at: u32) -> Vec<u8> {
    envelope::seal(keypair(publisher), key, value, at).unwrap()
}

fn tables(limits: Limits) -> Tables {
    Tables::new(peer(0), limits, true)
}

fn open(dir: &Path, limits: Limits, clock: &Arc<AtomicU32>) -> Arc<Records> {
    let clock = clock.clone();
    let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let times = AnnounceTimes::default();
    Records::open(Some(dir), keypair(0), limits, &times, clock).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// As from an unknown origin, to a node that is near to everything.
fn add_provided(
    records: &Records,
    peer: &PeerId,
    addrs: &[Multiaddr],
    keys: &[Key],
    ttl: Duration,
) -> usize {
    let from = Announcer {
        peer: *peer,
        origin: Origin::default(),
        addrs,
    };
    let near = Neighbourhood::new(&records.me, []);
    records.add_provided(&from, keys, ttl, &near).count()
}

fn small_limits() -> Limits {
    Limits {
        provider_records_per_peer: 12,
        value_records_per_peer: 5,
        value_bytes: 8192,
        ..Limits::default()
    }
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
        source: u8,
        publisher: u8,
        value: u8,
        len: usize,
        hours_ago: u32,
    },
    RemoveValue {
        key: u8,
    },
    Wait {
        hours: u32,
    },
    Sweep,
    Reload,
    WriteAnew,
}

fn any_op() -> impl Strategy<Value = Op> {
    let (keys, peers, hours) = (0u8..24, 1u8..6, 0u32..40);
    prop_oneof![
        6 => (keys.clone(), peers.clone(), hours.clone())
            .prop_map(|(key, peer, hours)| Op::Provide { key, peer, hours }),
        1 => (keys.clone(), peers.clone()).prop_map(|(key, peer)| Op::Unprovide { key, peer }),
        4 => (keys.clone(), peers.clone(), peers, 0u8..3, 0usize..9000, 0u32..50)
            .prop_map(|(key, source, publisher, value, len, hours_ago)| {
                Op::Put { key, source, publisher, value, len, hours_ago }
            }),
        1 => keys.prop_map(|key| Op::RemoveValue { key }),
        1 => hours.prop_map(|hours| Op::Wait { hours }),
        1 => Just(Op::Sweep),
        1 => Just(Op::Reload),
        1 => Just(Op::WriteAnew),
    ]
}

/// A value as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    source: u8,
    publisher: u8,
    at: u32,
    value: Vec<u8>,
}

impl Held {
    fn is_live(&self, now: u32) -> bool {
        self.at + 48 * HOUR > now
    }
}

/// What the store should hold, kept in the plainest way.
#[derive(Default)]
struct Model {
    /// (key, peer) -> expiry; what has expired stays until a sweep or a reload, and counts as long.
    providers: BTreeMap<(u8, u8), u32>,
    values: BTreeMap<u8, Held>,
}

impl Model {
    fn provide(&mut self, limits: &Limits, key: u8, peer: u8, expires: u32, now: u32) -> bool {
        let provided = self.providers.keys().filter(|(_, other)| *other == peer);
        let room = provided.count() < limits.provider_records_per_peer;
        let taken = expires > now && (room || self.providers.contains_key(&(key, peer)));
        if taken {
            self.providers.insert((key, peer), expires);
        }
        taken
    }

    fn put(&mut self, limits: &Limits, key: u8, new: Held, now: u32) -> bool {
        if new.value.len() > limits.value_bytes || !new.is_live(now) {
            return false;
        }
        if let Some(held) = self.values.get(&key).filter(|held| held.is_live(now)) {
            let same = held.publisher == new.publisher && held.at == new.at;
            if same && held.value == new.value {
                return true;
            }
            let takes = match held.publisher == new.publisher {
                true => new.at > held.at,
                false => held.at + 24 * HOUR <= now,
            };
            if !takes {
                return false;
            }
        }
        let others = self.values.iter().filter(|(other, _)| **other != key);
        let of_source = others.filter(|(_, held)| held.source == new.source);
        let room = of_source.count() < limits.value_records_per_peer;
        if room {
            self.values.insert(key, new);
        }
        room
    }

    fn drop_expired(&mut self, now: u32) {
        self.providers.retain(|_, expires| *expires > now);
        self.values.retain(|_, held| held.is_live(now));
    }
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
        let held = tables.value(&key(n), now).map(|(bytes, expires)| {
            let held = envelope::read(bytes).unwrap();
            (held.publisher().unwrap(), held.value.to_vec(), expires)
        });
        let expected = model.values.get(&n).filter(|held| held.is_live(now));
        let expected = expected.map(|held| {
            let expires = held.at + 48 * HOUR;
            (peer(held.publisher), held.value.clone(), expires)
        });
        assert_eq!(held, expected, "value of {n}");
    }
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
                    let (expires, origin) = (now + hours * HOUR, Origin(u64::from(p % 3)));
                    let taken = records.tables().add_provider(key(k), &peer(p), origin, expires, now).is_ok();
                    prop_assert_eq!(taken, model.provide(&limits, k, p, expires, now));
                }
                Op::Unprovide { key: k, peer: p } => {
                    records.tables().remove_provider(&key(k), &peer(p));
                    model.providers.remove(&(k, p));
                }
                Op::Put { key: k, source, publisher, value: fill, len, hours_ago } => {
                    let at = now - hours_ago * HOUR;
                    let new = Held { source, publisher, at, value: value(fill, len) };
                    let bytes = sealed(&key(k), publisher, &new.value, at);
                    let origin = Origin(u64::from(source % 3));
                    let taken = records.tables().put_value(key(k), bytes, &peer(source), origin, now).is_ok();
                    prop_assert_eq!(taken, model.put(&limits, k, new, now));
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
                Op::WriteAnew => {
                    runtime.block_on(records.close()).unwrap();
                    let mut disk = Disk::open(dir.path()).unwrap();
                    writer::write_anew(&mut disk, &records).unwrap();
                    drop((disk, records));
                    records = open(dir.path(), limits.clone(), &clock);
                    model.drop_expired(now);
                }
            }
            compare(&records, &model, clock.load(Ordering::SeqCst));
        }
        runtime.block_on(records.close()).unwrap();
    }
}
