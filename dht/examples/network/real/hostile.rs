//! Nodes that speak the protocols and mean harm.
//!
//! They answer Kademlia's questions by hand, so that they can say what no honest implementation would,
//! and take announcing streams without ever acknowledging anything.

use std::sync::Arc;
use std::time::Duration;

use casnode_dht::{Key, Keypair, Multiaddr, NetworkName, PeerId, lab};
use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{Stream, identify, ping};
use tokio::task::JoinHandle;

use super::keyspace::{self, Point, REPLICATION};

/// Identities a liar invents. The closest of them to any key are closer than those of all real peers.
const INVENTED: usize = 20_000;
/// The longest message read.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// How long a connection of nobody's use is kept, as honest nodes keep theirs.
const IDLE: Duration = Duration::from_secs(60);

/// How a node harms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes every question and answers none.
    Silent,
    /// Knows no providers and no peers.
    Empty,
    /// Names invented peers that are closer to every key than any real one.
    Liar,
    /// Sits next to one key with others of its kind, knows no providers and names only the others.
    Sybil,
}

/// Invented peers, sorted by nothing.
pub struct Liar {
    peers: Vec<(Point, PeerId)>,
}

impl Liar {
    pub fn new() -> Self {
        let invented = std::iter::repeat_with(PeerId::random).take(INVENTED);
        Self {
            peers: invented
                .map(|peer| (keyspace::point_of_peer(&peer), peer))
                .collect(),
        }
    }

    /// The invented peers closest to a key, at addresses where nobody is.
    fn closest(&self, target: &Point) -> Vec<(PeerId, Multiaddr)> {
        let points: Vec<Point> = self.peers.iter().map(|(point, _)| *point).collect();
        let nowhere = Multiaddr::empty().with(Protocol::Memory(u64::MAX / 2));
        keyspace::closest(&points, target, REPLICATION)
            .into_iter()
            .map(|at| (self.peers[at].1, nowhere.clone()))
            .collect()
    }
}

/// Identities that share `bits` bits with a key.
pub fn ground_next_to(key: &Key, bits: u32, count: usize) -> Vec<Keypair> {
    let target = keyspace::point_of_key(key);
    let keypairs = std::iter::repeat_with(Keypair::generate_ed25519);
    let near = keypairs.filter(|keypair| {
        let point = keyspace::point_of_peer(&keypair.public().to_peer_id());
        keyspace::common_bits(&point, &target) >= bits
    });
    near.take(count).collect()
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// A hostile node that runs until it is dropped.
pub struct Stranger(JoinHandle<()>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a hostile node.
pub fn start(
    keypair: &Keypair,
    addr: Multiaddr,
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    kind: Kind,
    lies: Arc<Liar>,
    known: Vec<(PeerId, Multiaddr)>,
) -> Stranger {
    let me = keypair.public().to_peer_id();
    let [kad, records] = lab::protocols(&NetworkName::default());
    let family = identify::Config::new("/casnode/main/1".into(), keypair.public());
    let streams = libp2p_stream::Behaviour::new();
    let mut control = streams.new_control();
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(family),
        ping: ping::Behaviour::default(),
        streams,
    };
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    let mut swarm = Swarm::new(transport, behaviour, me, config);
    Stranger(tokio::spawn(async move {
        let (Ok(mut asked), Ok(mut announced)) = (control.accept(kad), control.accept(records))
        else {
            return;
        };
        if swarm.listen_on(addr.clone()).is_err() {
            return;
        }
        swarm.add_external_address(addr);
        // A bounded wait: who sends nothing keeps a task until its connection ends.
        let known = Arc::new(known);
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Some((_, stream)) = asked.next() => {
                    let (lies, known) = (lies.clone(), known.clone());
                    tokio::spawn(async move { answer(stream, kind, &lies, &known).await });
                }
                Some((_, stream)) = announced.next() => {
                    tokio::spawn(swallow(stream));
                }
            }
        }
    }))
}

/// Reads all and says nothing.
async fn swallow(mut stream: Stream) {
    let mut buffer = vec![0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

/// Answers the questions of one stream in the way of its kind.
async fn answer(
    mut stream: Stream,
    kind: Kind,
    lies: &Liar,
    known: &[(PeerId, Multiaddr)],
) -> Option<()> {
    if kind == Kind::Silent {
        swallow(stream).await;
        return None;
    }
    loop {
        let message = read_message(&mut stream).await?;
        let (what, key) = question(&message)?;
        let target = <Key>::try_from(key).ok();
        let target = target.map(|key| keyspace::point_of_key(&key));
        let closer = match (kind, target) {
            (Kind::Liar, Some(target)) => lies.closest(&target),
            (Kind::Sybil, Some(target)) => closest_known(known, &target),
            _ => Vec::new(),
        };
        if what == ADD_PROVIDER {
            continue;
        }
        let mut reply = vec![1 << 3, what];
        field(&mut reply, 2, key);
        if what == PUT_VALUE {
            // Kademlia takes an echo for an acknowledgement.
            reply = message.clone();
        }
        for (peer, addr) in closer {
            let mut entry = Vec::new();
            field(&mut entry, 1, &peer.to_bytes());
            field(&mut entry, 2, &addr.to_vec());
            entry.extend([3 << 3, 1]);
            field(&mut reply, 8, &entry);
        }
        let mut framed = Vec::new();
        varint(&mut framed, reply.len());
        framed.extend(reply);
        stream.write_all(&framed).await.ok()?;
        stream.flush().await.ok()?;
    }
}

/// The others of its kind are those in its own near buckets: it names what it knows closest to the key.
fn closest_known(known: &[(PeerId, Multiaddr)], target: &Point) -> Vec<(PeerId, Multiaddr)> {
    let points: Vec<Point> = known
        .iter()
        .map(|(peer, _)| keyspace::point_of_peer(peer))
        .collect();
    keyspace::closest(&points, target, REPLICATION)
        .into_iter()
        .map(|at| known[at].clone())
        .collect()
}

const PUT_VALUE: u8 = 0;
const ADD_PROVIDER: u8 = 2;

async fn read_message(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut len = 0;
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        len |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if len > MAX_MESSAGE_BYTES {
        return None;
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// The type and the key of a message.
fn question(message: &[u8]) -> Option<(u8, &[u8])> {
    let (mut what, mut key) = (0, &[][..]);
    let mut rest = message;
    while !rest.is_empty() {
        let tag = read_varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = read_varint(&mut rest)?;
                if tag >> 3 == 1 {
                    what = u8::try_from(value).ok()?;
                }
            }
            2 => {
                let len = read_varint(&mut rest)?;
                let (bytes, after) = rest.split_at_checked(len)?;
                rest = after;
                if tag >> 3 == 2 {
                    key = bytes;
                }
            }
            _ => return None,
        }
    }
    Some((what, key))
}

fn read_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_nonsense_is_not() {
        let mut message = vec![1 << 3, 3];
        field(&mut message, 2, &[9; 200]);
        message.extend([10 << 3, 1]);
        assert_eq!(question(&message), Some((3, &[9; 200][..])));
        assert_eq!(question(&message[..100]), None);
        assert_eq!(question(&[0xff; 12]), None);
    }

    #[test]
    fn a_liar_names_nobody_real_and_sybils_are_next_to_the_key() {
        let key = [3; 32];
        let target = keyspace::point_of_key(&key);
        let named = Liar::new().closest(&target);
        assert_eq!(named.len(), REPLICATION);
        let bits = |peer: &PeerId| keyspace::common_bits(&keyspace::point_of_peer(peer), &target);
        assert!(named.iter().all(|(peer, _)| bits(peer) >= 6));
        let sybils = ground_next_to(&key, 6, 3);
        assert_eq!(sybils.len(), 3);
        assert!(
            sybils
                .iter()
                .all(|keypair| bits(&keypair.public().to_peer_id()) >= 6)
        );
    }
}
