//! Telling the DHT what is here.

use std::{collections::HashSet, sync::Arc, time::Duration};

use casnode_cas::{
    Address, ChunkHash, FileEntry, FileRecord, HaveBitmap, Manifest, Store, StoreError,
};
use casnode_dht::{Dht, DhtError, Key};

use crate::{clock, node::Node, seeding::Seeding, tasks::blocking};

/// A file's own record is out within this time, or stays due.
pub(crate) const FILE_DEADLINE: Duration = Duration::from_secs(15);

/// Keys handed to the schedule at a time: bounds memory, not the schedule.
const SCHEDULE_BATCH: usize = 4096;

/// Why something was not published. It stays due.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Dht(#[from] DhtError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Announces the file itself; returns how many peers took the record.
pub(crate) async fn announce(
    dht: &Dht,
    manifest: &Manifest,
    name: Option<&str>,
) -> Result<u32, PublishError> {
    let record = FileRecord::for_manifest(manifest, name).encode();
    let key: Key = *manifest.address().as_bytes();
    Ok(dht.announce_file(key, record, FILE_DEADLINE).await?.peers)
}

/// Announces the file itself, as a task.
pub(crate) async fn file(
    node: Arc<Node>,
    manifest: Manifest,
    name: Option<String>,
) -> Result<(), PublishError> {
    if let Some(dht) = &node.dht
        && node.serves(&manifest.address())
    {
        announce(dht, &manifest, name.as_deref()).await?;
    }
    take_back(&node, &manifest.address()).await
}

/// Takes what was announced back, if it turned out meanwhile that nobody is to be served.
async fn take_back(node: &Node, address: &Address) -> Result<(), PublishError> {
    if node.serves(address) {
        return Ok(());
    }
    retire(node, address).await
}

/// Enters every chunk of the file in the announce schedule.
pub(crate) async fn schedule_chunks(dht: &Dht, manifest: &Manifest) -> Result<(), PublishError> {
    schedule_keys(dht, chunk_keys(manifest)).await
}

async fn schedule_keys(dht: &Dht, mut keys: impl Iterator<Item = Key>) -> Result<(), PublishError> {
    loop {
        let part: Vec<Key> = keys.by_ref().take(SCHEDULE_BATCH).collect();
        if part.is_empty() {
            return Ok(());
        }
        dht.schedule(part).await?;
    }
}

/// The file first, then its chunks, as a task.
pub(crate) async fn file_and_chunks(
    node: Arc<Node>,
    manifest: Manifest,
    name: Option<String>,
) -> Result<(), PublishError> {
    if let Some(dht) = &node.dht
        && node.serves(&manifest.address())
    {
        schedule_chunks(dht, &manifest).await?;
        announce(dht, &manifest, name.as_deref()).await?;
    }
    take_back(&node, &manifest.address()).await
}

/// Takes a file that is here and served no more off the schedule, with the chunks that no served file contains: of
/// the others this node is still a provider.
pub(crate) async fn retire(node: &Node, address: &Address) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    let (store, seeding, address) = (node.store.clone(), node.seeding.clone(), *address);
    let over = blocking(move || over_keys(&store, &seeding, vec![address])).await??;
    // A file of one chunk has the chunk's hash for its address, and a file that is served may have that chunk.
    let key = *address.as_bytes();
    let is_chunk = !over.contains(&key);
    unschedule(dht, over).await?;
    if is_chunk {
        dht.unschedule(vec![key]).await?;
        dht.schedule(vec![key]).await?;
    }
    Ok(())
}

async fn unschedule(dht: &Dht, keys: HashSet<Key>) -> Result<(), PublishError> {
    let keys: Vec<Key> = keys.into_iter().collect();
    for part in keys.chunks(SCHEDULE_BATCH) {
        dht.unschedule(part.to_vec()).await?;
    }
    Ok(())
}

/// The keys of these files, which are served no more, without those of chunks that a file has which is served.
fn over_keys(
    store: &Store,
    seeding: &Seeding,
    over: Vec<Address>,
) -> Result<HashSet<Key>, StoreError> {
    let mut keys = HashSet::new();
    let mut are_shared = false;
    for address in over {
        keys.insert(*address.as_bytes());
        let sole = store.sole_chunks(&address)?;
        let sole: HashSet<Key> = sole.iter().map(|chunk| *chunk.as_bytes()).collect();
        let Some(manifest) = readable_manifest(store, &address)? else {
            continue;
        };
        are_shared |= chunk_keys(&manifest).any(|key| !sole.contains(&key));
        keys.extend(chunk_keys(&manifest));
    }
    // Most files share nothing, and a store has many.
    if are_shared {
        let now_s = clock::unix_s();
        for entry in store.files()? {
            if seeding.may_serve(&entry.address, now_s)
                && let Some(manifest) = readable_manifest(store, &entry.address)?
            {
                chunk_keys(&manifest).for_each(|key| {
                    keys.remove(&key);
                });
            }
        }
    }
    Ok(keys)
}

fn chunk_keys(manifest: &Manifest) -> impl Iterator<Item = Key> + '_ {
    manifest.chunks().iter().map(|chunk| *chunk.hash.as_bytes())
}

/// `None` for a manifest that is damaged, too: what is known of other files is not to depend on it.
fn readable_manifest(store: &Store, address: &Address) -> Result<Option<Manifest>, StoreError> {
    match store.manifest(address) {
        Err(error) => {
            tracing::warn!(file = %address, %error, "a file's manifest cannot be read");
            Ok(None)
        }
        read => read,
    }
}

/// Takes files that are gone, and the chunks that went with them, off the schedule. What has come back meanwhile stays.
pub(crate) async fn withdraw(
    node: &Node,
    gone_files: &[Address],
    gone_chunks: &[ChunkHash],
) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    withdraw_chunks(node, gone_chunks).await?;
    for part in gone_files.chunks(SCHEDULE_BATCH) {
        let (store, part) = (node.store.clone(), part.to_vec());
        let (gone, chunks) = blocking(move || {
            let (mut gone, mut chunks): (Vec<Key>, Vec<Key>) = Default::default();
            for address in part {
                let is_file = match store.file(&address)? {
                    Some(entry) => Here::of(&store, &entry).is_ok_and(|here| here.is_some()),
                    None => false,
                };
                if is_file {
                    continue;
                }
                gone.push(*address.as_bytes());
                // A file of one chunk has the chunk's hash for its address, and another file may have that chunk.
                if store.has(&ChunkHash::from_bytes(*address.as_bytes()))? {
                    chunks.push(*address.as_bytes());
                }
            }
            Ok::<_, StoreError>((gone, chunks))
        })
        .await??;
        dht.unschedule(gone).await?;
        if !chunks.is_empty() {
            dht.schedule(chunks).await?;
        }
    }
    Ok(())
}

/// Takes chunks that are gone off the schedule.
pub(crate) async fn withdraw_chunks(
    node: &Node,
    gone_chunks: &[ChunkHash],
) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    for part in gone_chunks.chunks(SCHEDULE_BATCH) {
        let (store, part) = (node.store.clone(), part.to_vec());
        let gone = blocking(move || {
            let mut gone: Vec<Key> = Vec::new();
            for chunk in part {
                if !store.has(&chunk)? {
                    gone.push(*chunk.as_bytes());
                }
            }
            Ok::<_, StoreError>(gone)
        })
        .await??;
        dht.unschedule(gone).await?;
    }
    Ok(())
}

/// Enters a stored file in the schedule, with those of its chunks that are here. One that is not served stays out.
pub(crate) async fn schedule_file(node: &Node, address: Address) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    if !node.serves(&address) {
        return Ok(());
    }
    let store = node.store.clone();
    match blocking(move || store.file(&address)).await?? {
        Some(entry) => schedule_entry(dht, &node.store, entry).await,
        None => Ok(()),
    }
}

/// The same of many files, with one sync: they are announced by region of the keyspace, in the background, not with a
/// lookup each. At most a few thousand at a time: of each the metadata record (8 KiB at most) is in memory.
pub(crate) async fn many(node: &Node, addresses: &[Address]) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    let served = addresses.iter().copied().filter(|a| node.serves(a));
    let (store, served) = (node.store.clone(), served.collect::<Vec<_>>());
    let (chunks, files) = blocking(move || announced_keys(&store, &served)).await??;
    schedule_keys(dht, chunks.into_iter()).await?;
    Ok(dht.schedule_files(files).await?)
}

/// Of what is here of these files: the chunks' keys, and each file's key with its metadata record. A file of one chunk
/// has the chunk's hash for its address, and needs no key beside its own.
#[allow(
    clippy::type_complexity,
    reason = "two lists that are handed on at once, to two calls"
)]
fn announced_keys(
    store: &Store,
    addresses: &[Address],
) -> Result<(Vec<Key>, Vec<(Key, Vec<u8>)>), StoreError> {
    let (mut chunks, mut files) = (Vec::new(), Vec::new());
    store.for_each_here(addresses, |entry, manifest, have| {
        let here = Here { manifest, have };
        let key = *entry.address.as_bytes();
        chunks.extend(here.chunk_keys().filter(|chunk| *chunk != key));
        let record = FileRecord::for_manifest(&here.manifest, entry.name.as_deref());
        files.push((key, record.encode()));
    })?;
    Ok((chunks, files))
}

/// What of a file can be announced.
pub(crate) struct Here {
    manifest: Manifest,
    have: HaveBitmap,
}

impl Here {
    /// `None` when nothing of the file is here.
    pub(crate) fn of(store: &Store, entry: &FileEntry) -> Result<Option<Self>, StoreError> {
        let Some(manifest) = store.manifest(&entry.address)? else {
            return Ok(None);
        };
        let have = store.have(&manifest)?;
        // The empty file has no chunks, and all of it is here.
        let any = have.count() > 0 || have.is_complete();
        Ok(any.then_some(Self { manifest, have }))
    }

    pub(crate) fn chunk_keys(&self) -> impl Iterator<Item = Key> + '_ {
        let chunks = self.manifest.chunks();
        self.have.iter_ones().map(|i| *chunks[i].hash.as_bytes())
    }
}

/// Enters a stored file in the schedule, with those of its chunks that are here.
async fn schedule_entry(dht: &Dht, store: &Store, entry: FileEntry) -> Result<(), PublishError> {
    let store = store.clone();
    let (entry, here) = blocking(move || {
        let here = Here::of(&store, &entry);
        (entry, here)
    })
    .await?;
    let Some(here) = here? else { return Ok(()) };
    schedule_keys(dht, here.chunk_keys()).await?;
    let record = FileRecord::for_manifest(&here.manifest, entry.name.as_deref()).encode();
    dht.schedule_file(*entry.address.as_bytes(), record).await?;
    Ok(())
}

mod reconcile;

pub(crate) use reconcile::reconcile;

#[cfg(test)]
mod tests;
