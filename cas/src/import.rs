//! From a file or a stream to chunks and a manifest, in one pass and constant memory.
//!
//! The caller's thread reads, cuts and hashes; a second one appends to the store; a third waits for the
//! disk. Between the first two is a bounded channel of chunks, and the buffers come back for reuse. The
//! file is recorded only when all of it was read and it did not change meanwhile.

mod error;
mod reader;

#[cfg(test)]
mod tests;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::chunker::{Chunker, ChunkerParams, Chunking, MAX_CHUNKS};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};
use crate::manifest::{ChunkRef, Manifest, ManifestError};
use crate::name::is_valid_hint;
use crate::proof::{ProofBuilder, ProofTree};
use crate::store::{FileEntry, Hold, Put, Store};

pub use self::error::ImportError;
use self::reader::ChunkReader;

/// Bytes of chunks that may wait between the two threads, unless a single chunk is larger.
const CHANNEL_BYTES: usize = 8 * 1024 * 1024;

/// Most chunks that may wait there.
const MAX_CHANNEL_CHUNKS: usize = 64;

/// New bytes after which a commit starts, so that the last one has little left to do.
const COMMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Called with the bytes done and, where it is known, the bytes in all; breaks to cancel.
pub type ImportProgress<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> ControlFlow<()>;

/// How a file is to be stored.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// How to cut it.
    pub chunking: Chunking,
    /// The name to remember; [`import_file`] takes the file's own when there is none.
    pub name: Option<String>,
    /// Keep it whatever the garbage collector and quota say.
    pub pinned: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            chunking: Chunking::Fixed,
            name: None,
            pinned: true,
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
    /// The entry in the store.
    pub entry: FileEntry,
}

/// Stores a regular file. Durable when it returns.
///
/// # Errors
/// See [`ImportError`]. After an error nothing is recorded, and what was written is given back.
pub fn import_file(
    store: &Store,
    path: &Path,
    options: &ImportOptions,
    progress: ImportProgress<'_>,
) -> Result<Imported, ImportError> {
    let (mut file, before) = open_regular(path)?;
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
    let result = import(
        store,
        &mut file,
        Some(before.len()),
        &options,
        progress,
        |bytes| {
            let after = file_state(path, &before)?;
            if after && bytes == before.len() {
                Ok(())
            } else {
                Err(ImportError::Changed {
                    path: path.to_owned(),
                })
            }
        },
    );
    result.map_err(|error| match error {
        ImportError::Read(source) => ImportError::Unreadable {
            path: path.to_owned(),
            source,
        },
        other => other,
    })
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

fn kind_of(data: &Metadata) -> &'static str {
    let kind = data.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_block_device() => "a block device",
        () if kind.is_char_device() => "a character device",
        () if kind.is_socket() => "a socket",
        () => "something else",
    }
}

/// Opens a regular file without ever waiting for the other end of a FIFO or waking a device.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), ImportError> {
    let refuse = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ImportError::NotFound {
            path: path.to_owned(),
        },
        _ => ImportError::Unreadable {
            path: path.to_owned(),
            source,
        },
    };
    let require_file = |data: &Metadata| {
        let kind = kind_of(data);
        data.is_file().then_some(()).ok_or(ImportError::NotAFile {
            path: path.to_owned(),
            kind,
        })
    };
    require_file(&std::fs::metadata(path).map_err(refuse)?)?;
    // Between the look and the open it may have become something else: hence without blocking.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(refuse)?;
    let data = file.metadata().map_err(refuse)?;
    require_file(&data)?;
    Ok((file, data))
}

/// Whether `path` is still the very file that it was.
fn file_state(path: &Path, before: &Metadata) -> Result<bool, ImportError> {
    let after = match std::fs::metadata(path) {
        Ok(after) => after,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(ImportError::Unreadable {
                path: path.to_owned(),
                source,
            });
        }
    };
    let identity = |data: &Metadata| {
        let modified = (
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
        );
        (data.dev(), data.ino(), data.len(), modified)
    };
    Ok(identity(&after) == identity(before))
}

/// What the reading side hands over.
struct CutChunk {
    hash: ChunkHash,
    bytes: Vec<u8>,
}

/// What the reading side knows in the end.
struct Cut {
    chunks: Vec<ChunkRef>,
    proof: ProofTree,
}

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
    if let Some(name) = options.name.as_ref().filter(|name| !is_valid_hint(name)) {
        return Err(ImportError::Name(name.clone()));
    }
    let params = options.chunking.params(size_bytes);
    let least_chunks = size_bytes
        .unwrap_or(0)
        .div_ceil(params.max_chunk_bytes().into());
    if usize::try_from(least_chunks).is_ok_and(|chunks| chunks > MAX_CHUNKS) {
        return Err(ImportError::TooLarge);
    }
    let hold = store.hold();
    let mut written = Written::default();
    let result = cut_and_write(
        store,
        reader,
        size_bytes,
        params,
        &hold,
        &mut written,
        progress,
    )
    .and_then(|cut| {
        check(cut.proof.size_bytes())?;
        let manifest = Manifest::new(params, cut.chunks, cut.proof)?;
        let entry = store.add_file(&manifest, options.name.as_deref(), options.pinned)?;
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
        let gone: std::collections::HashSet<_> = dropped.freed_chunks.into_iter().collect();
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
        manifest,
        entry,
    })
}

fn cut_and_write(
    store: &Store,
    reader: &mut dyn Read,
    total: Option<u64>,
    params: ChunkerParams,
    hold: &Hold,
    written: &mut Written,
    progress: ImportProgress<'_>,
) -> Result<Cut, ImportError> {
    let chunker = Chunker::new(params).ok_or(ManifestError::Params)?;
    let depth = (CHANNEL_BYTES / chunker.needed_bytes()).clamp(1, MAX_CHANNEL_CHUNKS);
    let (full, filled) = sync_channel(depth);
    let (empty, emptied) = sync_channel(depth + 2);
    thread::scope(|scope| {
        let (dirty, commits) = sync_channel(1);
        let committer = scope.spawn(move || commits.into_iter().try_for_each(|()| store.commit()));
        let writer =
            scope.spawn(move || write_chunks(store, hold, written, filled, &empty, &dirty));
        let cut = cut_chunks(reader, total, chunker, full, &emptied, progress);
        let joined = [committer.join(), writer.join()];
        for result in joined {
            match result {
                // The reading side stops when the writer does, the writer when a commit failed: the
                // first reason of these is the reason.
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        cut
    })
}

/// The writing thread. Ends when the reading side is done, or with the first error.
fn write_chunks(
    store: &Store,
    hold: &Hold,
    written: &mut Written,
    filled: Receiver<CutChunk>,
    empty: &SyncSender<Vec<u8>>,
    dirty: &SyncSender<()>,
) -> Result<(), StoreError> {
    let mut uncommitted_bytes = 0;
    for CutChunk { hash, bytes } in filled {
        hold.add(hash);
        if store.put(&hash, &bytes)? == Put::New {
            written.new.push(hash);
            written.new_bytes += bytes.len() as u64;
            uncommitted_bytes += bytes.len() as u64;
        }
        // Full when the reading side has not taken the last ones: then this one is not needed.
        let _ = empty.try_send(bytes);
        if uncommitted_bytes >= COMMIT_BYTES {
            // Full when a commit is running and the next one asked for: that one will do.
            let _ = dirty.try_send(());
            uncommitted_bytes = 0;
        }
    }
    Ok(())
}

/// The reading side. Dropping `full` on return ends the writing thread.
fn cut_chunks(
    reader: &mut dyn Read,
    total: Option<u64>,
    chunker: Chunker,
    full: SyncSender<CutChunk>,
    emptied: &Receiver<Vec<u8>>,
    progress: ImportProgress<'_>,
) -> Result<Cut, ImportError> {
    let mut source = ChunkReader::new(reader, chunker);
    let mut proof = ProofBuilder::new();
    let mut chunks = Vec::new();
    let mut done_bytes = 0u64;
    if progress(0, total).is_break() {
        return Err(ImportError::Cancelled);
    }
    while let Some(found) = source.next_chunk().map_err(ImportError::Read)? {
        if chunks.len() == MAX_CHUNKS {
            return Err(ImportError::TooLarge);
        }
        let hash = ChunkHash::of(found);
        proof.update(found);
        // At most MAX_CHUNK_BYTES.
        let len_bytes = u32::try_from(found.len()).unwrap_or(u32::MAX);
        chunks.push(ChunkRef { hash, len_bytes });
        let mut bytes = emptied.try_recv().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(found);
        if full.send(CutChunk { hash, bytes }).is_err() {
            // The writer failed, and its error is the one that is reported.
            return Err(ImportError::Cancelled);
        }
        done_bytes += u64::from(len_bytes);
        if progress(done_bytes, total).is_break() {
            return Err(ImportError::Cancelled);
        }
    }
    Ok(Cut {
        chunks,
        proof: proof.finish(),
    })
}
