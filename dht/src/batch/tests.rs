use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use super::message::*;
use super::*;
use crate::Key;
use crate::config::{AnnounceTimes, Limits};
use crate::counters::Counters;
use crate::exchange::ExchangeError;
use crate::neighbourhood::Neighbourhood;
use crate::records::Records;

const TTL: Duration = Duration::from_secs(3600);

fn peer(n: u8) -> PeerId {
    let mut seed = [n; 32];
    Keypair::ed25519_from_bytes(&mut seed)
        .unwrap()
        .public()
        .to_peer_id()
}

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
}

fn key(n: usize) -> Key {
    let mut key = [9; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    key
}

fn server_with(limits: Limits, near: Neighbourhood) -> Arc<Server> {
    let keypair = Keypair::generate_ed25519();
    let times = AnnounceTimes::default();
    let clock = Arc::new(|| 1_800_000_000);
    let records = Records::open(None, &keypair, limits, &times, clock).unwrap();
    Arc::new(Server {
        records,
        origins: Arc::default(),
        neighbourhood: watch::channel(Arc::new(near)).1,
        counters: Arc::new(Counters::default()),
    })
}

fn server() -> Arc<Server> {
    let alone = Neighbourhood::new(&PeerId::random(), []);
    server_with(Limits::default(), alone)
}

/// A client of the server, as this peer.
fn client_of(server: &Arc<Server>, from: PeerId) -> BatchClient<DuplexStream> {
    let (ours, theirs) = duplex(1 << 16);
    let server = server.clone();
    tokio::spawn(async move { server.serve(from, theirs).await });
    BatchClient::over(ours)
}

/// What the server says of these bytes of a stranger.
async fn served(bytes: &[u8]) -> Result<(), ExchangeError> {
    let (mut ours, theirs) = duplex(1 << 20);
    ours.write_all(bytes).await.unwrap();
    ours.shutdown().await.unwrap();
    server().serve(peer(1), theirs).await
}

fn providers() -> impl Strategy<Value = Vec<Provider>> {
    let chosen = prop::collection::btree_set(0..30u8, 0..=PROVIDERS_PER_KEY);
    // One peer has one list of addresses in an answer, and may have none.
    let provider = |n: u8| (peer(n), (1..u16::from(n % 4) + 1).map(addr).collect());
    chosen.prop_map(move |chosen| chosen.into_iter().map(provider).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics_and_what_is_a_message_has_one_form(
        kind in 0u8..4, mut body in prop::collection::vec(any::<u8>(), 0..200), asked in 0usize..10,
    ) {
        if let Some(version) = body.first_mut() { *version = 1; }
        if let Ok(request) = Request::decode(kind, &body) {
            prop_assert_eq!(request.encode().unwrap(), (kind, body.clone()));
        }
        if let Ok(taken) = TakenBits::decode(&body, asked) {
            prop_assert_eq!(TakenBits::encode(&taken).unwrap(), body.clone());
        }
        let _ = Found::decode(&body, asked);
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_message(
        keys in prop::collection::vec(providers(), 1..6), at: prop::sample::Index, to: u8,
    ) {
        let mut builder = FoundBuilder::default();
        prop_assert!(keys.iter().all(|key| builder.add(key)));
        let mut bytes = builder.encode().unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        // Of the addresses only those that are usable are seen: their bytes may change unnoticed.
        if let Ok(found) = Found::decode(&bytes, keys.len()) {
            prop_assert!(found.len() <= keys.len());
            prop_assert!(found.iter().all(|key| key.len() <= PROVIDERS_PER_KEY));
        }
    }

    #[test]
    fn requests_survive_the_wire(
        ttl_secs: u32, keys in prop::collection::vec(any::<Key>(), 0..40), ports in prop::collection::vec(1u16.., 0..5),
    ) {
        let addrs: Vec<_> = ports.into_iter().map(addr).collect();
        let announce = Request::Announce(Announce::new(&keys, &addrs, ttl_secs));
        let (kind, body) = announce.encode().unwrap();
        prop_assert_eq!(Request::decode(kind, &body).unwrap(), announce);
        let find = Request::Find(Find { keys });
        let (kind, body) = find.encode().unwrap();
        match &find {
            Request::Find(find) if find.keys.is_empty() => prop_assert!(Request::decode(kind, &body).is_err()),
            _ => prop_assert_eq!(Request::decode(kind, &body).unwrap(), find),
        }
    }

    #[test]
    fn answers_survive_the_wire(
        taken in prop::collection::vec(any::<bool>(), 0..100), full: bool, keys in prop::collection::vec(providers(), 1..12),
    ) {
        let count = taken.len();
        let taken = Taken { taken, full };
        let bytes = TakenBits::encode(&taken).unwrap();
        prop_assert_eq!(TakenBits::decode(&bytes, count).unwrap(), taken);
        prop_assert!(TakenBits::decode(&bytes, count + 8).is_err());
        let mut builder = FoundBuilder::default();
        prop_assert!(keys.iter().all(|key| builder.add(key)));
        let bytes = builder.encode().unwrap();
        prop_assert_eq!(Found::decode(&bytes, keys.len()).unwrap(), keys.clone());
        prop_assert!(Found::decode(&bytes, keys.len() - 1).is_err(), "more than was asked");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let announce = Request::Announce(Announce::new(&[[0xaa; 32]], &[addr(4101)], 172_800));
    let (kind, body) = announce.encode().unwrap();
    assert_eq!(kind, 0x01);
    let keys = "aa".repeat(32);
    assert_eq!(
        hex(&body),
        format!(
            "0100a302000100000000000000080000000000000004 0a000001 06 1005 0100000000000000{keys}"
        )
        .replace(' ', "")
    );
    let (kind, body) = Request::Find(Find {
        keys: vec![[0xaa; 32]],
    })
    .encode()
    .unwrap();
    assert_eq!(
        (kind, hex(&body)),
        (0x02, format!("010100000000000000{keys}"))
    );
    let mut taken = vec![false; 10];
    (taken[0], taken[9]) = (true, true);
    let taken = Taken { taken, full: true };
    assert_eq!(
        hex(&TakenBits::encode(&taken).unwrap()),
        "010200000000000000010201"
    );
    let mut found = FoundBuilder::default();
    assert!(found.add(&[(peer(1), vec![addr(4101)])]) && found.add(&[]));
    assert_eq!(
        hex(&found.encode().unwrap()),
        [
            // One peer: its id of 38 bytes, one address of 8.
            "010100000000000000",
            &format!("2600000000000000{}", hex(&peer(1).to_bytes())),
            "01000000000000000800000000000000040a000001061005",
            // Two keys: one with the first peer, one with none.
            "0200000000000000",
            "01000000000000000000",
            "0000000000000000",
        ]
        .concat()
    );
}

#[test]
fn an_answer_has_one_form_only() {
    let decode = |hex_of_keys: &str| {
        let id = hex(&peer(1).to_bytes());
        let mut body = format!("0101000000000000002600000000000000{id}0000000000000000");
        body.push_str(hex_of_keys);
        let bytes: Vec<u8> = (0..body.len() / 2)
            .map(|at| u8::from_str_radix(&body[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        Found::decode(&bytes, 2).is_ok()
    };
    let (one, two) = ("0100000000000000", "0200000000000000");
    assert!(decode(&format!("{one}{one}0000")));
    assert!(
        !decode(&format!("{one}{one}0100")),
        "a peer that is not there"
    );
    assert!(!decode(&format!("{one}{two}00000000")), "a peer twice");
    assert!(
        !decode(&format!("{one}0000000000000000")),
        "a peer for nothing"
    );
    assert!(!decode("0000000000000000"), "no key answered");
}

#[test]
fn bits_beyond_the_keys_are_refused() {
    let taken = Taken {
        taken: vec![true; 16],
        full: false,
    };
    let bytes = TakenBits::encode(&taken).unwrap();
    assert!(TakenBits::decode(&bytes, 16).is_ok());
    assert!(TakenBits::decode(&bytes, 15).is_err());
}

#[test]
fn bounds_hold() {
    let keys: Vec<Key> = (0..ANNOUNCE_KEYS + 1).map(key).collect();
    let many: Vec<_> = (1..40).map(addr).collect();
    let full = Announce::new(&keys, &many, 1);
    assert_eq!((full.keys.len(), full.addrs.len()), (ANNOUNCE_KEYS, 16));
    let (kind, body) = Request::Announce(full.clone()).encode().unwrap();
    assert!(body.len() + 5 <= MAX_REQUEST_FRAME_BYTES);
    assert!(Request::decode(kind, &body).is_ok());
    for (keys, addrs) in [
        (keys.clone(), vec![]),
        (vec![], vec![vec![1; 257]]),
        (vec![], vec![vec![]; 17]),
    ] {
        let wrong = Request::Announce(Announce {
            ttl_secs: 1,
            addrs,
            keys,
        });
        let (kind, body) = wrong.encode().unwrap();
        assert!(Request::decode(kind, &body).is_err());
    }
    let find = Request::Find(Find {
        keys: keys[..FIND_KEYS + 1].to_vec(),
    });
    let (kind, body) = find.encode().unwrap();
    assert!(Request::decode(kind, &body).is_err());
    assert!(Request::decode(0x7f, &body).is_err());
}

#[test]
fn the_fullest_answer_fits_its_frame_and_says_how_far_it_went() {
    let long = |port: u16| -> Multiaddr {
        let name = "x".repeat(240);
        format!("/dns4/{name}/tcp/{port}").parse().unwrap()
    };
    let mut builder = FoundBuilder::default();
    let mut added = 0;
    for _ in 0..FIND_KEYS {
        let crowd = (0..20).map(|_| (PeerId::random(), (1..=16).map(long).collect()));
        if !builder.add(&crowd.collect::<Vec<_>>()) {
            break;
        }
        added += 1;
    }
    assert!((2..FIND_KEYS).contains(&added), "{added}");
    let bytes = builder.encode().unwrap();
    assert!(bytes.len() + 5 <= MAX_REPLY_FRAME_BYTES);
    assert_eq!(Found::decode(&bytes, FIND_KEYS).unwrap().len(), added);
}

#[tokio::test]
async fn what_is_announced_is_found_and_only_the_peer_at_the_other_end_is_the_provider() {
    let server = server();
    let keys: Vec<Key> = (0..300).map(key).collect();
    let mut client = client_of(&server, peer(1));
    let taken = client.announce(&keys, &[addr(7)], TTL).await.unwrap();
    assert_eq!((taken.count(), taken.full), (300, false));
    let mut other = client_of(&server, peer(2));
    let asked = [keys[5], key(999_999), keys[299]];
    let found = other.find(&asked).await.unwrap();
    let one = vec![(peer(1), vec![addr(7)])];
    assert_eq!(found, [one.clone(), vec![], one]);
    client.close().await;
}

#[tokio::test]
async fn an_answer_that_is_full_is_asked_for_again_until_all_is_told() {
    let server = server();
    let long = |n: usize, port: u16| -> Multiaddr {
        let name = format!("{n}{}", "x".repeat(230));
        format!("/dns4/{name}/tcp/{port}").parse().unwrap()
    };
    let keys: Vec<Key> = (0..100).map(key).collect();
    for (n, key) in keys.iter().enumerate() {
        let from = Keypair::generate_ed25519().public().to_peer_id();
        let addrs: Vec<_> = (1..=16).map(|port| long(n, port)).collect();
        let taken = client_of(&server, from)
            .announce(&[*key], &addrs, TTL)
            .await;
        assert_eq!(taken.unwrap().count(), 1);
    }
    let found = client_of(&server, peer(1)).find(&keys).await.unwrap();
    assert_eq!(found.len(), 100);
    assert!(
        found
            .iter()
            .all(|key| key.len() == 1 && key[0].1.len() == 16)
    );
}

#[tokio::test]
async fn a_quota_and_a_far_key_are_told_apart() {
    let limits = Limits {
        provider_records_per_peer: 50,
        ..Limits::default()
    };
    let me = PeerId::random();
    let network: Vec<_> = (0..4000).map(|_| PeerId::random()).collect();
    let large = Neighbourhood::new(&me, network);
    let keys: Vec<Key> = (0..ANNOUNCE_KEYS).map(key).collect();
    let near: Vec<bool> = keys.iter().map(|key| large.is_near(key)).collect();
    assert!(near.contains(&true) && near.contains(&false));
    let counted = near.iter().filter(|near| **near).count();

    let open = server_with(Limits::default(), large);
    let taken = client_of(&open, peer(1))
        .announce(&keys, &[], TTL)
        .await
        .unwrap();
    assert_eq!((taken.taken, taken.full), (near, false));
    let counts = open.counters.snapshot();
    let far = (ANNOUNCE_KEYS - counted) as u64;
    assert_eq!((counts.over_quota_records, counts.far_records), (0, far));
    // What has expired already is neither.
    let mut client = client_of(&open, peer(2));
    let expired = client.announce(&keys, &[], Duration::ZERO).await;
    assert_eq!(expired.unwrap().count(), 0);
    assert_eq!(open.counters.snapshot().over_quota_records, 0);

    let strict = server_with(limits, Neighbourhood::new(&me, []));
    let taken = client_of(&strict, peer(1))
        .announce(&keys, &[], TTL)
        .await
        .unwrap();
    assert_eq!((taken.count(), taken.full), (50, true));
    let refused = (ANNOUNCE_KEYS - 50) as u64;
    assert_eq!(strict.counters.snapshot().over_quota_records, refused);
}

#[tokio::test]
async fn a_batch_lets_others_look_at_the_tables_meanwhile() {
    let server = server();
    let keys: Vec<Key> = (0..ANNOUNCE_KEYS).map(key).collect();
    let done = tokio_util::sync::CancellationToken::new();
    let (watched, stop) = (server.clone(), done.clone());
    let watch = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        while !stop.is_cancelled() {
            seen.insert(watched.records.tables().sizes().providers);
            tokio::task::yield_now().await;
        }
        seen
    });
    let announce = Announce::new(&keys, &[], 60);
    server.take(peer(1), &announce).await.unwrap();
    done.cancel();
    // Nothing before, everything after, and what lies between.
    assert!(watch.await.unwrap().len() > 2);
}

#[tokio::test]
async fn hostile_requests_end_the_stream() {
    assert!(matches!(
        served(&[0xff, 0xff, 0xff, 0x7f]).await,
        Err(ExchangeError::TooLarge { .. })
    ));
    let too_long = u32::try_from(MAX_REQUEST_FRAME_BYTES + 1).unwrap();
    assert!(matches!(
        served(&too_long.to_le_bytes()).await,
        Err(ExchangeError::TooLarge { .. })
    ));
    assert!(matches!(
        served(&[5, 0, 0, 0, 0x55, 0, 0, 0, 0]).await,
        Err(ExchangeError::UnknownKind(0x55))
    ));
    // A list that claims to be longer than the frame.
    let mut lie = vec![14, 0, 0, 0, KIND_FIND, 0, 0, 0, 0, 1];
    lie.extend_from_slice(&[0xff; 8]);
    assert!(matches!(
        served(&lie).await,
        Err(ExchangeError::Malformed(_))
    ));
    assert!(served(&[]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_asker_is_dropped_and_a_silent_server_is_an_error() {
    let (_ours, theirs) = duplex(64);
    assert!(matches!(
        server().serve(peer(1), theirs).await,
        Err(ExchangeError::Stalled)
    ));
    let (ours, _theirs) = duplex(1 << 16);
    let asked = BatchClient::over(ours).find(&[key(1)]).await;
    assert!(matches!(asked, Err(ExchangeError::Stalled)));
}
