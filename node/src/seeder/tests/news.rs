//! In the end a peer hears of everything that is here, however it came here, and of each chunk once.

use super::*;
use crate::seeding::SeedPolicy;

fn told_of(reply: &Reply) -> HaveBitmap {
    let Reply::Have { chunks, bits } = reply else {
        panic!("no bitmap: {reply:?}")
    };
    HaveBitmap::from_wire(bits, *chunks as usize).unwrap()
}

/// A file of so many chunks that there is no hurry to tell of all of them, in no store of a server.
fn file(chunks: u32) -> (Store, Manifest) {
    let source = Store::in_memory().unwrap();
    let manifest = import_bytes(&source, chunks * (256 << 10)).manifest;
    (source, manifest)
}

impl Server {
    /// Somebody joins with nothing; what it is told.
    async fn joined(&self, manifest: &Manifest) -> (Peer, HaveBitmap) {
        let mut peer = self.open(4 << 20).await;
        let nothing = HaveBitmap::new(manifest.chunks().len());
        let told = told_of(&peer.join(manifest, &nothing).await);
        (peer, told)
    }
}

impl Peer {
    /// Takes news until everything is told; in ten minutes nothing else comes.
    async fn hears_all(&mut self, told: &mut HaveBitmap) {
        while !told.is_complete() {
            let reply = match self.told.pop_front() {
                Some(reply) => reply,
                None => {
                    let next = timeout(10 * LONG, self.hear.next()).await;
                    let Ok(next) = next else {
                        panic!("it was told of {} of {}", told.count(), told.len())
                    };
                    next.unwrap().expect("the stream was closed").1
                }
            };
            if let Reply::Got { indices } = reply {
                for index in indices {
                    assert!(told.set(index as usize), "{index} was told twice");
                }
            }
        }
    }

    /// Takes all that it was told of.
    async fn takes(&mut self, manifest: &Manifest, told: &HaveBitmap) {
        for index in told.iter_ones() {
            let index = u32::try_from(index).unwrap();
            let reply = self.fetch(manifest, index).await;
            assert!(matches!(reply, Reply::Chunk(_)), "{reply:?}");
            let indices = vec![index];
            self.send(0, Request::Got { indices }).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_of_a_file_that_is_stored_hides_nothing_when_it_is_broken_off() {
    let (store, manifest) = file(16);
    let server = Server::new(&store);
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    live.set(0);
    let (mut peer, mut told) = server.joined(&manifest).await;
    drop((live, running));
    peer.hears_all(&mut told).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_second_while_a_whole_download_runs_hears_of_everything() {
    let (store, manifest) = file(80);
    store.remove_file(&manifest.address()).unwrap().unwrap();
    let (source, _) = file(80);
    for chunk in manifest.chunks() {
        let bytes = source.get(&chunk.hash).unwrap().unwrap();
        store.put(&chunk.hash, &bytes).unwrap();
    }
    let server = Server::new(&store);
    let (live, _running) = server.downloads.pretend(&manifest);
    live.believe();
    (0..manifest.chunks().len()).for_each(|index| live.set(index));
    let (first, told) = server.joined(&manifest).await;
    assert!(told.is_complete(), "it is alone, and there is little");
    let (mut second, mut told) = server.joined(&manifest).await;
    assert!(!told.is_complete());
    second.takes(&manifest, &told).await;
    drop(first); // now nobody else has anything
    second.hears_all(&mut told).await;
}

#[tokio::test(start_paused = true)]
async fn a_get_beside_super_seeding_hides_nothing() {
    let (store, manifest) = file(80);
    let server = Server::new(&store);
    let (first, _) = server.joined(&manifest).await;
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    (0..10).for_each(|index| live.set(index));
    let (mut second, mut told) = server.joined(&manifest).await;
    drop((running, live, first));
    second.hears_all(&mut told).await;
}

/// A server with a file begun, its first chunk here; and the source of the rest.
fn with_a_part() -> (Store, Manifest, Store, Server) {
    let (source, manifest) = file(16);
    let store = Store::in_memory().unwrap();
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    put(&source, &manifest, &store, 0);
    let server = Server::new(&store);
    (source, manifest, store, server)
}

fn put(source: &Store, manifest: &Manifest, store: &Store, index: usize) {
    let hash = manifest.chunks()[index].hash;
    let bytes = source.get(&hash).unwrap().unwrap();
    store.put(&hash, &bytes).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_short_download_completes_is_told() {
    let (source, manifest, store, server) = with_a_part();
    let (mut peer, mut told) = server.joined(&manifest).await;
    assert_eq!(told.count(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    for index in 0..manifest.chunks().len() {
        put(&source, &manifest, &store, index);
        live.set(index);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap();
    drop((live, running));
    peer.hears_all(&mut told).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_without_a_download_is_told() {
    let (source, manifest, store, server) = with_a_part();
    let (mut peer, mut told) = server.joined(&manifest).await;
    for index in 1..manifest.chunks().len() {
        put(&source, &manifest, &store, index);
    }
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap();
    peer.hears_all(&mut told).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_a_download_hears_at_once_of_what_another_way_brought() {
    let (source, manifest, store, server) = with_a_part();
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    live.set(0);
    let (mut peer, mut told) = server.joined(&manifest).await;
    assert_eq!(told.count(), 1);
    for index in 1..manifest.chunks().len() {
        put(&source, &manifest, &store, index);
    }
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap();
    let began = clock::now();
    drop((live, running));
    peer.hears_all(&mut told).await;
    assert!(clock::now() - began < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_download_that_begins_anew_tells_nothing_twice() {
    let (_source, manifest, _store, server) = with_a_part();
    let count = manifest.chunks().len();
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    (0..8).for_each(|index| live.set(index));
    let (mut peer, mut told) = server.joined(&manifest).await;
    assert_eq!(told.count(), 8);
    drop((live, running));
    let (live, _running) = server.downloads.pretend(&manifest);
    live.believe();
    (0..count).rev().for_each(|index| live.set(index));
    peer.hears_all(&mut told).await; // it fails when a chunk is told twice
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_before_something_is_proven() {
    let (_source, manifest, _store, server) = with_a_part();
    let (live, _running) = server.downloads.pretend(&manifest);
    (0..8).for_each(|index| live.set(index));
    let (mut peer, mut told) = server.joined(&manifest).await;
    assert_eq!(told.count(), 0);
    (8..16).for_each(|index| live.set(index));
    tokio::time::sleep(LONG).await;
    while let Ok(next) = timeout(LONG, peer.hear.next()).await {
        let reply = next.unwrap().unwrap().1;
        assert!(!matches!(reply, Reply::Got { .. }), "{reply:?}");
    }
    live.believe();
    peer.hears_all(&mut told).await;
}

/// Its seeding was over before this get of it.
#[tokio::test(start_paused = true)]
async fn what_is_being_fetched_is_served_although_an_earlier_seeding_is_over() {
    let (store, manifest) = file(16);
    let server = Server::new(&store);
    let (address, size) = (manifest.address(), manifest.size_bytes());
    let policy = SeedPolicy::None;
    server.seeding.set(address, policy, size, 1).unwrap();
    let (live, running) = server.downloads.pretend(&manifest);
    live.believe();
    (0..4).for_each(|index| live.set(index));
    server.start_choker();
    let (mut peer, _) = server.joined(&manifest).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let request = Request::Manifest {
        address: *address.as_bytes(),
        offset: 0,
    };
    let reply = peer.ask(99, request).await;
    assert!(matches!(reply, Reply::Manifest { .. }), "{reply:?}");
    assert!(matches!(peer.fetch(&manifest, 0).await, Reply::Chunk(_)));
    drop((live, running));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(peer.fetch(&manifest, 1).await, Reply::NotFound);
}
