//! What is here when a download begins.

use std::{collections::HashMap, path::Path};

use casnode_cas::{
    Assembly, Claim, ExportError, FileState, HaveBitmap, Manifest, Store, StoreError,
};

use super::place::Place;
use crate::room;

/// On demand room is made for so much at a time.
pub(super) const ROOM_BYTES: u64 = 32 << 20;

/// Smaller files are put into packs: one that shares blocks is a file of its own, to be synced and looked up.
const MIN_SHARED_BYTES: u64 = 1 << 20;

/// A download that has begun.
pub(super) struct Begun {
    /// The chunks that are thought to be here; the assembler reads each of them.
    pub(super) here: HaveBitmap,
    /// What is written to.
    pub(super) output: Option<Output>,
    /// The store had the whole file under this manifest, whatever has become of its chunks since.
    pub(super) was_whole: bool,
    /// Chunks that are kept in files of the user's are copied into packs.
    pub(super) copies: bool,
}

/// What a download writes to.
#[derive(Debug)]
pub(super) enum Output {
    /// The output itself.
    Plain(Assembly),
    /// A file of the store, from which the output takes its blocks in the end, if there is one.
    Stored {
        file: Assembly,
        target: Option<Assembly>,
    },
}

impl Output {
    /// What is written to.
    pub(super) fn written(&self) -> &Assembly {
        match self {
            Self::Plain(file) | Self::Stored { file, .. } => file,
        }
    }

    pub(super) fn written_mut(&mut self) -> &mut Assembly {
        match self {
            Self::Plain(file) | Self::Stored { file, .. } => file,
        }
    }

    /// What the file is to be called, if it is to be called anything.
    pub(super) fn target_mut(&mut self) -> Option<&mut Assembly> {
        match self {
            Self::Plain(file) => Some(file),
            Self::Stored { target, .. } => target.as_mut(),
        }
    }

    /// What is left of it when no output is to be made after all.
    pub(super) fn for_store(self) -> Option<Self> {
        match self {
            Self::Plain(file) => {
                file.discard();
                None
            }
            Self::Stored { file, target } => {
                target.into_iter().for_each(Assembly::discard);
                Some(Self::Stored { file, target: None })
            }
        }
    }

    /// The store takes it over in the end.
    pub(super) fn is_stores(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// All of it is there: the output comes to its place.
    pub(super) fn finish(self) -> Result<(), ExportError> {
        match self {
            Self::Plain(file) => file.finish(),
            Self::Stored { file, target: None } => file.flush(),
            Self::Stored {
                file,
                target: Some(target),
            } => {
                if !target.take_over(&file)? {
                    tracing::debug!("the output was copied: no blocks are shared there");
                }
                target.finish()
            }
        }
    }
}

/// Enters the download of a file in the store, and sees what is here of it: its chunks, of whatever file, and what an
/// earlier output left. Where little of it will be fetched, on demand, there is not made room for all of it.
pub(super) fn begin(
    store: &Store,
    manifest: &Manifest,
    name: Option<&str>,
    (place, claim): (Place, Claim),
    is_on_demand: bool,
    output: Option<Assembly>,
) -> Result<Begun, StoreError> {
    let before = store.file(&manifest.address())?;
    let was_whole =
        before.is_some_and(|e| e.state == FileState::Complete && e.manifest == manifest.id());
    store.begin_partial(manifest, name, claim)?;
    store.touch(&manifest.address())?;
    let copies = place == Place::Copy || place == Place::Store && !was_whole && !is_on_demand;
    let mut here = store.have(manifest)?;
    let mut stays = match copies {
        true => own(store, manifest, &here)?,
        false => here.clone(),
    };
    let is_for_store = place.is_in_store() && !was_whole;
    let output = if is_for_store && is_written_once(store, manifest, &here, output.as_ref()) {
        into_store(store, manifest, output)
    } else {
        output.map(Output::Plain)
    };
    let resumed = output.as_ref().map(Output::written);
    if let Some(resumed) = resumed.filter(|o| o.is_resumed()) {
        let missing: Vec<usize> = here.iter_zeros().collect();
        for index in missing {
            if resumed.has_data(manifest.chunk_range(index)) {
                here.set(index);
            }
        }
    }
    if output.as_ref().is_some_and(Output::is_stores) {
        stays = here.clone(); // what it has occupies its space, and takes over from files of others'
    }
    if place.is_in_store() && !stays.is_complete() {
        let missing_bytes = missing_bytes(manifest, &stays);
        let most_bytes = if is_on_demand { ROOM_BYTES } else { u64::MAX };
        room::make(store, missing_bytes.min(most_bytes))?;
    }
    Ok(Begun {
        here,
        output,
        was_whole,
        copies,
    })
}

/// Of the chunks that are here, those that stay whatever becomes of the files of others.
fn own(store: &Store, manifest: &Manifest, here: &HaveBitmap) -> Result<HaveBitmap, StoreError> {
    let mut own = HaveBitmap::new(manifest.chunks().len());
    for index in here.iter_ones() {
        if store.has_own(&manifest.chunks()[index].hash)? {
            own.set(index);
        }
    }
    Ok(own)
}

/// Whether what comes is written to a file of the store, which shares its blocks with the output: where that can be,
/// and the store does not have most of it elsewhere. What was begun so is gone on with so, wherever it goes now.
fn is_written_once(
    store: &Store,
    manifest: &Manifest,
    here: &HaveBitmap,
    output: Option<&Assembly>,
) -> bool {
    if store.has_unfinished(&manifest.address()) {
        return true;
    }
    let Some(folder) = output.and_then(|o| o.target().parent()) else {
        return false;
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let missing_bytes = missing_bytes(manifest, here);
    missing_bytes >= MIN_SHARED_BYTES
        && missing_bytes >= manifest.size_bytes() / 2
        && store.shares_blocks_with(folder)
}

fn into_store(store: &Store, manifest: &Manifest, target: Option<Assembly>) -> Option<Output> {
    match store.begin_unfinished(&manifest.address(), manifest.size_bytes()) {
        Ok(Some(file)) => Some(Output::Stored { file, target }),
        Ok(None) => target.map(Output::Plain),
        Err(error) => {
            tracing::warn!(%error, "each byte is written twice: no file can be begun in the store");
            target.map(Output::Plain)
        }
    }
}

/// Bytes that the store lacks of a file, equal chunks counted once.
fn missing_bytes(manifest: &Manifest, here: &HaveBitmap) -> u64 {
    let missing = here.iter_zeros().map(|i| &manifest.chunks()[i]);
    let distinct: HashMap<_, _> = missing.map(|c| (c.hash, u64::from(c.len_bytes))).collect();
    distinct.values().sum()
}
