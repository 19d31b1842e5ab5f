//! All swarms, and who is served among their members: pure, the time is an argument.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use casnode_cas::{Address, ManifestId};
use casnode_dht::PeerId;

use super::{
    Census,
    load::LoadOfAll,
    member::Joining,
    swarm::{Admission, Member, Swarm, UNKNOWN},
};
use crate::{
    choke::{Candidate, Choker, Decision, Slots, SwarmMode},
    sched::Mono,
};

/// Files of which it was said in what mode their swarms are. When there are more, those without a swarm are forgotten.
const MAX_MODES: usize = 4096;

/// The swarms of a node.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) mode: SwarmMode,
    modes: HashMap<Address, SwarmMode>,
    swarms: HashMap<ManifestId, Swarm>,
    /// The swarm of each stream.
    streams: HashMap<u64, ManifestId>,
    next_stream: u64,
    next_swarm: u64,
    choker: Choker,
    slots: Slots,
    /// How many are unchoked.
    served: Arc<AtomicUsize>,
}

impl Table {
    /// `served` says from then on how many are unchoked.
    pub(super) fn new(mode: SwarmMode, seed: u64, served: Arc<AtomicUsize>) -> Self {
        Self {
            mode,
            modes: HashMap::new(),
            swarms: HashMap::new(),
            streams: HashMap::new(),
            next_stream: 0,
            next_swarm: 0,
            choker: Choker::new(seed),
            slots: Slots::new(mode),
            served,
        }
    }

    pub(super) fn set_mode(&mut self, address: Address, mode: SwarmMode) {
        if self.modes.len() >= MAX_MODES {
            let here: Vec<_> = self.swarms.values().filter_map(|s| s.address).collect();
            self.modes.retain(|address, _| here.contains(address));
        }
        self.modes.insert(address, mode);
        let swarms = self.swarms.values_mut();
        for swarm in swarms.filter(|s| s.address == Some(address)) {
            swarm.mode = mode;
        }
    }

    pub(super) fn get(&self, manifest: &ManifestId) -> Option<&Swarm> {
        self.swarms.get(manifest)
    }

    /// The swarm, if there is one.
    pub(super) fn get_mut(&mut self, manifest: &ManifestId) -> Option<&mut Swarm> {
        self.swarms.get_mut(manifest)
    }

    /// The swarm, which begins now if need be.
    pub(super) fn enter(&mut self, manifest: ManifestId) -> &mut Swarm {
        match self.swarms.entry(manifest) {
            Entry::Occupied(swarm) => swarm.into_mut(),
            Entry::Vacant(place) => {
                self.next_swarm += 1;
                place.insert(Swarm::new(self.next_swarm, self.mode))
            }
        }
    }

    /// The swarm of a file, in the mode that was said of it; it begins now if need be.
    pub(super) fn begin(&mut self, manifest: ManifestId, address: Address) -> &mut Swarm {
        let mode = self.modes.get(&address).copied();
        let swarm = self.enter(manifest);
        swarm.address = Some(address);
        swarm.mode = mode.unwrap_or(swarm.mode);
        swarm
    }

    /// Lets go of a swarm that nobody has anything to do with.
    pub(super) fn tidy(&mut self, manifest: &ManifestId) {
        if self
            .swarms
            .get_mut(manifest)
            .is_some_and(Swarm::is_deserted)
        {
            self.swarms.remove(manifest);
        }
    }

    pub(super) fn tidy_all(&mut self) {
        self.swarms.retain(|_, swarm| !swarm.is_deserted());
    }

    /// A stream joins, and has a slot at once if one is free.
    pub(super) fn join(&mut self, joining: Joining, now: Mono) -> Admission {
        self.next_stream += 1;
        let (id, manifest) = (self.next_stream, joining.manifest);
        let swarm = match &joining.here {
            Some(here) => self.begin(manifest, here.address),
            None => self.enter(manifest),
        };
        let admission = swarm.join(id, joining, now);
        self.streams.insert(id, manifest);
        self.fill(now);
        admission
    }

    pub(super) fn leave(&mut self, id: u64) {
        if let Some(manifest) = self.streams.remove(&id)
            && let Some(swarm) = self.swarms.get_mut(&manifest)
        {
            swarm.leave(id);
            self.tidy(&manifest);
            self.count_served();
        }
    }

    /// Gives free slots to those who want one.
    pub(super) fn fill(&mut self, now: Mono) {
        let slots = self.slots.count();
        let mut members = self.swarms.values().flat_map(|s| s.members.values());
        let uses = |m: &&Member| m.line.is_unchoked() && m.is_interested();
        if members.by_ref().filter(uses).count() < slots {
            let candidates = self.candidates(now);
            let decision = self.choker.fill(now, &candidates, slots);
            self.carry_out(&decision);
        }
    }

    /// Decides anew who is served.
    pub(super) fn round(&mut self, now: Mono) {
        let candidates = self.candidates(now);
        let decision = self.choker.round(now, &candidates, self.slots.count());
        self.carry_out(&decision);
    }

    /// Counts what was sent in the time since the last call; the files it was of. When the line takes more, there are more
    /// slots from then on.
    pub(super) fn count(&mut self, now: Mono) -> Vec<(Address, u64)> {
        let (mut sent, mut load) = (Vec::new(), LoadOfAll::default());
        for swarm in self.swarms.values_mut() {
            let bytes = swarm.count(now, &mut load);
            if let Some(address) = swarm.address.filter(|_| bytes > 0) {
                sent.push((address, bytes));
            }
        }
        self.tidy_all();
        let before = self.slots.count();
        if self.slots.round(now, load.in_all()) > before {
            self.fill(now);
        }
        sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.swarms.is_empty()
    }

    /// Nobody may be served, and all that was sent is counted.
    pub(super) fn is_quiet(&self) -> bool {
        self.streams.is_empty() && self.swarms.values().all(|s| s.uncounted_bytes == 0)
    }

    /// Files that are served no more.
    pub(super) fn end_those_over(&mut self, is_over: impl Fn(&Address) -> bool) {
        for swarm in self.swarms.values().filter(|s| !s.members.is_empty()) {
            if let Some(address) = swarm.address {
                let over = is_over(&address);
                let members = swarm.members.values();
                members.for_each(|member| member.line.set_over(over));
            }
        }
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census {
            swarms: self.swarms.len() as u64,
            ..Census::default()
        };
        for member in self.swarms.values().flat_map(|s| s.members.values()) {
            match member.line.is_unchoked() {
                true => census.unchoked += 1,
                false => census.choked += 1,
            }
            census.interested += u64::from(member.is_interested());
        }
        let super_seeded = self.swarms.values().filter(|s| s.is_super_seeded());
        census.super_seeded = super_seeded.count() as u64;
        census
    }

    /// A peer that is to be looked for now, and its swarm.
    pub(super) fn sought(&mut self, now: Mono) -> Option<(ManifestId, PeerId)> {
        let mut swarms = self.swarms.iter_mut();
        swarms.find_map(|(id, swarm)| Some((*id, swarm.crowd.sought(now)?)))
    }

    fn candidates(&self, now: Mono) -> Vec<Candidate> {
        let swarms = self.swarms.values();
        let mut all: Vec<_> = swarms.flat_map(|swarm| swarm.candidates(now)).collect();
        one_of_each_peer(&mut all, |id| self.choker.is_unchoked(id));
        all.into_iter().map(|(_, candidate)| candidate).collect()
    }

    fn carry_out(&self, decision: &Decision) {
        let line = |id: &u64| {
            let swarm = self.swarms.get(self.streams.get(id)?)?;
            Some(&swarm.members.get(id)?.line)
        };
        for line in decision.choke.iter().filter_map(line) {
            line.set_unchoked(false);
        }
        for line in decision.unchoke.iter().filter_map(line) {
            line.set_unchoked(true);
        }
        self.count_served();
    }

    #[cfg(test)]
    pub(super) fn choke_all(&self) {
        let members = self.swarms.values().flat_map(|s| s.members.values());
        members.for_each(|member| member.line.set_unchoked(false));
    }

    fn count_served(&self) {
        let unchoked = |swarm: &Swarm| swarm.unchoked_count();
        let served = self.swarms.values().map(unchoked).sum();
        self.served.store(served, Ordering::Relaxed);
    }
}

/// Of a peer's streams whose files are not known here only one is taken to want anything: the one that is served, or else
/// the one that took least.
fn one_of_each_peer(candidates: &mut [(PeerId, Candidate)], is_served: impl Fn(u64) -> bool) {
    let rank = |c: &Candidate| (!is_served(c.id), c.taken_bytes, c.id);
    let is_one = |c: &Candidate| c.swarm == UNKNOWN && c.interested;
    let mut first = HashMap::new();
    for (peer, candidate) in candidates.iter().filter(|(_, c)| is_one(c)) {
        let best = first.entry(*peer).or_insert(rank(candidate));
        *best = rank(candidate).min(*best);
    }
    for (peer, candidate) in candidates.iter_mut().filter(|(_, c)| is_one(c)) {
        candidate.interested = first.get(peer) == Some(&rank(candidate));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use casnode_cas::HaveBitmap;

    use super::*;
    use crate::swarm::{Here, Line};

    /// A stream that joins with nothing.
    fn join(table: &mut Table, peer: PeerId, manifest: u8, is_known: bool) -> Arc<Line> {
        let line: Arc<Line> = Arc::default();
        let mut all = HaveBitmap::new(8);
        (0..8).for_each(|index| {
            all.set(index);
        });
        let here = is_known.then(|| Here {
            address: Address::from_bytes([manifest; 32]),
            have: all,
            live: None,
        });
        let joining = Joining {
            peer,
            manifest: ManifestId::from_bytes([manifest; 32]),
            line: line.clone(),
            has: HaveBitmap::new(8),
            here,
        };
        table.join(joining, Mono::default());
        line.wants();
        line
    }

    fn served(lines: &[Arc<Line>]) -> usize {
        lines.iter().filter(|line| line.is_unchoked()).count()
    }

    #[test]
    fn whoever_makes_up_manifests_gets_no_more_than_one_place_for_them() {
        let mut table = Table::new(SwarmMode::Fair, 1, Arc::default());
        let mut honest = Vec::new();
        for _ in 0..20 {
            honest.push(join(&mut table, PeerId::random(), 1, true));
        }
        let liar = PeerId::random();
        let made_up = [100, 101, 102, 103].map(|m| join(&mut table, liar, m, false));
        for round in 1..=60 {
            table.round(Mono(Duration::from_secs(10 * round)));
            assert_eq!(served(&honest) + served(&made_up), table.slots.count());
            assert!(served(&made_up) <= 1);
        }
    }

    #[test]
    fn all_files_that_are_not_known_share_what_one_that_is_known_gets() {
        let mut table = Table::new(SwarmMode::Trusted, 1, Arc::default());
        let mut join = |manifest, is_known| join(&mut table, PeerId::random(), manifest, is_known);
        let honest: Vec<_> = (0..20).map(|_| join(1, true)).collect();
        let made_up: Vec<_> = (100..150).map(|manifest| join(manifest, false)).collect();
        for round in 1..=20 {
            table.round(Mono(Duration::from_secs(10 * round)));
        }
        assert_eq!(served(&honest), served(&made_up));
    }

    #[test]
    fn a_swarm_that_a_download_begins_has_the_mode_of_its_file() {
        let mut table = Table::new(SwarmMode::Fair, 1, Arc::default());
        let file = |n| {
            (
                ManifestId::from_bytes([n; 32]),
                Address::from_bytes([n; 32]),
            )
        };
        table.set_mode(file(1).1, SwarmMode::Trusted);
        let mut begin = |n| table.begin(file(n).0, file(n).1).mode;
        assert_eq!((begin(1), begin(2)), (SwarmMode::Trusted, SwarmMode::Fair));
        table.set_mode(file(2).1, SwarmMode::Trusted);
        assert_eq!(table.enter(file(2).0).mode, SwarmMode::Trusted);
    }
}
