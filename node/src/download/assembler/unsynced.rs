//! When what was fetched is acknowledged: it can be fetched again, so that it may wait for more.

use std::time::{Duration, Instant};

use casnode_cas::{Store, StoreError};

/// Fetched chunks are acknowledged in groups: at the latest after this many bytes or [`SPAN`].
const BYTES: u64 = 32 << 20;

/// See [`BYTES`].
pub(super) const SPAN: Duration = Duration::from_millis(500);

/// What was put and not yet acknowledged.
pub(super) struct Unsynced {
    bytes: u64,
    since: Instant,
}

impl Default for Unsynced {
    fn default() -> Self {
        Self {
            bytes: 0,
            since: crate::clock::now(),
        }
    }
}

impl Unsynced {
    pub(super) fn add(&mut self, bytes: u64) {
        if self.bytes == 0 {
            self.since = crate::clock::now();
        }
        self.bytes += bytes;
    }

    pub(super) fn commit_if_due(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.bytes >= BYTES || (self.bytes > 0 && self.since.elapsed() >= SPAN) {
            self.commit(store)?;
        }
        Ok(())
    }

    /// Where nothing came nothing is written: the medium may be one that can only be read.
    pub(super) fn commit(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.bytes > 0 {
            store.commit()?;
            self.bytes = 0;
        }
        Ok(())
    }
}
