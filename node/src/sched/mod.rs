//! The download scheduler: which chunk to ask of which peer, and when to ask another.
//!
//! Pure decision logic. No clock, socket, async or global randomness lives here: time comes in as [`Mono`],
//! randomness from a seed, and what to do goes out as [`Action`]s, so that whole downloads run in virtual time
//! in tests. `docs/SCHEDULING.md` states the states and invariants.
//!
//! Non-goals: it knows nothing of bytes, hashes, addresses or libp2p; a peer is a [`PeerSlot`].

mod availability;
mod bits;
mod event;
mod in_flight;
mod peer;
mod peers;
mod pick;
mod pipeline;
mod presence;
mod scheduler;
mod steal;
#[cfg(test)]
mod tests;
mod want_list;
mod window;

use std::time::Duration;

pub use event::{Action, DropReason, Event, Fault};
pub use scheduler::Scheduler;

/// Time since some beginning, the same for all that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// The moment `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(span))
    }

    /// The time since `earlier`; nothing when that is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A peer of one download; the engine keeps the mapping to real peers and never reuses a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerSlot(pub u32);

/// The order in which chunks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last, for a stream.
    Sequential,
    /// Nothing but what readers of ranges need soon, nearest to its reader first.
    OnDemand,
    /// A few at random, then whatever fewest of the present peers have; ties in stretches, these at random by the seed.
    RarestFirst,
}

/// Limits and times of the scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Chunks taken at random before the rarest are looked for: a newcomer has something to give sooner.
    pub random_first: u32,
    /// Requests to a peer whose rate is not known yet.
    pub first_depth: u32,
    /// Most requests to one peer. With 256 KiB chunks 64 cover 300 MB/s at 50 ms.
    pub max_depth: u32,
    /// Most bytes asked of one peer at a time, whatever the depth: bounds memory with large chunks.
    pub max_peer_bytes: u64,
    /// A peer is asked for what it sends in the time of its shortest answer and so much longer: what covers the pauses
    /// of this side. It is also about what is asked anew when the peer vanishes.
    pub pipeline_slack: Duration,
    /// What a chunk takes from a peer of which nothing has come yet, for want of better knowledge.
    pub first_guess: Duration,
    /// A requested chunk is late after this, or after four times what the peer's rate predicts.
    pub min_patience: Duration,
    /// The same while the peer's rate is not known.
    pub first_patience: Duration,
    /// A peer from which nothing came for this long, while asked, is dropped.
    pub drop_after: Duration,
    /// A peer from which nothing came for this long, while asked, snubs this node, late or not.
    pub snub_after: Duration,
    /// A busy peer is asked again after this.
    pub busy_pause: Duration,
    /// The first group holds nothing up any more when those that have it all choke this node for so long.
    pub gate_patience: Duration,
    /// How far ahead of its reader a stream is fetched.
    pub window_bytes: u64,
    /// Of equally rare chunks, those that lie together in a stretch of this length are asked of one peer.
    pub stretch_bytes: u64,
}

/// The least stretches of a file: those who download it at the same time are to hold different parts.
const MIN_STRETCHES: u64 = 32;

impl SchedulerConfig {
    /// The chunks of a stretch.
    fn stretch(&self, chunk_bytes: u32, chunks_of_file: usize) -> u32 {
        let chunks = self.stretch_bytes / u64::from(chunk_bytes.max(1));
        let most = chunks_of_file as u64 / MIN_STRETCHES;
        u32::try_from(chunks.min(most)).unwrap_or(1).max(1)
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            random_first: 4,
            first_depth: 8,
            max_depth: 64,
            max_peer_bytes: 16 << 20,
            pipeline_slack: Duration::from_millis(250),
            first_guess: Duration::from_millis(500),
            min_patience: Duration::from_secs(5),
            first_patience: Duration::from_secs(10),
            drop_after: Duration::from_secs(30),
            snub_after: Duration::from_secs(60),
            busy_pause: Duration::from_secs(1),
            gate_patience: Duration::from_secs(5),
            window_bytes: 64 << 20,
            stretch_bytes: 4 << 20,
        }
    }
}
