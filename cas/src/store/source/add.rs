//! Recording a file with a source.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::super::clones::{NewClone, is_clone};
use super::super::core::{Committed, Core};
use super::super::entry::{
    self, Claim, Extent, FileEntry, FileSource, FileState, Place, SourceFile, SourceKind,
    SourceState,
};
use super::super::flush::Extra;
use super::super::replace::Replacement;
use crate::error::StoreError;
use crate::id::ChunkHash;
use crate::import::FileIdentity;
use crate::manifest::Manifest;
use crate::store::{Store, lock};

/// A file was recorded with a source.
pub(crate) struct Added {
    pub(crate) entry: FileEntry,
    /// Chunks that are read from the source.
    pub(crate) chunks: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Added {
    /// All of it was here.
    fn nothing(entry: FileEntry) -> Self {
        Self {
            entry,
            chunks: 0,
            bytes: 0,
        }
    }
}

/// The chunks that a new source is to hold.
#[derive(Default)]
pub(in crate::store) struct Sourced {
    /// Those that are not here.
    pub(in crate::store) absent: Vec<(ChunkHash, Extent)>,
    /// Those that were read from elsewhere, and from where.
    pub(in crate::store) moved: Vec<(ChunkHash, Place, Place)>,
}

/// The chunks of a file that is a source, each once, with their places.
pub(in crate::store) fn extents(manifest: &Manifest, source: u32) -> Vec<(ChunkHash, Extent)> {
    let mut seen = HashSet::new();
    let mut offset = 0;
    let mut extents = Vec::new();
    for chunk in manifest.chunks() {
        let extent = Extent {
            source,
            offset,
            len_bytes: chunk.len_bytes,
        };
        offset += u64::from(chunk.len_bytes);
        if seen.insert(chunk.hash) {
            extents.push((chunk.hash, extent));
        }
    }
    extents
}

impl Core {
    fn add_source(
        &self,
        committed: &mut Committed,
        manifest: &Manifest,
        source: FileSource,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Added, StoreError> {
        let address = manifest.address();
        if let Some(old) = self.file(&address)?.and_then(|file| file.source) {
            let state = self.look(&old);
            if state != SourceState::Intact {
                self.lose_source_locked(committed, &address, state)?;
            }
        }
        if let Some(old) = self.file(&address)?
            && old.state == FileState::Complete
            && self.is_whole(&old)?
        {
            let entry = self.update_entry(committed, &address, name, claim)?;
            return Ok(Added::nothing(entry));
        }
        let new = Replacement::new(manifest, name, claim, FileState::Complete);
        let id = source.file.id;
        let sourced = self.not_here(manifest, id)?;
        if sourced.absent.is_empty() && sourced.moved.is_empty() {
            let entry = self.replace(committed, new)?;
            return Ok(Added::nothing(entry));
        }
        let chunks = sourced.absent.len() + sourced.moved.len();
        committed.ledger.add_source(id, address);
        let entry = match self.replace(committed, new.in_source(source, sourced)) {
            Ok(entry) => entry,
            Err(error) => {
                committed.ledger.forget_source(id);
                return Err(error);
            }
        };
        let account = committed.ledger.sources().get(&id);
        Ok(Added {
            entry,
            chunks,
            bytes: account.map_or(0, |account| account.live_bytes),
        })
    }

    /// What of a manifest is to be read from a source. A clone takes over from files in place: what is
    /// stored must not hang on a file that is somebody else's.
    fn not_here(&self, manifest: &Manifest, source: u32) -> Result<Sourced, StoreError> {
        let mut sourced = Sourced::default();
        for (hash, extent) in extents(manifest, source) {
            let chunk = self.indexed(&hash)?.filter(|chunk| !chunk.bad);
            match chunk.map(|chunk| chunk.place) {
                None => sourced.absent.push((hash, extent)),
                Some(place @ Place::Source(at)) if is_clone(source) && !is_clone(at.source) => {
                    sourced.moved.push((hash, place, Place::Source(extent)));
                }
                Some(_) => {}
            }
        }
        Ok(sourced)
    }
}

impl Store {
    /// Records a file that stays at `path`, whose bytes the caller has just found to be what the manifest
    /// says: chunks that the store does not have are read from there. Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn adopt_in_place(
        &self,
        manifest: &Manifest,
        path: &Path,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let data = std::fs::metadata(path).map_err(StoreError::io("look at", path))?;
        self.add_in_place(manifest, path, &FileIdentity::of(&data), name, claim)
            .map(|added| added.entry)
    }

    /// The same for a file whose identity is known.
    pub(crate) fn add_in_place(
        &self,
        manifest: &Manifest,
        path: &Path,
        identity: &FileIdentity,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Added, StoreError> {
        let core = &self.core;
        let path =
            std::path::absolute(path).map_err(StoreError::io("make an absolute path of", path))?;
        if path.as_os_str().len() > entry::MAX_PATH_BYTES {
            return Err(StoreError::Io {
                action: "keep in place",
                path,
                source: io::ErrorKind::InvalidFilename.into(),
            });
        }
        let mut committed = lock(&core.commit);
        core.flush(&mut committed, Extra::default())?;
        let mut numbers = committed.ledger.sources().keys();
        let last = numbers.rfind(|number| !is_clone(**number)).copied();
        let number = core.sources.new_number(last);
        let source = FileSource {
            kind: SourceKind::InPlace,
            path,
            state: SourceState::Intact,
            file: SourceFile::of(number, identity),
        };
        core.add_source(&mut committed, manifest, source, name, claim)
    }

    /// Records a file whose clone was just read.
    pub(crate) fn add_clone(
        &self,
        manifest: &Manifest,
        clone: &NewClone,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Added, StoreError> {
        let core = &self.core;
        let mut committed = lock(&core.commit);
        core.flush(&mut committed, Extra::default())?;
        let source = FileSource {
            kind: SourceKind::Clone,
            path: PathBuf::new(),
            state: SourceState::Intact,
            file: SourceFile::of(clone.number, &clone.identity),
        };
        core.add_source(&mut committed, manifest, source, name, claim)
    }
}
