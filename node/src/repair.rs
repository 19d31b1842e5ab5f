//! Fetching what the store lacks of a file that it should have.

use std::{sync::Arc, time::Duration};

use casnode_cas::{Address, ChunkHash, FileEntry, FileState, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, Keep, events::EventSink},
    download::{self, GetOptions, Stay, Target, Terms},
    errors,
    node::Node,
    publish,
    tasks::blocking,
};

/// What a repair has brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// Chunks fetched.
    pub(crate) chunks: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Fetches the absent chunks of a file into the store, and only those. What keeps it stays the same. Nothing is
/// fetched where nothing is absent, or where nobody relies on the file being here.
pub(crate) async fn repair(
    node: &Arc<Node>,
    address: Address,
    timeout: Option<Duration>,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Repaired, ApiError> {
    let store = node.store.clone();
    let lacking = blocking(move || lacking(&store, &address))
        .await
        .map_err(errors::panicked)?;
    let lacking = lacking.map_err(|e| errors::store("the store could not be read", &e))?;
    let Some(entry) = lacking else {
        return Ok(Repaired::default());
    };
    let _in_use = node.store.in_use(&address);
    let options = GetOptions {
        address,
        target: Target::Keep,
        timeout,
        hints: Vec::new(),
        name: None,
        size_bytes: None,
        output: None,
        mode: None,
        stay: Stay {
            keep: Keep::Auto,
            claim: entry.claim,
        },
        terms: Terms::default(),
    };
    let fetched = download::get(node, options, events, cancel).await?;
    if let Err(error) = publish::schedule_file(node, address).await {
        tracing::warn!(file = %address, %error, "repaired chunks are not announced until the next start");
    }
    Ok(Repaired {
        chunks: fetched.fetched_chunks.into(),
        bytes: fetched.fetched_bytes,
    })
}

/// The entry of a file that should be here and is not all here.
fn lacking(store: &Store, address: &Address) -> Result<Option<FileEntry>, StoreError> {
    let Some(entry) = store.file(address)?.filter(should_be_whole) else {
        return Ok(None);
    };
    let whole = entry.state == FileState::Complete && absent(store, address)?.is_empty();
    Ok((!whole).then_some(entry))
}

/// Whether somebody relies on all of a file being here: it was whole once. An unfinished download was not, and whoever
/// wants it asks for it again.
pub(crate) fn should_be_whole(entry: &FileEntry) -> bool {
    entry.state == FileState::Complete || entry.source.is_some()
}

/// The distinct chunks of a file that are not here. Of a file whose list of chunks cannot be read: the address itself,
/// which stands for a chunk that is missing.
pub(crate) fn absent(store: &Store, address: &Address) -> Result<Vec<ChunkHash>, StoreError> {
    let unknown = vec![ChunkHash::from_bytes(*address.as_bytes())];
    let manifest = match store.manifest(address) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(unknown),
        Err(error) if error.is_corruption() => return Ok(unknown),
        Err(error) => return Err(error),
    };
    let have = store.have(&manifest)?;
    let chunks = manifest.chunks().iter().enumerate();
    let mut absent: Vec<ChunkHash> = chunks
        .filter(|(i, _)| !have.get(*i))
        .map(|(_, chunk)| chunk.hash)
        .collect();
    absent.sort_unstable();
    absent.dedup();
    Ok(absent)
}
