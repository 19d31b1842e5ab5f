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

/// A session may make room for another peer when it has delivered nothing for this long.
const USEFUL_WITHIN: Duration = Duration::from_secs(30);

/// Peers remembered with how they ended; beyond it the one that ended first is forgotten.
const MAX_REMEMBERED: usize = 1024;

/// A peer whose session ended is tried again after this long: it may have come back, or have the file by now.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The same for a peer that could not be reached, or turned this node away: another of its addresses may be known by
/// then, or a place be free.
const REDIAL_AFTER: Duration = Duration::from_secs(2);

/// A session that runs.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) peer: PeerId,
    pub(super) commands: mpsc::Sender<Command>,
    /// Its bitmap is known and it is asked for chunks.
    pub(super) joined: bool,
    /// When it began, or last delivered.
    useful_at: Instant,
}

/// A candidate that is to be asked.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) slot: PeerSlot,
    /// The session that made room.
    pub(super) evicted: Option<PeerSlot>,
}

#[derive(Debug)]
struct Past {
    at: Instant,
    answer: Answer,
    why: String,
}

/// What is known of whether a peer has the file, after its session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It was asked, and does not have it, or what it had was of no use.
    Given,
    /// It could not be asked.
    Unreachable,
    /// It closed the stream: its places may all be taken.
    TurnedAway,
}

impl Answer {
    fn of(end: &SessionEnd) -> Self {
        match end {
            SessionEnd::Unreachable(_) => Self::Unreachable,
            SessionEnd::Closed | SessionEnd::Stream(_) => Self::TurnedAway,
            _ => Self::Given,
        }
    }
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
    /// Some peer has said that it knows the file; one that has a single chunk of it need not.
    pub(super) offered: bool,
}

impl Sources {
    /// Admits a candidate; `None` when it is asked already, banned, was tried just now, or there are enough. When all
    /// places are taken, a session that has been of no use for a while makes room.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        now: Instant,
        commands: mpsc::Sender<Command>,
    ) -> Option<Admitted> {
        let recently = |p: &Past| {
            let pause = if p.answer == Answer::Given {
                RETRY_AFTER
            } else {
                REDIAL_AFTER
            };
            now.saturating_duration_since(p.at) < pause
        };
        if self.banned.contains_key(&peer)
            || self.slot_of(&peer).is_some()
            || self.past.get(&peer).is_some_and(recently)
        {
            return None;
        }
        let mut evicted = None;
        if self.active.len() >= MAX_SESSIONS {
            let idle = self.active.iter().min_by_key(|(_, s)| s.useful_at);
            let (slot, source) = idle?;
            if now.saturating_duration_since(source.useful_at) < USEFUL_WITHIN {
                return None;
            }
            evicted = Some(*slot);
            self.active.remove(&evicted?);
        }
        let slot = PeerSlot(self.next_slot);
        self.next_slot += 1;
        self.slots.insert(slot, peer);
        let source = Source {
            peer,
            commands,
            joined: false,
            useful_at: now,
        };
        self.active.insert(slot, source);
        Some(Admitted { slot, evicted })
    }

    /// The session of a peer.
    pub(super) fn slot_of(&self, peer: &PeerId) -> Option<PeerSlot> {
        self.active
            .iter()
            .find(|(_, s)| s.peer == *peer)
            .map(|(slot, _)| *slot)
    }

    /// A session has delivered something.
    pub(super) fn useful(&mut self, slot: PeerSlot, now: Instant) {
        if let Some(source) = self.active.get_mut(&slot) {
            source.useful_at = now;
        }
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
        u32::try_from(self.active.values().filter(|s| s.joined).count()).unwrap_or(u32::MAX)
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
