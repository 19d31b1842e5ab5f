//! Unfinished files: what a download that was broken off left in the store.

use std::fs;
use std::path::Path;

use super::*;
use crate::Assembly;

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreConfig::default()).unwrap()
}

/// Begins a file, and writes its first `chunks` chunks.
fn begin(store: &Store, manifest: &Manifest, bytes: &[u8], chunks: usize) -> Assembly {
    let (address, size_bytes) = (manifest.address(), manifest.size_bytes());
    let file = store.begin_unfinished(&address, size_bytes);
    let file = file.unwrap().unwrap();
    file.write_at(0, &bytes[..chunks * CHUNK]).unwrap();
    file
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn count_here(store: &Store, manifest: &Manifest) -> usize {
    store.have(manifest).unwrap().iter_ones().count()
}

#[test]
fn what_is_whole_becomes_the_stores_own_and_a_crash_before_leaves_it_to_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(1, 100 * CHUNK);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let address = manifest.address();
    let store = open(dir.path());
    store
        .begin_partial(&manifest, Some("name"), Claim::Own)
        .unwrap();
    drop(begin(&store, &manifest, &bytes, 100));
    // As a crash between the second name and the entry leaves it.
    let clones = dir.path().join("clones");
    fs::create_dir(&clones).unwrap();
    fs::hard_link(store_file(dir.path()), clones.join("80000000")).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(files_in(&clones), 0);
    assert_eq!(count_here(&store, &manifest), 100, "it is lent");
    let entry = store
        .add_unfinished(&manifest, None, Claim::Pinned)
        .unwrap()
        .unwrap();
    assert_eq!(
        (entry.state, entry.is_pinned()),
        (FileState::Complete, true)
    );
    assert_eq!(entry.name.as_deref(), Some("name"));
    assert!(!store.has_unfinished(&address));
    assert!(
        store
            .add_unfinished(&manifest, None, Claim::Pinned)
            .unwrap()
            .is_none()
    );
    drop(store);
    Store::rebuild_index(dir.path()).unwrap();
    assert_eq!(read_file(&open(dir.path()), &address).unwrap(), bytes);
}

/// The one unfinished file of a store.
fn store_file(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir.join("unfinished")).unwrap();
    files.next().unwrap().unwrap().path()
}

#[test]
fn it_counts_and_goes_with_its_file_but_not_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(2, 1000 * CHUNK);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let store = open(dir.path());
    let empty = store.stats().unwrap().disk_bytes;
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let file = begin(&store, &manifest, &bytes, 1000);
    file.flush().unwrap();
    file.file().sync_data().unwrap();
    assert!(store.stats().unwrap().disk_bytes >= empty + bytes.len() as u64);
    store.drop_unfinished(&manifest.address());
    assert!(store.has_unfinished(&manifest.address()), "it is in use");
    drop(file);
    store.remove_file(&manifest.address()).unwrap();
    assert_eq!(files_in(&dir.path().join("unfinished")), 0);
    assert!(store.stats().unwrap().disk_bytes < empty + bytes.len() as u64);
}

#[test]
fn an_opened_store_believes_nothing_of_it_unread_and_removes_what_nobody_wants() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, other) = (bytes_of(3, 100 * CHUNK), bytes_of(4, 100 * CHUNK));
    let (manifest, unwanted) = (
        manifest_of(SMALL_CHUNKS, &bytes),
        manifest_of(SMALL_CHUNKS, &other),
    );
    let store = open(dir.path());
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let mut torn = bytes.clone();
    torn[CHUNK + 1] ^= 1;
    drop(begin(&store, &manifest, &torn, 100));
    drop(begin(&store, &unwanted, &other, 100));
    drop(store);
    let store = open(dir.path());
    assert!(store.has_unfinished(&manifest.address()));
    assert!(!store.has_unfinished(&unwanted.address()));
    let get = |index: usize| store.get(&manifest.chunks()[index].hash).unwrap();
    assert!(get(0).is_some());
    assert!(get(1).is_none());
    assert_eq!(count_here(&store, &manifest), 99);
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap_err();
}

#[test]
fn who_goes_on_with_it_has_what_was_lent_before_and_few_files_are_held_open() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(5, 100 * CHUNK);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let store = open(dir.path());
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let lend = |file: &Assembly| {
        let chunk = &manifest.chunks()[0];
        store.lend(&chunk.hash, file.file().clone(), 0, chunk.len_bytes);
    };
    let first = begin(&store, &manifest, &bytes, 1);
    lend(&first);
    let held = std::sync::Arc::downgrade(first.file());
    drop(first);
    let second = begin(&store, &manifest, &bytes, 2);
    assert!(held.upgrade().is_none(), "it is held open");
    assert_eq!(count_here(&store, &manifest), 1);
    assert!(store.get(&manifest.chunks()[0].hash).unwrap().is_some());
    // However many are begun and broken off.
    let mut files = Vec::new();
    for seed in 0..2 * super::super::unfinished::MAX_LENT as u64 {
        let bytes = bytes_of(100 + seed, 2 * CHUNK);
        let manifest = manifest_of(SMALL_CHUNKS, &bytes);
        let file = begin(&store, &manifest, &bytes, 1);
        files.push(std::sync::Arc::downgrade(file.file()));
    }
    let held = files.iter().filter(|file| file.upgrade().is_some());
    assert!(held.count() <= super::super::unfinished::MAX_LENT);
    assert_eq!(count_here(&store, &manifest), 1, "it is written to");
    drop(second);
    let file = begin(&store, &manifest, &bytes, 0);
    let len_bytes = manifest.chunks()[0].len_bytes;
    assert!(file.leftover(0, len_bytes).unwrap() == bytes[..CHUNK]);
}
