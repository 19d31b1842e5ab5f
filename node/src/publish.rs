//! Telling the DHT what is here.

use std::{sync::Arc, time::Duration};

use casnode_cas::{Address, ChunkHash, FileEntry, FileRecord, Manifest, Store, StoreError};
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
    if let Some(dht) = &node.dht {
        announce(dht, &manifest, name.as_deref()).await?;
    }
    Ok(())
}

/// Enters every chunk of the file in the announce schedule.
pub(crate) async fn schedule_chunks(dht: &Dht, manifest: &Manifest) -> Result<(), PublishError> {
    for part in manifest.chunks().chunks(SCHEDULE_BATCH) {
        dht.schedule(part.iter().map(|c| *c.hash.as_bytes()).collect())
            .await?;
    }
    Ok(())
}

/// The file first, then its chunks, as a task.
pub(crate) async fn file_and_chunks(
    node: Arc<Node>,
    manifest: Manifest,
    name: Option<String>,
) -> Result<(), PublishError> {
    if let Some(dht) = &node.dht {
        schedule_chunks(dht, &manifest).await?;
        announce(dht, &manifest, name.as_deref()).await?;
    }
    Ok(())
}

/// Takes a removed file and the chunks that went with it off the schedule.
pub(crate) async fn withdraw(
    node: &Node,
    address: &Address,
    freed_chunks: &[ChunkHash],
) -> Result<(), PublishError> {
    let Some(dht) = &node.dht else { return Ok(()) };
    let mut keys: Vec<Key> = freed_chunks.iter().map(|c| *c.as_bytes()).collect();
    keys.push(*address.as_bytes());
    dht.unschedule(keys).await?;
    // A file of one chunk has the chunk's hash for its address, and another file may have that chunk.
    let (store, chunk) = (
        node.store.clone(),
        ChunkHash::from_bytes(*address.as_bytes()),
    );
    if blocking(move || store.has(&chunk)).await?? {
        dht.schedule(vec![*address.as_bytes()]).await?;
    }
    Ok(())
}

/// At the start of a daemon: whatever was stored while no network was there enters the schedule, and what the schedule
/// has but the store lacks leaves it.
pub(crate) async fn reconcile(node: Arc<Node>) -> Result<(), PublishError> {
    let Some(dht) = node.dht.clone() else {
        return Ok(());
    };
    let store = node.store.clone();
    let files: Vec<FileEntry> = blocking(move || store.files()).await??;
    for entry in files {
        let (store, address) = (node.store.clone(), entry.address);
        let Some(manifest) = blocking(move || store.manifest(&address)).await?? else {
            continue;
        };
        schedule_chunks(&dht, &manifest).await?;
        let record = FileRecord::for_manifest(&manifest, entry.name.as_deref()).encode();
        dht.schedule_file(*address.as_bytes(), record).await?;
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
