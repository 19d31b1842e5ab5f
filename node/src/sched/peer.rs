//! What the scheduler knows of one peer.

use std::{collections::VecDeque, time::Duration};

use super::{Action, Mono, PeerSlot, SchedulerConfig, bits::Bits};

/// How much a new measurement weighs in the rate.
const RATE_WEIGHT: f64 = 0.2;

/// What the scheduler knows of one peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) slot: PeerSlot,
    pub(super) have: Bits,
    /// It had everything when it joined; such peers are not in the availability index.
    pub(super) is_whole: bool,
    /// It sends nothing at present.
    pub(super) is_choked: bool,
    /// How many chunks it has that are wanted. Not kept for one that is whole.
    pub(super) wanted: u32,
    /// How many chunks it has that are not here. Not kept for one that is whole.
    pub(super) missing: u32,
    /// What it was told of this node's interest.
    pub(super) told_interest: bool,
    /// Chunks asked of it, in the order in which it will send them.
    pub(super) asked: VecDeque<u32>,
    /// Chunks that came from it and whose hashes are being checked.
    pub(super) checking: Vec<u32>,
    /// Bytes a second, once a chunk came.
    rate: Option<f64>,
    /// When something last came, or when it was first asked after having been idle.
    last_progress: Mono,
    /// Late: asked for one chunk at a time until something comes.
    pub(super) snubbed: bool,
    /// Not asked before this.
    pub(super) paused_until: Mono,
    /// When the stall that snubbed it began.
    stall_began: Mono,
}

impl Peer {
    pub(super) fn new(slot: PeerSlot, have: Bits, now: Mono) -> Self {
        Self {
            slot,
            is_whole: have.count() == have.len(),
            have,
            is_choked: true,
            wanted: 0,
            missing: 0,
            told_interest: false,
            asked: VecDeque::new(),
            checking: Vec::new(),
            rate: None,
            last_progress: now,
            snubbed: false,
            paused_until: now,
            stall_began: now,
        }
    }

    /// How many requests it may have at a time.
    pub(super) fn depth(&self, cfg: &SchedulerConfig, chunk_bytes: u32) -> u32 {
        if self.snubbed {
            return 1;
        }
        let chunk_bytes = u64::from(chunk_bytes.max(1));
        let by_memory = u32::try_from(cfg.max_peer_bytes / chunk_bytes)
            .unwrap_or(u32::MAX)
            .max(2);
        let by_rate = match self.rate {
            None => cfg.first_depth,
            Some(rate) => {
                let bytes = rate * cfg.pipeline_span.as_secs_f64();
                let chunks = (bytes / chunk_bytes as f64).ceil();
                // Saturating by the language's rules for float casts.
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped next"
                )]
                let chunks = chunks as u32;
                chunks.clamp(2, cfg.max_depth)
            }
        };
        by_rate.min(by_memory)
    }

    /// Notes that a request goes out.
    pub(super) fn ask(&mut self, index: u32, now: Mono) {
        if self.asked.is_empty() {
            self.last_progress = now;
            if !self.snubbed {
                self.stall_began = now;
            }
        }
        self.asked.push_back(index);
    }

    /// Takes back what was asked of it; whether it was asked.
    pub(super) fn unask(&mut self, index: u32) -> bool {
        let at = self.asked.iter().position(|i| *i == index);
        at.and_then(|at| self.asked.remove(at)).is_some()
    }

    /// What it is to be told of this node's interest, if that changed. `missing` are all chunks that are not here.
    pub(super) fn interest(&mut self, missing: u32) -> Option<Action> {
        let (peer, wants) = (
            self.slot,
            if self.is_whole { missing } else { self.missing } > 0,
        );
        let was = std::mem::replace(&mut self.told_interest, wants);
        (was != wants).then_some(Action::Interest { peer, wants })
    }

    /// Whether it can be asked for one more chunk.
    pub(super) fn has_room(&self, cfg: &SchedulerConfig, chunk_bytes: u32, now: Mono) -> bool {
        !self.is_choked
            && self.paused_until <= now
            && self.asked.len() < self.depth(cfg, chunk_bytes) as usize
    }

    /// Notes that `bytes` came.
    pub(super) fn arrived(&mut self, bytes: u32, now: Mono) {
        let span = now.since(self.last_progress).max(Duration::from_micros(50));
        let sample = f64::from(bytes) / span.as_secs_f64();
        self.rate = Some(match self.rate {
            None => sample,
            Some(rate) => {
                // Harmonic: averages the time a byte takes, so that a burst from a buffer does not count as speed.
                1.0 / ((1.0 - RATE_WEIGHT) / rate + RATE_WEIGHT / sample)
            }
        });
        self.last_progress = now;
        self.stall_began = now;
        self.snubbed = false;
    }

    /// When what was asked of it is late.
    pub(super) fn late_at(&self, cfg: &SchedulerConfig, chunk_bytes: u32) -> Option<Mono> {
        if self.asked.is_empty() {
            return None;
        }
        let patience = match self.rate {
            None => cfg.first_patience,
            Some(rate) => {
                let predicted = 4.0 * f64::from(chunk_bytes) / rate.max(1.0);
                cfg.min_patience
                    .max(Duration::from_secs_f64(predicted.min(600.0)))
            }
        };
        Some(self.last_progress.plus(patience))
    }

    /// Notes that it is late: what was asked is taken away, and it gets one chance at a time.
    pub(super) fn snub(&mut self, now: Mono) {
        self.snubbed = true;
        self.last_progress = now;
    }

    /// The delay is this side's own: nothing is held against the peer.
    pub(super) fn excuse(&mut self, now: Mono) {
        self.last_progress = now;
        self.stall_began = now;
    }

    /// Whether it owes chunks: it is late, or silent for too long.
    pub(super) fn snubs(&self, cfg: &SchedulerConfig, now: Mono) -> bool {
        let silent = !self.asked.is_empty() && now.since(self.last_progress) >= cfg.snub_after;
        self.snubbed || silent
    }

    /// How long nothing has come although it was asked.
    pub(super) fn stalled_for(&self, now: Mono) -> Duration {
        now.since(self.stall_began)
    }
}

/// The present peers, by slot. They are few: this is a sorted list.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Peer>);

impl Peers {
    pub(super) fn insert(&mut self, peer: Peer) {
        let at = self.0.partition_point(|p| p.slot < peer.slot);
        self.0.insert(at, peer);
    }

    pub(super) fn remove(&mut self, slot: PeerSlot) -> Option<Peer> {
        self.place(slot).map(|at| self.0.remove(at))
    }

    pub(super) fn get(&self, slot: PeerSlot) -> Option<&Peer> {
        self.place(slot).map(|at| &self.0[at])
    }

    pub(super) fn get_mut(&mut self, slot: PeerSlot) -> Option<&mut Peer> {
        self.place(slot).map(|at| &mut self.0[at])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.0.iter_mut()
    }

    fn place(&self, slot: PeerSlot) -> Option<usize> {
        self.0.binary_search_by_key(&slot, |p| p.slot).ok()
    }
}
