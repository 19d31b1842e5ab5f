//! From a file or a stream to chunks and a manifest, in one pass and constant memory.
//!
//! The `pipeline` reads, cuts and hashes on three threads; what comes out is appended to the store here,
//! while one more thread waits for the disk. The file is recorded only when all of it was read and it did
//! not change meanwhile. `dry` reads in the same way and stores nothing; `known` sees first whether a file
//! is here already.

mod address;
mod clone;
mod dry;
mod error;
mod file;
mod in_place;
mod known;
mod memory;
mod pipeline;
mod small;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::thread;

use crate::chunker::{ChunkerParams, Chunking, MAX_CHUNKS};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::{ChunkRef, Manifest};
use crate::name::is_valid_hint;
use crate::store::{Claim, FileEntry, Hold, Put, Store};

pub(crate) use self::address::{address_of_file, address_of_open};
pub use self::dry::{ImportPlan, plan_file, scan_file};
pub use self::error::ImportError;
pub use self::file::FileIdentity;
use self::file::SourceFile;
pub(crate) use self::file::open_regular;
use self::pipeline::{Cut, Sink};
pub use self::small::read_small_file;

/// New bytes after which a commit starts, so that the last one has little left to do.
const COMMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Called with the bytes done and, where it is known, the bytes in all; breaks to cancel. When a file is
/// read twice, the bytes done begin at 0 again.
pub type ImportProgress<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> ControlFlow<()>;

/// Where the bytes of a stored file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Copied into the store; where the file system can, by sharing blocks, which costs no space.
    #[default]
    Copy,
    /// In the file itself, which must not be changed from then on: the store keeps references, checks
    /// every read, and gives the file up when it changes. For [`import_file`] only.
    InPlace,
}

/// How a file is to be stored.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// How to cut it.
    pub chunking: Chunking,
    /// The name to remember; [`import_file`] takes the file's own when there is none.
    pub name: Option<String>,
    /// What keeps it, beside the directories that list it.
    pub claim: Claim,
    /// Where its bytes are to be.
    pub placement: Placement,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            chunking: Chunking::Fixed,
            name: None,
            claim: Claim::Pinned,
            placement: Placement::Copy,
        }
    }
}

/// A stored file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// BLAKE3 of the file.
    pub address: Address,
    /// The manifest under which it is stored: an older one, if the file was here already.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub bytes: u64,
    /// Chunks in the manifest.
    pub chunks: u32,
    /// Chunks that were not in the store before.
    pub new_chunks: u32,
    /// Bytes of those.
    pub new_bytes: u64,
    /// The other bytes of the file: of chunks that were here already, or that the file repeats.
    pub saved_bytes: u64,
    /// Bytes of chunks that stay in the file itself.
    pub referenced_bytes: u64,
    /// The entry in the store.
    pub entry: FileEntry,
}

/// Stores a regular file. Durable when it returns.
///
/// A file that is here already is hashed once, and nothing is written but a new name or pin. To find out,
/// a file is hashed before it is stored when a file of the same size is here: one pass more than needed
/// when that proves to be another one. A file of at most 1 MiB always is.
///
/// # Errors
/// See [`ImportError`]. After an error nothing is recorded, and what was written is given back.
pub fn import_file(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    import_one(store, path, options, None, progress)
}

/// The same for a caller who stores many files and knows the sizes of all that are here: whether one of them may be this
/// file is then no question to every entry of the store. A size too many or too few costs time or space for a while, and
/// nothing else.
///
/// # Errors
/// See [`ImportError`]. After an error nothing is recorded, and what was written is given back.
pub fn import_file_among(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    sizes: &HashSet<u64>,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    import_one(store, path, options, Some(sizes), progress)
}

fn import_one(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    sizes: Option<&HashSet<u64>>,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    let own_name = || {
        path.file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
    };
    let name = options.name.clone().or_else(own_name);
    let options = ImportOptions {
        name,
        ..options.clone()
    };
    check_name(&options)?;
    let source = SourceFile::open(path)?;
    if let Some(imported) = known::import(store, &source, &options, sizes, progress)? {
        return Ok(imported);
    }
    if options.placement == Placement::InPlace {
        return in_place::import(store, path, &options, progress);
    }
    if let Some(imported) = clone::import(store, &source, &options, progress)? {
        return Ok(imported);
    }
    let size_bytes = Some(source.identity.size_bytes);
    let unchanged = |bytes| source.check_unchanged(bytes);
    let mut file = &source.file;
    import(store, &mut file, size_bytes, &options, progress, unchanged)
        .map_err(|error| source.name(error))
}

/// Stores what `reader` gives until its end. `size_bytes`, where known, chooses the chunk size and
/// serves the progress; it need not be right.
///
/// A read that blocks cannot be cancelled: the caller's thread is the one that reads.
///
/// # Errors
/// See [`ImportError`]. After an error nothing is recorded, and what was written is given back.
pub fn import_reader(
    store: &Store,
    reader: &mut dyn Read,
    size_bytes: Option<u64>,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    import(store, reader, size_bytes, options, progress, |_| Ok(()))
}

fn check_name(options: &ImportOptions) -> Result<(), ImportError> {
    match options.name.as_ref().filter(|name| !is_valid_hint(name)) {
        Some(name) => Err(ImportError::Name(name.clone())),
        None => Ok(()),
    }
}

/// How a file of this size is cut, unless a manifest could not list it.
fn params_for(
    options: &ImportOptions,
    size_bytes: Option<u64>,
) -> Result<ChunkerParams, ImportError> {
    let params = options.chunking.params(size_bytes);
    let least_chunks = size_bytes
        .unwrap_or(0)
        .div_ceil(params.max_chunk_bytes().into());
    if usize::try_from(least_chunks).is_ok_and(|chunks| chunks > MAX_CHUNKS) {
        return Err(ImportError::TooLarge);
    }
    Ok(params)
}

/// What an import has added to the store so far.
#[derive(Default)]
struct Written {
    new: Vec<ChunkHash>,
    new_bytes: u64,
}

fn import(
    store: &Store,
    reader: &mut dyn Read,
    size_bytes: Option<u64>,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
    check: impl FnOnce(u64) -> Result<(), ImportError>,
) -> Result<Imported, ImportError> {
    check_name(options)?;
    let params = params_for(options, size_bytes)?;
    let hold = store.hold();
    let mut written = Written::default();
    let result = cut_and_write(store, &hold, &mut written, |sink| {
        pipeline::run(reader, size_bytes, params, progress, sink)
    })
    .and_then(|cut| {
        check(cut.proof.size_bytes())?;
        let manifest = Manifest::new(params, cut.chunks, cut.proof)?;
        let entry = store.add_file(&manifest, options.name.as_deref(), options.claim)?;
        Ok((manifest, entry))
    });
    drop(hold);
    let (cut_as, entry) = match result {
        Ok(done) => done,
        Err(error) => {
            if let Err(error) = store.drop_unreferenced(&written.new) {
                tracing::warn!(%error, "an unfinished import leaves unused chunks behind");
            }
            return Err(error);
        }
    };
    let manifest = if entry.manifest == cut_as.id() {
        cut_as
    } else {
        // The file was here, cut differently: what this import wrote is of no use.
        let dropped = store.drop_unreferenced(&written.new)?;
        let gone: HashSet<_> = dropped.freed_chunks.into_iter().collect();
        written.new.retain(|hash| !gone.contains(hash));
        written.new_bytes = written.new_bytes.saturating_sub(dropped.freed_bytes);
        let stored = store.manifest(&entry.address)?;
        stored.ok_or(StoreError::UnknownFile(entry.address))?
    };
    Ok(Imported {
        address: entry.address,
        bytes: manifest.size_bytes(),
        chunks: manifest.chunk_count(),
        new_chunks: u32::try_from(written.new.len()).unwrap_or(u32::MAX),
        new_bytes: written.new_bytes,
        saved_bytes: manifest.size_bytes().saturating_sub(written.new_bytes),
        referenced_bytes: 0,
        manifest,
        entry,
    })
}

/// Appends the chunks that `run` gives to its sink; commits go on beside it.
fn cut_and_write(
    store: &Store,
    hold: &Hold,
    written: &mut Written,
    run: impl FnOnce(Sink<'_>) -> Result<Cut, ImportError>,
) -> Result<Cut, ImportError> {
    thread::scope(|scope| {
        // One commit may wait while another one runs: it covers all that is put until it begins.
        let (due, commits) = sync_channel(1);
        let committer = scope.spawn(move || commits.into_iter().try_for_each(|()| store.commit()));
        let mut uncommitted_bytes = 0;
        let mut write = |chunk: ChunkRef, bytes: &[u8]| {
            hold.add(chunk.hash);
            if store.put(&chunk.hash, bytes)? == Put::New {
                written.new.push(chunk.hash);
                written.new_bytes += u64::from(chunk.len_bytes);
                uncommitted_bytes += u64::from(chunk.len_bytes);
            }
            if uncommitted_bytes >= COMMIT_BYTES {
                uncommitted_bytes = 0;
                match due.try_send(()) {
                    Ok(()) | Err(TrySendError::Full(())) => {}
                    // A commit failed, and its error is the one that is reported.
                    Err(TrySendError::Disconnected(())) => return Err(ImportError::Cancelled),
                }
            }
            Ok(())
        };
        let cut = run(&mut write);
        drop(due);
        let committed = committer.join();
        committed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        cut
    })
}
