//! `ls`, `stat`, `rm`: what is here.

use std::sync::Arc;

use casnode_cas::{
    Address, ChunkerParams, FileEntry, FileState, Manifest, SourceKind, SourceState, Store,
    StoreError,
};

use super::seed::seed_report;
use crate::{
    api::{
        ApiError, DirectoryInfo, ErrorKind, FileInfo, FileStat, Outcome, Response, RmReport,
        events::EventSink,
    },
    errors,
    node::Node,
    publish,
    tasks::blocking,
    upkeep,
};

pub(super) async fn ls(node: &Arc<Node>, all: bool, events: &EventSink) -> Outcome {
    look_at_sources(node, events).await?;
    let files = on_store(node, move |store| {
        let files = match all {
            true => store.files()?,
            false => store.own_files()?,
        };
        infos(store, files)
    });
    Ok(Response::Ls {
        files: files.await?,
    })
}

/// Entries as they are told, the oldest first.
pub(super) fn infos(store: &Store, mut files: Vec<FileEntry>) -> Result<Vec<FileInfo>, StoreError> {
    files.sort_by_key(|f| (f.stored_unix_ms, f.address));
    files.iter().map(|file| info(store, file)).collect()
}

/// Where no daemon looks after files kept in place, whoever asks what is here does.
async fn look_at_sources(node: &Arc<Node>, events: &EventSink) -> Result<(), ApiError> {
    if node.serve_dht || node.store.is_read_only() {
        return Ok(());
    }
    for lost in on_store(node, upkeep::look_at_sources).await? {
        events.warn(lost.told()).await;
    }
    Ok(())
}

pub(super) async fn stat(node: &Arc<Node>, address: &str, events: &EventSink) -> Outcome {
    let address: Address = super::parse("an address", address)?;
    look_at_sources(node, events).await?;
    let here = node.clone();
    let found = on_store(node, move |store| {
        let Some(entry) = store.file(&address)? else {
            return Ok(None);
        };
        let Some(manifest) = store.manifest(&address)? else {
            return Ok(None);
        };
        let have = store.have(&manifest)?;
        let bytes_here = have
            .iter_ones()
            .map(|i| u64::from(manifest.chunks()[i].len_bytes))
            .sum();
        Ok(Some(FileStat {
            file: info(store, &entry)?,
            chunks_here: u32::try_from(have.count()).unwrap_or(u32::MAX),
            bytes_here,
            chunker: chunker(&manifest),
            manifest: manifest.id().to_string(),
            seed: seed_report(&here, &address, entry.size_bytes),
        }))
    })
    .await?;
    found.map(Response::Stat).ok_or_else(|| not_here(&address))
}

/// Removes a file that is not to stay. What goes wrong costs room alone.
pub(super) async fn drop_file(node: &Arc<Node>, address: Address) {
    match on_store(node, move |store| store.remove_file(&address)).await {
        Ok(Some(removed)) => {
            if let Err(error) = publish::withdraw(node, &removed.files, &removed.freed_chunks).await
            {
                tracing::warn!(%error, "a removed file's keys stay scheduled until the next start");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "a file that was not to stay was not removed"),
    }
}

pub(super) async fn rm(node: &Arc<Node>, address: &str) -> Outcome {
    let address: Address = super::parse("an address", address)?;
    if node.downloads.is_running(&address) {
        return Err(ApiError::new(
            ErrorKind::Busy,
            format!("{address} was not removed"),
            "it is being fetched right now",
            "stop that get first, or wait for it",
        ));
    }
    let removed = on_store(node, move |store| store.remove_file(&address)).await?;
    let removed = removed.ok_or_else(|| not_here(&address))?;
    (removed.files.iter()).for_each(|address| node.seeding.forget(address));
    if let Err(error) = publish::withdraw(node, &removed.files, &removed.freed_chunks).await {
        tracing::warn!(%error, "a removed file's keys stay scheduled until the next start");
    }
    Ok(Response::Rm(RmReport {
        address: address.to_string(),
        freed_chunks: removed.freed_chunks.len() as u64,
        freed_bytes: removed.freed_bytes,
    }))
}

pub(super) fn not_here(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        format!("{address} is not here"),
        "no file of this data directory has that address",
        "see `casnode ls`, or fetch it with `casnode get`",
    )
}

/// An entry as it is told.
fn info(store: &Store, entry: &FileEntry) -> Result<FileInfo, StoreError> {
    let directory = match entry.directory {
        true => store.directory_size(&entry.address)?,
        false => None,
    };
    // A clone is the store's own, and nobody's to look after.
    let source = entry.source.as_ref();
    let in_place = source.filter(|source| source.kind == SourceKind::InPlace);
    Ok(FileInfo {
        address: entry.address.to_string(),
        name: entry.name.clone(),
        bytes: entry.size_bytes,
        chunks: entry.chunk_count,
        state: match entry.state {
            FileState::Complete => "complete".to_owned(),
            _ => "partial".to_owned(),
        },
        pinned: entry.is_pinned(),
        stored_unix_ms: entry.stored_unix_ms,
        last_used_unix_ms: entry.last_used_unix_ms,
        in_place: in_place.map(|source| source.path.display().to_string()),
        source_state: in_place.map(|source| source_state(source.state).to_owned()),
        directory: directory.map(|size| DirectoryInfo {
            files: size.files,
            bytes: size.bytes,
        }),
    })
}

/// What became of a file that is kept in place, in a word.
pub(crate) fn source_state(state: SourceState) -> &'static str {
    match state {
        SourceState::Intact => "intact",
        SourceState::Missing => "missing",
        _ => "changed",
    }
}

fn chunker(manifest: &Manifest) -> String {
    chunker_text(manifest.params())
}

/// How a file was cut, in words with numbers.
pub(super) fn chunker_text(params: ChunkerParams) -> String {
    match params {
        ChunkerParams::Fixed { chunk_bytes } => format!("fixed, {} KiB", chunk_bytes >> 10),
        ChunkerParams::FastCdc {
            min_bytes,
            avg_bytes,
            max_bytes,
        } => {
            format!(
                "fastcdc, {}/{}/{} KiB",
                min_bytes >> 10,
                avg_bytes >> 10,
                max_bytes >> 10
            )
        }
        other => format!("{other:?}"),
    }
}

/// Work with the store, on a thread that may wait for the disk.
pub(super) async fn on_store<T: Send + 'static>(
    node: &Arc<Node>,
    work: impl FnOnce(&casnode_cas::Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = node.store.clone();
    let done = blocking(move || work(&store))
        .await
        .map_err(errors::panicked)?;
    done.map_err(|e| errors::store("the store could not be used", &e))
}
