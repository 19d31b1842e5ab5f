//! The peers of one download: who is asked, who was, and how it went.

mod past;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::Arc,
    time::Instant,
};

use casnode_cas::{HaveBitmap, ManifestId};
use casnode_dht::PeerId;
use tokio::sync::mpsc;

pub(super) use self::source::Origin;
use self::{
    past::{Answer, Past},
    source::Source,
};
use super::{
    session::{Command, SessionEnd},
    told::Told,
};
use crate::{
    api::ProviderUse,
    sched::PeerSlot,
    swarm::{SourceHas, SourceView, Swarms},
};

/// Sessions at a time. With as many of others' at this node a peer has some 64 neighbours: of 1,000 machines each is
/// two steps from every other, and a chunk that one gets is told to 64, which at 100 Mbit/s costs less than a
/// hundredth of the line. Half as many would do for speed; the rest makes up for peers that choke, crawl or lie.
const MAX_SESSIONS: usize = 32;

/// Where this node takes no more than it was told to, each session is to get so much of that: thinner ones would be given up.
const SESSION_BYTES_PER_S: u64 = 32 << 10;
/// With the lowest limit, too, there are two: one may not answer.
const MIN_SESSIONS: usize = 2;

/// A peer that said so often that it does not have what it claims to have is let go.
const MAX_LIES: u32 = 8;

/// Peers remembered with how they ended; beyond it the one that ended first is forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Sessions of which it is remembered whose they were, so that what they sent can be judged.
const MAX_SLOTS: usize = 4096;

/// A candidate that is to be asked.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) slot: PeerSlot,
    /// The session that made room.
    pub(super) evicted: Option<PeerSlot>,
}

/// Of the peers that have what is wanted, how many choke this node, and how many do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turns {
    pub(super) choking: usize,
    pub(super) sending: usize,
}

impl Turns {
    /// Whoever has what is wanted serves others first.
    pub(super) fn are_waited_for(self) -> bool {
        self.choking > 0 && self.sending == 0
    }
}

/// The peers of one download, over all its attempts.
#[derive(Debug, Default)]
pub(super) struct Sources {
    active: BTreeMap<PeerSlot, Source>,
    past: HashMap<PeerId, Past>,
    banned: HashMap<PeerId, &'static str>,
    /// Whom peers of the swarm told of.
    pub(super) told: Told,
    uses: BTreeMap<PeerId, ProviderUse>,
    /// Every slot's peer; what a session sent may be judged after it is gone.
    slots: BTreeMap<PeerSlot, PeerId>,
    next_slot: u32,
    /// What this node takes at most.
    pub(super) down_bytes_per_s: Option<NonZeroU64>,
    /// Some peer has said that it knows the file; one that has a single chunk of it need not.
    pub(super) offered: bool,
}

impl Sources {
    /// Admits a candidate; `None` when it is asked already, banned, was tried just now, or there are enough. When all
    /// places are taken, a session that has been of no use for a while makes room.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        origin: Origin,
        now: Instant,
        commands: mpsc::Sender<Command>,
    ) -> Option<Admitted> {
        if let Some(source) = self.active.values_mut().find(|s| s.peer == peer) {
            if origin == Origin::Found {
                source.origin = origin; // there is better word of it now
            }
            return None;
        }
        let rests = |p: &Past| now.saturating_duration_since(p.at) < p.answer.pause();
        if self.banned.contains_key(&peer)
            || self.past.get(&peer).is_some_and(rests)
            || (origin != Origin::Found && self.by_word(origin) >= self.most() / 2)
        {
            return None;
        }
        let mut evicted = None;
        if self.is_full() {
            let slot = self.least_useful(origin, now)?;
            self.gone(slot, &SessionEnd::MadeRoom, now);
            evicted = Some(slot);
        }
        let slot = self.new_slot(peer);
        self.active
            .insert(slot, Source::new(peer, origin, now, commands));
        Some(Admitted { slot, evicted })
    }

    fn new_slot(&mut self, peer: PeerId) -> PeerSlot {
        let slot = PeerSlot(self.next_slot);
        self.next_slot += 1;
        self.slots.insert(slot, peer);
        if self.slots.len() > MAX_SLOTS {
            let over = self.slots.keys().find(|s| !self.active.contains_key(s));
            if let Some(over) = over.copied() {
                self.slots.remove(&over);
            }
        }
        slot
    }

    fn by_word(&self, origin: Origin) -> usize {
        let same = self.active.values().filter(|s| s.origin == origin);
        same.count()
    }

    /// The session that makes room: of those that have been of no use for too long the one for the longest time.
    fn least_useful(&self, newcomer: Origin, now: Instant) -> Option<PeerSlot> {
        let overdue = |s: &Source| {
            let idle = now.saturating_duration_since(s.useful_at);
            idle.checked_sub(s.grace(newcomer))
        };
        let idle = self.active.iter();
        let idle = idle.filter_map(|(slot, s)| Some((overdue(s)?, *slot)));
        idle.max().map(|(_, slot)| slot)
    }

    /// The session of a peer.
    pub(super) fn slot_of(&self, peer: &PeerId) -> Option<PeerSlot> {
        self.active
            .iter()
            .find(|(_, s)| s.peer == *peer)
            .map(|(slot, _)| *slot)
    }

    /// A session has delivered so much.
    pub(super) fn delivered(&mut self, slot: PeerSlot, bytes: u64, now: Instant) {
        if let Some(source) = self.active.get_mut(&slot) {
            source.useful_at = now;
            source.fresh_bytes += bytes;
        }
    }

    /// A peer is of use although it may have delivered nothing.
    pub(super) fn is_of_use(&mut self, peer: &PeerId, now: Instant) {
        if let Some(source) = self.active.values_mut().find(|s| s.peer == *peer) {
            source.useful_at = now;
        }
    }

    /// True when somebody must make room for whoever comes next.
    pub(super) fn is_full(&self) -> bool {
        self.active.len() >= self.most()
    }

    /// Sessions at a time; at most half of them by the word of one peer that told of others.
    fn most(&self) -> usize {
        let Some(limit) = self.down_bytes_per_s else {
            return MAX_SESSIONS;
        };
        let fed = usize::try_from(limit.get() / SESSION_BYTES_PER_S).unwrap_or(MAX_SESSIONS);
        fed.clamp(MIN_SESSIONS, MAX_SESSIONS)
    }

    /// Changes what is known of a source.
    pub(super) fn see(&mut self, slot: PeerSlot, change: impl FnOnce(&mut SourceView)) {
        if let Some(source) = self.active.get_mut(&slot) {
            change(&mut source.view);
        }
    }

    /// Notes who has sent nothing for long, although it was asked.
    pub(super) fn see_snubs(&mut self, snubs: impl Fn(PeerSlot) -> bool) {
        for (slot, source) in &mut self.active {
            source.view.snubs_us = snubs(*slot);
        }
    }

    /// It sends nothing from now on, whatever it was asked for.
    pub(super) fn choked(&mut self, slot: PeerSlot) {
        if let Some(source) = self.active.get_mut(&slot) {
            source.chokes = source.chokes.wrapping_add(1);
            source.view.chokes_us = true;
        }
    }

    /// It did not have a chunk that it claims to have; true when that was once too often.
    pub(super) fn lied(&mut self, slot: PeerSlot) -> bool {
        self.active.get_mut(&slot).is_some_and(|source| {
            source.lies += 1;
            source.lies >= MAX_LIES
        })
    }

    /// How many peers have what is wanted and send nothing at present, and how many have it and send.
    pub(super) fn turns(&self) -> Turns {
        let wanted = self.active.values();
        let wanted = wanted.filter(|s| s.is_joined() && s.view.interests_us);
        let (choking, sending): (Vec<_>, Vec<_>) = wanted.partition(|s| s.view.chokes_us);
        Turns {
            choking: choking.len(),
            sending: sending.len(),
        }
    }

    /// Tells the swarm of this manifest what its members have given since the last time, and how they stand to this node.
    pub(super) fn report(&mut self, swarms: &Arc<Swarms>, manifest: ManifestId) {
        let joined = self.active.values_mut().filter(|s| s.is_joined());
        joined.for_each(|source| source.report(swarms, manifest));
    }

    /// Takes everybody's entry in the swarm back: nothing is fetched any more.
    pub(super) fn leave_swarm(&mut self) {
        self.active.values_mut().for_each(|s| s.entered = None);
    }

    pub(super) fn get(&self, slot: PeerSlot) -> Option<&Source> {
        self.active.get(&slot)
    }

    /// A peer has an entry of the file, be it of a part.
    pub(super) fn knows_file(&mut self, slot: PeerSlot) {
        self.offered = true;
        if let Some(source) = self.active.get_mut(&slot) {
            source.knows_file = true;
        }
    }

    /// It is asked for chunks from now on, and has these.
    pub(super) fn joined(&mut self, slot: PeerSlot, have: HaveBitmap) {
        if let Some(source) = self.active.get_mut(&slot) {
            source.view.have_chunks = u32::try_from(have.count()).unwrap_or(u32::MAX);
            source.has = Some(SourceHas::new(have));
        }
    }

    /// It has these chunks, too.
    pub(super) fn got(&mut self, slot: PeerSlot, indices: &[u32]) {
        if let Some(source) = self.active.get_mut(&slot)
            && let Some(has) = &source.has
        {
            source.view.have_chunks = has.add(indices);
        }
    }

    /// Takes a session away and remembers how it ended.
    pub(super) fn gone(&mut self, slot: PeerSlot, end: &SessionEnd, now: Instant) {
        if let Some(source) = self.active.remove(&slot) {
            if self.past.len() >= MAX_REMEMBERED
                && let Some(oldest) = self
                    .past
                    .iter()
                    .min_by_key(|(_, p)| p.at)
                    .map(|(peer, _)| *peer)
            {
                self.past.remove(&oldest);
            }
            self.past.insert(
                source.peer,
                Past {
                    at: now,
                    answer: Answer::of(end),
                    why: crate::errors::brief(end),
                },
            );
        }
    }

    /// Ends all sessions, for another attempt: closing its command channel ends a session.
    pub(super) fn release_all(&mut self) {
        self.active.clear();
        self.past.clear();
    }

    /// Never asks this peer again in this download.
    pub(super) fn ban(&mut self, peer: PeerId, why: &'static str) {
        self.banned.insert(peer, why);
        self.active.retain(|_, s| s.peer != peer);
    }

    pub(super) fn peer(&self, slot: PeerSlot) -> Option<PeerId> {
        self.slots.get(&slot).copied()
    }

    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    pub(super) fn joined_count(&self) -> u32 {
        u32::try_from(self.active.values().filter(|s| s.is_joined()).count()).unwrap_or(u32::MAX)
    }

    /// Peers that were found and could not be reached.
    pub(super) fn unreachable(&self) -> usize {
        self.ended_by(Answer::Unreachable)
    }

    /// Peers that were reached and did not say whether they have the file.
    pub(super) fn turned_away(&self) -> usize {
        self.ended_by(Answer::TurnedAway)
    }

    fn ended_by(&self, answer: Answer) -> usize {
        let counts = |(peer, past): &(&PeerId, &Past)| {
            past.answer == answer && !self.banned.contains_key(*peer)
        };
        self.past.iter().filter(counts).count()
    }

    pub(super) fn banned(&self) -> usize {
        self.banned.len()
    }

    /// What a peer has sent so far.
    pub(super) fn tally(&mut self, peer: PeerId) -> &mut ProviderUse {
        self.uses.entry(peer).or_insert_with(|| ProviderUse {
            peer: peer.to_string(),
            bytes: 0,
            chunks: 0,
            rejected: 0,
        })
    }

    pub(super) fn uses(&self) -> Vec<ProviderUse> {
        let mut uses: Vec<ProviderUse> = self.uses.values().cloned().collect();
        uses.sort_by_key(|u| std::cmp::Reverse(u.bytes));
        uses
    }

    /// How the peers that were tried ended, in words; at most a few.
    pub(super) fn story(&self) -> String {
        const SHOWN: usize = 3;
        let mut parts: Vec<String> = self
            .banned
            .iter()
            .map(|(peer, why)| format!("{peer} was banned: {why}"))
            .collect();
        let mut past: Vec<(&PeerId, &Past)> = self
            .past
            .iter()
            .filter(|(peer, _)| !self.banned.contains_key(peer))
            .collect();
        past.sort_by_key(|(peer, _)| **peer);
        parts.extend(
            past.iter()
                .map(|(peer, past)| format!("{peer}: {}", past.why)),
        );
        let more = parts.len().saturating_sub(SHOWN);
        parts.truncate(SHOWN);
        if more > 0 {
            parts.push(format!("and {more} more"));
        }
        parts.join("; ")
    }
}
