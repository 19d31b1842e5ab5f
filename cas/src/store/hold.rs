//! Chunks that must not be removed though nothing refers to them yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::core::Core;
use super::{Store, lock};
use crate::id::ChunkHash;

/// Chunks that unfinished imports rely on: not to be removed though nothing refers to them yet.
#[derive(Default)]
pub(super) struct Holds {
    next: u64,
    sets: HashMap<u64, HashSet<ChunkHash>>,
}

impl Holds {
    pub(super) fn protects(&self, hash: &ChunkHash) -> bool {
        self.sets.values().any(|set| set.contains(hash))
    }
}

/// Protects the chunks an import has seen, until it is dropped.
pub(crate) struct Hold {
    core: Arc<Core>,
    id: u64,
}

impl Hold {
    /// Must come before the question whether the chunk is already here.
    pub(crate) fn add(&self, hash: ChunkHash) {
        self.add_all([hash]);
    }

    /// The same for many.
    pub(super) fn add_all(&self, hashes: impl IntoIterator<Item = ChunkHash>) {
        if let Some(set) = lock(&self.core.holds).sets.get_mut(&self.id) {
            set.extend(hashes);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.core.holds).sets.remove(&self.id);
    }
}

impl Store {
    /// Protects the chunks of an unfinished import.
    pub(crate) fn hold(&self) -> Hold {
        let mut holds = lock(&self.core.holds);
        let id = holds.next;
        holds.next += 1;
        holds.sets.insert(id, HashSet::new());
        Hold {
            core: Arc::clone(&self.core),
            id,
        }
    }
}
