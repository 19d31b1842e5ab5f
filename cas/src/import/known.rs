//! A file that is stored already costs what hashing it once costs: it is not cut, and nothing is written.
//!
//! Before anything else its address is computed, on several threads, where it may well be that of a stored
//! file: one of its very size is there. When it turns out to be another file, that was one more pass over
//! it than it would have taken.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::file::SourceFile;
use super::{ImportError, ImportOptions, ImportProgress, Imported, Placement};
use crate::error::StoreError;
use crate::id::Address;
use crate::manifest::Manifest;
use crate::store::{FileEntry, FileSource, FileState, Hold, SourceKind, Store};

/// Up to this size a file is hashed without looking for an entry of its size, which is the longer work of
/// the two when the store has many files.
const UNASKED_BYTES: u64 = 1024 * 1024;

/// Takes over name and pin of the options. `None` when the file is to be read, cut and stored.
pub(super) fn import(
    store: &Store,
    source: &SourceFile<'_>,
    options: &ImportOptions,
    sizes: Option<&HashSet<u64>>,
    progress: ImportProgress<'_>,
) -> Result<Option<Imported>, ImportError> {
    let hold = store.hold();
    let Some(manifest) = find(store, &hold, source, options.placement, sizes, progress)? else {
        return Ok(None);
    };
    let entry = match store.add_file(&manifest, options.name.as_deref(), options.claim) {
        // Found damaged just now: storing it anew heals it.
        Err(StoreError::MissingChunks { .. }) => return Ok(None),
        entry => entry?,
    };
    Ok(Some(Imported {
        address: entry.address,
        bytes: manifest.size_bytes(),
        chunks: manifest.chunk_count(),
        new_chunks: 0,
        new_bytes: 0,
        saved_bytes: manifest.size_bytes(),
        referenced_bytes: 0,
        manifest,
        entry,
    }))
}

/// The manifest of the file, if it is stored whole and storing it again would change nothing but its entry.
/// Its chunks stay as long as the hold does. `sizes` are those of all files that are here, where they are known.
pub(super) fn find(
    store: &Store,
    hold: &Hold,
    source: &SourceFile<'_>,
    placement: Placement,
    sizes: Option<&HashSet<u64>>,
    progress: ImportProgress<'_>,
) -> Result<Option<Manifest>, ImportError> {
    let size_bytes = source.identity.size_bytes;
    let may_be_here =
        |file: &FileEntry| file.size_bytes == size_bytes && stays_as_it_is(file, source, placement);
    if size_bytes > UNASKED_BYTES {
        let is_worth_it = match sizes {
            Some(sizes) => sizes.contains(&size_bytes),
            None => has_file_that(store, may_be_here)?,
        };
        if !is_worth_it {
            return Ok(None);
        }
    }
    let address = source.address(progress)?;
    if !store.file(&address)?.as_ref().is_some_and(may_be_here) {
        return Ok(None);
    }
    let Some(manifest) = intact_manifest(store, &address)? else {
        return Ok(None);
    };
    for chunk in manifest.chunks() {
        hold.add(chunk.hash);
    }
    let is_whole = store.have(&manifest)?.is_complete();
    Ok(is_whole.then_some(manifest))
}

fn has_file_that(store: &Store, is: impl Fn(&FileEntry) -> bool) -> Result<bool, StoreError> {
    let mut has = false;
    store.for_each_file(|file| {
        has = is(&file);
        match has {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(has)
}

/// Whether the store would leave the bytes of this entry where they are, if it were this file.
fn stays_as_it_is(file: &FileEntry, source: &SourceFile<'_>, placement: Placement) -> bool {
    let stays = match &file.source {
        // Copying it is how a file leaves that state.
        Some(kept) if kept.kind == SourceKind::InPlace => {
            placement == Placement::InPlace && is_kept_in(kept, source)
        }
        _ => true,
    };
    stays && file.state == FileState::Complete
}

/// Whether this is the very file that is kept in place, as it was then.
fn is_kept_in(kept: &FileSource, source: &SourceFile<'_>) -> bool {
    let now = &source.identity;
    std::path::absolute(source.path).is_ok_and(|path| path == kept.path)
        && (kept.file.size_bytes, kept.file.mtime_ns, kept.file.inode)
            == (now.size_bytes, now.mtime_ns, now.inode)
}

/// `None` for a damaged manifest: storing the file anew heals it.
fn intact_manifest(store: &Store, address: &Address) -> Result<Option<Manifest>, StoreError> {
    match store.manifest(address) {
        Err(error) if error.is_corruption() => Ok(None),
        manifest => manifest,
    }
}

#[cfg(test)]
mod tests;
