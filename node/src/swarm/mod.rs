//! The swarms this node is part of: who is in them, who is served, what flows.
//!
//! The seeder and the downloads meet here: what a peer gives decides what it gets. [`Swarms`] is the registry, [`table`]
//! what it knows, [`swarm`] one swarm of it with [`member`]s (streams that ask) and [`source`]s (peers that are fetched
//! from). [`mod@line`] is what a stream needs of it for a chunk, without a lock. [`engine`] decides every ten seconds who is
//! served, [`crowd`] tells the members of each other, [`view`] shows it to people.

mod crowd;
mod engine;
mod line;
mod load;
mod member;
mod source;
mod stopwatch;
#[allow(clippy::module_inception, reason = "one swarm of the swarms")]
mod swarm;
mod table;
mod view;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use casnode_cas::{Address, Manifest, ManifestId};
use casnode_dht::{Multiaddr, PeerId};
use tokio::sync::{Notify, mpsc};

#[cfg(test)]
pub(crate) use self::engine::Addresses;
pub(crate) use self::{
    engine::{AddressBook, choke, introduce},
    line::Line,
    member::{Here, Joining, Membership, Told},
    source::{SourceHas, SourceView},
    view::{PeerView, SwarmView},
};
use self::{swarm::Swarm, table::Table};
use crate::{choke::SwarmMode, clock, sched::Mono, seeding::Seeding};

/// Candidates that may wait for a download.
const MAX_CANDIDATES: usize = 64;

/// The swarms of a node. There are as many as manifests that somebody joined or fetches: bounded by the streams there
/// can be, and by the downloads.
#[derive(Debug)]
pub(crate) struct Swarms {
    began: Instant,
    table: Mutex<Table>,
    counters: Counters,
    /// How many streams are unchoked.
    served: Arc<AtomicUsize>,
    /// Somebody wants something now, or left: a slot may be given.
    changed: Notify,
    /// Somebody came who is to be looked for.
    came: Notify,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent_chunks: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    /// Chunks that were asked for by peers that were choked.
    pub(crate) choked_requests: AtomicU64,
    /// Streams that were closed because their peer broke the rules.
    pub(crate) breaches: AtomicU64,
    pub(crate) fetched_chunks: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    /// Bytes that came twice.
    pub(crate) duplicate_bytes: AtomicU64,
    /// Chunks that did not have their hash.
    pub(crate) wrong_chunks: AtomicU64,
}

impl Counters {
    /// A chunk was fetched and is right.
    pub(crate) fn came(&self, bytes: u64) {
        Self::add(&self.fetched_chunks, 1);
        Self::add(&self.fetched_bytes, bytes);
    }

    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// The streams there are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) swarms: u64,
    pub(crate) unchoked: u64,
    pub(crate) choked: u64,
    /// Of both.
    pub(crate) interested: u64,
    /// Swarms whose members are told of chunks one by one.
    pub(crate) super_seeded: u64,
}

impl Default for Swarms {
    fn default() -> Self {
        Self::new(SwarmMode::default())
    }
}

impl Swarms {
    /// Swarms that are in this mode where nothing else is said of them.
    pub(crate) fn new(mode: SwarmMode) -> Self {
        let served = Arc::default();
        Self {
            began: clock::now(),
            table: Mutex::new(Table::new(mode, rand::random(), Arc::clone(&served))),
            served,
            counters: Counters::default(),
            changed: Notify::new(),
            came: Notify::new(),
        }
    }

    /// The mode of swarms of which nothing else was said.
    pub(crate) fn mode(&self) -> SwarmMode {
        self.lock().mode
    }

    /// The swarm of this file is in this mode from now on, whether it is there already or not.
    pub(crate) fn set_mode(&self, address: Address, mode: SwarmMode) {
        self.lock().set_mode(address, mode);
    }

    /// How many streams are unchoked.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// What happened since the start.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The streams there are now.
    pub(crate) fn census(&self) -> Census {
        self.lock().census()
    }

    /// A swarm as it is now.
    pub(crate) fn report(&self, manifest: ManifestId) -> SwarmView {
        let (table, now) = (self.lock(), self.now());
        let Some(swarm) = table.get(&manifest) else {
            return SwarmView {
                mode: table.mode,
                ..SwarmView::default()
            };
        };
        view::of(swarm, now)
    }

    /// Everybody of a swarm, as in its report.
    pub(crate) fn peers(&self, manifest: ManifestId) -> Vec<PeerView> {
        let (table, now) = (self.lock(), self.now());
        let swarm = table.get(&manifest);
        swarm.map_or_else(Vec::new, |swarm| view::of(swarm, now).peers)
    }

    /// A stream joins a swarm: its part in it, and what its peer is to be told of what is here. It is unchoked when this
    /// returns, if a slot was free.
    pub(crate) fn join(self: &Arc<Self>, joining: Joining) -> (Membership, Option<Told>) {
        let (manifest, peer, line) = (joining.manifest, joining.peer, joining.line.clone());
        let admission = self.lock().join(joining, self.now());
        if admission.is_new {
            self.came.notify_one();
        }
        // The clock of who is served begins with the first member.
        self.changed.notify_one();
        let member = Membership {
            swarms: self.clone(),
            manifest,
            peer,
            id: admission.id,
            line,
        };
        (member, admission.told)
    }

    /// Counts what was sent since the last call.
    pub(crate) fn count_sent(&self, seeding: &Seeding) {
        let sent = self.lock().count(self.now());
        for (address, bytes) in sent {
            seeding.uploaded(address, bytes);
        }
    }

    fn leave(&self, member: &Membership) {
        self.lock().leave(member.id);
        self.changed.notify_one();
    }

    fn with_member<T>(
        &self,
        member: &Membership,
        act: impl FnOnce(&mut Swarm, u64, Mono) -> T,
    ) -> Option<T> {
        let now = self.now();
        let mut table = self.lock();
        Some(act(table.get_mut(&member.manifest)?, member.id, now))
    }

    /// A download has this many proven bytes of a peer.
    pub(crate) fn fetched(&self, manifest: ManifestId, peer: PeerId, bytes: u64) {
        let now = self.now();
        if let Some(swarm) = self.lock().get_mut(&manifest) {
            swarm.fetched(&peer, bytes, now);
        }
    }

    /// What a download knows of a source changed.
    pub(crate) fn source(
        &self,
        manifest: ManifestId,
        peer: PeerId,
        view: SourceView,
        has: &SourceHas,
    ) {
        let now = self.now();
        if self.lock().enter(manifest).source(peer, view, has, now) {
            self.came.notify_one();
        }
    }

    /// A source of a download is gone.
    pub(crate) fn source_gone(&self, manifest: ManifestId, peer: PeerId) {
        let mut table = self.lock();
        if let Some(swarm) = table.get_mut(&manifest) {
            swarm.source_gone(&peer);
            table.tidy(&manifest);
        }
    }

    /// Peers that join the swarm from now on by a stream of their own: whoever downloads a file has parts of it.
    pub(crate) fn subscribe(&self, manifest: &Manifest) -> mpsc::Receiver<PeerId> {
        let (candidates, receiver) = mpsc::channel(MAX_CANDIDATES);
        let mut table = self.lock();
        table.tidy_all();
        table
            .begin(manifest.id(), manifest.address())
            .subscribe(candidates);
        receiver
    }

    /// Where a peer of a swarm is.
    fn found(&self, manifest: &ManifestId, peer: &PeerId, addrs: &[Multiaddr]) {
        if let Some(swarm) = self.lock().get_mut(manifest) {
            swarm.crowd.found(peer, addrs);
        }
    }

    /// Everybody's turn is over.
    #[cfg(test)]
    pub(crate) fn choke_all(&self) {
        self.lock().choke_all();
    }

    /// The time, as everything here reckons it.
    pub(crate) fn now(&self) -> Mono {
        Mono(clock::now().saturating_duration_since(self.began))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
