//! What stays of files in stores of all kinds, without a network.

use std::{fs, fs::File, ops::ControlFlow, path::Path};

use casnode_cas::{ImportOptions, Imported, StoreConfig, import_reader};

use super::*;

const CHUNK: usize = 256 << 10;

fn content() -> Vec<u8> {
    (0..3 * CHUNK)
        .map(|i| u8::try_from(i * 31 / CHUNK + i % 251).unwrap_or(0))
        .collect()
}

fn import(store: &Store, bytes: &[u8], pinned: bool) -> Imported {
    let options = ImportOptions {
        claim: Claim::own(pinned),
        ..ImportOptions::default()
    };
    let size = Some(bytes.len() as u64);
    import_reader(store, &mut &bytes[..], size, &options, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

/// A file that was fetched to `path`, if anywhere but the packs.
fn fetched(place: Place, manifest: &Manifest, path: Option<&Path>) -> Fetched {
    Fetched {
        manifest: manifest.clone(),
        place,
        path: path.map(Path::to_owned),
        is_stores: false,
        name: None,
        is_announced_apart: false,
    }
}

#[test]
fn what_is_not_wanted_goes_and_what_was_whole_before_stays() {
    let bytes = content();
    let source = Store::in_memory().unwrap();
    let manifest = import(&source, &bytes, true).manifest;
    let store = Store::in_memory().unwrap();
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let chunk = &manifest.chunks()[0];
    let earlier = source.get(&chunk.hash).unwrap().unwrap();
    store.put(&chunk.hash, &earlier).unwrap();
    match enter(&store, Claim::Own, &fetched(Place::No, &manifest, None)).unwrap() {
        Entered::Gone(chunks) => assert_eq!(chunks, [chunk.hash]),
        _ => panic!("it is kept"),
    }
    assert!(store.file(&manifest.address()).unwrap().is_none());
    let entered = enter(&source, Claim::Own, &fetched(Place::No, &manifest, None)).unwrap();
    assert!(matches!(entered, Entered::Known));
    assert!(source.have(&manifest).unwrap().is_complete());
}

#[test]
fn a_name_that_became_known_later_is_entered() {
    let source = Store::in_memory().unwrap();
    let manifest = import(&source, &content(), true).manifest;
    let store = Store::in_memory().unwrap();
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    for chunk in manifest.chunks() {
        let bytes = source.get(&chunk.hash).unwrap().unwrap();
        store.put(&chunk.hash, &bytes).unwrap();
    }
    let named = Fetched {
        name: Some("late".to_owned()),
        ..fetched(Place::Store, &manifest, None)
    };
    enter(&store, Claim::Own, &named).unwrap();
    let entry = store.file(&manifest.address()).unwrap().unwrap();
    assert_eq!(entry.name.as_deref(), Some("late"));
}

#[test]
fn a_file_that_is_here_can_be_pinned_by_fetching_it() {
    let store = Store::in_memory().unwrap();
    let imported = import(&store, &content(), false);
    let pinned = |store: &Store| store.file(&imported.address).unwrap().unwrap().is_pinned();
    assert!(!pinned(&store));
    let fetched = fetched(Place::Store, &imported.manifest, None);
    enter(&store, Claim::Pinned, &fetched).unwrap();
    assert!(pinned(&store));
    enter(&store, Claim::Own, &fetched).unwrap();
    assert!(
        pinned(&store),
        "it is let go of only when that is asked for"
    );
}

#[test]
fn an_output_takes_the_place_of_what_was_damaged_in_the_store() {
    let bytes = content();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let manifest = {
        let store = Store::open(&data_dir, StoreConfig::default()).unwrap();
        import(&store, &bytes, false).manifest
    };
    flip(&data_dir, &bytes[CHUNK..2 * CHUNK]);
    let store = Store::open(&data_dir, StoreConfig::default()).unwrap();
    let chunk = &manifest.chunks()[1];
    store.get(&chunk.hash).unwrap_err();
    let output = dir.path().join("out");
    fs::write(&output, &bytes).unwrap();
    let file = Arc::new(casnode_cas::OutputFile::from(File::open(&output).unwrap()));
    store.lend(&chunk.hash, file.clone(), CHUNK as u64, chunk.len_bytes);
    let written = fetched(Place::Output, &manifest, Some(&output));
    enter(&store, Claim::Own, &written).unwrap();
    store.unlend(&file);
    assert!(store.get(&chunk.hash).unwrap().unwrap() == bytes[CHUNK..2 * CHUNK]);
    assert!(store.have(&manifest).unwrap().is_complete());
}

/// Flips a byte of `wanted` in the pack that holds it.
fn flip(data_dir: &Path, wanted: &[u8]) {
    for pack in fs::read_dir(data_dir.join("packs")).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|w| w == wanted) {
            bytes[at + wanted.len() / 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("it is in no pack");
}

/// As a kill between the output and the store leaves it.
#[test]
fn what_is_in_an_unfinished_file_alone_goes_into_packs_when_the_output_was_there_already() {
    let bytes = content();
    let (dir, source) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
    let manifest = import(&source, &bytes, false).manifest;
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let begun = store.begin_unfinished(&manifest.address(), manifest.size_bytes());
    begun.unwrap().unwrap().write_at(0, &bytes).unwrap();
    drop(store);
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
    let there = fetched(Place::Store, &manifest, Some(dir.path()));
    enter(&store, Claim::Pinned, &there).unwrap();
    let entry = store.file(&manifest.address()).unwrap().unwrap();
    assert!(entry.is_pinned() && entry.state == FileState::Complete);
    assert!(!store.has_unfinished(&manifest.address()));
    for chunk in manifest.chunks() {
        assert!(!store.is_lent(&chunk.hash).unwrap());
        assert!(store.get(&chunk.hash).unwrap().is_some());
    }
}

/// A file of the user's that the store refers to, its store, and its manifest.
fn in_place(dir: &Path, bytes: &[u8]) -> (PathBuf, Store, Manifest) {
    let manifest = import(&Store::in_memory().unwrap(), bytes, false).manifest;
    let store = Store::open(&dir.join("data"), StoreConfig::default()).unwrap();
    let path = dir.join("out");
    fs::write(&path, bytes).unwrap();
    let written = fetched(Place::Output, &manifest, Some(&path));
    enter(&store, Claim::Own, &written).unwrap();
    (path, store, manifest)
}

#[test]
fn an_output_that_replaces_the_file_in_place_is_the_file_in_place_then() {
    for place in [Place::Store, Place::No, Place::Output] {
        let (bytes, dir) = (content(), tempfile::tempdir().unwrap());
        let (path, store, manifest) = in_place(dir.path(), &bytes);
        let again = dir.path().join("again");
        fs::write(&again, &bytes).unwrap();
        fs::rename(&again, &path).unwrap();
        let written = fetched(place, &manifest, Some(&path));
        enter(&store, Claim::Own, &written).unwrap();
        assert!(store.check_sources().unwrap().is_empty(), "{place:?}");
        let entry = store.file(&manifest.address()).unwrap().unwrap();
        assert_eq!(entry.state, FileState::Complete, "{place:?}");
        assert!(store.have(&manifest).unwrap().is_complete(), "{place:?}");
    }
}

#[test]
fn a_copy_of_a_file_in_place_is_the_stores_and_another_output_makes_none() {
    let (bytes, dir) = (content(), tempfile::tempdir().unwrap());
    let (path, store, manifest) = in_place(dir.path(), &bytes);
    let entry = |store: &Store| store.file(&manifest.address()).unwrap().unwrap();
    let second = dir.path().join("second");
    fs::write(&second, &bytes).unwrap();
    for place in [Place::Store, Place::No, Place::Output] {
        enter(
            &store,
            Claim::Own,
            &fetched(place, &manifest, Some(&second)),
        )
        .unwrap();
        assert_eq!(
            super::in_place(&entry(&store)).as_ref(),
            Some(&path),
            "{place:?}"
        );
    }
    let copied = fetched(Place::Copy, &manifest, Some(&path));
    enter(&store, Claim::Own, &copied).unwrap();
    assert_eq!(entry(&store).source, None);
    fs::remove_file(&path).unwrap();
    assert!(store.check_sources().unwrap().is_empty());
    for chunk in manifest.chunks() {
        assert!(store.get(&chunk.hash).unwrap().is_some());
    }
}
