//! Small files: read many at a time, and entered in the store with one commit. While some are on their way to the disk,
//! others are read.

use std::{
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use casnode_cas::{Address, Claim, ImportError, Store, StoreError, read_small_file};
use tokio_util::sync::CancellationToken;

use super::{
    super::walk::{Found, interrupted},
    not_stored,
};
use crate::{api::ApiError, room};

/// Files that are read together and entered with one commit.
const BATCH_FILES: usize = 2048;

/// Their bytes, about.
const BATCH_BYTES: u64 = 16 << 20;

/// Threads that read and enter files: one commits, others read meanwhile. So many batches are in memory.
const WORKERS: usize = 2;

/// Files that were read, and entered where they could be.
#[derive(Default)]
pub(super) struct Entered {
    /// Their places among the entries, what they are, and how long.
    pub(super) files: Vec<(usize, Address, u64)>,
    /// Those that were not here, of equal ones the first.
    pub(super) new_files: u64,
    pub(super) new_bytes: u64,
    /// The places of those that have grown, and are small no more.
    pub(super) grown: Vec<usize>,
    pub(super) unread: Vec<(usize, ImportError)>,
}

/// Where files are, and where they go.
pub(super) struct Small<'a> {
    pub(super) store: &'a Store,
    pub(super) root: &'a Path,
    pub(super) entries: &'a [Found],
    pub(super) cancel: &'a CancellationToken,
}

impl Small<'_> {
    /// Stores the entries at these places, and hands over what came of them, in no order.
    ///
    /// # Errors
    /// When the store takes no more, nobody wants it any more, or what `done` says.
    pub(super) fn store(
        &self,
        places: &[usize],
        done: &mut dyn FnMut(Entered) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let batches = batches(self.entries, places);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (entered, came) = sync_channel(1);
            for _ in 0..WORKERS.min(batches.len()) {
                let (entered, batches, next) = (entered.clone(), &batches, &next);
                scope.spawn(move || {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.cancel.is_cancelled() || entered.send(self.enter(batch)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(entered);
            for entered in came {
                done(entered.map_err(|error| not_stored(&error))?)?;
            }
            match self.cancel.is_cancelled() {
                true => Err(interrupted()),
                false => Ok(()),
            }
        })
    }

    /// Reads files and enters them, with one commit.
    fn enter(&self, batch: &[usize]) -> Result<Entered, StoreError> {
        let mut entered = Entered::default();
        let mut files = Vec::with_capacity(batch.len());
        for &at in batch {
            match read_small_file(&self.root.join(&self.entries[at].path)) {
                Ok(Some(file)) => {
                    let bytes = file.bytes.len() as u64;
                    entered.files.push((at, file.address, bytes));
                    files.push(file);
                }
                Ok(None) => entered.grown.push(at),
                Err(error) => entered.unread.push((at, error)),
            }
        }
        if self.store.max_bytes().is_some() {
            room::make(self.store, self.store.missing_bytes(&files)?)?;
        }
        let added = self.store.add_small_files(&files, Claim::Member)?;
        for file in added.iter().filter(|file| file.is_new) {
            entered.new_files += 1;
            entered.new_bytes += file.entry.size_bytes;
        }
        Ok(entered)
    }
}

/// Small files in parts that are read and entered together.
fn batches<'a>(entries: &[Found], small: &'a [usize]) -> Vec<&'a [usize]> {
    let (mut batches, mut rest) = (Vec::new(), small);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |at: &&usize| {
            bytes += entries[**at].size_bytes();
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take(BATCH_FILES).take_while(fits).count();
        let (batch, later) = rest.split_at(count.max(1));
        batches.push(batch);
        rest = later;
    }
    batches
}
