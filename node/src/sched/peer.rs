//! What the scheduler knows of one peer.

use std::{collections::VecDeque, time::Duration};

use super::{Action, Mono, PeerSlot, SchedulerConfig, bits::Bits, pipeline::Pipeline};

/// Longest patience with one chunk, however slow the peer.
const MAX_PATIENCE_S: f64 = 600.0;

/// A chunk that a peer was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) index: u32,
    pub(super) at: Mono,
}

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
    told_interest: bool,
    /// Chunks asked of it, in the order in which it will send them.
    pub(super) asked: VecDeque<Asked>,
    /// The last chunk that was ever asked of it.
    pub(super) last_asked: Option<u32>,
    /// Chunks that came from it and whose hashes are being checked.
    pub(super) checking: Vec<u32>,
    pipeline: Pipeline,
    /// When something last came, or when it was first asked after having been idle.
    last_progress: Mono,
    /// Nothing came since it was idle.
    is_fresh: bool,
    /// Late: asked for one chunk at a time until something comes.
    pub(super) is_on_trial: bool,
    /// Not asked before this.
    pub(super) paused_until: Mono,
    /// When the stall that put it on trial began.
    stall_began: Mono,
}

impl Peer {
    pub(super) fn new(slot: PeerSlot, have: Bits, pipeline: Pipeline, now: Mono) -> Self {
        Self {
            slot,
            is_whole: have.count() == have.len(),
            have,
            is_choked: true,
            wanted: 0,
            missing: 0,
            told_interest: false,
            asked: VecDeque::new(),
            last_asked: None,
            checking: Vec::new(),
            pipeline,
            last_progress: now,
            is_fresh: true,
            is_on_trial: false,
            paused_until: now,
            stall_began: now,
        }
    }

    /// How many requests it may have at a time.
    pub(super) fn depth(&self) -> usize {
        match (self.is_choked, self.is_on_trial) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => self.pipeline.depth() as usize,
        }
    }

    /// Whether it can be asked for one more chunk.
    pub(super) fn has_room(&self, now: Mono) -> bool {
        self.asked.len() < self.depth() && self.paused_until <= now
    }

    /// Whether what it is asked for can be expected to come in the time that it took before.
    pub(super) fn is_ready(&self, now: Mono) -> bool {
        !self.is_choked && !self.is_on_trial && self.paused_until <= now
    }

    /// Chunks it sends a second, once any came.
    pub(super) fn chunks_per_s(&self) -> Option<f64> {
        self.pipeline.interval_s().map(|s| 1.0 / s.max(1e-6))
    }

    /// Notes that a request goes out.
    pub(super) fn ask(&mut self, index: u32, now: Mono) {
        if self.asked.is_empty() {
            self.last_progress = now;
            self.is_fresh = true;
            if !self.is_on_trial {
                self.stall_began = now;
            }
        }
        self.asked.push_back(Asked { index, at: now });
        self.last_asked = Some(index);
    }

    /// Takes back what was asked of it; when it was asked.
    pub(super) fn unask(&mut self, index: u32) -> Option<Mono> {
        let at = self.place_of(index)?;
        self.asked.remove(at).map(|asked| asked.at)
    }

    /// Its place in the queue.
    pub(super) fn place_of(&self, index: u32) -> Option<usize> {
        self.asked.iter().position(|a| a.index == index)
    }

    /// A chunk came; `asked` is when it was asked for, unless it was given up meanwhile.
    pub(super) fn arrived(&mut self, cfg: &SchedulerConfig, asked: Option<Mono>, now: Mono) {
        // On trial the time counts from before it, though the chunk may be one that was taken back.
        let gap = match self.is_on_trial {
            true => self.stalled_for(now),
            false => now.since(self.last_progress),
        };
        let is_first = std::mem::replace(&mut self.is_fresh, false);
        self.pipeline.arrived(cfg, gap, is_first, asked, now);
        self.last_progress = now;
        self.stall_began = now;
        self.is_on_trial = false;
    }

    /// Seconds until the chunk at this place of its queue is here, as far as can be told. The place behind the last
    /// one is that of a chunk it could be asked for now.
    pub(super) fn arrival_s(&self, place: usize, cfg: &SchedulerConfig, now: Mono) -> f64 {
        let places_before = place as f64;
        let round_trip_s = self.pipeline.round_trip_s();
        let is_new = place >= self.asked.len();
        let silent_s = match self.asked.is_empty() {
            true => 0.0,
            false => now.since(self.last_progress).as_secs_f64(),
        };
        let Some(interval_s) = self.pipeline.interval_s() else {
            // Nothing is known: what is under way will take as long again as it has taken.
            let guess_s = if is_new {
                cfg.first_guess.as_secs_f64()
            } else {
                0.0
            };
            return guess_s.max(silent_s) * (places_before + 1.0);
        };
        if self.asked.is_empty() {
            return round_trip_s + interval_s;
        }
        let first_s = interval_s + if self.is_fresh { round_trip_s } else { 0.0 };
        // What is overdue will take as long again as it has been overdue.
        let next_s = (first_s - silent_s).abs();
        let queued_s = next_s + interval_s * places_before;
        if is_new {
            queued_s.max(round_trip_s + interval_s)
        } else {
            queued_s
        }
    }

    /// Seconds from a request to the beginning of its answer when nothing is before it.
    pub(super) fn round_trip_s(&self) -> f64 {
        self.pipeline.round_trip_s()
    }

    /// Seconds a request takes when nothing is before it: what comes sooner than that has been begun, and a cancel
    /// does not reach it.
    pub(super) fn answer_s(&self) -> f64 {
        self.round_trip_s() + self.pipeline.interval_s().unwrap_or(0.0)
    }

    /// When what was asked of it is late.
    pub(super) fn late_at(&self, cfg: &SchedulerConfig) -> Option<Mono> {
        if self.asked.is_empty() {
            return None;
        }
        let patience = match self.pipeline.interval_s() {
            None => cfg.first_patience,
            Some(interval_s) => {
                let predicted = Duration::from_secs_f64((4.0 * interval_s).min(MAX_PATIENCE_S));
                cfg.min_patience.max(predicted)
            }
        };
        Some(self.last_progress.plus(patience))
    }

    /// Notes that it is late: what was asked is taken away, and it gets one chance at a time.
    pub(super) fn put_on_trial(&mut self, now: Mono) -> VecDeque<Asked> {
        self.is_on_trial = true;
        self.last_progress = now;
        std::mem::take(&mut self.asked)
    }

    /// The delay is this side's own: nothing is held against the peer.
    pub(super) fn excuse(&mut self, now: Mono) {
        self.last_progress = now;
        self.stall_began = now;
    }

    /// It sends, however slowly: it is on trial as before, and not to be dropped.
    pub(super) fn receiving(&mut self, now: Mono) {
        self.stall_began = now;
    }

    /// Whether it owes chunks: it is late, or silent for too long.
    pub(super) fn snubs(&self, cfg: &SchedulerConfig, now: Mono) -> bool {
        let silent = !self.asked.is_empty() && now.since(self.last_progress) >= cfg.snub_after;
        self.is_on_trial || silent
    }

    /// How long nothing has come although it was asked.
    pub(super) fn stalled_for(&self, now: Mono) -> Duration {
        now.since(self.stall_began)
    }

    /// What it is to be told of this node's interest, if that changed. `missing` are all chunks that are not here.
    pub(super) fn interest(&mut self, missing: u32) -> Option<Action> {
        let missing = if self.is_whole { missing } else { self.missing };
        let (peer, wants) = (self.slot, missing > 0);
        let was = std::mem::replace(&mut self.told_interest, wants);
        (was != wants).then_some(Action::Interest { peer, wants })
    }
}
