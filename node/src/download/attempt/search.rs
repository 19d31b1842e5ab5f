//! Who is asked: hints, neighbours, lookups, and the manifests that peers offer.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{FileRecord, Manifest};
use casnode_dht::PeerId;
use tokio::sync::mpsc;

use super::{
    super::{
        Target,
        discovery::Discovery,
        engine::Bad,
        session::{COMMAND_QUEUE, Session, SessionEnd},
    },
    Attempt, End,
};
use crate::{
    api::ApiError,
    clock,
    sched::{Event, PeerSlot},
};

/// Between two lookups while there is nobody to ask, at first and after some.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
const LATER_LOOKUP_PAUSE: Duration = Duration::from_secs(5);
const EARLY_LOOKUPS: u32 = 5;

/// Between two lookups while chunks come: new providers join a download in progress.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// Between two searches for chunks that no known provider has, and how many are searched for at a time.
const ORPHAN_PAUSE: Duration = Duration::from_secs(5);
const ORPHANS_AT_A_TIME: usize = 16;

/// How long a peer that lied is refused by this node.
const BAN: Duration = Duration::from_secs(600);

/// How far the search for peers has come.
pub(super) struct Search {
    discovering: bool,
    record_asked: bool,
    record_done: bool,
    lookup_runs: bool,
    pub(super) lookups: u32,
    pub(super) lookups_since_ban: u32,
    pub(super) next_lookup: Instant,
    next_orphans: Instant,
    /// Peers named by hand that are still being dialled.
    pub(super) dialling: usize,
    pub(super) dial_failures: Vec<String>,
    /// When something last came of the search for a manifest.
    pub(super) last_sign: Instant,
    /// Peers this node was connected to after waiting for the network; `None` while it waits.
    pub(super) network_peers: Option<u32>,
    pub(super) asked_peers: u32,
    pub(super) known_providers: u32,
}

impl Search {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            discovering: false,
            record_asked: false,
            record_done: false,
            lookup_runs: false,
            lookups: 0,
            lookups_since_ban: 0,
            next_lookup: now,
            next_orphans: now,
            dialling: 0,
            dial_failures: Vec::new(),
            last_sign: now,
            network_peers: None,
            asked_peers: 0,
            known_providers: 0,
        }
    }
}

impl Attempt<'_> {
    /// Starts what looks for peers, and lookups when they are due.
    pub(super) async fn discover(&mut self) {
        if !self.needs_network() {
            return;
        }
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        let discovery = Discovery {
            dht,
            address: self.job.address,
            events: self.events.clone(),
        };
        if !self.search.discovering {
            self.search.discovering = true;
            self.search.dialling = self.job.hints.len();
            for hint in self.job.hints.clone() {
                self.tasks.spawn("dial hint", discovery.clone().hint(hint));
            }
            let neighbours = discovery.clone();
            let patience = self.job.node.network_patience();
            self.tasks.spawn("neighbours", async move {
                neighbours.neighbours(patience).await;
                Ok::<(), Infallible>(())
            });
        }
        if self.search.network_peers.is_none() {
            return;
        }
        if !self.search.record_asked && self.running.is_none() {
            self.search.record_asked = true;
            self.tasks.spawn("record", discovery.clone().record());
        }
        let now = clock::now();
        if !self.search.lookup_runs && now >= self.search.next_lookup {
            self.search.lookup_runs = true;
            self.tasks.spawn("lookup", discovery.clone().lookup());
        }
        self.look_for_orphans(discovery, now);
    }

    pub(super) fn look_for_orphans(&mut self, discovery: Discovery, now: Instant) {
        let Some(r) = &self.running else { return };
        if now < self.search.next_orphans || self.search.lookups == 0 || !r.sched.is_starved() {
            return;
        }
        self.search.next_orphans = now + ORPHAN_PAUSE;
        let orphans: Vec<(u32, [u8; 32])> = r
            .sched
            .orphans(ORPHANS_AT_A_TIME)
            .into_iter()
            .filter_map(|i| {
                r.manifest
                    .chunks()
                    .get(i as usize)
                    .map(|c| (i, *c.hash.as_bytes()))
            })
            .collect();
        self.tasks.spawn("chunk lookups", discovery.chunks(orphans));
    }

    pub(super) fn candidate(&mut self, peer: PeerId, claim: Option<u32>) {
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let Some(slot) = self.job.sources.admit(peer, clock::now(), commands) else {
            return;
        };
        let session = Session {
            dht,
            peer,
            slot,
            address: self.job.address,
            goal: self.goal.subscribe(),
            events: self.events.clone(),
            manifest_turns: self.manifest_turns.clone(),
            claim,
        };
        self.tasks.spawn("session", async move {
            session.run(queue).await;
            Ok::<(), Infallible>(())
        });
    }

    pub(super) fn lookup_done(&mut self, asked_peers: u32, found: u32) {
        self.search.lookup_runs = false;
        self.search.lookups += 1;
        self.search.lookups_since_ban += 1;
        self.search.asked_peers = self.search.asked_peers.max(asked_peers);
        self.search.known_providers = self.search.known_providers.max(found);
        let pause = match self.job.sources.active() {
            0 if self.search.lookups < EARLY_LOOKUPS => LOOKUP_PAUSE,
            0 => LATER_LOOKUP_PAUSE,
            _ => REFRESH_PAUSE,
        };
        self.search.next_lookup = clock::now() + pause;
    }

    pub(super) async fn record(
        &mut self,
        record: Option<FileRecord>,
    ) -> Result<Option<End>, ApiError> {
        self.search.record_done = true;
        if let Some(record) = record {
            let inline = record.manifest().cloned();
            self.job.record = Some(record);
            if let Some(manifest) = inline
                && self.waiting.is_none()
                && self.is_usable(&manifest)
            {
                return self.choose(Arc::new(manifest)).await;
            }
        }
        match self.waiting.take() {
            Some((manifest, _)) => self.choose(manifest).await,
            None => Ok(None),
        }
    }

    pub(super) fn is_usable(&self, manifest: &Manifest) -> bool {
        self.running.is_none() && !self.job.bad_manifests.contains_key(&manifest.id())
    }

    pub(super) async fn offered(
        &mut self,
        slot: PeerSlot,
        manifest: Arc<Manifest>,
    ) -> Result<Option<End>, ApiError> {
        if let Some(peer) = self.job.sources.peer(slot) {
            self.offered_by.entry(manifest.id()).or_default().push(peer);
        }
        match (
            self.job.bad_manifests.get(&manifest.id()),
            self.job.sources.peer(slot),
        ) {
            (Some(Bad::Forged), Some(peer)) => {
                self.ban(peer, "it offers a forged manifest");
                return Ok(None);
            }
            (Some(_), _) => return Ok(None),
            (None, _) => {}
        }
        if self.running.is_some() || self.waiting.is_some() {
            self.others = true;
            return Ok(None);
        }
        let named = self.job.record.is_some() || self.search.record_done;
        if matches!(self.job.target, Target::Folder { .. }) && !named {
            self.waiting = Some((manifest, clock::now()));
            return Ok(None);
        }
        self.choose(manifest).await
    }

    pub(super) fn gone(&mut self, slot: PeerSlot, end: &SessionEnd) {
        let was_active = self.job.sources.get(slot).is_some();
        if was_active {
            tracing::debug!(slot = slot.0, %end, "a session ended");
        }
        self.job.sources.gone(slot, end, clock::now());
        self.schedule(Event::PeerLeft { peer: slot });
        if end.is_peer_fault()
            && let Some(peer) = self.job.sources.peer(slot)
        {
            tracing::warn!(%peer, %end, "a peer does not keep to the protocol; this download asks it no more");
            self.search.lookups_since_ban = 0;
            self.job
                .sources
                .ban(peer, "it does not keep to the protocol");
        }
        if self.job.sources.active() == 0 {
            self.search.next_lookup = self.search.next_lookup.min(clock::now() + LOOKUP_PAUSE);
        }
    }

    pub(super) fn ban(&mut self, peer: PeerId, why: &'static str) {
        self.search.lookups_since_ban = 0;
        self.job.sources.ban(peer, why);
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        self.job.node.tasks.spawn("ban", async move {
            dht.ban(peer, BAN).await;
            Ok::<(), Infallible>(())
        });
    }

    /// The dial to a peer named by hand ended.
    pub(super) fn dialled(&mut self, addr: &str, outcome: Result<PeerId, String>) {
        self.search.dialling = self.search.dialling.saturating_sub(1);
        match outcome {
            Ok(peer) => self.candidate(peer, None),
            Err(why) => self.search.dial_failures.push(format!("{addr}: {why}")),
        }
    }
}
