//! Flipped bits, torn tails, lost and broken indexes: found, confined, rebuilt.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::store::pack::PACK_HEADER_BYTES;

fn config() -> StoreConfig {
    StoreConfig {
        pack_bytes: 1 << 20,
        reserve_bytes: 1 << 16,
        ..StoreConfig::default()
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, config()).unwrap()
}

/// Files of several sizes, spread over several packs: some chunks inline, some manifests not.
fn fill(store: &Store) -> Vec<(Address, Vec<u8>)> {
    let mut files = Vec::new();
    for (seed, len) in [
        (1, 1),
        (2, 4096),
        (3, 35_000),
        (4, 900_000),
        (5, 1_300_000),
        (6, 700_000),
    ] {
        let bytes = bytes_of(seed, len);
        let manifest = put_file(store, &bytes);
        store
            .add_file(
                &manifest,
                Some(&format!("file {seed}")),
                Claim::own(seed % 2 == 0),
            )
            .unwrap();
        files.push((manifest.address(), bytes));
    }
    files
}

fn assert_all_there(store: &Store, files: &[(Address, Vec<u8>)]) {
    for (address, bytes) in files {
        assert!(read_file(store, address).unwrap() == *bytes, "{address}");
    }
    assert_eq!(store.files().unwrap().len(), files.len());
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("packs")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

#[test]
fn everything_is_there_after_closing_and_opening() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(&open(dir.path()));
    assert!(dir.path().join("CLEAN").exists());
    let store = open(dir.path());
    assert!(!dir.path().join("CLEAN").exists());
    assert_all_there(&store, &files);
    let before = store.stats().unwrap();
    drop(store);
    assert_eq!(open(dir.path()).stats().unwrap().chunks, before.chunks);
}

#[test]
fn a_deleted_index_is_rebuilt_with_names_pins_and_references() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let files = fill(&store);
    let gone = put_file(&store, &bytes_of(9, 50_000));
    store.add_file(&gone, None, Claim::Pinned).unwrap();
    store.remove_file(&gone.address()).unwrap();
    let partial = manifest_of(Chunking::Fixed.params(None), &bytes_of(10, 300_000));
    store
        .begin_partial(&partial, Some("unfinished"), Claim::Own)
        .unwrap();
    let (entries, stats) = (store.files().unwrap(), store.stats().unwrap());
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.files().unwrap(), entries);
    let rebuilt = store.stats().unwrap();
    assert_eq!(
        (rebuilt.chunks, rebuilt.stored_bytes),
        (stats.chunks, stats.stored_bytes)
    );
    store.remove_file(&partial.address()).unwrap().unwrap();
    assert_all_there(&store, &files);
    for (address, _) in &files {
        store.remove_file(address).unwrap().unwrap();
    }
    assert_eq!(
        store.stats().unwrap().chunks,
        0,
        "references were counted right"
    );
}

#[test]
fn a_broken_index_is_put_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(&open(dir.path()));
    let db = dir.path().join("index/db");
    let whole = std::fs::read(&db).unwrap();
    for damage in 0..4 {
        let mut bytes = std::fs::read(&db).unwrap_or_else(|_| whole.clone());
        let middle = bytes.len() / 2;
        match damage {
            0 => bytes[middle..].fill(0),
            1 => bytes.truncate(middle / 3),
            2 => bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 16),
            _ => bytes.clear(),
        }
        std::fs::write(&db, bytes).unwrap();
        // A crash: the index is checked, not trusted.
        let _ = std::fs::remove_file(dir.path().join("CLEAN"));
        let store = open(dir.path());
        assert_all_there(&store, &files);
        put(&store, &bytes_of(100 + damage, 5000));
        store.commit().unwrap();
    }
    assert!(dir.path().join("index.bad.0").exists());
    assert_eq!(open(dir.path()).files().unwrap().len(), files.len());
}

#[test]
fn a_flipped_bit_costs_one_chunk_and_a_put_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, manifest) = {
        let store = open(dir.path());
        let bytes = bytes_of(1, 9 * CHUNK);
        let manifest = put_file(&store, &bytes);
        store.add_file(&manifest, None, Claim::Pinned).unwrap();
        (bytes, manifest)
    };
    // In the middle of the fifth chunk's payload.
    flip(
        &packs(dir.path())[0],
        PACK_HEADER_BYTES + 4 * (CHUNK as u64 + 48) + 48 + 5000,
    );
    let store = open(dir.path());
    let hash = manifest.chunks()[4].hash;
    assert!(store.has(&hash).unwrap(), "not known yet");
    let error = store.get(&hash).unwrap_err();
    assert!(error.is_corruption() && !error.is_no_space(), "{error}");
    assert!(!store.has(&hash).unwrap());
    assert_eq!(store.get(&hash).unwrap(), None);
    assert_eq!(
        store
            .have(&manifest)
            .unwrap()
            .iter_zeros()
            .collect::<Vec<_>>(),
        [4]
    );
    assert_eq!(store.stats().unwrap().chunks, 8);
    assert_eq!(
        store.put(&hash, &bytes[4 * CHUNK..5 * CHUNK]).unwrap(),
        Put::New
    );
    store.commit().unwrap();
    assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
    assert_eq!(store.stats().unwrap().chunks, 9);
    drop(store);
    let store = open(dir.path());
    assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
    assert_eq!(
        store
            .remove_file(&manifest.address())
            .unwrap()
            .unwrap()
            .freed_chunks
            .len(),
        9
    );
}

#[test]
fn damage_to_packs_and_index_together_costs_only_what_was_hit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let files = fill(&store);
    // A chunk of each of the first two packs.
    let chunk_in = |pack: u32| {
        let manifests = files
            .iter()
            .map(|(address, _)| store.manifest(address).unwrap().unwrap());
        let hashes = manifests.flat_map(|manifest| manifest.chunks().to_vec());
        let entry = |hash| store.core.indexed(&hash).unwrap().unwrap();
        let mut places = hashes.filter_map(|chunk| entry(chunk.hash).place.pack());
        places
            .rfind(|at| at.pack == pack && at.len_bytes > 5000)
            .unwrap()
    };
    let (first, second) = (chunk_in(0), chunk_in(1));
    drop(store);
    let packs = packs(dir.path());
    assert!(packs.len() >= 3);
    // A record header in the first pack, a payload in the second, the pack header of the third.
    flip(&packs[0], first.offset + 4);
    flip(&packs[1], second.offset + 3000);
    flip(&packs[2], 3);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    let mut missing = 0;
    for (address, bytes) in &files {
        let manifest = store.manifest(address).unwrap().unwrap();
        for (index, chunk) in manifest.chunks().iter().enumerate() {
            match store.get(&chunk.hash) {
                Ok(Some(found)) => {
                    let start = usize::try_from(manifest.chunk_offset(index)).unwrap();
                    assert!(bytes[start..].starts_with(&found));
                }
                Ok(None) | Err(StoreError::Corrupt { .. }) => missing += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(missing, 2);
}

#[test]
fn a_torn_tail_is_cut_off_and_what_was_acknowledged_stays() {
    for torn in [1, 7, 47, 48, 60, 5000] {
        let dir = tempfile::tempdir().unwrap();
        let files = fill(&open(dir.path()));
        let last = packs(dir.path()).pop().unwrap();
        let len = std::fs::metadata(&last).unwrap().len();
        // What a crash in the middle of an append leaves: some bytes of a record that is not whole.
        let file = OpenOptions::new().write(true).open(&last).unwrap();
        let mut junk = bytes_of(77, torn);
        junk.iter_mut()
            .take(4)
            .zip(b"CASR")
            .for_each(|(byte, magic)| *byte = *magic);
        file.write_all_at(&junk, len.next_multiple_of(8)).unwrap();
        drop(file);
        let store = open(dir.path());
        assert_all_there(&store, &files);
        assert!(std::fs::metadata(&last).unwrap().len() <= len.next_multiple_of(8));
        put(&store, &bytes_of(78, 20_000));
        store.commit().unwrap();
        drop(store);
        let store = open(dir.path());
        assert!(store.has(&ChunkHash::of(&bytes_of(78, 20_000))).unwrap());
        assert_all_there(&store, &files);
    }
}

#[test]
fn a_shortened_pack_loses_only_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(&open(dir.path()));
    let last = packs(dir.path()).pop().unwrap();
    let len = std::fs::metadata(&last).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(&last)
        .unwrap()
        .set_len(len - 20_000)
        .unwrap();
    let store = open(dir.path());
    let mut readable = 0;
    for (address, _) in &files {
        let manifest = store.manifest(address);
        let Ok(Some(manifest)) = manifest else {
            continue;
        };
        let get = |hash| matches!(store.get(hash), Ok(Some(_)));
        readable += usize::from(manifest.chunks().iter().all(|chunk| get(&chunk.hash)));
    }
    assert!(readable >= files.len() - 1, "{readable} of {}", files.len());
    let fresh = put(&store, &bytes_of(79, 30_000));
    store.commit().unwrap();
    drop(store);
    assert_eq!(
        open(dir.path()).get(&fresh).unwrap().unwrap(),
        bytes_of(79, 30_000)
    );
}

#[test]
fn a_pack_whose_creation_was_cut_short_is_left_alone_by_who_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(&open(dir.path()));
    let cut_short = dir.path().join("packs/00000050.pack");
    for begun in [b"".as_slice(), b"CASPACK1"] {
        std::fs::write(&cut_short, begun).unwrap();
        assert_all_there(&Store::open_read_only(dir.path()).unwrap(), &files);
        assert_eq!(std::fs::read(&cut_short).unwrap(), begun);
    }
    assert_all_there(&open(dir.path()), &files);
}

#[test]
fn a_stored_pack_file_is_never_taken_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, &bytes_of(1, 50_000));
    store.commit().unwrap();
    let pack = std::fs::read(&packs(dir.path())[0]).unwrap();
    let chunk = put(&store, &pack);
    store.commit().unwrap();
    drop(store);
    // Make the walk look for headers inside that chunk: its own header is gone.
    flip(&packs(dir.path())[0], PACK_HEADER_BYTES + 50_048 + 4);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert!(!store.has(&chunk).unwrap());
    assert_eq!(store.stats().unwrap().chunks, 1);
}

#[test]
fn removed_space_is_given_back_to_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
    let bytes = bytes_of(1, 8 << 20);
    let manifest = manifest_of(Chunking::Fixed.params(None), &bytes);
    put_chunks(&store, &bytes, &manifest);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    let full = store.core.packs.disk_bytes();
    assert!(full >= 8 << 20);
    store.remove_file(&manifest.address()).unwrap();
    let freed = full - store.core.packs.disk_bytes();
    // Where holes cannot be punched nothing comes back before a compaction.
    assert!(freed == 0 || freed > 7 << 20, "{freed}");
}

#[test]
fn foreign_and_newer_stores_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("FORMAT");
    let format = std::fs::read(&path).unwrap();
    let mut newer = format.clone();
    newer[8] = 4;
    std::fs::write(&path, &newer).unwrap();
    let error = Store::open(dir.path(), config()).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerVersion { found: 4, known: 3 }),
        "{error}"
    );
    let mut older = format.clone();
    older[8] = 1;
    std::fs::write(&path, &older).unwrap();
    let error = Store::open(dir.path(), config()).unwrap_err();
    assert!(
        matches!(error, StoreError::OlderVersion { found: 1, known: 3 }),
        "{error}"
    );
    assert!(dir.path().join("CLEAN").exists());
    let mut damaged = format.clone();
    damaged[15] ^= 1;
    for bytes in [b"something else".as_slice(), b"", &damaged, &format[..20]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path(), config()).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    }
    std::fs::write(&path, &format).unwrap();
    open(dir.path());
}
