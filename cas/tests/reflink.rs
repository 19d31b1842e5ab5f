//! A store on a file system that shares blocks.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use casnode_cas::{
    Address, Assembly, Claim, ImportOptions, Imported, OutputOptions, Placement, SourceKind, Store,
    StoreConfig, import_file,
};
use rand::{RngCore, SeedableRng};

#[path = "../../tests/xfs.rs"]
mod xfs;

use xfs::Xfs;

const MIB: usize = 1 << 20;

fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn open(dir: &Path) -> Store {
    let mut config = StoreConfig::default();
    config.reserve_bytes = 0;
    Store::open(dir, config).unwrap()
}

fn import(store: &Store, path: &Path, placement: Placement) -> Imported {
    let options = ImportOptions {
        placement,
        ..ImportOptions::default()
    };
    import_file(store, path, &options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn read(store: &Store, address: &Address) -> Option<Vec<u8>> {
    let manifest = store.manifest(address).unwrap()?;
    let mut bytes = Vec::new();
    for chunk in manifest.chunks() {
        bytes.extend_from_slice(&store.get(&chunk.hash).unwrap()?);
    }
    Some(bytes)
}

#[test]
fn a_stored_file_shares_its_blocks_and_is_the_stores_own() {
    let Some(xfs) = Xfs::mount() else { return };
    let (folder, file) = (xfs.path().join("store"), xfs.path().join("file"));
    let bytes = content(1, 48 * MIB);
    fs::write(&file, &bytes).unwrap();
    let store = open(&folder);
    let before = xfs.free_bytes();
    let imported = import(&store, &file, Placement::Copy);
    assert_eq!(imported.new_bytes, bytes.len() as u64);
    assert!(before - xfs.free_bytes() < 4 * MIB as u64, "it was copied");
    assert_eq!(imported.entry.source.unwrap().kind, SourceKind::Clone);
    assert_eq!(
        store.usage(None).unwrap()[0].stored_bytes,
        bytes.len() as u64
    );
    assert!(
        store.disk_bytes() > bytes.len() as u64,
        "and counts all the same"
    );
    // Whatever becomes of the file.
    fs::write(&file, content(2, 48 * MIB)).unwrap();
    assert!(store.check_sources().unwrap().is_empty());
    assert!(read(&store, &imported.address).unwrap() == bytes);
    let again = import(&store, &file, Placement::Copy);
    assert_ne!(again.address, imported.address);
    drop(store);
    for rebuild in [false, true] {
        if rebuild {
            Store::rebuild_index(&folder).unwrap();
        }
        let store = open(&folder);
        assert!(read(&store, &imported.address).unwrap() == bytes);
    }
    let store = Store::open_read_only(&folder).unwrap();
    assert!(read(&store, &imported.address).unwrap() == bytes);
    drop(store);
    let store = open(&folder);
    for address in [imported.address, again.address] {
        store.remove_file(&address).unwrap();
    }
    assert_eq!(fs::read_dir(folder.join("clones")).unwrap().count(), 0);
}

#[test]
fn clones_take_over_from_files_in_place_and_leave_nothing_behind() {
    let Some(xfs) = Xfs::mount() else { return };
    let (folder, whole) = (xfs.path().join("store"), xfs.path().join("whole"));
    let bytes = content(3, 8 * MIB);
    fs::write(&whole, &bytes).unwrap();
    let part = xfs.path().join("part");
    fs::write(&part, &bytes[..4 * MIB]).unwrap();
    let store = open(&folder);
    let in_place = import(&store, &whole, Placement::InPlace);
    let cloned = import(&store, &part, Placement::Copy);
    assert_eq!(
        cloned.new_bytes,
        4 * MIB as u64,
        "it must not hang on the other file"
    );
    let copied = import(&store, &whole, Placement::Copy);
    assert_eq!(copied.address, in_place.address);
    fs::remove_file(&whole).unwrap();
    assert!(store.check_sources().unwrap().is_empty());
    assert!(read(&store, &copied.address).unwrap() == bytes);
    assert!(read(&store, &cloned.address).unwrap() == bytes[..4 * MIB]);
    // What the other needs of a clone stays when the clone's file goes.
    store.remove_file(&cloned.address).unwrap();
    assert!(read(&store, &copied.address).unwrap() == bytes);
    drop(store);
    // As a crash in the middle of an import leaves it.
    fs::write(folder.join("clones/800000ff"), b"half").unwrap();
    drop(open(&folder));
    assert!(!folder.join("clones/800000ff").exists());
}

#[test]
fn a_fetched_file_is_written_once_for_the_store_and_its_output() {
    let Some(xfs) = Xfs::mount() else { return };
    let (folder, target) = (xfs.path().join("store"), xfs.path().join("out"));
    let bytes = content(4, 48 * MIB + 77);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("file"), &bytes).unwrap();
    let source = open(&elsewhere.path().join("store"));
    let manifest = import(&source, &elsewhere.path().join("file"), Placement::Copy).manifest;
    let (address, size_bytes) = (manifest.address(), manifest.size_bytes());
    let store = open(&folder);
    assert!(store.shares_blocks_with(&xfs.path()));
    assert!(!store.shares_blocks_with(elsewhere.path()));
    if !source.shares_blocks_with(elsewhere.path()) {
        assert!(!elsewhere.path().join("store/unfinished").exists());
    }
    let before = xfs.free_bytes();
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let file = store.begin_unfinished(&address, size_bytes);
    let file = file.unwrap().unwrap();
    file.write_at(0, &bytes).unwrap();
    let options = OutputOptions::new(false, None);
    let output = Assembly::create(&target, &address, size_bytes, &options).unwrap();
    assert!(output.take_over(&file).unwrap(), "it was copied");
    output.finish().unwrap();
    drop(file);
    store.add_unfinished(&manifest, None, Claim::Own).unwrap();
    assert!(
        before - xfs.free_bytes() < 52 * MIB as u64,
        "it takes space twice"
    );
    assert!(fs::read(&target).unwrap() == bytes);
    assert!(
        store.disk_bytes() > bytes.len() as u64,
        "the store's counts"
    );
    assert!(store.disk_bytes() < 2 * bytes.len() as u64, "and once");
    // Whatever becomes of the output.
    fs::write(&target, content(5, 48 * MIB)).unwrap();
    drop(store);
    Store::rebuild_index(&folder).unwrap();
    let store = open(&folder);
    assert!(read(&store, &address).unwrap() == bytes);
    store.remove_file(&address).unwrap();
    assert_eq!(fs::read_dir(folder.join("clones")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.join("unfinished")).unwrap().count(), 0);
}
