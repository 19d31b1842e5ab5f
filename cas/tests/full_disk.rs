//! A store on a small file system that is really full. Needs the right to mount a tmpfs; without it the
//! same is tested over a medium that fails on purpose.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use casnode_cas::{
    Address, Assembly, ChunkHash, ImportError, ImportOptions, Imported, OutputOptions, Store,
    StoreConfig, import_reader,
};
use rand::{RngCore, SeedableRng};

/// A mounted tmpfs; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let done = command.output().ok()?.status.success();
        done.then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn import(store: &Store, bytes: &[u8]) -> Result<Imported, ImportError> {
    let mut reader = bytes;
    let mut go_on = |_: u64, _: Option<u64>| ControlFlow::Continue(());
    import_reader(
        store,
        &mut reader,
        None,
        &ImportOptions::default(),
        &mut go_on,
    )
}

fn fill_rest(folder: &Path) {
    let mut file = fs::File::create(folder.join("others")).unwrap();
    let block = vec![1; 64 * 1024];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path(), 48) else {
        println!("skipped: no right to mount");
        return;
    };
    let dir = small.0.join("store");
    let open = || Store::open(&dir, StoreConfig::default()).unwrap();
    let store = open();
    let mut kept: Vec<(Address, Vec<u8>)> = Vec::new();
    let error = loop {
        let bytes = content(kept.len() as u64, 3_000_000);
        match import(&store, &bytes) {
            Ok(done) => kept.push((done.address, bytes)),
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(kept.len() >= 8, "only {} files fitted", kept.len());
    // Now others take the rest as well: what is here must stay readable, and removable.
    fill_rest(&small.0);
    let whole = |store: &Store, (address, bytes): &(Address, Vec<u8>)| {
        let manifest = store.manifest(address).unwrap().unwrap();
        let chunks = manifest
            .chunks()
            .iter()
            .map(|chunk| store.get(&chunk.hash).unwrap().unwrap());
        assert!(chunks.flatten().eq(bytes.iter().copied()), "{address}");
    };
    kept.iter().for_each(|file| whole(&store, file));
    drop(store);
    let store = open();
    kept.iter().for_each(|file| whole(&store, file));
    // More than the ballast that the open has given up.
    let out = Assembly::create(
        &small.0.join("out"),
        &kept[0].0,
        6_000_000,
        &OutputOptions::default(),
    );
    assert!(out.unwrap_err().is_no_space());
    let (first, _) = kept.remove(0);
    store.remove_file(&first).unwrap().unwrap();
    fs::remove_file(small.0.join("others")).unwrap();
    let bytes = content(1000, 2_000_000);
    kept.push((import(&store, &bytes).unwrap().address, bytes));
    drop(store);
    let store = open();
    kept.iter().for_each(|file| whole(&store, file));
    assert_eq!(store.files().unwrap().len(), kept.len());
}

#[test]
fn a_full_disk_can_be_emptied_beside_an_import_that_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path(), 48) else {
        println!("skipped: no right to mount");
        return;
    };
    let store = Store::open(&small.0.join("store"), StoreConfig::default()).unwrap();
    let file = import(&store, &content(1, 2_000_000)).unwrap().address;
    // The import's chunk is in memory, and must be written before the index may forget it.
    let bytes = content(2, 20_000);
    let chunk = ChunkHash::of(&bytes);
    store.put(&chunk, &bytes).unwrap();
    fill_rest(&small.0);
    store.drop_unreferenced(&[chunk]).unwrap();
    assert!(!store.has(&chunk).unwrap());
    store.remove_file(&file).unwrap().unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0);
}
#[test]
fn a_long_change_does_not_lead_the_index_onto_a_full_disk() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path(), 64) else {
        println!("skipped: no right to mount");
        return;
    };
    let dir = small.0.join("store");
    let open = || Store::open(&dir, StoreConfig::default()).unwrap();
    let put = |store: &Store, bytes: &[u8]| {
        let hash = ChunkHash::of(bytes);
        store.put(&hash, bytes).unwrap();
        hash
    };
    let store = open();
    let hashes: Vec<ChunkHash> = (0..12_000)
        .map(|seed| put(&store, &content(seed, 1000)))
        .collect();
    store.commit().unwrap();
    drop(store);
    let store = open();
    // Others leave a little more than the index needs to be touched at all.
    let stat = rustix::fs::statvfs(&small.0).unwrap();
    let free_bytes = stat.f_bavail * stat.f_frsize;
    let others = small.0.join("others");
    let fill = usize::try_from(free_bytes - MIB - 100_000).unwrap();
    fs::write(&others, vec![1; fill]).unwrap();
    match store.drop_unreferenced(&hashes) {
        Ok(removed) => assert_eq!(removed.freed_chunks.len(), hashes.len()),
        Err(error) => assert!(error.is_no_space(), "{error}"),
    }
    fs::remove_file(&others).unwrap();
    let later = put(&store, b"there is room again");
    store.commit().unwrap();
    drop(store);
    assert!(open().has(&later).unwrap());
}
