//! The table over restarts, its bounds, and hostile files.

use std::fs;

use proptest::prelude::*;

use super::{
    file::{Damage, decode, encode},
    policy::MAX_SEED_RATIO,
    table::{Entry, MAX_ENTRIES},
    *,
};

const HOUR: SeedPolicy = SeedPolicy::For(Duration::from_secs(3600));

fn address(n: u32) -> Address {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Address::from_bytes(bytes)
}

fn open(dir: &tempfile::TempDir) -> Seeding {
    Seeding::open(dir.path()).unwrap()
}

#[test]
fn what_is_unknown_is_served_for_ever_and_what_is_over_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let seeding = open(&dir);
    assert_eq!(seeding.policy(&address(0)), SeedPolicy::Forever);
    assert!(seeding.may_serve(&address(0), u64::MAX));
    seeding.set(address(1), HOUR, 1000, 100).unwrap();
    seeding
        .set(address(2), SeedPolicy::None, 1000, 100)
        .unwrap();
    seeding
        .set(address(3), SeedPolicy::Ratio(2.0), 1000, 100)
        .unwrap();
    seeding
        .set(address(4), SeedPolicy::UntilExit, 1000, 100)
        .unwrap();
    assert_eq!(seeding.take_over(100), [address(2)]);
    assert!(seeding.take_over(3699).is_empty());
    seeding.uploaded(address(3), 1999);
    assert!(seeding.may_serve(&address(3), 3700));
    seeding.uploaded(address(3), 1);
    assert!(!seeding.may_serve(&address(3), 3700));
    assert_eq!(seeding.take_over(3700), [address(1), address(3)]);
    assert!(seeding.take_over(u64::MAX).is_empty());
    assert!(seeding.may_serve(&address(4), u64::MAX));
    // Said anew, it begins anew; and what is forgotten is like any other file.
    seeding.set(address(1), HOUR, 1000, 9000).unwrap();
    assert!(seeding.may_serve(&address(1), 9001));
    assert_eq!(seeding.take_over(20_000), [address(1)]);
    seeding.forget(&address(3));
    assert!(seeding.may_serve(&address(3), u64::MAX));
    assert_eq!(seeding.uploaded_bytes(&address(3)), 0);
}

#[test]
fn it_is_remembered_and_the_exit_that_was_waited_for_has_been() {
    let dir = tempfile::tempdir().unwrap();
    let seeding = open(&dir);
    seeding.uploaded(address(1), 5);
    seeding
        .set(address(1), SeedPolicy::UntilExit, 1000, 100)
        .unwrap();
    seeding.uploaded(address(1), 5);
    seeding
        .set(address(2), SeedPolicy::Ratio(0.5), 1000, 100)
        .unwrap();
    seeding.uploaded(address(3), 7);
    seeding.save().unwrap();
    let again = open(&dir);
    assert_eq!(again.uploaded_bytes(&address(1)), 10);
    assert_eq!(again.uploaded_bytes(&address(3)), 7);
    assert_eq!(again.policy(&address(1)), SeedPolicy::None);
    assert_eq!(again.policy(&address(2)), SeedPolicy::Ratio(0.5));
    assert!(!again.may_serve(&address(1), 100));
    assert_eq!(again.take_over(100), [address(1)]);
}

#[test]
fn only_what_changed_is_written_and_a_half_written_file_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seeding");
    let seeding = open(&dir);
    seeding.save().unwrap();
    assert!(!path.exists());
    seeding.set(address(1), HOUR, 1000, 100).unwrap();
    seeding.save().unwrap();
    fs::write(dir.path().join("seeding.new"), b"\x01 half of it").unwrap();
    assert_eq!(open(&dir).policy(&address(1)), HOUR);
    fs::remove_file(&path).unwrap();
    seeding.forget(&address(99));
    seeding.save().unwrap();
    assert!(!path.exists(), "nothing had changed");
    seeding.uploaded(address(1), 1);
    seeding.save().unwrap();
    assert_eq!(open(&dir).uploaded_bytes(&address(1)), 1);
}

#[test]
fn what_could_not_be_written_is_written_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let seeding = Seeding::open(&home).unwrap();
    seeding.set(address(1), HOUR, 1000, 100).unwrap();
    fs::remove_dir(&home).unwrap();
    seeding.save().unwrap_err();
    fs::create_dir(&home).unwrap();
    seeding.save().unwrap();
    assert_eq!(Seeding::open(&home).unwrap().policy(&address(1)), HOUR);
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bad) = (dir.path().join("seeding"), dir.path().join("seeding.bad"));
    for bytes in [&b""[..], b"\x01", b"\x02 from the future", &[1; 500]] {
        fs::write(&path, bytes).unwrap();
        let seeding = open(&dir);
        assert!(seeding.may_serve(&address(1), u64::MAX));
        assert_eq!(fs::read(&bad).unwrap(), bytes);
        assert!(!path.exists());
    }
    // Not even read: longer than any table.
    let long = fs::File::create(&path).unwrap();
    long.set_len(1 << 40).unwrap();
    open(&dir);
    assert_eq!(fs::metadata(&bad).unwrap().len(), 1 << 40);
}

#[test]
fn a_full_table_gives_up_counts_before_it_refuses() {
    let counted = |n| {
        (
            address(n),
            Entry {
                uploaded_bytes: 1,
                ..Entry::default()
            },
        )
    };
    let last = 10;
    let ended = |n| {
        (
            address(n),
            Entry {
                policy: HOUR,
                ..Entry::default()
            },
        )
    };
    let mut table = Table::new((0..last - 1).map(ended).chain([counted(last - 1)]), 10);
    assert!(!table.uploaded(address(last), 1));
    assert!(table.uploaded(address(5), 1));
    table.set(address(last), HOUR, 1, 1).unwrap();
    assert_eq!(table.get(&address(last - 1)).uploaded_bytes, 0);
    assert_eq!(table.set(address(last + 1), HOUR, 1, 1), Err(TableFull));
    assert_eq!(
        table.set(address(last + 1), SeedPolicy::Forever, 1, 1),
        Ok(())
    );
    assert_eq!(table.set(address(last), SeedPolicy::None, 1, 1), Ok(()));
    assert_eq!(table.entries().len(), 10);
}

#[test]
fn the_bytes_of_the_file_are_pinned() {
    let mut table = Table::new([], MAX_ENTRIES);
    table
        .set(address(2), SeedPolicy::Ratio(1.5), 0x0102, 0x0304)
        .unwrap();
    table.set(address(1), HOUR, 5, 6).unwrap();
    table.uploaded(address(1), 7);
    let hex: String = encode(&table)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let zeros = "00".repeat(28);
    let body = [
        "01",
        &format!("00000001{zeros}02100e0000000000000600000000000000050000000000000007000000000000"),
        "00",
        &format!(
            "00000002{zeros}03000000000000f83f040300000000000002010000000000000000000000000000"
        ),
    ]
    .concat();
    assert_eq!(&hex[..hex.len() - 64], body);
    assert_eq!(
        &hex[hex.len() - 64..],
        "af5ae6f25655f2bc72964fa287e45cce4dc2902dbbac10c1ce28560ef2c6df65"
    );
}

fn policy() -> impl Strategy<Value = SeedPolicy> {
    prop_oneof![
        Just(SeedPolicy::None),
        Just(SeedPolicy::Forever),
        (1..=MAX_SEED_TIME.as_secs()).prop_map(|s| SeedPolicy::For(Duration::from_secs(s))),
        (1e-6..=MAX_SEED_RATIO).prop_map(SeedPolicy::Ratio),
    ]
}

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written_and_no_damaged_one(
        files in proptest::collection::btree_map(any::<[u8; 32]>(), (policy(), any::<[u64; 3]>()), 0..20),
        flip: proptest::sample::Index,
        cut: proptest::sample::Index,
    ) {
        let entries = files.into_iter().map(|(address, (policy, [finished_s, size_bytes, uploaded_bytes]))| {
            (Address::from_bytes(address), Entry { policy, finished_s, size_bytes, uploaded_bytes })
        });
        let table = Table::new(entries, MAX_ENTRIES);
        let bytes = encode(&table);
        let read = decode(&bytes).unwrap();
        prop_assert_eq!(read.entries(), table.entries());
        let mut wrong = bytes.clone();
        wrong[flip.index(bytes.len())] ^= 1;
        prop_assert!(decode(&wrong).is_err());
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn hostile_bytes_with_a_right_checksum_make_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        bytes.insert(0, 1);
        let sum = casnode_cas::ChunkHash::of(&bytes);
        bytes.extend(sum.as_bytes());
        if let Ok(table) = decode(&bytes) {
            prop_assert!(table.entries().len() * 65 + 33 == bytes.len());
        }
    }
}

#[test]
fn entries_that_make_no_sense_are_damage() {
    let of = |entries: &[(u32, u8, u64)]| {
        let mut bytes = vec![1];
        for (n, kind, value) in entries {
            bytes.extend(address(*n).as_bytes());
            bytes.push(*kind);
            bytes.extend(value.to_le_bytes());
            bytes.extend([0; 24]);
        }
        bytes.extend(casnode_cas::ChunkHash::of(&bytes).as_bytes());
        decode(&bytes).map(|table| table.entries().len())
    };
    assert_eq!(of(&[(1, 4, 0), (2, 0, 0)]), Ok(2));
    assert_eq!(
        of(&[(2, 4, 0), (1, 0, 0)]),
        Err(Damage::Entry),
        "not in order"
    );
    assert_eq!(of(&[(1, 4, 0), (1, 4, 0)]), Err(Damage::Entry), "twice");
    for (kind, value) in [
        (5, 0),
        (4, 1),
        (3, 0),
        (3, f64::NAN.to_bits()),
        (3, (-1f64).to_bits()),
        (2, u64::MAX),
    ] {
        assert_eq!(
            of(&[(1, kind, value)]),
            Err(Damage::Entry),
            "{kind} {value}"
        );
    }
}
