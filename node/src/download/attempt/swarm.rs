//! What a download and the swarm of its file tell each other.

use std::time::{Duration, Instant};

use casnode_cas::{HaveBitmap, ManifestId};
use casnode_dht::{Multiaddr, PeerId};

use super::{super::sources::Origin, Attempt};
use crate::sched::{Event, PeerSlot};

/// Peers that others told of, and that are not asked, are tried again after this; and it is seen who takes.
const RETRY_TOLD: Duration = Duration::from_secs(5);

impl Attempt<'_> {
    fn manifest_id(&self) -> Option<ManifestId> {
        self.running.as_ref().map(|r| r.manifest.id())
    }

    /// A session is ready for requests.
    pub(super) fn joined(&mut self, slot: PeerSlot, mut have: HaveBitmap) {
        if self.job.sources.get(slot).is_some_and(|s| !s.knows_file) {
            self.claims.add_to(slot, &mut have);
        }
        tracing::debug!(slot = slot.0, has = have.count(), "a source joined");
        self.job.sources.joined(slot, have.clone());
        self.schedule(Event::PeerJoined { peer: slot, have });
    }

    /// A peer has these chunks, too.
    pub(super) fn got(&mut self, slot: PeerSlot, indices: Vec<u32>) {
        self.job.sources.got(slot, &indices);
        self.schedule(Event::PeerGot {
            peer: slot,
            indices,
        });
    }

    /// A peer sends nothing from now on.
    pub(super) fn choked(&mut self, slot: PeerSlot) {
        self.job.sources.choked(slot);
        self.schedule(Event::Choked { peer: slot });
    }

    /// A peer sends what it is asked for from now on.
    pub(super) fn unchoked(&mut self, slot: PeerSlot) {
        self.job.sources.see(slot, |view| view.chokes_us = false);
        self.schedule(Event::Unchoked { peer: slot });
    }

    /// A peer told of others: they are remembered, and asked at once if there is room.
    pub(super) fn told(&mut self, slot: PeerSlot, others: Vec<(PeerId, Vec<Multiaddr>)>) {
        let Some(by) = self.job.sources.peer(slot) else {
            return;
        };
        for (peer, addrs) in others {
            self.job.sources.told.note(by, peer, addrs);
            self.candidate(peer, None, Origin::Told { by });
        }
    }

    /// Somebody joined the swarm at this node: whoever downloads a file has parts of it.
    pub(super) fn newcomer(&mut self, peer: PeerId) {
        self.candidate(peer, None, Origin::Told { by: peer });
    }

    /// Tries those again that others told of and that are not asked.
    pub(super) fn retry_told(&mut self, now: Instant) {
        if now < self.search.next_told || !self.needs_network() {
            return;
        }
        self.search.next_told = now + RETRY_TOLD;
        self.see_who_takes(now);
        for (peer, by) in self.job.sources.told.all() {
            self.candidate(peer, None, Origin::Told { by });
        }
    }

    /// Whoever takes from this node is of use, too: in a swarm that is how it comes to give.
    fn see_who_takes(&mut self, now: Instant) {
        if !self.job.sources.is_full() {
            return;
        }
        let Some(manifest) = self.manifest_id() else {
            return;
        };
        for view in self.job.node.swarms.peers(manifest) {
            if view.up_bytes_per_s > 0 {
                self.job.sources.is_of_use(&view.peer, now);
            }
        }
    }

    /// Tells the swarm what its members have given, and how they stand to this node.
    pub(super) fn report_to_swarm(&mut self) {
        let now = self.mono();
        let Some(r) = &self.running else { return };
        let sources = &mut self.job.sources;
        sources.see_snubs(|slot| r.sched.snubbed(slot, now));
        sources.report(&self.job.node.swarms, r.manifest.id());
    }

    /// The attempt is over: what is left of the swarm is others'.
    pub(super) fn leave_swarm(&mut self) {
        self.report_to_swarm();
        if let Some(r) = &mut self.running {
            r.newcomers.close();
        }
        self.job.sources.leave_swarm();
    }
}
