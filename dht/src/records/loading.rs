//! How the tables are filled from the disk.

use super::holders::Holder;
use super::layout::{self, Entry};
use super::tables::{Change, Peer, SELF, Tables, is_kept, is_live};
use crate::Key;

impl Tables {
    /// Takes an entry from the disk; entries come ordered by name, hence peers before providers.
    pub(crate) fn load(&mut self, entry: Entry, now: u32) {
        match entry {
            Entry::Peer { index, peer, addrs } => {
                self.next_index = self.next_index.max(index.saturating_add(1));
                if index != SELF && !self.index_of.contains_key(&peer) {
                    self.index_of.insert(peer, index);
                    self.peers.insert(
                        index,
                        Peer {
                            id: peer,
                            addrs,
                            provided: 0,
                            values: 0,
                            value_bytes: 0,
                        },
                    );
                } else {
                    self.touch(Change::Peer(index));
                }
            }
            Entry::Provider {
                key,
                index,
                expires,
            } => {
                let known = index != SELF && self.peers.contains_key(&index);
                if !known || !is_live(expires, now) {
                    self.touch(Change::Provider(key, index));
                } else {
                    self.insert_holder(
                        key,
                        Holder {
                            peer: index,
                            expires,
                        },
                    );
                }
            }
            Entry::ValuePart { key, part, bytes } => {
                if part == 0 {
                    self.finish_value(now);
                    self.loading = Some((key, Vec::new()));
                }
                match &mut self.loading {
                    Some((loading, joined)) if *loading == key => joined.extend_from_slice(&bytes),
                    _ => self.touch(Change::Value(key)),
                }
            }
            Entry::Due { .. } => {}
        }
    }

    /// All entries have been loaded: drops what belongs to nobody.
    pub(crate) fn loaded(&mut self, now: u32) {
        self.finish_value(now);
        let idle = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.provided + peer.values == 0);
        let idle: Vec<_> = idle
            .map(|(index, _)| *index)
            .filter(|index| *index != SELF)
            .collect();
        for index in idle {
            self.release(index);
        }
    }

    /// Drops the own values that nothing in the schedule stands for; returns how many. They have no
    /// expiry, so nobody else would.
    pub(crate) fn retain_own_values(&mut self, keep: impl Fn(&Key) -> bool) -> usize {
        let own = self.own_value_keys();
        let gone: Vec<Key> = own.filter(|key| !keep(key)).copied().collect();
        gone.iter().for_each(|key| self.remove_value(key));
        gone.len()
    }

    fn finish_value(&mut self, now: u32) {
        let Some((key, joined)) = self.loading.take() else {
            return;
        };
        match layout::stored_value(&joined) {
            Some(stored) if is_kept(&stored, now) && self.peers.contains_key(&stored.source) => {
                self.insert_value(key, stored);
            }
            _ => self.touch(Change::Value(key)),
        }
    }
}
