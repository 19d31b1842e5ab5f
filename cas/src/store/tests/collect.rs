//! Giving space back: by compaction, by the limit, and what is never given back.

use std::path::Path;

use super::*;
use crate::store::medium::DirMedium;
use crate::store::pack::PACK_HEADER_BYTES;

const KIB: u64 = 1024;

fn open(dir: &Path) -> Store {
    let config = StoreConfig {
        pack_bytes: 1 << 20,
        reserve_bytes: 0,
        ..StoreConfig::default()
    };
    Store::open(dir, config).unwrap()
}

fn gc(store: &Store) -> GcReport {
    store.gc(&mut |_| ControlFlow::Continue(())).unwrap()
}

/// Stores a file of `chunks` chunks of 16 KiB.
fn add(store: &Store, seed: u64, chunks: usize, pinned: bool) -> Address {
    let manifest = put_file(store, &bytes_of(seed, chunks * CHUNK));
    store.add_file(&manifest, None, Claim::own(pinned)).unwrap();
    manifest.address()
}

fn pack_bytes(dir: &Path) -> u64 {
    DirMedium::new(dir.join("packs")).unwrap().disk_bytes()
}

#[test]
fn deleting_half_gives_half_back_whatever_lies_between() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Chunks of two files take turns, so that no run of dead ones is long.
    let (kept, gone) = (bytes_of(1, 256 * CHUNK), bytes_of(2, 256 * CHUNK));
    let manifests = [&kept, &gone].map(|bytes| manifest_of(SMALL_CHUNKS, bytes));
    for index in 0..256 {
        for (manifest, bytes) in manifests.iter().zip([&kept, &gone]) {
            let at = index * CHUNK;
            let hash = manifest.chunks()[index].hash;
            store.put(&hash, &bytes[at..at + CHUNK]).unwrap();
        }
    }
    let [kept_manifest, gone_manifest] = &manifests;
    store.add_file(kept_manifest, None, Claim::Pinned).unwrap();
    store.add_file(gone_manifest, None, Claim::Pinned).unwrap();
    store.remove_file(&gone_manifest.address()).unwrap();
    let plan = store.gc_plan().unwrap();
    assert!(
        plan.compact_packs > 0 && plan.orphan_chunks == 0,
        "{plan:?}"
    );
    let report = gc(&store);
    assert_eq!(report.compacted_packs, plan.compact_packs);
    assert!(report.copied_bytes <= 2 * gone.len() as u64, "{report:?}");
    assert!(report.disk_bytes_after < report.disk_bytes_before);
    let ideal = kept.len() as u64 + 256 * 48;
    let packs = pack_bytes(dir.path());
    // Headers of packs, and the last block of each, are the only thing beside it.
    assert!(
        packs <= ideal + 6 * (PACK_HEADER_BYTES + 4096) + 16 * KIB,
        "{packs} of {ideal}"
    );
    assert_eq!(gc(&store).compacted_packs, 0, "nothing is left to do");
    assert_eq!(read_file(&store, &kept_manifest.address()).unwrap(), kept);
    drop(store);
    let store = open(dir.path());
    assert_eq!(read_file(&store, &kept_manifest.address()).unwrap(), kept);
    drop(store);
    Store::rebuild_index(dir.path()).unwrap();
    let store = open(dir.path());
    assert_eq!(read_file(&store, &kept_manifest.address()).unwrap(), kept);
    assert!(store.file(&gone_manifest.address()).unwrap().is_none());
}

#[test]
fn an_emptied_store_is_as_small_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let files: Vec<Address> = (0..8).map(|n| add(&store, n, 40, true)).collect();
    for address in &files {
        store.remove_file(address).unwrap();
    }
    gc(&store);
    assert!(
        pack_bytes(dir.path()) <= 4 * PACK_HEADER_BYTES,
        "{}",
        pack_bytes(dir.path())
    );
    assert_eq!(store.stats().unwrap().chunks, 0);
    // Numbers of removed packs are not used again while something may remember them.
    let again = add(&store, 99, 3, true);
    drop(store);
    assert!(read_file(&open(dir.path()), &again).is_some());
}

#[test]
fn over_the_limit_the_least_recently_used_unpinned_file_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let [oldest, pinned, used, newest] =
        [(1, false), (2, true), (3, false), (4, false)].map(|(n, pin)| add(&store, n, 64, pin));
    // As if an hour had passed.
    let now = unix_ms() + 3_600_000;
    let op = (entry::last_use_key(&used), Some(now.to_le_bytes().to_vec()));
    store.core.apply(vec![op]).unwrap();
    let limit = store.disk_bytes() + 600 * KIB;
    store.set_max_bytes(Some(limit)).unwrap();
    let incoming = add(&store, 5, 64, false);
    assert!(store.file(&oldest).unwrap().is_none(), "the oldest went");
    for stays in [&pinned, &used, &newest, &incoming] {
        assert!(store.file(stays).unwrap().is_some());
    }
    let gone = store.take_evicted();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].address, oldest);
    assert_eq!(gone[0].freed_chunks.len(), 64);
    assert!(store.take_evicted().is_empty(), "told once");
    assert!(store.disk_bytes() <= limit);
}

#[test]
fn what_is_pinned_or_in_use_makes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let pinned = add(&store, 1, 64, true);
    let cached = add(&store, 2, 64, false);
    store
        .set_max_bytes(Some(store.disk_bytes() + 64 * KIB))
        .unwrap();
    let using = store.in_use(&cached);
    let error = store.make_room(1 << 20).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(
        matches!(error, StoreError::OverQuota { needed_bytes, .. } if needed_bytes == 1 << 20),
        "{error}"
    );
    let bytes = bytes_of(3, CHUNK * 8);
    let refused = bytes
        .chunks(CHUNK)
        .find_map(|chunk| store.put(&ChunkHash::of(chunk), chunk).err());
    assert!(refused.is_some_and(|error| error.is_no_space()));
    for address in [pinned, cached] {
        assert!(read_file(&store, &address).is_some(), "both are whole");
    }
    drop(using);
    store.make_room(512 * KIB).unwrap();
    assert!(store.file(&cached).unwrap().is_none());
    assert!(read_file(&store, &pinned).is_some());
}

#[test]
fn the_limit_is_kept_by_the_store_and_survives_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add(&store, 1, 4, true);
    assert_eq!(store.max_bytes(), None);
    store.set_max_bytes(Some(1 << 30)).unwrap();
    store.set_max_bytes(Some(2 << 30)).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).max_bytes(), Some(2 << 30));
    let rebuilt = Store::rebuild_index(dir.path()).unwrap();
    assert_eq!(
        (rebuilt.files, rebuilt.chunks, rebuilt.bad_records),
        (1, 4, 0)
    );
    let store = open(dir.path());
    assert_eq!(store.max_bytes(), Some(2 << 30));
    store.set_max_bytes(None).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).max_bytes(), None);
}

#[test]
fn pins_survive_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let address = add(&store, 1, 4, false);
    assert!(
        store
            .set_pinned(&Address::of(b"none"), true)
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .set_pinned(&address, true)
            .unwrap()
            .unwrap()
            .is_pinned()
    );
    gc(&store);
    drop(store);
    Store::rebuild_index(dir.path()).unwrap();
    let store = open(dir.path());
    assert!(store.file(&address).unwrap().unwrap().is_pinned());
    assert!(
        !store
            .set_pinned(&address, false)
            .unwrap()
            .unwrap()
            .is_pinned()
    );
    drop(store);
    assert!(
        !open(dir.path())
            .file(&address)
            .unwrap()
            .unwrap()
            .is_pinned()
    );
}

#[test]
fn readers_and_writers_go_on_while_packs_are_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let files: Vec<Address> = (0..6).map(|n| add(&store, n, 64, true)).collect();
    let (gone, kept) = files.split_at(3);
    for address in gone {
        store.remove_file(address).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                for address in kept {
                    assert!(read_file(&store, address).is_some());
                }
                rounds += 1;
            }
        });
        let writing = scope.spawn(|| {
            let mut stored = Vec::new();
            while !done.load(Ordering::Relaxed) || stored.is_empty() {
                let seed = 100 + stored.len() as u64;
                stored.push(add(&store, seed, 8, true));
            }
            stored
        });
        let report = store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(report.compacted_packs > 0);
        reading.join().unwrap();
        for address in writing.join().unwrap() {
            assert!(read_file(&store, &address).is_some());
        }
    });
}

#[test]
fn a_collection_that_is_broken_off_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let files: Vec<Address> = (0..4).map(|n| add(&store, n, 100, true)).collect();
    store.remove_file(&files[0]).unwrap();
    store.remove_file(&files[2]).unwrap();
    let report = store.gc(&mut |_| ControlFlow::Break(())).unwrap();
    assert!(report.cancelled);
    assert!(!gc(&store).cancelled);
    for address in [&files[1], &files[3]] {
        assert!(read_file(&store, address).is_some());
    }
}

#[test]
fn usage_tells_what_is_shared() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(1, 4 * CHUNK);
    let one = put_file(&store, &bytes);
    let two = put_file(&store, &bytes[CHUNK..]);
    store.add_file(&one, Some("one"), Claim::Pinned).unwrap();
    store.add_file(&two, Some("two"), Claim::Pinned).unwrap();
    let mut usage = store.usage(None).unwrap();
    usage.sort_by_key(|usage| usage.name.clone());
    let numbers: Vec<_> = usage
        .iter()
        .map(|u| [u.logical_bytes, u.stored_bytes, u.shared_bytes].map(|b| b / CHUNK as u64))
        .collect();
    assert_eq!(numbers, [[4, 4, 3], [3, 3, 3]]);
}

#[test]
fn the_chunks_that_only_one_file_has_are_known() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(1, 4 * CHUNK);
    let one = put_file(&store, &bytes);
    store.add_file(&one, Some("one"), Claim::Pinned).unwrap();
    let address = one.address();
    assert_eq!(store.sole_chunks(&address).unwrap().len(), 4);
    let two = put_file(&store, &bytes[CHUNK..]);
    store.add_file(&two, Some("two"), Claim::Pinned).unwrap();
    let sole = store.sole_chunks(&address).unwrap();
    assert_eq!(sole, [one.chunks()[0].hash]);
    assert!(store.sole_chunks(&two.address()).unwrap().is_empty());
    store.remove_file(&address).unwrap();
    assert!(store.sole_chunks(&address).unwrap().is_empty());
    assert_eq!(store.sole_chunks(&two.address()).unwrap().len(), 3);
}

#[test]
fn what_is_pinned_after_the_list_was_made_does_not_go() {
    let store = Store::in_memory().unwrap();
    let pinned = add(&store, 1, 6, false);
    let used = add(&store, 2, 6, false);
    let list = store.core.by_last_use().unwrap();
    assert_eq!(list.len(), 2);
    store.set_pinned(&pinned, true).unwrap();
    let _using = store.in_use(&used);
    for file in list {
        assert_eq!(store.core.evict(&file).unwrap(), None);
    }
    assert_eq!(store.files().unwrap().len(), 2);
}

#[test]
fn a_collection_after_a_collection_has_nothing_to_copy() {
    let index = Arc::<MemoryIndex>::default();
    let store = Store::over(index, Arc::<MemoryMedium>::default(), 1 << 20).unwrap();
    for seed in 0..200 {
        let manifest = put_file(&store, &bytes_of(seed, 20_000));
        store.add_file(&manifest, None, Claim::Own).unwrap();
        store.remove_file(&manifest.address()).unwrap();
    }
    gc(&store);
    let again = gc(&store);
    assert_eq!((again.copied_bytes, again.compacted_packs), (0, 0));
}

#[test]
fn a_pack_that_another_thread_has_rewritten_is_no_error() {
    let index = Arc::<MemoryIndex>::default();
    let store = Store::over(index, Arc::<MemoryMedium>::default(), 1 << 16).unwrap();
    let address = add(&store, 1, 6, true);
    for _ in 0..2 {
        let step = &mut |_| ControlFlow::Continue(());
        assert!(store.core.compact(0, step).unwrap().is_continue());
        assert!(!store.core.packs.ids().unwrap().contains(&0));
    }
    assert!(read_file(&store, &address).is_some());
}

#[test]
fn manifests_of_downloads_keep_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cached = add(&store, 1000, 6, false);
    let limit = store.disk_bytes() + (1 << 20);
    store.set_max_bytes(Some(limit)).unwrap();
    // Each in use, as a download's file is; their chunks never come.
    let mut downloads = Vec::new();
    let refused = (0..200u64).find_map(|seed| {
        let manifest = manifest_of(SMALL_CHUNKS, &bytes_of(seed, 512 * CHUNK));
        downloads.push(store.in_use(&manifest.address()));
        store.begin_partial(&manifest, None, Claim::Own).err()
    });
    let error = refused.expect("200 manifests of 16 KiB do not fit");
    assert!(error.is_no_space(), "{error}");
    assert!(downloads.len() > 8);
    let gone = store.take_evicted();
    assert!(gone.iter().any(|evicted| evicted.address == cached));
    assert!(store.disk_bytes() <= limit);
}

#[test]
fn what_the_limit_has_no_room_for_stays_in_the_users_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let mut bytes = bytes_of(1, 800 * CHUNK);
    let [first, second] = ["first", "second"].map(|name| {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let manifest = manifest_of(SMALL_CHUNKS, &bytes);
        store
            .adopt_in_place(&manifest, &path, None, Claim::Own)
            .unwrap();
        bytes.extend(bytes_of(2, 100));
        manifest
    });
    let limit = store.disk_bytes() + (4 << 20);
    store.set_max_bytes(Some(limit)).unwrap();
    store.remove_file(&first.address()).unwrap();
    assert!(store.disk_bytes() <= limit);
    assert!(read_file(&store, &second.address()).is_some());
}

#[test]
fn nothing_goes_for_what_could_not_fit_an_empty_store_either() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cached = add(&store, 1, 64, false);
    let limit = store.disk_bytes() + (1 << 20);
    store.set_max_bytes(Some(limit)).unwrap();
    let error = store.make_room(2 * limit).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(store.file(&cached).unwrap().is_some());
}

#[test]
fn a_file_in_place_is_not_given_up_for_room_that_it_cannot_give() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let bytes = bytes_of(1, 160 * CHUNK);
    let path = dir.path().join("users");
    std::fs::write(&path, &bytes).unwrap();
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    store
        .adopt_in_place(&manifest, &path, None, Claim::Own)
        .unwrap();
    let limit = store.disk_bytes() + (1 << 20);
    store.set_max_bytes(Some(limit)).unwrap();
    // All that the limit leaves to chunks: it would fit an empty store.
    let error = store.make_room(limit - limit / 16).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(store.file(&manifest.address()).unwrap().is_some());
}
