//! Counters that the index keeps beside what they count, changed in the same batches.

use super::{ChunkEntry, Fields};
use crate::error::IndexError;
use crate::id::Address;

/// Over the chunks that are not bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, entry: &ChunkEntry) {
        self.chunks += 1;
        self.bytes += u64::from(entry.len_bytes());
    }

    pub(crate) fn remove(&mut self, entry: &ChunkEntry) {
        self.chunks = self.chunks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(entry.len_bytes()));
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

/// What the index knows of a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackAccount {
    /// Up to where it is durable and indexed; 0 until that is known.
    pub(crate) durable_bytes: u64,
    /// Bytes of the records that the index points at, headers and padding included.
    pub(crate) live_bytes: u64,
}

impl PackAccount {
    pub(crate) fn encode(self) -> Vec<u8> {
        [
            self.durable_bytes.to_le_bytes(),
            self.live_bytes.to_le_bytes(),
        ]
        .concat()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let account = Self {
            durable_bytes: fields.u64()?,
            live_bytes: fields.u64()?,
        };
        fields.end()?;
        Ok(account)
    }
}

/// What the index knows of a source: a file outside the packs that holds chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceAccount {
    /// The file it is; its entry says where.
    pub(crate) address: Address,
    /// Bytes of the chunks that are read from it.
    pub(crate) live_bytes: u64,
}

impl SourceAccount {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = self.address.as_bytes().to_vec();
        value.extend_from_slice(&self.live_bytes.to_le_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let account = Self {
            address: Address::from_bytes(fields.take()?),
            live_bytes: fields.u64()?,
        };
        fields.end()?;
        Ok(account)
    }
}
