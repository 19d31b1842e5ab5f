use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::*;
use crate::chunker::Chunking;
use crate::import::{import_file, plan_file};
use crate::store::{Claim, StoreConfig};
use crate::testing::{bytes_of, go_on};

const LEN: usize = 5_000_000;

fn sample(seed: u64) -> Vec<u8> {
    bytes_of(seed, LEN)
}

fn options(chunking: Chunking, placement: Placement) -> ImportOptions {
    ImportOptions {
        chunking,
        placement,
        claim: Claim::Own,
        ..ImportOptions::default()
    }
}

const COPY: fn() -> ImportOptions = || options(Chunking::Fixed, Placement::Copy);
const IN_PLACE: fn() -> ImportOptions = || options(Chunking::Fixed, Placement::InPlace);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// The file as it is then stored, and how often it was read for that.
fn import_counted(store: &Store, path: &Path, options: &ImportOptions) -> (Imported, usize) {
    let mut passes = 0;
    let mut count = |done, _| {
        passes += usize::from(done == 0);
        ControlFlow::Continue(())
    };
    let imported = import_file(store, path, options, &mut count).unwrap();
    (imported, passes)
}

#[test]
fn a_file_that_is_here_is_read_once_and_nothing_is_written() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
        let path = folder.file("f", &sample(1));
        let options = options(chunking, Placement::Copy);
        let (first, passes) = import_counted(&store, &path, &options);
        assert_eq!((passes, first.new_bytes), (1, LEN as u64));
        let before = store.stats().unwrap();
        let (again, passes) = import_counted(&store, &path, &options);
        assert_eq!(passes, 1);
        assert_eq!((again.new_chunks, again.new_bytes), (0, 0));
        assert_eq!((again.bytes, again.saved_bytes), (LEN as u64, LEN as u64));
        assert_eq!(again.chunks, first.chunks);
        assert_eq!((again.manifest, again.entry), (first.manifest, first.entry));
        assert_eq!(store.stats().unwrap(), before);
    }
}

#[test]
fn name_and_pin_are_taken_over() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    let (old, new) = (
        folder.file("old", &sample(1)),
        folder.file("new", &sample(1)),
    );
    import_counted(&store, &old, &COPY());
    let pinned = ImportOptions {
        claim: Claim::Pinned,
        ..COPY()
    };
    let (again, _) = import_counted(&store, &new, &pinned);
    assert_eq!(
        (again.entry.name.as_deref(), again.entry.is_pinned()),
        (Some("new"), true)
    );
    assert_eq!(store.file(&again.address).unwrap(), Some(again.entry));
    let no_name = ImportOptions {
        name: Some("a/b".into()),
        ..COPY()
    };
    let error = import_file(&store, &new, &no_name, &mut go_on).unwrap_err();
    assert!(matches!(error, ImportError::Name(_)));
}

#[test]
fn only_a_file_of_the_same_size_costs_another_pass() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    import_counted(&store, &folder.file("a", &sample(1)), &COPY());
    let (other, passes) = import_counted(&store, &folder.file("b", &sample(2)), &COPY());
    assert_eq!((passes, other.new_bytes), (2, LEN as u64));
    let shorter = folder.file("c", &sample(3)[1..]);
    let (shorter, passes) = import_counted(&store, &shorter, &COPY());
    assert_eq!((passes, shorter.new_bytes), (1, LEN as u64 - 1));
    assert_eq!(store.files().unwrap().len(), 3);
}

#[test]
fn what_is_not_whole_is_stored_anew() {
    let folder = Folder::new();
    let path = folder.file("f", &sample(1));
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), StoreConfig::default()).unwrap();
    // Small enough for the store to make no clone of it, whatever the file system.
    let small = folder.file("small", &sample(2)[..900_000]);
    let (first, _) = import_counted(&open(), &small, &COPY());
    let pack = dir.path().join("packs/00000000.pack");
    let mut damaged = fs::read(&pack).unwrap();
    damaged[300_000] ^= 1;
    fs::write(&pack, damaged).unwrap();
    let store = open();
    let bad = first.manifest.chunks()[1].hash;
    assert!(store.get(&bad).is_err());
    let plan = plan_file(&store, &small, &COPY(), u64::MAX, &mut go_on).unwrap();
    assert_eq!((plan.new_bytes, plan.distinct_new_chunks), (262_144, 1));
    let (again, _) = import_counted(&store, &small, &COPY());
    assert_eq!((again.new_chunks, again.manifest), (1, first.manifest));
    assert!(store.get(&bad).unwrap().is_some());

    let other = Store::in_memory().unwrap();
    let (whole, _) = import_counted(&other, &path, &COPY());
    store
        .begin_partial(&whole.manifest, None, Claim::Own)
        .unwrap();
    let (stored, passes) = import_counted(&store, &path, &COPY());
    assert_eq!((passes, stored.entry.state), (1, FileState::Complete));
    assert!(stored.new_chunks + u32::from(stored.entry.source.is_some()) > 0);
}

#[test]
fn a_copy_that_is_here_needs_no_file_in_place() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    let path = folder.file("f", &sample(1));
    import_counted(&store, &path, &COPY());
    let (again, passes) = import_counted(&store, &path, &IN_PLACE());
    assert_eq!((passes, again.referenced_bytes), (1, 0));
    assert_eq!(again.entry.source, None);
    assert_eq!(again.saved_bytes, LEN as u64);
}

#[test]
fn a_file_in_place_is_known_where_it_is_and_as_it_was() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    let path = folder.file("f", &sample(1));
    let other = folder.file("g", &sample(1));
    let (first, _) = import_counted(&store, &path, &IN_PLACE());
    assert_eq!(first.referenced_bytes, LEN as u64);
    let (again, passes) = import_counted(&store, &path, &IN_PLACE());
    assert_eq!((passes, &again.entry), (1, &first.entry));
    let (elsewhere, passes) = import_counted(&store, &other, &IN_PLACE());
    assert_eq!((passes, elsewhere.entry.source), (1, first.entry.source));
    // Its time is another one: what is noted of it has to be noted anew.
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    let (touched, _) = import_counted(&store, &path, &IN_PLACE());
    assert_eq!(touched.entry.state, FileState::Complete);
    assert!(store.check_sources().unwrap().is_empty());
    // Storing it as a copy is how it leaves that state.
    let (copied, _) = import_counted(&store, &path, &COPY());
    assert_eq!(copied.entry.state, FileState::Complete);
    assert!(store.have(&copied.manifest).unwrap().is_complete());
}

#[test]
fn a_known_file_that_changes_or_is_cancelled_changes_nothing() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    let path = folder.file("f", &sample(1));
    let (first, _) = import_counted(&store, &path, &COPY());
    let pinned = ImportOptions {
        claim: Claim::Pinned,
        ..COPY()
    };
    let mut stop = |done, _| match done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let error = import_file(&store, &path, &pinned, &mut stop).unwrap_err();
    assert!(matches!(error, ImportError::Cancelled), "{error}");
    let mut meddle = |_, _| {
        fs::write(&path, sample(2)).unwrap();
        ControlFlow::Continue(())
    };
    let error = import_file(&store, &path, &pinned, &mut meddle).unwrap_err();
    assert!(matches!(error, ImportError::Changed { .. }), "{error}");
    assert_eq!(store.files().unwrap(), [first.entry]);
}

#[test]
fn a_plan_of_a_known_file_is_nothing_however_it_is_cut() {
    let (store, folder) = (Store::in_memory().unwrap(), Folder::new());
    let path = folder.file("f", &sample(1));
    import_counted(&store, &path, &COPY());
    let cut_otherwise = options(Chunking::FastCdc, Placement::Copy);
    let mut passes = 0;
    let mut count = |done, _| {
        passes += usize::from(done == 0);
        ControlFlow::Continue(())
    };
    let plan = plan_file(&store, &path, &cut_otherwise, 0, &mut count).unwrap();
    assert_eq!((plan.new_bytes, plan.distinct_new_chunks), (0, 0));
    assert_eq!(
        (plan.size_bytes, plan.exceeded, passes),
        (LEN as u64, false, 1)
    );
}
