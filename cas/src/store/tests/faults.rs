//! Media that fail: reads that cannot be done, syncs that lose writes, disks that are full.

use super::*;
use crate::store::pack::{Location, Packs, RecordKind};

fn append(packs: &Packs, seed: u64) -> Location {
    let payload = bytes_of(seed, 5000);
    let hash = *blake3::hash(&payload).as_bytes();
    packs.append(RecordKind::Chunk, &hash, &payload).unwrap()
}

fn open_packs(medium: Arc<FaultMedium>) -> Packs {
    Packs::open(medium, [1; 16], 1 << 30).unwrap()
}

#[test]
fn after_a_failed_sync_a_pack_is_never_said_to_be_durable_again() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let packs = open_packs(medium.clone());
    let first = append(&packs, 1);
    packs.sync(&packs.sync_point()).unwrap();
    append(&packs, 2);
    // The system loses the second record and tells only the sync that frees the first one.
    faults.failing_syncs.store(1, Ordering::Relaxed);
    packs.free(&[first]).unwrap_err();
    packs.sync(&packs.sync_point()).unwrap_err();
    packs.sync_pack(0).unwrap_err();
    drop(packs);
    open_packs(medium).sync_pack(0).unwrap();
}

#[test]
fn a_sync_needs_no_room_for_what_its_point_does_not_cover() {
    let (medium, faults) = FaultMedium::buffered(1_000_000);
    let packs = open_packs(medium);
    append(&packs, 1);
    packs.write_out().unwrap();
    let point = packs.sync_point();
    // Another thread's, on a disk that is full by now.
    append(&packs, 2);
    faults.space_bytes.store(0, Ordering::Relaxed);
    let ends = packs.sync(&point).unwrap();
    assert!(packs.write_out().unwrap_err().is_no_space());
    faults.space_bytes.store(1_000_000, Ordering::Relaxed);
    packs.write_out().unwrap();
    let later = packs.sync(&packs.sync_point()).unwrap();
    assert!(later[0].1 > ends[0].1);
}

#[test]
fn a_full_disk_beside_a_commit_does_not_stop_writes_for_good() {
    for round in 0..20u64 {
        let (medium, faults) = FaultMedium::buffered(1_000_000);
        let store = Store::over(Arc::<MemoryIndex>::default(), medium, 1 << 30).unwrap();
        std::thread::scope(|scope| {
            let putter = scope.spawn(|| {
                (0..400).all(|n| {
                    let bytes = bytes_of(round * 1000 + n, CHUNK);
                    store.put(&ChunkHash::of(&bytes), &bytes).is_ok()
                })
            });
            while !putter.is_finished() && store.commit().is_ok() {}
        });
        faults.space_bytes.store(100_000_000, Ordering::Relaxed);
        put(&store, &bytes_of(u64::MAX - round, CHUNK));
        store.commit().unwrap();
    }
}

/// A store whose one file is acknowledged, and whose index a power cut has thrown back to nothing.
fn behind(medium: &Arc<FaultMedium>) -> (Manifest, u64) {
    let store = Store::over(Arc::<MemoryIndex>::default(), medium.clone(), 1 << 20).unwrap();
    let manifest = put_file(&store, &bytes_of(1, 300_000));
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    (manifest, medium.open(0).unwrap().len().unwrap())
}

fn reopen(medium: &Arc<FaultMedium>) -> Result<Store, StoreError> {
    Store::over(Arc::<MemoryIndex>::default(), medium.clone(), 1 << 20)
}

#[test]
fn not_being_able_to_read_is_no_torn_end() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let (manifest, len) = behind(&medium);
    for errno in [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NOMEM,
        rustix::io::Errno::ACCESS,
    ] {
        faults
            .read_errno
            .store(errno.raw_os_error(), Ordering::Relaxed);
        // The pack's header can be read, and a few records.
        for readable in [0, 1, 5] {
            faults.readable.store(readable, Ordering::Relaxed);
            faults.failing_reads.store(1, Ordering::Relaxed);
            let error = reopen(&medium).unwrap_err();
            assert!(error.to_string().contains("read a pack"), "{error}");
            assert_eq!(medium.open(0).unwrap().len().unwrap(), len);
        }
    }
    let store = reopen(&medium).unwrap();
    assert!(read_file(&store, &manifest.address()).is_some());
}

#[test]
fn nothing_is_cut_off_where_the_medium_cannot_read() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let (manifest, len) = behind(&medium);
    let eio = rustix::io::Errno::IO.raw_os_error();
    faults.read_errno.store(eio, Ordering::Relaxed);
    faults.failing_reads.store(1000, Ordering::Relaxed);
    let store = reopen(&medium).unwrap();
    faults.failing_reads.store(0, Ordering::Relaxed);
    assert!(store.file(&manifest.address()).unwrap().is_none());
    let later = put(&store, &bytes_of(2, CHUNK));
    store.commit().unwrap();
    drop(store);
    assert_eq!(medium.open(0).unwrap().len().unwrap(), len);
    assert_eq!(medium.ids().unwrap(), [0, 1], "appended elsewhere");
    let store = reopen(&medium).unwrap();
    assert!(store.has(&later).unwrap());
    assert!(read_file(&store, &manifest.address()).is_some());
}

#[test]
fn a_bad_sector_costs_its_record_and_not_the_block_around_it() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let (manifest, len) = behind(&medium);
    let eio = rustix::io::Errno::IO.raw_os_error();
    faults.read_errno.store(eio, Ordering::Relaxed);
    // The pack's header can be read; not the first record's, nor the large block behind it.
    faults.readable.store(1, Ordering::Relaxed);
    faults.failing_reads.store(2, Ordering::Relaxed);
    let store = reopen(&medium).unwrap();
    let have: Vec<usize> = store.have(&manifest).unwrap().iter_zeros().collect();
    assert_eq!(have, [0]);
    assert_eq!(medium.open(0).unwrap().len().unwrap(), len);
}

#[test]
fn a_torn_record_is_not_found_again_by_its_header() {
    let (medium, _) = FaultMedium::new(i64::MAX / 2);
    let index = Arc::<MemoryIndex>::default();
    let open = || Store::over(index.clone(), medium.clone(), 1 << 20).unwrap();
    let store = open();
    let torn = put(&store, &bytes_of(7, CHUNK));
    let at = store.core.pending.read().unwrap()[&torn].at;
    put(&store, &bytes_of(8, CHUNK));
    drop(store);
    // A power cut before any sync: a page of the first payload did not arrive, the rest did.
    let file = medium.open(at.pack).unwrap();
    file.write_at(&[0; 4096], at.offset + 4096).unwrap();
    let store = open();
    assert!(!store.has(&torn).unwrap());
    // Its pack becomes one of those that were synced.
    for n in 100..180 {
        put(&store, &bytes_of(n, CHUNK));
    }
    store.commit().unwrap();
    drop(store);
    assert!(medium.ids().unwrap().len() > 1);
    let rebuilt = reopen(&medium).unwrap();
    assert_eq!(rebuilt.stats().unwrap().chunks, 81);
    let manifest = put_file(&rebuilt, &bytes_of(7, CHUNK));
    rebuilt.add_file(&manifest, None, Claim::Pinned).unwrap();
    assert!(read_file(&rebuilt, &manifest.address()).is_some());
}

#[test]
fn the_number_of_a_pack_that_is_lost_is_not_given_again() {
    let (medium, _) = FaultMedium::new(i64::MAX / 2);
    let index = Arc::<MemoryIndex>::default();
    let store = Store::over(index.clone(), medium.clone(), 1 << 20).unwrap();
    for n in 0..100 {
        put(&store, &bytes_of(n, CHUNK));
    }
    store.commit().unwrap();
    store.core.index.sync().unwrap();
    drop(store);
    let lost = *medium.ids().unwrap().last().unwrap();
    assert!(lost > 0);
    medium.remove(lost).unwrap();
    // The packs before are full: what is stored now goes into a new one.
    let store = Store::over(index.clone(), medium.clone(), 1 << 20).unwrap();
    let manifest = put_file(&store, &bytes_of(1000, CHUNK));
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    assert_eq!(*medium.ids().unwrap().last().unwrap(), lost + 1);
    drop(store);
    // A power cut: what the index was told since is lost.
    let index = Arc::new(index.power_cut(0));
    let store = Store::over(index, medium, 1 << 20).unwrap();
    assert!(read_file(&store, &manifest.address()).is_some());
}

#[test]
fn what_only_the_cache_has_is_not_adopted() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let index = Arc::<MemoryIndex>::default();
    let open = || Store::over(index.clone(), medium.clone(), 1 << 20).unwrap();
    let store = open();
    put(&store, &bytes_of(1, CHUNK));
    store.commit().unwrap();
    let hash = put(&store, &bytes_of(2, CHUNK));
    let at = store.core.pending.read().unwrap()[&hash].at;
    // The write of a page fails, and so does the sync that is told of it. The cache keeps the page.
    let lost = at.offset.next_multiple_of(4096);
    let file = medium.open(at.pack).unwrap();
    let mut page = vec![0; 4096];
    file.read_at(&mut page, lost).unwrap();
    file.write_at(&[0; 4096], lost).unwrap();
    *lock(&faults.stale_page) = Some((lost, page));
    faults.failing_syncs.store(1, Ordering::Relaxed);
    store.commit().unwrap_err();
    drop(store);
    let store = open();
    assert!(!store.has(&hash).unwrap(), "adopted from the cache");
    assert_eq!(store.stats().unwrap().chunks, 1);
}

#[test]
fn a_full_disk_uses_up_no_pack_numbers() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let packs = open_packs(medium.clone());
    faults.failing_creates.store(3, Ordering::Relaxed);
    for _ in 0..3 {
        let error = packs.append(RecordKind::Chunk, &[0; 32], b"x").unwrap_err();
        assert!(error.is_no_space(), "{error}");
    }
    assert_eq!(append(&packs, 1).pack, 0);
    // What somebody else has put there is stepped over.
    packs.seal_active();
    medium.create(1, b"").unwrap();
    packs.append(RecordKind::Chunk, &[0; 32], b"x").unwrap_err();
    assert_eq!(append(&packs, 2).pack, 2);
}

#[test]
fn a_chunk_that_cannot_be_read_just_now_is_not_given_up() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let store = Store::over(Arc::<MemoryIndex>::default(), medium, 1 << 20).unwrap();
    let bytes = bytes_of(1, 300_000);
    let manifest = put_file(&store, &bytes);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    let mfile = rustix::io::Errno::MFILE.raw_os_error();
    faults.read_errno.store(mfile, Ordering::Relaxed);
    faults.failing_reads.store(1000, Ordering::Relaxed);
    for chunk in manifest.chunks() {
        let error = store.get(&chunk.hash).unwrap_err();
        assert!(!error.is_corruption(), "{error}");
    }
    let _ = store.verify(None, &mut |_, _| ControlFlow::Continue(()));
    store.core.packs.seal_active();
    let _ = store.core.compact(0, &mut |_| ControlFlow::Continue(()));
    faults.failing_reads.store(0, Ordering::Relaxed);
    assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
}
