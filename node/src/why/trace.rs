//! What a trace has seen so far, for people and for the verdict.

use std::time::Duration;

use casnode_dht::PeerId;

use super::verdict::Facts;
use crate::api::{Phase, Progress, WhyKind, WhyOutcome, WhyStep, events::EventSink};

/// More steps than any trace needs; of a hostile network's the rest is left out.
const MAX_STEPS: usize = 500;

/// Longest text of a step, in characters: peers have a say in it.
const MAX_STEP_CHARS: usize = 300;

/// What a trace has seen so far.
pub(super) struct Trace {
    pub(super) steps: Vec<WhyStep>,
    pub(super) facts: Facts,
    told_size_bytes: Option<u64>,
    size_bytes: Option<u64>,
    events: EventSink,
}

impl Trace {
    pub(super) fn new(events: EventSink, told_size_bytes: Option<u64>) -> Self {
        Self {
            steps: Vec::new(),
            facts: Facts::default(),
            told_size_bytes,
            size_bytes: None,
            events,
        }
    }

    /// Keeps a step, and tells of it.
    pub(super) fn step(
        &mut self,
        kind: WhyKind,
        outcome: WhyOutcome,
        peer: Option<PeerId>,
        what: impl Into<String>,
        took: Duration,
    ) {
        self.push(step(kind, outcome, peer, what, took));
    }

    /// The same of a step that was made elsewhere.
    pub(super) fn push(&mut self, step: WhyStep) {
        self.events.progress(Progress {
            phase: Phase::Finding,
            done_bytes: 0,
            total_bytes: None,
            sources: u32::try_from(self.facts.providers.len()).unwrap_or(u32::MAX),
            detail: step.what.clone(),
        });
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        }
    }

    /// Says what is waited for.
    pub(super) fn waits(&self, detail: &str) {
        self.events.progress(Progress {
            phase: Phase::Finding,
            done_bytes: 0,
            total_bytes: None,
            sources: 0,
            detail: detail.to_owned(),
        });
    }

    /// The file's length, by its metadata record or a manifest.
    pub(super) fn size_is(&mut self, size_bytes: u64) {
        self.size_bytes = Some(size_bytes);
        let is_other = |told| told != size_bytes;
        self.facts.is_wrong_size = self.told_size_bytes.is_some_and(is_other);
    }

    /// The file's length, as far as it is known.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes.or(self.told_size_bytes)
    }
}

/// A step, its text cut to a length.
pub(super) fn step(
    kind: WhyKind,
    outcome: WhyOutcome,
    peer: Option<PeerId>,
    what: impl Into<String>,
    took: Duration,
) -> WhyStep {
    WhyStep {
        kind,
        outcome,
        peer: peer.map(|peer| peer.to_string()),
        shared_bits: None,
        what: what.into().chars().take(MAX_STEP_CHARS).collect(),
        took_ms: millis(took),
    }
}

pub(super) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
