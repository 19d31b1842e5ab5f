//! What is here when a download begins.

use std::collections::HashMap;

use casnode_cas::{Assembly, FileState, HaveBitmap, Manifest, Store, StoreError};

use crate::{api::Keep, room};

/// A download that has begun.
pub(super) struct Begun {
    /// The chunks that are thought to be here; the assembler reads each of them.
    pub(super) here: HaveBitmap,
    pub(super) output: Option<Assembly>,
    /// The store had the whole file under this manifest, whatever has become of its chunks since.
    pub(super) was_whole: bool,
}

/// Enters the download of a file in the store, and sees what is here of it: its chunks, of whatever file, and what an
/// earlier output left.
pub(super) fn begin(
    store: &Store,
    manifest: &Manifest,
    name: Option<&str>,
    keep: Keep,
    output: Option<Assembly>,
) -> Result<Begun, StoreError> {
    let before = store.file(&manifest.address())?;
    let was_whole =
        before.is_some_and(|e| e.state == FileState::Complete && e.manifest == manifest.id());
    store.begin_partial(manifest, name)?;
    store.touch(&manifest.address())?;
    let mut here = store.have(manifest)?;
    if keep == Keep::Store && !here.is_complete() {
        room::make(store, missing_bytes(manifest, &here))?;
    }
    if let Some(output) = output.as_ref().filter(|o| o.is_resumed()) {
        let missing: Vec<usize> = here.iter_zeros().collect();
        for index in missing {
            if output.has_data(manifest.chunk_range(index)) {
                here.set(index);
            }
        }
    }
    Ok(Begun {
        here,
        output,
        was_whole,
    })
}

/// Bytes that the store lacks of a file, equal chunks counted once.
fn missing_bytes(manifest: &Manifest, here: &HaveBitmap) -> u64 {
    let missing = here.iter_zeros().map(|i| &manifest.chunks()[i]);
    let distinct: HashMap<_, _> = missing.map(|c| (c.hash, u64::from(c.len_bytes))).collect();
    distinct.values().sum()
}
