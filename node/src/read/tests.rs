//! Files that are here, in whole and in part, read by a node without a network.

use casnode_cas::{ChunkHash, ChunkRef, ChunkerParams, Claim, ProofBuilder, Store};
use proptest::{prelude::*, sample::Index};
use rand::{RngCore, SeedableRng};

use super::*;
use crate::config::NodeConfig;

/// A file cut at these lengths, again and again.
pub(super) fn cut(bytes: &[u8], lengths: &[usize]) -> Manifest {
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    let params = ChunkerParams::FastCdc {
        min_bytes: 1 << 16,
        avg_bytes: 1 << 18,
        max_bytes: 1 << 20,
    };
    let chunks = pieces(bytes, lengths).map(|piece| ChunkRef {
        hash: ChunkHash::of(piece),
        len_bytes: u32::try_from(piece.len()).unwrap(),
    });
    Manifest::new(params, chunks.collect(), proof.finish()).unwrap()
}

fn pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths.iter().cycle().map_while(move |length| {
        let (piece, after) = rest.split_at(rest.len().min(*length));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Enters a file, whole or as a download that was broken off before its last step.
fn enter(store: &Store, bytes: &[u8], lengths: &[usize], is_whole: bool) -> Manifest {
    let manifest = cut(bytes, lengths);
    store
        .begin_partial(&manifest, Some("name"), Claim::Own)
        .unwrap();
    for piece in pieces(bytes, lengths) {
        store.put(&ChunkHash::of(piece), piece).unwrap();
    }
    store.commit().unwrap();
    if is_whole {
        store
            .complete_partial(&manifest.address(), Claim::Own)
            .unwrap();
    }
    manifest
}

/// Bytes that repeat nowhere.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::rngs::SmallRng::seed_from_u64(7).fill_bytes(&mut bytes);
    bytes
}

async fn node(dir: &std::path::Path) -> Arc<Node> {
    let config = NodeConfig {
        data_dir: dir.to_owned(),
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

async fn open(node: &Arc<Node>, address: Address) -> Result<OpenFile, ApiError> {
    let (events, _queue) = EventSink::new();
    OpenFile::open(node, address, ReadOptions::default(), &events).await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_range_of_however_cut_a_file_is_read_it_is_its_bytes(
        size in 1usize..3 << 20,
        lengths in prop::collection::vec(1usize << 16..1 << 20, 1..5),
        ranges in prop::collection::vec(any::<(Index, Index)>(), 1..6),
        is_whole in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), casnode_cas::StoreConfig::default()).unwrap());
        runtime().block_on(async {
            let node = node(dir.path()).await;
            let bytes = content(size);
            let manifest = enter(&node.store, &bytes, &lengths, is_whole);
            let file = open(&node, manifest.address()).await.unwrap();
            assert_eq!((file.size_bytes(), file.name()), (size as u64, Some("name")));
            for (a, b) in ranges {
                let (a, b) = (a.index(size + 1), b.index(size + 1));
                let range = a.min(b)..a.max(b);
                let read = file.read_all(range.start as u64..range.end as u64).await.unwrap();
                assert!(read == bytes[range.clone()], "{range:?} of {size}");
            }
            drop(file);
            node.shutdown().await;
        });
    }
}

#[test]
fn what_is_not_here_and_cannot_be_had_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), casnode_cas::StoreConfig::default()).unwrap());
    runtime().block_on(async {
        let node = node(dir.path()).await;
        let error = open(&node, Address::from_bytes([9; 32])).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        let bytes = content(2 << 20);
        let manifest = cut(&bytes, &[1 << 18]);
        node.store
            .begin_partial(&manifest, None, Claim::Own)
            .unwrap();
        let piece = &bytes[..1 << 18];
        node.store.put(&ChunkHash::of(piece), piece).unwrap();
        let file = open(&node, manifest.address()).await.unwrap();
        let read = file.read_all(5..1 << 18).await.unwrap();
        assert!(read == bytes[5..1 << 18], "what is here of it is read");
        file.read_all(0..1 << 20).await.unwrap_err();
        drop(file);
        node.shutdown().await;
    });
}
