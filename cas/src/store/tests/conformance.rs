//! What every index and every medium must do, run against each of them.

use std::collections::BTreeMap;

use super::*;
use crate::store::index::Op;
use crate::store::medium::DirMedium;
use crate::store::runs::Runs;
use crate::store::sled::{CACHE_BYTES, SledIndex};

fn each_index(test: impl Fn(&dyn Index)) {
    test(&MemoryIndex::default());
    let dir = tempfile::tempdir().unwrap();
    test(&SledIndex::open(&dir.path().join("index"), false, CACHE_BYTES).unwrap());
    let below = SledIndex::open(&dir.path().join("runs"), false, CACHE_BYTES).unwrap();
    test(&Runs::new(below));
}

fn each_medium(test: impl Fn(&dyn Medium)) {
    test(&MemoryMedium::default());
    let dir = tempfile::tempdir().unwrap();
    test(&DirMedium::new(dir.path().join("packs")).unwrap());
}

fn scanned(index: &dyn Index, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    index.scan(prefix, visit).unwrap();
    found
}

#[test]
fn an_index_keeps_removes_and_scans_in_order() {
    each_index(|index| {
        assert_eq!(index.get(b"a").unwrap(), None);
        let put = |key: &[u8], value: &[u8]| -> Op { (key.to_vec(), Some(value.to_vec())) };
        index
            .apply(vec![
                put(b"b2", b"two"),
                put(b"a", b"x"),
                put(b"b1", b""),
                put(b"c", b"y"),
            ])
            .unwrap();
        index
            .apply(vec![(b"a".to_vec(), None), (b"never".to_vec(), None)])
            .unwrap();
        assert_eq!(index.get(b"a").unwrap(), None);
        assert_eq!(index.get(b"b1").unwrap(), Some(Vec::new()));
        let expected = vec![
            (b"b1".to_vec(), Vec::new()),
            (b"b2".to_vec(), b"two".to_vec()),
        ];
        assert_eq!(scanned(index, b"b"), expected);
        assert_eq!(scanned(index, b"").len(), 3);
        assert!(scanned(index, b"zz").is_empty());
        index.sync().unwrap();
        assert_eq!(index.get(b"c").unwrap(), Some(b"y".to_vec()));
    });
}

#[test]
fn a_scan_ends_when_told_and_passes_errors_on() {
    each_index(|index| {
        index
            .apply((0..9u8).map(|n| (vec![n], Some(vec![n]))).collect())
            .unwrap();
        let mut seen = 0;
        index
            .scan(b"", &mut |_, _| {
                seen += 1;
                Ok(if seen == 4 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })
            .unwrap();
        assert_eq!(seen, 4);
        let error = index
            .scan(b"", &mut |_, _| Err(IndexError::Malformed))
            .unwrap_err();
        assert!(error.is_corruption());
    });
}

#[test]
fn the_largest_batches_of_the_largest_values_fit() {
    use crate::store::index::{MAX_BATCH_KEYS, MAX_VALUE_BYTES};
    each_index(|index| {
        for round in 0..3u8 {
            let op = |n: usize| {
                let key = [b"key".as_slice(), &n.to_be_bytes()].concat();
                (key, Some(vec![round; MAX_VALUE_BYTES]))
            };
            index.apply((0..MAX_BATCH_KEYS).map(op).collect()).unwrap();
        }
        index.sync().unwrap();
        let found = scanned(index, b"key");
        assert_eq!(found.len(), MAX_BATCH_KEYS);
        assert!(
            found
                .iter()
                .all(|(_, value)| *value == vec![2; MAX_VALUE_BYTES])
        );
    });
}

#[test]
fn sled_reopens_with_everything_and_never_writes_side_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut model = BTreeMap::new();
    for round in 0..4u32 {
        let index = SledIndex::open(&path, false, CACHE_BYTES).unwrap();
        for (key, value) in scanned(&index, b"") {
            assert_eq!(model.remove(&key), Some(value));
        }
        assert!(model.is_empty(), "lost in round {round}");
        for n in 0..200u32 {
            let key = bytes_of(u64::from(n), 33);
            let value = bytes_of(u64::from(n * round), 4117);
            index.apply(vec![(key, Some(value))]).unwrap();
        }
        model.extend(scanned(&index, b""));
    }
    let blobs = std::fs::read_dir(path.join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
}

#[test]
fn a_medium_creates_lists_and_refuses_to_create_twice() {
    each_medium(|medium| {
        assert!(medium.ids().unwrap().is_empty());
        for id in [7, 0, u32::MAX] {
            medium.create(id, b"header").unwrap();
        }
        assert_eq!(medium.ids().unwrap(), [0, 7, u32::MAX]);
        assert!(medium.open(3).is_err());
        let error = medium.create(7, b"again").err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::AlreadyExists));
    });
}

#[test]
fn pack_files_read_back_what_was_written() {
    each_medium(|medium| {
        let file = medium.create(1, b"0123456789").unwrap();
        file.write_at(b"abc", 20).unwrap();
        assert_eq!(file.len().unwrap(), 23);
        let mut bytes = [1u8; 23];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"0123456789\0\0\0\0\0\0\0\0\0\0abc");
        let end = file.read_at(&mut bytes, 1).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(5).unwrap();
        assert_eq!(medium.open(1).unwrap().len().unwrap(), 5);
        file.sync().unwrap();
        file.write_at(&vec![9; 20_000], 5).unwrap();
        let before = medium.disk_bytes();
        file.punch(4096..12_288).unwrap();
        assert_eq!(file.len().unwrap(), 20_005);
        let mut punched = [1u8; 8194];
        file.read_at(&mut punched, 4095).unwrap();
        assert_eq!((punched[0], punched[8193]), (9, 9));
        assert!(punched[1..8193].iter().all(|byte| *byte == 0) || medium.disk_bytes() == before);
    });
}
