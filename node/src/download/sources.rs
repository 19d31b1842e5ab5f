//! The peers of one download: who is asked, who was, and how it went.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use casnode_dht::PeerId;
use tokio::sync::mpsc;

use super::session::{Command, SessionEnd};
use crate::{api::ProviderUse, sched::PeerSlot};

/// Sessions at a time. More peers than this do not make one download faster.
const MAX_SESSIONS: usize = 32;

/// Peers remembered with how they ended; beyond it the rest of the world is not remembered.
const MAX_REMEMBERED: usize = 1024;

/// A peer whose session ended is tried again after this long: it may have come back, or have the file by now.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The same for a peer that could not be reached: another of its addresses may be known by then.
const REDIAL_AFTER: Duration = Duration::from_secs(2);

/// A session that runs.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) peer: PeerId,
    pub(super) commands: mpsc::Sender<Command>,
    /// Its bitmap is known and it is asked for chunks.
    pub(super) joined: bool,
}

#[derive(Debug)]
struct Past {
    at: Instant,
    unreachable: bool,
    why: String,
}

/// The peers of one download, over all its attempts.
#[derive(Debug, Default)]
pub(super) struct Sources {
    active: BTreeMap<PeerSlot, Source>,
    past: HashMap<PeerId, Past>,
    banned: HashMap<PeerId, &'static str>,
    uses: BTreeMap<PeerId, ProviderUse>,
    /// Every slot's peer; what a session sent may be judged after it is gone.
    slots: BTreeMap<PeerSlot, PeerId>,
    next_slot: u32,
}

impl Sources {
    /// Admits a candidate; `None` when it is busy, banned, was tried just now, or there are enough.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        now: Instant,
        commands: mpsc::Sender<Command>,
    ) -> Option<PeerSlot> {
        let recently = |p: &Past| {
            let pause = if p.unreachable {
                REDIAL_AFTER
            } else {
                RETRY_AFTER
            };
            now.saturating_duration_since(p.at) < pause
        };
        if self.active.len() >= MAX_SESSIONS
            || self.banned.contains_key(&peer)
            || self.active.values().any(|s| s.peer == peer)
            || self.past.get(&peer).is_some_and(recently)
            || (self.past.len() >= MAX_REMEMBERED && !self.past.contains_key(&peer))
        {
            return None;
        }
        let slot = PeerSlot(self.next_slot);
        self.next_slot += 1;
        self.slots.insert(slot, peer);
        self.active.insert(
            slot,
            Source {
                peer,
                commands,
                joined: false,
            },
        );
        Some(slot)
    }

    pub(super) fn get(&self, slot: PeerSlot) -> Option<&Source> {
        self.active.get(&slot)
    }

    pub(super) fn joined(&mut self, slot: PeerSlot) {
        if let Some(source) = self.active.get_mut(&slot) {
            source.joined = true;
        }
    }

    /// Takes a session away and remembers how it ended.
    pub(super) fn gone(&mut self, slot: PeerSlot, end: &SessionEnd, now: Instant) {
        if let Some(source) = self.active.remove(&slot) {
            self.past.insert(
                source.peer,
                Past {
                    at: now,
                    unreachable: matches!(end, SessionEnd::Unreachable(_)),
                    why: crate::errors::chain(end),
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
        u32::try_from(self.active.values().filter(|s| s.joined).count()).unwrap_or(u32::MAX)
    }

    /// Peers that were found and could not be reached.
    pub(super) fn unreachable(&self) -> usize {
        let unreachable =
            |(peer, past): &(&PeerId, &Past)| past.unreachable && !self.banned.contains_key(*peer);
        self.past.iter().filter(unreachable).count()
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
        const SHOWN: usize = 4;
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
