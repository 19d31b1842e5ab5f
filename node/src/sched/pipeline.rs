//! What a peer delivers, and how much to ask of it ahead.

use std::time::Duration;

use super::{Mono, SchedulerConfig};

/// The rate is that of about the last second. Time is added up, not rates: a burst out of a buffer does not count as
/// speed.
const RATE_SPAN_S: f64 = 1.0;

/// However slow the peer, as much of the rate's past is kept with a new chunk: some four chunks count.
const MIN_PAST: f64 = 0.75;

/// Two chunks of one read do not come at an infinite rate.
const MIN_GAP_S: f64 = 50e-6;

/// The shortest answer is that of the last one or two such spans, each at least so many chunks long.
const LATENCY_SPAN: Duration = Duration::from_secs(5);
const LATENCY_CHUNKS: f64 = 16.0;

/// The depth grows by so much with a chunk: a far peer's queue is full within a few answers, and
/// a burst is not taken for speed.
const GROWTH: u32 = 4;

/// What an answer may take longer than the shortest and still tell that nothing queues before it.
const UNQUEUED: f64 = 1.25;

/// While the latency is measured anew, as much of what covers it is asked for: the queue on the way empties, and the
/// rate hardly falls.
const PROBE_SHARE: f64 = 0.75;

/// What a peer delivers: its rate, its shortest answer, and from both its depth.
///
/// A request's answer takes as long as the queue before it, so the shortest answer would rise with the depth that it
/// gives, and the depth with it. Therefore each span begins with a probe: a shorter queue, until one that was asked
/// then is answered. Where answers are about as quick as the shortest there is no queue, and no need for one.
#[derive(Debug)]
pub(super) struct Pipeline {
    chunk_bytes: f64,
    /// Recent bytes, and the time they took.
    bytes: f64,
    seconds: f64,
    /// One chunk has come, and its time was that of the way, too.
    is_guess: bool,
    shortest: Option<Duration>,
    shortest_before: Option<Duration>,
    span_began: Mono,
    /// Since when the latency is measured anew.
    probing_since: Option<Mono>,
    depth: u32,
}

impl Pipeline {
    pub(super) fn new(cfg: &SchedulerConfig, chunk_bytes: u32, now: Mono) -> Self {
        let mut pipeline = Self {
            chunk_bytes: f64::from(chunk_bytes.max(1)),
            bytes: 0.0,
            seconds: 0.0,
            is_guess: false,
            shortest: None,
            shortest_before: None,
            span_began: now,
            probing_since: None,
            depth: 0,
        };
        pipeline.depth = pipeline.bound(cfg, f64::from(cfg.first_depth));
        pipeline
    }

    /// How many requests the peer may have at a time.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Seconds a chunk takes once it is its turn; `None` until one came.
    pub(super) fn interval_s(&self) -> Option<f64> {
        (self.bytes > 0.0).then(|| self.chunk_bytes * self.seconds / self.bytes)
    }

    /// Seconds from a request to the beginning of its answer when nothing is before it; 0 while unknown.
    pub(super) fn round_trip_s(&self) -> f64 {
        match (self.shortest_answer(), self.interval_s()) {
            (Some(answer), Some(interval)) => (answer.as_secs_f64() - interval).max(0.0),
            _ => 0.0,
        }
    }

    /// A chunk came `gap` after the last one or, if it is the first of a queue (`is_first`), after it was asked for.
    /// `asked` is when it was asked for, unless it was given up meanwhile.
    pub(super) fn arrived(
        &mut self,
        cfg: &SchedulerConfig,
        gap: Duration,
        is_first: bool,
        asked: Option<Mono>,
        now: Mono,
    ) {
        if self.is_guess && !is_first {
            (self.bytes, self.seconds) = (0.0, 0.0);
        }
        self.is_guess = is_first && (self.is_guess || self.bytes == 0.0);
        let waited_s = if is_first { self.round_trip_s() } else { 0.0 };
        let gap_s = (gap.as_secs_f64() - waited_s).max(MIN_GAP_S);
        let past = (-gap_s / RATE_SPAN_S).exp().max(MIN_PAST);
        self.bytes = self.bytes * past + self.chunk_bytes;
        self.seconds = self.seconds * past + gap_s;
        if let Some(asked) = asked {
            self.answered(asked, now);
        }
        if !self.is_guess || gap_s > RATE_SPAN_S {
            let depth = self.bound(cfg, self.covering(cfg));
            self.depth = depth.min(self.depth + GROWTH);
        }
    }

    fn answered(&mut self, asked: Mono, now: Mono) {
        let answer = now.since(asked);
        self.shortest = Some(self.shortest.map_or(answer, |s| s.min(answer)));
        if self.probing_since.is_some_and(|t| asked >= t) {
            self.probing_since = None;
        }
        let chunks_s = self.interval_s().unwrap_or(0.0) * LATENCY_CHUNKS;
        let span_s = now.since(self.span_began).as_secs_f64();
        if span_s >= chunks_s.max(LATENCY_SPAN.as_secs_f64()) {
            self.shortest_before = self.shortest.take();
            self.span_began = now;
            let is_queued = self
                .shortest_answer()
                .is_some_and(|s| answer > s.mul_f64(UNQUEUED));
            self.probing_since = is_queued.then_some(now);
        }
    }

    fn shortest_answer(&self) -> Option<Duration> {
        [self.shortest, self.shortest_before]
            .into_iter()
            .flatten()
            .min()
    }

    /// Chunks that keep the peer busy until more can be asked for, and a little longer.
    fn covering(&self, cfg: &SchedulerConfig) -> f64 {
        let Some(interval_s) = self.interval_s() else {
            return f64::from(cfg.first_depth);
        };
        let answer_s = self.shortest_answer().unwrap_or_default().as_secs_f64();
        let span_s = match self.probing_since {
            Some(_) => answer_s * PROBE_SHARE,
            None => answer_s + cfg.pipeline_slack.as_secs_f64(),
        };
        span_s / interval_s
    }

    /// Rounded down, so that a slow peer's queue does not lengthen the answer that it is the measure of.
    fn bound(&self, cfg: &SchedulerConfig, chunks: f64) -> u32 {
        let by_memory = cfg.max_peer_bytes as f64 / self.chunk_bytes;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float casts saturate, and it is clamped"
        )]
        let chunks = chunks.min(by_memory) as u32;
        chunks.clamp(2, cfg.max_depth.max(2))
    }
}
