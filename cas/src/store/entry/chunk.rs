//! What the index knows of chunks and manifests.

use bytes::Bytes;

use super::{Fields, push_location};
use crate::error::IndexError;
use crate::id::Address;
use crate::store::pack::Location;

/// Chunks and manifests of at most this many bytes are also kept in the index itself: reading them costs
/// no second access. Larger ones would be a second copy that counts; measured, 4 KiB chunks kept twice
/// take 2.9 bytes of disk a byte.
pub(crate) const INLINE_BYTES: usize = 1024;

const FLAG_INLINE: u8 = 1;
const FLAG_BAD: u8 = 2;
const FLAG_SOURCE: u8 = 4;

/// Bytes of a file outside the packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    /// Which source; see [`super::SourceFile`].
    pub(crate) source: u32,
    pub(crate) offset: u64,
    pub(crate) len_bytes: u32,
}

/// Where a chunk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Pack(Location),
    Source(Extent),
}

impl Place {
    pub(crate) fn len_bytes(self) -> u32 {
        match self {
            Place::Pack(at) => at.len_bytes,
            Place::Source(extent) => extent.len_bytes,
        }
    }

    pub(crate) fn pack(self) -> Option<Location> {
        match self {
            Place::Pack(at) => Some(at),
            Place::Source(_) => None,
        }
    }

    pub(crate) fn source(self) -> Option<u32> {
        match self {
            Place::Pack(_) => None,
            Place::Source(extent) => Some(extent.source),
        }
    }
}

/// What the index knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) place: Place,
    /// Complete files whose manifest lists the chunk. May be too high after a crash, never too low.
    pub(crate) refs: u32,
    /// The bytes were found not to match the hash: counts as absent, and nothing is at its place.
    pub(crate) bad: bool,
    /// A copy of the bytes, for chunks of at most [`INLINE_BYTES`] that are in a pack.
    pub(crate) inline: Option<Bytes>,
}

/// Bytes kept in the entry itself: all that are left, and then as many as the record has.
fn inline(fields: Fields<'_>, present: bool, len_bytes: u32) -> Result<Option<Bytes>, IndexError> {
    if !present {
        return fields.end().map(|()| None);
    }
    if fields.0.len() != len_bytes as usize || fields.0.len() > INLINE_BYTES {
        return Err(IndexError::Malformed);
    }
    Ok(Some(Bytes::copy_from_slice(fields.0)))
}

impl ChunkEntry {
    /// The entry of a chunk that is listed and not there: nothing is at its place.
    pub(crate) fn absent() -> Self {
        Self {
            place: Place::Pack(Location {
                pack: u32::MAX,
                offset: 0,
                len_bytes: 0,
            }),
            refs: 0,
            bad: true,
            inline: None,
        }
    }

    pub(crate) fn len_bytes(&self) -> u32 {
        self.place.len_bytes()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let inline = self.inline.as_deref().unwrap_or_default();
        let mut value = Vec::with_capacity(21 + inline.len());
        let mut flags = 0;
        if self.inline.is_some() {
            flags |= FLAG_INLINE;
        }
        if self.bad {
            flags |= FLAG_BAD;
        }
        let words = match self.place {
            Place::Pack(at) => at,
            Place::Source(extent) => {
                flags |= FLAG_SOURCE;
                Location {
                    pack: extent.source,
                    offset: extent.offset,
                    len_bytes: extent.len_bytes,
                }
            }
        };
        value.push(flags);
        push_location(&mut value, words);
        value.extend_from_slice(&self.refs.to_le_bytes());
        value.extend_from_slice(inline);
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let [flags] = fields.take()?;
        let words = fields.location()?;
        let refs = fields.u32()?;
        let is_inline = flags & FLAG_INLINE != 0;
        let in_source = flags & FLAG_SOURCE != 0;
        if flags & !(FLAG_INLINE | FLAG_BAD | FLAG_SOURCE) != 0 || (is_inline && in_source) {
            return Err(IndexError::Malformed);
        }
        let place = if in_source {
            Place::Source(Extent {
                source: words.pack,
                offset: words.offset,
                len_bytes: words.len_bytes,
            })
        } else {
            Place::Pack(words)
        };
        Ok(Self {
            place,
            refs,
            bad: flags & FLAG_BAD != 0,
            inline: inline(fields, is_inline, words.len_bytes)?,
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
        let flags = if self.inline.is_some() {
            FLAG_INLINE
        } else {
            0
        };
        let mut value = vec![flags];
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
        Ok(Self {
            address,
            at,
            inline: inline(fields, flags & FLAG_INLINE != 0, at.len_bytes)?,
        })
    }
}
