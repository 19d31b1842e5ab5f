//! Telling the DHT what is here.

use std::{sync::Arc, time::Duration};

use casnode_cas::{
    Address, ChunkHash, FileEntry, FileRecord, HaveBitmap, Manifest, Store, StoreError,
};
use casnode_dht::{Dht, DhtError, Key};

use crate::{node::Node, tasks::blocking};

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
    let keys = manifest.chunks().iter().map(|c| *c.hash.as_bytes());
    schedule_keys(dht, keys).await
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

/// Takes a file that is here and served no more off the schedule, with the chunks that no other file has: of the others
/// this node is still a provider.
pub(crate) async fn retire(node: &Node, address: &Address) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    let (store, address) = (node.store.clone(), *address);
    let own = ChunkHash::from_bytes(*address.as_bytes());
    let (sole, is_chunk) = blocking(move || {
        let sole = store.sole_chunks(&address)?;
        // A file of one chunk has the chunk's hash for its address, and another file may have that chunk.
        let is_chunk = store.has(&own)? && !sole.contains(&own);
        Ok::<_, StoreError>((sole, is_chunk))
    })
    .await??;
    for part in sole.chunks(SCHEDULE_BATCH) {
        dht.unschedule(part.iter().map(|chunk| *chunk.as_bytes()).collect())
            .await?;
    }
    let key = vec![*address.as_bytes()];
    dht.unschedule(key.clone()).await?;
    if is_chunk {
        dht.schedule(key).await?;
    }
    Ok(())
}

/// Takes a file that is gone, and the chunks that went with it, off the schedule. What has come back meanwhile stays.
pub(crate) async fn withdraw(
    node: &Node,
    address: &Address,
    gone_chunks: &[ChunkHash],
) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    withdraw_chunks(node, gone_chunks).await?;
    let (store, address) = (node.store.clone(), *address);
    let (is_file, is_chunk) = blocking(move || {
        let is_file = match store.file(&address)? {
            Some(entry) => Here::of(&store, &entry).is_ok_and(|here| here.is_some()),
            None => false,
        };
        let is_chunk = store.has(&ChunkHash::from_bytes(*address.as_bytes()))?;
        Ok::<_, StoreError>((is_file, is_chunk))
    })
    .await??;
    if !is_file {
        let key = vec![*address.as_bytes()];
        dht.unschedule(key.clone()).await?;
        // A file of one chunk has the chunk's hash for its address, and another file may have that chunk.
        if is_chunk {
            dht.schedule(key).await?;
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

/// At the start of a daemon: whatever was stored while no network was there enters the schedule, and what the schedule
/// has but the store lacks leaves it. A file that cannot be read is passed over.
pub(crate) async fn reconcile(node: Arc<Node>) -> Result<(), PublishError> {
    let Some(dht) = node.dht.clone() else {
        return Ok(());
    };
    let store = node.store.clone();
    let files: Vec<FileEntry> = blocking(move || store.files()).await??;
    for entry in files {
        let address = entry.address;
        if !node.serves(&address) {
            continue;
        }
        match schedule_entry(&dht, &node.store, entry).await {
            Err(PublishError::Store(error)) => {
                tracing::warn!(file = %address, %error, "a stored file cannot be announced");
            }
            other => other?,
        }
    }
    let (store, scheduled) = (node.store.clone(), dht.scheduled_keys());
    let stale = blocking(move || stale(&store, scheduled)).await??;
    if !stale.is_empty() {
        tracing::info!(
            keys = stale.len(),
            "keys of removed files leave the announce schedule"
        );
        dht.unschedule(stale).await?;
    }
    Ok(())
}

/// The keys of which the store has neither a file nor a chunk.
fn stale(store: &Store, keys: Vec<Key>) -> Result<Vec<Key>, StoreError> {
    let mut stale = Vec::new();
    for key in keys {
        if !store.has(&ChunkHash::from_bytes(key))?
            && store.file(&Address::from_bytes(key))?.is_none()
        {
            stale.push(key);
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests;
