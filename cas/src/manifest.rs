//! The manifest: how a file is cut, and the proof that the pieces are the file's.
//!
//! A manifest comes from strangers. [`Manifest::decode_for`] checks its size, then its shape, then that
//! its proof tree merges to the address; only then is anything fetched with it. What it cannot check
//! without bytes is whether the listed chunks are the file's: that is settled group by group while they
//! come in.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::chunker::{ChunkerParams, MAX_CHUNKS};
use crate::codec::{self, BorrowDecode, CodecError, Encode};
use crate::id::{Address, ChunkHash, HASH_BYTES, ManifestId};
use crate::proof::{MAX_GROUPS, ProofTree, group_bytes_for};

/// Version byte of an encoded manifest.
const VERSION: u8 = 1;

/// Bytes of one length in the encoding.
const LEN_BYTES: usize = 4;

/// Room for version, size, parameters and the length prefixes.
const FIXED_PART_BYTES: usize = 64;

/// No encoded manifest is larger: 2^20 chunks with their lengths, 2^20 groups, and the fixed part.
pub const MAX_MANIFEST_BYTES: usize =
    FIXED_PART_BYTES + MAX_CHUNKS * (HASH_BYTES + LEN_BYTES) + MAX_GROUPS * HASH_BYTES;

/// One chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// BLAKE3 of the chunk's bytes.
    pub hash: ChunkHash,
    /// The chunk's length.
    pub len_bytes: u32,
}

/// Why bytes are not a manifest of the wanted file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not an encoded manifest at all.
    #[error("manifest: {0}")]
    Codec(#[from] CodecError),
    /// The chunker parameters are outside what any version cuts with.
    #[error("manifest: impossible chunker parameters")]
    Params,
    /// More than [`MAX_CHUNKS`] chunks.
    #[error("manifest: more than {MAX_CHUNKS} chunks")]
    TooManyChunks,
    /// The hash, length and chaining value lists do not fit each other, the size or the group size.
    #[error("manifest: its lists do not fit each other")]
    Shape,
    /// A chunk's length is zero or not one the chunker could have produced.
    #[error(
        "manifest: chunk {index} has a length of {len_bytes}, which its chunker cannot produce"
    )]
    ChunkLength {
        /// Which chunk.
        index: usize,
        /// Its length.
        len_bytes: u32,
    },
    /// The chunks do not add up to the size.
    #[error("manifest: chunks add up to another size than it states")]
    SizeMismatch,
    /// The proof tree, or the only chunk, does not lead to the address.
    #[error("manifest: does not belong to the address")]
    WrongAddress,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireParams {
    Fixed {
        chunk_bytes: u32,
    },
    FastCdc {
        min_bytes: u32,
        avg_bytes: u32,
        max_bytes: u32,
    },
}

impl From<ChunkerParams> for WireParams {
    fn from(params: ChunkerParams) -> Self {
        match params {
            ChunkerParams::Fixed { chunk_bytes } => WireParams::Fixed { chunk_bytes },
            ChunkerParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            } => WireParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            },
        }
    }
}

impl From<WireParams> for ChunkerParams {
    fn from(params: WireParams) -> Self {
        match params {
            WireParams::Fixed { chunk_bytes } => ChunkerParams::Fixed { chunk_bytes },
            WireParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            } => ChunkerParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            },
        }
    }
}

#[derive(Encode, BorrowDecode)]
struct WireManifest<'a> {
    size_bytes: u64,
    params: WireParams,
    /// log2 of the group size; stated so that a reader need not know the rule it follows from.
    group_log2: u8,
    /// 32 bytes a chunk.
    hashes: &'a [u8],
    /// 4 little-endian bytes a chunk; empty for the fixed chunker, whose lengths follow from the size.
    lens: &'a [u8],
    /// 32 bytes a group; empty for a file of at most one group.
    values: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    id: ManifestId,
    params: ChunkerParams,
    chunks: Vec<ChunkRef>,
    /// Offset of each chunk, and the size at the end: one entry more than chunks.
    offsets: Vec<u64>,
    proof: ProofTree,
    encoded: Bytes,
}

/// The list of a file's chunks, in order, with the file's proof tree. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(Arc<Inner>);

impl Manifest {
    /// A manifest of chunks that were just cut from a file with this proof tree.
    ///
    /// # Errors
    /// When the chunks do not fit the parameters or the size.
    pub fn new(
        params: ChunkerParams,
        chunks: Vec<ChunkRef>,
        proof: ProofTree,
    ) -> Result<Self, ManifestError> {
        let hashes: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| *chunk.hash.as_bytes())
            .collect();
        let lens: Vec<u8> = match params {
            ChunkerParams::Fixed { .. } => Vec::new(),
            ChunkerParams::FastCdc { .. } => chunks
                .iter()
                .flat_map(|chunk| chunk.len_bytes.to_le_bytes())
                .collect(),
        };
        let wire = WireManifest {
            size_bytes: proof.size_bytes(),
            params: params.into(),
            group_log2: log2(proof.group_bytes()),
            hashes: &hashes,
            lens: &lens,
            values: proof.values().as_flattened(),
        };
        let encoded = codec::encode(VERSION, &wire);
        Self::assemble(params, chunks, proof, encoded.into())
    }

    /// Decodes `bytes` as the manifest of the file with this address.
    ///
    /// # Errors
    /// Says which check failed; see [`ManifestError`].
    pub fn decode_for(address: &Address, bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire: WireManifest<'_> = codec::decode::<_, MAX_MANIFEST_BYTES>(VERSION, bytes)?;
        let params = ChunkerParams::from(wire.params);
        if !params.is_valid() {
            return Err(ManifestError::Params);
        }
        let group_bytes = group_bytes_for(wire.size_bytes, MAX_GROUPS);
        let (hashes, hash_rest) = wire.hashes.as_chunks::<HASH_BYTES>();
        let (values, value_rest) = wire.values.as_chunks::<HASH_BYTES>();
        if !hash_rest.is_empty() || !value_rest.is_empty() || wire.group_log2 != log2(group_bytes) {
            return Err(ManifestError::Shape);
        }
        if hashes.len() > MAX_CHUNKS {
            return Err(ManifestError::TooManyChunks);
        }
        let lens = chunk_lens(params, wire.size_bytes, hashes.len(), wire.lens)?;
        let chunks = hashes
            .iter()
            .zip(lens)
            .map(|(hash, len_bytes)| ChunkRef {
                hash: ChunkHash::from_bytes(*hash),
                len_bytes,
            })
            .collect();
        let proof = ProofTree::from_values(*address, wire.size_bytes, group_bytes, values.to_vec())
            .ok_or(ManifestError::WrongAddress)?;
        Self::assemble(params, chunks, proof, Bytes::copy_from_slice(bytes))
    }

    /// The checks that hold for every manifest, whether made here or received.
    fn assemble(
        params: ChunkerParams,
        chunks: Vec<ChunkRef>,
        proof: ProofTree,
        encoded: Bytes,
    ) -> Result<Self, ManifestError> {
        if !params.is_valid() {
            return Err(ManifestError::Params);
        }
        if chunks.len() > MAX_CHUNKS {
            return Err(ManifestError::TooManyChunks);
        }
        let mut offsets = Vec::with_capacity(chunks.len() + 1);
        let mut offset = 0u64;
        offsets.push(offset);
        for (index, chunk) in chunks.iter().enumerate() {
            if !params.allows(chunk.len_bytes, index + 1 == chunks.len()) {
                return Err(ManifestError::ChunkLength {
                    index,
                    len_bytes: chunk.len_bytes,
                });
            }
            // At most 2^20 chunks of at most 2^22 bytes: no overflow.
            offset += u64::from(chunk.len_bytes);
            offsets.push(offset);
        }
        if offset != proof.size_bytes() {
            return Err(ManifestError::SizeMismatch);
        }
        if let [only] = chunks.as_slice()
            && *only.hash.as_bytes() != proof.root()
        {
            return Err(ManifestError::WrongAddress);
        }
        let id = ManifestId::of(&encoded);
        Ok(Self(Arc::new(Inner {
            id,
            params,
            chunks,
            offsets,
            proof,
            encoded,
        })))
    }

    /// The address of the file.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::from_bytes(self.0.proof.root())
    }

    /// BLAKE3 of the encoded manifest.
    #[must_use]
    pub fn id(&self) -> ManifestId {
        self.0.id
    }

    /// The file's size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.proof.size_bytes()
    }

    /// How the file was cut.
    #[must_use]
    pub fn params(&self) -> ChunkerParams {
        self.0.params
    }

    /// The chunks, in the order of the file. Equal chunks are listed as often as they occur.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.0.chunks
    }

    /// Number of chunks; at most [`MAX_CHUNKS`].
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        // MAX_CHUNKS is 2^20.
        u32::try_from(self.0.chunks.len()).unwrap_or(u32::MAX)
    }

    /// Where chunk `index` begins in the file; the file's size for an index beyond the last chunk.
    #[must_use]
    pub fn chunk_offset(&self, index: usize) -> u64 {
        self.0
            .offsets
            .get(index)
            .copied()
            .unwrap_or(self.size_bytes())
    }

    /// The bytes of the file that chunk `index` covers; empty beyond the last chunk.
    #[must_use]
    pub fn chunk_range(&self, index: usize) -> Range<u64> {
        self.chunk_offset(index)..self.chunk_offset(index.saturating_add(1))
    }

    /// The proof tree.
    #[must_use]
    pub fn proof(&self) -> &ProofTree {
        &self.0.proof
    }

    /// The groups that share bytes with chunk `index`.
    #[must_use]
    pub fn groups_of_chunk(&self, index: usize) -> Range<usize> {
        let range = self.chunk_range(index);
        if range.is_empty() {
            return 0..0;
        }
        let group_bytes = self.0.proof.group_bytes();
        // Group numbers are below MAX_GROUPS, so they fit a usize.
        let group = |offset: u64| usize::try_from(offset / group_bytes).unwrap_or(usize::MAX);
        group(range.start)..group(range.end - 1) + 1
    }

    /// The chunks that share bytes with group `group`.
    #[must_use]
    pub fn chunks_of_group(&self, group: usize) -> Range<usize> {
        let range = self.0.proof.group_range(group);
        if range.is_empty() {
            return 0..0;
        }
        let offsets = &self.0.offsets;
        let first = offsets.partition_point(|offset| *offset <= range.start) - 1;
        let end = offsets.partition_point(|offset| *offset < range.end);
        first..end.min(self.0.chunks.len())
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> &Bytes {
        &self.0.encoded
    }
}

/// log2 of a power of two.
pub(crate) fn log2(power: u64) -> u8 {
    // At most 63.
    u8::try_from(power.trailing_zeros()).unwrap_or(u8::MAX)
}

/// The chunk lengths: stated for `fastcdc`, derived for `fixed`. Allocates in proportion to the hashes
/// that really are in the input.
fn chunk_lens(
    params: ChunkerParams,
    size_bytes: u64,
    chunks: usize,
    stated: &[u8],
) -> Result<Vec<u32>, ManifestError> {
    match params {
        ChunkerParams::Fixed { chunk_bytes } => {
            let expected = size_bytes.div_ceil(u64::from(chunk_bytes));
            if !stated.is_empty() || u64::try_from(chunks).ok() != Some(expected) {
                return Err(ManifestError::Shape);
            }
            let mut lens = vec![chunk_bytes; chunks];
            if let Some(last) = lens.last_mut() {
                let before = u64::from(chunk_bytes) * (expected - 1);
                // The remainder of a division by a u32, or that u32.
                *last = u32::try_from(size_bytes - before).map_err(|_| ManifestError::Shape)?;
            }
            Ok(lens)
        }
        ChunkerParams::FastCdc { .. } => {
            let (lens, rest) = stated.as_chunks::<LEN_BYTES>();
            if !rest.is_empty() || lens.len() != chunks {
                return Err(ManifestError::Shape);
            }
            Ok(lens.iter().map(|len| u32::from_le_bytes(*len)).collect())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
