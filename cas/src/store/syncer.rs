//! The thread that syncs the index behind the acknowledgements.
//!
//! Losing what the index has not synced is harmless, since the packs hold everything that was
//! acknowledged; syncing keeps the part of the packs short that must be read again after a power cut.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::index::Index;
use super::lock;
use crate::error::IndexError;

/// A dirty index is synced at least this often.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    dirty: bool,
    stop: bool,
    failure: Option<IndexError>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

/// Owns the thread; dropping it syncs once more, and joins it.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start(index: Arc<dyn Index>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("index-sync".into())
            .spawn(move || run(&theirs, index.as_ref()))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Notes that the index was written.
    pub(crate) fn mark_dirty(&self) {
        lock(&self.shared.state).dirty = true;
        self.shared.wake.notify_one();
    }

    /// What went wrong since the last call, once.
    pub(crate) fn take_failure(&self) -> Option<IndexError> {
        lock(&self.shared.state).failure.take()
    }

    /// Syncs what is dirty, and ends the thread.
    pub(crate) fn stop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index sync thread panicked");
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, index: &dyn Index) {
    loop {
        let mut state = lock(&shared.state);
        while !state.dirty && !state.stop {
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.dirty {
            return;
        }
        let waited = shared
            .wake
            .wait_timeout_while(state, SYNC_INTERVAL, |state| !state.stop);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.dirty = false;
        drop(state);
        if let Err(error) = index.sync() {
            tracing::error!(%error, "the index cannot be synced");
            let mut state = lock(&shared.state);
            state.failure = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::index::{Op, Visit};

    /// Counts syncs; each fails.
    #[derive(Default)]
    struct Failing(AtomicUsize);

    impl Index for Failing {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
            Ok(None)
        }

        fn apply(&self, _: Vec<Op>) -> Result<(), IndexError> {
            Ok(())
        }

        fn scan_from(&self, _: &[u8], _: &[u8], _: Visit<'_>) -> Result<(), IndexError> {
            Ok(())
        }

        fn sync(&self) -> Result<(), IndexError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(io::Error::other("no disk").into())
        }

        fn disk_bytes(&self) -> u64 {
            0
        }
    }

    #[test]
    fn a_clean_index_is_not_synced() {
        let index = Arc::new(Failing::default());
        drop(Syncer::start(index.clone()).unwrap());
        assert_eq!(index.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn stopping_syncs_what_is_dirty_and_a_failure_is_told_once() {
        let index = Arc::new(Failing::default());
        let mut syncer = Syncer::start(index.clone()).unwrap();
        syncer.mark_dirty();
        syncer.stop();
        assert_eq!(index.0.load(Ordering::Relaxed), 1);
        assert!(matches!(syncer.take_failure(), Some(IndexError::Io(_))));
        assert!(syncer.take_failure().is_none());
    }
}
