//! Limits between real nodes, over TCP and QUIC.
#![allow(clippy::unwrap_used)]

mod common;

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use casnode_dht::{Bandwidth, Dht, Multiaddr, Reply};
use common::{LONG, Node, eventually, keys, node_with};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Long enough that a burst and a busy machine do not matter.
const WINDOW: Duration = Duration::from_secs(3);
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn limits(up: u64, down: u64) -> Bandwidth {
    Bandwidth {
        up_bytes_per_s: NonZeroU64::new(up),
        down_bytes_per_s: NonZeroU64::new(down),
        exempt_local: false,
    }
}

/// Two nodes with streams on which one sends the other chunks without end.
struct Pair {
    sender: Node,
    taker: Node,
    _flow: JoinSet<()>,
}

async fn pair(listen: &str, streams: usize, up: Bandwidth, down: Bandwidth) -> Pair {
    let listen: Multiaddr = listen.parse().unwrap();
    let mut sender = node_with(vec![], |config| {
        config.listen = vec![listen.clone()];
        config.bandwidth = up;
        config.limits.exchange_streams_per_peer = streams;
    })
    .await;
    let taker = node_with(vec![sender.addr().await], |config| {
        config.listen = vec![listen];
        config.bandwidth = down;
    })
    .await;
    assert!(taker.dht.connected_within(LONG).await > 0);
    let mut flow = JoinSet::new();
    for _ in 0..streams {
        let open = taker.dht.open_exchange(sender.id(), &[], LONG);
        let (asks, mut replies) = open.await.unwrap();
        let taken = timeout(LONG, sender.incoming.recv()).await.unwrap();
        let mut served = taken.unwrap();
        flow.spawn(async move {
            let _asks = asks;
            while let Ok(Some(_)) = replies.next().await {}
        });
        flow.spawn(async move {
            let chunk = Reply::Chunk(Bytes::from(vec![5; 256 << 10]));
            while served.replies.send(1, &chunk).await.is_ok() {}
        });
    }
    Pair {
        sender,
        taker,
        _flow: flow,
    }
}

/// What is counted grows by no more than the limit allows, and not by much less. On a busy machine this task may hear
/// late of the clock or of the count, so a second is granted.
async fn assert_rate(count: impl Fn() -> u64, per_s: u64) {
    let (began, before) = (Instant::now(), count());
    sleep(WINDOW).await;
    let (bytes, span) = ((count() - before) as f64, began.elapsed().as_secs_f64());
    let allowed = per_s as f64 * span;
    assert!(
        bytes <= allowed + per_s as f64,
        "{bytes} where {allowed} may go"
    );
    assert!(bytes >= allowed / 4.0, "{bytes} where {allowed} may go");
}

fn up(dht: &Dht) -> impl Fn() -> u64 {
    let dht = dht.clone();
    move || dht.traffic().up_bytes
}

fn down(dht: &Dht) -> impl Fn() -> u64 {
    let dht = dht.clone();
    move || dht.traffic().down_bytes
}

async fn grows_by(count: impl Fn() -> u64, bytes: u64) {
    let before = count();
    eventually("much more", || async { count() - before >= bytes }).await;
}

async fn what_is_sent_keeps_to_the_limit_over(listen: &str, transport: &str) {
    let Pair {
        sender,
        taker,
        _flow,
    } = pair(listen, 3, limits(2 * MIB, 0), limits(0, 0)).await;
    assert_rate(up(&sender.dht), 2 * MIB).await;
    let there = taker.dht.traffic_of(&sender.id()).unwrap();
    let here = sender.dht.traffic_of(&taker.id()).unwrap();
    assert_eq!((there.transport, here.transport), (transport, transport));
    assert!(there.traffic.down_bytes > 3 * MIB && here.traffic.up_bytes > 3 * MIB);
    assert!(there.addr.to_string().starts_with("/ip4/127.0.0.1/"));
    // A stream waits for its turn while this is changed.
    sender.dht.set_bandwidth(limits(0, 0));
    grows_by(up(&sender.dht), 20 * MIB).await;
    sender.dht.set_bandwidth(limits(300 * KIB, 0));
    sleep(Duration::from_secs(1)).await;
    assert_rate(up(&sender.dht), 300 * KIB).await;
    assert_eq!(sender.dht.bandwidth(), limits(300 * KIB, 0));
    let metrics = sender.dht.metrics();
    let metric = |name: &str| metrics.iter().find(|m| m.name == name).unwrap().value;
    assert!(metric("casnode_dht_sent_bytes_total") > (20 * MIB) as f64);
    let limit = metric("casnode_dht_up_limit_bytes_per_second");
    assert!((limit - (300 * KIB) as f64).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_keeps_to_the_limit_over_tcp() {
    what_is_sent_keeps_to_the_limit_over(TCP, "tcp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_keeps_to_the_limit_over_quic() {
    what_is_sent_keeps_to_the_limit_over(QUIC, "quic").await;
}

async fn what_is_taken_keeps_to_the_limit_over(listen: &str) {
    let Pair {
        sender,
        taker,
        _flow,
    } = pair(listen, 2, limits(0, 0), limits(0, 2 * MIB)).await;
    // What lay in the windows at the beginning is over.
    grows_by(down(&taker.dht), 2 * MIB).await;
    assert_rate(down(&taker.dht), 2 * MIB).await;
    // The other side is held back by it: windows are all that lies in between.
    let between = up(&sender.dht)() - down(&taker.dht)();
    assert!(between < 64 * MIB, "{between}");
    taker.dht.set_bandwidth(limits(0, 0));
    grows_by(down(&taker.dht), 20 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_keeps_to_the_limit_over_tcp() {
    what_is_taken_keeps_to_the_limit_over(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_keeps_to_the_limit_over_quic() {
    what_is_taken_keeps_to_the_limit_over(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_on_this_machine_may_be_exempt() {
    let exempt = Bandwidth {
        exempt_local: true,
        ..limits(64 * KIB, 64 * KIB)
    };
    let pair = pair(TCP, 1, exempt, exempt).await;
    // Ten minutes at the limit.
    grows_by(up(&pair.sender.dht), 40 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dht_answers_quickly_while_chunks_fill_the_limit() {
    // Each stream waits six seconds for its turn, and so would the DHT, several times for an answer.
    let slow = limits(32 * KIB, 32 * KIB);
    let pair = pair(TCP, 48, slow, slow).await;
    let mut quickest = LONG;
    for key in keys(5, 77) {
        let began = Instant::now();
        let found = pair.taker.dht.lookup(key, LONG).await.unwrap();
        assert!(found.complete && found.peers.len() == 1, "{found:?}");
        quickest = quickest.min(began.elapsed());
    }
    // A busy machine makes some of them late, but hardly all.
    assert!(quickest < Duration::from_secs(5), "{quickest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_told_where_a_connected_peer_listens() {
    let here = node_with(vec![], |_| {}).await;
    let one = node_with(vec![here.addr().await], |_| {}).await;
    let other = node_with(vec![here.addr().await], |_| {}).await;
    let listens: Vec<Multiaddr> = one.dht.listen_addrs().await;
    let told = || async {
        let of_it = here.dht.addresses_of(one.id()).await;
        here.dht.tellable_to(&other.id(), of_it)
    };
    eventually("its address", || async { !told().await.is_empty() }).await;
    let told = told().await;
    // Nobody has told the other of it; an exchange is opened by these addresses.
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].clone().with_p2p(one.id()).unwrap(), listens[0]);
    assert!(other.dht.open_exchange(one.id(), &told, LONG).await.is_ok());
    let stranger = casnode_dht::Keypair::generate_ed25519()
        .public()
        .to_peer_id();
    assert!(here.dht.addresses_of(stranger).await.is_empty());
    assert!(here.dht.tellable_to(&stranger, told).is_empty());
}
