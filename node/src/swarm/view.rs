//! A swarm as it is shown to people.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use casnode_cas::HaveBitmap;
use casnode_dht::PeerId;

use super::{
    member::Here,
    source::SourceHas,
    swarm::{Member, Swarm},
};
use crate::{choke::SwarmMode, sched::Mono};

/// One swarm at one moment. Of a swarm that nobody is in, the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct SwarmView {
    /// Its mode.
    pub(crate) mode: SwarmMode,
    /// Who has what of it.
    pub(crate) holders: Holders,
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
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders {
    here: Option<Here>,
    members: Vec<Arc<HaveBitmap>>,
    /// Those sources that ask this node for nothing.
    sources: Vec<SourceHas>,
}

/// A swarm as it is now.
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
        holders: Holders::of(swarm),
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
    fn of(swarm: &Swarm) -> Self {
        let asking: HashSet<PeerId> = swarm.members.values().map(|m| m.peer).collect();
        let sources = swarm.sources.iter();
        let silent = sources.filter(|(peer, _)| !asking.contains(peer));
        Self {
            here: swarm.here.clone(),
            members: swarm.members.values().map(|m| m.has.clone()).collect(),
            sources: silent.map(|(_, s)| s.has.clone()).collect(),
        }
    }

    /// How often each chunk is known to be there, what is in the store of this node counted.
    pub(crate) fn count(&self, stored: &HaveBitmap) -> Vec<u32> {
        let chunks = stored.len();
        let mut held = vec![0; chunks];
        let mut own = stored.clone();
        if let Some(here) = self.here.as_ref().map(Here::now) {
            here.iter_ones()
                .filter(|index| *index < chunks)
                .for_each(|index| {
                    own.set(index);
                });
        }
        let mut add = |have: &HaveBitmap| have.iter_ones().for_each(|index| held[index] += 1);
        add(&own);
        let members = self.members.iter().filter(|has| has.len() == chunks);
        members.for_each(|has| add(has));
        let sources = self.sources.iter().map(SourceHas::now);
        sources
            .filter(|has| has.len() == chunks)
            .for_each(|has| add(&has));
        held
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::Address;

    use super::*;

    fn having(len: usize, ones: &[usize]) -> HaveBitmap {
        let mut have = HaveBitmap::new(len);
        ones.iter().for_each(|index| {
            have.set(*index);
        });
        have
    }

    #[test]
    fn a_chunk_is_there_as_often_as_somebody_is_known_to_have_it() {
        let late = SourceHas::new(having(4, &[]));
        let holders = Holders {
            here: Some(Here {
                address: Address::from_bytes([1; 32]),
                have: having(4, &[0, 1]),
                live: None,
            }),
            // One speaks of another number of chunks than there are.
            members: vec![Arc::new(having(4, &[1, 2])), Arc::new(having(9, &[3, 8]))],
            // One has everything, and one what it says after a while.
            sources: vec![SourceHas::new(having(4, &[0, 1, 2, 3])), late.clone()],
        };
        assert_eq!(holders.count(&having(4, &[0])), [2, 3, 2, 1]);
        assert_eq!(late.add(&[3, 4, 100]), 1);
        assert_eq!(holders.count(&having(4, &[0])), [2, 3, 2, 2]);
        let nobody = Holders::default();
        assert_eq!(nobody.count(&having(3, &[2])), [0, 0, 1]);
        assert_eq!(nobody.count(&having(0, &[])), [0_u32; 0]);
    }
}
