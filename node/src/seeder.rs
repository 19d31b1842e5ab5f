//! Serves what is here to peers that ask.
//!
//! Each inbound stream has three halves: a reader that queues chunk requests, a worker that reads chunks from the
//! store ahead of the wire, and a writer. Long polls for have-bitmaps wait beside them.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, FileState, ManifestId};
use casnode_dht::{
    Incoming, IncomingStreams, PeerId,
    exchange::{ExchangeError, Reply, ReplySender, Request, RequestReceiver},
};
use futures::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    node::Node,
    tasks::{Tasks, blocking},
};

/// Streams served at a time, over all peers. Each holds a few chunks in memory.
const MAX_STREAMS: usize = 64;

/// Requests of one stream that wait; a peer that asks for more is not read until there is room.
const REQUEST_QUEUE: usize = 128;

/// Chunks of one stream that are read ahead of the wire.
const READ_AHEAD: usize = 3;

/// Replies that wait for the wire.
const REPLY_QUEUE: usize = 2;

/// Long polls of one stream at a time.
const MAX_POLLS: usize = 4;

/// How long a have request is held back while nothing changes.
const POLL_SPAN: Duration = Duration::from_secs(10);

/// How often a changing bitmap is sent at most.
const POLL_PACE: Duration = Duration::from_millis(200);

/// A peer that takes nothing for this long is let go.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// A stream on which nothing is asked for this long is closed.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);

/// Bytes of a manifest sent at a time.
const MANIFEST_PART_BYTES: usize = 512 << 10;

/// Serves inbound streams until the node ends.
pub(crate) async fn run(node: Arc<Node>, mut incoming: IncomingStreams) -> Result<(), Infallible> {
    let places = Arc::new(Semaphore::new(MAX_STREAMS));
    while let Some(stream) = incoming.recv().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::debug!(peer = %stream.peer, "all places are taken; a stream was refused");
            continue;
        };
        let tasks = node.tasks.child();
        let node = node.clone();
        node.tasks.clone().spawn("serve", async move {
            let _guard = tasks.token().clone().drop_guard();
            let peer = stream.peer;
            let outcome = serve(node, stream, &tasks).await;
            tasks.finish().await;
            drop(place);
            if let Err(error) = outcome {
                tracing::debug!(%peer, %error, "a stream ended");
            }
            Ok::<(), Infallible>(())
        });
    }
    Ok(())
}

/// Requests that were taken back before they were answered.
type Cancelled = Arc<Mutex<HashSet<u32>>>;

async fn serve(node: Arc<Node>, stream: Incoming, tasks: &Tasks) -> Result<(), ExchangeError> {
    let Incoming {
        peer,
        requests,
        replies,
        ..
    } = stream;
    let (reply_tx, reply_rx) = mpsc::channel(REPLY_QUEUE);
    let (work_tx, work_rx) = mpsc::channel(REQUEST_QUEUE);
    let cancelled: Cancelled = Arc::default();
    let reader = Reader {
        node: node.clone(),
        peer,
        tasks: tasks.clone(),
        work: work_tx,
        replies: reply_tx.clone(),
        polls: Arc::new(Semaphore::new(MAX_POLLS)),
        cancelled: cancelled.clone(),
    };
    tokio::select! {
        end = reader.read(requests) => end,
        () = work(node, work_rx, reply_tx, cancelled) => Ok(()),
        end = write(replies, reply_rx) => end,
    }
}

async fn write(
    mut replies: ReplySender,
    mut queue: mpsc::Receiver<(u32, Reply)>,
) -> Result<(), ExchangeError> {
    while let Some((id, reply)) = queue.recv().await {
        match tokio::time::timeout(WRITE_DEADLINE, replies.send(id, &reply)).await {
            Ok(sent) => sent?,
            Err(_) => {
                tracing::debug!("a peer took nothing for {} s", WRITE_DEADLINE.as_secs());
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads chunks and manifests in the order of the requests, a few ahead of the wire.
async fn work(
    node: Arc<Node>,
    queue: mpsc::Receiver<(u32, Request)>,
    replies: mpsc::Sender<(u32, Reply)>,
    cancelled: Cancelled,
) {
    let requests = stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|r| (r, queue))
    });
    let answers = requests
        .filter(|(id, _)| {
            let wanted = !cancelled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id);
            std::future::ready(wanted)
        })
        .map(|(id, request)| {
            let node = node.clone();
            async move { (id, answer(node, request).await) }
        })
        .buffered(READ_AHEAD);
    let mut answers = std::pin::pin!(answers);
    while let Some((id, reply)) = answers.next().await {
        if replies.send((id, reply)).await.is_err() {
            return;
        }
    }
}

async fn answer(node: Arc<Node>, request: Request) -> Reply {
    let done = blocking(move || match request {
        Request::Chunk { hash } => chunk(&node, &ChunkHash::from_bytes(hash)),
        Request::Manifest { address, offset } => {
            manifest_part(&node, &Address::from_bytes(address), offset)
        }
        _ => Reply::NotFound,
    })
    .await;
    done.unwrap_or(Reply::NotFound)
}

/// Every read is checked against the hash: a damaged chunk is never served.
fn chunk(node: &Node, hash: &ChunkHash) -> Reply {
    match node.store.get(hash) {
        Ok(Some(bytes)) => Reply::Chunk(bytes),
        Ok(None) => Reply::NotFound,
        Err(error) => {
            tracing::warn!(chunk = %hash, %error, "a stored chunk could not be served");
            Reply::NotFound
        }
    }
}

fn manifest_part(node: &Node, address: &Address, offset: u64) -> Reply {
    let found = node.store.manifest(address);
    let Ok(Some(manifest)) = found else {
        return Reply::NotFound;
    };
    let all = manifest.encode();
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
    let to = (from + MANIFEST_PART_BYTES).min(all.len());
    Reply::Manifest {
        total_bytes: all.len() as u64,
        bytes: all.slice(from..to),
    }
}

struct Reader {
    node: Arc<Node>,
    peer: PeerId,
    tasks: Tasks,
    work: mpsc::Sender<(u32, Request)>,
    replies: mpsc::Sender<(u32, Reply)>,
    polls: Arc<Semaphore>,
    cancelled: Cancelled,
}

impl Reader {
    async fn read(self, mut requests: RequestReceiver) -> Result<(), ExchangeError> {
        loop {
            let next = tokio::time::timeout(IDLE_DEADLINE, requests.next()).await;
            let Ok(next) = next else {
                tracing::debug!(peer = %self.peer, "a stream was idle and is closed");
                return Ok(());
            };
            match next? {
                None => return Ok(()),
                Some((_, Request::Cancel { target })) => self.cancel(target),
                Some((id, Request::Have { manifest, seen })) => {
                    self.poll(id, ManifestId::from_bytes(manifest), seen as usize);
                }
                Some(request) => {
                    if self.work.send(request).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Notes a request that is no longer wanted. The set stays as small as what can be waiting.
    fn cancel(&self, target: u32) {
        let mut cancelled = self
            .cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if cancelled.len() >= 2 * REQUEST_QUEUE {
            cancelled.clear(); // forgetting one costs a chunk sent in vain
        }
        cancelled.insert(target);
    }

    /// Answers a have request, at once when there is news, else when there is or [`POLL_SPAN`] is over.
    fn poll(&self, id: u32, manifest: ManifestId, seen: usize) {
        let Ok(place) = self.polls.clone().try_acquire_owned() else {
            let (replies, pause) = (self.replies.clone(), 1000);
            self.tasks.spawn("busy", async move {
                let _ = replies
                    .send((
                        id,
                        Reply::Busy {
                            retry_after_ms: pause,
                        },
                    ))
                    .await;
                Ok::<(), Infallible>(())
            });
            return;
        };
        let (node, replies) = (self.node.clone(), self.replies.clone());
        self.tasks.spawn("have", async move {
            let reply = have(node, manifest, seen).await;
            let _ = replies.send((id, reply)).await;
            drop(place);
            Ok::<(), Infallible>(())
        });
    }
}

async fn have(node: Arc<Node>, manifest: ManifestId, seen: usize) -> Reply {
    if let Some(live) = node.downloads.live(&manifest) {
        let mut count = live.watch_count();
        if seen > 0 {
            tokio::time::sleep(POLL_PACE).await;
            let news = count.wait_for(|count| *count != seen);
            let _ = tokio::time::timeout(POLL_SPAN, news).await;
        }
        return have_reply(&live.snapshot());
    }
    if seen > 0 {
        tokio::time::sleep(POLL_SPAN).await;
    }
    blocking(move || stored_have(&node, &manifest))
        .await
        .unwrap_or(Reply::NotFound)
}

fn have_reply(have: &casnode_cas::HaveBitmap) -> Reply {
    Reply::Have {
        chunks: u32::try_from(have.len()).unwrap_or(u32::MAX),
        bits: Bytes::from(have.to_wire()),
    }
}

fn stored_have(node: &Node, id: &ManifestId) -> Reply {
    let found = || -> Result<Option<Reply>, casnode_cas::StoreError> {
        let Some(address) = node.store.address_of(id)? else {
            return Ok(None);
        };
        let Some(entry) = node.store.file(&address)? else {
            return Ok(None);
        };
        if entry.state == FileState::Complete {
            let mut all = casnode_cas::HaveBitmap::new(entry.chunk_count as usize);
            (0..entry.chunk_count as usize).for_each(|i| {
                all.set(i);
            });
            return Ok(Some(have_reply(&all)));
        }
        let Some(manifest) = node.store.manifest(&address)? else {
            return Ok(None);
        };
        Ok(Some(have_reply(&node.store.have(&manifest)?)))
    };
    match found() {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::NotFound,
        Err(error) => {
            tracing::warn!(%error, "a have-bitmap could not be made");
            Reply::NotFound
        }
    }
}
