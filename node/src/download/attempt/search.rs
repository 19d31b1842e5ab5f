//! Who is asked: hints, neighbours, lookups, and the manifests that peers offer.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{FileRecord, Manifest};
use casnode_dht::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{
    super::{
        Target,
        discovery::Discovery,
        engine::Bad,
        session::{COMMAND_QUEUE, Session, SessionEnd},
        sources::{Admitted, Origin},
    },
    Attempt, End,
};
use crate::{
    api::ApiError,
    clock,
    sched::{Event, PeerSlot},
};

/// For so long those who probably have a file are asked, and nobody else is looked for.
const HEAD_START: Duration = Duration::from_secs(1);

/// Between two lookups while there is nobody to ask, at first and after some.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
const LATER_LOOKUP_PAUSE: Duration = Duration::from_secs(5);
const EARLY_LOOKUPS: u32 = 5;

/// Between two lookups while chunks come: new providers join a download in progress.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// A peer named by hand that is gone, or did not answer, is dialled again after this.
const REDIAL_PAUSE: Duration = Duration::from_secs(5);

/// How often it is asked whether any wanted chunk can be had.
const STARVED_PAUSE: Duration = Duration::from_secs(1);

/// Between two searches for chunks that no known provider has, and how many are searched for at a time.
const ORPHAN_PAUSE: Duration = Duration::from_secs(5);
const ORPHANS_AT_A_TIME: usize = 1024;

/// Nothing is searched for while chunks come at least as often as this: those that one peer lacks now, another gets.
const ORPHAN_AFTER: Duration = Duration::from_secs(2);

/// Peers remembered to have offered one manifest.
const MAX_OFFERERS: usize = 64;

/// How long a peer that lied is refused by this node.
const BAN: Duration = Duration::from_secs(600);

/// How far the search for peers has come.
pub(super) struct Search {
    discovering: bool,
    record_asked: bool,
    pub(super) record_done: bool,
    lookup_runs: bool,
    pub(super) lookups: u32,
    pub(super) lookups_since_ban: u32,
    pub(super) next_lookup: Instant,
    pub(super) next_told: Instant,
    next_orphans: Instant,
    pub(super) orphans_run: bool,
    orphans_tried: bool,
    /// Where the next search for orphans begins, so that each gets its turn.
    orphan_start: u32,
    hints: Vec<Hint>,
    /// When others are asked than those who probably have it.
    others_from: Instant,
    /// When this attempt began.
    pub(super) began: Instant,
    /// When something last came of the search for a manifest.
    pub(super) last_sign: Instant,
    /// Peers this node was connected to after waiting for the network; `None` while it waits.
    pub(super) network_peers: Option<u32>,
    pub(super) asked_peers: u32,
    pub(super) known_providers: u32,
}

/// A peer named by hand.
struct Hint {
    addr: Multiaddr,
    dialling: bool,
    /// Dialled at least once to the end.
    tried: bool,
    peer: Option<PeerId>,
    failure: Option<String>,
    next_dial: Instant,
}

impl Hint {
    fn new(addr: Multiaddr, now: Instant) -> Self {
        Self {
            addr,
            dialling: false,
            tried: false,
            peer: None,
            failure: None,
            next_dial: now,
        }
    }
}

impl Search {
    /// Peers named by hand whose first dial has not ended.
    pub(super) fn dialling(&self) -> usize {
        self.hints.iter().filter(|h| !h.tried).count()
    }

    /// More peers are named.
    pub(super) fn hint(&mut self, addrs: &[Multiaddr]) {
        for addr in addrs {
            if self.hints.iter().all(|hint| hint.addr != *addr) {
                self.hints.push(Hint::new(addr.clone(), clock::now()));
            }
        }
    }

    /// How the last dials to peers named by hand failed.
    pub(super) fn dial_failures(&self) -> String {
        let failures: Vec<&str> = self
            .hints
            .iter()
            .filter_map(|h| h.failure.as_deref())
            .collect();
        failures.join("; ")
    }

    /// A peer that is named twice is dialled once.
    pub(super) fn new(mut addrs: Vec<Multiaddr>, now: Instant) -> Self {
        let mut seen = HashSet::new();
        addrs.retain(|addr| seen.insert(addr.clone()));
        Self {
            discovering: false,
            record_asked: false,
            record_done: false,
            lookup_runs: false,
            lookups: 0,
            lookups_since_ban: 0,
            next_lookup: now,
            next_told: now,
            next_orphans: now,
            orphans_run: false,
            orphans_tried: false,
            orphan_start: 0,
            hints: addrs.into_iter().map(|addr| Hint::new(addr, now)).collect(),
            others_from: now,
            began: now,
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
        if !self.needs_network() && !self.is_unnamed() && !self.is_named_for_readers() {
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
        let now = clock::now();
        self.dial_hints(&discovery, now);
        for peer in std::mem::take(&mut self.job.terms.peers) {
            self.candidate(peer, None, Origin::Found);
            self.search.others_from = now + HEAD_START;
        }
        if now < self.search.others_from {
            return;
        }
        if !self.search.discovering {
            self.search.discovering = true;
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
        let is_name_needed = self.is_unnamed() || self.is_named_for_readers();
        if !self.search.record_asked && (self.running.is_none() || is_name_needed) {
            self.search.record_asked = true;
            self.tasks.spawn("record", discovery.clone().record());
        }
        if !self.search.lookup_runs && now >= self.search.next_lookup {
            self.search.lookup_runs = true;
            let first = self.search.lookups == 0;
            self.tasks.spawn("lookup", discovery.clone().lookup(first));
        }
        self.look_for_orphans(discovery, now);
    }

    pub(super) fn look_for_orphans(&mut self, discovery: Discovery, now: Instant) {
        let Some(r) = &self.running else { return };
        if now < self.search.next_orphans || self.search.lookups == 0 || self.search.orphans_run {
            return;
        }
        self.search.next_orphans = now + STARVED_PAUSE; // the test looks at every chunk
        let moves = self.job.sources.joined_count() > 0 && r.pace.idle(now) < ORPHAN_AFTER;
        if moves || !r.sched.is_starved() {
            return;
        }
        self.search.next_orphans = now + ORPHAN_PAUSE;
        let indices = r.sched.orphans(self.search.orphan_start, ORPHANS_AT_A_TIME);
        let Some(last) = indices.last() else { return };
        self.search.orphan_start = last.saturating_add(1);
        self.search.orphans_run = true;
        let orphans: Vec<(u32, [u8; 32])> = indices
            .into_iter()
            .filter_map(|i| {
                r.manifest
                    .chunks()
                    .get(i as usize)
                    .map(|c| (i, *c.hash.as_bytes()))
            })
            .collect();
        let first = !std::mem::replace(&mut self.search.orphans_tried, true);
        self.tasks
            .spawn("chunk lookups", discovery.chunks(orphans, first));
    }

    pub(super) fn candidate(&mut self, peer: PeerId, claim: Option<u32>, origin: Origin) {
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        let is_refuted = |index| self.claims.is_refuted(peer, index, clock::now());
        if claim.is_some_and(is_refuted) {
            return;
        }
        if let (Some(slot), Some(index)) = (self.job.sources.slot_of(&peer), claim) {
            // What a peer itself tells of a file counts for more: a sole seed gives everybody another part.
            if self.job.sources.get(slot).is_some_and(|s| s.knows_file) {
                return;
            }
            self.claims.note(slot, index);
            self.schedule(Event::PeerHasChunk { peer: slot, index });
            return;
        }
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        self.job.sources.down_bytes_per_s = dht.bandwidth().down_bytes_per_s;
        let admitted = self.job.sources.admit(peer, origin, clock::now(), commands);
        let Some(Admitted { slot, evicted }) = admitted else {
            return;
        };
        if let Some(idle) = evicted {
            self.schedule(Event::PeerLeft { peer: idle });
        }
        if let Some(index) = claim {
            self.claims.note(slot, index);
        }
        let session = Session {
            dht,
            peer,
            addrs: self.job.sources.told.addrs(&peer),
            slot,
            address: self.job.address,
            goal: self.goal.subscribe(),
            events: self.events.clone(),
            manifest_turns: self.manifest_turns.clone(),
            early_bytes: self.early_bytes.clone(),
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
        self.tell_name(record.as_ref());
        if self.is_unnamed() {
            self.job.record = record;
            return self.name_output().await;
        }
        if let Some(record) = record {
            let inline = record.manifest().cloned();
            self.job.record = Some(record);
            if let Some(manifest) = inline
                && self.waiting.is_none()
                && self.is_usable(&manifest)
            {
                return self.choose(Arc::new(manifest), false).await;
            }
        }
        match self.waiting.take() {
            Some((manifest, _)) => self.choose(manifest, false).await,
            None => Ok(None),
        }
    }

    pub(super) fn is_usable(&self, manifest: &Manifest) -> bool {
        self.running.is_none()
            && !self.job.bad_manifests.contains_key(&manifest.id())
            && self.job.has_told_size(manifest.size_bytes())
    }

    /// A peer offers a manifest that merges to the address. The first one is taken; that there are others is
    /// remembered.
    pub(super) async fn offered(
        &mut self,
        slot: PeerSlot,
        manifest: Arc<Manifest>,
    ) -> Result<Option<End>, ApiError> {
        self.job.sources.offered = true;
        let peer = self.job.sources.peer(slot);
        if let Some(peer) = peer {
            let offerers = self.offered_by.entry(manifest.id()).or_default();
            if offerers.len() < MAX_OFFERERS {
                offerers.push(peer);
            }
        }
        match (self.job.bad_manifests.get(&manifest.id()), peer) {
            (Some(Bad::Forged), Some(peer)) => {
                self.ban(peer, "it offers a forged manifest");
                return Ok(None);
            }
            (Some(Bad::Forged), None) => return Ok(None),
            // Somebody serves it again. Whoever has another one has a moment to say so first.
            (Some(Bad::Deserted), _) => {
                if self.running.is_none() {
                    self.last_resort = Some(manifest);
                }
                return Ok(None);
            }
            // A length is proven by the last group alone: of this one and the link, either may be wrong. Whoever has
            // one that the link agrees with has a moment, too.
            (None, _)
                if self.running.is_none() && !self.job.has_told_size(manifest.size_bytes()) =>
            {
                self.last_resort = Some(manifest);
                return Ok(None);
            }
            (None, _) => {}
        }
        let waiting = self.waiting.as_ref().map(|(m, _)| m.id());
        if let Some(chosen) = self.running.as_ref().map(|r| r.manifest.id()).or(waiting) {
            self.others |= chosen != manifest.id();
            return Ok(None);
        }
        let named =
            self.job.told_name.is_some() || self.job.record.is_some() || self.search.record_done;
        let late = matches!(self.job.target, Target::Folder { .. }) && !named;
        if late && !self.may_be_named_late(&manifest).await? {
            self.waiting = Some((manifest, clock::now()));
            return Ok(None);
        }
        self.choose(manifest, late).await
    }

    /// A peer that was found for a chunk does not have it, or is not there.
    pub(super) fn forget_claim(&self, slot: PeerSlot, index: u32) {
        let chunks = self.running.as_ref().map(|r| r.manifest.chunks());
        let chunk = chunks.and_then(|chunks| chunks.get(index as usize));
        if let (Some(chunk), Some(dht), Some(peer)) =
            (chunk, &self.job.node.dht, self.job.sources.peer(slot))
        {
            dht.forget_provider(*chunk.hash.as_bytes(), peer);
        }
    }

    pub(super) fn gone(&mut self, slot: PeerSlot, end: &SessionEnd) {
        let was_active = self.job.sources.get(slot).is_some();
        if was_active {
            tracing::debug!(slot = slot.0, %end, "a session ended");
        }
        self.job.sources.gone(slot, end, clock::now());
        self.schedule(Event::PeerLeft { peer: slot });
        if let (SessionEnd::Unreachable(_), Some(peer)) = (end, self.job.sources.peer(slot)) {
            self.job.sources.told.failed(&peer);
        }
        let claims = self.claims.take(slot);
        if matches!(end, SessionEnd::Unreachable(_) | SessionEnd::NotHere)
            && let (Some(dht), Some(peer)) = (&self.job.node.dht, self.job.sources.peer(slot))
        {
            dht.forget_provider(*self.job.address.as_bytes(), peer);
            // Who does not know the file may have its chunks as parts of others.
            if matches!(end, SessionEnd::Unreachable(_)) {
                claims.iter().for_each(|i| self.forget_claim(slot, *i));
            }
        }
        if end.is_peer_fault()
            && let Some(peer) = self.job.sources.peer(slot)
        {
            tracing::warn!(%peer, %end, "a peer does not keep to the protocol; this download asks it no more");
            self.ban(peer, "it does not keep to the protocol");
        }
        if self.job.sources.active() == 0 {
            self.search.next_lookup = self.search.next_lookup.min(clock::now() + LOOKUP_PAUSE);
        }
    }

    /// Asks this peer no more in this download. Whoever passes a forged manifest on need not be its forger.
    pub(super) fn ban(&mut self, peer: PeerId, why: &'static str) {
        self.search.lookups_since_ban = 0;
        self.search.next_lookup = self.search.next_lookup.min(clock::now() + LOOKUP_PAUSE);
        if let Some(slot) = self.job.sources.slot_of(&peer) {
            self.schedule(Event::PeerLeft { peer: slot });
        }
        self.job.sources.ban(peer, why);
    }

    /// The same, and this node refuses the peer for a while: no honest peer sends bytes that it has not checked.
    pub(super) fn ban_in_network(&mut self, peer: PeerId, why: &'static str) {
        self.ban(peer, why);
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        self.job.node.tasks.spawn("ban", async move {
            dht.ban(peer, BAN).await;
            Ok::<(), Infallible>(())
        });
    }

    /// Dials peers named by hand that are not connected, now and again.
    fn dial_hints(&mut self, discovery: &Discovery, now: Instant) {
        for hint in &mut self.search.hints {
            let asked = hint
                .peer
                .is_some_and(|p| self.job.sources.slot_of(&p).is_some());
            if !hint.dialling && !asked && now >= hint.next_dial {
                hint.dialling = true;
                self.tasks
                    .spawn("dial hint", discovery.clone().hint(hint.addr.clone()));
            }
        }
    }

    /// The dial to a peer named by hand ended.
    pub(super) fn dialled(&mut self, addr: &Multiaddr, outcome: Result<PeerId, String>) {
        let Some(hint) = self.search.hints.iter_mut().find(|h| h.addr == *addr) else {
            return;
        };
        hint.dialling = false;
        hint.tried = true;
        hint.next_dial = clock::now() + REDIAL_PAUSE;
        match outcome {
            Ok(peer) => {
                hint.peer = Some(peer);
                hint.failure = None;
                self.candidate(peer, None, Origin::Found);
            }
            Err(why) => hint.failure = Some(format!("{addr}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_named_twice_is_waited_for_once() {
        let addr: Multiaddr = "/ip4/192.0.2.1/tcp/4101".parse().unwrap();
        let search = Search::new(vec![addr.clone(), addr], clock::now());
        assert_eq!(search.dialling(), 1);
    }
}
