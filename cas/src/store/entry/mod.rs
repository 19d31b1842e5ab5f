//! The keys and values of the index.
//!
//! One key space with a one-byte prefix, since batches are atomic within one tree only. Values are fixed
//! little-endian layouts, described byte by byte in `docs/FORMATS.md`.

mod account;
mod chunk;
mod directory;
mod file;
mod stamp;

use self::directory::{DIRECTORY, MEMBER};
use self::stamp::{STAMP, STAMPS};
use super::pack::Location;
use crate::error::IndexError;
use crate::id::{Address, ChunkHash, HASH_BYTES, ManifestId};
use crate::manifest::MAX_MANIFEST_BYTES;

pub(crate) use account::{PackAccount, SourceAccount, Totals};
pub(crate) use chunk::{ChunkEntry, Extent, INLINE_BYTES, ManifestEntry, Place};
pub(crate) use directory::{
    DIRECTORY_PREFIX, DirectoryAccount, MEMBER_PREFIX, directory_key, directory_of_key, member_key,
    member_of_key, member_prefix,
};
pub use file::{Claim, FileEntry, FileSource, FileState, SourceKind, SourceState};
pub(crate) use file::{FileValue, MAX_PATH_BYTES, SourceFile};
pub(crate) use stamp::{STAMP_BYTES, STAMP_PREFIX, Stamp, decode_count, stamp_key, stamps_key};

const CHUNK: u8 = b'c';
const FILE: u8 = b'f';
const MANIFEST: u8 = b'm';
const PACK: u8 = b'p';
const TOTALS: u8 = b'q';
const SOURCE: u8 = b'r';
const SETTING: u8 = b's';
const TOMBSTONE: u8 = b't';
const LAST_USE: u8 = b'u';
const FLUX: u8 = b'x';

pub(crate) const CHUNK_PREFIX: &[u8] = &[CHUNK];
pub(crate) const FILE_PREFIX: &[u8] = &[FILE];
pub(crate) const PACK_PREFIX: &[u8] = &[PACK];
pub(crate) const SOURCE_PREFIX: &[u8] = &[SOURCE];
pub(crate) const TOMBSTONE_PREFIX: &[u8] = &[TOMBSTONE];
pub(crate) const FLUX_PREFIX: &[u8] = &[FLUX];

fn key_of(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(prefix);
    key.extend_from_slice(rest);
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
    key_of(PACK, &pack.to_be_bytes())
}

pub(crate) fn source_key(source: u32) -> Vec<u8> {
    key_of(SOURCE, &source.to_be_bytes())
}

pub(crate) fn tombstone_key(address: &Address) -> Vec<u8> {
    key_of(TOMBSTONE, address.as_bytes())
}

pub(crate) fn encode_location(at: Location) -> Vec<u8> {
    let mut value = Vec::new();
    push_location(&mut value, at);
    value
}

pub(crate) fn decode_location(value: &[u8]) -> Result<Location, IndexError> {
    let mut fields = Fields(value);
    let at = fields.location()?;
    fields.end()?;
    Ok(at)
}

pub(crate) fn totals_key() -> Vec<u8> {
    vec![TOTALS]
}

pub(crate) fn last_use_key(address: &Address) -> Vec<u8> {
    key_of(LAST_USE, address.as_bytes())
}

/// There while the references of the chunks of a manifest are being changed.
pub(crate) fn flux_key(id: &ManifestId) -> Vec<u8> {
    key_of(FLUX, id.as_bytes())
}

/// The manifest a key of the manifest or flux prefix names.
pub(crate) fn manifest_of_key(key: &[u8]) -> Result<ManifestId, IndexError> {
    hash_of_key(key).map(ManifestId::from_bytes)
}

pub(crate) fn setting_key(name: &str) -> Vec<u8> {
    key_of(SETTING, name.as_bytes())
}

/// The chunk a key of the chunk prefix names.
pub(crate) fn chunk_of_key(key: &[u8]) -> Result<ChunkHash, IndexError> {
    hash_of_key(key).map(ChunkHash::from_bytes)
}

fn hash_of_key(key: &[u8]) -> Result<[u8; HASH_BYTES], IndexError> {
    let hash = key.get(1..).and_then(|hash| hash.try_into().ok());
    hash.ok_or(IndexError::Malformed)
}

/// The pack or source a key of these prefixes names.
pub(crate) fn number_of_key(key: &[u8]) -> Result<u32, IndexError> {
    let id = key.get(1..).and_then(|id| <[u8; 4]>::try_from(id).ok());
    id.map(u32::from_be_bytes).ok_or(IndexError::Malformed)
}

/// Checks that a key and its value are in the layout of this version.
pub(crate) fn check(key: &[u8], value: &[u8]) -> Result<(), IndexError> {
    match key.split_first() {
        Some((&CHUNK, _)) => {
            chunk_of_key(key)?;
            ChunkEntry::decode(value).map(drop)
        }
        Some((&FILE, _)) => {
            hash_of_key(key)?;
            FileValue::decode(value).map(drop)
        }
        Some((&(MANIFEST | FLUX), _)) => {
            manifest_of_key(key)?;
            ManifestEntry::decode(value).map(drop)
        }
        Some((&PACK, _)) => {
            number_of_key(key)?;
            PackAccount::decode(value).map(drop)
        }
        Some((&SOURCE, _)) => {
            number_of_key(key)?;
            SourceAccount::decode(value).map(drop)
        }
        Some((&TOTALS, [])) => Totals::decode(value).map(drop),
        Some((&LAST_USE, _)) => {
            hash_of_key(key)?;
            decode_time(value).map(drop)
        }
        Some((&TOMBSTONE, _)) => {
            hash_of_key(key)?;
            decode_location(value).map(drop)
        }
        Some((&SETTING, _)) => Setting::decode(value).map(drop),
        Some((&STAMP, _)) => Stamp::decode(value).map(drop),
        Some((&STAMPS, [])) => decode_count(value).map(drop),
        Some((&MEMBER, _)) => member_of_key(key).map(drop),
        Some((&DIRECTORY, _)) => {
            directory_of_key(key)?;
            DirectoryAccount::decode(value).map(drop)
        }
        _ => Err(IndexError::Malformed),
    }
}

pub(crate) fn decode_time(value: &[u8]) -> Result<u64, IndexError> {
    let mut fields = Fields(value);
    let unix_ms = fields.u64()?;
    fields.end()?;
    Ok(unix_ms)
}

/// A setting's value, and where its record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// `None` for one that is kept in the index alone.
    pub(crate) at: Option<Location>,
    pub(crate) value: Vec<u8>,
}

impl Setting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![u8::from(self.at.is_some())];
        if let Some(at) = self.at {
            push_location(&mut value, at);
        }
        value.extend_from_slice(&self.value);
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let at = match fields.take()? {
            [0] => None,
            [1] => Some(fields.location()?),
            _ => return Err(IndexError::Malformed),
        };
        Ok(Self {
            at,
            value: fields.0.to_vec(),
        })
    }
}

/// No pack and no file is longer.
const MAX_OFFSET: u64 = 1 << 60;

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

    /// One that no record can have is refused here: it is neither added to nor allocated for.
    fn location(&mut self) -> Result<Location, IndexError> {
        let at = Location {
            pack: self.u32()?,
            offset: self.u64()?,
            len_bytes: self.u32()?,
        };
        let possible = at.offset <= MAX_OFFSET && at.len_bytes as usize <= MAX_MANIFEST_BYTES;
        possible.then_some(at).ok_or(IndexError::Malformed)
    }

    fn end(self) -> Result<(), IndexError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(IndexError::Malformed)
        }
    }
}

fn push_location(value: &mut Vec<u8>, at: Location) {
    value.extend_from_slice(&at.pack.to_le_bytes());
    value.extend_from_slice(&at.offset.to_le_bytes());
    value.extend_from_slice(&at.len_bytes.to_le_bytes());
}
