//! How many files there are. The index is gone through for that, so a count is remembered until an entry changes; where
//! counting takes long it is also remembered for a while longer, and may be that old.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::core::Core;
use super::entry;
use super::index::Op;
use super::types::StoreStats;
use super::{Store, lock};
use crate::error::StoreError;

/// A count that took no longer is made anew whenever something changed: it is never old.
const SHORT: Duration = Duration::from_millis(20);

/// A slower count is reused for this many times its duration, so counting takes at most 1/20 of a core.
const PAUSE: u32 = 20;

/// How many entries there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileCounts {
    pub(super) files: u64,
    pub(super) pinned: u64,
}

/// What was counted, and when.
#[derive(Debug)]
struct Counted {
    counts: FileCounts,
    /// Changes before it began.
    changes: u64,
    took: Duration,
    ended: Instant,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Batches with entries of files that the index has taken.
    changes: AtomicU64,
    last: Mutex<Option<Counted>>,
}

impl Counts {
    /// Whether these changes are about entries of files. To be asked before, and noted after they are made.
    pub(super) fn are_about(ops: &[Op]) -> bool {
        ops.iter()
            .any(|(key, _)| key.starts_with(entry::FILE_PREFIX))
    }

    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Counted {
    fn is_good(&self, changes: u64, now: Instant) -> bool {
        let is_old = || now.saturating_duration_since(self.ended) >= self.took * PAUSE;
        self.changes == changes || (self.took > SHORT && !is_old())
    }
}

impl Core {
    /// How many files there are: now, or where it takes more than [`SHORT`] to count them, up to [`PAUSE`] times as long ago.
    pub(super) fn count_files(&self) -> Result<FileCounts, StoreError> {
        // Whoever asks meanwhile waits for this count.
        let mut last = lock(&self.counts.last);
        let (changes, began) = (self.counts.changes.load(Ordering::Acquire), Instant::now());
        if let Some(last) = last.as_ref().filter(|last| last.is_good(changes, began)) {
            return Ok(last.counts);
        }
        let mut counts = FileCounts::default();
        self.each_file(&mut |file| {
            counts.files += 1;
            counts.pinned += u64::from(file.is_pinned());
            ControlFlow::Continue(())
        })?;
        let ended = Instant::now();
        *last = Some(Counted {
            counts,
            changes,
            took: ended.saturating_duration_since(began),
            ended,
        });
        Ok(counts)
    }
}

impl Store {
    /// The store in numbers. Reads the sizes of its own files. Entries are counted when one has changed; where there are so
    /// many that it takes more than 20 ms, their number may be up to 20 times as old as it takes to count them.
    ///
    /// # Errors
    /// When the index fails.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let totals = self.core.totals();
        let counts = self.core.count_files()?;
        self.core.measure();
        let disk_bytes = self.core.space.disk_bytes();
        let needed = self.core.live_bytes()
            + self.core.index.disk_bytes()
            + self.core.space.reserve_disk_bytes();
        Ok(StoreStats {
            files: counts.files,
            pinned_files: counts.pinned,
            chunks: totals.chunks,
            stored_bytes: totals.bytes,
            disk_bytes,
            waste_bytes: disk_bytes.saturating_sub(needed),
            max_bytes: self.max_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::IndexError;
    use crate::id::Address;
    use crate::store::index::{Index, Visit};
    use crate::store::memory::{MemoryIndex, MemoryMedium};
    use crate::store::{Claim, SmallFile};

    /// Counts how often entries of files are gone through.
    #[derive(Default)]
    struct Scans {
        below: MemoryIndex,
        of_files: AtomicUsize,
    }

    impl Index for Scans {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
            self.below.get(key)
        }

        fn apply(&self, ops: Vec<Op>) -> Result<(), IndexError> {
            self.below.apply(ops)
        }

        fn scan_from(
            &self,
            prefix: &[u8],
            from: &[u8],
            visit: Visit<'_>,
        ) -> Result<(), IndexError> {
            let is_of_files = prefix == entry::FILE_PREFIX;
            self.of_files
                .fetch_add(usize::from(is_of_files), Ordering::Relaxed);
            self.below.scan_from(prefix, from, visit)
        }

        fn sync(&self) -> Result<(), IndexError> {
            self.below.sync()
        }

        fn disk_bytes(&self) -> u64 {
            self.below.disk_bytes()
        }
    }

    fn file(n: u8) -> SmallFile {
        SmallFile {
            address: Address::of(&[n; 100]),
            bytes: vec![n; 100].into(),
            name: None,
        }
    }

    #[test]
    fn files_are_counted_anew_when_they_changed_and_only_then() {
        let index = Arc::new(Scans::default());
        let medium = Arc::<MemoryMedium>::default();
        let store = Store::over(index.clone(), medium, 1 << 20).unwrap();
        let scans = || index.of_files.load(Ordering::Relaxed);
        let counted = |expected: (u64, u64), scanned: bool| {
            let before = scans();
            let stats = store.stats().unwrap();
            assert_eq!((stats.files, stats.pinned_files), expected);
            assert_eq!(scans() > before, scanned);
        };
        counted((0, 0), true);
        counted((0, 0), false);
        let add = |n, claim| store.add_small_files(&[file(n)], claim).unwrap();
        add(1, Claim::Own);
        add(2, Claim::Pinned);
        counted((2, 1), true);
        // A chunk is no file.
        let bytes = [3; 100];
        store
            .put(&crate::id::ChunkHash::of(&bytes), &bytes)
            .unwrap();
        store.commit().unwrap();
        counted((2, 1), false);
        store.set_pinned(&file(1).address, true).unwrap();
        counted((2, 2), true);
        store.remove_file(&file(2).address).unwrap();
        counted((1, 1), true);
        counted((1, 1), false);
    }

    #[test]
    fn what_takes_long_to_count_is_counted_now_and_then() {
        let ended = Instant::now();
        let counted = |took_ms| Counted {
            counts: FileCounts::default(),
            changes: 7,
            took: Duration::from_millis(took_ms),
            ended,
        };
        let after = |ms| ended + Duration::from_millis(ms);
        assert!(!counted(20).is_good(8, after(1)));
        assert!(counted(100).is_good(8, after(1_999)));
        assert!(!counted(100).is_good(8, after(2_000)));
        assert!(counted(100).is_good(7, after(1_000_000)));
    }
}
