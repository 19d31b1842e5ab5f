//! Room for a file that is to be stored, before its first byte is written.
//!
//! What it will add is not known before it is cut and hashed: chunks that are here already take nothing. So it is read
//! beforehand, but only where its size alone does not say whether it fits.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use casnode_cas::{ImportError, ImportOptions, Store, StoreError, plan_file};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, Phase, events::EventSink},
    errors,
    node::Node,
    room,
    steps::Steps,
};

/// What a chunk adds to the packs and the index beside its own bytes.
const CHUNK_EXTRA_BYTES: u64 = 512;

/// Makes room for a file by removing what is least recently used, or says that there can be none. Without a limit
/// nothing happens.
pub(super) async fn make(
    node: &Arc<Node>,
    path: &Path,
    options: &ImportOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Result<(), ImportError>, ApiError> {
    if node.store.max_bytes().is_none() {
        return Ok(Ok(()));
    }
    let (store, path, options) = (node.store.clone(), path.to_owned(), options.clone());
    let mut steps = Steps::new(Phase::Planning, events, cancel);
    let work = node.tasks.blocking("make room", move || {
        make_for(&store, &path, &options, &mut steps)
    });
    work.await.map_err(errors::panicked)
}

fn make_for(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    steps: &mut Steps,
) -> Result<(), ImportError> {
    // What is no file, or cannot be read, is the import's to tell.
    let Ok(data) = fs::metadata(path) else {
        return Ok(());
    };
    let Some(max_bytes) = store.max_bytes().filter(|_| data.is_file()) else {
        return Ok(());
    };
    // Holes are chunks of zeros, all the same one.
    let at_most_bytes = data.len().min(data.blocks().saturating_mul(512));
    let free_bytes = max_bytes.saturating_sub(store.disk_bytes());
    if at_most_bytes.saturating_mul(33) / 32 <= free_bytes {
        return Ok(());
    }
    let room_bytes = store.room_bytes()?.unwrap_or(u64::MAX);
    let refused = |needed_bytes| {
        Err(ImportError::Store(StoreError::OverQuota {
            needed_bytes,
            available_bytes: room_bytes,
            max_bytes,
        }))
    };
    // Even if every byte that is here were one of its own, the rest would not fit.
    let own_at_most_bytes = store.stats()?.stored_bytes;
    if at_most_bytes.saturating_sub(own_at_most_bytes) > room_bytes {
        return refused(at_most_bytes);
    }
    let mut progress = |done_bytes, total_bytes| steps.step(done_bytes, total_bytes);
    let plan = plan_file(store, path, options, room_bytes, &mut progress)?;
    if plan.exceeded {
        return refused(at_most_bytes.max(plan.new_bytes));
    }
    let extra_bytes = u64::from(plan.distinct_new_chunks) * CHUNK_EXTRA_BYTES;
    Ok(room::make(store, plan.new_bytes + extra_bytes)?)
}
