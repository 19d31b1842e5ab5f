//! Many small files at a time.

use super::cut_off::Stopping;
use super::*;

/// More than three batches of the index take.
const MANY: u64 = 800;

fn small(seed: u64, len: usize) -> SmallFile {
    let bytes = bytes_of(seed, len);
    SmallFile {
        address: Address::of(&bytes),
        bytes: bytes.into(),
        name: Some(format!("file {seed}")),
    }
}

fn many() -> Vec<SmallFile> {
    (0..MANY).map(|n| small(n, 1100)).collect()
}

/// Adds files; their entries.
fn add(store: &Store, files: &[SmallFile], claim: Claim) -> Vec<FileEntry> {
    let added = store.add_small_files(files, claim).unwrap();
    added.into_iter().map(|file| file.entry).collect()
}

/// How many of these are here; each of them is whole, and refers to its chunk once.
fn count_whole(store: &Store, files: &[SmallFile]) -> usize {
    let mut whole = 0;
    for file in files {
        let Some(entry) = store.file(&file.address).unwrap() else {
            continue;
        };
        assert_eq!(
            (entry.state, &entry.name),
            (FileState::Complete, &file.name)
        );
        assert_eq!(read_file(store, &file.address).unwrap(), file.bytes);
        let chunk = ChunkHash::of(&file.bytes);
        assert_eq!(store.core.indexed(&chunk).unwrap().unwrap().refs, 1);
        whole += 1;
    }
    assert_eq!(store.stats().unwrap().files, whole);
    usize::try_from(whole).unwrap()
}

/// Adds all, of which some may be here, and removes them again: nothing stays behind.
fn comes_and_goes(store: &Store, files: &[SmallFile]) {
    store.add_small_files(files, Claim::Pinned).unwrap();
    assert_eq!(count_whole(store, files), files.len());
    for file in files {
        let removed = store.remove_file(&file.address).unwrap().unwrap();
        assert_eq!(removed.freed_chunks.len(), 1);
    }
    store.drop_orphans().unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.files, stats.chunks), (0, 0));
}

fn over(medium: &Arc<FaultMedium>) -> Store {
    Store::over(Arc::<MemoryIndex>::default(), medium.clone(), 1 << 30).unwrap()
}

#[test]
fn small_files_come_back_whole_with_their_names() {
    let store = Store::in_memory().unwrap();
    let most = usize::try_from(MAX_SMALL_FILE_BYTES).unwrap();
    let lens = [0, 1, 1024, 1025, 10_240, most];
    let files: Vec<SmallFile> = (0..).zip(lens).map(|(n, len)| small(n, len)).collect();
    let entries = add(&store, &files, Claim::Pinned);
    for (file, entry) in files.iter().zip(&entries) {
        assert_eq!((entry.address, &entry.name), (file.address, &file.name));
        assert_eq!(
            (entry.state, entry.is_pinned()),
            (FileState::Complete, true)
        );
        assert_eq!(store.file(&file.address).unwrap().as_ref(), Some(entry));
        assert_eq!(read_file(&store, &file.address).unwrap(), file.bytes);
    }
    assert_eq!(store.stats().unwrap().files, lens.len() as u64);
}

#[test]
fn one_that_is_too_large_is_refused_before_anything_is_entered() {
    let store = Store::in_memory().unwrap();
    let large = small(1, usize::try_from(MAX_SMALL_FILE_BYTES).unwrap() + 1);
    let error = store
        .add_small_files(&[small(0, 100), large], Claim::Pinned)
        .unwrap_err();
    assert!(matches!(
        error,
        StoreError::ChunkLength { len_bytes: 65_537 }
    ));
    assert_eq!(store.stats().unwrap().files, 0);
}

#[test]
fn many_files_take_two_syncs_and_known_ones_none() {
    let (medium, faults) = FaultMedium::buffered(i64::MAX / 2);
    let store = over(&medium);
    let entries = add(&store, &many(), Claim::Own);
    assert_eq!(count_whole(&store, &many()), entries.len());
    let syncs = || faults.syncs.load(Ordering::Relaxed);
    assert_eq!(syncs(), 2);
    let len = medium.open(0).unwrap().len().unwrap();
    assert_eq!(add(&store, &many(), Claim::Own), entries);
    assert_eq!((syncs(), medium.open(0).unwrap().len().unwrap()), (2, len));
    // Another pin: the entries are written anew, the old ones are dead.
    let pinned = add(&store, &many(), Claim::Pinned);
    assert!(pinned.iter().all(|entry| entry.is_pinned()));
    assert_eq!(syncs(), 4);
    drop(store);
    let rebuilt = over(&medium);
    assert!(
        rebuilt
            .files()
            .unwrap()
            .iter()
            .all(|entry| entry.is_pinned())
    );
    comes_and_goes(&rebuilt, &many());
}

#[test]
fn one_that_is_named_twice_is_entered_once_with_its_last_name() {
    let store = Store::in_memory().unwrap();
    let [first, other] = [small(1, 5000), small(2, 5000)];
    let named = |name: &str| SmallFile {
        name: Some(name.into()),
        ..first.clone()
    };
    let files = [first.clone(), other, named("last"), named("a/b")];
    let added = store.add_small_files(&files, Claim::Pinned).unwrap();
    let new: Vec<bool> = added.iter().map(|file| file.is_new).collect();
    assert_eq!(new, [true, true, false, false]);
    let entries: Vec<FileEntry> = added.into_iter().map(|file| file.entry).collect();
    let names: Vec<_> = entries.iter().filter_map(|e| e.name.as_deref()).collect();
    assert_eq!(names, ["last", "file 2", "last", "last"]);
    assert_eq!(store.stats().unwrap().files, 2);
    let chunk = ChunkHash::of(&first.bytes);
    assert_eq!(store.core.indexed(&chunk).unwrap().unwrap().refs, 1);
}

#[test]
fn whatever_is_here_of_a_file_it_is_whole_afterwards() {
    let store = Store::in_memory().unwrap();
    let files: Vec<SmallFile> = (0..4).map(|n| small(n, 20_000)).collect();
    // Unfinished; in place; cut smaller; removed.
    let begun = manifest_of(SMALL_CHUNKS, &files[0].bytes);
    store.begin_partial(&begun, None, Claim::Own).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    std::fs::write(&path, &files[1].bytes).unwrap();
    let in_place = manifest_of(SMALL_CHUNKS, &files[1].bytes);
    store
        .adopt_in_place(&in_place, &path, None, Claim::Own)
        .unwrap();
    let cut = put_file(&store, &files[2].bytes);
    store.add_file(&cut, Some("mine"), Claim::Own).unwrap();
    store.add_small_files(&files[3..], Claim::Own).unwrap();
    store.remove_file(&files[3].address).unwrap().unwrap();
    let entries = add(&store, &files, Claim::Pinned);
    for (file, entry) in files.iter().zip(&entries) {
        assert_eq!(
            (entry.state, &entry.name),
            (FileState::Complete, &file.name)
        );
        assert!(entry.is_pinned());
        assert_eq!(store.file(&file.address).unwrap().as_ref(), Some(entry));
        assert_eq!(read_file(&store, &file.address).unwrap(), file.bytes);
    }
    assert_eq!(entries[2].manifest, cut.id(), "it was whole");
    for file in &files {
        store.remove_file(&file.address).unwrap().unwrap();
    }
    store.drop_orphans().unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0);
}

#[test]
fn what_several_enter_at_once_is_new_to_one_of_them() {
    let store = Store::in_memory().unwrap();
    let files: Vec<SmallFile> = (many().into_iter())
        .chain((0..2).map(|n| small(n, 0)))
        .collect();
    let start = std::sync::Barrier::new(4);
    let enter = || {
        start.wait();
        let parts = files.chunks(10);
        let added = parts.flat_map(|part| store.add_small_files(part, Claim::Own).unwrap());
        added.filter(|file| file.is_new).count()
    };
    let new = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.sum::<usize>()
    });
    assert_eq!(new, many().len() + 1);
    assert_eq!(store.stats().unwrap().files, MANY + 1);
    assert_eq!(store.missing_bytes(&files).unwrap(), 0);
    let others = [small(MANY, 70), small(MANY, 70), small(0, 0)];
    assert_eq!(store.missing_bytes(&others).unwrap(), 70);
}

#[test]
fn a_batch_that_is_cut_off_in_the_index_leaves_whole_files_only() {
    let mut stopped = 0;
    for batches in 0.. {
        let index = Arc::<MemoryIndex>::default();
        let medium = Arc::<MemoryMedium>::default();
        let stopping = Arc::new(Stopping {
            below: index.clone(),
            batches: AtomicI64::new(batches),
        });
        let store = Store::over(stopping, medium.clone(), 1 << 20).unwrap();
        let finished = store.add_small_files(&many(), Claim::Pinned).is_ok();
        drop(store);
        for (index, keep_unsynced) in [
            (index.clone(), true),
            (Arc::new(index.power_cut(0)), false),
            (Arc::new(index.power_cut(batches.try_into().unwrap())), true),
            (Arc::default(), false),
        ] {
            let medium = Arc::new(medium.power_cut(keep_unsynced));
            let store = Store::over(index.clone(), medium, 1 << 20).unwrap();
            recovery::check_index(index.as_ref()).unwrap();
            let whole = count_whole(&store, &many());
            assert!(
                !finished || whole == many().len(),
                "{whole} after {batches}"
            );
            comes_and_goes(&store, &many());
        }
        if finished {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 3, "entered in {stopped} batches only");
}

#[test]
fn a_rebuild_finds_whole_files_wherever_the_pack_ends() {
    let (medium, _) = FaultMedium::buffered(i64::MAX / 2);
    over(&medium)
        .add_small_files(&many(), Claim::Pinned)
        .unwrap();
    let len = medium.open(0).unwrap().len().unwrap();
    let mut counts = Vec::new();
    for end in (0..=len).rev().step_by(60_000) {
        medium.open(0).unwrap().set_len(end.max(64)).unwrap();
        counts.push(count_whole(&over(&medium), &many()));
    }
    assert_eq!((counts[0], counts.last()), (many().len(), Some(&0)));
    assert!(counts.is_sorted_by(|a, b| a >= b));
}

#[test]
fn a_failed_sync_acknowledges_no_file_and_leaves_none_without_its_chunk() {
    for good in [0, 1] {
        let (medium, faults) = FaultMedium::buffered(i64::MAX / 2);
        let store = over(&medium);
        store
            .add_small_files(&[small(MANY, 100)], Claim::Pinned)
            .unwrap();
        faults.syncs.store(0, Ordering::Relaxed);
        faults.failing_after.store(good, Ordering::Relaxed);
        store.add_small_files(&many(), Claim::Pinned).unwrap_err();
        faults.failing_after.store(i64::MAX, Ordering::Relaxed);
        drop(store);
        // The power fails, too: what no sync has covered is gone.
        let medium = Arc::new(medium.below.power_cut(false));
        let store = Store::over(Arc::<MemoryIndex>::default(), medium, 1 << 30).unwrap();
        assert_eq!(store.stats().unwrap().files, 1);
        let chunks = store.stats().unwrap().chunks;
        assert_eq!(chunks, if good == 0 { 1 } else { 1 + MANY });
        store.remove_file(&small(MANY, 100).address).unwrap();
        comes_and_goes(&store, &many());
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_done() {
    let needed = {
        let (medium, faults) = FaultMedium::buffered(i64::MAX / 2);
        over(&medium)
            .add_small_files(&many(), Claim::Pinned)
            .unwrap();
        i64::MAX / 2 - faults.space_bytes.load(Ordering::Relaxed)
    };
    for part in 0..10 {
        let (medium, faults) = FaultMedium::buffered(i64::MAX / 2);
        let store = over(&medium);
        faults
            .space_bytes
            .store(needed * part / 10, Ordering::Relaxed);
        let error = store.add_small_files(&many(), Claim::Pinned).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        assert_eq!(count_whole(&store, &many()), 0);
        faults.space_bytes.store(i64::MAX / 2, Ordering::Relaxed);
        store.commit().unwrap();
        assert_eq!(count_whole(&store, &many()), 0);
        store.drop_orphans().unwrap();
        assert_eq!(store.stats().unwrap().chunks, 0);
        drop(store);
        let rebuilt = over(&medium);
        assert_eq!(count_whole(&rebuilt, &many()), 0, "{part} tenths");
        comes_and_goes(&rebuilt, &many());
    }
}

#[test]
fn a_limit_makes_others_go_and_is_kept() {
    let store = Store::in_memory().unwrap();
    let old: Vec<SmallFile> = (1000..1100).map(|n| small(n, 60_000)).collect();
    store.add_small_files(&old, Claim::Own).unwrap();
    let limit = store.disk_bytes();
    store.set_max_bytes(Some(limit)).unwrap();
    let new: Vec<SmallFile> = (0..40).map(|n| small(n, 60_000)).collect();
    store.add_small_files(&new, Claim::Pinned).unwrap();
    assert!(store.disk_bytes() <= limit);
    assert!(store.take_evicted().len() >= 40);
    for file in &new {
        assert_eq!(read_file(&store, &file.address).unwrap(), file.bytes);
    }
    // Pinned files do not go: no room, and nothing half done.
    let stats = store.stats().unwrap();
    let more: Vec<SmallFile> = (2000..2100).map(|n| small(n, 60_000)).collect();
    let error = store.add_small_files(&more, Claim::Pinned).unwrap_err();
    assert!(matches!(error, StoreError::OverQuota { .. }), "{error}");
    for file in &more {
        assert!(store.file(&file.address).unwrap().is_none());
    }
    assert!(store.stats().unwrap().chunks <= stats.chunks);
}
