//! At the start of a daemon: store and announce schedule are made to agree.
//!
//! Most starts find that they do, and each has a million keys on the disk, in its own order. So what tells whether a key is
//! in the schedule is in memory, and the index of the store is gone through in its own order, twice: for chunks that the
//! schedule lacks, and for keys that the store has not. A manifest is read only of files that may lack some.

use std::ops::{ControlFlow, RangeInclusive};
use std::{collections::HashSet, sync::Arc};

use casnode_cas::{Address, ChunkHash, FileEntry, FileRecord, Manifest, Store, StoreError};
use casnode_dht::{Dht, Key};

use super::{PublishError, chunk_keys, over_keys, schedule_keys, unschedule};
use crate::{node::Node, tasks::blocking};

/// Chunks of which is noted at once that they are here: 8 MiB.
const PART_CHUNKS: u64 = 1 << 20;

/// Whatever was stored while no network was there enters the schedule, and what the schedule has but the store lacks
/// leaves it. A file that cannot be read is passed over.
pub(crate) async fn reconcile(node: Arc<Node>) -> Result<(), PublishError> {
    let Some(dht) = node.dht.clone() else {
        return Ok(());
    };
    let (store, task) = (node.store.clone(), dht.clone());
    let found = blocking(move || Ok::<_, StoreError>((store.files()?, lacking(&store, &task)?)));
    let (files, lacking) = found.await??;
    let lacking = Arc::new(lacking);
    let mut over = Vec::new();
    for entry in files {
        let address = entry.address;
        if !node.serves(&address) {
            over.push(address);
            continue;
        }
        if lacking.is_empty() && dht.announces_file(address.as_bytes()) {
            continue;
        }
        match schedule_entry(&dht, &node.store, entry, lacking.clone()).await {
            Err(PublishError::Store(error)) => {
                tracing::warn!(file = %address, %error, "a stored file cannot be announced");
            }
            other => other?,
        }
    }
    let (task, scheduled) = (node.clone(), dht.clone());
    let stale = blocking(move || {
        let over = over_keys(&task.store, &task.seeding, over)?;
        stale(&task.store, &scheduled, over)
    });
    let stale = stale.await??;
    if !stale.is_empty() {
        tracing::info!(
            keys = stale.len(),
            "keys of files that are gone, or served no more, leave the announce schedule"
        );
        unschedule(&dht, stale).await?;
    }
    Ok(())
}

/// Enters a stored file in the schedule, with those of its chunks that are here and not in it.
async fn schedule_entry(
    dht: &Dht,
    store: &Store,
    entry: FileEntry,
    lacking: Arc<Vec<u64>>,
) -> Result<(), PublishError> {
    let store = store.clone();
    let found = blocking(move || {
        let Some(manifest) = store.manifest(&entry.address)? else {
            return Ok(None);
        };
        if !is_any_here(&store, &manifest)? {
            return Ok(None);
        }
        let keys = lacking_of(&store, &lacking, &manifest)?;
        let record = FileRecord::for_manifest(&manifest, entry.name.as_deref()).encode();
        Ok::<_, StoreError>(Some((keys, *entry.address.as_bytes(), record)))
    });
    let Some((keys, file, record)) = found.await?? else {
        return Ok(());
    };
    schedule_keys(dht, keys.into_iter()).await?;
    dht.schedule_file(file, record).await?;
    Ok(())
}

/// The chunks that are here and not in the schedule, in order, by the first eight bytes of their hashes.
fn lacking(store: &Store, dht: &Dht) -> Result<Vec<u64>, StoreError> {
    let mut lacking = Vec::new();
    store.for_each_chunk_from(0, |hash, _| {
        if !dht.may_announce(hash.as_bytes()) {
            lacking.push(prefix(hash.as_bytes()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(lacking)
}

/// Those of the chunks of a file that are here and lacking.
fn lacking_of(store: &Store, lacking: &[u64], manifest: &Manifest) -> Result<Vec<Key>, StoreError> {
    let keys = chunk_keys(manifest);
    let mut keys: Vec<Key> = keys
        .filter(|key| lacking.binary_search(&prefix(key)).is_ok())
        .collect();
    // Neighbours in the index are read together.
    keys.sort_unstable();
    keys.dedup();
    let mut here = Vec::with_capacity(keys.len());
    for key in keys {
        if store.has(&ChunkHash::from_bytes(key))? {
            here.push(key);
        }
    }
    Ok(here)
}

/// Whether any of a file is here. The empty file has no chunks, and all of it is.
fn is_any_here(store: &Store, manifest: &Manifest) -> Result<bool, StoreError> {
    for key in chunk_keys(manifest) {
        if store.has(&ChunkHash::from_bytes(key))? {
            return Ok(true);
        }
    }
    Ok(manifest.chunks().is_empty())
}

/// Those of the scheduled keys of which the store has neither a file nor a chunk, and the scheduled among these that are
/// served no more.
fn stale(store: &Store, dht: &Dht, over: HashSet<Key>) -> Result<HashSet<Key>, StoreError> {
    let mut stale = HashSet::new();
    let chunks = store.stats()?.chunks;
    for first_bytes in parts(chunks) {
        let here = Here::read(store, first_bytes.clone(), chunks)?;
        let suspects = dht.scheduled_keys_where(|key| {
            first_bytes.contains(&key[0]) && (over.contains(key) || !here.may_have(key))
        });
        for key in suspects {
            // Chunks on their way into the index are not met on a pass over it, and files have keys, too.
            let is_here = || {
                Ok::<_, StoreError>(
                    store.has(&ChunkHash::from_bytes(key))?
                        || store.file(&Address::from_bytes(key))?.is_some(),
                )
            };
            if over.contains(&key) || !is_here()? {
                stale.insert(key);
            }
        }
    }
    Ok(stale)
}

/// Parts of the key space, by the first byte, so that each has about [`PART_CHUNKS`] of so many chunks.
fn parts(chunks: u64) -> impl Iterator<Item = RangeInclusive<u8>> {
    let parts = chunks.div_ceil(PART_CHUNKS).next_power_of_two().min(256);
    let width = u8::try_from(256 / parts - 1).unwrap_or(u8::MAX);
    let starts = (0..=u8::MAX).step_by(usize::from(width) + 1);
    starts.map(move |start| start..=start + width)
}

/// The chunks of the index, by the first eight bytes of their hashes.
struct Here(Vec<u64>);

impl Here {
    fn read(store: &Store, first_bytes: RangeInclusive<u8>, all: u64) -> Result<Self, StoreError> {
        // At once: what is left behind by growing would stay with the allocator.
        let about = usize::try_from(all.min(PART_CHUNKS + PART_CHUNKS / 64)).unwrap_or(0);
        let mut here = Vec::with_capacity(about);
        let last = *first_bytes.end();
        store.for_each_chunk_from(*first_bytes.start(), |hash, _| {
            if hash.as_bytes()[0] > last {
                return ControlFlow::Break(());
            }
            here.push(prefix(hash.as_bytes()));
            ControlFlow::Continue(())
        })?;
        Ok(Self(here))
    }

    /// False when the index does not have the chunk. Of two that share eight bytes one may be gone: that it stays announced
    /// costs nothing but a question that is answered with no.
    fn may_have(&self, key: &Key) -> bool {
        self.0.binary_search(&prefix(key)).is_ok()
    }
}

fn prefix(hash: &Key) -> u64 {
    let (first, _) = hash.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_first_byte_once() {
        for chunks in [0, 1, PART_CHUNKS, PART_CHUNKS + 1, 10 << 20, 1 << 40] {
            let parts: Vec<_> = parts(chunks).collect();
            let all: Vec<u8> = parts.iter().cloned().flatten().collect();
            assert!(all.iter().copied().eq(0..=255), "{chunks}");
            assert!(parts.len() as u64 >= (chunks / PART_CHUNKS).min(256));
        }
    }
}
