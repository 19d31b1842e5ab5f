//! Fetching a file: who has it, what to ask of whom, checking and keeping what comes.
//!
//! [`engine`] is one `get` over all its attempts; [`attempt`] is the loop under one manifest, which owns the pure scheduler and
//! carries out its actions, [`verdict`] whether it goes on. [`begin`] decides what an attempt begins with, [`discovery`] looks
//! for peers, [`sources`] knows them, and [`told`] what other peers say of them. [`session`] speaks with one peer; what it
//! receives needs [`incoming`] room. [`assembler`] checks and keeps, [`emitter`] hands proven bytes to a stream in order.
//!
//! [`output`] is where a file goes, and [`there`] one that is there already. [`directory`] tells directories from files.
//! [`place`] decides where a file is kept, [`lent`] is what is kept in an output alone, [`settle`] what stays of a file in the end.

mod assembler;
mod attempt;
mod begin;
mod directory;
mod discovery;
mod emitter;
pub(crate) mod engine;
mod incoming;
mod lent;
mod output;
mod place;
mod session;
mod settle;
mod sources;
mod there;
mod told;
mod verdict;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use casnode_cas::{Address, HaveBitmap, Manifest, ManifestId};
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::read::Readers;

pub(crate) use assembler::AssembleError;
pub(crate) use engine::{GetOptions, Stay, Target, Terms, get};
pub(crate) use place::{may_be_in_place, takes_room};
pub(crate) use session::{Probe, Sample, SessionEnd};
pub(crate) use settle::copy;
pub(crate) use there::{is_to_be_seen_to, unchanged};
pub(crate) use verdict::GIVE_UP_AFTER;

/// What a running download has, as others see it: the seeder answers from it, the emitter follows it.
#[derive(Debug)]
pub(crate) struct LiveHave {
    manifest: Arc<Manifest>,
    have: Mutex<Had>,
    /// Number of chunks here; changes wake whoever waits for more.
    count: watch::Sender<usize>,
    /// Groups proven from the start without a gap; changes, too, when another one is.
    proven: watch::Sender<usize>,
    proofs: Mutex<HaveBitmap>,
    /// Some group is proven: what the manifest claims may be told to others.
    believed: AtomicBool,
    /// The download has ended.
    over: AtomicBool,
}

/// The chunks that are here, and in which order they came.
#[derive(Debug)]
struct Had {
    bits: HaveBitmap,
    log: Vec<u32>,
}

impl LiveHave {
    fn new(manifest: Arc<Manifest>) -> Self {
        let have = Mutex::new(Had {
            bits: HaveBitmap::new(manifest.chunks().len()),
            log: Vec::new(),
        });
        let proofs = HaveBitmap::new(manifest.proof().group_count());
        Self {
            manifest,
            have,
            proofs: Mutex::new(proofs),
            count: watch::Sender::new(0),
            proven: watch::Sender::new(0),
            believed: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// A first group is proven.
    pub(crate) fn believe(&self) {
        self.believed.store(true, Ordering::Release);
        self.count.send_modify(|_| {}); // whoever has news to tell may do so now
    }

    fn is_believed(&self) -> bool {
        self.believed.load(Ordering::Acquire)
    }

    /// Nothing more comes of this download.
    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.count.send_modify(|_| {}); // whoever follows it has to look elsewhere
    }

    /// Whether the download has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// All of it is here, and may be told to others.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_believed() && self.lock().bits.is_complete()
    }

    /// What is said to a peer of what is here, and how many chunks that are: nothing before something is proven.
    pub(crate) fn claim(&self) -> (HaveBitmap, usize) {
        let have = self.lock();
        match self.is_believed() {
            true => (have.bits.clone(), have.log.len()),
            false => (HaveBitmap::new(have.bits.len()), 0),
        }
    }

    /// Like [`LiveHave::got_since`], but nothing before something is proven.
    pub(crate) fn news(&self, from: usize, at_most: usize) -> Vec<u32> {
        match self.is_believed() {
            true => self.got_since(from, at_most),
            false => Vec::new(),
        }
    }

    pub(crate) fn set(&self, index: usize) {
        let mut have = self.lock();
        if have.bits.set(index) {
            have.log.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        let count = have.log.len();
        drop(have);
        self.count.send_replace(count);
    }

    /// These groups are proven, and so are so many from the start without a gap.
    fn proven(&self, groups: impl IntoIterator<Item = usize>, prefix: usize) {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            proofs.set(group);
        }
        drop(proofs);
        self.proven.send_replace(prefix);
    }

    /// Whether the bytes of a group are here and the file's.
    pub(crate) fn is_proven(&self, group: usize) -> bool {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.get(group)
    }

    /// Changes when another group is proven, and ends with the download.
    pub(crate) fn watch_proofs(&self) -> watch::Receiver<usize> {
        self.proven.subscribe()
    }

    /// What is being downloaded.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many chunks have come, in the order of [`LiveHave::got_since`].
    pub(crate) fn got_count(&self) -> usize {
        self.lock().log.len()
    }

    /// Chunks in the order they came, the first `from` left out, `at_most` of them.
    fn got_since(&self, from: usize, at_most: usize) -> Vec<u32> {
        let have = self.lock();
        let log = have.log.iter().skip(from).take(at_most);
        log.copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Had> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes when the number of chunks changes, something is proven for the first time, or the download ends.
    pub(crate) fn watch_count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// The downloads that run in this node.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    live: Mutex<HashMap<ManifestId, Arc<LiveHave>>>,
    turns: Mutex<HashMap<Address, Arc<AsyncMutex<()>>>>,
    readers: Mutex<HashMap<Address, Weak<Readers>>>,
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

    /// How many run and know what they fetch.
    pub(crate) fn running(&self) -> usize {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// True while some download of the address runs.
    pub(crate) fn is_running(&self, address: &Address) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().any(|l| l.manifest.address() == *address)
    }

    /// True from the first moment of a `get` of the address to its last, when it is said for how long the file is served.
    pub(crate) fn is_wanted(&self, address: &Address) -> bool {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |turn: &Arc<AsyncMutex<()>>| Arc::strong_count(turn) > 1;
        turns.get(address).is_some_and(in_use) || self.is_running(address)
    }

    /// The readers of an address.
    pub(crate) fn readers(&self, address: &Address) -> Arc<Readers> {
        let mut all = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(readers) = all.get(address).and_then(Weak::upgrade) {
            return readers;
        }
        all.retain(|_, readers| readers.strong_count() > 0);
        let readers = Arc::new(Readers::default());
        all.insert(*address, Arc::downgrade(&readers));
        readers
    }

    fn enter(self: &Arc<Self>, live: Arc<LiveHave>) -> Registered {
        let id = live.manifest.id();
        let readers = self.readers(&live.manifest.address());
        readers.live(Some(live.clone()));
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, live);
        Registered {
            downloads: self.clone(),
            readers,
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

#[cfg(test)]
impl Downloads {
    /// A download that does nothing by itself, and has not proven anything.
    pub(crate) fn pretend(self: &Arc<Self>, manifest: &Manifest) -> (Arc<LiveHave>, Registered) {
        let live = Arc::new(LiveHave::new(Arc::new(manifest.clone())));
        (live.clone(), self.enter(live))
    }
}

/// A download's entry in [`Downloads`]; gone when dropped.
pub(crate) struct Registered {
    downloads: Arc<Downloads>,
    readers: Arc<Readers>,
    id: ManifestId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = self
            .downloads
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let gone = all.remove(&self.id);
        drop(all);
        self.readers.live(None);
        if let Some(live) = gone {
            live.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_wanted_until_its_get_is_done() {
        let downloads = Downloads::default();
        let address = Address::from_bytes([1; 32]);
        assert!(!downloads.is_wanted(&address));
        let turn = downloads.turn(&address).try_lock_owned().unwrap();
        assert!(downloads.is_wanted(&address) && !downloads.is_running(&address));
        drop(turn);
        assert!(!downloads.is_wanted(&address));
    }
}
