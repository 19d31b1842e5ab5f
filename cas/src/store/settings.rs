//! Settings that belong to the store, whoever opens it.

use super::core::Core;
use super::entry::{self, Setting};
use super::flush::Extra;
use super::pack::RecordKind;
use super::{Store, lock};
use crate::error::StoreError;

/// Most bytes that the store may occupy, u64.
pub(super) const MAX_STORE_BYTES: &str = "max-store-bytes";

/// The chunk that the last scrub looked at, 32 bytes; in the index alone.
pub(super) const SCRUBBED: &str = "scrubbed";

/// The payload of a setting's record: the length of the name, one byte; the name; the value.
pub(super) fn encode_setting(name: &str, value: &[u8]) -> Vec<u8> {
    let mut payload = vec![u8::try_from(name.len()).unwrap_or(u8::MAX)];
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(value);
    payload
}

pub(super) fn decode_setting(payload: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = payload.split_first()?;
    let (name, value) = rest.split_at_checked(usize::from(*len))?;
    Some((std::str::from_utf8(name).ok()?, value))
}

impl Core {
    pub(super) fn setting(&self, name: &str) -> Result<Option<Setting>, StoreError> {
        self.read(&entry::setting_key(name), Setting::decode)
    }

    /// Keeps a setting durably.
    pub(super) fn set(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        match self.setting(name)? {
            Some(old) if old.value == value => Ok(()),
            _ => self.set_anew(name, value),
        }
    }

    /// The same, whether it is another value or not.
    pub(super) fn set_anew(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let mut committed = lock(&self.commit);
        let old = self.setting(name)?;
        self.check_writable()?;
        let payload = encode_setting(name, value);
        let digest = blake3::hash(&payload);
        let at = self.append(RecordKind::Setting, digest.as_bytes(), &payload)?;
        let old_at = old.and_then(|old| old.at);
        let setting = Setting {
            at: Some(at),
            value: value.to_vec(),
        };
        let extra = Extra {
            last: vec![(entry::setting_key(name), Some(setting.encode()))],
            records: vec![(old_at, Some(at))],
            appended: vec![at],
            ..Extra::default()
        };
        self.flush(&mut committed, extra)?;
        drop(committed);
        self.packs.free(old_at.as_slice())
    }

    /// Notes something that a rebuild may forget.
    pub(super) fn note(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.check_writable()?;
        self.space.check_index()?;
        let setting = Setting {
            at: None,
            value: value.to_vec(),
        };
        self.apply(vec![(entry::setting_key(name), Some(setting.encode()))])
    }

    /// The limit that the store keeps; 0 means none.
    pub(super) fn load_max_bytes(&self) -> Result<(), StoreError> {
        let setting = self.setting(MAX_STORE_BYTES)?;
        let bytes = setting.and_then(|setting| setting.value.try_into().ok());
        self.space
            .set_max_bytes(bytes.map_or(0, u64::from_le_bytes));
        Ok(())
    }
}

impl Store {
    /// Sets the limit, which the store keeps. What is over it goes with the next put or collection.
    ///
    /// # Errors
    /// What the medium says.
    pub fn set_max_bytes(&self, max_bytes: Option<u64>) -> Result<(), StoreError> {
        let bytes = max_bytes.unwrap_or(0);
        self.core.set(MAX_STORE_BYTES, &bytes.to_le_bytes())?;
        self.core.space.set_max_bytes(bytes);
        Ok(())
    }
}
