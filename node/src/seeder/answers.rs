//! What is said to a request: a chunk, a part of a manifest, which chunks are here.
//!
//! Reading a manifest means reading, hashing and merging all of it, and a bitmap of an unfinished file one look into the
//! index a chunk. A request costs its sender next to nothing, so both are kept for a while, and at most one is made at
//! a time.

mod files;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use casnode_cas::{
    Address, ChunkHash, FileEntry, FileState, HaveBitmap, ManifestId, Store, StoreError,
};
use casnode_dht::exchange::Reply;
use tokio::sync::{Mutex, oneshot};

use super::recent::{Limits, Recent};
use crate::{clock, download::Downloads, seeding::Seeding, swarm::Here, tasks::blocking};

/// Bytes of a manifest sent at a time.
const MANIFEST_PART_BYTES: usize = 512 << 10;

/// Encoded manifests that are kept: one of the largest, or a few. They are read anew after a while, so that memory is
/// given back when nobody asks any more.
const fn manifest_limits(bytes: usize) -> Limits {
    Limits {
        items: 4,
        bytes,
        age: Duration::from_secs(300),
    }
}

/// Bitmaps of unfinished files that are kept, 128 KiB each at most. Nothing fetches these files, or a live bitmap would
/// be there: they grow only by other files' chunks, and by what an ended download left.
const BITMAPS: Limits = Limits {
    items: 16,
    bytes: 2 << 20,
    age: Duration::from_secs(10),
};

/// What is known of a manifest that somebody joins.
#[derive(Debug)]
pub(super) enum Known {
    Here(Here),
    /// Its file is here and served no more.
    Over,
    Unknown,
}

/// Answers out of the store and the running downloads.
#[derive(Debug)]
pub(super) struct Answers {
    store: Store,
    downloads: Arc<Downloads>,
    seeding: Arc<Seeding>,
    manifests: Recent,
    bitmaps: Recent,
    /// Held, until the work is done, by whoever makes a manifest or bitmap: a stream that closes does not end it.
    turn: Arc<Mutex<()>>,
}

impl Answers {
    /// Keeps so many bytes of manifests, or a single larger one.
    pub(super) fn new(
        store: Store,
        downloads: Arc<Downloads>,
        seeding: Arc<Seeding>,
        manifests_bytes: u64,
    ) -> Self {
        let manifests_bytes = usize::try_from(manifests_bytes).unwrap_or(usize::MAX);
        Self {
            store,
            downloads,
            seeding,
            manifests: Recent::new(manifest_limits(manifests_bytes)),
            bitmaps: Recent::new(BITMAPS),
            turn: Arc::default(),
        }
    }

    /// Gives back the memory of what nobody asks for any more.
    pub(super) fn trim(&self) {
        let now = clock::now();
        self.manifests.trim(now);
        self.bitmaps.trim(now);
        self.store.trim_memory();
    }

    /// Begins to read chunks, one after the other; one that nobody waits for any more is left out. Every read is checked
    /// against the hash: a damaged chunk is never served.
    pub(super) fn chunks(&self, asked: Vec<(ChunkHash, oneshot::Sender<Reply>)>) {
        let store = self.store.clone();
        drop(blocking(move || {
            for (hash, tell) in asked {
                if !tell.is_closed() {
                    let _ = tell.send(read_chunk(&store, &hash));
                }
            }
        }));
    }

    /// The part of the file's manifest that begins at `offset`.
    pub(super) async fn manifest(self: &Arc<Self>, address: Address, offset: u64) -> Reply {
        let entry = self.entry(address).await;
        let Some(entry) = entry.filter(|_| self.is_served(&address)) else {
            return Reply::NotFound;
        };
        self.note_use(address).await;
        let id = entry.manifest;
        let found = match self.manifests.get(&id, clock::now()) {
            Some(bytes) => Some(bytes),
            None => self.make(move |answers| answers.read_manifest(entry)).await,
        };
        let Some(all) = found else {
            return Reply::NotFound;
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from >= all.len() {
            return Reply::NotFound;
        }
        let to = all.len().min(from + MANIFEST_PART_BYTES);
        Reply::Manifest {
            total_bytes: all.len() as u64,
            bytes: all.slice(from..to),
        }
    }

    /// What is here of a manifest. A file that is whole in the store is: a download of it, which only hands it out, is not
    /// looked at. Of a part that a download completes, the download knows best.
    pub(super) async fn here(self: &Arc<Self>, id: ManifestId) -> Known {
        let entry = self.entry_of(id).await;
        let live = self.downloads.live(&id);
        let whole = |entry: &FileEntry| entry.state == FileState::Complete;
        if let Some(live) = live.filter(|_| !entry.as_ref().is_some_and(whole)) {
            return Known::Here(Here {
                address: live.manifest().address(),
                have: live.claim().0,
                live: Some(live),
            });
        }
        let Some(entry) = entry else {
            return Known::Unknown;
        };
        let address = entry.address;
        if !self.is_served(&address) {
            return Known::Over;
        }
        let have = self.stored(entry).await;
        have.map_or(Known::Unknown, |have| {
            Known::Here(Here {
                address,
                have,
                live: None,
            })
        })
    }

    /// The chunks of a file that are stored.
    async fn stored(self: &Arc<Self>, entry: FileEntry) -> Option<HaveBitmap> {
        let (id, chunks) = (entry.manifest, entry.chunk_count as usize);
        if entry.state == FileState::Complete {
            return Some(all_of(chunks));
        }
        let bits = match self.bitmaps.get(&id, clock::now()) {
            Some(bits) => bits,
            None => self.make(move |answers| answers.read_bitmap(entry)).await?,
        };
        HaveBitmap::from_wire(&bits, chunks).ok()
    }

    /// Whether a file's seeding is not over. While it is fetched, what was said of it earlier does not count: it is said
    /// anew when it is here.
    fn is_served(&self, address: &Address) -> bool {
        self.downloads.is_wanted(address) || self.seeding.may_serve(address, clock::unix_s())
    }

    /// A file is being served: what others fetch is the last to make room here.
    pub(super) async fn note_use(&self, address: Address) {
        let store = self.store.clone();
        if let Ok(Err(error)) = blocking(move || store.touch(&address)).await {
            tracing::debug!(%error, "the use of a file was not noted");
        }
    }

    fn read_manifest(&self, entry: FileEntry) -> Result<Option<Bytes>, StoreError> {
        // Whoever had the turn before may have made it.
        if let Some(bytes) = self.manifests.get(&entry.manifest, clock::now()) {
            return Ok(Some(bytes));
        }
        let manifest = self.store.manifest(&entry.address)?;
        let Some(manifest) = manifest.filter(|m| m.id() == entry.manifest) else {
            return Ok(None); // replaced by another one in this moment
        };
        let bytes = manifest.encode().clone();
        self.manifests
            .keep(entry.manifest, bytes.clone(), clock::now());
        Ok(Some(bytes))
    }

    fn read_bitmap(&self, entry: FileEntry) -> Result<Option<Bytes>, StoreError> {
        if let Some(bits) = self.bitmaps.get(&entry.manifest, clock::now()) {
            return Ok(Some(bits));
        }
        let manifest = self.store.manifest(&entry.address)?;
        let Some(manifest) = manifest.filter(|m| m.id() == entry.manifest) else {
            return Ok(None);
        };
        let bits = Bytes::from(self.store.have(&manifest)?.to_wire());
        self.bitmaps
            .keep(entry.manifest, bits.clone(), clock::now());
        Ok(Some(bits))
    }

    /// The file's entry: a file that was removed is not served from what is kept.
    async fn entry(&self, address: Address) -> Option<FileEntry> {
        let store = self.store.clone();
        told(blocking(move || store.file(&address)).await.ok()?)
    }

    async fn entry_of(&self, id: ManifestId) -> Option<FileEntry> {
        let store = self.store.clone();
        let found = move || match store.address_of(&id)? {
            Some(address) => store.file(&address),
            None => Ok(None),
        };
        told(blocking(found).await.ok()?).filter(|entry| entry.manifest == id)
    }

    /// Does expensive work, one at a time.
    async fn make(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<Option<Bytes>, StoreError> + Send + 'static,
    ) -> Option<Bytes> {
        let turn = self.turn.clone().lock_owned().await;
        let answers = self.clone();
        let made = blocking(move || {
            let _turn = turn;
            work(&answers)
        });
        told(made.await.ok()?)
    }
}

fn read_chunk(store: &Store, hash: &ChunkHash) -> Reply {
    match store.get(hash) {
        Ok(Some(bytes)) => Reply::Chunk(bytes),
        Ok(None) => Reply::NotFound,
        Err(error) => {
            tracing::warn!(chunk = %hash, %error, "a stored chunk could not be served");
            Reply::NotFound
        }
    }
}

fn all_of(chunks: usize) -> HaveBitmap {
    let mut all = HaveBitmap::new(chunks);
    (0..chunks).for_each(|index| {
        all.set(index);
    });
    all
}

/// What was found; an error is logged, and the asker hears that nothing is here.
fn told<T>(found: Result<Option<T>, StoreError>) -> Option<T> {
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "a request could not be answered");
        None
    })
}
