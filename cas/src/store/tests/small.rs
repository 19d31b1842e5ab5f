//! Many small files at a time.

use super::*;
use crate::store::small::{MAX_SMALL_FILE_BYTES, SmallFile};

fn small(seed: u64, len: usize) -> SmallFile {
    let bytes = bytes_of(seed, len);
    SmallFile {
        address: Address::of(&bytes),
        bytes: bytes.into(),
        name: Some(format!("file {seed}")),
    }
}

#[test]
fn small_files_come_back_whole_with_their_names() {
    let store = Store::in_memory().unwrap();
    let most = usize::try_from(MAX_SMALL_FILE_BYTES).unwrap();
    let lens = [0, 1, 1024, 1025, 10_240, most];
    let files: Vec<SmallFile> = (0..).zip(lens).map(|(n, len)| small(n, len)).collect();
    let entries = store.add_small_files(&files, true).unwrap();
    for (file, entry) in files.iter().zip(&entries) {
        assert_eq!((entry.address, &entry.name), (file.address, &file.name));
        assert_eq!((entry.state, entry.pinned), (FileState::Complete, true));
        assert_eq!(store.file(&file.address).unwrap().as_ref(), Some(entry));
        assert_eq!(read_file(&store, &file.address).unwrap(), file.bytes);
    }
    assert_eq!(store.stats().unwrap().files, lens.len() as u64);
}

#[test]
fn one_that_is_too_large_is_refused_before_anything_is_entered() {
    let store = Store::in_memory().unwrap();
    let large = small(1, usize::try_from(MAX_SMALL_FILE_BYTES).unwrap() + 1);
    let error = store
        .add_small_files(&[small(0, 100), large], true)
        .unwrap_err();
    assert!(matches!(
        error,
        StoreError::ChunkLength { len_bytes: 65_537 }
    ));
    assert_eq!(store.stats().unwrap().files, 0);
}
