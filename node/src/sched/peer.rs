//! What the scheduler knows of one peer.

use std::{collections::BTreeSet, time::Duration};

use casnode_cas::HaveBitmap;

use super::{Mono, SchedulerConfig};

/// How much a new measurement weighs in the rate.
const RATE_WEIGHT: f64 = 0.2;

/// What the scheduler knows of one peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) have: HaveBitmap,
    /// Chunks asked of it.
    pub(super) asked: BTreeSet<u32>,
    /// Chunks that came from it and whose hashes are being checked.
    pub(super) checking: BTreeSet<u32>,
    /// Its place in the want-list's order.
    pub(super) cursor: usize,
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
    pub(super) fn new(have: HaveBitmap, now: Mono) -> Self {
        Self {
            have,
            asked: BTreeSet::new(),
            checking: BTreeSet::new(),
            cursor: 0,
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
        self.asked.insert(index);
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

    /// How long nothing has come although it was asked.
    pub(super) fn stalled_for(&self, now: Mono) -> Duration {
        now.since(self.stall_began)
    }
}
