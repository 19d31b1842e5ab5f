//! The download scheduler: which chunk to ask of which peer, and when to ask another.
//!
//! Pure decision logic. No clock, socket, async or global randomness lives here: time comes in as [`Mono`],
//! randomness from a seed, and what to do goes out as [`Action`]s, so that whole downloads run in virtual time
//! in tests. `docs/SCHEDULING.md` states the states and invariants.
//!
//! Non-goals: it knows nothing of bytes, hashes, addresses or libp2p; a peer is a [`PeerSlot`].

mod in_flight;
mod peer;
mod scheduler;
#[cfg(test)]
mod tests;
mod want_list;

use std::time::Duration;

use casnode_cas::HaveBitmap;

pub(crate) use scheduler::Scheduler;

/// Time since the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mono(pub(crate) Duration);

impl Mono {
    pub(crate) fn plus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(span))
    }

    pub(crate) fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A peer of one download; the engine keeps the mapping to real peers and never reuses a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerSlot(pub(crate) u32);

/// Why a requested chunk did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The peer said that it does not have it, whatever its bitmap claims.
    NotFound,
    /// The peer asked to be left alone for a moment.
    Busy,
    /// The peer had choked this node by then.
    Choked,
    /// The bytes did not match the hash.
    WrongBytes,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A peer is ready to be asked; `have` is what it said it has.
    PeerJoined { peer: PeerSlot, have: HaveBitmap },
    /// A peer has these chunks, too.
    PeerGot { peer: PeerSlot, indices: Vec<u32> },
    /// A peer sends nothing from now on; whatever was asked of it goes back. So it is until a first `Unchoked`.
    Choked { peer: PeerSlot },
    /// A peer sends what it is asked for from now on.
    Unchoked { peer: PeerSlot },
    /// A peer was found to have one chunk that it did not tell of.
    PeerHasChunk { peer: PeerSlot, index: u32 },
    /// A group is proven: the manifest may be believed as far as that.
    Proven,
    /// A chunk is here without having been asked for: an equal one came.
    Here { index: u32 },
    /// A chunk came whole; its hash is still being checked. Counts for the peer's rate.
    Arrived { peer: PeerSlot, index: u32 },
    /// A chunk's hash was right and it is kept.
    Verified { peer: PeerSlot, index: u32 },
    /// A requested chunk did not come, or came wrong.
    Failed {
        peer: PeerSlot,
        index: u32,
        fault: Fault,
    },
    /// A chunk that was thought to be here is not usable after all.
    Lost { index: u32 },
    /// This side cannot take more chunks at the moment: nobody is late for it.
    OwnStall,
    /// A peer is gone; whatever was asked of it goes back.
    PeerLeft { peer: PeerSlot },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask `peer` for the chunk.
    Request { peer: PeerSlot, index: u32 },
    /// Tell `peer` that the chunk is no longer needed from it.
    Cancel { peer: PeerSlot, index: u32 },
    /// Tell `peer` whether it has anything that is wanted: it is not so until it is said.
    Interest { peer: PeerSlot, wants: bool },
    /// Let the peer go, for this reason.
    Drop { peer: PeerSlot, reason: DropReason },
}

/// Why a peer is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// It sent bytes that do not match their hash.
    WrongBytes,
    /// Nothing came from it for too long.
    Stalled,
}

/// The order in which chunks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// From the first to the last, for a stream.
    Sequential,
    /// At random by the seed, so that many downloaders hold different chunks early.
    Random,
}

/// Limits and times of the scheduler.
#[derive(Debug, Clone)]
pub(crate) struct SchedulerConfig {
    /// Requests to a peer whose rate is not known yet.
    pub(crate) first_depth: u32,
    /// Most requests to one peer. With 256 KiB chunks 64 cover 300 MB/s at 50 ms.
    pub(crate) max_depth: u32,
    /// Most bytes asked of one peer at a time, whatever the depth: bounds memory with large chunks.
    pub(crate) max_peer_bytes: u64,
    /// How much of a peer's rate is kept in flight.
    pub(crate) pipeline_span: Duration,
    /// A requested chunk is late after this, or after four times what the peer's rate predicts.
    pub(crate) min_patience: Duration,
    /// The same while the peer's rate is not known.
    pub(crate) first_patience: Duration,
    /// A peer from which nothing came for this long, while asked, is dropped.
    pub(crate) drop_after: Duration,
    /// In the endgame a chunk is asked of a second peer when it has been under way for this long.
    pub(crate) duplicate_after: Duration,
    /// A busy peer is asked again after this.
    pub(crate) busy_pause: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            first_depth: 8,
            max_depth: 64,
            max_peer_bytes: 16 << 20,
            pipeline_span: Duration::from_millis(500),
            min_patience: Duration::from_secs(5),
            first_patience: Duration::from_secs(10),
            drop_after: Duration::from_secs(30),
            duplicate_after: Duration::from_millis(700),
            busy_pause: Duration::from_secs(1),
        }
    }
}
