//! Records that are damaged while something else still knows what they said.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;
use crate::store::pack::{Location, PACK_HEADER_BYTES};

struct Scene {
    medium: Arc<MemoryMedium>,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let medium = Arc::<MemoryMedium>::default();
        let store = Store::over(Arc::<MemoryIndex>::default(), medium.clone(), 1 << 20).unwrap();
        Self { medium, store }
    }

    fn add(&self, seed: u64, len: usize) -> Manifest {
        let manifest = put_file(&self.store, &bytes_of(seed, len));
        self.store.add_file(&manifest, None, Claim::Pinned).unwrap();
        manifest
    }

    fn hit(&self, at: Location) {
        let file = self.medium.open(at.pack).unwrap();
        // Behind the header of 48 bytes.
        file.write_at(&[0xee; 4], at.offset + 60).unwrap();
    }

    fn verify(&self) -> Verified {
        let mut go_on = |_: u64, _: u64| ControlFlow::Continue(());
        self.store.verify(None, &mut go_on).unwrap()
    }

    fn rebuild(&mut self) {
        let index = Arc::<MemoryIndex>::default();
        self.store = Store::over(index, self.medium.clone(), 1 << 20).unwrap();
    }
}

#[test]
fn a_chunk_that_the_index_has_a_copy_of_outlives_its_record() {
    for verify in [false, true] {
        let mut scene = Scene::new();
        let gone = scene.add(7, 300_000);
        let kept = scene.add(1, 500);
        let hash = kept.chunks()[0].hash;
        let chunk = scene.store.core.indexed(&hash).unwrap().unwrap();
        scene.store.remove_file(&gone.address()).unwrap();
        scene.hit(chunk.place.pack().unwrap());
        if verify {
            let report = scene.verify();
            assert_eq!((report.mended_records, report.bad), (1, Vec::new()));
        } else {
            // The pack is rewritten: what is taken along is the copy.
            let report = scene.store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
            assert!(report.compacted_packs > 0);
        }
        assert_eq!(scene.store.get(&hash).unwrap().unwrap(), bytes_of(1, 500));
        scene.rebuild();
        assert_eq!(scene.store.get(&hash).unwrap().unwrap(), bytes_of(1, 500));
    }
}

#[test]
fn a_damaged_entry_is_written_anew_before_a_rebuild_needs_it() {
    let mut scene = Scene::new();
    let manifest = scene.add(1, 100_000);
    let value = scene.store.core.file_value(&manifest.address()).unwrap();
    scene.hit(value.unwrap().at);
    let report = scene.verify();
    assert_eq!(report.mended_records, 1);
    assert_eq!((report.bad, report.bad_manifests), (Vec::new(), Vec::new()));
    assert_eq!(scene.verify().mended_records, 0);
    scene.rebuild();
    let file = scene.store.file(&manifest.address()).unwrap().unwrap();
    assert!(file.is_pinned());
    assert!(read_file(&scene.store, &manifest.address()).is_some());
}

#[test]
fn a_chunk_that_a_rebuild_missed_is_kept_when_it_is_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), StoreConfig::default()).unwrap();
    let store = open();
    let bytes = bytes_of(1, 300_000);
    let manifest = put_file(&store, &bytes);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    drop(store);
    // The header of the first record.
    let pack = dir.path().join("packs/00000000.pack");
    let file = OpenOptions::new().write(true).open(pack).unwrap();
    file.write_all_at(b"X", PACK_HEADER_BYTES).unwrap();
    Store::rebuild_index(dir.path()).unwrap();
    let store = open();
    assert!(!store.has(&manifest.chunks()[0].hash).unwrap());
    put_file(&store, &bytes);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
}
