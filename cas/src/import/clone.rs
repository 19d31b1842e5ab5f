//! Storing a file by sharing its blocks, where the file system can.

use super::file::SourceFile;
use super::{ImportError, ImportOptions, ImportProgress, Imported, scan_file};
use crate::name::is_valid_hint;
use crate::store::{SourceKind, Store};

/// Reads and hashes a clone of the file, which is what the store keeps. `None` where the file must be
/// copied.
pub(super) fn import(
    store: &Store,
    source: &SourceFile<'_>,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
) -> Result<Option<Imported>, ImportError> {
    if options
        .name
        .as_ref()
        .is_some_and(|name| !is_valid_hint(name))
    {
        return Ok(None); // refused where it is copied
    }
    let Some(clone) = store.clone_of(&source.file) else {
        return Ok(None);
    };
    if store.max_bytes().is_some() {
        store.make_room(0)?; // the clone counts already
    }
    let hold = store.hold();
    let mut hold_chunk = |hash, _, _| {
        hold.add(hash);
        Ok(())
    };
    let (manifest, identity) = scan_file(&clone.path(), options, &mut hold_chunk, progress)?;
    debug_assert_eq!(
        identity, clone.identity,
        "nobody but the store writes there"
    );
    let old = store
        .file(&manifest.address())?
        .and_then(|file| file.source);
    if old.is_some_and(|old| old.kind == SourceKind::InPlace) {
        // It is kept in place so far: copying it is how a file leaves that state.
        return Ok(None);
    }
    let name = options.name.as_deref();
    let added = store.add_clone(&manifest, &clone, name, options.claim)?;
    drop((hold, clone));
    let (entry, new_bytes) = (added.entry, added.bytes);
    let manifest = if entry.manifest == manifest.id() {
        manifest
    } else {
        // It was here already, cut differently.
        store.manifest(&entry.address)?.unwrap_or(manifest)
    };
    Ok(Some(Imported {
        address: entry.address,
        bytes: manifest.size_bytes(),
        chunks: manifest.chunk_count(),
        new_chunks: u32::try_from(added.chunks).unwrap_or(u32::MAX),
        new_bytes,
        saved_bytes: manifest.size_bytes().saturating_sub(new_bytes),
        referenced_bytes: 0,
        manifest,
        entry,
    }))
}
