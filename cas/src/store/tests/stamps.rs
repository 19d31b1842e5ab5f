//! What is remembered of files outside, so that they need not be read again.

use std::fs;

use super::*;

const LATER_NS: i64 = 10_000_000_000;

fn whole(store: &Store, seed: u64) -> Address {
    let bytes = bytes_of(seed, 100);
    let file = SmallFile {
        address: Address::of(&bytes),
        bytes: bytes.into(),
        name: None,
    };
    store
        .add_small_files(std::slice::from_ref(&file), Claim::Member)
        .unwrap();
    file.address
}

/// A stamp of a file that was not changed for long.
fn stamp_of(path: &std::path::Path) -> FileStamp {
    FileStamp::of(&fs::metadata(path).unwrap()).taken_later(LATER_NS)
}

fn known_file(
    store: &Store,
    path_key: &[u8],
    stamp: &FileStamp,
) -> Result<Option<Address>, StoreError> {
    let found = store.known_files(&[(path_key, *stamp)])?;
    Ok(found[0])
}

fn known<'a>(path_key: &'a [u8], stamp: FileStamp, address: Address) -> KnownFile<'a> {
    KnownFile {
        path_key,
        stamp,
        address,
    }
}

#[test]
fn an_unchanged_file_is_known_until_it_or_the_store_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "one").unwrap();
    let store = Store::in_memory().unwrap();
    let address = whole(&store, 1);
    let stamp = stamp_of(&path);
    assert_eq!(known_file(&store, b"a", &stamp).unwrap(), None);
    store
        .remember_files(&[known(b"a", stamp, address)])
        .unwrap();
    assert_eq!(
        known_file(&store, b"a", &stamp_of(&path)).unwrap(),
        Some(address)
    );
    assert_eq!(known_file(&store, b"b", &stamp).unwrap(), None);
    // Another file of the same size under the same name.
    fs::write(dir.path().join("b"), "two").unwrap();
    fs::rename(dir.path().join("b"), &path).unwrap();
    assert_eq!(known_file(&store, b"a", &stamp_of(&path)).unwrap(), None);
    // The chunk was found damaged, or the file is not here any more.
    store
        .core
        .mark_bad(&ChunkHash::from_bytes(*address.as_bytes()), {
            let chunk = ChunkHash::from_bytes(*address.as_bytes());
            store.core.indexed(&chunk).unwrap().unwrap().place
        })
        .unwrap();
    assert_eq!(known_file(&store, b"a", &stamp).unwrap(), None);
    whole(&store, 1);
    let bytes = bytes_of(1, 100);
    put(&store, &bytes);
    store.commit().unwrap();
    assert_eq!(known_file(&store, b"a", &stamp).unwrap(), Some(address));
    store.drop_orphans().unwrap();
    assert_eq!(known_file(&store, b"a", &stamp).unwrap(), None);
}

#[test]
fn a_file_that_had_just_changed_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "one").unwrap();
    let store = Store::in_memory().unwrap();
    let address = whole(&store, 1);
    let racy = FileStamp::of(&fs::metadata(&path).unwrap());
    store.remember_files(&[known(b"a", racy, address)]).unwrap();
    assert_eq!(known_file(&store, b"a", &racy).unwrap(), None);
    // Not by its content's time alone: that one can be set.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let racy = FileStamp::of(&fs::metadata(&path).unwrap());
    store.remember_files(&[known(b"a", racy, address)]).unwrap();
    assert_eq!(known_file(&store, b"a", &racy).unwrap(), None);
    store
        .remember_files(&[known(b"a", racy.taken_later(LATER_NS), address)])
        .unwrap();
    assert_eq!(known_file(&store, b"a", &racy).unwrap(), Some(address));
}

#[test]
fn no_more_are_remembered_than_may_be() {
    const MOST: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "one").unwrap();
    let index = Arc::<MemoryIndex>::default();
    let store = Store::over(index.clone(), Arc::<MemoryMedium>::default(), 1 << 20).unwrap();
    let address = whole(&store, 1);
    let stamp = stamp_of(&path);
    let keys: Vec<[u8; 4]> = (0..1000u32).map(u32::to_le_bytes).collect();
    let kept = |keys: &[[u8; 4]]| {
        let found = keys
            .iter()
            .filter(|key| known_file(&store, *key, &stamp).unwrap().is_some());
        found.count()
    };
    for round in 0..3 {
        for part in keys.chunks(170) {
            let files: Vec<_> = part.iter().map(|key| known(key, stamp, address)).collect();
            store.remember_files_of(&files, MOST).unwrap();
            assert!(
                kept(part) > 100,
                "the latest stay, but for a few, in round {round}"
            );
        }
        assert_eq!(kept(&keys), 300);
    }
    // Twice the same is one.
    let twice = [known(b"x", stamp, address), known(b"x", stamp, address)];
    store.remember_files_of(&twice, MOST).unwrap();
    assert_eq!(kept(&keys), 299);
    recovery::check_index(index.as_ref()).unwrap();
}
