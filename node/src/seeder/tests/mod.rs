//! Streams, served over pipes in memory.

mod answering;
mod files;
mod hostile;
mod news;
mod swarming;

use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use casnode_cas::{Claim, HaveBitmap, ImportOptions, Imported, Manifest, Store, import_reader};
use casnode_dht::{
    Multiaddr, PeerId,
    exchange::{
        Reply, ReplyReceiver, ReplySender, Request, RequestReceiver, RequestSender, ask_over,
        serve_over,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{budget::MemoryBudget, download::Downloads, seeding::Seeding, tasks::Tasks};

/// Longer than anything takes here, but for what hangs.
const LONG: Duration = Duration::from_secs(60);

/// Bytes of a pipe that nobody waits for.
const WIDE: usize = 1 << 20;

/// Several chunks, the last one short; a manifest in one part.
fn import(store: &Store) -> Imported {
    import_bytes(store, 700_000)
}

fn import_bytes(store: &Store, count: u32) -> Imported {
    let bytes: Vec<u8> = (0..count)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let mut progress = |_, _| std::ops::ControlFlow::Continue(());
    let options = ImportOptions::default();
    import_reader(store, &mut &bytes[..], None, &options, &mut progress).unwrap()
}

fn seeding() -> (Arc<Seeding>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Arc::new(Seeding::open(dir.path()).unwrap()), dir)
}

/// Everybody is somewhere.
struct Book;

impl AddressBook for Book {
    fn addresses_of(&self, _: PeerId) -> swarm::Addresses<'_> {
        Box::pin(async { vec!["/ip4/192.0.2.7/tcp/4101".parse().unwrap()] })
    }

    fn tellable_to(&self, _: &PeerId, addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addrs
    }
}

/// A node that serves.
struct Server {
    seeder: Arc<Seeder>,
    downloads: Arc<Downloads>,
    seeding: Arc<Seeding>,
    _dir: TempDir,
    places: Arc<Places>,
    tasks: Tasks,
}

impl Server {
    fn new(store: &Store) -> Self {
        let downloads: Arc<Downloads> = Arc::default();
        let (seeding, dir) = seeding();
        let answers = Answers::new(store.clone(), downloads.clone(), seeding.clone(), 1 << 20);
        Self {
            seeder: Arc::new(Seeder {
                ahead: Share::of(MemoryBudget::default().shares().read_ahead_bytes),
                answers: Arc::new(answers),
                swarms: Arc::default(),
                book: Arc::new(Book),
            }),
            downloads,
            seeding,
            _dir: dir,
            places: Arc::new(Places::new(Profile::Home, clock::now())),
            tasks: Tasks::new(),
        }
    }

    /// From now on slots are given to others when their turn has come. Without that, to those who join alone.
    fn start_choker(&self) {
        let swarms = self.seeder.swarms.clone();
        let choking = swarm::choke(swarms, self.seeding.clone(), self.downloads.clone());
        self.tasks.spawn("choker", choking);
    }

    /// A store with one file, and a node that serves it.
    fn with_file() -> (Self, Manifest) {
        let store = Store::in_memory().unwrap();
        let manifest = import(&store).manifest;
        (Self::new(&store), manifest)
    }

    /// A peer's stream, over a pipe that holds `pipe_bytes`.
    async fn open(&self, pipe_bytes: usize) -> Peer {
        let (here, there) = tokio::io::duplex(pipe_bytes);
        let (asker, server) = tokio::join!(ask_over(here), serve_over(there));
        let ((ask, hear), (requests, replies)) = (asker.unwrap(), server.unwrap());
        let id = PeerId::random();
        let end = self.serve(id, requests, replies);
        Peer {
            id,
            ask,
            hear,
            told: VecDeque::new(),
            end,
        }
    }

    /// A stream whose bytes are the caller's, with a join and two requests for a chunk on their way; and how it ends.
    async fn open_raw(
        &self,
        manifest: &Manifest,
    ) -> (DuplexStream, mpsc::Receiver<Result<(), End>>) {
        const HELLO: [u8; 10] = [6, 0, 0, 0, 0x80, 0, 0, 0, 0, 1];
        let (asker, mut wire) = tokio::io::duplex(WIDE);
        wire.write_all(&HELLO).await.unwrap();
        let (mut ask, _hear) = ask_over(asker).await.unwrap();
        let nothing = HaveBitmap::new(manifest.chunks().len());
        ask.send(1, &join(manifest, &nothing)).await.unwrap();
        for id in 2..=3 {
            ask.send(id, &chunk(manifest, 0)).await.unwrap();
        }
        ask.close().await.unwrap();
        let mut said = Vec::new();
        wire.read_to_end(&mut said).await.unwrap();

        let (mut here, there) = tokio::io::duplex(512);
        let (requests, replies) = serve_over(there).await.unwrap();
        let end = self.serve(PeerId::random(), requests, replies);
        here.read_exact(&mut [0; HELLO.len()]).await.unwrap();
        here.write_all(&said).await.unwrap();
        (here, end)
    }

    fn serve(
        &self,
        id: PeerId,
        requests: RequestReceiver,
        replies: ReplySender,
    ) -> mpsc::Receiver<Result<(), End>> {
        let token = CancellationToken::new();
        let place = self.places.take(id, token, clock::now()).unwrap();
        let (seeder, (ended, end)) = (self.seeder.clone(), mpsc::channel(1));
        self.tasks.spawn("serve", async move {
            let outcome = stream::serve(&seeder, id, requests, replies, &place).await;
            let _ = ended.send(outcome).await;
            Ok::<(), Infallible>(())
        });
        end
    }

    /// A peer that has joined with nothing.
    async fn join(&self, manifest: &Manifest) -> Peer {
        let mut peer = self.open(WIDE).await;
        let nothing = HaveBitmap::new(manifest.chunks().len());
        let reply = peer.join(manifest, &nothing).await;
        assert!(matches!(reply, Reply::Have { .. }), "{reply:?}");
        peer
    }

    /// So many peers that have joined with nothing, a few more than are served.
    async fn crowd(&self, manifest: &Manifest, count: usize) -> Vec<Peer> {
        let mut peers = Vec::new();
        for _ in 0..count {
            peers.push(self.join(manifest).await);
        }
        peers
    }
}

/// A peer with a stream to the server.
struct Peer {
    id: PeerId,
    ask: RequestSender,
    hear: ReplyReceiver,
    /// What it was told unasked and has not looked at.
    told: VecDeque<Reply>,
    end: mpsc::Receiver<Result<(), End>>,
}

impl Peer {
    async fn send(&mut self, id: u32, request: Request) {
        self.ask.send(id, &request).await.unwrap();
    }

    /// Asks, and waits for the answer.
    async fn ask(&mut self, id: u32, request: Request) -> Reply {
        self.send(id, request).await;
        let (answered, reply) = self.answer().await;
        assert_eq!(answered, id);
        reply
    }

    /// The next answer; what it is told unasked waits.
    async fn answer(&mut self) -> (u32, Reply) {
        loop {
            match self.heard().await {
                (0, told) => self.told.push_back(told),
                answer => return answer,
            }
        }
    }

    /// The next thing that it is told unasked.
    async fn news(&mut self) -> Reply {
        if let Some(told) = self.told.pop_front() {
            return told;
        }
        let (id, told) = self.heard().await;
        assert_eq!(id, 0, "{told:?}");
        told
    }

    async fn heard(&mut self) -> (u32, Reply) {
        let next = timeout(LONG, self.hear.next()).await.expect("it hangs");
        next.unwrap().expect("the stream was closed")
    }

    async fn join(&mut self, manifest: &Manifest, has: &HaveBitmap) -> Reply {
        self.ask(u32::MAX, join(manifest, has)).await
    }

    async fn fetch(&mut self, manifest: &Manifest, index: u32) -> Reply {
        self.ask(index + 1, chunk(manifest, index)).await
    }

    /// How its stream ended on the server's side, which takes no longer than this.
    async fn end_within(&mut self, patience: Duration) -> Result<(), End> {
        let end = timeout(patience, self.end.recv()).await;
        end.expect("the stream is still served").unwrap()
    }

    async fn end(&mut self) -> Result<(), End> {
        self.end_within(LONG).await
    }
}

fn join(manifest: &Manifest, has: &HaveBitmap) -> Request {
    Request::Join {
        manifest: *manifest.id().as_bytes(),
        chunks: u32::try_from(has.len()).unwrap(),
        bits: has.to_wire().into(),
    }
}

fn begin(manifest: &Manifest, early_bytes: u32) -> Request {
    Request::Begin {
        address: *manifest.address().as_bytes(),
        early_bytes,
    }
}

fn chunk(manifest: &Manifest, index: u32) -> Request {
    let hash = *manifest.chunks()[index as usize].hash.as_bytes();
    Request::Chunk { index, hash }
}
