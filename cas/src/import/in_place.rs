//! Storing a file without copying it.

use std::path::Path;

use super::{ImportError, ImportOptions, ImportProgress, Imported, scan_file};
use crate::store::Store;

/// Reads and hashes the file, and records that its chunks are where they are. Chunks that the store has
/// already stay as they are.
pub(super) fn import(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    let hold = store.hold();
    let mut hold_chunk = |hash, _, _| {
        hold.add(hash);
        Ok(())
    };
    let (manifest, identity) = scan_file(path, options, &mut hold_chunk, progress)?;
    let name = options.name.as_deref();
    let added = store.add_in_place(&manifest, path, &identity, name, options.claim)?;
    drop(hold);
    let (entry, referenced_bytes) = (added.entry, added.bytes);
    let manifest = if entry.manifest == manifest.id() {
        manifest
    } else {
        // It was here already, cut differently.
        store.manifest(&entry.address)?.unwrap_or(manifest)
    };
    Ok(Imported {
        address: entry.address,
        bytes: manifest.size_bytes(),
        chunks: manifest.chunk_count(),
        new_chunks: 0,
        new_bytes: 0,
        saved_bytes: manifest.size_bytes().saturating_sub(referenced_bytes),
        referenced_bytes,
        manifest,
        entry,
    })
}
