//! What earlier lookups said of the keyspace, for the runs that come soon after. Pure.

use std::collections::{HashSet, VecDeque};

use libp2p::PeerId;

use super::plan::{Plan, Region};

/// How long a lookup is believed.
const LIFETIME_SECS: u32 = 10 * 60;
/// Regions remembered: 1 MiB, and all regions of a network of ten thousand.
const MAX_REGIONS: usize = 512;

/// Regions that were looked up, oldest first.
#[derive(Default)]
pub(crate) struct Regions(VecDeque<(u32, Region)>);

impl Regions {
    /// Remembers a region; what overlaps it is forgotten.
    pub(crate) fn learn(&mut self, region: Region, now: u32) {
        self.0.retain(|(_, old)| {
            let shared = old.point.common_bits(&region.point);
            shared < old.depth && shared < region.depth
        });
        if self.0.len() >= MAX_REGIONS {
            self.0.pop_front();
        }
        self.0.push_back((now, region));
    }

    /// Tells a plan what is known.
    pub(crate) fn tell(&mut self, plan: &mut Plan, now: u32) {
        self.0
            .retain(|(at, _)| *at <= now && now - *at <= LIFETIME_SECS);
        self.0.iter().for_each(|(_, region)| plan.know(region));
    }

    /// These peers did not answer: where they were, somebody else is now.
    pub(crate) fn forget(&mut self, peers: &HashSet<PeerId>) {
        self.0
            .retain(|(_, region)| !region.peers.iter().any(|peer| peers.contains(peer)));
    }

    /// Nothing is known any more: the network has become another.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
