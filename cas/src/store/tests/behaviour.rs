//! What callers rely on, on a store in memory.

use super::*;
use crate::store::entry::ChunkEntry;

#[test]
fn a_put_chunk_is_readable_at_once_and_known_afterwards() {
    let store = Store::in_memory().unwrap();
    for len in [1, 4096, 4097, 300_000] {
        let bytes = bytes_of(1, len);
        let hash = ChunkHash::of(&bytes);
        assert!(!store.has(&hash).unwrap());
        assert_eq!(store.get(&hash).unwrap(), None);
        assert_eq!(store.put(&hash, &bytes).unwrap(), Put::New);
        assert_eq!(store.put(&hash, &bytes).unwrap(), Put::Known);
        assert_eq!(store.get(&hash).unwrap().unwrap(), bytes);
        store.commit().unwrap();
        assert_eq!(store.put(&hash, &bytes).unwrap(), Put::Known);
        assert_eq!(store.get(&hash).unwrap().unwrap(), bytes);
    }
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.chunks, stats.stored_bytes),
        (4, 1 + 4096 + 4097 + 300_000)
    );
    let mut seen = 0;
    store
        .for_each_chunk(|hash, len| {
            assert_eq!(store.get(hash).unwrap().unwrap().len(), len as usize);
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 4);
}

#[test]
fn chunks_are_visited_in_order_from_any_first_byte_on() {
    let store = Store::in_memory().unwrap();
    let mut all: Vec<ChunkHash> = (0..200).map(|n| put(&store, &bytes_of(n, 100))).collect();
    all.sort_unstable_by_key(|hash| *hash.as_bytes());
    store.commit().unwrap();
    for first_byte in [0, 1, 100, all[150].as_bytes()[0], 255] {
        let mut seen = Vec::new();
        let mut visit = |hash: &ChunkHash, _| {
            seen.push(*hash);
            ControlFlow::Continue(())
        };
        store.for_each_chunk_from(first_byte, &mut visit).unwrap();
        let behind = all.partition_point(|hash| hash.as_bytes()[0] < first_byte);
        assert_eq!(seen, all[behind..], "{first_byte}");
    }
}

#[test]
fn chunks_of_impossible_length_are_refused() {
    let store = Store::in_memory().unwrap();
    let over = vec![0; 4 * 1024 * 1024 + 1];
    for bytes in [b"".as_slice(), &over] {
        let refused = store.put(&ChunkHash::of(bytes), bytes);
        assert!(matches!(refused, Err(StoreError::ChunkLength { .. })));
    }
    put(&store, &over[1..]);
}

#[test]
fn a_file_needs_all_its_chunks() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(2, 3 * CHUNK + 5000);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    put(&store, &bytes[..CHUNK]);
    let error = store.add_file(&manifest, None, Claim::Pinned).unwrap_err();
    assert!(
        matches!(error, StoreError::MissingChunks { missing: 3, .. }),
        "{error}"
    );
    assert_eq!(store.file(&manifest.address()).unwrap(), None);
    put_chunks(&store, &bytes, &manifest);
    let entry = store
        .add_file(&manifest, Some("a name"), Claim::Pinned)
        .unwrap();
    assert_eq!(entry.state, FileState::Complete);
    assert_eq!(entry.name.as_deref(), Some("a name"));
    assert_eq!(
        (entry.size_bytes, entry.chunk_count, entry.is_pinned()),
        (bytes.len() as u64, 4, true)
    );
    assert_eq!(store.files().unwrap(), [entry]);
    assert_eq!(
        store.manifest(&manifest.address()).unwrap(),
        Some(manifest.clone())
    );
    assert_eq!(
        store.address_of(&manifest.id()).unwrap(),
        Some(manifest.address())
    );
    assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
}

#[test]
fn the_empty_file_is_a_file() {
    let store = Store::in_memory().unwrap();
    let manifest = put_file(&store, b"");
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    assert_eq!(read_file(&store, &Address::of(b"")).unwrap(), b"");
    assert!(store.have(&manifest).unwrap().is_complete());
    assert!(store.remove_file(&Address::of(b"")).unwrap().is_some());
}

#[test]
fn removing_keeps_what_another_file_or_a_download_needs() {
    let store = Store::in_memory().unwrap();
    let (a, b, c) = (bytes_of(3, CHUNK), bytes_of(4, CHUNK), bytes_of(5, CHUNK));
    let first = put_file(&store, &[a.clone(), b.clone(), c.clone()].concat());
    let second = put_file(&store, &[b.clone(), b.clone()].concat());
    let third = manifest_of(
        SMALL_CHUNKS,
        &[c.clone(), c.clone(), a[..9].to_vec()].concat(),
    );
    store.add_file(&first, None, Claim::Pinned).unwrap();
    store.add_file(&second, None, Claim::Pinned).unwrap();
    store.begin_partial(&third, None, Claim::Own).unwrap();
    let removed = store.remove_file(&first.address()).unwrap().unwrap();
    assert_eq!(removed.freed_chunks, [ChunkHash::of(&a)]);
    assert_eq!(removed.freed_bytes, CHUNK as u64);
    assert_eq!(store.remove_file(&first.address()).unwrap(), None);
    assert!(!store.has(&ChunkHash::of(&a)).unwrap());
    assert_eq!(
        read_file(&store, &second.address()).unwrap(),
        [b.clone(), b].concat()
    );
    assert_eq!(
        store.drop_unreferenced(&[ChunkHash::of(&c)]).unwrap(),
        Removed::default()
    );
    let removed = store.remove_file(&third.address()).unwrap().unwrap();
    assert_eq!(removed.freed_chunks, [ChunkHash::of(&c)]);
    store.remove_file(&second.address()).unwrap().unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0);
    assert_eq!(store.stats().unwrap().stored_bytes, 0);
    assert_eq!(put_file(&store, &a).chunks().len(), 1);
}

#[test]
fn chunks_of_a_running_import_are_not_removed() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(6, 2 * CHUNK);
    let manifest = put_file(&store, &bytes);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    let hold = store.hold();
    hold.add(manifest.chunks()[0].hash);
    let removed = store.remove_file(&manifest.address()).unwrap().unwrap();
    assert_eq!(removed.freed_chunks, [manifest.chunks()[1].hash]);
    drop(hold);
    let removed = store
        .drop_unreferenced(&[manifest.chunks()[0].hash])
        .unwrap();
    assert_eq!(removed.freed_chunks.len(), 1);
}

#[test]
fn a_download_goes_from_partial_to_complete() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(7, 5 * CHUNK);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let address = manifest.address();
    let unknown = store.complete_partial(&address, Claim::Own).unwrap_err();
    assert!(matches!(unknown, StoreError::UnknownFile(_)));
    let partial = store
        .begin_partial(&manifest, Some("n"), Claim::Own)
        .unwrap();
    assert_eq!(partial.state, FileState::Partial);
    assert_eq!(
        store
            .begin_partial(&manifest, Some("other"), Claim::Own)
            .unwrap(),
        partial
    );
    put(&store, &bytes[2 * CHUNK..3 * CHUNK]);
    assert_eq!(
        store
            .have(&manifest)
            .unwrap()
            .iter_ones()
            .collect::<Vec<_>>(),
        [2]
    );
    assert!(store.complete_partial(&address, Claim::Own).is_err());
    put_chunks(&store, &bytes, &manifest);
    let entry = store.complete_partial(&address, Claim::Pinned).unwrap();
    assert_eq!(
        (entry.state, entry.is_pinned()),
        (FileState::Complete, true)
    );
    assert_eq!(entry.name.as_deref(), Some("n"));
    assert_eq!(
        store.begin_partial(&manifest, None, Claim::Own).unwrap(),
        entry,
        "complete stays complete"
    );
    assert_eq!(read_file(&store, &address).unwrap(), bytes);
    let removed = store.remove_file(&address).unwrap().unwrap();
    assert_eq!(removed.freed_chunks.len(), 5);
}

#[test]
fn another_manifest_replaces_a_partial_one_and_drops_its_chunks() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(8, 4 * CHUNK);
    let pieces = manifest_of(SMALL_CHUNKS, &bytes);
    let whole = manifest_of(Chunking::Fixed.params(None), &bytes);
    store
        .begin_partial(&pieces, Some("kept"), Claim::Own)
        .unwrap();
    let first = put(&store, &bytes[..CHUNK]);
    let entry = store.begin_partial(&whole, None, Claim::Own).unwrap();
    assert_eq!(
        (entry.manifest, entry.name.as_deref()),
        (whole.id(), Some("kept"))
    );
    assert!(!store.has(&first).unwrap());
    assert_eq!(store.address_of(&pieces.id()).unwrap(), None);
    put_chunks(&store, &bytes, &whole);
    store
        .complete_partial(&whole.address(), Claim::Own)
        .unwrap();
    // Whole already: another cutting changes nothing.
    put_chunks(&store, &bytes, &pieces);
    assert_eq!(
        store.add_file(&pieces, None, Claim::Own).unwrap().manifest,
        whole.id()
    );
    assert_eq!(
        store
            .begin_partial(&pieces, None, Claim::Own)
            .unwrap()
            .manifest,
        whole.id()
    );
}

#[test]
fn adding_again_takes_name_and_pin_over_and_counts_no_second_time() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(9, 2 * CHUNK);
    let manifest = put_file(&store, &bytes);
    store.add_file(&manifest, Some("old"), Claim::Own).unwrap();
    let again = store
        .add_file(&manifest, Some("new"), Claim::Pinned)
        .unwrap();
    assert_eq!(
        (again.name.as_deref(), again.is_pinned()),
        (Some("new"), true)
    );
    assert!(
        store
            .add_file(&manifest, None, Claim::Own)
            .unwrap()
            .is_pinned(),
        "pins are not taken away here"
    );
    let key = entry::chunk_key(&manifest.chunks()[0].hash);
    let value = store.core.index.get(&key).unwrap().unwrap();
    assert_eq!(ChunkEntry::decode(&value).unwrap().refs, 1);
    assert_eq!(
        store
            .remove_file(&manifest.address())
            .unwrap()
            .unwrap()
            .freed_chunks
            .len(),
        2
    );
}

#[test]
fn many_threads_put_commit_and_read_the_same_chunks() {
    let store = Store::in_memory().unwrap();
    let new: usize = std::thread::scope(|scope| {
        let work = |offset: u64| {
            let store = store.clone();
            move || {
                let mut new = 0;
                for n in 0..120u64 {
                    let seed = (n + offset) % 120;
                    let len = usize::try_from(seed % 7).unwrap() * 2000 + 3000;
                    let bytes = bytes_of(seed, len);
                    let hash = ChunkHash::of(&bytes);
                    new += usize::from(store.put(&hash, &bytes).unwrap() == Put::New);
                    if n % 16 == 0 {
                        store.commit().unwrap();
                    }
                    assert_eq!(store.get(&hash).unwrap().unwrap(), bytes);
                }
                store.commit().unwrap();
                new
            }
        };
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(work(n * 13))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(new, 120, "each chunk is written once");
    assert_eq!(store.stats().unwrap().chunks, 120);
}

#[test]
fn a_full_disk_is_a_clean_error_and_writing_goes_on_when_space_returns() {
    let (medium, faults) = FaultMedium::new(100_000);
    let index = Arc::new(MemoryIndex::default());
    let store = Store::over(index, medium, u64::MAX).unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let bytes = bytes_of(kept.len() as u64, 9000);
        match store.put(&ChunkHash::of(&bytes), &bytes) {
            Ok(_) => kept.push(bytes),
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(!error.is_corruption());
    assert!(kept.len() > 5);
    store.commit().unwrap();
    faults.space_bytes.store(1 << 20, Ordering::Relaxed);
    kept.push(bytes_of(kept.len() as u64, 9000));
    put(&store, &kept[kept.len() - 1]);
    store.commit().unwrap();
    for bytes in &kept {
        assert_eq!(store.get(&ChunkHash::of(bytes)).unwrap().unwrap(), *bytes);
    }
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_stops_writing() {
    let (medium, faults) = FaultMedium::new(1 << 20);
    let store = Store::over(Arc::new(MemoryIndex::default()), medium, u64::MAX).unwrap();
    let safe = put(&store, b"committed before");
    store.commit().unwrap();
    let lost = put(&store, b"never acknowledged");
    faults.failing_syncs.store(1, Ordering::Relaxed);
    assert!(matches!(store.commit(), Err(StoreError::Io { .. })));
    assert!(matches!(store.commit(), Err(StoreError::WritesStopped)));
    let refused = store.put(&ChunkHash::of(b"more"), b"more");
    assert!(matches!(refused, Err(StoreError::WritesStopped)));
    assert!(!store.has(&lost).unwrap());
    assert_eq!(
        store.get(&safe).unwrap().unwrap().as_ref(),
        b"committed before"
    );
}
