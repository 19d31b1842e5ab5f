//! What is announced, and what is not any more.

use std::{collections::HashSet, fs, path::Path};

use casnode_cas::{Claim, ImportOptions, Imported, StoreConfig, import_reader};

use super::*;
use crate::{
    config::{NetworkConfig, NodeConfig},
    seeding::SeedPolicy,
};

/// Bytes that differ from chunk to chunk.
fn content(seed: u8, bytes: usize) -> Vec<u8> {
    let block = |i: usize| *block_hash(seed, i).as_bytes();
    (0..bytes.div_ceil(32))
        .flat_map(block)
        .take(bytes)
        .collect()
}

fn block_hash(seed: u8, i: usize) -> ChunkHash {
    let mut text = i.to_le_bytes().to_vec();
    text.push(seed);
    ChunkHash::of(&text)
}

fn import(store: &Store, bytes: &[u8]) -> Imported {
    let mut progress = |_, _| std::ops::ControlFlow::Continue(());
    let options = ImportOptions::default();
    import_reader(store, &mut &bytes[..], None, &options, &mut progress).unwrap()
}

#[test]
fn of_an_unfinished_file_only_what_is_here_is_announced() {
    let source = Store::in_memory().unwrap();
    let manifest = import(&source, &content(1, 700_000)).manifest;
    let store = Store::in_memory().unwrap();
    let entry = store.begin_partial(&manifest, None, Claim::Own).unwrap();
    assert!(Here::of(&store, &entry).unwrap().is_none());
    let chunk = manifest.chunks()[1].hash;
    store
        .put(&chunk, &source.get(&chunk).unwrap().unwrap())
        .unwrap();
    store.commit().unwrap();
    let here = Here::of(&store, &entry).unwrap().unwrap();
    assert_eq!(
        here.chunk_keys().collect::<Vec<_>>(),
        vec![*chunk.as_bytes()]
    );
}

#[test]
fn the_empty_file_is_announced() {
    let store = Store::in_memory().unwrap();
    let entry = import(&store, &[]).entry;
    assert!(Here::of(&store, &entry).unwrap().is_some());
}

/// Flips a byte of `wanted` wherever the store's packs hold it.
fn damage(data_dir: &Path, wanted: &[u8]) {
    let mut found = false;
    for pack in fs::read_dir(data_dir.join("packs")).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(wanted.len()).position(|w| w == wanted);
        if let Some(at) = at {
            bytes[at + wanted.len() / 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            found = true;
        }
    }
    assert!(found, "the manifest is in no pack");
}

async fn networked(data_dir: &Path) -> Arc<Node> {
    let config = NodeConfig {
        data_dir: data_dir.to_owned(),
        network: Some(NetworkConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            ..NetworkConfig::default()
        }),
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

#[tokio::test]
async fn what_has_come_back_stays_announced() {
    let dir = tempfile::tempdir().unwrap();
    let node = networked(dir.path()).await;
    let bytes = content(9, 700_000);
    let file = import(&node.store, &bytes);
    let hashes: Vec<ChunkHash> = file.manifest.chunks().iter().map(|c| c.hash).collect();
    let scheduled = || node.dht.as_ref().unwrap().scheduled_keys().len();
    schedule_file(&node, file.address).await.unwrap();
    assert_eq!(scheduled(), 4);
    // It was removed, and is told to be gone after it was stored again.
    node.store.remove_file(&file.address).unwrap();
    import(&node.store, &bytes);
    withdraw(&node, &[file.address], &hashes).await.unwrap();
    assert_eq!(scheduled(), 4);
    node.store.remove_file(&file.address).unwrap();
    withdraw(&node, &[file.address], &hashes).await.unwrap();
    assert_eq!(scheduled(), 0);
    schedule_file(&node, file.address).await.unwrap();
    assert_eq!(scheduled(), 0, "of what is not here nothing is announced");
    node.shutdown().await;
}

/// A file of three chunks, and one that has the first two of them.
fn overlapping(node: &Node) -> (Imported, Imported) {
    let bytes = content(9, 3 * (256 << 10));
    let fixed = |bytes: &[u8]| {
        let options = ImportOptions {
            chunking: casnode_cas::Chunking::Fixed,
            ..ImportOptions::default()
        };
        let mut progress = |_, _| std::ops::ControlFlow::Continue(());
        import_reader(&node.store, &mut &bytes[..], None, &options, &mut progress).unwrap()
    };
    (fixed(&bytes), fixed(&bytes[..2 * (256 << 10)]))
}

#[tokio::test]
async fn what_two_files_share_leaves_the_schedule_when_both_are_served_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let node = networked(dir.path()).await;
    let (one, two) = overlapping(&node);
    let scheduled = || node.dht.as_ref().unwrap().scheduled_keys().len();
    for (file, left) in [(&one, 3), (&two, 0)] {
        schedule_file(&node, one.address).await.unwrap();
        schedule_file(&node, two.address).await.unwrap();
        node.serve_for(SeedPolicy::None, file.address, file.bytes)
            .await;
        retire(&node, &file.address).await.unwrap();
        assert_eq!(scheduled(), left);
    }
    // What was scheduled by an earlier life is found at the start.
    let dht = node.dht.as_ref().unwrap();
    schedule_chunks(dht, &one.manifest).await.unwrap();
    assert_eq!(scheduled(), 3);
    reconcile(node.clone()).await.unwrap();
    assert_eq!(scheduled(), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn for_how_long_a_file_is_served_is_on_the_medium_once_it_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let node = networked(dir.path()).await;
    let file = import(&node.store, &content(3, 1000));
    node.serve_for(SeedPolicy::None, file.address, file.bytes)
        .await;
    let read = crate::seeding::Seeding::open(dir.path()).unwrap();
    assert_eq!(read.policy(&file.address), SeedPolicy::None);
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_served_no_more_leaves_the_schedule_but_for_what_others_have_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = networked(dir.path()).await;
    let (one, two) = overlapping(&node);
    let scheduled = || node.dht.as_ref().unwrap().scheduled_keys();
    for address in [one.address, two.address] {
        schedule_file(&node, address).await.unwrap();
    }
    assert_eq!(scheduled().len(), 5);
    node.serve_for(SeedPolicy::None, one.address, one.bytes)
        .await;
    retire(&node, &one.address).await.unwrap();
    let left: HashSet<Key> = scheduled().into_iter().collect();
    let of_two = two.manifest.chunks().iter().map(|c| *c.hash.as_bytes());
    let of_two: HashSet<Key> = of_two.chain([*two.address.as_bytes()]).collect();
    assert_eq!(left, of_two);
    schedule_file(&node, one.address).await.unwrap();
    reconcile(node.clone()).await.unwrap();
    file_and_chunks(node.clone(), one.manifest.clone(), None)
        .await
        .unwrap();
    assert_eq!(scheduled().len(), 3, "it does not come back");
    node.serve_for(SeedPolicy::Forever, one.address, one.bytes)
        .await;
    schedule_file(&node, one.address).await.unwrap();
    assert_eq!(scheduled().len(), 5);
    node.shutdown().await;
}

#[tokio::test]
async fn a_start_finds_what_the_schedule_lacks_and_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let node = networked(dir.path()).await;
    let dht = node.dht.as_ref().unwrap();
    let scheduled = || -> HashSet<Key> { dht.scheduled_keys().into_iter().collect() };
    let keys = |file: &Imported| {
        let keys: Vec<Key> = chunk_keys(&file.manifest).collect();
        (keys, *file.address.as_bytes())
    };
    let (chunks, whole) = keys(&import(&node.store, &content(9, 700_000)));
    // Of another file only one chunk is here.
    let elsewhere = Store::in_memory().unwrap();
    let part_of = import(&elsewhere, &content(8, 700_000));
    let (part, partial) = keys(&part_of);
    node.store
        .begin_partial(&part_of.manifest, None, Claim::Own)
        .unwrap();
    let hash = ChunkHash::from_bytes(part[1]);
    let bytes = elsewhere.get(&hash).unwrap().unwrap();
    node.store.put(&hash, &bytes).unwrap();
    node.store.commit().unwrap();
    let ours = [whole, partial, part[1]];
    let expected: HashSet<Key> = chunks.iter().copied().chain(ours).collect();
    reconcile(node.clone()).await.unwrap();
    assert_eq!(scheduled(), expected);
    dht.unschedule(vec![chunks[0], whole, part[1]])
        .await
        .unwrap();
    dht.schedule(vec![part[0], [7; 32]]).await.unwrap();
    reconcile(node.clone()).await.unwrap();
    assert_eq!(scheduled(), expected);
    node.shutdown().await;
}

#[tokio::test]
async fn a_damaged_manifest_does_not_keep_other_files_from_being_announced() {
    let dir = tempfile::tempdir().unwrap();
    let mut good = Vec::new();
    {
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        // Files are visited by address: some come after the damaged one.
        let damaged = import(&store, &vec![0; 40 << 20]); // more chunks than fit a manifest inline
        good.extend((1..8).map(|seed| import(&store, &content(seed, 1000)).address));
        drop(store);
        damage(dir.path(), damaged.manifest.encode());
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        store.manifest(&damaged.address).unwrap_err();
    }
    let node = networked(dir.path()).await;
    reconcile(node.clone()).await.unwrap();
    let scheduled: HashSet<Key> = node
        .dht
        .as_ref()
        .unwrap()
        .scheduled_keys()
        .into_iter()
        .collect();
    for address in good {
        assert!(scheduled.contains(address.as_bytes()), "{address}");
    }
    node.shutdown().await;
}
