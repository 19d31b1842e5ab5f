//! A swarm as it is shown to people.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use casnode_cas::HaveBitmap;
use casnode_dht::PeerId;

use super::{
    member::Here,
    swarm::{Member, Swarm},
};
use crate::{choke::SwarmMode, sched::Mono};

/// One swarm at one moment. Of a swarm that nobody is in, the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct SwarmView {
    /// Its mode.
    pub(crate) mode: SwarmMode,
    /// How often the rarest chunk is there among the peers, with the share of chunks that are there once more after
    /// the point; this node's own chunks counted.
    pub(crate) copies: f64,
    /// Bytes of it sent, since the node's start.
    pub(crate) up_bytes: u64,
    /// Bytes of it fetched, since the node's start.
    pub(crate) down_bytes: u64,
    /// Everybody of it with a stream to or from this node, each once.
    pub(crate) peers: Vec<PeerView>,
}

/// One of its peers: what its streams of both directions tell.
#[derive(Debug, Clone)]
pub(crate) struct PeerView {
    pub(crate) peer: PeerId,
    /// Averages of the last 20 s.
    pub(crate) up_bytes_per_s: u64,
    pub(crate) down_bytes_per_s: u64,
    /// Of this swarm alone.
    pub(crate) up_bytes: u64,
    pub(crate) down_bytes: u64,
    /// `None`: it has not said.
    pub(crate) have_chunks: Option<u32>,
    /// `None`: it asks this node for nothing.
    pub(crate) choked_by_us: Option<bool>,
    /// `None`: this node asks it for nothing.
    pub(crate) chokes_us: Option<bool>,
    pub(crate) interested_in_us: bool,
    pub(crate) interests_us: bool,
    pub(crate) snubs_us: bool,
}

/// Who has what of a swarm, to be counted when its registry is no longer held: that takes time for every chunk and member.
#[derive(Debug)]
pub(super) struct Holders {
    here: Option<Here>,
    members: Vec<Arc<HaveBitmap>>,
    /// Sources that have everything, and ask this node for nothing. How much others have is known, but not what.
    whole_sources: usize,
}

/// A swarm as it is now, but for its copies.
pub(super) fn of(swarm: &Swarm, now: Mono) -> SwarmView {
    let mut peers: HashMap<PeerId, PeerView> = HashMap::new();
    for member in swarm.members.values() {
        let view = peers
            .entry(member.peer)
            .or_insert_with(|| nobody(member.peer));
        let choked = !member.line.is_unchoked();
        view.up_bytes_per_s += member.takes.per_s(now);
        view.up_bytes += member.line.bytes();
        view.have_chunks = view.have_chunks.max(u32::try_from(member.has.count()).ok());
        view.choked_by_us = Some(view.choked_by_us.unwrap_or(true) && choked);
        view.interested_in_us |= member.is_interested();
    }
    for (peer, source) in &swarm.sources {
        let view = peers.entry(*peer).or_insert_with(|| nobody(*peer));
        view.down_bytes_per_s = source.gives.per_s(now);
        view.down_bytes = source.bytes;
        view.have_chunks = view.have_chunks.max(Some(source.view.have_chunks));
        view.chokes_us = Some(source.view.chokes_us);
        view.interests_us = source.view.interests_us;
        view.snubs_us = source.view.snubs_us;
    }
    let uncounted: u64 = swarm.members.values().map(Member::uncounted_bytes).sum();
    SwarmView {
        mode: swarm.mode,
        copies: 0.0,
        up_bytes: swarm.up_bytes + swarm.uncounted_bytes + uncounted,
        down_bytes: swarm.down_bytes,
        peers: peers.into_values().collect(),
    }
}

fn nobody(peer: PeerId) -> PeerView {
    PeerView {
        peer,
        up_bytes_per_s: 0,
        down_bytes_per_s: 0,
        up_bytes: 0,
        down_bytes: 0,
        have_chunks: None,
        choked_by_us: None,
        chokes_us: None,
        interested_in_us: false,
        interests_us: false,
        snubs_us: false,
    }
}

impl Holders {
    pub(super) fn of(swarm: &Swarm) -> Self {
        let asking: HashSet<PeerId> = swarm.members.values().map(|m| m.peer).collect();
        let chunks = swarm.here.as_ref().map(|here| here.have.len());
        let is_whole = |have_chunks: u32| Some(have_chunks as usize) == chunks;
        let sources = swarm.sources.iter();
        let whole = sources.filter(|(p, s)| is_whole(s.view.have_chunks) && !asking.contains(p));
        Self {
            here: swarm.here.clone(),
            members: swarm.members.values().map(|m| m.has.clone()).collect(),
            whole_sources: whole.count(),
        }
    }

    /// How often the rarest chunk is there, and the share of chunks that are there once more.
    pub(super) fn copies(self) -> f64 {
        let Some(here) = self.here else {
            return 0.0;
        };
        let chunks = here.have.len();
        if chunks == 0 {
            return 0.0;
        }
        let mut held = vec![self.whole_sources; chunks];
        let mut count = |have: &HaveBitmap| have.iter_ones().for_each(|index| held[index] += 1);
        count(&here.now());
        let members = self.members.iter().filter(|has| has.len() == chunks);
        members.for_each(|has| count(has));
        let least = held.iter().copied().min().unwrap_or(0);
        let more = held.iter().filter(|held| **held > least).count();
        least as f64 + more as f64 / chunks as f64
    }
}
