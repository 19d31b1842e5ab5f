use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::*;
use crate::chunker::Chunking;
use crate::import::import_file;
use crate::testing::{bytes_of, go_on};

fn with(chunking: Chunking) -> ImportOptions {
    ImportOptions {
        chunking,
        ..ImportOptions::default()
    }
}

fn file_of(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// Replaces the file when half of it was read.
fn meddle(path: &Path) -> impl FnMut(u64, Option<u64>) -> ControlFlow<()> {
    let mut was_changed = false;
    move |done, total| {
        if done > total.unwrap() / 2 && !std::mem::replace(&mut was_changed, true) {
            fs::write(path, b"something else").unwrap();
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn a_plan_is_what_the_import_then_adds() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let store = Store::in_memory().unwrap();
        let options = with(chunking);
        let part = bytes_of(1, 3 << 20);
        // The beginning is here already; the rest comes twice.
        let (_dir, path) = file_of(&part);
        import_file(&store, &path, &options, &mut go_on).unwrap();
        let rest = bytes_of(2, 3 << 20);
        let (_dir, path) = file_of(&[part, rest.clone(), rest].concat());
        let before = store.stats().unwrap();
        let plan = plan_file(&store, &path, &options, u64::MAX, &mut go_on).unwrap();
        assert_eq!(store.stats().unwrap(), before, "nothing is written");
        let done = import_file(&store, &path, &options, &mut go_on).unwrap();
        let expected = ImportPlan {
            new_bytes: done.new_bytes,
            distinct_new_chunks: done.new_chunks,
            size_bytes: done.bytes,
            exceeded: false,
        };
        assert_eq!(plan, expected);
        assert!(done.saved_bytes > 3 << 20);
        let again = plan_file(&store, &path, &options, 0, &mut go_on).unwrap();
        assert_eq!((again.new_bytes, again.exceeded), (0, false));
    }
}

#[test]
fn a_plan_stops_at_the_limit() {
    let store = Store::in_memory().unwrap();
    let (_dir, path) = file_of(&bytes_of(3, 40 << 20));
    let options = with(Chunking::Fixed);
    let mut read_bytes = 0;
    let mut watch = |done, _| {
        read_bytes = done;
        ControlFlow::Continue(())
    };
    let limit = 256 << 10;
    let plan = plan_file(&store, &path, &options, limit, &mut watch).unwrap();
    assert!(plan.exceeded);
    assert_eq!((plan.new_bytes, plan.distinct_new_chunks), (512 << 10, 2));
    assert_eq!(plan.size_bytes, 40 << 20);
    assert!(read_bytes < 40 << 20, "the rest is not read");
    let exact = plan_file(&store, &path, &options, 40 << 20, &mut go_on).unwrap();
    assert_eq!((exact.new_bytes, exact.exceeded), (40 << 20, false));
}

#[test]
fn a_scan_tells_every_chunk_and_writes_nothing() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let bytes = bytes_of(4, 5_000_000);
        let (_dir, path) = file_of(&bytes);
        let mut told = Vec::new();
        let mut on_chunk = |hash, offset, len| {
            told.push((hash, offset, len));
            Ok(())
        };
        let (manifest, identity) =
            scan_file(&path, &with(chunking), &mut on_chunk, &mut go_on).unwrap();
        assert_eq!(identity, FileIdentity::of(&fs::metadata(&path).unwrap()));
        let store = Store::in_memory().unwrap();
        let done = import_file(&store, &path, &with(chunking), &mut go_on).unwrap();
        assert_eq!(manifest, done.manifest);
        assert_eq!(told.len(), manifest.chunks().len());
        for (index, (hash, offset, len)) in told.into_iter().enumerate() {
            let chunk = manifest.chunks()[index];
            assert_eq!((hash, len), (chunk.hash, chunk.len_bytes));
            assert_eq!(offset, manifest.chunk_range(index).start);
        }
    }
}

#[test]
fn an_error_of_the_callback_ends_the_scan() {
    let (_dir, path) = file_of(&bytes_of(5, 5_000_000));
    let mut on_chunk = |_: ChunkHash, offset: u64, _: u32| match offset {
        0 => Ok(()),
        _ => Err(StoreError::WritesStopped),
    };
    let options = with(Chunking::Fixed);
    let error = scan_file(&path, &options, &mut on_chunk, &mut go_on).unwrap_err();
    let is_it = matches!(error, ImportError::Store(StoreError::WritesStopped));
    assert!(is_it, "{error}");
}

#[test]
fn a_file_that_changes_has_neither_plan_nor_scan() {
    let bytes = bytes_of(6, 5_000_000);
    let options = with(Chunking::Fixed);
    let (_dir, path) = file_of(&bytes);
    let mut ignore = |_: ChunkHash, _: u64, _: u32| Ok(());
    let error = scan_file(&path, &options, &mut ignore, &mut meddle(&path)).unwrap_err();
    assert!(matches!(error, ImportError::Changed { .. }), "{error}");
    let (_dir, path) = file_of(&bytes);
    let store = Store::in_memory().unwrap();
    let error = plan_file(&store, &path, &options, u64::MAX, &mut meddle(&path)).unwrap_err();
    assert!(matches!(error, ImportError::Changed { .. }), "{error}");
}

#[test]
fn a_cancelled_plan_is_no_plan() {
    let (_dir, path) = file_of(&bytes_of(7, 5_000_000));
    let store = Store::in_memory().unwrap();
    let mut stop = |_, _| ControlFlow::Break(());
    let options = with(Chunking::Fixed);
    let error = plan_file(&store, &path, &options, u64::MAX, &mut stop).unwrap_err();
    assert!(matches!(error, ImportError::Cancelled));
}

#[test]
fn an_identity_tells_another_file_and_other_content() {
    let (dir, path) = file_of(b"content");
    let identity = || FileIdentity::of(&fs::metadata(&path).unwrap());
    let before = identity();
    assert_eq!(before, identity());
    assert_eq!(before.size_bytes, 7);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let other_time = std::time::UNIX_EPOCH + std::time::Duration::new(5, 7);
    file.set_modified(other_time).unwrap();
    assert_eq!(identity().mtime_ns, 5_000_000_007);
    assert_ne!(identity(), before);
    let other = dir.path().join("other");
    fs::write(&other, b"content").unwrap();
    fs::rename(other, &path).unwrap();
    assert_ne!(identity().inode, before.inode);
}
