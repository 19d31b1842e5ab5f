//! One peer's stream: a reader that queues requests, a worker that reads chunks from the store ahead of the wire, and
//! a writer. Long polls for have-bitmaps wait beside them.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use casnode_cas::{Address, ChunkHash, ManifestId};
use casnode_dht::exchange::{ExchangeError, MAX_GOT, Reply, ReplySender, Request, RequestReceiver};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{answers::Answers, places::Place};
use crate::{clock, download::LiveHave, tasks::Tasks};

/// Requests of one stream that wait; a peer that asks for more is not read until there is room.
const REQUEST_QUEUE: usize = 128;

/// Chunks of one stream that are read ahead of the wire.
const READ_AHEAD: usize = 3;

/// Replies that wait for the wire.
const REPLY_QUEUE: usize = 2;

/// How often news of chunks is sent at most.
const NEWS_PACE: Duration = Duration::from_millis(100);

/// A peer that takes nothing for this long is let go.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// A stream on which nothing is asked for this long is closed.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);

/// Requests that were taken back before they were answered.
type Cancelled = Arc<Mutex<HashSet<u32>>>;

/// Serves a stream to its end. Polls that still wait then are `tasks`'s to end.
pub(super) async fn serve(
    answers: Arc<Answers>,
    requests: RequestReceiver,
    replies: ReplySender,
    tasks: &Tasks,
    place: &Place,
) -> Result<(), ExchangeError> {
    let (reply_tx, reply_rx) = mpsc::channel(REPLY_QUEUE);
    let (work_tx, work_rx) = mpsc::channel(REQUEST_QUEUE);
    let cancelled: Cancelled = Arc::default();
    let reader = Reader {
        answers: answers.clone(),
        tasks,
        work: work_tx,
        replies: reply_tx.clone(),
        cancelled: cancelled.clone(),
    };
    tokio::select! {
        end = reader.read(requests) => end,
        () = work(answers, work_rx, reply_tx, cancelled) => Ok(()),
        end = write(replies, reply_rx, place) => end,
    }
}

async fn write(
    mut replies: ReplySender,
    mut queue: mpsc::Receiver<(u32, Reply)>,
    place: &Place,
) -> Result<(), ExchangeError> {
    while let Some((id, reply)) = queue.recv().await {
        match tokio::time::timeout(WRITE_DEADLINE, replies.send(id, &reply)).await {
            Ok(sent) => sent?,
            Err(_) => {
                tracing::debug!("a peer took nothing for {} s", WRITE_DEADLINE.as_secs());
                return Ok(());
            }
        }
        if matches!(reply, Reply::Chunk(_)) {
            place.chunk_sent(clock::now());
        }
    }
    Ok(())
}

/// Reads chunks and manifests in the order of the requests, a few ahead of the wire.
async fn work(
    answers: Arc<Answers>,
    queue: mpsc::Receiver<(u32, Request)>,
    replies: mpsc::Sender<(u32, Reply)>,
    cancelled: Cancelled,
) {
    let requests = stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|r| (r, queue))
    });
    let ready = requests
        .filter(|(id, _)| {
            let wanted = !cancelled
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id);
            std::future::ready(wanted)
        })
        .map(|(id, request)| {
            let answers = answers.clone();
            async move { (id, answer(&answers, request).await) }
        })
        .buffered(READ_AHEAD);
    let mut ready = std::pin::pin!(ready);
    while let Some((id, reply)) = ready.next().await {
        if replies.send((id, reply)).await.is_err() {
            return;
        }
    }
}

async fn answer(answers: &Arc<Answers>, request: Request) -> Reply {
    match request {
        Request::Chunk { hash, .. } => answers.chunk(ChunkHash::from_bytes(hash)).await,
        Request::Manifest { address, offset } => {
            let address = Address::from_bytes(address);
            answers.manifest(address, offset).await
        }
        _ => Reply::NotFound,
    }
}

struct Reader<'a> {
    answers: Arc<Answers>,
    tasks: &'a Tasks,
    work: mpsc::Sender<(u32, Request)>,
    replies: mpsc::Sender<(u32, Reply)>,
    cancelled: Cancelled,
}

impl Reader<'_> {
    async fn read(self, mut requests: RequestReceiver) -> Result<(), ExchangeError> {
        loop {
            let next = tokio::time::timeout(IDLE_DEADLINE, requests.next()).await;
            let Ok(next) = next else {
                tracing::debug!("a stream was idle and is closed");
                return Ok(());
            };
            match next? {
                None => return Ok(()),
                Some((_, Request::Cancel { target })) => self.cancel(target),
                Some((id, Request::Join { manifest, .. })) => {
                    if !self.join(id, ManifestId::from_bytes(manifest)).await {
                        return Ok(());
                    }
                }
                Some((_, Request::Interest(_) | Request::Got { .. })) => {}
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

    /// Answers a join, and tells of news from then on. False when the stream has ended.
    async fn join(&self, id: u32, manifest: ManifestId) -> bool {
        let live = self.answers.live(&manifest);
        let told = live.as_ref().map_or(0, |live| live.got_count());
        let reply = self.answers.have(manifest).await;
        if self.replies.send((id, reply)).await.is_err()
            || self.replies.send((0, Reply::Unchoke)).await.is_err()
        {
            return false;
        }
        let Some(live) = live else { return true };
        let replies = self.replies.clone();
        self.tasks.spawn("news", async move {
            tell_news(&live, told, &replies).await;
            Ok::<(), Infallible>(())
        });
        true
    }
}

async fn tell_news(live: &LiveHave, mut told: usize, replies: &mpsc::Sender<(u32, Reply)>) {
    let mut count = live.watch_count();
    loop {
        let indices = live.got_since(told, MAX_GOT);
        if indices.is_empty() {
            if count.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(NEWS_PACE).await;
            continue;
        }
        told += indices.len();
        if replies.send((0, Reply::Got { indices })).await.is_err() {
            return;
        }
    }
}
