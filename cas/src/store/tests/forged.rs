//! Forged manifests: what is proven outlives them, and nothing outlives that for ever.

use super::*;
use crate::manifest::ChunkRef;

/// The file's manifest, and one that lies about chunks 3 and 17, with the bytes it lists instead.
fn forged() -> (Vec<u8>, Manifest, Manifest, [Vec<u8>; 2]) {
    let bytes = bytes_of(1, 20 * CHUNK);
    let right = manifest_of(SMALL_CHUNKS, &bytes);
    let lies = [bytes_of(2, CHUNK), bytes_of(3, CHUNK)];
    let mut chunks = right.chunks().to_vec();
    for (index, lie) in [3, 17].into_iter().zip(&lies) {
        chunks[index] = ChunkRef {
            hash: ChunkHash::of(lie),
            ..chunks[index]
        };
    }
    let wrong = Manifest::new(SMALL_CHUNKS, chunks, right.proof().clone()).unwrap();
    assert_eq!(wrong.address(), right.address());
    (bytes, right, wrong, lies)
}

/// A download under the forged manifest that got its first six chunks, a lie among them.
fn attempt(store: &Store) -> (Vec<u8>, Manifest, Manifest, HaveBitmap) {
    let (bytes, right, wrong, lies) = forged();
    store
        .begin_partial(&wrong, Some("name"), Claim::Own)
        .unwrap();
    for index in 0..6 {
        put(store, &bytes[index * CHUNK..(index + 1) * CHUNK]);
    }
    store.drop_unreferenced(&[right.chunks()[3].hash]).unwrap();
    put(store, &lies[0]);
    let mut keep = HaveBitmap::new(20);
    [0, 1, 4, 19].into_iter().for_each(|index| {
        keep.set(index);
    });
    (bytes, right, wrong, keep)
}

fn ones(have: &HaveBitmap) -> Vec<usize> {
    have.iter_ones().collect()
}

#[test]
fn proven_chunks_wait_for_the_right_manifest() {
    let store = Store::in_memory().unwrap();
    let (bytes, right, wrong, keep) = attempt(&store);
    let removed = store.forget_forged(&wrong, &keep).unwrap();
    let mut freed = removed.freed_chunks.clone();
    freed.sort_unstable();
    let mut expected = [2, 3, 5].map(|index| wrong.chunks()[index].hash);
    expected.sort_unstable();
    assert_eq!(freed, expected);
    assert_eq!(removed.freed_bytes, 3 * CHUNK as u64);
    let entry = store.file(&right.address()).unwrap().unwrap();
    assert_eq!((entry.state, entry.chunk_count), (FileState::Remnant, 3));
    assert_eq!(store.manifest(&right.address()).unwrap(), None);
    assert_eq!(store.address_of(&wrong.id()).unwrap(), None);
    let refused = store
        .complete_partial(&right.address(), Claim::Pinned)
        .unwrap_err();
    assert!(matches!(refused, StoreError::UnknownFile(_)), "{refused}");
    assert_eq!(store.drop_orphans().unwrap(), Removed::default());
    assert_eq!(
        store.forget_forged(&wrong, &HaveBitmap::new(20)).unwrap(),
        Removed::default(),
        "only once"
    );

    let entry = store.begin_partial(&right, None, Claim::Own).unwrap();
    assert_eq!(
        (entry.state, entry.name.as_deref()),
        (FileState::Partial, Some("name"))
    );
    assert_eq!(ones(&store.have(&right).unwrap()), [0, 1, 4]);
    put_chunks(&store, &bytes, &right);
    store
        .complete_partial(&right.address(), Claim::Own)
        .unwrap();
    assert_eq!(read_file(&store, &right.address()).unwrap(), bytes);
    store.remove_file(&right.address()).unwrap().unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0);
}

#[test]
fn proven_chunks_survive_reopening_and_a_lost_index_and_can_be_removed() {
    for lose_index in [false, true] {
        let medium = Arc::<MemoryMedium>::default();
        let index = Arc::<MemoryIndex>::default();
        let store = Store::over(index.clone(), medium.clone(), u64::MAX).unwrap();
        let (_, right, wrong, keep) = attempt(&store);
        store.forget_forged(&wrong, &keep).unwrap();
        drop(store);
        let index = if lose_index { Arc::default() } else { index };
        let store = Store::over(index, medium, u64::MAX).unwrap();
        assert_eq!(ones(&store.have(&right).unwrap()), [0, 1, 4]);
        let other = put_file(&store, &bytes_of(9, CHUNK));
        store.add_file(&other, None, Claim::Pinned).unwrap();
        store.remove_file(&other.address()).unwrap().unwrap();
        assert_eq!(store.drop_orphans().unwrap(), Removed::default());
        let removed = store.remove_file(&right.address()).unwrap().unwrap();
        assert_eq!(removed.freed_chunks.len(), 3);
        assert_eq!(store.stats().unwrap().chunks, 0);
    }
}

#[test]
fn a_manifest_of_other_chunks_drops_the_remnant() {
    let store = Store::in_memory().unwrap();
    let (bytes, _, wrong, keep) = attempt(&store);
    store.forget_forged(&wrong, &keep).unwrap();
    let whole = manifest_of(Chunking::Fixed.params(None), &bytes);
    store.begin_partial(&whole, None, Claim::Own).unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0);
    assert_eq!(store.manifest(&whole.address()).unwrap(), Some(whole));
}

#[test]
fn with_nothing_to_keep_no_entry_stays() {
    let store = Store::in_memory().unwrap();
    let (_, right, wrong, _) = attempt(&store);
    let mut absent = HaveBitmap::new(20);
    absent.set(10);
    let removed = store.forget_forged(&wrong, &absent).unwrap();
    assert_eq!(removed.freed_chunks.len(), 6);
    assert_eq!(store.files().unwrap(), []);
    assert_eq!(store.stats().unwrap().chunks, 0);
    assert!(!store.has(&right.chunks()[0].hash).unwrap());
}

#[test]
fn an_entry_that_is_not_the_forged_one_is_not_touched() {
    let store = Store::in_memory().unwrap();
    let (bytes, right, wrong, keep) = attempt(&store);
    // Another download began meanwhile; its manifest lists all but the lies.
    let partial = store.begin_partial(&right, None, Claim::Own).unwrap();
    put(&store, &bytes_of(2, CHUNK));
    let removed = store.forget_forged(&wrong, &keep).unwrap();
    assert_eq!(removed.freed_chunks, [wrong.chunks()[3].hash]);
    assert_eq!(store.files().unwrap(), [partial]);
    assert_eq!(ones(&store.have(&right).unwrap()), [0, 1, 2, 4, 5]);
    put_chunks(&store, &bytes, &right);
    let complete = store
        .complete_partial(&right.address(), Claim::Own)
        .unwrap();
    for manifest in [&wrong, &right] {
        let removed = store.forget_forged(manifest, &HaveBitmap::new(20)).unwrap();
        assert_eq!(removed, Removed::default());
    }
    assert_eq!(store.files().unwrap(), [complete]);
    assert_eq!(read_file(&store, &right.address()).unwrap(), bytes);
}

#[test]
fn a_bitmap_of_another_length_does_not_panic() {
    let store = Store::in_memory().unwrap();
    let (_, right, wrong, _) = attempt(&store);
    let mut keep = HaveBitmap::new(1000);
    [1, 999].into_iter().for_each(|index| {
        keep.set(index);
    });
    store.forget_forged(&wrong, &keep).unwrap();
    assert_eq!(ones(&store.have(&right).unwrap()), [1]);
}

#[test]
fn a_full_disk_still_forgets() {
    let (medium, faults) = FaultMedium::new(1 << 22);
    let index = Arc::<MemoryIndex>::default();
    let store = Store::over(index, medium, u64::MAX).unwrap();
    let (_, right, wrong, keep) = attempt(&store);
    store.commit().unwrap();
    // Room for a tombstone and the marks of what is freed, not for a list of chunks.
    faults.space_bytes.store(140, Ordering::Relaxed);
    let removed = store.forget_forged(&wrong, &keep).unwrap();
    assert_eq!(removed.freed_chunks.len(), 6);
    assert_eq!(store.file(&right.address()).unwrap(), None);
}

#[test]
fn chunks_of_a_download_that_was_removed_meanwhile_can_be_given_back() {
    let store = Store::in_memory().unwrap();
    let (bytes, right, wrong, keep) = attempt(&store);
    store.remove_file(&right.address()).unwrap().unwrap();
    // One of them is proven, which nobody is left to profit from.
    for index in [4, 6, 7, 8, 9] {
        put(&store, &bytes[index * CHUNK..(index + 1) * CHUNK]);
    }
    store.commit().unwrap();
    let refused = store
        .complete_partial(&right.address(), Claim::Own)
        .unwrap_err();
    assert!(matches!(refused, StoreError::UnknownFile(_)), "{refused}");
    assert_eq!(ones(&store.have(&right).unwrap()), [4, 6, 7, 8, 9]);
    // Any of these does: the forged manifest, the next download and its removal, the general sweep.
    let removed = store.forget_forged(&wrong, &keep).unwrap();
    assert_eq!(removed.freed_chunks.len(), 5);
    put(&store, &bytes[..CHUNK]);
    store.begin_partial(&right, None, Claim::Own).unwrap();
    let removed = store.remove_file(&right.address()).unwrap().unwrap();
    assert_eq!(removed.freed_chunks, [right.chunks()[0].hash]);
    put(&store, &bytes[..CHUNK]);
    let held = put(&store, &bytes[CHUNK..2 * CHUNK]);
    let hold = store.hold();
    hold.add(held);
    let removed = store.drop_orphans().unwrap();
    assert_eq!(removed.freed_chunks, [right.chunks()[0].hash]);
    drop(hold);
    assert_eq!(store.drop_orphans().unwrap().freed_chunks, [held]);
    assert_eq!(store.stats().unwrap().chunks, 0);
}
