//! When what was fetched is acknowledged: it can be fetched again, so that it may wait for more.

use std::time::{Duration, Instant};

use casnode_cas::{Store, StoreError};
use tokio::{runtime::Handle, task::JoinHandle};

/// Fetched chunks are acknowledged in groups: at the latest after this many bytes or [`SPAN`], as far as the disk
/// keeps up with that.
const BYTES: u64 = 32 << 20;

/// What may be put while a commit is under way; then it is waited for.
const MAX_BYTES: u64 = 4 * BYTES;

/// See [`BYTES`].
pub(super) const SPAN: Duration = Duration::from_millis(500);

/// What was put and not yet acknowledged. The commits are made behind the caller, one at a time.
pub(super) struct Unsynced {
    bytes: u64,
    since: Instant,
    runtime: Handle,
    /// The commit of what was put before those bytes.
    under_way: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Unsynced {
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            bytes: 0,
            since: crate::clock::now(),
            runtime,
            under_way: None,
        }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        if self.bytes == 0 {
            self.since = crate::clock::now();
        }
        self.bytes += bytes;
    }

    /// Has a commit begun if it is time. An error is that of the one before.
    pub(super) fn commit_if_due(&mut self, store: &Store) -> Result<(), StoreError> {
        let is_due = self.bytes >= BYTES || (self.bytes > 0 && self.since.elapsed() >= SPAN);
        let is_free = self.under_way.as_ref().is_none_or(JoinHandle::is_finished);
        if is_due && (is_free || self.bytes >= MAX_BYTES) {
            self.settle()?;
            let store = store.clone();
            let commit = self.runtime.spawn_blocking(move || store.commit());
            self.under_way = Some(commit);
            self.bytes = 0;
        }
        Ok(())
    }

    /// Returns when everything is acknowledged. Where nothing came nothing is written: the medium may be one that
    /// can only be read.
    pub(super) fn commit(&mut self, store: &Store) -> Result<(), StoreError> {
        self.settle()?;
        if self.bytes > 0 {
            store.commit()?;
            self.bytes = 0;
        }
        Ok(())
    }

    /// Waits until no commit is under way.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        match self
            .under_way
            .take()
            .map(|task| self.runtime.block_on(task))
        {
            Some(Ok(committed)) => committed,
            None => Ok(()),
            // The runtime ends, and everything with it; or it panicked, and the next commit covers it.
            Some(Err(_)) => {
                self.bytes = self.bytes.max(1);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::{ChunkHash, StoreConfig};

    use super::*;

    #[test]
    fn in_the_end_everything_is_acknowledged() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), StoreConfig::default()).unwrap();
        let store = open();
        let mut unsynced = Unsynced::new(runtime.handle().clone());
        let chunks: Vec<Vec<u8>> = (0..9).map(|n| vec![n; 70_000]).collect();
        for bytes in &chunks {
            store.put(&ChunkHash::of(bytes), bytes).unwrap();
            unsynced.add(BYTES);
            unsynced.commit_if_due(&store).unwrap();
            assert!(unsynced.bytes < MAX_BYTES, "it waits for the disk");
        }
        unsynced.commit(&store).unwrap();
        assert!(unsynced.bytes == 0 && unsynced.under_way.is_none());
        for bytes in &chunks {
            assert!(store.get(&ChunkHash::of(bytes)).unwrap().unwrap() == *bytes);
        }
    }

    #[test]
    fn a_commit_that_fails_behind_is_heard_of() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut unsynced = Unsynced::new(runtime.handle().clone());
        let failing = || runtime.spawn_blocking(|| Err(StoreError::WritesStopped));
        let store = Store::in_memory().unwrap();
        unsynced.under_way = Some(failing());
        let error = unsynced.commit(&store).unwrap_err();
        assert!(matches!(error, StoreError::WritesStopped), "{error}");
        unsynced.under_way = Some(failing());
        unsynced.add(MAX_BYTES);
        unsynced.commit_if_due(&store).unwrap_err();
    }
}
