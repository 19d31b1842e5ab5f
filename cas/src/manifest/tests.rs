use proptest::prelude::*;

use super::*;
use crate::chunker::{Chunker, Chunking};
use crate::proof::{MIN_GROUP_BYTES, ProofBuilder};
use crate::testing::bytes_from;

pub(crate) fn manifest_of(params: ChunkerParams, bytes: &[u8]) -> Manifest {
    let chunker = Chunker::new(params).unwrap();
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while let Some(len) = chunker.cut(rest, true) {
        let (chunk, later) = rest.split_at(len);
        let len_bytes = u32::try_from(len).unwrap();
        chunks.push(ChunkRef {
            hash: ChunkHash::of(chunk),
            len_bytes,
        });
        rest = later;
    }
    Manifest::new(params, chunks, proof.finish()).unwrap()
}

fn sample(len: usize) -> Vec<u8> {
    bytes_from(b"manifest", len)
}

const SMALL_CDC: ChunkerParams = ChunkerParams::FastCdc {
    min_bytes: 65_536,
    avg_bytes: 131_072,
    max_bytes: 262_144,
};

fn decode(manifest: &Manifest, bytes: &[u8]) -> Result<Manifest, ManifestError> {
    Manifest::decode_for(&manifest.address(), bytes)
}

#[test]
fn round_trip_at_every_size_edge() {
    for len in [
        0, 1, 4095, 262_143, 262_144, 262_145, 524_288, 524_289, 1_000_000,
    ] {
        let bytes = sample(len);
        for params in [Chunking::Fixed.params(None), SMALL_CDC] {
            let manifest = manifest_of(params, &bytes);
            assert_eq!(manifest.address(), Address::of(&bytes));
            assert_eq!(manifest.size_bytes(), len as u64);
            assert_eq!(manifest.id(), ManifestId::of(manifest.encode()));
            let again = decode(&manifest, manifest.encode()).unwrap();
            assert_eq!(again, manifest);
            assert_eq!(again.encode(), manifest.encode());
        }
    }
}

/// Vector `manifest-fixed-3` of docs/FORMATS.md: 600,000 zero bytes, fixed chunks.
#[test]
fn encoding_is_pinned_for_fixed() {
    let manifest = manifest_of(Chunking::Fixed.params(None), &vec![0; 600_000]);
    assert_eq!(
        hex(&manifest.encode()[..14]),
        "01fcc027090000fc000004001260"
    );
    assert_eq!(manifest.encode().len(), 208);
    let id = "864a45428bc5fb9177fe62fd1f39e37f2249f7e7cee1925ade0912abf630eb5f";
    assert_eq!(manifest.id().to_string(), id);
    let address = "a619ad1882a9c6f5270982a7154a257bc8ab5b918d78bb5fc27521281c1741eb";
    assert_eq!(manifest.address().to_string(), address);
}

/// Vector `manifest-fastcdc-2` of docs/FORMATS.md: 300,000 bytes of value 7, small FastCDC chunks.
#[test]
fn encoding_is_pinned_for_fastcdc() {
    let manifest = manifest_of(SMALL_CDC, &vec![7; 300_000]);
    assert_eq!(
        hex(&manifest.encode()[..22]),
        "01fce093040001fc00000100fc00000200fc00000400"
    );
    assert_eq!(manifest.encode().len(), 162);
    let id = "1cb4704c4f677b48769d177226755614b80245a9835c9da5fc5b8e72b2960113";
    assert_eq!(manifest.id().to_string(), id);
}

/// Vector `manifest-empty` of docs/FORMATS.md.
#[test]
fn encoding_is_pinned_for_the_empty_file() {
    let manifest = manifest_of(Chunking::Fixed.params(None), b"");
    assert_eq!(hex(manifest.encode()), "010000fc0000040012000000");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn chunks_and_groups_find_each_other() {
    let bytes = sample(5 * 262_144 + 99);
    for params in [
        SMALL_CDC,
        ChunkerParams::Fixed {
            chunk_bytes: 100_000,
        },
        ChunkerParams::Fixed {
            chunk_bytes: 1 << 20,
        },
    ] {
        let manifest = manifest_of(params, &bytes);
        let overlap = |chunk: usize, group: usize| {
            let (a, b) = (
                manifest.chunk_range(chunk),
                manifest.proof().group_range(group),
            );
            a.start < b.end && b.start < a.end
        };
        let (chunks, groups) = (manifest.chunks().len(), manifest.proof().group_count());
        for chunk in 0..chunks {
            let expected: Vec<usize> = (0..groups).filter(|g| overlap(chunk, *g)).collect();
            assert_eq!(
                manifest.groups_of_chunk(chunk).collect::<Vec<_>>(),
                expected
            );
        }
        for group in 0..groups {
            let expected: Vec<usize> = (0..chunks).filter(|c| overlap(*c, group)).collect();
            assert_eq!(
                manifest.chunks_of_group(group).collect::<Vec<_>>(),
                expected
            );
        }
        assert!(manifest.groups_of_chunk(chunks).is_empty());
        assert!(manifest.chunks_of_group(groups).is_empty());
        assert!(manifest.groups_of_chunk(usize::MAX).is_empty());
        assert_eq!(manifest.chunk_offset(usize::MAX), manifest.size_bytes());
    }
}

#[test]
fn any_single_change_is_refused_or_is_another_manifest() {
    let manifest = manifest_of(SMALL_CDC, &sample(700_000));
    let good = manifest.encode().to_vec();
    for end in 0..good.len() {
        assert!(decode(&manifest, &good[..end]).is_err(), "cut at {end}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(
        decode(&manifest, &longer),
        Err(CodecError::Trailing(1).into())
    );
    let chunk_hashes = manifest.chunks().len() * HASH_BYTES;
    let hash = manifest.chunks()[0].hash;
    let first_hash = good
        .windows(HASH_BYTES)
        .position(|w| w == hash.as_bytes())
        .unwrap();
    for position in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            // Only a chunk's hash, which the file's own groups settle, and parameters that could have
            // cut the same chunks contradict nothing else in the manifest.
            if let Ok(other) = decode(&manifest, &bad) {
                if other.params() == manifest.params() {
                    let in_hashes = (first_hash..first_hash + chunk_hashes).contains(&position);
                    assert!(in_hashes, "position {position}");
                } else {
                    assert!(position < first_hash, "position {position}");
                    assert_eq!(other.chunks(), manifest.chunks());
                }
                assert_ne!(other.id(), manifest.id());
            }
        }
    }
}

struct Hostile {
    size_bytes: u64,
    params: WireParams,
    group_log2: u8,
    hashes: Vec<u8>,
    lens: Vec<u8>,
    values: Vec<u8>,
}

impl Hostile {
    fn of(manifest: &Manifest) -> Self {
        let flat = |chunk: &ChunkRef| *chunk.hash.as_bytes();
        Self {
            size_bytes: manifest.size_bytes(),
            params: manifest.params().into(),
            group_log2: log2(manifest.proof().group_bytes()),
            hashes: manifest.chunks().iter().flat_map(flat).collect(),
            lens: manifest
                .chunks()
                .iter()
                .flat_map(|chunk| chunk.len_bytes.to_le_bytes())
                .collect(),
            values: manifest.proof().values().as_flattened().to_vec(),
        }
    }

    fn refusal(&self, address: &Address) -> ManifestError {
        let wire = WireManifest {
            size_bytes: self.size_bytes,
            params: ChunkerParams::from(match self.params {
                WireParams::Fixed { chunk_bytes } => WireParams::Fixed { chunk_bytes },
                WireParams::FastCdc {
                    min_bytes,
                    avg_bytes,
                    max_bytes,
                } => WireParams::FastCdc {
                    min_bytes,
                    avg_bytes,
                    max_bytes,
                },
            })
            .into(),
            group_log2: self.group_log2,
            hashes: &self.hashes,
            lens: &self.lens,
            values: &self.values,
        };
        Manifest::decode_for(address, &codec::encode(VERSION, &wire)).unwrap_err()
    }
}

#[test]
fn lies_have_their_own_errors() {
    let manifest = manifest_of(SMALL_CDC, &sample(700_000));
    let address = manifest.address();
    let lie = |change: &dyn Fn(&mut Hostile)| {
        let mut hostile = Hostile::of(&manifest);
        change(&mut hostile);
        hostile.refusal(&address)
    };
    assert_eq!(
        lie(&|h| h.params = WireParams::Fixed { chunk_bytes: 0 }),
        ManifestError::Params
    );
    assert_eq!(
        lie(&|h| h.params = WireParams::Fixed { chunk_bytes: 1 }),
        ManifestError::Params
    );
    assert_eq!(
        lie(&|h| h.params = WireParams::Fixed {
            chunk_bytes: 262_144
        }),
        ManifestError::Shape
    );
    assert_eq!(lie(&|h| h.group_log2 = 19), ManifestError::Shape);
    assert_eq!(
        lie(&|h| assert!(h.hashes.pop().is_some())),
        ManifestError::Shape
    );
    assert_eq!(
        lie(&|h| assert!(h.lens.pop().is_some())),
        ManifestError::Shape
    );
    assert_eq!(
        lie(&|h| assert!(h.values.pop().is_some())),
        ManifestError::Shape
    );
    assert_eq!(lie(&|h| h.values.truncate(32)), ManifestError::WrongAddress);
    assert_eq!(lie(&|h| h.values.reverse()), ManifestError::WrongAddress);
    let zero = lie(&|h| h.lens[..4].fill(0));
    assert_eq!(
        zero,
        ManifestError::ChunkLength {
            index: 0,
            len_bytes: 0
        }
    );
    let huge = lie(&|h| h.lens[..4].fill(0xff));
    assert_eq!(
        huge,
        ManifestError::ChunkLength {
            index: 0,
            len_bytes: u32::MAX
        }
    );
    let longer = lie(&|h| {
        let first = u32::from_le_bytes(*h.lens.first_chunk::<4>().unwrap());
        let changed = if first < 200_000 {
            first + 1
        } else {
            first - 1
        };
        h.lens[..4].copy_from_slice(&changed.to_le_bytes());
    });
    assert_eq!(longer, ManifestError::SizeMismatch);
    // The same groups cannot belong to a file of another size with as many groups.
    assert_eq!(lie(&|h| h.size_bytes -= 1), ManifestError::SizeMismatch);
    let other = Address::of(b"another file");
    assert_eq!(
        Hostile::of(&manifest).refusal(&other),
        ManifestError::WrongAddress
    );
}

#[test]
fn the_only_chunk_must_be_the_file() {
    let manifest = manifest_of(Chunking::Fixed.params(None), b"hello");
    let mut hostile = Hostile::of(&manifest);
    hostile.lens.clear();
    hostile.hashes[0] ^= 1;
    assert_eq!(
        hostile.refusal(&manifest.address()),
        ManifestError::WrongAddress
    );
    let empty = manifest_of(Chunking::Fixed.params(None), b"");
    let elsewhere = Manifest::decode_for(&Address::of(b"x"), empty.encode());
    assert_eq!(elsewhere, Err(ManifestError::WrongAddress));
}

#[test]
fn hostile_lengths_are_refused_before_they_cost_anything() {
    // version, size 0, Fixed 262144, group 18, then a list of 2^63 bytes.
    let mut bytes = vec![1, 0, 0, 252, 0, 0, 4, 0, 18, 253];
    bytes.extend_from_slice(&(1u64 << 63).to_le_bytes());
    assert_eq!(
        Manifest::decode_for(&Address::of(b""), &bytes),
        Err(CodecError::Malformed.into())
    );
    let over = vec![1; MAX_MANIFEST_BYTES + 1];
    let error = Manifest::decode_for(&Address::of(b""), &over).unwrap_err();
    assert!(matches!(
        error,
        ManifestError::Codec(CodecError::TooLarge { .. })
    ));
    // A size near 2^64 with few hashes: the fixed chunk count cannot fit.
    let mut manifest = Hostile::of(&manifest_of(Chunking::Fixed.params(None), b"hello"));
    manifest.lens.clear();
    manifest.size_bytes = u64::MAX;
    assert_eq!(
        manifest.refusal(&Address::of(b"hello")),
        ManifestError::Shape
    );
}

#[test]
fn the_largest_manifest_fits_its_bound() {
    let fixed_part = codec::encode(
        VERSION,
        &WireManifest {
            size_bytes: u64::MAX,
            params: WireParams::FastCdc {
                min_bytes: u32::MAX,
                avg_bytes: u32::MAX,
                max_bytes: u32::MAX,
            },
            group_log2: u8::MAX,
            hashes: &[],
            lens: &[],
            values: &[],
        },
    );
    // Three length prefixes grow from one byte to five.
    assert!(fixed_part.len() + 12 <= FIXED_PART_BYTES);
    assert_eq!(MIN_GROUP_BYTES, 262_144);
}

proptest! {
    #[test]
    fn random_bytes_are_never_accepted_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let address = Address::of(b"some file");
        prop_assert!(Manifest::decode_for(&address, &bytes).is_err());
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&bytes);
        prop_assert!(Manifest::decode_for(&address, &versioned).is_err());
    }
}
