//! What an open makes of the files beside index and packs.

use std::fs;

use super::*;

fn config() -> StoreConfig {
    StoreConfig {
        reserve_bytes: 1 << 16,
        ..StoreConfig::default()
    }
}

#[test]
fn packs_without_a_format_file_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), config()).unwrap();
    let manifest = put_file(&store, &bytes_of(1, 1_000_000));
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    drop(store);
    let (pack, format) = (
        dir.path().join("packs/00000000.pack"),
        dir.path().join("FORMAT"),
    );
    let (pack_bytes, format_bytes) = (fs::read(&pack).unwrap(), fs::read(&format).unwrap());
    fs::remove_file(&format).unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let error = Store::open(dir.path(), config()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert!(!format.exists());
    assert!(fs::read(&pack).unwrap() == pack_bytes);
    fs::write(&format, format_bytes).unwrap();
    let store = Store::open(dir.path(), config()).unwrap();
    assert!(read_file(&store, &manifest.address()).is_some());
}

#[test]
fn a_reserve_that_was_cut_short_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), config()).unwrap());
    // Killed between its creation and its filling.
    fs::write(dir.path().join("reserve"), b"").unwrap();
    let store = Store::open(dir.path(), config()).unwrap();
    put(&store, b"x");
    store.commit().unwrap();
    assert!(store.core.space.reserve_disk_bytes() >= 1 << 16);
}

/// Gives a closed store the version that it would have had.
fn set_version(dir: &Path, version: u16) {
    let format = dir.join("FORMAT");
    let mut bytes = fs::read(&format).unwrap();
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..30]);
    bytes[30..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&format, bytes).unwrap();
}

#[test]
fn a_store_of_the_version_before_is_read_and_taken_over_when_it_may_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), config()).unwrap();
    let manifest = put_file(&store, &bytes_of(1, 1_000_000));
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    drop(store);
    let version = || fs::read(dir.path().join("FORMAT")).unwrap()[8];
    assert_eq!(version(), 3);
    set_version(dir.path(), 2);
    let store = Store::open_read_only(dir.path()).unwrap();
    assert!(read_file(&store, &manifest.address()).is_some());
    drop(store);
    assert_eq!(version(), 2);
    let store = Store::open(dir.path(), config()).unwrap();
    assert!(read_file(&store, &manifest.address()).is_some());
    drop(store);
    assert_eq!(version(), 3);
}
