//! One stream, served over a pipe in memory.

use bytes::Bytes;
use casnode_cas::{HaveBitmap, ImportOptions, Imported, Store, import_reader};
use casnode_dht::{
    PeerId,
    exchange::{Reply, ReplyReceiver, Request, RequestSender, ask_over, serve_over},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::tasks::Tasks;

/// Several chunks, the last one short; a manifest in one part.
fn import(store: &Store) -> Imported {
    let bytes: Vec<u8> = (0..700_000u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let mut progress = |_, _| std::ops::ControlFlow::Continue(());
    let options = ImportOptions::default();
    import_reader(store, &mut &bytes[..], None, &options, &mut progress).unwrap()
}

fn answers(store: &Store) -> Arc<Answers> {
    Arc::new(Answers::new(store.clone(), Arc::default()))
}

struct Served {
    ask: RequestSender,
    hear: ReplyReceiver,
    tasks: Tasks,
}

impl Served {
    /// A stream to a node with this store, over a pipe that holds `pipe_bytes`.
    async fn start(store: &Store, pipe_bytes: usize) -> Self {
        let (here, there) = tokio::io::duplex(pipe_bytes);
        let (asker, server) = tokio::join!(ask_over(here), serve_over(there));
        let ((ask, hear), (requests, replies)) = (asker.unwrap(), server.unwrap());
        let tasks = Tasks::new();
        let polls = tasks.child();
        let places = Arc::new(Places::default());
        let end = CancellationToken::new();
        let place = places.take(PeerId::random(), end, clock::now()).unwrap();
        let answers = answers(store);
        tasks.spawn("serve", async move {
            stream::serve(answers, requests, replies, &polls, &place).await
        });
        Self { ask, hear, tasks }
    }

    async fn ask(&mut self, id: u32, request: Request) -> Reply {
        self.ask.send(id, &request).await.unwrap();
        let (answered, reply) = self.hear.next().await.unwrap().unwrap();
        assert_eq!(answered, id);
        reply
    }
}

fn manifest_bytes(reply: Reply) -> Option<Bytes> {
    match reply {
        Reply::Manifest { bytes, .. } => Some(bytes),
        _ => None,
    }
}

#[tokio::test]
async fn a_file_is_served_whole() {
    let store = Store::in_memory().unwrap();
    let manifest = import(&store).manifest;
    let mut served = Served::start(&store, 1 << 20).await;
    let request = Request::Manifest {
        address: *manifest.address().as_bytes(),
        offset: 0,
    };
    let Reply::Manifest { total_bytes, bytes } = served.ask(1, request).await else {
        panic!("no manifest")
    };
    assert_eq!(
        (&bytes, total_bytes),
        (manifest.encode(), bytes.len() as u64)
    );
    let nothing = HaveBitmap::new(manifest.chunks().len());
    let request = Request::Join {
        manifest: *manifest.id().as_bytes(),
        chunks: manifest.chunk_count(),
        bits: nothing.to_wire().into(),
    };
    let Reply::Have { chunks, bits } = served.ask(2, request).await else {
        panic!("no bitmap")
    };
    assert_eq!(chunks, manifest.chunk_count());
    let have = HaveBitmap::from_wire(&bits, chunks as usize).unwrap();
    assert!(have.is_complete());
    for (id, chunk) in (3..).zip(manifest.chunks()) {
        let hash = *chunk.hash.as_bytes();
        let index = id - 3;
        let Reply::Chunk(bytes) = served.ask(id, Request::Chunk { index, hash }).await else {
            panic!("no chunk")
        };
        assert_eq!(casnode_cas::ChunkHash::of(&bytes), chunk.hash);
    }
    let unknown = Request::Chunk {
        index: 0,
        hash: [9; 32],
    };
    assert!(matches!(served.ask(99, unknown).await, Reply::NotFound));
}

#[tokio::test]
async fn a_manifest_is_read_once_and_not_served_when_its_file_is_gone() {
    let store = Store::in_memory().unwrap();
    let address = import(&store).address;
    let answers = answers(&store);
    let first = manifest_bytes(answers.manifest(address, 0).await).unwrap();
    let rest = manifest_bytes(answers.manifest(address, 10).await).unwrap();
    assert_eq!(first.slice(10..), rest);
    assert_eq!(
        first.slice(10..).as_ptr(),
        rest.as_ptr(),
        "it was read again"
    );
    store.remove_file(&address).unwrap().unwrap();
    assert!(manifest_bytes(answers.manifest(address, 0).await).is_none());
}

#[tokio::test]
async fn an_offset_behind_the_end_is_not_found() {
    let store = Store::in_memory().unwrap();
    let imported = import(&store);
    let answers = answers(&store);
    let total = imported.manifest.encode().len() as u64;
    let last = manifest_bytes(answers.manifest(imported.address, total - 1).await).unwrap();
    assert_eq!(last.len(), 1);
    for offset in [total, total + 1, u64::MAX] {
        let reply = answers.manifest(imported.address, offset).await;
        assert!(matches!(reply, Reply::NotFound), "{offset}");
    }
}

#[tokio::test]
async fn the_bitmap_of_an_unfinished_file_is_made_once_for_many_polls() {
    let (source, store) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    let manifest = import(&source).manifest;
    store.begin_partial(&manifest, None).unwrap();
    let chunk = manifest.chunks()[1].hash;
    let bytes = source.get(&chunk).unwrap().unwrap();
    store.put(&chunk, &bytes).unwrap();
    store.commit().unwrap();
    let answers = answers(&store);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let Reply::Have { chunks, bits } = answers.have(manifest.id()).await else {
            panic!("no bitmap")
        };
        let have = HaveBitmap::from_wire(&bits, chunks as usize).unwrap();
        assert_eq!(have.iter_ones().collect::<Vec<_>>(), [1]);
        heard.push(bits);
    }
    assert_eq!(heard[0].as_ptr(), heard[1].as_ptr(), "it was made again");
    store.remove_file(&manifest.address()).unwrap().unwrap();
    let gone = answers.have(manifest.id()).await;
    assert!(matches!(gone, Reply::NotFound));
}
