//! A peer that says what a test wants it to, mostly lies, built on the network crate alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use casnode_cas::{FileRecord, HaveBitmap, Manifest};
use casnode_dht::exchange::{
    MAX_CHUNK_BYTES, MAX_GOT, MAX_MANIFEST_PART_BYTES, MAX_SWARM_PEERS, SwarmPeer,
};
use casnode_dht::{
    Dht, DhtConfig, Incoming, Key, Keypair, Multiaddr, Reply, ReplySender, Request,
    RequestReceiver, start,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::harness::folder;

/// What a chunk of a peer takes that will begin to lie.
const SLOW_CHUNK: Duration = Duration::from_millis(50);

/// How often a peer that is held looks whether it is released.
const HELD_LOOK: Duration = Duration::from_millis(10);

/// Streams that a peer closes which has no place at first.
const CLOSED_AT_FIRST: usize = 2;

/// What it says, word for word. It claims to have every chunk.
pub(crate) struct Script {
    pub(crate) manifest: Manifest,
    /// The answer to a request for the chunk with this hash.
    pub(crate) chunks: HashMap<Key, Bytes>,
    pub(crate) manner: Manner,
    /// Whom it tells of.
    pub(crate) swarm: Vec<SwarmPeer>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By the script.
    Proper,
    /// By the script, but no chunk before it is released.
    Held,
    /// Every manifest is endless.
    EndlessManifest,
    /// The have-bitmap is that of another file.
    WrongBitmap,
    /// Answers to questions nobody asked, besides the script's.
    Unasked,
    /// No answer to a request for a chunk, ever.
    Silent,
    /// It has every chunk, but never now.
    AlwaysBusy,
    /// It closes the first streams before it says anything; then by the script.
    FullAtFirst,
    /// It claims to have every chunk, and has none when it is asked.
    LyingBitmap,
    /// It takes everybody in and serves nobody.
    NeverUnchokes,
    /// It chokes and unchokes without end.
    FlipFlop,
    /// It tells of peers that there are not, without end.
    PeersFlood,
    /// It tells of chunks that the file does not have.
    GotOutOfRange,
    /// It tells the same news again and again.
    GotFlood,
    /// For each chunk it sends the longest that there can be, whatever the file has.
    Oversized,
    /// Slow until it has sent this many chunks; from then on each has a wrong bit.
    LiarAfter(u64),
}

/// What a scripted peer and its test tell each other.
#[derive(Default)]
struct Told {
    served: AtomicU64,
    released: AtomicBool,
}

/// A scripted peer. It leaves when dropped.
pub(crate) struct Hostile {
    pub(crate) peer_id: String,
    pub(crate) addr: String,
    told: Arc<Told>,
    runtime: Option<Runtime>,
    dht: Dht,
    _folder: TempDir,
}

impl Hostile {
    /// Starts it and announces the file of the script.
    pub(crate) fn start(script: Script, bootstrap: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let folder = folder();
        let told = Arc::new(Told::default());
        let mut config = DhtConfig::new(
            Keypair::generate_ed25519(),
            folder.path(),
            Arc::new(|_: &Key, _: &[u8]| true),
        );
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.bootstrap = bootstrap.iter().map(|addr| addr.parse().unwrap()).collect();
        let alone = bootstrap.is_empty();
        let (dht, addr) = runtime.block_on(async {
            let (dht, mut incoming) = start(config).await.unwrap();
            let address = *script.manifest.address().as_bytes();
            let record = FileRecord::for_manifest(&script.manifest, Some("lies.bin")).encode();
            let script = Arc::new(script);
            let teller = told.clone();
            tokio::spawn(async move {
                let mut closed = 0;
                while let Some(stream) = incoming.recv().await {
                    if script.manner == Manner::FullAtFirst && closed < CLOSED_AT_FIRST {
                        closed += 1;
                        continue;
                    }
                    tokio::spawn(serve(stream, script.clone(), teller.clone()));
                }
            });
            if !alone {
                dht.connected_within(Duration::from_secs(20)).await;
            }
            dht.announce_file(address, record, Duration::from_secs(20))
                .await
                .unwrap();
            let addr = dht.listen_addrs().await[0].to_string();
            (dht, addr)
        });
        let peer_id = dht.local_peer_id().to_string();
        Self {
            peer_id,
            addr,
            told,
            runtime: Some(runtime),
            dht,
            _folder: folder,
        }
    }

    /// A peer that was held sends chunks from now on.
    pub(crate) fn release(&self) {
        self.told.released.store(true, Ordering::Relaxed);
    }

    /// How many chunks it has sent.
    pub(crate) fn served_chunks(&self) -> u64 {
        self.told.served.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let dht = self.dht.clone();
            let _ = runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(10), dht.shutdown()).await
            });
            runtime.shutdown_background();
        }
    }
}

async fn serve(stream: Incoming, script: Arc<Script>, told: Arc<Told>) {
    let Incoming {
        requests, replies, ..
    } = stream;
    // The asker hangs up when it has had enough; so do we.
    let _ = answer_all(requests, replies, &script, &told).await;
}

async fn answer_all(
    mut requests: RequestReceiver,
    mut replies: ReplySender,
    script: &Script,
    told: &Told,
) -> Result<(), casnode_dht::ExchangeError> {
    while let Some((id, request)) = requests.next().await? {
        for (id, request) in script.spelled_out(id, request) {
            if script.manner == Manner::Unasked {
                let unasked = Reply::Chunk(Bytes::from_static(b"nobody asked for this"));
                replies.send(id.wrapping_add(0x4000_0000), &unasked).await?;
            }
            if matches!(request, Request::Chunk { .. }) {
                script.hesitate(told).await;
            }
            let joins = matches!(request, Request::Join { .. });
            if let Some(reply) = script.answer(request, &told.served) {
                replies.send(id, &reply).await?;
            }
            if joins {
                after_join(&mut replies, script).await?;
            }
        }
    }
    Ok(())
}

/// What it tells unasked, once it was joined.
async fn after_join(
    replies: &mut ReplySender,
    script: &Script,
) -> Result<(), casnode_dht::ExchangeError> {
    let out_of_range = script.manifest.chunk_count();
    if !script.swarm.is_empty() {
        let others = Reply::Peers(script.swarm.clone());
        replies.send(0, &others).await?;
    }
    match script.manner {
        Manner::NeverUnchokes => return Ok(()),
        Manner::FlipFlop => loop {
            replies.send(0, &Reply::Unchoke).await?;
            replies.send(0, &Reply::Choke).await?;
        },
        Manner::PeersFlood => loop {
            replies.send(0, &Reply::Peers(garbage())).await?;
        },
        Manner::GotFlood => loop {
            let indices = vec![0; MAX_GOT];
            replies.send(0, &Reply::Got { indices }).await?;
        },
        Manner::GotOutOfRange => {
            let indices = vec![out_of_range];
            replies.send(0, &Reply::Got { indices }).await?;
        }
        _ => {}
    }
    replies.send(0, &Reply::Unchoke).await
}

/// A peer, as another tells of it.
pub(crate) fn swarm_peer(peer_id: &str, addr: &str) -> SwarmPeer {
    let peer: casnode_dht::PeerId = peer_id.parse().unwrap();
    let addr: Multiaddr = addr.parse().unwrap();
    SwarmPeer {
        peer: peer.to_bytes(),
        addrs: vec![addr.to_vec()],
    }
}

/// Peers that there are not, some of them of no shape at all.
fn garbage() -> Vec<SwarmPeer> {
    let nowhere = |port: usize| {
        let addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        SwarmPeer {
            peer: Keypair::generate_ed25519().public().to_peer_id().to_bytes(),
            addrs: vec![addr.to_vec(), vec![7; 100]],
        }
    };
    let shapeless = SwarmPeer {
        peer: vec![9; 50],
        addrs: Vec::new(),
    };
    let peers = (1..MAX_SWARM_PEERS).map(nowhere);
    peers.chain([shapeless]).collect()
}

impl Script {
    /// What it waits for before it answers a request for a chunk.
    async fn hesitate(&self, told: &Told) {
        match self.manner {
            Manner::LiarAfter(_) => tokio::time::sleep(SLOW_CHUNK).await,
            Manner::Held => {
                while !told.released.load(Ordering::Relaxed) {
                    tokio::time::sleep(HELD_LOOK).await;
                }
            }
            _ => {}
        }
    }

    /// The chunk, of which it has sent so many before.
    fn chunk(&self, bytes: &Bytes, served: u64) -> Reply {
        let lies = matches!(self.manner, Manner::LiarAfter(honest) if served >= honest);
        let mut bytes = bytes.clone();
        if lies {
            let mut wrong = bytes.to_vec();
            wrong[0] ^= 1;
            bytes = wrong.into();
        }
        Reply::Chunk(bytes)
    }

    /// What a request stands for.
    fn spelled_out(&self, id: u32, request: Request) -> Vec<(u32, Request)> {
        let Request::Begin {
            address,
            early_bytes,
        } = request
        else {
            return vec![(id, request)];
        };
        let offset = 0;
        let mut all = vec![(id, Request::Manifest { address, offset })];
        if self.manner != Manner::EndlessManifest {
            let chunks = self.manifest.chunk_count();
            let join = Request::Join {
                manifest: *self.manifest.id().as_bytes(),
                chunks,
                bits: HaveBitmap::new(chunks as usize).to_wire().into(),
            };
            all.push((id + 1, join));
            let early = (0..chunks).zip(self.manifest.chunks());
            let early = early.take_while(|(index, _)| {
                self.manifest.chunk_offset(*index as usize) < u64::from(early_bytes)
            });
            all.extend(early.zip(id + 2..).map(|((index, chunk), id)| {
                let hash = *chunk.hash.as_bytes();
                (id, Request::Chunk { index, hash })
            }));
        }
        all
    }

    fn answer(&self, request: Request, served: &AtomicU64) -> Option<Reply> {
        match (request, self.manner) {
            (Request::Manifest { .. }, Manner::EndlessManifest) => Some(Reply::Manifest {
                total_bytes: u64::MAX,
                bytes: Bytes::from(vec![7; MAX_MANIFEST_PART_BYTES]),
            }),
            (Request::Manifest { offset, .. }, _) => Some(part_of(self.manifest.encode(), offset)),
            (Request::Join { .. }, Manner::WrongBitmap) => {
                Some(everything(self.manifest.chunk_count() + 9))
            }
            (Request::Join { .. }, _) => Some(everything(self.manifest.chunk_count())),
            (Request::Chunk { .. }, Manner::Silent) => None,
            (Request::Chunk { .. }, Manner::AlwaysBusy) => Some(Reply::Busy { retry_after_ms: 50 }),
            (Request::Chunk { .. }, Manner::LyingBitmap) => Some(Reply::NotFound),
            (Request::Chunk { .. }, Manner::Oversized) => {
                Some(Reply::Chunk(Bytes::from(vec![7; MAX_CHUNK_BYTES])))
            }
            (Request::Chunk { .. }, Manner::NeverUnchokes) => Some(Reply::Choked),
            (Request::Chunk { hash, .. }, _) => Some(match self.chunks.get(&hash) {
                Some(bytes) => self.chunk(bytes, served.fetch_add(1, Ordering::Relaxed)),
                None => Reply::NotFound,
            }),
            _ => None,
        }
    }
}

fn everything(chunks: u32) -> Reply {
    let mut have = HaveBitmap::new(chunks as usize);
    for index in 0..chunks as usize {
        have.set(index);
    }
    Reply::Have {
        chunks,
        bits: Bytes::from(have.to_wire()),
    }
}

fn part_of(manifest: &Bytes, offset: u64) -> Reply {
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(manifest.len());
    let end = manifest.len().min(start + MAX_MANIFEST_PART_BYTES);
    Reply::Manifest {
        total_bytes: manifest.len() as u64,
        bytes: manifest.slice(start..end),
    }
}
