//! Reading ranges of a file: what is here from the store, and what is not from the network, no more than is needed.
//!
//! [`readers`] is who reads a file and where, shared with its downloads; [`fetch`] is the download for readers alone.
//! [`cover`] says which chunks prove a range, and [`range`] hands its bytes out in order, each proven before.

mod cover;
mod fetch;
mod range;
mod readers;
#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{Address, FileState, Listing, MAX_LISTING_BYTES, Manifest, StoreError};
use casnode_dht::Multiaddr;
use tokio::sync::watch;

pub(crate) use self::{
    cover::chunks_of,
    range::RangeReader,
    readers::{Readers, Table},
};
use self::{range::Source, readers::Reader};
use crate::{
    api::{ApiError, ErrorKind, events::EventSink},
    clock, errors,
    node::Node,
    tasks::blocking,
};

/// How a file is opened.
#[derive(Debug, Default)]
pub(crate) struct ReadOptions {
    /// Peers that may have it.
    pub(crate) hints: Vec<Multiaddr>,
    /// Give up at this moment, whatever was read; without it, when nothing comes any more.
    pub(crate) deadline: Option<Instant>,
    /// How long its published name is waited for, once its size is known.
    pub(crate) name_patience: Duration,
}

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    node: Arc<Node>,
    address: Address,
    size_bytes: u64,
    name: Option<String>,
    source: Source,
    deadline: Option<Instant>,
    /// While the file is open its download goes on, and it does not make room for others.
    reader: Arc<Reader>,
    _in_use: Arc<casnode_cas::InUse>,
}

impl OpenFile {
    /// Finds out how long a file is and what it is called: from the store, or else from the network.
    ///
    /// # Errors
    /// As of `get`: `NotFound`, `TimedOut`, `Integrity`; `Busy` when too many read it.
    pub(crate) async fn open(
        node: &Arc<Node>,
        address: Address,
        options: ReadOptions,
        events: &EventSink,
    ) -> Result<Self, ApiError> {
        let in_use = Arc::new(node.store.in_use(&address));
        let reader = node.downloads.readers(&address).enter(&options.hints)?;
        let (source, manifest, name) = match stored(node, address).await? {
            Some(stored) => stored,
            None => {
                let manifest = announced(node, address, &reader, &options, events).await?;
                let name = published_name(&reader, options.name_patience).await;
                (Source::Fetched, manifest, name)
            }
        };
        Ok(Self {
            node: node.clone(),
            address,
            size_bytes: manifest.size_bytes(),
            name,
            source,
            deadline: options.deadline,
            reader: Arc::new(reader),
            _in_use: in_use,
        })
    }

    /// The file's length.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The name that it is published with; made by whoever published it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Reads these bytes of it; those beyond its end are left out.
    ///
    /// # Errors
    /// `Busy` when too many read the file.
    pub(crate) fn read(&self, bytes: Range<u64>) -> Result<RangeReader, ApiError> {
        RangeReader::new(self, bytes)
    }

    /// The same in memory, for a range that is known to be short.
    ///
    /// # Errors
    /// Those of [`RangeReader::next`], too.
    pub(crate) async fn read_all(&self, bytes: Range<u64>) -> Result<Vec<u8>, ApiError> {
        let mut reader = self.read(bytes)?;
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// What is in it, if it is a directory; `None` for any other file.
    ///
    /// # Errors
    /// Those of [`RangeReader::next`].
    pub(crate) async fn listing(&self) -> Result<Option<Listing>, ApiError> {
        if self.size_bytes > MAX_LISTING_BYTES as u64 {
            return Ok(None);
        }
        let bytes = self.read_all(0..self.size_bytes).await?;
        let decoded = blocking(move || Listing::decode(&bytes)).await;
        match decoded.map_err(errors::panicked)? {
            Ok(listing) => Ok(Some(listing)),
            // Then it is a file like any other, whatever it begins with.
            Err(error) => {
                tracing::debug!(%error, file = %self.address, "a file is no directory");
                Ok(None)
            }
        }
    }
}

/// A file that the store has at least a part of: where it is read from, its manifest and its name.
async fn stored(
    node: &Arc<Node>,
    address: Address,
) -> Result<Option<(Source, Manifest, Option<String>)>, ApiError> {
    let store = node.store.clone();
    let found = blocking(move || -> Result<_, StoreError> {
        let Some(entry) = store.file(&address)? else {
            return Ok(None);
        };
        let manifest = store.manifest(&address)?;
        match store.touch(&address) {
            Ok(()) | Err(StoreError::ReadOnly { .. }) => {}
            Err(error) => tracing::debug!(%error, "the use of a file was not noted"),
        }
        Ok(manifest.map(|manifest| (entry, manifest)))
    });
    let found = match found.await.map_err(errors::panicked)? {
        Err(error) if error.is_corruption() => {
            tracing::warn!(%error, "a stored manifest is damaged and will be fetched again");
            None
        }
        found => found.map_err(|e| errors::store("the store could not be read", &e))?,
    };
    Ok(found.map(|(entry, manifest)| {
        let source = match entry.state {
            FileState::Complete => Source::Whole(manifest.clone()),
            _ => Source::Fetched,
        };
        (source, manifest, entry.name)
    }))
}

/// The manifest that a download of the file has settled on.
async fn announced(
    node: &Arc<Node>,
    address: Address,
    reader: &Reader,
    options: &ReadOptions,
    events: &EventSink,
) -> Result<Manifest, ApiError> {
    let readers = reader.all();
    let (mut live, mut table) = (readers.watch_live(), readers.watch());
    let mut progress = readers.watch_progress();
    let ended = readers.ended();
    let deadline = options.deadline;
    loop {
        if let Some(live) = &*live.borrow_and_update() {
            return Ok(live.manifest().clone());
        }
        if let Some(failure) = readers.failure_since(ended) {
            return Err(failure);
        }
        fetch::ensure(node, address, readers);
        tokio::select! {
            _ = live.changed() => {}
            _ = table.changed() => {}
            _ = progress.changed() => {
                let told = progress.borrow_and_update().clone();
                told.into_iter().for_each(|progress| events.progress(progress));
            }
            () = until(deadline) => return Err(out_of_time(&address)),
        }
    }
}

/// The name that the file is published with, if that becomes known within this time.
async fn published_name(reader: &Reader, patience: Duration) -> Option<String> {
    let mut name: watch::Receiver<_> = reader.all().watch_name();
    let known = name.wait_for(Option::is_some);
    let known = tokio::time::timeout(patience, known).await.ok()?.ok()?;
    known.clone().flatten()
}

/// Waits for a deadline, if there is one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn out_of_time(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::TimedOut,
        format!("{address} could not be read"),
        "within the time limit nobody sent it",
        "try again with a longer --timeout, or name a provider with --peer",
    )
}

/// How long is left of a deadline, and of the patience with a reader that nothing comes for.
fn sooner(deadline: Option<Instant>, patience: Duration) -> Instant {
    let patience = clock::now() + patience;
    deadline.map_or(patience, |deadline| deadline.min(patience))
}
