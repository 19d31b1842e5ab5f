//! What an interruption or a rebuild leaves of directories and their members.

use super::*;

/// A store over memory that can be opened again, or lose its index.
struct Disk {
    index: Arc<MemoryIndex>,
    medium: Arc<MemoryMedium>,
}

impl Disk {
    fn new() -> Self {
        Self {
            index: Arc::default(),
            medium: Arc::default(),
        }
    }

    fn open(&self) -> Store {
        Store::over(self.index.clone(), self.medium.clone(), 1 << 20).unwrap()
    }

    fn without_index(&self) -> Store {
        Store::over(Arc::<MemoryIndex>::default(), self.medium.clone(), 1 << 20).unwrap()
    }

    /// The same disk once more.
    fn copy(&self) -> Self {
        Self {
            index: Arc::new(self.index.power_cut(usize::MAX)),
            medium: Arc::new(self.medium.power_cut(true)),
        }
    }

    /// Two copies opened again: with the index, and without it.
    fn reopened(&self) -> [Store; 2] {
        [self.copy().open(), self.copy().without_index()]
    }
}

#[test]
fn members_without_a_directory_are_swept_unless_they_are_held_or_used() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..3);
    let hold = store.hold_members();
    assert_eq!(store.drop_orphans().unwrap().files, []);
    let directory = put_dir(&store, &files[..1]);
    // Nothing goes while somebody may rely on it, and all of it afterwards.
    assert_eq!(
        store.remove_file(&directory).unwrap().unwrap().files,
        [directory]
    );
    let planned = || store.gc_plan().unwrap().orphan_chunks;
    assert_eq!(planned(), 0);
    drop(hold);
    let used = store.in_use(&files[2]);
    assert_eq!(planned(), 2);
    assert_eq!(store.drop_orphans().unwrap().files.len(), 2);
    drop(used);
    let plan = store.gc_plan().unwrap();
    assert_eq!((plan.orphan_chunks, plan.orphan_bytes), (1, 100));
    assert_eq!(store.drop_orphans().unwrap().files, files[2..]);
    assert_eq!(planned(), 0);
    assert_eq!(store.stats().unwrap().chunks, 0);
}

#[test]
fn claims_and_directories_survive_a_rebuild() {
    let disk = Disk::new();
    let store = disk.open();
    let files = members(&store, 0..900);
    let directory = put_dir(&store, &files[..600]);
    store.set_pinned(&directory, true).unwrap();
    store.claim_file(&files[0], Claim::Own).unwrap();
    let gone = put_dir(&store, &files[500..]);
    store.remove_file(&gone).unwrap();
    drop(store);
    for store in disk.reopened() {
        let entry = store.file(&directory).unwrap().unwrap();
        assert!(entry.directory && entry.is_pinned());
        let size = store.directory_size(&directory).unwrap().unwrap();
        assert_eq!(size.files, 600);
        let own: Vec<Address> = store
            .own_files()
            .unwrap()
            .iter()
            .map(|f| f.address)
            .collect();
        assert_eq!(own.len(), 2);
        assert!(own.contains(&files[0]) && own.contains(&directory));
        assert_eq!(store.directories_of(&files[599], 9).unwrap(), [directory]);
        assert_eq!(store.drop_orphans().unwrap().files, []);
        assert_eq!(store.stats().unwrap().files, 601);
    }
}

#[test]
fn nothing_is_swept_while_a_listing_cannot_be_read() {
    let disk = Disk::new();
    let store = disk.open();
    let files = members(&store, 0..3);
    let directory = put_dir(&store, &files);
    let listing = store.listing(&directory).unwrap().unwrap().encode();
    let chunk = store.manifest(&directory).unwrap().unwrap().chunks()[0].hash;
    let place = store.core.indexed(&chunk).unwrap().unwrap().place;
    store
        .core
        .packs
        .free(&place.pack().into_iter().collect::<Vec<_>>())
        .unwrap();
    drop(store);
    let store = disk.without_index();
    assert_eq!(store.directory_size(&directory).unwrap(), None);
    assert_eq!(store.drop_orphans().unwrap().files, []);
    // The bytes are back: what it lists is known again.
    let manifest = put_file(&store, &listing);
    store.add_file(&manifest, None, Claim::Own).unwrap();
    assert_eq!(store.drop_orphans().unwrap().files, []);
    assert_eq!(store.directory_size(&directory).unwrap().unwrap().files, 3);
    assert_eq!(
        store.remove_file(&directory).unwrap().unwrap().files.len(),
        4
    );
}

#[test]
fn what_a_removal_that_was_cut_off_left_is_swept() {
    let disk = Disk::new();
    let store = disk.open();
    let files = members(&store, 0..10);
    let directory = put_dir(&store, &files);
    // As when the power goes right after the entry of the directory.
    let old = store.core.file_value(&directory).unwrap().unwrap();
    let mut committed = lock(&store.core.commit);
    let left = store
        .core
        .remove_entries(&mut committed, vec![old])
        .unwrap();
    drop(committed);
    store.core.finish_removal(left).unwrap();
    let rows = |store: &Store| {
        let mut rows = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        };
        store
            .core
            .index
            .scan(entry::MEMBER_PREFIX, &mut count)
            .unwrap();
        rows
    };
    assert_eq!(rows(&store), 10);
    drop(store);
    for store in disk.reopened() {
        let mut swept = store.drop_orphans().unwrap().files;
        swept.sort_unstable();
        let mut expected = files.clone();
        expected.sort_unstable();
        assert_eq!(swept, expected);
        assert_eq!((rows(&store), store.stats().unwrap().chunks), (0, 0));
    }
}

/// Stops a change after every batch of the index that it makes; `check` sees the store opened again, with the
/// index as it was left or without any, after the leftovers were swept.
fn stopped_anywhere(
    prepare: impl Fn(&Store),
    change: impl Fn(&Store) -> Result<(), StoreError>,
    check: impl Fn(&Store, bool),
) {
    let mut stopped = 0;
    for batches in 0.. {
        let disk = Disk::new();
        prepare(&disk.open());
        let stopping = Arc::new(crate::store::tests::cut_off::Stopping {
            below: disk.index.clone(),
            batches: AtomicI64::new(i64::MAX),
        });
        let store = Store::over(stopping.clone(), disk.medium.clone(), 1 << 20).unwrap();
        stopping.batches.store(batches, Ordering::Relaxed);
        let finished = change(&store).is_ok();
        drop(store);
        let after_cut = Disk {
            index: Arc::new(disk.index.power_cut(usize::try_from(batches).unwrap() / 2)),
            medium: Arc::new(disk.medium.power_cut(batches % 2 == 0)),
        };
        for store in after_cut.reopened() {
            store.drop_orphans().unwrap();
            check(&store, finished);
            recovery::check_index(store.core.index.as_ref()).unwrap();
        }
        if finished {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 3, "done in {stopped} batches");
}

#[test]
fn a_removal_that_stops_anywhere_is_done_or_finished_by_a_sweep() {
    let files: Vec<Address> = (0..700).map(|seed| small(seed).address).collect();
    let prepare = |store: &Store| {
        members(store, 0..700);
        put_dir(store, &files);
        put_dir(store, &files[690..]);
    };
    let directory = {
        let store = Store::in_memory().unwrap();
        members(&store, 0..700);
        put_listing(&store, &files)
    };
    let change = |store: &Store| store.remove_file(&directory).map(drop);
    stopped_anywhere(prepare, change, |store, finished| {
        let is_whole = store.directory_size(&directory).unwrap().is_some();
        assert!(!(finished && is_whole));
        let left = store.stats().unwrap().files;
        assert_eq!(left, if is_whole { 702 } else { 11 });
        assert!(is_here(store, &files[699]));
    });
}

#[test]
fn a_directory_that_is_being_entered_when_it_stops_is_one_or_none() {
    // Rows of more than three batches.
    const FILES: u64 = 3_500;
    let files: Vec<Address> = (0..FILES).map(|seed| small(seed).address).collect();
    let directory = {
        let store = Store::in_memory().unwrap();
        members(&store, 0..FILES);
        put_listing(&store, &files)
    };
    let prepare = |store: &Store| {
        members(store, 0..FILES);
        put_listing(store, &files);
    };
    let change = |store: &Store| store.enter_directory(&directory, Claim::Own).map(drop);
    stopped_anywhere(prepare, change, |store, finished| {
        let is_whole = store.directory_size(&directory).unwrap().is_some();
        assert!(is_whole || !finished);
        assert_eq!(
            store.stats().unwrap().files,
            if is_whole { FILES + 1 } else { 1 }
        );
    });
}
