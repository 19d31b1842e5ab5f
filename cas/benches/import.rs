//! A file into a store, and what of it does not touch the store.

use std::ops::ControlFlow;
use std::path::PathBuf;

use casnode_cas::{
    ChunkHash, Chunking, ImportOptions, Store, StoreConfig, import_file, plan_file, scan_file,
};
use divan::Bencher;
use divan::counter::BytesCount;
use tempfile::TempDir;

const FILE_BYTES: usize = 128 << 20;

const CHUNKINGS: [Chunking; 2] = [Chunking::Fixed, Chunking::FastCdc];

fn main() {
    divan::main();
}

fn go_on(_: u64, _: Option<u64>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A folder with an incompressible file in it; both go when it is dropped.
fn source() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("file");
    let mut bytes = vec![0; FILE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    std::fs::write(&path, bytes).expect("space for the file");
    (dir, path)
}

fn options(chunking: Chunking) -> ImportOptions {
    ImportOptions {
        chunking,
        ..ImportOptions::default()
    }
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), StoreConfig::default()).expect("a store")
}

/// Everything but the store.
#[divan::bench(args = CHUNKINGS, sample_count = 5)]
fn scan(bencher: Bencher<'_, '_>, chunking: Chunking) {
    let (_dir, path) = source();
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| {
            let mut on_chunk = |_: ChunkHash, _: u64, _: u32| Ok(());
            scan_file(&path, &options(chunking), &mut on_chunk, &mut go_on)
        });
}

/// Into an empty store, durable.
#[divan::bench(args = CHUNKINGS, sample_count = 5)]
fn store_new(bencher: Bencher<'_, '_>, chunking: Chunking) {
    let (_dir, path) = source();
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .with_inputs(|| tempfile::tempdir().expect("a temporary folder"))
        .bench_local_refs(|dir| {
            import_file(&open(dir), &path, &options(chunking), &mut go_on).map(|done| done.address)
        });
}

/// Into a store that has the file.
#[divan::bench(args = CHUNKINGS, sample_count = 5)]
fn store_again(bencher: Bencher<'_, '_>, chunking: Chunking) {
    let (_dir, path) = source();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(&dir);
    let import = || import_file(&store, &path, &options(chunking), &mut go_on);
    import().expect("space for the file");
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| import().map(|done| done.address));
}

/// What a quota asks before.
#[divan::bench(args = CHUNKINGS, sample_count = 5)]
fn plan(bencher: Bencher<'_, '_>, chunking: Chunking) {
    let (_dir, path) = source();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = open(&dir);
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| plan_file(&store, &path, &options(chunking), u64::MAX, &mut go_on));
}
