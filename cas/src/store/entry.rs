//! The keys and values of the index.
//!
//! One key space with a one-byte prefix, since batches are atomic within one tree only. Values are fixed
//! little-endian layouts, described byte by byte in `docs/FORMATS.md`.

use bytes::Bytes;

use super::pack::Location;
use crate::codec::{self, BorrowDecode, Encode};
use crate::error::IndexError;
use crate::id::{Address, ChunkHash, HASH_BYTES, ManifestId};
use crate::name::MAX_NAME_BYTES;

/// Chunks and manifests of at most this many bytes are also kept in the index itself.
pub(crate) const INLINE_BYTES: usize = 4096;

const CHUNK: u8 = b'c';
const FILE: u8 = b'f';
const MANIFEST: u8 = b'm';
const PACK: u8 = b'p';
const TOTALS: u8 = b'q';

pub(crate) const CHUNK_PREFIX: &[u8] = &[CHUNK];
pub(crate) const FILE_PREFIX: &[u8] = &[FILE];
pub(crate) const PACK_PREFIX: &[u8] = &[PACK];

/// Version byte of an encoded file entry.
const FILE_VERSION: u8 = 1;

/// No encoded file entry is larger: the name and some fixed fields.
pub(crate) const MAX_FILE_ENTRY_BYTES: usize = MAX_NAME_BYTES + 256;

fn key_of(prefix: u8, hash: &[u8; HASH_BYTES]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + HASH_BYTES);
    key.push(prefix);
    key.extend_from_slice(hash);
    key
}

pub(crate) fn chunk_key(hash: &ChunkHash) -> Vec<u8> {
    key_of(CHUNK, hash.as_bytes())
}

pub(crate) fn file_key(address: &Address) -> Vec<u8> {
    key_of(FILE, address.as_bytes())
}

pub(crate) fn manifest_key(id: &ManifestId) -> Vec<u8> {
    key_of(MANIFEST, id.as_bytes())
}

pub(crate) fn pack_key(pack: u32) -> Vec<u8> {
    let mut key = vec![PACK];
    key.extend_from_slice(&pack.to_be_bytes());
    key
}

pub(crate) fn totals_key() -> Vec<u8> {
    vec![TOTALS]
}

/// The chunk a key of the chunk prefix names.
pub(crate) fn chunk_of_key(key: &[u8]) -> Result<ChunkHash, IndexError> {
    let hash = key
        .get(1..)
        .and_then(|hash| <[u8; HASH_BYTES]>::try_from(hash).ok());
    hash.map(ChunkHash::from_bytes).ok_or(IndexError::Malformed)
}

/// The pack a key of the pack prefix names.
pub(crate) fn pack_of_key(key: &[u8]) -> Result<u32, IndexError> {
    let id = key.get(1..).and_then(|id| <[u8; 4]>::try_from(id).ok());
    id.map(u32::from_be_bytes).ok_or(IndexError::Malformed)
}

/// Takes fixed-size fields from the front of a value.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        let (field, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(IndexError::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, IndexError> {
        self.take().map(u64::from_le_bytes)
    }

    fn location(&mut self) -> Result<Location, IndexError> {
        Ok(Location {
            pack: self.u32()?,
            offset: self.u64()?,
            len_bytes: self.u32()?,
        })
    }

    fn end(self) -> Result<(), IndexError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(IndexError::Malformed)
        }
    }

    /// Bytes kept in the entry itself: all that are left, and then as many as the record has.
    fn inline(self, present: bool, at: Location) -> Result<Option<Bytes>, IndexError> {
        if !present {
            return self.end().map(|()| None);
        }
        if self.0.len() != at.len_bytes as usize || self.0.len() > INLINE_BYTES {
            return Err(IndexError::Malformed);
        }
        Ok(Some(Bytes::copy_from_slice(self.0)))
    }
}

fn push_location(value: &mut Vec<u8>, at: Location) {
    value.extend_from_slice(&at.pack.to_le_bytes());
    value.extend_from_slice(&at.offset.to_le_bytes());
    value.extend_from_slice(&at.len_bytes.to_le_bytes());
}

const FLAG_INLINE: u8 = 1;
const FLAG_BAD: u8 = 2;

/// What the index knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) at: Location,
    /// Complete files whose manifest lists the chunk. May be too high after a crash, never too low.
    pub(crate) refs: u32,
    /// The bytes were found not to match the hash: counts as absent.
    pub(crate) bad: bool,
    /// A copy of the bytes, for chunks of at most [`INLINE_BYTES`].
    pub(crate) inline: Option<Bytes>,
}

impl ChunkEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let inline = self.inline.as_deref().unwrap_or_default();
        let mut value = Vec::with_capacity(21 + inline.len());
        let inline_flag = if self.inline.is_some() {
            FLAG_INLINE
        } else {
            0
        };
        value.push(inline_flag | if self.bad { FLAG_BAD } else { 0 });
        push_location(&mut value, self.at);
        value.extend_from_slice(&self.refs.to_le_bytes());
        value.extend_from_slice(inline);
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let [flags] = fields.take()?;
        let at = fields.location()?;
        let refs = fields.u32()?;
        if flags & !(FLAG_INLINE | FLAG_BAD) != 0 {
            return Err(IndexError::Malformed);
        }
        let inline = fields.inline(flags & FLAG_INLINE != 0, at)?;
        Ok(Self {
            at,
            refs,
            bad: flags & FLAG_BAD != 0,
            inline,
        })
    }
}

/// Where a manifest is and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestEntry {
    pub(crate) address: Address,
    pub(crate) at: Location,
    /// A copy, for manifests of at most [`INLINE_BYTES`].
    pub(crate) inline: Option<Bytes>,
}

impl ManifestEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![if self.inline.is_some() {
            FLAG_INLINE
        } else {
            0
        }];
        value.extend_from_slice(self.address.as_bytes());
        push_location(&mut value, self.at);
        value.extend_from_slice(self.inline.as_deref().unwrap_or_default());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let [flags] = fields.take()?;
        let address = Address::from_bytes(fields.take()?);
        let at = fields.location()?;
        if flags & !FLAG_INLINE != 0 {
            return Err(IndexError::Malformed);
        }
        let inline = fields.inline(flags & FLAG_INLINE != 0, at)?;
        Ok(Self {
            address,
            at,
            inline,
        })
    }
}

/// Up to where a pack is durable and indexed.
pub(crate) fn encode_checkpoint(durable_bytes: u64) -> Vec<u8> {
    durable_bytes.to_le_bytes().to_vec()
}

pub(crate) fn decode_checkpoint(value: &[u8]) -> Result<u64, IndexError> {
    let mut fields = Fields(value);
    let durable_bytes = fields.u64()?;
    fields.end()?;
    Ok(durable_bytes)
}

/// Counters over the chunks that are not bad; changed in the same batch as the chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, entry: &ChunkEntry) {
        self.chunks += 1;
        self.bytes += u64::from(entry.at.len_bytes);
    }

    pub(crate) fn remove(&mut self, entry: &ChunkEntry) {
        self.chunks = self.chunks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(entry.at.len_bytes));
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        [self.chunks.to_le_bytes(), self.bytes.to_le_bytes()].concat()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let totals = Self {
            chunks: fields.u64()?,
            bytes: fields.u64()?,
        };
        fields.end()?;
        Ok(totals)
    }
}

/// Whether all of a file is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, BorrowDecode)]
#[non_exhaustive]
pub enum FileState {
    /// All its chunks were stored.
    Complete,
    /// A download that has not finished.
    Partial,
    /// What is left of a download whose manifest was forged: chunks that are the file's own, and no
    /// manifest. Another manifest makes it [`FileState::Partial`] again.
    Remnant,
}

/// What the store knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// BLAKE3 of the file.
    pub address: Address,
    /// The name it was stored under.
    pub name: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// Chunks in its manifest; distinct chunks that are kept, for a remnant.
    pub chunk_count: u32,
    /// Which manifest; of a remnant the id of the list of its chunks, which is none.
    pub manifest: ManifestId,
    /// When it was first stored, by the clock of this machine.
    pub stored_unix_ms: u64,
    /// Kept whatever the garbage collector and quota say.
    pub pinned: bool,
    /// Whether all of it is here.
    pub state: FileState,
}

#[derive(Encode, BorrowDecode)]
struct WireFile<'a> {
    address: [u8; HASH_BYTES],
    manifest: [u8; HASH_BYTES],
    size_bytes: u64,
    chunk_count: u32,
    stored_unix_ms: u64,
    pinned: bool,
    state: FileState,
    name: Option<&'a str>,
}

impl FileEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let wire = WireFile {
            address: *self.address.as_bytes(),
            manifest: *self.manifest.as_bytes(),
            size_bytes: self.size_bytes,
            chunk_count: self.chunk_count,
            stored_unix_ms: self.stored_unix_ms,
            pinned: self.pinned,
            state: self.state,
            name: self.name.as_deref(),
        };
        codec::encode(FILE_VERSION, &wire)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let wire: WireFile<'_> = codec::decode::<_, MAX_FILE_ENTRY_BYTES>(FILE_VERSION, value)
            .map_err(|_| IndexError::Malformed)?;
        Ok(Self {
            address: Address::from_bytes(wire.address),
            name: wire.name.map(str::to_owned),
            size_bytes: wire.size_bytes,
            chunk_count: wire.chunk_count,
            manifest: ManifestId::from_bytes(wire.manifest),
            stored_unix_ms: wire.stored_unix_ms,
            pinned: wire.pinned,
            state: wire.state,
        })
    }
}
