use proptest::prelude::*;

use super::*;
use crate::testing::bytes_of;

/// Shows the bytes in pieces of the given lengths, as a reader would.
fn lengths(params: ChunkerParams, bytes: &[u8], pieces: &[usize]) -> Vec<usize> {
    let chunker = Chunker::new(params).unwrap();
    let mut pieces = pieces.iter().cycle();
    let (mut start, mut shown) = (0, 0);
    let mut found = Vec::new();
    loop {
        match chunker.cut(&bytes[start..shown], shown == bytes.len()) {
            Some(len) => {
                found.push(len);
                start += len;
            }
            None if shown == bytes.len() => return found,
            None => shown = bytes.len().min(shown + pieces.next().unwrap()),
        }
    }
}

#[test]
fn fastcdc_boundaries_are_pinned() {
    let params = Chunking::FastCdc.params(None);
    let bytes = bytes_of(1, 3_000_000);
    let expected = [
        299_867, 192_085, 274_245, 271_899, 204_408, 299_082, 207_836, 204_462, 239_281, 209_234,
        270_983, 320_151, 6_467,
    ];
    assert_eq!(lengths(params, &bytes, &[bytes.len()]), expected);
}

#[test]
fn fixed_cuts_equal_pieces() {
    let params = Chunking::Fixed.params(Some(1));
    assert_eq!(
        params,
        ChunkerParams::Fixed {
            chunk_bytes: 262_144
        }
    );
    for (len, expected) in [
        (0, vec![]),
        (1, vec![1]),
        (262_143, vec![262_143]),
        (262_144, vec![262_144]),
        (262_145, vec![262_144, 1]),
        (600_000, vec![262_144, 262_144, 75_712]),
    ] {
        assert_eq!(
            lengths(params, &bytes_of(2, len), &[100_000]),
            expected,
            "{len} bytes"
        );
    }
}

#[test]
fn parameters_grow_with_the_file_and_stay_valid() {
    const GIB: u64 = 1 << 30;
    let fixed = |size| match Chunking::Fixed.params(size) {
        ChunkerParams::Fixed { chunk_bytes } => chunk_bytes,
        ChunkerParams::FastCdc { .. } => 0,
    };
    assert_eq!(fixed(None), 256 << 10);
    assert_eq!(fixed(Some(64 * GIB)), 256 << 10);
    assert_eq!(fixed(Some(64 * GIB + 1)), 512 << 10);
    assert_eq!(fixed(Some(128 * GIB)), 512 << 10);
    assert_eq!(fixed(Some(u64::MAX)), MAX_CHUNK_BYTES);
    for size in [
        None,
        Some(0),
        Some(64 * GIB),
        Some(65 * GIB),
        Some(u64::MAX),
    ] {
        for chunking in [Chunking::Fixed, Chunking::FastCdc] {
            let params = chunking.params(size);
            assert!(params.is_valid(), "{params:?}");
            if size.is_none_or(|size| size <= 768 * GIB) {
                assert_eq!(params.chunking(), chunking);
            }
        }
    }
}

/// Else storing such a file would fail after its first terabyte.
#[test]
fn the_chunks_of_the_largest_files_fit_into_a_manifest() {
    const GIB: u64 = 1 << 30;
    for size in [768 * GIB, 768 * GIB + 1, 2048 * GIB, 4096 * GIB] {
        let chunks = match Chunking::FastCdc.params(Some(size)) {
            ChunkerParams::Fixed { chunk_bytes } => size.div_ceil(chunk_bytes.into()),
            // With the normalization the mean is a third above the average that is set.
            ChunkerParams::FastCdc { avg_bytes, .. } => size / (u64::from(avg_bytes) / 3 * 4),
        };
        assert!(chunks <= MAX_CHUNKS as u64, "{size}: {chunks}");
    }
}

#[test]
fn impossible_parameters_make_no_chunker() {
    let cdc = |min_bytes, avg_bytes, max_bytes| ChunkerParams::FastCdc {
        min_bytes,
        avg_bytes,
        max_bytes,
    };
    for params in [
        ChunkerParams::Fixed { chunk_bytes: 0 },
        ChunkerParams::Fixed { chunk_bytes: 1 },
        ChunkerParams::Fixed {
            chunk_bytes: MIN_CHUNK_BYTES - 1,
        },
        ChunkerParams::Fixed {
            chunk_bytes: MAX_CHUNK_BYTES + 1,
        },
        cdc(0, 0, 0),
        cdc(64, 256, 1024),
        cdc(4094, 16_384, 65_536),
        cdc(4096, 16_382, 65_536),
        cdc(4096, 16_385, 65_536),
        cdc(4097, 16_384, 65_536),
        cdc(32_768, 16_384, 65_536),
        cdc(4096, 131_072, 65_536),
        cdc(4096, 16_384, MAX_CHUNK_BYTES + 2),
        cdc(u32::MAX, u32::MAX, u32::MAX),
    ] {
        assert!(Chunker::new(params).is_none(), "{params:?}");
    }
    assert!(Chunker::new(cdc(4096, 16_384, 16_384)).is_some());
    let smallest = ChunkerParams::Fixed {
        chunk_bytes: MIN_CHUNK_BYTES,
    };
    assert!(Chunker::new(smallest).is_some());
}

#[test]
fn an_insertion_moves_few_fastcdc_boundaries() {
    let params = ChunkerParams::FastCdc {
        min_bytes: 4096,
        avg_bytes: 16_384,
        max_bytes: 65_536,
    };
    let bytes = bytes_of(3, 1_600_000);
    let mut edited = bytes.clone();
    edited.splice(800_000..800_000, *b"seven!!");
    let chunks = |bytes: &[u8]| {
        let mut rest = bytes;
        let mut hashes = std::collections::HashSet::new();
        for len in lengths(params, bytes, &[200_000]) {
            let (chunk, later) = rest.split_at(len);
            hashes.insert(*blake3::hash(chunk).as_bytes());
            rest = later;
        }
        hashes
    };
    let (before, after) = (chunks(&bytes), chunks(&edited));
    assert!(before.len() > 50);
    assert!(after.difference(&before).count() <= 4);
}

fn any_params() -> impl Strategy<Value = ChunkerParams> {
    prop_oneof![
        (MIN_CHUNK_BYTES..50_000).prop_map(|chunk_bytes| ChunkerParams::Fixed { chunk_bytes }),
        Just(ChunkerParams::FastCdc {
            min_bytes: 4096,
            avg_bytes: 16_384,
            max_bytes: 16_384
        }),
        Just(ChunkerParams::FastCdc {
            min_bytes: 8192,
            avg_bytes: 16_384,
            max_bytes: 131_072
        }),
    ]
}

/// The boundaries that the `fastcdc` crate finds itself.
fn lengths_by_the_crate(bytes: &[u8], [min, avg, max]: [u32; 3]) -> Vec<usize> {
    let sizes = [min, avg, max].map(|bytes| bytes as usize);
    fastcdc::v2020::FastCDC::with_level(bytes, sizes[0], sizes[1], sizes[2], NORMALIZATION)
        .map(|chunk| chunk.length)
        .collect()
}

#[test]
fn a_boundary_is_found_in_every_place_of_a_run() {
    // A boundary is wherever the gear hash of the crate says so: cut a long input with the smallest sizes and
    // meet boundaries at many distances from the start of a run of stretches.
    let [min_bytes, avg_bytes, max_bytes] = [4096, 16_384, 65_536];
    let params = ChunkerParams::FastCdc {
        min_bytes,
        avg_bytes,
        max_bytes,
    };
    let bytes = bytes_of(9, 8 << 20);
    let found = lengths(params, &bytes, &[bytes.len()]);
    assert_eq!(
        found,
        lengths_by_the_crate(&bytes, [min_bytes, avg_bytes, max_bytes])
    );
    let places: std::collections::HashSet<_> = found
        .iter()
        .filter_map(|len| len.checked_sub(4096))
        .map(|scanned| scanned % 8192 / 2048)
        .collect();
    assert_eq!(places.len(), 4, "a boundary in each of the four stretches");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_boundaries_are_those_of_the_fastcdc_crate(
        (min, avg, max) in (2048u32..40_000, 8192u32..100_000, 8192u32..300_000),
        seed in any::<u64>(),
        len in 0usize..600_000,
        period in prop_oneof![Just(1usize), 2usize..300, Just(usize::MAX)],
    ) {
        let avg = avg.max(min);
        let sizes = [min * 2, avg * 2, max.max(avg) * 2];
        let [min_bytes, avg_bytes, max_bytes] = sizes;
        let params = ChunkerParams::FastCdc { min_bytes, avg_bytes, max_bytes };
        prop_assert!(params.is_valid());
        let bytes: Vec<u8> = bytes_of(seed, len.min(period)).into_iter().cycle().take(len).collect();
        prop_assert_eq!(lengths(params, &bytes, &[len.max(1)]), lengths_by_the_crate(&bytes, sizes));
    }

    #[test]
    fn chunks_add_up_to_the_input_whatever_the_read_splits(
        params in any_params(),
        seed in any::<u64>(),
        len in 0usize..400_000,
        repetitive in any::<bool>(),
        pieces in prop::collection::vec(1usize..50_000, 1..8),
    ) {
        let bytes = if repetitive { vec![7; len] } else { bytes_of(seed, len) };
        let found = lengths(params, &bytes, &pieces);
        prop_assert_eq!(found.iter().sum::<usize>(), len);
        prop_assert_eq!(&found, &lengths(params, &bytes, &[len.max(1)]));
        for (index, len) in found.iter().enumerate() {
            let len = u32::try_from(*len).unwrap();
            prop_assert!(params.allows(len, index + 1 == found.len()), "chunk {index}: {len}");
        }
    }
}
