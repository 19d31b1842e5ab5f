//! Files that are kept in place, and that a call is to replace by others while it wants them elsewhere.
//!
//! Two versions of a folder may have the same large files under each other's names. Overwriting one would destroy the only
//! copy of its bytes, so they are copied into the store first.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use casnode_cas::{Address, Claim, FileSource, FileState, SourceKind, Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::{Folder, interrupted};
use crate::{
    api::{ApiError, Phase, Progress, events::EventSink},
    download, errors,
    node::Node,
    tasks::blocking,
};

/// Copies into the store each wanted file that is kept in place at a path which another entry is about to take.
/// `places` are all entries that are to be made, by their paths from the folder on; one that is no file has no address.
/// For a folder in which nothing is replaced there is no need.
///
/// # Errors
/// When there is no room for a copy, or nobody wants it any more: then nothing has been replaced.
pub(crate) async fn save(
    node: &Arc<Node>,
    folder: &Arc<Folder>,
    places: Vec<(String, Option<Address>)>,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<(), ApiError> {
    let (store, folder, events) = (node.store.clone(), folder.clone(), events.clone());
    let stop = cancel.child_token();
    let _stops = stop.clone().drop_guard();
    let saved = blocking(move || {
        let endangered = endangered(&store, &folder, &places)?;
        for (done, address) in endangered.iter().enumerate() {
            if stop.is_cancelled() {
                break;
            }
            events.progress(copying(done, endangered.len()));
            tracing::info!(file = %address, "copied into the store: another file gets its place");
            match download::copy(&store, address, Claim::Member) {
                // It is not what it was, although it looked so: it is fetched again.
                Err(error) if error.is_corruption() => {
                    tracing::warn!(file = %address, %error, "a file in place could not be copied");
                }
                copied => copied?,
            }
        }
        Ok(())
    });
    let saved: Result<(), StoreError> = saved.await.map_err(errors::panicked)?;
    if cancel.is_cancelled() {
        return Err(interrupted());
    }
    let what = "nothing was written: a file that is kept in place would be replaced, and could not be copied";
    saved.map_err(|error| errors::store(what, &error))
}

fn copying(done: usize, all: usize) -> Progress {
    Progress {
        phase: Phase::Importing,
        done_bytes: 0,
        total_bytes: None,
        sources: 0,
        detail: format!("{done} of {all} files copied whose places others get"),
    }
}

/// The file that all of a file is kept in, in place. One that was changed or removed by somebody else has nothing to save.
fn intact_source(store: &Store, address: &Address) -> Result<Option<FileSource>, StoreError> {
    let is_in_place = |source: &FileSource| source.kind == SourceKind::InPlace;
    let source = store.file(address)?.and_then(|file| file.source);
    if !source.as_ref().is_some_and(is_in_place) {
        return Ok(None);
    }
    store.check_source(address)?;
    let file = store.file(address)?;
    let file = file.filter(|file| file.state == FileState::Complete);
    Ok(file.and_then(|file| file.source).filter(is_in_place))
}

fn endangered(
    store: &Store,
    folder: &Folder,
    places: &[(String, Option<Address>)],
) -> Result<Vec<Address>, StoreError> {
    let Ok(root) = folder.real_path() else {
        return Ok(Vec::new()); // then there is nothing that could be replaced
    };
    let by_path: HashMap<&str, Option<Address>> = places
        .iter()
        .map(|(path, address)| (path.as_str(), *address))
        .collect();
    let mut endangered = Vec::new();
    let wanted: HashSet<Address> = by_path.values().copied().flatten().collect();
    for address in wanted {
        let Some(source) = intact_source(store, &address)? else {
            continue;
        };
        let real = source.path.canonicalize().unwrap_or(source.path);
        let within = real.strip_prefix(&root).ok().and_then(|path| path.to_str());
        let becomes = within.and_then(|path| by_path.get(path));
        if becomes.is_some_and(|becomes| *becomes != Some(address)) {
            endangered.push(address);
        }
    }
    Ok(endangered)
}
