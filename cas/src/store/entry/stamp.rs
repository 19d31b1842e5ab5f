//! What a file of the user's was when it was hashed.

use super::{Fields, key_of};
use crate::error::IndexError;
use crate::id::Address;

pub(super) const STAMP: u8 = b'k';
pub(super) const STAMPS: u8 = b'n';

pub(crate) const STAMP_PREFIX: &[u8] = &[STAMP];

/// Bytes of the hashes of a path and of what `stat` says: enough that no two meet by chance.
pub(crate) const STAMP_BYTES: usize = 16;

/// Version byte of an encoded stamp.
const VERSION: u8 = 1;

pub(crate) fn stamp_key(path: &[u8; STAMP_BYTES]) -> Vec<u8> {
    key_of(STAMP, path)
}

/// How many stamps there are.
pub(crate) fn stamps_key() -> Vec<u8> {
    vec![STAMPS]
}

pub(crate) fn decode_count(value: &[u8]) -> Result<u64, IndexError> {
    let mut fields = Fields(value);
    let count = fields.u64()?;
    fields.end()?;
    Ok(count)
}

/// What `stat` said, hashed, and what the bytes were then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) digest: [u8; STAMP_BYTES],
    pub(crate) address: Address,
}

impl Stamp {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.digest);
        value.extend_from_slice(self.address.as_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        if fields.take()? != [VERSION] {
            return Err(IndexError::Malformed);
        }
        let stamp = Self {
            digest: fields.take()?,
            address: Address::from_bytes(fields.take()?),
        };
        fields.end()?;
        Ok(stamp)
    }
}
