//! Fetching a file: who has it, what to ask of whom, checking and keeping what comes.
//!
//! [`engine`] is the task of one download; it owns the pure scheduler and carries out its actions. [`discovery`]
//! looks for peers, [`session`] speaks with one peer, [`assembler`] checks and keeps, [`emitter`] hands proven bytes
//! to a stream in order. [`lent`] is what is kept in an output alone, [`settle`] what stays of a file in the end.

mod assembler;
mod attempt;
mod begin;
mod discovery;
mod emitter;
pub(crate) mod engine;
mod lent;
mod output;
mod session;
mod settle;
mod sources;
mod verdict;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use casnode_cas::{Address, HaveBitmap, Manifest, ManifestId};
use tokio::sync::{Mutex as AsyncMutex, watch};

pub(crate) use assembler::AssembleError;
pub(crate) use engine::{GetOptions, Stay, Target, get};

/// What a running download has, as others see it: the seeder answers from it, the emitter follows it.
#[derive(Debug)]
pub(crate) struct LiveHave {
    manifest: Arc<Manifest>,
    have: Mutex<HaveBitmap>,
    /// Number of chunks here; changes wake whoever waits for more.
    count: watch::Sender<usize>,
    /// Groups proven from the start without a gap.
    proven: watch::Sender<usize>,
}

impl LiveHave {
    fn new(manifest: Arc<Manifest>) -> Self {
        let have = Mutex::new(HaveBitmap::new(manifest.chunks().len()));
        Self {
            manifest,
            have,
            count: watch::Sender::new(0),
            proven: watch::Sender::new(0),
        }
    }

    fn set(&self, index: usize) {
        let mut have = self.have.lock().unwrap_or_else(PoisonError::into_inner);
        have.set(index);
        let count = have.count();
        drop(have);
        self.count.send_replace(count);
    }

    fn proven(&self, groups: usize) {
        self.proven.send_replace(groups);
    }

    /// The bitmap right now.
    pub(crate) fn snapshot(&self) -> HaveBitmap {
        self.have
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Wakes when the number of chunks changes.
    pub(crate) fn watch_count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// The downloads that run in this node.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    live: Mutex<HashMap<ManifestId, Arc<LiveHave>>>,
    turns: Mutex<HashMap<Address, Arc<AsyncMutex<()>>>>,
}

impl Downloads {
    /// The running download of a manifest.
    pub(crate) fn live(&self, manifest: &ManifestId) -> Option<Arc<LiveHave>> {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(manifest)
            .cloned()
    }

    /// True while some download of the address runs.
    pub(crate) fn is_running(&self, address: &Address) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().any(|l| l.manifest.address() == *address)
    }

    fn enter(self: &Arc<Self>, live: Arc<LiveHave>) -> Registered {
        let id = live.manifest.id();
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, live);
        Registered {
            downloads: self.clone(),
            id,
        }
    }

    /// Downloads of one address take turns: the second finds what the first has fetched.
    fn turn(&self, address: &Address) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(*address).or_default().clone()
    }
}

/// A download's entry in [`Downloads`]; gone when dropped.
struct Registered {
    downloads: Arc<Downloads>,
    id: ManifestId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.downloads
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
