//! A peer that says what a test wants it to, mostly lies, built on the network crate alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use casnode_cas::{FileRecord, HaveBitmap, Manifest};
use casnode_dht::exchange::MAX_MANIFEST_PART_BYTES;
use casnode_dht::{
    Dht, DhtConfig, Incoming, Key, Keypair, Reply, ReplySender, Request, RequestReceiver, start,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::harness::folder;

/// What a chunk of a slow peer takes.
const SLOW_CHUNK: Duration = Duration::from_millis(50);

/// Streams that a peer closes which has no place at first.
const CLOSED_AT_FIRST: usize = 2;

/// What it says, word for word. It claims to have every chunk.
pub(crate) struct Script {
    pub(crate) manifest: Manifest,
    /// The answer to a request for the chunk with this hash.
    pub(crate) chunks: HashMap<Key, Bytes>,
    pub(crate) manner: Manner,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By the script.
    Proper,
    /// By the script, each chunk after a while: whoever else is there gets its turn.
    Slow,
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
}

/// A scripted peer. It leaves when dropped.
pub(crate) struct Hostile {
    pub(crate) peer_id: String,
    pub(crate) addr: String,
    served: Arc<AtomicU64>,
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
        let served = Arc::new(AtomicU64::new(0));
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
            let counter = served.clone();
            tokio::spawn(async move {
                let mut closed = 0;
                while let Some(stream) = incoming.recv().await {
                    if script.manner == Manner::FullAtFirst && closed < CLOSED_AT_FIRST {
                        closed += 1;
                        continue;
                    }
                    tokio::spawn(serve(stream, script.clone(), counter.clone()));
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
            served,
            runtime: Some(runtime),
            dht,
            _folder: folder,
        }
    }

    /// How many chunks it has sent.
    pub(crate) fn served_chunks(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
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

async fn serve(stream: Incoming, script: Arc<Script>, served: Arc<AtomicU64>) {
    let Incoming {
        requests, replies, ..
    } = stream;
    // The asker hangs up when it has had enough; so do we.
    let _ = answer_all(requests, replies, &script, &served).await;
}

async fn answer_all(
    mut requests: RequestReceiver,
    mut replies: ReplySender,
    script: &Script,
    served: &AtomicU64,
) -> Result<(), casnode_dht::ExchangeError> {
    while let Some((id, request)) = requests.next().await? {
        if script.manner == Manner::Unasked {
            let unasked = Reply::Chunk(Bytes::from_static(b"nobody asked for this"));
            replies.send(id.wrapping_add(0x4000_0000), &unasked).await?;
        }
        if script.manner == Manner::Slow && matches!(request, Request::Chunk { .. }) {
            tokio::time::sleep(SLOW_CHUNK).await;
        }
        let joins = matches!(request, Request::Join { .. });
        if let Some(reply) = script.answer(request, served) {
            replies.send(id, &reply).await?;
        }
        if joins {
            replies.send(0, &Reply::Unchoke).await?;
        }
    }
    Ok(())
}

impl Script {
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
            (Request::Chunk { hash, .. }, _) => Some(match self.chunks.get(&hash) {
                Some(bytes) => {
                    served.fetch_add(1, Ordering::Relaxed);
                    Reply::Chunk(bytes.clone())
                }
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
