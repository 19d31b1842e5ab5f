//! Joining by a name whose records list the nodes, with a name server of the test's own.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use casnode_dht::{Keypair, Multiaddr};
use common::{LONG, eventually, node, node_with};
use tokio::net::UdpSocket;

const TXT: [u8; 2] = [0, 16];

/// Answers for TXT records over UDP; whatever else is asked does not exist.
struct NameServer {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn name_server(texts: HashMap<String, Vec<String>>) -> NameServer {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut packet).await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(&answer(&packet[..len], &texts), from).await;
        }
    });
    NameServer { addr, asked }
}

/// The answer to a query with one question: the header, the question as it came, the records.
fn answer(query: &[u8], texts: &HashMap<String, Vec<String>>) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let none = Vec::new();
    let found = match query[at + 1..at + 3] == TXT {
        true => texts.get(&labels.join(".")).unwrap_or(&none),
        false => &none,
    };
    let (code, count) = (if found.is_empty() { 3 } else { 0 }, found.len());
    let mut out = query[..2].to_vec();
    out.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::try_from(count).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    out.extend(question);
    for text in found {
        let len = u8::try_from(text.len()).unwrap();
        out.extend([0xc0, 12, TXT[0], TXT[1], 0, 1, 0, 0, 0, 60, 0, len + 1, len]);
        out.extend(text.as_bytes());
    }
    out
}

fn dnsaddr(host: &str) -> Multiaddr {
    format!("/dnsaddr/{host}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_joined_by_a_name_among_wrong_answers() {
    let (a, b) = (node(vec![]).await, node(vec![]).await);
    let stranger = Keypair::generate_ed25519().public().to_peer_id();
    let mut wrong = b.addr().await;
    wrong.pop();
    let texts = [
        "v=spf1 -all".to_owned(),
        "dnsaddr=nothing of the kind".to_owned(),
        "dnsaddr=/ip4/127.0.0.1/tcp/1".to_owned(),
        // Somebody else answers there.
        format!("dnsaddr={wrong}/p2p/{stranger}"),
        "dnsaddr=/dnsaddr/loop.example".to_owned(),
        "dnsaddr=/dnsaddr/more.example".to_owned(),
    ];
    let loops = vec!["dnsaddr=/dnsaddr/loop.example".to_owned()];
    let true_one = format!("dnsaddr={}", a.addr().await);
    let server = name_server(HashMap::from([
        ("_dnsaddr.net.example".to_owned(), texts.to_vec()),
        ("_dnsaddr.more.example".to_owned(), vec![true_one]),
        ("_dnsaddr.loop.example".to_owned(), loops),
    ]))
    .await;
    let here = server.addr;
    let c = node_with(vec![dnsaddr("net.example")], move |config| {
        config.dns_server = Some(here);
    })
    .await;
    assert!(c.dht.connected_within(LONG).await > 0);
    assert_eq!(c.dht.peers().await[0].peer, a.id());
    eventually("known there too", || async {
        a.dht.connected_within(LONG).await > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_lead_in_circles_end_in_an_error() {
    let to = |host: &str| format!("dnsaddr=/dnsaddr/{host}.example");
    let many = (0..40).map(|_| to("one")).collect();
    let server = name_server(HashMap::from([
        (
            "_dnsaddr.one.example".to_owned(),
            vec![to("two"), to("one")],
        ),
        (
            "_dnsaddr.two.example".to_owned(),
            vec![to("one"), to("two")],
        ),
        ("_dnsaddr.many.example".to_owned(), many),
    ]))
    .await;
    let here = server.addr;
    let a = node(vec![]).await;
    let lost = node_with(vec![], move |config| config.dns_server = Some(here)).await;
    for host in ["one.example", "many.example", "none.example"] {
        let dialled = lost.dht.dial(dnsaddr(host), LONG).await;
        assert!(dialled.is_err(), "{dialled:?}");
    }
    assert!(server.asked.load(Ordering::SeqCst) > 0, "asked there");
    // It is as good as before.
    assert_eq!(lost.dht.dial(a.addr().await, LONG).await.unwrap(), a.id());
}
