//! Files kept in place: what is read from them, and what becomes of them when they change.

use std::fs;
use std::path::Path;

use super::*;
use crate::import::{ImportOptions, Imported, Placement, import_file};
use crate::store::entry::{ChunkEntry, Place, SourceState};

fn import(store: &Store, path: &Path, placement: Placement) -> Imported {
    let options = ImportOptions {
        placement,
        ..ImportOptions::default()
    };
    import_file(store, path, &options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// A store in memory, to which the power can be cut, and a folder with a file.
struct Scene {
    folder: tempfile::TempDir,
    index: Arc<MemoryIndex>,
    medium: Arc<MemoryMedium>,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let (index, medium) = (
            Arc::<MemoryIndex>::default(),
            Arc::<MemoryMedium>::default(),
        );
        let store = Store::over(index.clone(), medium.clone(), 1 << 20).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            index,
            medium,
            store,
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn reopen(&mut self) {
        self.store = Store::over(self.index.clone(), self.medium.clone(), 1 << 20).unwrap();
        recovery::check_index(self.index.as_ref()).unwrap();
    }

    fn entry(&self, hash: &ChunkHash) -> ChunkEntry {
        self.store.core.indexed(hash).unwrap().unwrap()
    }
}

const LARGE: usize = 600_000;

#[test]
fn a_file_in_place_is_read_from_where_it_is_and_takes_no_space() {
    let mut scene = Scene::new();
    let bytes = bytes_of(1, LARGE);
    let path = scene.file("a", &bytes);
    let imported = import(&scene.store, &path, Placement::InPlace);
    assert_eq!(imported.new_bytes, 0);
    assert_eq!(imported.referenced_bytes, LARGE as u64);
    assert!(scene.medium.disk_bytes() < 20_000);
    let usage = scene.store.usage(Some(&imported.address)).unwrap();
    assert_eq!(usage[0].referenced_bytes, LARGE as u64);
    assert_eq!(usage[0].stored_bytes, 0);
    for lost in ["nothing", "what was not synced", "the index"] {
        match lost {
            "nothing" => {}
            "what was not synced" => {
                scene.index = Arc::new(scene.index.power_cut(0));
                scene.medium = Arc::new(scene.medium.power_cut(false));
            }
            _ => scene.index = Arc::default(),
        }
        scene.reopen();
        assert_eq!(
            read_file(&scene.store, &imported.address).unwrap(),
            bytes,
            "{lost}"
        );
        let file = scene.store.file(&imported.address).unwrap().unwrap();
        assert_eq!(file.state, FileState::Complete);
        assert_eq!(file.source.unwrap().path, path);
    }
}

#[test]
fn an_edited_file_is_noticed_at_the_first_read_and_given_up() {
    let scene = Scene::new();
    let mut bytes = bytes_of(2, LARGE);
    let path = scene.file("a", &bytes);
    let imported = import(&scene.store, &path, Placement::InPlace);
    let chunks = imported.manifest.chunks();
    let handle = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    bytes[300_000] ^= 1;
    std::os::unix::fs::FileExt::write_all_at(&handle, &bytes, 0).unwrap();
    handle.set_modified(times).unwrap(); // whoever edits it may hide that
    assert!(scene.store.check_sources().unwrap().is_empty());
    let found = scene.store.get(&chunks[1].hash);
    assert!(
        matches!(found, Err(StoreError::Corrupt { .. })),
        "{found:?}"
    );
    for chunk in chunks {
        assert!(
            !scene.store.has(&chunk.hash).unwrap(),
            "nothing of it is believed"
        );
    }
    let file = scene.store.file(&imported.address).unwrap().unwrap();
    assert_eq!(file.state, FileState::Partial);
    assert_eq!(file.source.unwrap().state, SourceState::Changed);
    // Storing it as it is now is another file; storing the old bytes again heals the old one.
    bytes[300_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let again = import(&scene.store, &path, Placement::InPlace);
    assert_eq!(again.address, imported.address);
    assert_eq!(again.entry.state, FileState::Complete);
    assert_eq!(read_file(&scene.store, &again.address).unwrap(), bytes);
}

#[test]
fn looking_finds_files_that_are_gone_or_replaced_also_after_a_rebuild() {
    let mut scene = Scene::new();
    let gone = scene.file("gone", &bytes_of(3, LARGE));
    let replaced = scene.file("replaced", &bytes_of(4, LARGE));
    let kept = scene.file("kept", &bytes_of(5, LARGE));
    let all = [&gone, &replaced, &kept].map(|path| import(&scene.store, path, Placement::InPlace));
    fs::remove_file(&gone).unwrap();
    fs::remove_file(&replaced).unwrap();
    fs::write(&replaced, b"another").unwrap();
    let mut lost = scene.store.check_sources().unwrap();
    lost.sort_by_key(|lost| lost.path.clone());
    let told: Vec<_> = lost
        .iter()
        .map(|lost| (lost.path.clone(), lost.state))
        .collect();
    let expected = [
        (gone, SourceState::Missing),
        (replaced, SourceState::Changed),
    ];
    assert_eq!(told, expected);
    assert_eq!(lost[0].chunks.len(), all[0].manifest.chunks().len());
    assert!(scene.store.check_sources().unwrap().is_empty(), "told once");
    for index in [scene.index.clone(), Arc::default()] {
        scene.index = index;
        scene.reopen();
        let states = all.each_ref().map(|imported| {
            let file = scene.store.file(&imported.address).unwrap().unwrap();
            (file.state, file.source.unwrap().state)
        });
        let expected = [
            (FileState::Partial, SourceState::Missing),
            (FileState::Partial, SourceState::Changed),
            (FileState::Complete, SourceState::Intact),
        ];
        assert_eq!(states, expected);
    }
}

#[test]
fn what_another_file_needs_is_copied_before_its_source_goes() {
    let mut scene = Scene::new();
    let bytes = bytes_of(6, 4 * 262_144);
    let whole = scene.file("whole", &bytes);
    let part = scene.file("part", &bytes[..2 * 262_144]);
    let in_place = import(&scene.store, &whole, Placement::InPlace);
    // Its chunks are known, yet a copy is a copy: it must not hang on somebody's file.
    let copied = import(&scene.store, &part, Placement::Copy);
    assert_eq!(copied.new_bytes, 2 * 262_144);
    let shared = scene.file("shared", &bytes[262_144..]);
    let shared = import(&scene.store, &shared, Placement::InPlace);
    assert_eq!(shared.referenced_bytes, 0, "all of it is here");
    scene.store.remove_file(&in_place.address).unwrap();
    fs::remove_file(&whole).unwrap();
    for chunk in shared.manifest.chunks() {
        assert!(matches!(scene.entry(&chunk.hash).place, Place::Pack(_)));
    }
    for index in [scene.index.clone(), Arc::default()] {
        scene.index = index;
        scene.reopen();
        let found = read_file(&scene.store, &shared.address).unwrap();
        assert_eq!(found, bytes[262_144..]);
        assert!(scene.store.check_sources().unwrap().is_empty());
    }
}

#[test]
fn a_copy_takes_over_from_a_file_in_place() {
    let mut scene = Scene::new();
    let bytes = bytes_of(7, LARGE);
    let path = scene.file("a", &bytes);
    import(&scene.store, &path, Placement::InPlace);
    let copied = import(&scene.store, &path, Placement::Copy);
    assert_eq!(copied.new_bytes, LARGE as u64);
    assert_eq!(copied.entry.source, None);
    fs::remove_file(&path).unwrap();
    assert!(scene.store.check_sources().unwrap().is_empty());
    for index in [scene.index.clone(), Arc::default()] {
        scene.index = index;
        scene.reopen();
        assert_eq!(read_file(&scene.store, &copied.address).unwrap(), bytes);
    }
}

#[test]
fn a_moved_file_can_be_stored_in_place_anew() {
    let scene = Scene::new();
    let bytes = bytes_of(8, LARGE);
    let path = scene.file("a", &bytes);
    import(&scene.store, &path, Placement::InPlace);
    let moved = scene.folder.path().join("b");
    fs::rename(&path, &moved).unwrap();
    let again = import(&scene.store, &moved, Placement::InPlace);
    assert_eq!(again.entry.source.unwrap().path, moved);
    assert_eq!(read_file(&scene.store, &again.address).unwrap(), bytes);
}

#[test]
fn lent_chunks_are_seen_until_they_are_taken_back_and_never_believed() {
    let scene = Scene::new();
    let bytes = bytes_of(9, 5000);
    let hash = ChunkHash::of(&bytes);
    let path = scene.file("part", &bytes);
    let file = Arc::new(crate::OutputFile::from(fs::File::open(&path).unwrap()));
    scene.store.lend(&hash, file.clone(), 0, 5000);
    assert_eq!(scene.store.get(&hash).unwrap().unwrap(), bytes);
    fs::write(&path, bytes_of(10, 5000)).unwrap();
    assert_eq!(scene.store.get(&hash).unwrap(), None);
    assert!(!scene.store.has(&hash).unwrap());
    scene.store.lend(&hash, file.clone(), 0, 5000);
    assert!(scene.store.has(&hash).unwrap());
    scene.store.unlend(&file);
    assert!(!scene.store.has(&hash).unwrap());
}

#[test]
fn no_number_of_a_source_is_used_twice() {
    let scene = Scene::new();
    let numbers = [10, 11].map(|seed| {
        let path = scene.file("a", &bytes_of(seed, LARGE));
        let imported = import(&scene.store, &path, Placement::InPlace);
        scene.store.remove_file(&imported.address).unwrap();
        imported.entry.source.unwrap().file.id
    });
    assert_ne!(numbers[0], numbers[1]);
}

#[test]
fn no_source_outlives_its_file_when_the_power_goes_in_a_removal() {
    let mut scene = Scene::new();
    let path = scene.file("a", &bytes_of(12, LARGE));
    let imported = import(&scene.store, &path, Placement::InPlace);
    scene.index.sync().unwrap();
    let before = scene.index.power_cut(0);
    scene.store.remove_file(&imported.address).unwrap();
    // The removal reached the packs, and the index not.
    scene.index = Arc::new(before);
    scene.medium = Arc::new(scene.medium.power_cut(false));
    scene.reopen();
    assert_eq!(scene.store.files().unwrap(), []);
    assert!(lock(&scene.store.core.commit).ledger.sources().is_empty());
}

#[test]
fn what_is_asked_of_one_file_is_told_of_it_alone() {
    let scene = Scene::new();
    let (one, other) = (bytes_of(13, LARGE), bytes_of(14, LARGE));
    let paths = [scene.file("one", &one), scene.file("other", &other)];
    let [first, second] = paths
        .each_ref()
        .map(|path| import(&scene.store, path, Placement::InPlace));
    let chunk = &first.manifest.chunks()[0].hash;
    assert!(!scene.store.has_own(chunk).unwrap());
    scene
        .store
        .put(chunk, &one[..first.manifest.chunks()[0].len_bytes as usize])
        .unwrap();
    assert!(scene.store.has_own(chunk).unwrap());
    scene.store.set_pinned(&first.address, true).unwrap();
    scene.store.set_pinned(&second.address, false).unwrap();
    let pinned = [&first, &second].map(|file| scene.store.is_pinned(&file.address).unwrap());
    assert_eq!(pinned, [true, false]);
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    scene.store.check_source(&second.address).unwrap();
    let states = [&first, &second].map(|imported| {
        let file = scene.store.file(&imported.address).unwrap().unwrap();
        file.source.unwrap().state
    });
    assert_eq!(states, [SourceState::Intact, SourceState::Missing]);
}

#[test]
fn beside_the_store_is_its_file_system_but_not_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let store = crate::Store::open(&data_dir, crate::StoreConfig::default()).unwrap();
    assert!(store.is_beside(folder.path()));
    assert!(!store.is_beside(&data_dir));
    assert!(!store.is_beside(&data_dir.join("packs")));
    assert!(!store.is_beside(&folder.path().join("missing")));
    // Whatever this machine has there, it is no disk.
    assert!(!store.is_beside(std::path::Path::new("/proc")));
    assert!(!Scene::new().store.is_beside(folder.path()));
}
