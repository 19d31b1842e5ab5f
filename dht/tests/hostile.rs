//! Peers that lie, shout or stay silent.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use casnode_dht::{DhtError, FindOptions, Keypair, Multiaddr, PeerId, Request};
use common::{LONG, Node, chain, eventually, finds, keys, node, node_with};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{StreamProtocol, SwarmBuilder, identify, kad, noise, tcp, yamux};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const KAD: StreamProtocol = StreamProtocol::new("/casnode/main/kad/1.0.0");
const PROVIDE: StreamProtocol = StreamProtocol::new("/casnode/main/records/1");
const EXCHANGE: StreamProtocol = StreamProtocol::new("/casnode/main/exchange/2");

/// A stock libp2p node with Kademlia and raw streams, which does as it is told.
#[derive(NetworkBehaviour)]
struct Stock {
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

struct Stranger {
    id: PeerId,
    control: libp2p_stream::Control,
    commands: tokio::sync::mpsc::Sender<Order>,
}

type Order = Box<dyn FnOnce(&mut Stock) + Send>;

/// Connects a stranger to a node.
async fn stranger(to: &Node) -> Stranger {
    stranger_at(to, None).await
}

/// Connects a stranger that listens there.
async fn stranger_at(to: &Node, listen: Option<Multiaddr>) -> Stranger {
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            Stock {
                kad: kad::Behaviour::with_config(
                    id,
                    kad::store::MemoryStore::new(id),
                    kad::Config::new(KAD),
                ),
                identify: identify::Behaviour::new(identify::Config::new(
                    "/x".into(),
                    key.public(),
                )),
                streams: libp2p_stream::Behaviour::new(),
            }
        })
        .unwrap()
        .build();
    let id = *swarm.local_peer_id();
    if let Some(addr) = listen {
        swarm.listen_on(addr).unwrap();
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::NewListenAddr { .. }
        ) {}
    }
    let control = swarm.behaviour().streams.new_control();
    let addr = to.addr().await;
    swarm
        .behaviour_mut()
        .kad
        .add_address(&to.id(), addr.clone());
    swarm.behaviour_mut().kad.set_mode(Some(kad::Mode::Server));
    swarm.dial(addr).unwrap();
    let (commands, mut inbox) = tokio::sync::mpsc::channel::<Order>(8);
    let (up, is_up) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut up = Some(up);
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::ConnectionEstablished { .. } = event
                        && let Some(up) = up.take() { let _ = up.send(()); }
                }
                command = inbox.recv() => match command {
                    Some(command) => command(swarm.behaviour_mut()),
                    None => return,
                },
            }
        }
    });
    tokio::time::timeout(LONG, is_up).await.unwrap().unwrap();
    Stranger {
        id,
        control,
        commands,
    }
}

impl Stranger {
    async fn tell(&self, command: impl FnOnce(&mut Stock) + Send + 'static) {
        self.commands.send(Box::new(command)).await.ok().unwrap();
    }

    async fn stream(&mut self, to: &Node, protocol: StreamProtocol) -> libp2p::Stream {
        self.control.open_stream(to.id(), protocol).await.unwrap()
    }
}

/// ADD_PROVIDER as Kademlia writes it: type 2, the key, and one provider with one address.
fn add_provider(key: &[u8], provider: &PeerId, addr: &Multiaddr) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        field.extend_from_slice(bytes);
        field
    }
    let mut peer = field(1, &provider.to_bytes());
    peer.extend(field(2, &addr.to_vec()));
    let mut message = vec![1 << 3, 2];
    message.extend(field(2, key));
    message.extend(field(9, &peer));
    let mut framed = vec![u8::try_from(message.len()).unwrap()];
    framed.extend(message);
    framed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_announce_for_somebody_else() {
    let node = node(vec![]).await;
    let mut stranger = stranger(&node).await;
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
    let keys = keys(2, 1);
    let victim = Keypair::generate_ed25519().public().to_peer_id();
    let mut stream = stranger.stream(&node, KAD).await;
    stream
        .write_all(&add_provider(&keys[0], &victim, &addr))
        .await
        .unwrap();
    // The same message with the sender's own name is taken, so the form is right.
    stream
        .write_all(&add_provider(&keys[1], &stranger.id, &addr))
        .await
        .unwrap();
    stream.flush().await.unwrap();
    let id = stranger.id;
    eventually("the true one", || async {
        finds(&node.dht, keys[1], id).await
    })
    .await;
    assert!(!finds(&node.dht, keys[0], victim).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_record_is_neither_stored_nor_believed() {
    let nodes = chain(2).await;
    let stranger = stranger(&nodes[0]).await;
    let keys = keys(4, 2);
    let (bad, good, large, bare) = (keys[0], keys[1], keys[2], keys[3]);
    let publisher = Keypair::generate_ed25519();
    let sealed = |key: [u8; 32], value: &[u8]| casnode_dht::lab::sealed(&publisher, &key, value);
    let put = move |key: [u8; 32], value: Vec<u8>| {
        move |stock: &mut Stock| {
            let record = kad::Record::new(kad::RecordKey::new(&key), value);
            stock.kad.put_record(record, kad::Quorum::One).unwrap();
        }
    };
    stranger
        .tell(put(bad, sealed(bad, &[bad[0].wrapping_add(1); 40])))
        .await;
    stranger
        .tell(put(large, sealed(large, &vec![large[0]; 9000])))
        .await;
    // True, but nobody's.
    stranger.tell(put(bare, vec![bare[0]; 40])).await;
    stranger.tell(put(good, sealed(good, &[good[0]; 40]))).await;
    let dht = &nodes[0].dht;
    eventually("the true one", || async {
        dht.get_record(good, LONG).await.unwrap().value.is_some()
    })
    .await;
    eventually("the false, the large and the bare one counted", || async {
        dht.dropped().bad_records >= 3
    })
    .await;
    // The stranger itself serves it on request, and is not believed.
    let found = dht.get_record(bad, LONG).await.unwrap();
    assert_eq!(found.value, None);
    let found = dht.get_record(bare, LONG).await.unwrap();
    assert_eq!(found.value, None);
    let found = dht.get_record(good, LONG).await.unwrap();
    assert_eq!(found.publisher, Some(publisher.public().to_peer_id()));
    assert!(found.published_at.is_some());
    let too_large = dht.announce_file(good, vec![good[0]; 8193], LONG).await;
    assert!(matches!(
        too_large,
        Err(DhtError::ValueTooLarge {
            len: 8193,
            max: 8192
        })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_announcements_and_requests_are_dropped_and_counted() {
    let mut node = node_with(vec![], |config| config.limits.provider_records_per_peer = 3).await;
    let mut stranger = stranger(&node).await;
    // An oversized frame, a frame of an unknown kind, and a batch that is not one.
    for bytes in [
        &[0xff, 0xff, 0xff, 0x7f][..],
        &[5, 0, 0, 0, 0x55, 0, 0, 0, 0],
        &[8, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3],
    ] {
        let mut stream = stranger.stream(&node, PROVIDE).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        // Closed or reset; in any case not answered.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    let dropped = node.dht.dropped();
    assert_eq!((dropped.oversized_frames, dropped.bad_frames), (1, 2));

    let mut stream = stranger.stream(&node, EXCHANGE).await;
    let mut hello = [0; 10];
    stream.read_exact(&mut hello).await.unwrap();
    // More than the largest bitmap needs.
    stream.write_all(&[0, 1, 2, 0]).await.unwrap();
    stream.flush().await.unwrap();
    let mut incoming = tokio::time::timeout(LONG, node.incoming.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(incoming.peer, stranger.id);
    assert!(incoming.requests.next().await.is_err());
    assert_eq!(node.dht.dropped().oversized_frames, 2);
}

/// A frame of the exchange: kind, id, body.
fn exchange_frame(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(5 + body.len()).unwrap();
    [&len.to_le_bytes(), &[kind][..], &id.to_le_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_asker_says_ends_its_stream_and_is_counted() {
    let mut node = node(vec![]).await;
    let mut stranger = stranger(&node).await;
    let join = |chunks: u32, bits: &[u8]| {
        let len = (bits.len() as u64).to_le_bytes();
        [&[1], &[7; 32][..], &chunks.to_le_bytes(), &len, bits].concat()
    };
    let got = |count: u64, indices: &[u32]| {
        let indices = indices.iter().flat_map(|index| index.to_le_bytes());
        let body = [1].into_iter().chain(count.to_le_bytes());
        body.chain(indices).collect::<Vec<u8>>()
    };
    let good = exchange_frame(0x02, 1, &join(9, &[0xff, 0x80]));
    let bad = [
        exchange_frame(0x02, 1, &join(9, &[0xff])),
        exchange_frame(0x02, 1, &join(9, &[0xff, 0xc0])),
        exchange_frame(0x02, 1, &join((1 << 20) + 8, &vec![0; (1 << 17) + 1])),
        exchange_frame(0x06, 1, &got(0, &[])),
        exchange_frame(0x06, 1, &got(1, &[1 << 20])),
        exchange_frame(0x06, 1, &got(u64::MAX, &[1])),
        exchange_frame(0x06, 1, &got(1025, &[0; 1025])),
        exchange_frame(0x05, 1, &[1, 7]),
        // Only the other side says this.
        exchange_frame(0x92, 0, &[]),
    ];
    let count = bad.len() as u64;
    for bytes in bad {
        let mut stream = stranger.stream(&node, EXCHANGE).await;
        let mut hello = [0; 10];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(&good).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let taken = tokio::time::timeout(LONG, node.incoming.recv()).await;
        let mut taken = taken.unwrap().unwrap();
        let first = taken.requests.next().await.unwrap();
        assert!(matches!(first, Some((1, Request::Join { chunks: 9, .. }))));
        assert!(taken.requests.next().await.is_err(), "{:?}", &bytes[..9]);
    }
    let dropped = node.dht.dropped();
    assert_eq!(dropped.bad_frames + dropped.oversized_frames, count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_announcer_reaches_its_quota_and_another_does_not() {
    let server = node_with(vec![], |config| {
        config.limits.provider_records_per_peer = 50
    })
    .await;
    let greedy = common::client(vec![server.addr().await]).await;
    let modest = common::client(vec![server.addr().await]).await;
    assert!(greedy.dht.connected_within(LONG).await > 0);
    assert!(modest.dht.connected_within(LONG).await > 0);
    greedy.dht.schedule(keys(200, 3)).await.unwrap();
    eventually("the quota reached", || async {
        server.dht.dropped().over_quota_records > 0
    })
    .await;
    let announced = || async { greedy.dht.announce_status().announced };
    eventually("what was taken is noted", || async {
        announced().await == 50
    })
    .await;
    let theirs = keys(20, 4);
    modest.dht.schedule(theirs.clone()).await.unwrap();
    eventually("all announced", || async {
        modest.dht.announce_status().to_announce == 0
    })
    .await;
    assert!(finds(&server.dht, theirs[7], modest.id()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_open_connections_disturb_nobody() {
    let node = node_with(vec![], |config| config.limits.pending_in = 200).await;
    let port: u16 = node
        .addr()
        .await
        .to_string()
        .split('/')
        .nth(4)
        .unwrap()
        .parse()
        .unwrap();
    let mut silent = Vec::new();
    for n in 0..100u8 {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if n % 2 == 0 {
            let noise: Vec<u8> = (0..700u32)
                .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[usize::from(n % 4)] | 1)
                .collect();
            let _ = connection.write_all(&noise).await;
        } else {
            silent.push(connection);
        }
    }
    eventually("garbage counted", || async {
        node.dht.dropped().failed_handshakes >= 40
    })
    .await;
    let other = common::node(vec![node.addr().await]).await;
    assert!(other.dht.connected_within(LONG).await > 0);
    let key = keys(1, 5)[0];
    let announced = other
        .dht
        .announce_file(key, vec![key[0]], LONG)
        .await
        .unwrap();
    assert_eq!(announced.peers, 1);
    assert!(finds(&node.dht, key, other.id()).await);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_peer_is_gone_until_the_ban_ends() {
    let a = node(vec![]).await;
    let b = node(vec![a.addr().await]).await;
    assert!(b.dht.connected_within(LONG).await > 0);
    a.dht.ban(b.id(), Duration::from_secs(3600)).await;
    eventually("disconnected", || async { a.dht.peers().await.is_empty() }).await;
    assert!(
        matches!(a.dht.open_exchange(b.id(), &[], LONG).await, Err(DhtError::Banned(peer)) if peer == b.id())
    );
    eventually("gone there too", || async {
        b.dht.peers().await.is_empty()
    })
    .await;
    eventually("refused again", || async {
        let _ = b.dht.dial(a.addr().await, Duration::from_secs(2)).await;
        a.dht.dropped().banned_connections > 0
    })
    .await;
    assert!(a.dht.peers().await.is_empty());
    a.dht.ban(b.id(), Duration::ZERO).await;
    eventually("back", || async {
        b.dht.dial(a.addr().await, LONG).await.is_ok() && !a.dht.peers().await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_may_open_few_streams_and_gets_them_back() {
    let mut server = node_with(vec![], |config| config.limits.exchange_streams_per_peer = 2).await;
    let asker = common::client(vec![server.addr().await]).await;
    assert!(asker.dht.connected_within(LONG).await > 0);
    let mut open = Vec::new();
    let mut served = Vec::new();
    for _ in 0..2 {
        open.push(
            asker
                .dht
                .open_exchange(server.id(), &[], LONG)
                .await
                .unwrap(),
        );
        served.push(
            tokio::time::timeout(LONG, server.incoming.recv())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    let third = asker.dht.open_exchange(server.id(), &[], LONG).await;
    assert!(matches!(third, Err(DhtError::Exchange { .. })));
    assert!(server.dht.dropped().refused_streams >= 1);
    served.pop();
    eventually("a place again", || async {
        asker
            .dht
            .open_exchange(server.id(), &[], LONG)
            .await
            .is_ok()
    })
    .await;
    open[0]
        .0
        .send(1, &Request::Cancel { target: 5 })
        .await
        .unwrap();
    let got = tokio::time::timeout(LONG, served[0].requests.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, Some((1, Request::Cancel { target: 5 })));
}

/// *Who provides this key?*, as a frame of the records protocol.
fn who_provides(key: &[u8; 32]) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(1u64.to_le_bytes());
    body.extend(key);
    let mut frame = u32::try_from(5 + body.len())
        .unwrap()
        .to_le_bytes()
        .to_vec();
    frame.extend([2, 0, 0, 0, 0]);
    frame.extend(body);
    frame
}

/// Whether the question is answered, and not by the end of the stream.
async fn is_answered(stream: &mut libp2p::Stream, key: &[u8; 32]) -> bool {
    let mut head = [0; 5];
    let asked = async {
        stream.write_all(&who_provides(key)).await?;
        stream.flush().await?;
        stream.read_exact(&mut head).await?;
        let mut rest = vec![0; u32::from_le_bytes(head[..4].try_into().unwrap()) as usize - 1];
        stream.read_exact(&mut rest).await
    };
    let asked = tokio::time::timeout(LONG, asked).await.unwrap();
    asked.is_ok() && head[4] == 0x82
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_asks_for_records_by_two_streams_at_a_time() {
    let node = node(vec![]).await;
    let (mut greedy, mut other) = (stranger(&node).await, stranger(&node).await);
    let key = keys(1, 12)[0];
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = greedy.stream(&node, PROVIDE).await;
        assert!(is_answered(&mut stream, &key).await);
        open.push(stream);
    }
    assert_eq!(node.dht.dropped().refused_streams, 0);
    let mut third = greedy.stream(&node, PROVIDE).await;
    assert!(!is_answered(&mut third, &key).await);
    assert_eq!(node.dht.dropped().refused_streams, 1);
    // The streams it has are served on, and so are others.
    assert!(is_answered(&mut open[0], &key).await);
    let mut stream = other.stream(&node, PROVIDE).await;
    assert!(is_answered(&mut stream, &key).await);
    // And who closes a stream may open another.
    open.pop().unwrap().close().await.unwrap();
    let again = tokio::sync::Mutex::new(greedy);
    eventually("a place again", || async {
        let mut stream = again.lock().await.stream(&node, PROVIDE).await;
        is_answered(&mut stream, &key).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_an_error_in_time() {
    let a = node(vec![]).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    assert!(matches!(
        a.dht.dial(addr, LONG).await,
        Err(DhtError::Dial { .. })
    ));
    let unknown = Keypair::generate_ed25519().public().to_peer_id();
    assert!(matches!(
        a.dht.open_exchange(unknown, &[], LONG).await,
        Err(DhtError::Dial { .. })
    ));
    assert_eq!(a.dht.connected_within(Duration::from_millis(50)).await, 0);
    let taken = a.addr().await;
    let second = casnode_dht::start({
        let dir = tempfile::tempdir().unwrap();
        let mut config = common::config(dir.path(), &Keypair::generate_ed25519(), vec![]);
        config.listen = vec![{
            let mut addr = taken;
            addr.pop();
            addr
        }];
        config
    })
    .await;
    assert!(matches!(second, Err(DhtError::Listen { .. })));

    a.dht.shutdown().await;
    a.dht.shutdown().await;
    assert!(matches!(
        a.dht.get_record([0; 32], LONG).await,
        Err(DhtError::ShutDown)
    ));
    let mut events = a.dht.find_providers([0; 32], FindOptions::default());
    assert_eq!(events.recv().await, None, "no events after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_peer_does_not_keep_a_file_from_the_others() {
    let nodes = chain(2).await;
    let (node, dht) = (&nodes[0], &nodes[0].dht);
    let stranger = stranger_at(node, Some("/ip4/127.0.0.1/tcp/0".parse().unwrap())).await;
    eventually("both in the routing table", || async {
        dht.connected_within(Duration::ZERO).await == 2
    })
    .await;
    // From now on it answers nothing, but its connection stands.
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    stranger
        .tell(move |_| {
            let _ = released.recv();
        })
        .await;
    let key = keys(1, 9)[0];
    let deadline = Duration::from_secs(5);
    let announced = dht.announce_file(key, vec![key[0]; 9], deadline).await;
    assert_eq!(announced.unwrap().peers, 1, "the one that answers");
    drop(release);
}
