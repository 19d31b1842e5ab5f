//! What the store asks of the database that indexes it.

use std::ops::ControlFlow;

use crate::error::IndexError;

/// Most keys in one batch. sled holds one epoch guard and a process-wide lock for a whole batch: much larger
/// ones cost gigabytes of memory per million keys. In smaller ones fewer keys share a run that is written.
pub(crate) const MAX_BATCH_KEYS: usize = 1024;

/// Largest value. A leaf of sled holds 17 values, and one of more than 131,020 bytes would go to a side
/// file that is never synced.
pub(crate) const MAX_VALUE_BYTES: usize = 5 * 1024;

/// One change: a key and its new value, or `None` to remove it.
pub(crate) type Op = (Vec<u8>, Option<Vec<u8>>);

/// Called with the place of a key among those that were asked for, and its value.
pub(crate) type Found<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<(), IndexError>;

/// Called with each key and value of a scan; breaks to end it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, IndexError>;

/// An ordered map of bytes to bytes with atomic batches.
pub(crate) trait Index: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// Looks up keys that are in order, and calls with each of them that is there.
    fn get_ascending(&self, keys: &[&[u8]], found: Found<'_>) -> Result<(), IndexError> {
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = self.get(key)? {
                found(place, &value)?;
            }
        }
        Ok(())
    }

    /// Applies at most [`MAX_BATCH_KEYS`] changes, all or none of them, also across a crash. Batches
    /// survive in the order in which they were applied.
    fn apply(&self, ops: Vec<Op>) -> Result<(), IndexError>;

    /// Visits the keys with this prefix in order.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        self.scan_from(prefix, prefix, visit)
    }

    /// Visits the keys with this prefix in order, from the first at or behind `from` on.
    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), IndexError>;

    /// Returns when everything applied before the call survives a power cut.
    fn sync(&self) -> Result<(), IndexError>;

    /// Bytes it occupies on the medium.
    fn disk_bytes(&self) -> u64;
}
