//! Hands a range out in order, each byte proven before.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, InUse, Manifest};
use tokio::sync::watch;

use super::{OpenFile, Readers, cover, fetch, out_of_time, readers::Reader, sooner, stored};
use crate::{
    api::{ApiError, ErrorKind},
    clock,
    download::{GIVE_UP_AFTER, LiveHave},
    errors,
    node::Node,
    tasks::blocking,
};

/// How far ahead of a reader its range is fetched.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// How far a reader goes on before its downloads hear of it.
const STEP_BYTES: u64 = 1 << 20;

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// All of it is here, and was proven when it came: chunks that have their hash are the file's.
    Whole(Manifest),
    /// Some of it is not here, or is not proven: a download brings what is read.
    Fetched,
}

/// A reader of a range. Dropping it takes back what was asked for on its behalf.
#[derive(Debug)]
pub(crate) struct RangeReader {
    node: Arc<Node>,
    address: Address,
    size_bytes: u64,
    source: Source,
    /// What was not handed out yet.
    left: Range<u64>,
    /// Where it was when its downloads heard of it last.
    told: Option<u64>,
    reader: Reader,
    /// The chunk that the last bytes were of.
    held: Option<(ChunkHash, Bytes)>,
    /// A download that lost what it had proven.
    distrusted: Option<Arc<LiveHave>>,
    deadline: Option<Instant>,
    _open: Arc<Reader>,
    _in_use: Arc<InUse>,
}

impl RangeReader {
    pub(super) fn new(file: &OpenFile, bytes: Range<u64>) -> Result<Self, ApiError> {
        let end = bytes.end.min(file.size_bytes);
        Ok(Self {
            node: file.node.clone(),
            address: file.address,
            size_bytes: file.size_bytes,
            source: file.source.clone(),
            left: bytes.start.min(end)..end,
            told: None,
            reader: file.reader.all().enter(&[])?,
            held: None,
            distrusted: None,
            deadline: file.deadline,
            _open: file.reader.clone(),
            _in_use: file._in_use.clone(),
        })
    }

    /// The next bytes, at most a chunk; `None` when all were handed out. Cancel-safe.
    ///
    /// # Errors
    /// As of `get`, when what is missing cannot be had.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while !self.left.is_empty() {
            let offset = self.left.start;
            let (manifest, end) = match &self.source {
                Source::Whole(manifest) => (manifest.clone(), self.left.end),
                Source::Fetched => {
                    self.tell();
                    let Some(manifest) = self.proven(offset).await? else {
                        continue; // it is whole by now
                    };
                    let group = cover::group_at(&manifest, offset);
                    let end = manifest.proof().group_range(group).end;
                    (manifest, end.min(self.left.end))
                }
            };
            if let Some(bytes) = self.take(&manifest, offset..end).await? {
                self.left.start += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
        self.reader.needs(0..0);
        Ok(None)
    }

    /// Says how far it is, now and again.
    fn tell(&mut self) {
        let at = self.left.start;
        if self.told.is_none_or(|told| at >= told + STEP_BYTES) {
            let end = at.saturating_add(READ_AHEAD_BYTES).min(self.left.end);
            self.reader.needs(at..end);
            self.told = Some(at);
        }
    }

    /// Bytes of this range, from its start on, as far as they are in one chunk; `None` where the store does not have
    /// them any more.
    async fn take(
        &mut self,
        manifest: &Manifest,
        bytes: Range<u64>,
    ) -> Result<Option<Bytes>, ApiError> {
        let index = cover::chunk_at(manifest, bytes.start);
        let Some((index, chunk)) = index.and_then(|i| Some((i, manifest.chunks().get(i)?))) else {
            return Err(changed(&self.address));
        };
        let there = match self.held.take() {
            Some((hash, held)) if hash == chunk.hash => Some(held),
            _ => self.load(chunk.hash).await?,
        };
        let Some(there) = there else {
            self.lose()?;
            return Ok(None);
        };
        let offset = manifest.chunk_offset(index);
        let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
        let (from, to) = (at(bytes.start), at(bytes.end).min(there.len()));
        let part = there.slice(from.min(to)..to);
        if to < there.len() {
            self.held = Some((chunk.hash, there));
        }
        match part.is_empty() {
            true => Err(changed(&self.address)),
            false => Ok(Some(part)),
        }
    }

    /// The chunk as the store has it, with its hash checked; one that is damaged is as good as absent.
    async fn load(&self, hash: ChunkHash) -> Result<Option<Bytes>, ApiError> {
        let store = self.node.store.clone();
        let found = blocking(move || store.get(&hash)).await;
        match found.map_err(errors::panicked)? {
            Err(error) if error.is_corruption() => {
                tracing::warn!(chunk = %hash, "a stored chunk is damaged and will be fetched again");
                Ok(None)
            }
            found => found.map_err(|e| errors::store("the store could not be read", &e)),
        }
    }

    /// What was here is not: it is fetched, once by a download.
    fn lose(&mut self) -> Result<(), ApiError> {
        if let Source::Whole(_) = self.source {
            self.source = Source::Fetched;
            return Ok(());
        }
        let live = self.reader.all().watch_live().borrow().clone();
        match (live, &self.distrusted) {
            (Some(live), Some(lost)) if Arc::ptr_eq(&live, lost) => Err(ApiError::new(
                ErrorKind::Integrity,
                format!("{} could not be read", self.address),
                "a chunk that had come is no longer in the store",
                "run `casnode verify`, and read it again",
            )),
            (live, _) => {
                self.distrusted = live;
                Ok(())
            }
        }
    }

    /// Waits until the group of this byte is proven, and returns what it was proven with. `None` when the file turned
    /// out to be whole.
    async fn proven(&mut self, offset: u64) -> Result<Option<Manifest>, ApiError> {
        let readers: Arc<Readers> = self.reader.all().clone();
        let (mut runs, mut table) = (readers.watch_live(), readers.watch());
        let mut ended = readers.ended();
        let give_up = sooner(self.deadline, GIVE_UP_AFTER);
        loop {
            let live = runs.borrow_and_update().clone();
            let proofs = match &live {
                Some(live) => {
                    if live.manifest().size_bytes() != self.size_bytes {
                        return Err(changed(&self.address));
                    }
                    let proofs = live.watch_proofs(); // before the look: nothing is missed
                    if live.is_proven(cover::group_at(live.manifest(), offset)) {
                        return Ok(Some(live.manifest().clone()));
                    }
                    Some(proofs)
                }
                None => {
                    if let Some(failure) = readers.failure_since(ended) {
                        return Err(failure);
                    }
                    if readers.ended() > ended
                        && let Some((Source::Whole(manifest), ..)) =
                            stored(&self.node, self.address).await?
                    {
                        self.source = Source::Whole(manifest);
                        return Ok(None);
                    }
                    ended = readers.ended();
                    fetch::ensure(&self.node, self.address, &readers);
                    None
                }
            };
            let is_fetched = proofs.is_some();
            tokio::select! {
                () = next_proof(proofs) => {}
                _ = runs.changed() => {}
                _ = table.changed(), if !is_fetched => {}
                () = tokio::time::sleep_until(give_up.into()) => return Err(self.late()),
            }
        }
    }

    fn late(&self) -> ApiError {
        if self
            .deadline
            .is_some_and(|deadline| clock::now() >= deadline)
        {
            return out_of_time(&self.address);
        }
        let secs = GIVE_UP_AFTER.as_secs();
        ApiError::new(
            ErrorKind::TimedOut,
            format!("{} could not be read", self.address),
            format!("nothing of what is read came for {secs} s"),
            "try again, or name a provider with --peer: what came is kept",
        )
    }
}

/// Waits for another proof of a running download, or for its end.
async fn next_proof(proofs: Option<watch::Receiver<usize>>) {
    match proofs {
        Some(mut proofs) => drop(proofs.changed().await),
        None => std::future::pending().await,
    }
}

/// What is read is not what was opened: a manifest was forged.
fn changed(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::Integrity,
        format!("{address} could not be read to its end"),
        "a provider had lied about its size, and was found out",
        "read it again: the provider is not asked any more",
    )
}
