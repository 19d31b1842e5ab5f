//! `store` of many paths: the small files among them are read, entered and announced together.

use std::{ffi::OsString, sync::Arc};

use casnode_cas::{AddedFile, Claim, FileEntry, Manifest, SmallFile, Store, read_small_file};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{Infallible, StoreCall, announce_now, leaving, oneshot, store};
use crate::{
    api::{
        ApiError, ChunkerName, ErrorKind, MAX_STORE_PATHS, Source, StoreReport, events::EventSink,
    },
    client::Streams,
    errors,
    node::Node,
    publish,
    seeding::SeedPolicy,
    tasks::blocking,
    upkeep,
};

/// So few are announced at once, each with a lookup of its own; more go by region, in the background.
const ANNOUNCED_AT_ONCE: usize = 8;

/// The fields of [`crate::api::Request::StoreMany`].
pub(in crate::ops) struct ManyCall {
    pub(in crate::ops) paths: Vec<OsString>,
    pub(in crate::ops) chunker: ChunkerName,
    pub(in crate::ops) pinned: bool,
}

/// What became of each path, in their order.
type Outcomes = Vec<Result<StoreReport, ApiError>>;

pub(in crate::ops) async fn store_many(
    node: &Arc<Node>,
    call: ManyCall,
    events: &EventSink,
    cancel: CancellationToken,
) -> Result<Outcomes, ApiError> {
    if call.paths.len() > MAX_STORE_PATHS {
        return Err(ApiError::new(
            ErrorKind::Usage,
            "nothing was stored",
            format!("{} paths in one call are too many", call.paths.len()),
            format!("name at most {MAX_STORE_PATHS} in one call"),
        ));
    }
    let (tell, told) = oneshot::channel();
    let work = run(node.clone(), call, events.clone(), cancel.child_token());
    node.tasks.spawn("store many", async move {
        let _ = tell.send(work.await); // a caller who has left does not want to know
        Ok::<(), Infallible>(())
    });
    let _cancel = cancel.drop_guard();
    told.await.unwrap_or_else(|_| Err(leaving()))
}

async fn run(
    node: Arc<Node>,
    call: ManyCall,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Outcomes, ApiError> {
    // When the node ends, this future is dropped, and the reading hears of it.
    let _cancel = cancel.clone().drop_guard();
    let (store_, paths, stop) = (node.store.clone(), call.paths.clone(), cancel.clone());
    let entering = node.tasks.blocking("store small files", move || {
        enter(&store_, &paths, call.pinned, &stop)
    });
    let entered = entering.await.map_err(errors::panicked)?;
    upkeep::withdraw_evicted(&node).await;
    let announced_to = announce(&node, &entered, &events).await;
    let mut announced_to = announced_to.into_iter();
    let mut outcomes = Vec::with_capacity(call.paths.len());
    for (path, entered) in call.paths.into_iter().zip(entered) {
        outcomes.push(match entered {
            Some(added) => Ok(report(added, announced_to.next().unwrap_or(0))),
            None => {
                let call = StoreCall {
                    source: Source::File(path),
                    name: None,
                    chunker: call.chunker,
                    pinned: call.pinned,
                    in_place: false,
                };
                let cancel = cancel.child_token();
                store(&node, call, Streams::default(), &events, cancel).await
            }
        });
    }
    Ok(outcomes)
}

fn report(added: AddedFile, announced_to: u32) -> StoreReport {
    let bytes = added.entry.size_bytes;
    let (new_chunks, new_bytes) = match added.is_new {
        true => (added.entry.chunk_count, bytes),
        false => (0, 0),
    };
    StoreReport {
        address: added.entry.address.to_string(),
        bytes,
        chunks: added.entry.chunk_count,
        new_chunks,
        new_bytes,
        saved_bytes: bytes - new_bytes,
        referenced_bytes: 0,
        name: added.entry.name,
        announced_to,
    }
}

/// Reads and enters the small files. `None` for a path that is to be stored alone: a larger file, one that cannot be
/// read, which is then said, or any when they cannot be entered together.
fn enter(
    store: &Store,
    paths: &[OsString],
    pinned: bool,
    cancel: &CancellationToken,
) -> Vec<Option<AddedFile>> {
    let read = |path: &OsString| {
        if cancel.is_cancelled() {
            return None;
        }
        read_small_file(path.as_ref()).ok().flatten()
    };
    let files: Vec<Option<SmallFile>> = paths.iter().map(read).collect();
    let small: Vec<SmallFile> = files.iter().flatten().cloned().collect();
    let added = match store.add_small_files(&small, Claim::own(pinned)) {
        Ok(added) => added,
        Err(error) => {
            tracing::debug!(%error, "small files could not be entered together");
            return paths.iter().map(|_| None).collect();
        }
    };
    let mut added = added.into_iter();
    let next = |file: Option<SmallFile>| file.and_then(|_| added.next());
    files.into_iter().map(next).collect()
}

/// How many peers took each file's record, in order; nothing is known of those that are announced in the background.
async fn announce(node: &Arc<Node>, entered: &[Option<AddedFile>], events: &EventSink) -> Vec<u32> {
    let entries: Vec<&FileEntry> = entered.iter().flatten().map(|e| &e.entry).collect();
    // They are the user's own from now on, whatever was said when they were fetched.
    let served = |entry: &&&FileEntry| node.seeding.policy(&entry.address) != SeedPolicy::Forever;
    let own = entries.iter().filter(served);
    let own: Vec<_> = own.map(|e| (e.address, e.size_bytes)).collect();
    if !own.is_empty() {
        node.serve_all_for(SeedPolicy::Forever, own).await;
    }
    if entries.len() <= ANNOUNCED_AT_ONCE {
        let announcing =
            entries
                .into_iter()
                .map(async |entry| match manifest_of(node, entry).await {
                    Some(manifest) => {
                        announce_now(node, &manifest, entry.name.as_deref(), events).await
                    }
                    None => 0,
                });
        return join_all(announcing).await;
    }
    if node.dht.is_none() || !(node.serve_dht || node.has_bootstrap()) {
        events.warn(super::NO_DAEMON).await;
        return Vec::new();
    }
    let addresses: Vec<_> = entries.iter().map(|entry| entry.address).collect();
    if let Err(error) = publish::many(node, &addresses).await {
        let message = format!("the files were not scheduled for announcing: {error}");
        events.warn(message).await;
    }
    if !node.serve_dht {
        events.warn(super::NOBODY_CAN_FETCH).await;
    }
    Vec::new()
}

async fn manifest_of(node: &Node, entry: &FileEntry) -> Option<Manifest> {
    let (store, address) = (node.store.clone(), entry.address);
    let manifest = blocking(move || store.manifest(&address)).await;
    manifest.ok().and_then(Result::ok).flatten()
}

#[cfg(test)]
mod tests;
