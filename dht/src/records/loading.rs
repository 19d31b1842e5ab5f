//! How the tables are filled from the disk.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, StoreError, at};
use super::held::Entry as Provided;
use super::layout::{Entry, PROVIDER_BYTES};
use super::shelf::Shelf;
use super::tables::{SELF, Tables};
use crate::Key;
use crate::announce::schedule::{MAX_KEYS_HERE, Schedule};

/// Reads the tables in; what has expired, or belongs to nobody, is left out. `files` are those that are announced.
pub(super) fn load(
    disk: &mut Disk,
    tables: &mut Tables,
    files: &HashSet<Key>,
    now: u32,
) -> Result<(), StoreError> {
    let unreadable_bytes = disk.load(|entry| tables.load(entry))?;
    tables.loaded(now);
    // The key may have been lost, or its removal kept, when the node was killed in between.
    let ownerless = tables.retain_own_values(|key| files.contains(key));
    if ownerless > 0 {
        tracing::debug!(ownerless, "values of files that are not announced dropped");
    }
    if unreadable_bytes > 0 {
        tracing::warn!(
            unreadable_bytes,
            "the end of the record log could not be read"
        );
    }
    disk.set_fresh_bytes(tables.log_bytes());
    tracing::debug!(held = tables.held.len(), "record store opened");
    Ok(())
}

/// Has the schedule kept in `dir`, and takes what is there; returns the keys of files.
pub(super) fn load_schedule(
    dir: &Path,
    due: &mut Schedule,
    now: u32,
) -> Result<HashSet<Key>, StoreError> {
    let mut files = HashSet::new();
    let shelf = Shelf::open(dir, |bucket, stored| {
        due.load(bucket, stored, now, |key| {
            files.insert(key);
        });
    });
    due.keep_on(Arc::new(shelf.map_err(at(dir))?), MAX_KEYS_HERE);
    tracing::debug!(scheduled = due.len(), "announce schedule opened");
    Ok(files)
}

impl Tables {
    /// Takes an entry from the disk; they come in the order in which they were written.
    fn load(&mut self, entry: Entry) {
        match entry {
            Entry::Peer { index, .. } if index == SELF => {}
            Entry::Peer { index, peer: None } => {
                self.peers.skip(index);
                self.peers.remove(index);
            }
            Entry::Peer {
                index,
                peer: Some((id, origin, addrs)),
            } => {
                match self.peers.index_of(&id) {
                    None => self.peers.insert(index, id, origin),
                    Some(known) if known == index => {
                        self.peers.moved(index, origin);
                    }
                    Some(_) => return,
                }
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.addrs = addrs;
                }
            }
            Entry::Provider {
                key,
                index,
                expires,
            } => {
                let entry = Provided {
                    key,
                    peer: index,
                    expires,
                };
                match expires {
                    0 => {
                        self.held.remove(&key, index);
                    }
                    _ => {
                        self.held.insert(entry);
                    }
                }
            }
            Entry::Value { key, stored } => {
                // Counted when all are there.
                self.values.remove(&key);
                if let Some(stored) = stored {
                    self.values.insert(key, stored);
                }
            }
            Entry::Known(known) => self.known = known,
        }
    }

    /// All entries have been loaded: drops what belongs to nobody, and counts the rest.
    fn loaded(&mut self, now: u32) {
        let peers = &self.peers;
        let is_known = |index: u32| index != SELF && peers.get(index).is_some();
        let mut counts: HashMap<u32, u64> = HashMap::new();
        self.held.sweep(usize::MAX, |entry| {
            super::tables::is_live(entry.expires, now) && is_known(entry.peer)
        });
        for entry in self.held.iter() {
            *counts.entry(entry.peer).or_default() += 1;
        }
        let stale = self.values.iter().filter(|(_, held)| {
            !held.is_kept(now) || (held.source != SELF && !is_known(held.source))
        });
        let stale: Vec<_> = stale.map(|(key, _)| *key).collect();
        for key in stale {
            self.values.remove(&key);
        }
        self.peers.set_provided(&counts);
        let values: Vec<_> = self.values.iter().map(|(_, held)| held.clone()).collect();
        values.iter().for_each(|held| self.count_value(held, true));
        let indices: Vec<u32> = self.peers.indices().collect();
        indices.into_iter().for_each(|index| self.release(index));
    }

    /// What all this takes in the log, about.
    fn log_bytes(&self) -> u64 {
        let values = self
            .values
            .iter()
            .map(|(_, held)| held.sealed.len() as u64 + 41);
        let peers = self.peers.len() as u64 * 256;
        self.held.len() as u64 * PROVIDER_BYTES + values.sum::<u64>() + peers
    }
}
