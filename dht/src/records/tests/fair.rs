//! Who has much loses to who has little, never the other way round.

use super::*;
use crate::records::changes::MAX_CHANGES;
use crate::records::tables::MAX_PROVIDERS_PER_KEY;

const LATE: u32 = START + 40 * HOUR;

fn number(n: u32) -> Key {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    key
}

fn limits(provider_records: usize) -> Limits {
    Limits {
        provider_records,
        ..Limits::default()
    }
}

fn add(tables: &mut Tables, n: u32, peer: &PeerId, origin: u64, expires: u32) -> bool {
    let added = tables.add_provider(number(n), peer, Origin(origin), expires, START);
    added.is_ok()
}

fn holds(tables: &Tables, n: u32, peer: &PeerId) -> bool {
    let held = tables.held.of(&number(n)).iter();
    held.filter_map(|entry| tables.peers.get(entry.peer))
        .any(|held| held.id == *peer)
}

#[test]
fn a_thousand_identities_of_one_origin_displace_no_seeder_of_another() {
    let mut tables = tables(limits(1_000_000));
    let seeders = [peer(1), peer(2), peer(3)];
    for (seeder, origin) in seeders.iter().zip(1..) {
        assert!(add(&mut tables, 7, seeder, origin, START + 60));
    }
    for _ in 0..1000 {
        add(&mut tables, 7, &PeerId::random(), 66, LATE);
    }
    assert_eq!(tables.held.of(&number(7)).len(), MAX_PROVIDERS_PER_KEY);
    for seeder in &seeders {
        assert!(holds(&tables, 7, seeder), "a seeder has been displaced");
    }
    // And a seeder that comes late gets its place, though it expires first of all.
    assert!(add(&mut tables, 7, &peer(4), 4, START + 30));
    assert!(holds(&tables, 7, &peer(4)));
    for seeder in &seeders {
        assert!(holds(&tables, 7, seeder));
    }
}

#[test]
fn of_one_origin_the_later_takes_the_place_of_the_earlier() {
    let mut tables = tables(limits(1_000));
    for n in 1..=60u8 {
        add(&mut tables, 1, &peer(n), 9, START + u32::from(n));
    }
    let held = (1..=60).filter(|n| holds(&tables, 1, &peer(*n)));
    assert_eq!(held.collect::<Vec<_>>(), (21..=60).collect::<Vec<_>>());
    assert!(!add(&mut tables, 1, &peer(99), 9, START + 2));
}

#[test]
fn a_full_table_makes_room_at_the_cost_of_the_biggest() {
    let mut tables = tables(limits(1_000));
    for n in 0..100 {
        assert!(add(&mut tables, n, &peer(1), 1, LATE));
    }
    for n in 0..900 {
        assert!(add(&mut tables, 1_000 + n, &peer(2), 2, LATE));
    }
    for n in 0..50 {
        assert!(add(&mut tables, 5_000 + n, &peer(3), 3, LATE), "{n}");
    }
    assert_eq!(tables.held.len(), 1_000);
    let count = |tables: &Tables, n: u8| {
        let index = tables.peers.index_of(&peer(n)).unwrap();
        tables.peers.get(index).unwrap().provided
    };
    let counts = [1, 2, 3].map(|n| count(&tables, n));
    assert_eq!(counts, [100, 850, 50]);
    // The biggest itself gets no more, but may renew what it has.
    assert!(!add(&mut tables, 9_000, &peer(2), 2, LATE));
    let own = (0..900)
        .find(|n| holds(&tables, 1_000 + n, &peer(2)))
        .unwrap();
    assert!(add(&mut tables, 1_000 + own, &peer(2), 2, LATE + 9));
}

#[test]
fn identities_do_not_add_up() {
    let mut tables = tables(limits(1_000));
    for n in 0..20 {
        assert!(add(&mut tables, n, &peer(1), 1, START + 60));
    }
    for n in 0..3_000u32 {
        // Three records each: every one of them holds less than the seeder.
        let sybil = PeerId::random();
        (0..3).for_each(|part| {
            add(&mut tables, 100 + 3 * n + part, &sybil, 66, LATE);
        });
    }
    assert_eq!(tables.held.len(), 1_000);
    let kept = (0..20).filter(|n| holds(&tables, *n, &peer(1))).count();
    assert_eq!(kept, 20, "somebody small has lost records");
    for n in 0..400 {
        assert!(add(&mut tables, 50_000 + n, &peer(2), 2, LATE), "{n}");
    }
    assert_eq!((0..20).filter(|n| holds(&tables, *n, &peer(1))).count(), 20);
}

#[test]
fn within_an_origin_the_small_lose_nothing_either() {
    let mut tables = tables(limits(100));
    for n in 0..10 {
        assert!(add(&mut tables, n, &peer(1), 1, LATE));
    }
    for n in 0..90 {
        assert!(add(&mut tables, 100 + n, &peer(2), 1, LATE));
    }
    for n in 0..30 {
        assert!(add(&mut tables, 200 + n, &peer(3), 1, LATE));
    }
    assert!((0..10).all(|n| holds(&tables, n, &peer(1))));
    assert!((0..30).all(|n| holds(&tables, 200 + n, &peer(3))));
}

#[test]
fn among_equals_nobody_gives_way() {
    let mut tables = tables(limits(100));
    for n in 0..100u8 {
        let (n, origin) = (u32::from(n), u64::from(n));
        assert!(add(&mut tables, n, &peer(n as u8 + 1), origin, LATE));
    }
    assert!(!add(&mut tables, 500, &peer(200), 200, LATE + 9));
    assert!((0..100).all(|n| holds(&tables, n, &peer(n as u8 + 1))));
    // Until something expires, and the sweep comes by.
    tables.sweep(LATE, 1_000);
    assert!(add(&mut tables, 500, &peer(200), 200, LATE + 9));
}

#[test]
fn many_peers_of_one_origin_do_not_keep_a_newcomer_out() {
    let mut tables = tables(limits(1_000_000));
    for n in 0..u32::try_from(peers::MAX_PEERS).unwrap() - 1 {
        let id = PeerId::random();
        assert!(add(&mut tables, n, &id, 66, LATE));
    }
    assert!(!add(&mut tables, 1, &PeerId::random(), 66, LATE));
    assert!(add(&mut tables, 1, &peer(1), 1, LATE));
    assert!(holds(&tables, 1, &peer(1)));
    assert_eq!(tables.peers.len(), peers::MAX_PEERS);
}

#[test]
fn far_keys_are_skipped_and_counted() {
    let limits = Limits::default();
    let times = AnnounceTimes::default();
    let records = Records::open(None, keypair(0), limits, &times, system_clock()).unwrap();
    let network: Vec<_> = (0..20_000).map(|_| PeerId::random()).collect();
    let near = Neighbourhood::new(records.me(), network);
    let keys: Vec<Key> = (0..1000).map(number).collect();
    let from = Announcer {
        peer: peer(1),
        origin: Origin(1),
        addrs: &[addr(1)],
    };
    let taken = records.add_provided(&from, &keys, Duration::from_secs(60), &near);
    let expected: Vec<bool> = keys.iter().map(|key| near.is_near(key)).collect();
    assert_eq!(taken.taken, expected);
    assert_eq!(taken.count() + taken.far, 1000);
    assert!(
        taken.far > 500 && taken.count() > 0 && !taken.full,
        "{} far",
        taken.far
    );
    let now = records.now();
    let held = keys
        .iter()
        .map(|key| !records.tables().providers(key, now, 0).is_empty());
    assert_eq!(held.collect::<Vec<_>>(), expected);
}

#[test]
fn a_quota_stops_only_what_it_must() {
    let limits = Limits {
        provider_records_per_peer: 2,
        ..Limits::default()
    };
    let times = AnnounceTimes::default();
    let records = Records::open(None, keypair(0), limits, &times, system_clock()).unwrap();
    let ttl = Duration::from_secs(60);
    assert_eq!(
        add_provided(&records, &peer(1), &[], &[key(1), key(2)], ttl),
        2
    );
    let from = Announcer {
        peer: peer(1),
        origin: Origin(1),
        addrs: &[],
    };
    let near = Neighbourhood::new(records.me(), []);
    let taken = records.add_provided(&from, &[key(3), key(2), key(4), key(1)], ttl, &near);
    assert_eq!(taken.taken, [false, true, false, true]);
    assert!(taken.full && taken.far == 0);
}

#[test]
fn the_queue_for_the_disk_is_bounded() {
    let mut tables = tables(Limits::default());
    let mut refused = 0;
    for n in 0..u32::try_from(MAX_CHANGES).unwrap() + 100 {
        refused += usize::from(!add(&mut tables, n, &peer(1), 1, LATE));
    }
    assert!(tables.dirty_len() <= MAX_CHANGES, "{}", tables.dirty_len());
    assert!(refused > 0);
    // What is held may be renewed all the same.
    assert!(add(&mut tables, 1, &peer(1), 1, LATE + 9));
    assert!(tables.dirty_len() <= MAX_CHANGES);
}

#[test]
fn a_newcomer_that_is_refused_has_displaced_nobody() {
    let peers = u32::try_from(peers::MAX_PEERS).unwrap() - 1;
    let mut tables = tables(limits(peers as usize + 9));
    for n in 0..10 {
        assert!(add(&mut tables, n, &peer(1), 1_000_000, LATE));
    }
    // Each of its own origin: none of them has to give up its place among the peers.
    for n in 1..peers {
        let id = PeerId::random();
        assert!(add(&mut tables, 100 + n, &id, n.into(), LATE));
    }
    let held = tables.held.len();
    assert_eq!(held, tables.limits.provider_records);
    assert!(!add(&mut tables, 7_000_000, &peer(2), 2_000_000, LATE));
    assert_eq!(tables.held.len(), held, "a record is gone for nothing");
    // The one that has most gives way to somebody who is known.
    let known = tables.peers.get(5).map(|peer| peer.id).unwrap();
    // A search looks at some of the records only, and the next one goes on.
    let mut searches = 0..peers;
    assert!(searches.any(|_| add(&mut tables, 7_000_000, &known, 4, LATE)));
}

#[test]
fn a_peer_waits_for_the_disk_once_however_often_it_changes() {
    let mut tables = tables(Limits::default());
    assert!(add(&mut tables, 1, &peer(1), 1, LATE) && add(&mut tables, 2, &peer(2), 2, LATE));
    let before = tables.dirty_len();
    for n in 0..200 {
        tables.set_addrs(&peer(1), &[addr(n)]);
        tables.set_addrs(&peer(2), &[addr(n)]);
    }
    assert_eq!(tables.dirty_len(), before);
    // What has been taken is news again.
    while !tables.take_dirty(100).is_empty() {}
    tables.set_addrs(&peer(1), &[addr(201)]);
    assert_eq!(tables.dirty_len(), 1);
}

#[test]
fn who_comes_from_elsewhere_is_not_found_on_this_machine() {
    let limits = Limits::default();
    let times = AnnounceTimes::default();
    let records = Records::open(None, keypair(0), limits, &times, system_clock()).unwrap();
    let near = Neighbourhood::new(records.me(), []);
    let listed = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
        "/ip4/9.9.9.9/tcp/1",
    ];
    let listed = listed.map(|addr| addr.parse::<Multiaddr>().unwrap());
    let kept = |n, remote: &str| {
        let from = Announcer {
            peer: peer(n),
            origin: Origin::of(&remote.parse().unwrap()),
            addrs: &listed,
        };
        let ttl = Duration::from_secs(60);
        records.add_provided(&from, &[key(n)], ttl, &near);
        records.tables().addrs(&peer(n)).len()
    };
    assert_eq!(kept(1, "/ip4/9.9.9.9/tcp/5"), 1);
    assert_eq!(kept(2, "/ip4/10.0.0.7/tcp/5"), 1);
    assert_eq!(kept(3, "/ip6/2600::1/tcp/5"), 1);
    assert_eq!(kept(4, "/ip4/127.0.0.1/tcp/5"), 3);
    assert_eq!(kept(5, "/ip6/::1/tcp/5"), 3);
    // Nobody knows.
    assert_eq!(kept(6, "/memory/5"), 3);
}
