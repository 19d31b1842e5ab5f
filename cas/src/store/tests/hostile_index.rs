//! Values of the index that no store writes: believed nowhere, and costing no more than what they are of.

use std::fs;
use std::path::Path;

use super::*;
use crate::store::entry::Place;
use crate::store::pack::Location;

/// Changes what the index says of where a chunk is.
fn misplace(store: &Store, hash: &ChunkHash, change: impl FnOnce(&mut Location)) {
    let mut chunk = store.core.indexed(hash).unwrap().unwrap();
    let mut at = chunk.place.pack().unwrap();
    change(&mut at);
    chunk.place = Place::Pack(at);
    let op = (entry::chunk_key(hash), Some(chunk.encode()));
    store.core.apply(vec![op]).unwrap();
}

#[test]
fn places_that_cannot_be_are_neither_read_nor_allocated_for() {
    let absurd: [fn(&mut Location); 3] = [
        |at| at.offset = u64::MAX - 3,
        |at| at.offset = (1 << 60) + 8,
        |at| at.len_bytes = u32::MAX,
    ];
    for change in absurd {
        let index = Arc::<MemoryIndex>::default();
        let medium = Arc::<MemoryMedium>::default();
        let store = Store::over(index.clone(), medium, 1 << 20).unwrap();
        let hash = put(&store, &bytes_of(2, 5000));
        store.commit().unwrap();
        misplace(&store, &hash, change);
        let error = store.get(&hash).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        store.drop_orphans().unwrap_err();
        store.gc(&mut |_| ControlFlow::Continue(())).unwrap_err();
        store
            .verify(None, &mut |_, _| ControlFlow::Continue(()))
            .unwrap_err();
        // An index like this is put aside when the store is opened.
        recovery::check_index(index.as_ref()).unwrap_err();
    }
}

#[test]
fn a_place_that_is_not_there_is_damage() {
    let store = Store::in_memory().unwrap();
    let absent: [fn(&mut Location); 3] = [
        |at| at.offset = 1 << 60,
        |at| at.offset += 8,
        |at| at.pack = u32::MAX,
    ];
    for (seed, change) in (0..).zip(absent) {
        let bytes = bytes_of(seed, 5000);
        let hash = put(&store, &bytes);
        store.commit().unwrap();
        misplace(&store, &hash, change);
        let error = store.get(&hash).unwrap_err();
        assert!(error.is_corruption(), "{error}");
        assert!(!store.has(&hash).unwrap());
        put(&store, &bytes);
        assert_eq!(store.get(&hash).unwrap().unwrap(), bytes);
    }
}

#[test]
fn giving_back_a_chunk_of_wrong_length_touches_no_others() {
    for is_known_bad in [false, true] {
        let store = Store::in_memory().unwrap();
        let orphan = put(&store, &bytes_of(2, 5000));
        let bytes = bytes_of(3, 20 * CHUNK);
        let manifest = put_file(&store, &bytes);
        store.add_file(&manifest, None, Claim::Pinned).unwrap();
        misplace(&store, &orphan, |at| at.len_bytes ^= 1 << 18);
        if is_known_bad {
            let error = store.get(&orphan).unwrap_err();
            assert!(error.is_corruption(), "{error}");
        }
        store.drop_orphans().unwrap();
        assert_eq!(read_file(&store, &manifest.address()).unwrap(), bytes);
    }
}

#[test]
fn an_index_with_any_file_damaged_or_lost_gives_a_store_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (home, good) = (dir.path().join("store"), dir.path().join("good"));
    let index = home.join("index");
    let open = || Store::open(&home, StoreConfig::default()).unwrap();
    let store = open();
    let bytes = bytes_of(1, 1_000_000);
    let manifest = put_file(&store, &bytes);
    store.add_file(&manifest, None, Claim::Pinned).unwrap();
    drop(store);
    copy_files(&index, &good);
    let damages: [fn(&mut Vec<u8>); 6] = [
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        |bytes| bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1),
        |bytes| {
            let half = bytes.len() / 2;
            bytes[half..].fill(0);
        },
        |bytes| bytes.fill(0xff),
    ];
    let check = |damage: &dyn Fn(&Path)| {
        for was_clean in [true, false] {
            let _ = fs::remove_dir_all(&index);
            copy_files(&good, &index);
            damage(&index);
            let clean = home.join("CLEAN");
            fs::write(&clean, b"").unwrap();
            if !was_clean {
                fs::remove_file(&clean).unwrap();
            }
            assert_eq!(read_file(&open(), &manifest.address()).unwrap(), bytes);
        }
    };
    for file in fs::read_dir(&good).unwrap() {
        let name = file.unwrap().file_name();
        check(&|index| fs::remove_file(index.join(&name)).unwrap());
        for damage in damages {
            check(&|index| {
                let path = index.join(&name);
                let mut bytes = fs::read(&path).unwrap();
                damage(&mut bytes);
                fs::write(&path, bytes).unwrap();
            });
        }
    }
}
