//! Where a file is cut: two chunkers, both pure functions of the bytes and the parameters.
//!
//! A [`Chunker`] has no reader inside and keeps no bytes: it is shown the bytes since the last boundary
//! and says where the next one is, so the result cannot depend on how the bytes arrived.

mod gear;

use fastcdc::v2020::Normalization;

use self::gear::GearScan;

/// Largest chunk of any manifest. Bounds a frame on the wire and a buffer here.
pub const MAX_CHUNK_BYTES: u32 = 4 * 1024 * 1024;

/// Most chunks in one manifest.
pub const MAX_CHUNKS: usize = 1 << 20;

/// Smallest chunk of the fixed chunker, and smallest average of the content-defined one. With less, a
/// small download would be a flood of requests.
pub const MIN_CHUNK_BYTES: u32 = 16 * 1024;

/// Smallest chunk of the content-defined chunker.
const MIN_CDC_BYTES: u32 = MIN_CHUNK_BYTES / 4;

/// Chunk size of the fixed chunker, and about the mean of the content-defined one, for files up to 64 GiB.
const BASE_CHUNK_BYTES: u32 = 256 * 1024;

/// How much likelier a content-defined boundary is behind the average than before it.
const NORMALIZATION: Normalization = Normalization::Level2;

/// Above this many chunks the chunk size doubles, so that a manifest stays small: 64 GiB of 256 KiB.
const COMFORTABLE_CHUNKS: u64 = 1 << 18;

/// Larger files are cut into equal pieces whatever was chosen: content-defined chunks are about 1 MiB at most, and
/// [`MAX_CHUNKS`] of them would not do. A quarter is left for a mean that is less than that.
const MAX_CDC_FILE_BYTES: u64 = (MAX_CHUNKS as u64) * 3 / 4 * (1 << 20);

/// The user's choice of chunker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Chunking {
    /// Equal pieces.
    #[default]
    Fixed,
    /// Content-defined boundaries: an insertion changes the chunks around it, not all that follow. Files above
    /// 768 GiB are cut into equal pieces all the same.
    FastCdc,
}

impl Chunking {
    /// Parameters for a file of `size_bytes`, or for a stream of unknown length.
    #[must_use]
    pub fn params(self, size_bytes: Option<u64>) -> ChunkerParams {
        let size_bytes = size_bytes.unwrap_or(0);
        match self {
            Chunking::FastCdc if size_bytes > MAX_CDC_FILE_BYTES => {
                Chunking::Fixed.params(Some(size_bytes))
            }
            Chunking::Fixed => ChunkerParams::Fixed {
                chunk_bytes: scaled(size_bytes, MAX_CHUNK_BYTES),
            },
            Chunking::FastCdc => {
                let chunk_bytes = scaled(size_bytes, MAX_CHUNK_BYTES / 4);
                ChunkerParams::FastCdc {
                    min_bytes: chunk_bytes / 4,
                    avg_bytes: chunk_bytes / 4 * 3,
                    max_bytes: chunk_bytes * 4,
                }
            }
        }
    }
}

fn scaled(size_bytes: u64, max_bytes: u32) -> u32 {
    let mut chunk_bytes = BASE_CHUNK_BYTES;
    while chunk_bytes < max_bytes && size_bytes.div_ceil(chunk_bytes.into()) > COMFORTABLE_CHUNKS {
        chunk_bytes *= 2;
    }
    chunk_bytes
}

/// A chunker with its parameters; part of every manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkerParams {
    /// Every chunk but the last has `chunk_bytes`.
    Fixed {
        /// Bytes in a chunk.
        chunk_bytes: u32,
    },
    /// FastCDC (2020), normalisation level 2.
    FastCdc {
        /// No chunk but the last is smaller.
        min_bytes: u32,
        /// From here on a boundary is more likely; with the default sizes the mean is a third more.
        avg_bytes: u32,
        /// No chunk is larger.
        max_bytes: u32,
    },
}

impl ChunkerParams {
    /// The kind of chunker these parameters are for.
    #[must_use]
    pub fn chunking(&self) -> Chunking {
        match self {
            ChunkerParams::Fixed { .. } => Chunking::Fixed,
            ChunkerParams::FastCdc { .. } => Chunking::FastCdc,
        }
    }

    /// The largest chunk these parameters allow.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> u32 {
        match *self {
            ChunkerParams::Fixed { chunk_bytes } => chunk_bytes,
            ChunkerParams::FastCdc { max_bytes, .. } => max_bytes,
        }
    }

    /// Whether the parameters are within what this version can cut with: no chunk but the last may be
    /// tiny. `fastcdc` needs even sizes and has bounds of its own.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        use fastcdc::v2020 as cdc;
        match *self {
            ChunkerParams::Fixed { chunk_bytes } => {
                (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&chunk_bytes)
            }
            ChunkerParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            } => {
                let within = |bytes: u32, low: usize, high: usize| {
                    usize::try_from(bytes).is_ok_and(|bytes| (low..=high).contains(&bytes))
                };
                within(min_bytes, cdc::MINIMUM_MIN, cdc::MINIMUM_MAX)
                    && within(avg_bytes, cdc::AVERAGE_MIN, cdc::AVERAGE_MAX)
                    && within(max_bytes, cdc::MAXIMUM_MIN, cdc::MAXIMUM_MAX)
                    && min_bytes >= MIN_CDC_BYTES
                    && avg_bytes >= MIN_CHUNK_BYTES
                    && max_bytes <= MAX_CHUNK_BYTES
                    && min_bytes <= avg_bytes
                    && avg_bytes <= max_bytes
                    && [min_bytes, avg_bytes, max_bytes]
                        .iter()
                        .all(|bytes| bytes % 2 == 0)
            }
        }
    }

    /// Whether a chunk of `len_bytes` may stand at this place of a file cut with these parameters.
    pub(crate) fn allows(&self, len_bytes: u32, is_last: bool) -> bool {
        match *self {
            ChunkerParams::Fixed { chunk_bytes } if is_last => {
                (1..=chunk_bytes).contains(&len_bytes)
            }
            ChunkerParams::Fixed { chunk_bytes } => len_bytes == chunk_bytes,
            ChunkerParams::FastCdc { max_bytes, .. } if is_last => {
                (1..=max_bytes).contains(&len_bytes)
            }
            ChunkerParams::FastCdc {
                min_bytes,
                max_bytes,
                ..
            } => (min_bytes..=max_bytes).contains(&len_bytes),
        }
    }
}

/// Finds chunk boundaries.
#[derive(Clone, Debug)]
pub struct Chunker {
    params: ChunkerParams,
    /// For content-defined chunks.
    scan: Option<Box<GearScan>>,
}

impl Chunker {
    /// `None` for parameters that are not valid.
    #[must_use]
    pub fn new(params: ChunkerParams) -> Option<Self> {
        let scan = match params {
            _ if !params.is_valid() => return None,
            ChunkerParams::Fixed { .. } => None,
            ChunkerParams::FastCdc {
                min_bytes,
                avg_bytes,
                max_bytes,
            } => {
                let [min, avg, max] = [min_bytes, avg_bytes, max_bytes].map(|bytes| bytes as usize);
                Some(Box::new(GearScan::new(min, avg, max)))
            }
        };
        Some(Self { params, scan })
    }

    /// Bytes that decide where the next boundary is, whatever they are; often fewer do.
    #[must_use]
    pub fn needed_bytes(&self) -> usize {
        // A u32 of at most MAX_CHUNK_BYTES fits every usize this crate compiles for.
        self.params.max_chunk_bytes() as usize
    }

    /// Length of the next chunk, given the bytes since the last boundary; `None` when more bytes are
    /// needed, or, at the end of the file, when there are none left.
    #[must_use]
    pub fn cut(&self, bytes: &[u8], at_end: bool) -> Option<usize> {
        let needed = self.needed_bytes();
        let boundary = match &self.scan {
            Some(scan) => scan.boundary(bytes),
            None => (bytes.len() >= needed).then_some(needed),
        };
        // What the end of the file leaves is the last chunk.
        boundary.or_else(|| (at_end && !bytes.is_empty()).then_some(bytes.len()))
    }
}

#[cfg(test)]
mod tests;
