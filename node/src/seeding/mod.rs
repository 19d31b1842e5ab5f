//! For how long what was fetched is served to others, remembered over restarts.
//!
//! `policy` decides when it is over, `table` knows it of every file, `file` keeps the table on disk.

mod file;
mod policy;
mod table;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use casnode_cas::Address;

use policy::MAX_SEED_TIME;
pub use policy::{SeedPolicy, SeedPolicyError};
use table::Table;
pub(crate) use table::TableFull;

/// How often [`Seeding::save`] is to be called; and once at the end.
pub(crate) const SAVE_EVERY: Duration = Duration::from_secs(10);

/// For how long the files of a data directory are served, and how much of them was sent. Times are Unix seconds.
///
/// A file that was never [`set`](Self::set) is served as long as it is here.
#[derive(Debug)]
pub(crate) struct Seeding {
    dir: PathBuf,
    state: Mutex<State>,
    /// Held while the file is written, so that an older state is never written over a newer one.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// Something changed that is not in the file.
    changed: bool,
}

impl Seeding {
    /// What the data directory remembers. The caller holds its lock.
    ///
    /// # Errors
    /// When the file is there and cannot be read. One that is damaged or of another version is set aside.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let state = State {
            table: file::load(dir)?,
            changed: false,
        };
        Ok(Self {
            dir: dir.to_owned(),
            state: Mutex::new(state),
            writing: Mutex::default(),
        })
    }

    /// A file of this size is whole now, and served for so long from now on. What was sent of it before counts.
    ///
    /// # Errors
    /// When too many files with an end are remembered: it is served for ever then.
    pub(crate) fn set(
        &self,
        address: Address,
        policy: SeedPolicy,
        size_bytes: u64,
        now_s: u64,
    ) -> Result<(), TableFull> {
        let mut state = self.state();
        state.changed = true;
        state.table.set(address, policy, size_bytes, now_s)
    }

    /// So much of a file was sent. Not counted for files beyond the millionth.
    pub(crate) fn uploaded(&self, address: Address, bytes: u64) {
        let mut state = self.state();
        state.changed |= state.table.uploaded(address, bytes);
    }

    /// How much of a file was sent, in all.
    pub(crate) fn uploaded_bytes(&self, address: &Address) -> u64 {
        self.state().table.get(address).uploaded_bytes
    }

    /// For how long a file is served. `none` for one that was served until an earlier process ended.
    pub(crate) fn policy(&self, address: &Address) -> SeedPolicy {
        self.state().table.get(address).policy
    }

    /// When a file was whole, where that is remembered.
    #[must_use]
    pub(crate) fn finished_s(&self, address: &Address) -> Option<u64> {
        let finished_s = self.state().table.get(address).finished_s;
        (finished_s > 0).then_some(finished_s)
    }

    /// Whether a file is still served.
    pub(crate) fn may_serve(&self, address: &Address, now_s: u64) -> bool {
        self.state().table.may_serve(address, now_s)
    }

    /// The files whose time is over since this was last called; at first all whose time is over.
    pub(crate) fn take_over(&self, now_s: u64) -> Vec<Address> {
        self.state().table.take_over(now_s)
    }

    /// A file is not here any more, or is the user's own now.
    pub(crate) fn forget(&self, address: &Address) {
        let mut state = self.state();
        state.changed |= state.table.forget(address);
    }

    /// Writes what has changed, durably. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; it is tried again with the next call.
    pub(crate) fn save(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = {
            let mut state = self.state();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            file::encode(&state.table)
        };
        let saved = file::save(&self.dir, &bytes);
        if saved.is_err() {
            self.state().changed = true;
        }
        saved
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
