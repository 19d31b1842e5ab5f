//! What goes into the scheduler and what comes out.

use std::ops::Range;

use casnode_cas::HaveBitmap;

use super::PeerSlot;

/// Why a requested chunk did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer said that it does not have it, whatever its bitmap claims.
    NotFound,
    /// The peer asked to be left alone for a moment.
    Busy,
    /// The peer had choked this node by then.
    Choked,
    /// The bytes did not match the hash.
    WrongBytes,
}

/// What happened. An index beyond the last chunk, or a peer that is not present, changes nothing.
#[derive(Debug, Clone)]
pub enum Event {
    /// A peer is here. It is choked until it is said to be unchoked.
    PeerJoined {
        /// The peer.
        peer: PeerSlot,
        /// What it said it has.
        have: HaveBitmap,
    },
    /// A peer has these chunks, too.
    PeerGot {
        /// The peer.
        peer: PeerSlot,
        /// The chunks.
        indices: Vec<u32>,
    },
    /// A peer sends nothing from now on; whatever was asked of it goes back. It needs no cancelling.
    Choked {
        /// The peer.
        peer: PeerSlot,
    },
    /// A peer sends what it is asked for from now on.
    Unchoked {
        /// The peer.
        peer: PeerSlot,
    },
    /// A peer was found to have one chunk that it did not tell of.
    PeerHasChunk {
        /// The peer.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
    },
    /// A group is proven: the manifest may be believed as far as that.
    Proven,
    /// A chunk is here without having been asked for: an equal one came.
    Here {
        /// The chunk.
        index: u32,
    },
    /// A chunk came whole; its hash is still being checked. Counts for the peer's rate.
    Arrived {
        /// Who sent it.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
    },
    /// A chunk's hash was right and it is kept.
    Verified {
        /// Who sent it.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
    },
    /// A requested chunk did not come, or came wrong.
    Failed {
        /// Who was asked.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
        /// What went wrong.
        fault: Fault,
    },
    /// A chunk that was thought to be here is not usable after all.
    Lost {
        /// The chunk.
        index: u32,
    },
    /// The reader of a stream has come so far: it has all chunks before this one. It does not go back.
    Position {
        /// The chunk it needs next.
        index: u32,
        /// The first chunk that it does without for now: it can take those before it together only.
        end: u32,
    },
    /// Readers of ranges need these chunks soon, each from where it is on, and no others as far as they are concerned.
    /// They go before whatever else is wanted.
    Ranges {
        /// What each reader needs.
        ranges: Vec<Range<u32>>,
        /// The chunks of a group that is to be proven before the rest is asked for; empty where that is not called for.
        first: Vec<u32>,
    },
    /// This side cannot take more chunks at the moment: nobody is late for it.
    OwnStall,
    /// This side has no memory for what a peer has begun to send: it is not late for it.
    HeldUp {
        /// The peer.
        peer: PeerSlot,
    },
    /// Bytes of a chunk came, and not all of it yet: the peer may be late, but it is not gone.
    Receiving {
        /// The peer.
        peer: PeerSlot,
    },
    /// A peer is gone; whatever was asked of it goes back.
    PeerLeft {
        /// The peer.
        peer: PeerSlot,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask `peer` for the chunk.
    Request {
        /// Who is asked.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
    },
    /// Tell `peer` that the chunk is no longer needed from it.
    Cancel {
        /// Who was asked.
        peer: PeerSlot,
        /// The chunk.
        index: u32,
    },
    /// Tell `peer` whether it has anything that is not here: it has not until it is said.
    Interest {
        /// The peer.
        peer: PeerSlot,
        /// Whether it has.
        wants: bool,
    },
    /// Let the peer go. It is forgotten by then.
    Drop {
        /// The peer.
        peer: PeerSlot,
        /// Why.
        reason: DropReason,
    },
}

impl Action {
    /// The peer it is about.
    #[must_use]
    pub fn peer(&self) -> PeerSlot {
        match self {
            Self::Request { peer, .. }
            | Self::Cancel { peer, .. }
            | Self::Interest { peer, .. }
            | Self::Drop { peer, .. } => *peer,
        }
    }
}

/// Why a peer is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It sent bytes that do not match their hash.
    WrongBytes,
    /// Nothing came from it for too long.
    Stalled,
}
