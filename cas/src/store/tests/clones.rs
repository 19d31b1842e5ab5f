//! Clones: copies that the store owns. Here they are plain files, which every file system can have.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::import::FileIdentity;
use crate::store::clones::NewClone;

/// The number of the first clone of a store.
const CLONE: u32 = 1 << 31;

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreConfig::default()).unwrap()
}

/// A file among the clones, as if it had just been made from somebody's.
fn clone_of(store: &Store, bytes: &[u8]) -> NewClone {
    let path = store.core.clones.path(CLONE);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    NewClone {
        core: Arc::clone(&store.core),
        number: CLONE,
        identity: FileIdentity::of(&fs::metadata(&path).unwrap()),
    }
}

/// Stores a file as a clone; returns where the clone is.
fn add(store: &Store, bytes: &[u8]) -> (Manifest, PathBuf) {
    let manifest = manifest_of(SMALL_CHUNKS, bytes);
    let clone = clone_of(store, bytes);
    store
        .add_clone(&manifest, &clone, None, Claim::Pinned)
        .unwrap();
    (manifest, clone.path())
}

fn count_here(store: &Store, manifest: &Manifest) -> usize {
    store.have(manifest).unwrap().iter_ones().count()
}

#[test]
fn a_bad_sector_of_a_clone_costs_the_chunk_that_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (manifest, path) = add(&store, &bytes_of(1, 100 * CHUNK));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 512], 0).unwrap();
    let found = store.get(&manifest.chunks()[0].hash);
    assert!(matches!(found, Err(StoreError::Corrupt { .. })));
    assert!(path.exists());
    assert_eq!(count_here(&store, &manifest), 99);
    assert!(store.get(&manifest.chunks()[1].hash).unwrap().is_some());
}

#[test]
fn a_store_that_was_copied_elsewhere_has_its_clones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (manifest, path) = add(&store, &bytes_of(1, 100 * CHUNK));
    drop(store);
    // Another inode and another time.
    let copy = dir.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    let store = open(dir.path());
    let report = store
        .verify(None, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!((report.lost, report.bad), (Vec::new(), Vec::new()));
    assert_eq!(count_here(&store, &manifest), 100);
}

#[test]
fn the_loss_of_a_source_spares_the_clone_that_took_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = bytes_of(1, 100 * CHUNK);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let address = manifest.address();
    let users = dir.path().join("users");
    fs::write(&users, &bytes).unwrap();
    let entry = store
        .adopt_in_place(&manifest, &users, None, Claim::Pinned)
        .unwrap();
    fs::remove_file(&users).unwrap();
    // Somebody found it missing, and has his turn only after it was stored again.
    let missing = entry.source.unwrap().file.id;
    let (_, path) = add(&store, &bytes);
    for found in [None, Some(SourceState::Missing)] {
        let lost = store.core.lose_source(&address, missing, found).unwrap();
        assert_eq!(lost, None);
    }
    assert!(path.exists());
    assert_eq!(read_file(&store, &address).unwrap(), bytes);
}

/// A file in place, and one stored as a clone that has all its chunks and another one.
struct Sharing {
    home: PathBuf,
    store: Store,
    users: PathBuf,
    stored: Manifest,
}

impl Sharing {
    fn new(dir: &Path, seed: u64, between: impl FnOnce(&Store)) -> Self {
        let home = dir.join("store");
        let store = open(&home);
        let mut bytes = bytes_of(seed, 100 * CHUNK);
        let users = dir.join("users");
        fs::write(&users, &bytes).unwrap();
        let in_place = manifest_of(SMALL_CHUNKS, &bytes);
        store
            .adopt_in_place(&in_place, &users, None, Claim::Pinned)
            .unwrap();
        between(&store);
        bytes.extend(bytes_of(seed + 1000, 100));
        let (stored, _) = add(&store, &bytes);
        Self {
            home,
            store,
            users,
            stored,
        }
    }

    fn reopen(self, while_closed: impl FnOnce(&Path)) -> Self {
        drop(self.store);
        while_closed(&self.home);
        let store = open(&self.home);
        Self { store, ..self }
    }

    fn assert_stored_does_not_need_the_users_file(self) {
        for chunk in self.stored.chunks() {
            let chunk = self.store.core.indexed(&chunk.hash).unwrap().unwrap();
            assert_eq!(chunk.place.source(), Some(CLONE));
        }
        fs::remove_file(&self.users).unwrap();
        self.store.check_sources().unwrap();
        assert_eq!(count_here(&self.store, &self.stored), 101);
    }
}

#[test]
fn what_is_stored_does_not_hang_on_a_file_in_place_also_after_a_rebuild() {
    for rebuild in [false, true] {
        // Which of the two a rebuild comes to first depends on their addresses.
        for seed in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let mut sharing = Sharing::new(dir.path(), seed, |_| {});
            if rebuild {
                sharing = sharing.reopen(|home| drop(Store::rebuild_index(home).unwrap()));
            }
            sharing.assert_stored_does_not_need_the_users_file();
        }
    }
}

#[test]
fn what_is_stored_does_not_hang_on_a_file_in_place_after_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (home, stale) = (dir.path().join("store"), dir.path().join("stale"));
    // What reached the disk of the index: what it had before the clone.
    let sharing = Sharing::new(dir.path(), 1, |store| {
        store.core.index.sync().unwrap();
        copy_files(&home.join("index"), &stale);
    });
    let sharing = sharing.reopen(|home| {
        fs::remove_dir_all(home.join("index")).unwrap();
        fs::rename(&stale, home.join("index")).unwrap();
        fs::remove_file(home.join("CLEAN")).unwrap();
    });
    assert!(!home.join("index.bad.0").exists());
    sharing.assert_stored_does_not_need_the_users_file();
}
