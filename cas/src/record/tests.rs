use proptest::prelude::*;

use super::*;
use crate::chunker::Chunking;
use crate::manifest::tests::manifest_of;
use crate::testing::bytes_from;

fn sample(len: usize) -> Vec<u8> {
    bytes_from(b"record", len)
}

fn record_of(len: usize, name: Option<&str>) -> (Address, FileRecord) {
    let manifest = manifest_of(Chunking::Fixed.params(None), &sample(len));
    (
        manifest.address(),
        FileRecord::for_manifest(&manifest, name),
    )
}

#[test]
fn round_trip_with_and_without_inline_manifest() {
    for (len, inline) in [
        (0, true),
        (1, true),
        (262_145, true),
        (15 << 20, true),
        (20 << 20, false),
    ] {
        let (address, record) = record_of(len, Some("name.bin"));
        let bytes = record.encode();
        assert!(
            bytes.len() <= MAX_FILE_RECORD_BYTES,
            "{len}: {}",
            bytes.len()
        );
        let again = FileRecord::decode_for(&address, &bytes).unwrap();
        assert_eq!(again, record);
        assert_eq!(again.size_bytes(), len as u64);
        assert_eq!(again.chunk_count() as usize, len.div_ceil(262_144));
        assert_eq!(again.manifest().is_some(), inline, "{len}");
        assert_eq!(again.name(), Some("name.bin"));
        assert!(again.top().group_count() <= TOP_VALUES);
    }
}

/// Vector `record-3` of docs/FORMATS.md: 600,000 zero bytes named `zeros`.
#[test]
fn encoding_is_pinned() {
    let manifest = manifest_of(Chunking::Fixed.params(None), &vec![0; 600_000]);
    let bytes = FileRecord::for_manifest(&manifest, Some("zeros")).encode();
    let head: String = bytes[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(head, "01fcc02709000000fc00000400031260");
    assert_eq!(bytes.len(), 329);
    let hash = "fdba12e11dc2e25aed0b29377652f76de753d7611ca1e78225eec8a6b494e1fa";
    assert_eq!(Address::of(&bytes).to_string(), hash);
}

#[test]
fn the_largest_record_fits_its_bound() {
    let name = "n".repeat(255);
    let (_, record) = record_of(15 << 20, Some(&name));
    let bytes = record.encode();
    assert!(record.manifest().is_some());
    assert!(bytes.len() > 4096 && bytes.len() <= MAX_FILE_RECORD_BYTES);
}

#[test]
fn names_that_may_not_stand_are_left_out_and_refused() {
    for name in ["", ".", "..", "a/b", "nul\0"] {
        assert_eq!(record_of(10, Some(name)).1.name(), None, "{name:?}");
        let (address, record) = record_of(10, None);
        let hostile = FileRecord {
            name: Some(name.to_owned()),
            ..record
        }
        .encode();
        assert_eq!(
            FileRecord::decode_for(&address, &hostile),
            Err(FileRecordError::Name)
        );
    }
}

#[test]
fn no_truncation_and_no_flipped_bit_outside_the_hints_passes() {
    for len in [300_000, 20 << 20] {
        let (address, record) = record_of(len, None);
        let good = record.encode();
        for end in 0..good.len() {
            assert!(
                FileRecord::decode_for(&address, &good[..end]).is_err(),
                "cut at {end}"
            );
        }
        let mut accepted = 0;
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[position] ^= 1 << bit;
                if let Ok(other) = FileRecord::decode_for(&address, &bad) {
                    // What a record cannot prove alone: the hashes in an inline manifest of two chunks
                    // or more, and a size that leaves the number of chunks and groups the same.
                    assert_eq!(other.top().values(), record.top().values());
                    accepted += 1;
                }
            }
        }
        assert!(
            accepted * 2 <= good.len() * 8,
            "{accepted} of {}",
            good.len() * 8
        );
    }
}

#[test]
fn a_record_of_another_file_is_refused() {
    for len in [10, 20 << 20] {
        let (_, record) = record_of(len, None);
        let other = Address::of(b"other");
        assert!(FileRecord::decode_for(&other, &record.encode()).is_err());
    }
}

#[test]
fn fields_must_agree_with_each_other() {
    let (address, record) = record_of(300_000, None);
    let refused = |record: FileRecord| FileRecord::decode_for(&address, &record.encode());
    let counted = FileRecord {
        chunk_count: 3,
        ..record.clone()
    };
    assert_eq!(refused(counted), Err(FileRecordError::Shape));
    let recut = FileRecord {
        params: ChunkerParams::Fixed {
            chunk_bytes: 150_000,
        },
        ..record.clone()
    };
    assert_eq!(refused(recut), Err(FileRecordError::Shape));
    let (small_address, small) = record_of(10, None);
    let bare = FileRecord {
        manifest: None,
        ..small
    }
    .encode();
    assert_eq!(
        FileRecord::decode_for(&small_address, &bare),
        Err(FileRecordError::Shape)
    );
    assert!(
        refused(FileRecord {
            manifest: None,
            ..record
        })
        .is_ok(),
        "its top can be checked"
    );
    let huge = vec![1; MAX_FILE_RECORD_BYTES + 1];
    assert!(matches!(
        FileRecord::decode_for(&address, &huge),
        Err(FileRecordError::Codec(CodecError::TooLarge { .. }))
    ));
}

proptest! {
    #[test]
    fn random_bytes_are_never_accepted_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let address = Address::of(b"some file");
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&bytes);
        prop_assert!(FileRecord::decode_for(&address, &versioned).is_err());
        prop_assert!(FileRecord::decode_for(&address, &bytes).is_err());
    }
}
