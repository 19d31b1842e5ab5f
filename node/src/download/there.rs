//! An output that is there already, and is the very file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use casnode_cas::{Address, Claim, FileEntry, FileState, Manifest, Store, StoreError};

use super::{
    output::{Found, Inspection, Target},
    place::{MIN_IN_PLACE_BYTES, Place, choose_place},
    settle::{Fetched, Stay, in_place, kept, settle},
};
use crate::{
    api::{ApiError, GetReport, Keep, events::EventSink},
    node::Node,
    tasks::blocking,
};

/// What is known of a file.
#[derive(Default)]
struct Known {
    entry: Option<FileEntry>,
    manifest: Option<Manifest>,
    /// Where it is to be kept, if something is to be done for that.
    place: Option<Place>,
}

/// The output, when it already is the file.
pub(super) async fn already_there(
    node: &Node,
    target: &Target,
    told_name: Option<&str>,
    inspection: Inspection<'_>,
) -> Result<Option<PathBuf>, ApiError> {
    let address = inspection.address;
    let known = match (target, told_name) {
        (Target::Folder { .. }, None) => node.known_name(&address).await,
        _ => None,
    };
    let name = told_name.or(known.as_deref());
    let Some((path, force)) = target.resolve(name, &address) else {
        return Ok(None);
    };
    let found = inspection.of(&path, force).await?;
    Ok((found == Found::Same).then_some(path))
}

/// The report of an output that already is the file. Where a get was killed just before its end, this is its end.
pub(crate) async fn unchanged(
    node: &Arc<Node>,
    stay: Stay,
    address: Address,
    path: PathBuf,
    events: &EventSink,
) -> GetReport {
    let (store, output) = (node.store.clone(), path.clone());
    let known = blocking(move || look(&store, stay, &address, &output)).await;
    let known = known.ok().and_then(Result::ok).unwrap_or_default();
    if let Some(place) = known.place {
        let settled = match known.manifest {
            Some(manifest) => {
                let fetched = Fetched {
                    manifest,
                    place,
                    path: Some(path.clone()),
                    is_stores: false,
                    name: known.entry.as_ref().and_then(|e| e.name.clone()),
                    is_announced_apart: false,
                };
                settle(node, stay.claim, fetched).await
            }
            None if place == Place::No => Ok(()),
            None => Err("the store does not know the file".to_owned()),
        };
        if let Err(why) = settled {
            let (shown, option) = match place {
                Place::Copy => (path.display(), ""),
                _ => (path.display(), " --in-place"),
            };
            events
                .warn(format!(
                    "{shown} was there already, and is not kept as was asked: {why}; see `casnode store{option}`"
                ))
                .await;
        }
    }
    let chunks = known.entry.map_or(0, |e| e.chunk_count);
    let bytes = std::fs::metadata(&path)
        .map(|m| m.len())
        .unwrap_or_default();
    let (kept, in_place) = kept(node, address).await;
    GetReport {
        address: address.to_string(),
        path: Some(path.display().to_string()),
        bytes,
        seconds: 0.0,
        chunks,
        local_chunks: chunks,
        local_bytes: bytes,
        fetched_chunks: 0,
        fetched_bytes: 0,
        duplicate_bytes: 0,
        rejected_chunks: 0,
        unchanged: true,
        kept,
        in_place,
        seed: None,
        providers: Vec::new(),
    }
}

/// Whether something may be to do for an output of many that already is the file: a copy is asked for, or it is so
/// large that it is kept in place by default. Others are left alone, since looking at each takes its time.
///
/// # Errors
/// When the index fails.
pub(crate) fn is_to_be_seen_to(
    store: &Store,
    keep: Keep,
    address: &Address,
    size_bytes: u64,
) -> Result<bool, StoreError> {
    Ok(match keep {
        Keep::Auto => size_bytes >= MIN_IN_PLACE_BYTES,
        Keep::Copy => {
            let entry = store.file(address)?;
            entry.is_some_and(|entry| {
                entry.state != FileState::Complete || in_place(&entry).is_some()
            })
        }
        Keep::InPlace | Keep::No => false,
    })
}

/// Looks at what is here of the file. Where nothing is asked for, an output that an earlier get was to keep in place
/// is kept so now, and nothing else is done.
fn look(store: &Store, stay: Stay, address: &Address, output: &Path) -> Result<Known, StoreError> {
    let bytes = std::fs::metadata(output).map_or(0, |data| data.len());
    let place = choose_place(store, stay, address, bytes, Some(output))?;
    store.claim_file(address, stay.claim)?;
    let entry = store.file(address)?;
    let manifest = store.manifest(address).ok().flatten();
    let is_begun = entry
        .as_ref()
        .is_some_and(|entry| entry.state != FileState::Complete);
    let is_asked = stay.keep != Keep::Auto || stay.claim == Claim::Pinned;
    let is_asked = is_asked || is_begun && place == Place::Output;
    Ok(Known {
        entry,
        manifest,
        place: is_asked.then_some(place),
    })
}
