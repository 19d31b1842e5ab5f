//! Directories: which there are, and which members they list.

use super::{Fields, hash_of_key, key_of};
use crate::error::IndexError;
use crate::id::{Address, HASH_BYTES};

pub(super) const MEMBER: u8 = b'd';
pub(super) const DIRECTORY: u8 = b'e';

pub(crate) const MEMBER_PREFIX: &[u8] = &[MEMBER];
pub(crate) const DIRECTORY_PREFIX: &[u8] = &[DIRECTORY];

/// There while a directory lists a member. It counts only while the directory has an account.
pub(crate) fn member_key(member: &Address, directory: &Address) -> Vec<u8> {
    let mut key = member_prefix(member);
    key.extend_from_slice(directory.as_bytes());
    key
}

/// What the keys of all directories of a member begin with.
pub(crate) fn member_prefix(member: &Address) -> Vec<u8> {
    key_of(MEMBER, member.as_bytes())
}

/// The member and the directory that a key names.
pub(crate) fn member_of_key(key: &[u8]) -> Result<(Address, Address), IndexError> {
    let hashes = key.get(1..).unwrap_or_default().as_chunks::<HASH_BYTES>();
    match hashes {
        ([member, directory], []) => Ok((
            Address::from_bytes(*member),
            Address::from_bytes(*directory),
        )),
        _ => Err(IndexError::Malformed),
    }
}

pub(crate) fn directory_key(directory: &Address) -> Vec<u8> {
    key_of(DIRECTORY, directory.as_bytes())
}

/// The directory that a key names.
pub(crate) fn directory_of_key(key: &[u8]) -> Result<Address, IndexError> {
    hash_of_key(key).map(Address::from_bytes)
}

/// What the index knows of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryAccount {
    /// Whether the rows of all its members are in the index. They are not when it was found in the packs
    /// and its listing has not been read since; the numbers are 0 until then.
    pub(crate) is_settled: bool,
    /// Files that it lists, each path counted.
    pub(crate) files: u64,
    /// Their sizes together, as it states them.
    pub(crate) bytes: u64,
}

impl DirectoryAccount {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = vec![u8::from(self.is_settled)];
        value.extend_from_slice(&self.files.to_le_bytes());
        value.extend_from_slice(&self.bytes.to_le_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let is_settled = match fields.take()? {
            [0] => false,
            [1] => true,
            _ => return Err(IndexError::Malformed),
        };
        let account = Self {
            is_settled,
            files: fields.u64()?,
            bytes: fields.u64()?,
        };
        fields.end()?;
        Ok(account)
    }
}
