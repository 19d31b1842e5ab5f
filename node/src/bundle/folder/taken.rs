//! Which names of a folder stand for the same thing to its file system.
//!
//! Some file systems hold `A` and `a`, or two Unicode forms of a name, to be one. Nothing is assumed about which do: what a call
//! has made is known by its inode, and whoever meets it under another path meets a name that is taken.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
};

use rustix::fs::Stat;

/// What a call has made or found right: its inode, and the hash of its path.
#[derive(Debug, Default)]
pub(super) struct Taken {
    paths: HashMap<(u64, u64), u64>,
    hasher: RandomState,
}

/// A thing of the file system, as long as it is there.
pub(super) fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Taken {
    /// Notes what is at a path; false when that is known under another one.
    pub(super) fn take(&mut self, id: (u64, u64), path: &str) -> bool {
        let hash = self.hasher.hash_one(path);
        *self.paths.entry(id).or_insert(hash) == hash
    }

    /// Whether this is known under another path.
    pub(super) fn is_others(&self, id: (u64, u64), path: &str) -> bool {
        let known = self.paths.get(&id);
        known.is_some_and(|known| *known != self.hasher.hash_one(path))
    }
}
