//! Streams between two swarms in this process.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::{Config, Swarm, SwarmEvent};
use libp2p::{noise, yamux};
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(20);
const ONE: StreamProtocol = StreamProtocol::new("/one");
const TWO: StreamProtocol = StreamProtocol::new("/two");

fn swarm(protocols: [StreamProtocol; 1]) -> (Swarm<Streams>, Incoming, Arc<Counters>) {
    let keypair = Keypair::generate_ed25519();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let counters = Arc::new(Counters::default());
    let (streams, [incoming]) = Streams::new(protocols, counters.clone());
    let config = Config::with_tokio_executor()
        .with_idle_connection_timeout(LONG)
        .with_max_negotiating_inbound_streams(256);
    let swarm = Swarm::new(transport, streams, keypair.public().to_peer_id(), config);
    (swarm, incoming, counters)
}

type Ask = (
    PeerId,
    StreamProtocol,
    oneshot::Sender<Result<Stream, OpenError>>,
);

/// Two connected swarms, run by tasks: the first opens what is asked for.
async fn pair() -> (mpsc::Sender<Ask>, PeerId, Incoming, Arc<Counters>) {
    let (mut opener, _, _) = swarm([TWO]);
    let (mut taker, incoming, counters) = swarm([ONE]);
    taker.listen_on("/memory/0".parse().unwrap()).unwrap();
    let SwarmEvent::NewListenAddr { address, .. } = taker.select_next_some().await else {
        panic!("it does not listen")
    };
    let peer = *taker.local_peer_id();
    tokio::spawn(async move {
        loop {
            taker.select_next_some().await;
        }
    });
    opener.dial(address).unwrap();
    while !opener.is_connected(&peer) {
        opener.select_next_some().await;
    }
    let (ask, mut asked) = mpsc::channel::<Ask>(256);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = opener.select_next_some() => {}
                Some((peer, protocol, answer)) = asked.recv() => {
                    opener.behaviour_mut().open(peer, protocol, answer);
                }
            }
        }
    });
    (ask, peer, incoming, counters)
}

async fn open(
    ask: &mpsc::Sender<Ask>,
    peer: PeerId,
    protocol: StreamProtocol,
) -> Result<Stream, OpenError> {
    let (answer, answered) = oneshot::channel();
    ask.send((peer, protocol, answer)).await.unwrap();
    timeout(LONG, answered).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_opened_at_once_all_arrive() {
    let (ask, peer, mut incoming, counters) = pair().await;
    let opened = (0..50u8).map(|n| {
        let ask = ask.clone();
        async move {
            let mut stream = open(&ask, peer, ONE).await.unwrap();
            stream.write_all(&[n]).await.unwrap();
            stream.close().await.unwrap();
        }
    });
    futures::future::join_all(opened).await;
    let mut seen = Vec::new();
    for _ in 0..50 {
        let (_, mut stream) = timeout(LONG, incoming.recv()).await.unwrap().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        seen.push(byte[0]);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert_eq!(counters.refused_streams.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_is_always_answered() {
    let (ask, peer, incoming, counters) = pair().await;
    let unknown = open(&ask, PeerId::random(), ONE).await;
    assert!(matches!(unknown, Err(OpenError::NotConnected)));
    let other = open(&ask, peer, TWO).await;
    assert!(matches!(other, Err(OpenError::Unsupported)), "{other:?}");
    // Nobody takes them: what does not fit is refused, and counted.
    for _ in 0..MAX_WAITING + 5 {
        let mut stream = open(&ask, peer, ONE).await.unwrap();
        // The name of the protocol goes with the first byte; a refused stream takes none.
        let _ = stream.write_all(&[1]).await;
        let _ = stream.flush().await;
    }
    let refused = async {
        while counters.refused_streams.get() < 5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.unwrap();
    assert_eq!(incoming.len(), MAX_WAITING);
}

#[test]
fn an_opening_that_is_dropped_says_so() {
    let (answer, mut answered) = oneshot::channel();
    let answer = Some(answer);
    drop(Opening {
        protocol: ONE,
        answer,
    });
    assert!(matches!(
        answered.try_recv(),
        Ok(Err(OpenError::NotConnected))
    ));
}
