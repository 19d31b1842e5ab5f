//! Where a fetched file is kept. By default each byte of a large one is written once: the output itself is what is
//! kept, where that promises as much as a copy in the store would.

use std::path::Path;

use casnode_cas::{Address, Claim, FileState, Store, StoreError};

use super::settle::Stay;
use crate::api::Keep;

/// Smaller files are copied: the space is little, and a copy does not hang on a file that others may change.
pub(super) const MIN_IN_PLACE_BYTES: u64 = 16 << 20;

/// Where what is fetched is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the store; what is here already stays where it is.
    Store,
    /// In the store, and what is here in files of others' as well.
    Copy,
    /// In the output, which the store refers to in the end.
    Output,
    /// In the output, for as long as the download runs.
    No,
}

impl Place {
    /// Whether what comes is kept in the store, be the output what it may.
    pub(super) fn is_in_store(self) -> bool {
        matches!(self, Self::Store | Self::Copy)
    }
}

/// What the default depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    size_bytes: u64,
    /// It is to stay whatever happens.
    is_pinned: bool,
    /// All of it is here.
    is_whole: bool,
    /// An earlier download began it in a file of the store, whose blocks an output shares.
    is_begun_in_store: bool,
    /// The output is on the file system that the store is on: one is not there without the other.
    is_beside_store: bool,
    /// A copy takes no second space.
    shares_blocks: bool,
}

impl Facts {
    fn default_place(self) -> Place {
        let is_in_place = self.size_bytes >= MIN_IN_PLACE_BYTES
            && !self.is_pinned
            && !self.is_whole
            && !self.is_begun_in_store
            && self.is_beside_store
            && !self.shares_blocks;
        match is_in_place {
            true => Place::Output,
            false => Place::Store,
        }
    }
}

/// Decides where a file of so many bytes is kept whose output is to be at `path`; `None` where no file is made. A source in
/// place that has changed is dropped by that: the file is not here.
pub(super) fn choose_place(
    store: &Store,
    stay: Stay,
    address: &Address,
    size_bytes: u64,
    path: Option<&Path>,
) -> Result<Place, StoreError> {
    if !store.is_read_only() {
        store.check_source(address)?;
    }
    match (stay.keep, path) {
        (Keep::Copy, _) => Ok(Place::Copy),
        (Keep::InPlace, _) => Ok(Place::Output),
        (Keep::No, _) => Ok(Place::No),
        (Keep::Auto, None) => Ok(Place::Store),
        (Keep::Auto, Some(path)) => {
            // The folder may come to be only then.
            let folder = path.ancestors().skip(1).find(|folder| folder.is_dir());
            let file = store.file(address)?;
            let facts = Facts {
                size_bytes,
                is_pinned: stay.claim == Claim::Pinned || store.is_pinned(address)?,
                is_whole: file.is_some_and(|file| file.state == FileState::Complete),
                is_begun_in_store: store.has_unfinished(address),
                is_beside_store: folder.is_some_and(|folder| store.is_beside(folder)),
                shares_blocks: folder.is_some_and(|folder| store.shares_blocks_with(folder)),
            };
            Ok(facts.default_place())
        }
    }
}

/// Whether it takes room in the store to fetch a file of so many bytes into `path`.
///
/// # Errors
/// When the index fails.
pub(crate) fn takes_room(
    store: &Store,
    stay: Stay,
    address: &Address,
    size_bytes: u64,
    path: Option<&Path>,
) -> Result<bool, StoreError> {
    Ok(choose_place(store, stay, address, size_bytes, path)?.is_in_store())
}

/// Whether a file of so many bytes is kept in place by default, when its output is on the store's file system.
pub(crate) fn may_be_in_place(store: &Store, data_dir: &Path, size_bytes: u64) -> bool {
    size_bytes >= MIN_IN_PLACE_BYTES && !store.shares_blocks_with(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Facts = Facts {
        size_bytes: MIN_IN_PLACE_BYTES,
        is_pinned: false,
        is_whole: false,
        is_begun_in_store: false,
        is_beside_store: true,
        shares_blocks: false,
    };

    #[test]
    fn a_large_file_stays_in_place_where_nothing_speaks_for_a_copy() {
        #[rustfmt::skip]
        let table = [
            (LARGE, Place::Output),
            (Facts { size_bytes: u64::MAX, ..LARGE }, Place::Output),
            (Facts { size_bytes: MIN_IN_PLACE_BYTES - 1, ..LARGE }, Place::Store),
            (Facts { is_pinned: true, ..LARGE }, Place::Store),
            (Facts { is_whole: true, ..LARGE }, Place::Store),
            (Facts { is_begun_in_store: true, ..LARGE }, Place::Store),
            (Facts { is_beside_store: false, ..LARGE }, Place::Store),
            (Facts { shares_blocks: true, ..LARGE }, Place::Store),
        ];
        for (facts, expected) in table {
            assert_eq!(facts.default_place(), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_done_and_a_stream_is_kept_in_the_store() {
        let store = Store::in_memory().unwrap();
        let address = Address::from_bytes([1; 32]);
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("missing/out");
        let of = |keep, path| {
            let claim = Claim::Own;
            let stay = Stay { keep, claim };
            choose_place(&store, stay, &address, u64::MAX, path).unwrap()
        };
        for (keep, asked) in [
            (Keep::Copy, Place::Copy),
            (Keep::InPlace, Place::Output),
            (Keep::No, Place::No),
        ] {
            assert_eq!(of(keep, None), asked);
            assert_eq!(of(keep, Some(&output)), asked);
        }
        assert_eq!(of(Keep::Auto, None), Place::Store);
        // Nothing is beside a store in memory.
        assert_eq!(of(Keep::Auto, Some(&output)), Place::Store);
    }
}
