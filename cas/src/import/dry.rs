//! Reading a file as an import does, without storing it.

use std::collections::HashSet;
use std::path::Path;

use super::file::{FileIdentity, SourceFile};
use super::pipeline::{self, Sink};
use super::{ImportError, ImportOptions, ImportProgress, known, params_for};
use crate::error::StoreError;
use crate::id::ChunkHash;
use crate::manifest::Manifest;
use crate::store::Store;

/// What storing a file would add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportPlan {
    /// Bytes of the chunks that the store does not have, each counted once. Their records take a little more.
    pub new_bytes: u64,
    /// How many chunks these are.
    pub distinct_new_chunks: u32,
    /// Size of the file.
    pub size_bytes: u64,
    /// Whether `new_bytes` is more than the limit. The rest of the file was not looked at then, and may
    /// hold more of them.
    pub exceeded: bool,
}

/// Counts what [`import_file`](super::import_file) would add to the store, and stops as soon as that is
/// more than `limit_bytes`. Writes nothing.
///
/// Other imports and removals may make the answer untrue before it is used. A file that is here already
/// takes nothing, however it is cut.
///
/// # Errors
/// See [`ImportError`].
pub fn plan_file(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    limit_bytes: u64,
    progress: ImportProgress<'_>,
) -> Result<ImportPlan, ImportError> {
    let source = SourceFile::open(path)?;
    let mut plan = ImportPlan {
        new_bytes: 0,
        distinct_new_chunks: 0,
        size_bytes: source.identity.size_bytes,
        exceeded: false,
    };
    let hold = store.hold();
    if known::find(store, &hold, &source, options.placement, None, progress)?.is_some() {
        return Ok(plan);
    }
    drop(hold);
    // At most MAX_CHUNKS of them.
    let mut new = HashSet::new();
    let result = cut_file(&source, options, progress, &mut |chunk, _| {
        if !store.has(&chunk.hash)? && new.insert(chunk.hash) {
            plan.new_bytes += u64::from(chunk.len_bytes);
            plan.distinct_new_chunks += 1;
            plan.exceeded = plan.new_bytes > limit_bytes;
        }
        if plan.exceeded {
            return Err(ImportError::Cancelled);
        }
        Ok(())
    });
    match result {
        Err(ImportError::Cancelled) if plan.exceeded => Ok(plan),
        Err(error) => Err(error),
        Ok(_) => Ok(plan),
    }
}

/// Reads, cuts and hashes a file that stays where it is. `on_chunk` is told each chunk's hash, its offset
/// in the file and its length in bytes, in order and on a thread of its own; what it knows before this
/// returns must not be relied on, since the file may turn out to have changed.
///
/// The manifest and the identity belong together: the file had this identity before it was read and after.
///
/// # Errors
/// See [`ImportError`]; an error of `on_chunk` is passed on.
pub fn scan_file(
    path: &Path,
    options: &ImportOptions,
    on_chunk: &mut (dyn FnMut(ChunkHash, u64, u32) -> Result<(), StoreError> + Send),
    progress: ImportProgress<'_>,
) -> Result<(Manifest, FileIdentity), ImportError> {
    let source = SourceFile::open(path)?;
    let mut offset = 0;
    let manifest = cut_file(&source, options, progress, &mut |chunk, _| {
        on_chunk(chunk.hash, offset, chunk.len_bytes)?;
        offset += u64::from(chunk.len_bytes);
        Ok(())
    })?;
    Ok((manifest, source.identity))
}

fn cut_file(
    source: &SourceFile<'_>,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
    sink: Sink<'_>,
) -> Result<Manifest, ImportError> {
    let size_bytes = Some(source.identity.size_bytes);
    let params = params_for(options, size_bytes)?;
    let mut file = &source.file;
    let cut = pipeline::run(&mut file, size_bytes, params, progress, sink);
    let cut = cut.map_err(|error| source.name(error))?;
    source.check_unchanged(cut.proof.size_bytes())?;
    Ok(Manifest::new(params, cut.chunks, cut.proof)?)
}

#[cfg(test)]
mod tests;
