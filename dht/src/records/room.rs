//! Who gives way when there is no room. One rule throughout: the origin that has the most loses to one that
//! has less, and within an origin the peer that has the most. So nobody who has little loses anything to
//! somebody who has much, with however many identities.

use std::collections::HashMap;

use super::held::Entry;
use super::tables::{MAX_PROVIDERS_PER_KEY, Refused, Tables, is_live};
use crate::Key;
use crate::origin::Origin;

impl Tables {
    /// Makes room for one more provider record.
    pub(super) fn make_room(
        &mut self,
        key: &Key,
        index: Option<u32>,
        origin: Origin,
        expires: u32,
        now: u32,
    ) -> Result<(), Refused> {
        let own = index.and_then(|index| self.peers.get(index));
        let own = own.map_or(0, |peer| peer.provided);
        let quota = u64::try_from(self.limits.provider_records_per_peer).unwrap_or(u64::MAX);
        if own >= quota || self.changes.is_full() {
            return Err(Refused::Quota);
        }
        if self.held.of(key).len() >= MAX_PROVIDERS_PER_KEY {
            let gone = self.displaced_of_key(key, origin, expires, now);
            let gone = gone.ok_or(Refused::Quota)?;
            self.remove_held(key, gone);
            return Ok(());
        }
        if self.held.len() < self.limits.provider_records {
            return Ok(());
        }
        let victim = self.peers.provided_victim(index, origin);
        let victim = victim.ok_or(Refused::Quota)?;
        let peers = &self.peers;
        let gives_way = |entry: &Entry| match peers.get(entry.peer) {
            Some(peer) if is_live(entry.expires, now) => {
                peer.origin == victim.origin && peer.provided >= victim.at_least
            }
            _ => true,
        };
        let gone = self.held.find(gives_way).ok_or(Refused::Quota)?;
        self.remove_held(&gone.key, gone.peer);
        Ok(())
    }

    /// Which holder of a full key gives way: of the origin that is there most often the one that expires
    /// first; of the newcomer's own origin, or of one that is there hardly more often, only one that expires
    /// before the newcomer.
    fn displaced_of_key(&self, key: &Key, origin: Origin, expires: u32, now: u32) -> Option<u32> {
        let held = self.held.of(key);
        if let Some(stale) = held.iter().find(|entry| !self.stays(entry, now)) {
            return Some(stale.peer);
        }
        let mut counts: HashMap<Origin, usize> = HashMap::new();
        for entry in held {
            *counts.entry(self.peers.origin_of(entry.peer)).or_default() += 1;
        }
        let own = counts.get(&origin).copied().unwrap_or(0);
        let most = counts.values().copied().max()?;
        let gives_way = |entry: &&Entry| {
            let of = self.peers.origin_of(entry.peer);
            match own < most {
                true => counts.get(&of) == Some(&most),
                false => of == origin,
            }
        };
        let first = held.iter().filter(gives_way);
        let first = first.min_by_key(|entry| entry.expires)?;
        (own + 1 < most || first.expires < expires).then_some(first.peer)
    }
}
