//! Long changes that end after every possible batch of the index, as if the process had been killed there.

use super::model::{Action, Harness, PACK_BYTES};
use super::*;

/// An index whose writes fail after some batches, as if the process had ended there.
pub(super) struct Stopping {
    pub(super) below: Arc<MemoryIndex>,
    pub(super) batches: AtomicI64,
}

impl Index for Stopping {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.below.get(key)
    }

    fn apply(&self, ops: Vec<index::Op>) -> Result<(), IndexError> {
        if self.batches.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("stopped here").into());
        }
        self.below.apply(ops)
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        visit: index::Visit<'_>,
    ) -> Result<(), IndexError> {
        self.below.scan_from(prefix, from, visit)
    }

    fn sync(&self) -> Result<(), IndexError> {
        self.below.sync()
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

/// Stops a recovery after every possible batch, goes on from there, and checks that no chunk that a file
/// needs goes with another file that shares it.
fn recovery_may_stop_anywhere(lose_index: bool) {
    let mut stopped = 0;
    for batches in 0.. {
        let mut harness = Harness::new();
        // A removal syncs the index: what comes later is what a recovery has to do.
        harness.run(&Action::AddFile(2));
        harness.run(&Action::Remove(2));
        (3..6).for_each(|n| harness.run(&Action::AddFile(n)));
        harness.run(&Action::BeginPartial(0));
        harness.run(&Action::AddMembers(0b0000_0000_0111));
        harness.run(&Action::PutDir(0));
        harness.run(&Action::PutDir(1));
        (0..2).for_each(|n| harness.run(&Action::AddFile(n)));
        if lose_index {
            harness.index = Arc::default();
        } else {
            harness.index = Arc::new(harness.index.power_cut(0));
        }
        let below = harness.index.clone();
        let stopping = Arc::new(Stopping {
            below,
            batches: AtomicI64::new(batches),
        });
        let finished = Store::over(stopping, harness.medium.clone(), PACK_BYTES).is_ok();
        harness.reopen();
        harness.check();
        for n in [0, 1, 3, 4] {
            harness.run(&Action::Remove(n));
            harness.check();
        }
        harness.run(&Action::RemoveDir(0));
        harness.run(&Action::DropOrphans);
        harness.check();
        if finished {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 10, "recovered in {stopped} batches only");
}

/// Stops the rewriting of packs after every possible batch.
#[test]
fn a_compaction_that_is_cut_off_loses_nothing() {
    let mut stopped = 0;
    for batches in 0.. {
        let mut harness = Harness::new();
        (0..6).for_each(|n| harness.run(&Action::AddFile(n)));
        harness.run(&Action::Remove(2));
        let stopping = Arc::new(Stopping {
            below: harness.index.clone(),
            batches: AtomicI64::new(i64::MAX),
        });
        let store = Store::over(stopping.clone(), harness.medium.clone(), PACK_BYTES).unwrap();
        store.core.packs.seal_active();
        stopping.batches.store(batches, Ordering::Relaxed);
        let ids = store.core.packs.ids().unwrap();
        let finished = ids.iter().all(|id| {
            store
                .core
                .compact(*id, &mut |_| ControlFlow::Continue(()))
                .is_ok()
        });
        drop(store);
        harness.run(&Action::PowerCut {
            extra_batches: usize::try_from(batches).unwrap() / 2,
            keep_unsynced: batches % 2 == 0,
        });
        harness.check();
        harness.run(&Action::LoseIndex);
        harness.check();
        if finished {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 3, "compacted in {stopped} batches only");
}

#[test]
fn a_rebuild_that_is_cut_off_counts_no_reference_too_low() {
    recovery_may_stop_anywhere(true);
}

#[test]
fn a_recovery_that_is_cut_off_counts_no_reference_too_low() {
    recovery_may_stop_anywhere(false);
}
