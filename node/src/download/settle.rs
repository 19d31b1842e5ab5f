//! What stays of a file when its download is done.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use casnode_cas::{
    Address, ChunkHash, Claim, FileEntry, FileState, Manifest, SourceKind, Store, StoreError,
};

use super::place::Place;
use crate::{
    api::{Keep, Kept},
    errors,
    node::Node,
    publish, room,
    tasks::blocking,
};

/// What a person wants to stay here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) keep: Keep,
    /// What keeps it when others are collected or have to make room.
    pub(crate) claim: Claim,
}

/// A file whose bytes are where they belong.
pub(super) struct Fetched {
    pub(super) manifest: Manifest,
    /// Where it is to be kept.
    pub(super) place: Place,
    /// Where the output is.
    pub(super) path: Option<PathBuf>,
    /// All of it is in the store's unfinished file of this address.
    pub(super) is_stores: bool,
    pub(super) name: Option<String>,
    /// Somebody else announces it.
    pub(super) is_announced_apart: bool,
}

/// What the store made of a file.
enum Entered {
    /// It was here before.
    Known,
    /// It is here now.
    New,
    /// It is here no more, and neither are these chunks.
    Gone(Vec<ChunkHash>),
}

/// Makes the store have of a fetched file what is wanted, and tells the DHT. What goes wrong here is told in words.
pub(super) async fn settle(node: &Arc<Node>, claim: Claim, fetched: Fetched) -> Result<(), String> {
    let (manifest, name) = (fetched.manifest.clone(), fetched.name.clone());
    let announces = node.serve_dht && !fetched.is_announced_apart;
    let store = node.store.clone();
    let entered = blocking(move || enter(&store, claim, &fetched)).await;
    let entered = entered.map_err(|error| errors::chain(&error))?;
    match entered.map_err(|error| errors::chain(&error))? {
        Entered::Known => {}
        Entered::New if announces => {
            let all = publish::file_and_chunks(node.clone(), manifest, name);
            node.tasks.spawn("publish", all);
        }
        Entered::New => {}
        Entered::Gone(chunks) => {
            let withdrawn = publish::withdraw(node, &[manifest.address()], &chunks).await;
            if let Err(error) = withdrawn {
                tracing::warn!(%error, "keys of a file that was not kept stay scheduled until the next start");
            }
        }
    }
    Ok(())
}

fn enter(store: &Store, claim: Claim, fetched: &Fetched) -> Result<Entered, StoreError> {
    let (manifest, name) = (&fetched.manifest, fetched.name.as_deref());
    let address = manifest.address();
    let before = store.file(&address)?;
    let in_place = before.as_ref().and_then(in_place);
    let was_whole = before
        .as_ref()
        .is_some_and(|entry| entry.state == FileState::Complete);
    // The output took the place of the file that the store refers to: that one is what it refers to now.
    let is_renewed = match (in_place, fetched.path.as_deref()) {
        (Some(kept), Some(path)) => is_same_file(&kept, path),
        _ => false,
    };
    let place = match fetched.place {
        Place::Store | Place::No if was_whole && is_renewed => Place::Output,
        place => place,
    };
    let entered = match (place, fetched.path.as_deref()) {
        // What was kept before is not this download's to remove.
        (Place::No, _) if was_whole => Entered::Known,
        (Place::No, _) => {
            return match store.remove_file(&address) {
                // A directory that is here wants it, and has a part of it.
                Err(StoreError::IsMember { .. }) => Ok(Entered::Known),
                removed => Ok(Entered::Gone(removed?.unwrap_or_default().freed_chunks)),
            };
        }
        (Place::Output, Some(path)) => {
            store.adopt_in_place(manifest, path, name, claim)?;
            if was_whole {
                Entered::Known
            } else {
                Entered::New
            }
        }
        (Place::Store | Place::Output, _) if was_whole => {
            store.claim_file(&address, claim)?;
            Entered::Known
        }
        _ => {
            let entry = complete(store, claim, fetched)?;
            if let (None, Some(name)) = (entry.name, name) {
                store.set_name(&address, name)?;
            }
            match was_whole {
                true => Entered::Known,
                false => Entered::New,
            }
        }
    };
    store.drop_unfinished(&address); // what it had is elsewhere by now
    store.touch(&address)?;
    Ok(entered)
}

/// Makes the download complete: its file becomes the store's, or what is in there, or in files of others', goes into
/// packs.
fn complete(store: &Store, claim: Claim, fetched: &Fetched) -> Result<FileEntry, StoreError> {
    let manifest = &fetched.manifest;
    if fetched.is_stores {
        // The entry has the name that it began with; one that is known only now is given later.
        match store.add_unfinished(manifest, None, claim) {
            Ok(Some(entry)) => return Ok(entry),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a fetched file is copied into packs"),
        }
    }
    if fetched.place == Place::Copy || store.has_unfinished(&manifest.address()) {
        put_others(store, manifest, fetched.place == Place::Copy)?;
    }
    store.complete_partial(&manifest.address(), claim)
}

/// Puts into packs what is lent, and with `all` what is in files in place as well.
fn put_others(store: &Store, manifest: &Manifest, all: bool) -> Result<(), StoreError> {
    let mut others = Vec::new();
    for chunk in manifest.chunks() {
        if store.is_lent(&chunk.hash)? || all && !store.has_own(&chunk.hash)? {
            others.push(chunk);
        }
    }
    room::make(store, others.iter().map(|c| u64::from(c.len_bytes)).sum())?;
    for chunk in others {
        if let Some(bytes) = store.get(&chunk.hash)? {
            store.put(&chunk.hash, &bytes)?;
        }
    }
    Ok(())
}

/// Copies a file that is kept in place into packs, before something else takes its place. Files that are not are left alone.
///
/// # Errors
/// When there is no room, or a chunk is not to be had any more.
pub(crate) fn copy(store: &Store, address: &Address, claim: Claim) -> Result<(), StoreError> {
    let entry = store.file(address)?;
    if entry.is_none_or(|entry| in_place(&entry).is_none()) {
        return Ok(());
    }
    if let Some(manifest) = store.manifest(address)? {
        put_others(store, &manifest, true)?;
        store.complete_partial(address, claim)?;
    }
    Ok(())
}

/// How a file is kept here, and in which file if it is kept in place.
pub(super) async fn kept(node: &Node, address: Address) -> (Kept, Option<String>) {
    let store = node.store.clone();
    let found = blocking(move || store.file(&address)).await;
    let Some(entry) = found.ok().and_then(Result::ok).flatten() else {
        return (Kept::No, None);
    };
    match (entry.state, in_place(&entry)) {
        (FileState::Complete, Some(path)) => (Kept::InPlace, Some(path.display().to_string())),
        (FileState::Complete, None) => (Kept::Copy, None),
        _ => (Kept::No, None),
    }
}

/// The file that an entry is kept in place in.
pub(super) fn in_place(entry: &FileEntry) -> Option<PathBuf> {
    let source = entry.source.as_ref();
    let source = source.filter(|source| source.kind == SourceKind::InPlace);
    source.map(|source| source.path.clone())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity =
        |path: &Path| std::fs::metadata(path).map(|data: Metadata| (data.dev(), data.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests;
