//! Damaged manifest records: reported, never in the way, and replaced by a good one.

use super::*;
use crate::store::entry::ManifestEntry;
use crate::store::pack::Location;

/// A file whose manifest is too long for the index, so that its record is only in a pack.
fn long_file() -> (Vec<u8>, Manifest, Manifest) {
    let bytes = bytes_of(1, 130 * CHUNK + 5);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    assert!(manifest.encode().len() > INLINE_BYTES);
    let other = manifest_of(Chunking::Fixed.params(None), &bytes);
    (bytes, manifest, other)
}

struct Damaged {
    index: Arc<MemoryIndex>,
    medium: Arc<MemoryMedium>,
    store: Store,
    bytes: Vec<u8>,
    manifest: Manifest,
    other: Manifest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Flipped,
    Cut,
}

impl Damaged {
    /// An entry of this state, with some or all of its chunks and a record that cannot be read.
    fn new(state: FileState, how: How) -> Self {
        let (index, medium): (Arc<MemoryIndex>, Arc<MemoryMedium>) = Default::default();
        let store = Store::over(index.clone(), medium.clone(), u64::MAX).unwrap();
        let (bytes, manifest, other) = long_file();
        if state == FileState::Complete {
            put_chunks(&store, &bytes, &manifest);
            store.add_file(&manifest, Some("name"), Claim::Own).unwrap();
        } else {
            (0..7).for_each(|n| {
                put(&store, &bytes[n * CHUNK..(n + 1) * CHUNK]);
            });
            store
                .begin_partial(&manifest, Some("name"), Claim::Own)
                .unwrap();
        }
        let damaged = Self {
            index,
            medium,
            store,
            bytes,
            manifest,
            other,
        };
        damaged.hit(how);
        damaged
    }

    fn record(&self) -> Location {
        let value = self.index.get(&entry::manifest_key(&self.manifest.id()));
        ManifestEntry::decode(&value.unwrap().unwrap()).unwrap().at
    }

    fn hit(&self, how: How) {
        let at = self.record();
        let file = self.medium.open(at.pack).unwrap();
        match how {
            How::Flipped => {
                let (mut byte, offset) = ([0], at.offset + 48 + 2000);
                file.read_at(&mut byte, offset).unwrap();
                file.write_at(&[byte[0] ^ 4], offset).unwrap();
            }
            How::Cut => file.set_len(at.offset + 100).unwrap(),
        }
        let error = self.store.manifest(&self.manifest.address()).unwrap_err();
        assert!(
            matches!(error, StoreError::CorruptManifest { .. }),
            "{error}"
        );
        assert!(error.is_corruption());
    }

    fn reopen(&mut self, lose_index: bool) {
        if lose_index {
            self.index = Arc::default();
        }
        self.store = Store::over(self.index.clone(), self.medium.clone(), u64::MAX).unwrap();
    }

    /// Finishes the download and checks that it is whole, now and after a rebuild, and goes completely.
    fn finish(mut self, manifest: &Manifest) {
        let address = manifest.address();
        put_chunks(&self.store, &self.bytes, manifest);
        self.store.complete_partial(&address, Claim::Own).unwrap();
        for lose_index in [false, true] {
            self.reopen(lose_index);
            assert!(read_file(&self.store, &address).unwrap() == self.bytes);
            let entry = self.store.file(&address).unwrap().unwrap();
            assert_eq!(entry.state, FileState::Complete);
            assert_eq!(entry.name.as_deref(), Some("name"));
        }
        self.store.remove_file(&address).unwrap().unwrap();
        self.store.drop_orphans().unwrap();
        assert_eq!(self.store.stats().unwrap().chunks, 0);
    }
}

fn every_way() -> impl Iterator<Item = (FileState, How)> {
    let states = [FileState::Complete, FileState::Partial].into_iter();
    states.flat_map(|state| [How::Flipped, How::Cut].map(|how| (state, how)))
}

#[test]
fn the_same_manifest_is_written_anew() {
    for (state, how) in every_way() {
        let damaged = Damaged::new(state, how);
        let (store, manifest) = (&damaged.store, damaged.manifest.clone());
        let before = store.have(&manifest).unwrap();
        let entry = store.begin_partial(&manifest, None, Claim::Own).unwrap();
        assert_eq!((entry.state, entry.name.as_deref()), (state, Some("name")));
        assert_eq!(
            store.manifest(&manifest.address()).unwrap().as_ref(),
            Some(&manifest)
        );
        assert_eq!(store.have(&manifest).unwrap(), before, "{state:?} {how:?}");
        damaged.finish(&manifest);
    }
}

#[test]
fn another_manifest_takes_its_place() {
    for (state, how) in every_way() {
        let damaged = Damaged::new(state, how);
        let (store, other) = (&damaged.store, damaged.other.clone());
        let before = store.have(&damaged.manifest).unwrap();
        let entry = store.begin_partial(&other, None, Claim::Own).unwrap();
        assert_eq!(
            (entry.state, entry.manifest),
            (FileState::Partial, other.id())
        );
        assert_eq!(
            store.manifest(&other.address()).unwrap().as_ref(),
            Some(&other)
        );
        assert_eq!(store.have(&damaged.manifest).unwrap(), before);
        damaged.finish(&other);
    }
}

#[test]
fn adding_completing_and_removing_are_not_stuck() {
    for (state, how) in every_way() {
        let damaged = Damaged::new(state, how);
        let (store, manifest) = (&damaged.store, damaged.manifest.clone());
        let address = manifest.address();
        let error = store.complete_partial(&address, Claim::Own).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        put_chunks(store, &damaged.bytes, &manifest);
        let entry = store.add_file(&manifest, None, Claim::Pinned).unwrap();
        assert_eq!(
            (entry.state, entry.is_pinned()),
            (FileState::Complete, true)
        );
        assert_eq!(store.manifest(&address).unwrap().as_ref(), Some(&manifest));
        damaged.finish(&manifest);

        let damaged = Damaged::new(state, how);
        damaged.store.remove_file(&address).unwrap().unwrap();
        assert_eq!(damaged.store.files().unwrap(), []);
        put_file(&damaged.store, &damaged.bytes);
        damaged
            .store
            .add_file(&manifest, None, Claim::Pinned)
            .unwrap();
        assert_eq!(read_file(&damaged.store, &address).unwrap(), damaged.bytes);
    }
}

#[test]
fn a_complete_file_is_partial_after_a_rebuild_until_its_manifest_is_back() {
    let mut damaged = Damaged::new(FileState::Complete, How::Flipped);
    damaged.reopen(true);
    let (store, manifest) = (&damaged.store, damaged.manifest.clone());
    assert!(store.manifest(&manifest.address()).is_err());
    let entry = store.begin_partial(&manifest, None, Claim::Own).unwrap();
    assert_eq!(entry.state, FileState::Partial);
    assert!(store.have(&manifest).unwrap().is_complete());
    // The references are counted again: another file with a chunk of it takes none along.
    let twin = put_file(store, &damaged.bytes[..CHUNK]);
    store.add_file(&twin, None, Claim::Pinned).unwrap();
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap();
    store.remove_file(&twin.address()).unwrap().unwrap();
    damaged.finish(&manifest);
}

#[test]
fn a_flipped_byte_on_disk_is_mended_by_the_next_download() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, manifest, _) = long_file();
    let address = manifest.address();
    let at = {
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        put_chunks(&store, &bytes, &manifest);
        store.add_file(&manifest, None, Claim::Pinned).unwrap();
        store
            .core
            .manifest_entry(&manifest.id())
            .unwrap()
            .unwrap()
            .at
    };
    let pack = dir.path().join("packs/00000000.pack");
    let mut content = std::fs::read(&pack).unwrap();
    content[usize::try_from(at.offset).unwrap() + 48 + 1000] ^= 32;
    std::fs::write(&pack, content).unwrap();
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
    let error = store.manifest(&address).unwrap_err();
    assert!(
        matches!(error, StoreError::CorruptManifest { .. }),
        "{error}"
    );
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    drop(store);
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
    assert!(read_file(&store, &address).unwrap() == bytes);
    store.remove_file(&address).unwrap().unwrap();
    assert_eq!(store.stats().unwrap().chunks, 0, "counted once");
}
