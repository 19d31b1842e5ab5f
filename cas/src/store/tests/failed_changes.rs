//! Changes that fail half way, for a full disk: nothing of them is left, neither at once nor for a rebuild.

use super::*;
use crate::store::core::Committed;
use crate::store::flush::Extra;

const SPACE_BYTES: i64 = 1_000_000;

/// A store whose appends are collected in memory, so that a full disk shows late.
struct Scene {
    medium: Arc<FaultMedium>,
    faults: Arc<Faults>,
    store: Store,
    bytes: Vec<u8>,
    /// Whose chunks were put and committed.
    manifest: Manifest,
}

impl Scene {
    fn new() -> Self {
        let (medium, faults) = FaultMedium::buffered(SPACE_BYTES);
        let index = Arc::<MemoryIndex>::default();
        let store = Store::over(index, medium.clone(), 1 << 30).unwrap();
        let bytes = bytes_of(1, 100_000);
        let manifest = put_file(&store, &bytes);
        store.commit().unwrap();
        Self {
            medium,
            faults,
            store,
            bytes,
            manifest,
        }
    }

    fn limit(&self, space_bytes: i64) {
        self.faults
            .space_bytes
            .store(space_bytes, Ordering::Relaxed);
    }

    /// Fails to make a change durable, behind which another thread has put a chunk meanwhile.
    fn fail(&self, committed: &mut Committed, change: Extra) {
        put(&self.store, &bytes_of(2, CHUNK));
        self.limit(0);
        let error = self.store.core.flush(committed, change).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        self.limit(SPACE_BYTES);
    }

    fn store_again(&self) {
        put_file(&self.store, &self.bytes);
        self.store
            .add_file(&self.manifest, None, Claim::Pinned)
            .unwrap();
    }

    fn rebuild(&mut self) {
        let index = Arc::<MemoryIndex>::default();
        self.store = Store::over(index, self.medium.clone(), 1 << 30).unwrap();
    }

    fn assert_whole(&self) {
        let found = read_file(&self.store, &self.manifest.address());
        assert_eq!(found.unwrap(), self.bytes);
    }
}

#[test]
fn a_removal_that_failed_is_not_done_by_a_rebuild() {
    for stored_again in [false, true] {
        let mut scene = Scene::new();
        scene.store_again();
        let core = &scene.store.core;
        let mut removal = Extra::default();
        let mut committed = lock(&core.commit);
        let old = core.file_value(&scene.manifest.address()).unwrap().unwrap();
        core.append_tombstone(&mut removal, &old).unwrap();
        scene.fail(&mut committed, removal);
        drop(committed);
        if stored_again {
            scene.store_again();
        } else {
            scene.store.commit().unwrap();
        }
        scene.assert_whole();
        scene.rebuild();
        scene.assert_whole();
    }
}

#[test]
fn an_entry_that_failed_is_not_found_by_a_rebuild() {
    let mut scene = Scene::new();
    let (core, manifest) = (&scene.store.core, &scene.manifest);
    let entry = FileEntry {
        address: manifest.address(),
        name: None,
        size_bytes: manifest.size_bytes(),
        chunk_count: manifest.chunk_count(),
        manifest: manifest.id(),
        stored_unix_ms: 1,
        last_used_unix_ms: 0,
        claim: Claim::Pinned,
        directory: false,
        state: FileState::Complete,
        source: None,
    };
    let mut addition = Extra::default();
    let mut committed = lock(&core.commit);
    core.append_listing(
        &mut addition,
        entry.address,
        &manifest.id(),
        manifest.encode(),
    )
    .unwrap();
    core.append_entry(&mut addition, &entry).unwrap();
    scene.fail(&mut committed, addition);
    drop(committed);
    let hashes: Vec<_> = manifest.chunks().iter().map(|chunk| chunk.hash).collect();
    scene.store.drop_unreferenced(&hashes).unwrap();
    scene.rebuild();
    assert_eq!(scene.store.files().unwrap(), []);
    // With nothing that counts its chunks wrong, a collection keeps them.
    scene.store_again();
    scene.store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
    scene.assert_whole();
}

#[test]
fn a_file_in_place_that_could_not_be_recorded_leaves_no_source() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    let bytes = bytes_of(3, 100_000);
    std::fs::write(&path, &bytes).unwrap();
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    let adopt = || {
        scene
            .store
            .adopt_in_place(&manifest, &path, None, Claim::Own)
    };
    scene.limit(10);
    let error = adopt().unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(lock(&scene.store.core.commit).ledger.sources().is_empty());
    scene.limit(SPACE_BYTES);
    adopt().unwrap();
    assert!(read_file(&scene.store, &manifest.address()).is_some());
}
