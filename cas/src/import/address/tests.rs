use std::fs;

use proptest::prelude::*;

use super::*;
use crate::testing::{bytes_from, go_on};

fn sample(len: usize) -> Vec<u8> {
    bytes_from(b"", len)
}

fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

const MIB: usize = 1 << 20;

#[test]
fn the_address_is_the_hash_at_every_edge_of_the_size() {
    let bytes = sample(9 * MIB + 1);
    for edge in [
        0,
        1024,
        PIECE_BYTES,
        MIB,
        2 * MIB,
        3 * MIB,
        8 * MIB,
        9 * MIB,
    ] {
        for len in [edge.saturating_sub(1), edge, edge + 1] {
            let (_dir, path) = file_of(&bytes[..len]);
            let address = address_of_file(&path, &mut go_on).unwrap();
            assert_eq!(address, Address::of(&bytes[..len]), "{len} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_address_is_the_hash_whatever_the_subtrees(
        len in 0usize..3 * MIB,
        subtree_log2 in 10u32..22,
    ) {
        let bytes = sample(len);
        let (_dir, path) = file_of(&bytes);
        let file = File::open(&path).unwrap();
        let mut told = Vec::new();
        let mut tell = |done| {
            told.push(done);
            Ok(())
        };
        let address = hash(&file, len as u64, 1 << subtree_log2, &mut tell).unwrap();
        prop_assert_eq!(address, Address::of(&bytes));
        prop_assert!(told.is_sorted());
        prop_assert_eq!((told[0], told[told.len() - 1]), (0, len as u64));
    }
}

#[test]
fn a_file_that_changes_has_no_address() {
    let bytes = sample(4 * MIB);
    let changes: [fn(&Path); 4] = [
        |path| fs::write(path, b"short").unwrap(),
        |path| {
            let other = path.with_extension("other");
            fs::copy(path, &other).unwrap();
            fs::rename(other, path).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let mut longer = fs::OpenOptions::new().append(true).open(path).unwrap();
            io::Write::write_all(&mut longer, b"more").unwrap();
        },
    ];
    for change in changes {
        let (_dir, path) = file_of(&bytes);
        let mut changed = false;
        let mut meddle = |_, _| {
            if !std::mem::replace(&mut changed, true) {
                change(&path);
            }
            ControlFlow::Continue(())
        };
        let error = address_of_file(&path, &mut meddle).unwrap_err();
        assert!(matches!(error, ImportError::Changed { .. }), "{error}");
    }
}

#[test]
fn whoever_cancels_is_not_asked_again() {
    // Of a larger file the other thread may hash all; then this one is asked at the beginning and at the end.
    for (len, asked_at_most) in [(8 * MIB, 1), (8 * MIB, 2), (MIB, 3)] {
        let (_dir, path) = file_of(&sample(len));
        let mut asked = 0;
        let mut stop = |_, _| {
            asked += 1;
            if asked == asked_at_most {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let error = address_of_file(&path, &mut stop).unwrap_err();
        assert!(matches!(error, ImportError::Cancelled), "{error}");
        assert_eq!(asked, asked_at_most);
    }
}
