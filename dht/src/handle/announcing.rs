//! What a node provides: its schedule, and how announcing stands.

use std::time::Duration;

use super::Dht;
use crate::Key;
use crate::announce;
use crate::announce::schedule::{BUCKETS, Kind};
use crate::command::{AnnounceStatus, Announced};
use crate::error::DhtError;
use crate::report::{KeysStatus, ProvideStatus};

/// Buckets of the schedule that are looked at while it is locked once: half a millisecond for a million keys.
const BUCKETS_AT_ONCE: usize = 64;

impl Dht {
    /// Publishes a file: its provider record and `value` as its value record go to the 20 closest
    /// peers, with one lookup. Both are kept here and renewed until [`Self::unschedule`]; that much is
    /// durable even when nobody could be reached, and `peers` is 0 then.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn announce_file(
        &self,
        key: Key,
        value: Vec<u8>,
        deadline: Duration,
    ) -> Result<Announced, DhtError> {
        announce::announce_file(&self.inner, key, value, deadline).await
    }

    /// Adds chunk keys to the schedule: they are announced in the background and renewed until
    /// [`Self::unschedule`]. Durable when this returns; keys that are there already stay as they are.
    ///
    /// # Errors
    /// [`DhtError::Store`].
    pub async fn schedule(&self, keys: Vec<Key>) -> Result<(), DhtError> {
        self.inner.records.schedule(&keys, Kind::Chunk).await?;
        self.inner.wake_announcer.notify_one();
        Ok(())
    }

    /// Adds a file to the schedule without waiting for anybody: as [`Self::announce_file`], but its turn
    /// comes in the background, and a file that is there already only gets the new value.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn schedule_file(&self, key: Key, value: Vec<u8>) -> Result<(), DhtError> {
        announce::schedule_file(&self.inner, key, value).await
    }

    /// Adds many files to the schedule, as [`Self::schedule_file`] does with one: they are announced by region,
    /// not with a lookup each.
    ///
    /// # Errors
    /// [`DhtError::ValueTooLarge`], [`DhtError::Store`].
    pub async fn schedule_files(&self, files: Vec<(Key, Vec<u8>)>) -> Result<(), DhtError> {
        announce::schedule_files(&self.inner, files).await
    }

    /// Takes keys (of chunks and of files) off the schedule. Records that others hold run out by
    /// themselves.
    ///
    /// # Errors
    /// [`DhtError::Store`].
    pub async fn unschedule(&self, keys: Vec<Key>) -> Result<(), DhtError> {
        Ok(self.inner.records.unschedule(&keys).await?)
    }

    /// Every key of the schedule, files' and chunks', in no order: 32 bytes of memory each.
    pub fn scheduled_keys(&self) -> Vec<Key> {
        self.scheduled_keys_where(|_| true)
    }

    /// The keys of the schedule of which that is true, in no order. Others may change the schedule meanwhile.
    pub fn scheduled_keys_where(&self, mut is_meant: impl FnMut(&Key) -> bool) -> Vec<Key> {
        let mut found = Vec::new();
        for part in (0..BUCKETS).step_by(BUCKETS_AT_ONCE) {
            // In pieces, so that others have their turn.
            let keys = self
                .inner
                .records
                .due()
                .keys_of(part..part + BUCKETS_AT_ONCE);
            found.extend(keys.into_iter().filter(|key| is_meant(key)));
        }
        found
    }

    /// Whether the key is in the schedule, from memory: no is certain, and yes but for a chance of one in ten billion with a
    /// schedule of a million keys.
    pub fn may_announce(&self, key: &Key) -> bool {
        self.inner.records.provides(key)
    }

    /// Whether the key is in the schedule, as far as [`Self::may_announce`] knows, and a value to be published with it.
    pub fn announces_file(&self, key: &Key) -> bool {
        self.may_announce(key) && self.inner.records.tables().own_value(key).is_some()
    }

    /// How far announcing has come.
    pub fn announce_status(&self) -> AnnounceStatus {
        announce::status(&self.inner).in_short()
    }

    /// How announcing stands, over all keys.
    pub fn provide_status(&self) -> ProvideStatus {
        announce::status(&self.inner)
    }

    /// How announcing stands, over these keys.
    pub fn keys_status(&self, keys: &[Key]) -> KeysStatus {
        let now = self.inner.records.now();
        self.inner.records.due().status_of(keys, now)
    }

    /// Makes these keys due now, or all; returns how many of them are in the schedule. They are announced in the
    /// background.
    pub fn provide_now(&self, keys: Option<&[Key]>) -> u64 {
        let mut due = self.inner.records.due();
        let count = match keys {
            None => due.force_all(),
            Some(keys) => keys.iter().map(|key| u64::from(due.force(key))).sum(),
        };
        drop(due);
        self.inner.wake_announcer.notify_one();
        count
    }
}
