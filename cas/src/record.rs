//! The file-metadata record: what the DHT keeps under a file's address.
//!
//! It carries the top of the file's proof tree, which must merge to the address, so every node that is
//! asked to keep a record can refuse a false one. A small file's whole manifest travels in it.
//!
//! What the record cannot prove: the name (a hint) and, for a file of at most one group, the cutting
//! into more than one chunk.

use bytes::Bytes;

use crate::chunker::ChunkerParams;
use crate::codec::{self, BorrowDecode, CodecError, Encode};
use crate::id::{Address, HASH_BYTES};
use crate::manifest::{Manifest, ManifestError, WireParams, log2};
use crate::name::is_valid_hint;
use crate::proof::{ProofTree, group_bytes_for};

/// Version byte of an encoded record.
const VERSION: u8 = 1;

/// No encoded record is larger; leaves room in a DHT packet for several.
pub const MAX_FILE_RECORD_BYTES: usize = 8192;

/// A manifest of at most this many bytes travels in the record.
pub const INLINE_MANIFEST_BYTES: usize = 4096;

/// Most chaining values in a record: enough to be checked, small enough to be everywhere.
const TOP_VALUES: usize = 16;

/// What kind of file the address names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, BorrowDecode)]
#[non_exhaustive]
pub enum FileKind {
    /// A plain file.
    #[default]
    File,
}

/// Why bytes are not the record of the wanted file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileRecordError {
    /// Not an encoded record at all.
    #[error("file record: {0}")]
    Codec(#[from] CodecError),
    /// Chunker parameters, chunk count or group size do not fit the size.
    #[error("file record: its fields do not fit each other")]
    Shape,
    /// The proof top does not merge to the address.
    #[error("file record: does not belong to the address")]
    WrongAddress,
    /// The name is not a single path component of at most 255 bytes.
    #[error("file record: unacceptable name")]
    Name,
    /// The manifest inside is not one of this file.
    #[error("file record: {0}")]
    Manifest(#[from] ManifestError),
}

#[derive(Encode, BorrowDecode)]
struct WireRecord<'a> {
    size_bytes: u64,
    kind: FileKind,
    params: WireParams,
    chunk_count: u32,
    group_log2: u8,
    /// 32 bytes a group.
    top: &'a [u8],
    manifest: Option<&'a [u8]>,
    name: Option<&'a str>,
}

/// A file's public facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    kind: FileKind,
    params: ChunkerParams,
    chunk_count: u32,
    top: ProofTree,
    manifest: Option<Manifest>,
    name: Option<String>,
}

impl FileRecord {
    /// The record of a file. A name that may not stand in a record is left out.
    #[must_use]
    pub fn for_manifest(manifest: &Manifest, name: Option<&str>) -> Self {
        let inline = manifest.encode().len() <= INLINE_MANIFEST_BYTES;
        Self {
            kind: FileKind::File,
            params: manifest.params(),
            chunk_count: manifest.chunk_count(),
            top: manifest.proof().coarsen(TOP_VALUES),
            manifest: inline.then(|| manifest.clone()),
            name: name.filter(|name| is_valid_hint(name)).map(str::to_owned),
        }
    }

    /// The canonical encoding, at most [`MAX_FILE_RECORD_BYTES`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireRecord {
            size_bytes: self.size_bytes(),
            kind: self.kind,
            params: self.params.into(),
            chunk_count: self.chunk_count,
            group_log2: log2(self.top.group_bytes()),
            top: self.top.values().as_flattened(),
            manifest: self
                .manifest
                .as_ref()
                .map(|manifest| manifest.encode().as_ref()),
            name: self.name.as_deref(),
        };
        codec::encode(VERSION, &wire)
    }

    /// Decodes `bytes` as the record of the file with this address.
    ///
    /// # Errors
    /// Says which check failed; see [`FileRecordError`].
    pub fn decode_for(address: &Address, bytes: &[u8]) -> Result<Self, FileRecordError> {
        let wire: WireRecord<'_> = codec::decode::<_, MAX_FILE_RECORD_BYTES>(VERSION, bytes)?;
        let params = ChunkerParams::from(wire.params);
        let group_bytes = group_bytes_for(wire.size_bytes, TOP_VALUES);
        let (top, rest) = wire.top.as_chunks::<HASH_BYTES>();
        if !params.is_valid()
            || !rest.is_empty()
            || wire.group_log2 != log2(group_bytes)
            || !chunk_count_fits(params, wire.size_bytes, wire.chunk_count)
        {
            return Err(FileRecordError::Shape);
        }
        if wire.name.is_some_and(|name| !is_valid_hint(name)) {
            return Err(FileRecordError::Name);
        }
        let top = ProofTree::from_values(*address, wire.size_bytes, group_bytes, top.to_vec())
            .ok_or(FileRecordError::WrongAddress)?;
        let manifest = wire
            .manifest
            .map(|bytes| Manifest::decode_for(address, bytes))
            .transpose()?;
        match &manifest {
            Some(manifest) => {
                let agrees = manifest.size_bytes() == wire.size_bytes
                    && manifest.params() == params
                    && manifest.chunk_count() == wire.chunk_count
                    && manifest.encode().len() <= INLINE_MANIFEST_BYTES;
                if !agrees {
                    return Err(FileRecordError::Shape);
                }
            }
            // Without chaining values the manifest is the only thing to check, and it always fits.
            None if !top.has_values() => return Err(FileRecordError::Shape),
            None => {}
        }
        let name = wire.name.map(str::to_owned);
        Ok(Self {
            kind: wire.kind,
            params,
            chunk_count: wire.chunk_count,
            top,
            manifest,
            name,
        })
    }

    /// The file's size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.top.size_bytes()
    }

    /// What kind of file it is.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// How the provider who wrote the record cut the file.
    #[must_use]
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Number of chunks it was cut into.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// The top of the proof tree: at most 16 chaining values.
    #[must_use]
    pub fn top(&self) -> &ProofTree {
        &self.top
    }

    /// The manifest, when it is small enough to travel in the record.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The encoded manifest, when it travels in the record.
    #[must_use]
    pub fn manifest_bytes(&self) -> Option<Bytes> {
        self.manifest
            .as_ref()
            .map(|manifest| manifest.encode().clone())
    }

    /// The suggested name. Pass it through [`crate::safe_file_name`] before making a file of it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn chunk_count_fits(params: ChunkerParams, size_bytes: u64, chunk_count: u32) -> bool {
    let count = u64::from(chunk_count);
    let most = u64::try_from(crate::chunker::MAX_CHUNKS).unwrap_or(u64::MAX);
    let least = size_bytes.div_ceil(u64::from(params.max_chunk_bytes()));
    let largest = match params {
        ChunkerParams::Fixed { chunk_bytes } => size_bytes.div_ceil(u64::from(chunk_bytes)),
        ChunkerParams::FastCdc { min_bytes, .. } => size_bytes.div_ceil(u64::from(min_bytes)),
    };
    count <= most && (least..=largest).contains(&count)
}

#[cfg(test)]
mod tests;
