//! One node, and one stream between two of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use casnode_cas::HaveBitmap;
use casnode_node::SwarmMode;
use casnode_node::lab::{Choker, Mono, Offers, PeerSlot, Rate, Scheduler, Slots};

use super::world::{NodeId, StreamId};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Takes, and gives nothing.
    Freeloads,
    /// Says that it has everything, and has nothing.
    ClaimsAll,
    /// Says that it has everything, and sends something else.
    SendsWrong,
    /// Says that it has everything, lets everybody ask, and answers nothing.
    Mute,
    /// Asks while it is choked, and changes its mind without end.
    Floods,
}

impl Manner {
    /// Whether it is there to have the file.
    pub fn downloads(self) -> bool {
        matches!(self, Self::Honest | Self::Freeloads)
    }

    /// Whether what it says it has is a lie.
    pub fn lies(self) -> bool {
        matches!(self, Self::ClaimsAll | Self::SendsWrong | Self::Mute)
    }
}

/// A node. The engine of its download and its seeder, as far as decisions are concerned, are [`super::fetch`] and
/// [`super::serve`].
pub struct Node {
    pub manner: Manner,
    /// It is switched on.
    pub here: bool,
    pub have: HaveBitmap,
    /// The download, while it goes on.
    pub sched: Option<Scheduler>,
    /// When the scheduler is asked next.
    pub poll_at: Option<Mono>,
    /// Streams it opened, by slot; slots are not used twice.
    pub slots_used: Vec<StreamId>,
    /// Streams it opened, by whom they go to.
    pub asks: BTreeMap<NodeId, StreamId>,
    /// Streams that others opened, by who did.
    pub serves: BTreeMap<NodeId, StreamId>,
    pub choker: Choker,
    pub slots: Slots,
    pub offers: Option<Offers>,
    /// Chunks that came since others were last told.
    pub news: Vec<u32>,
    pub news_due: bool,
    /// Who is in the swarm, those heard of last at the back.
    pub known: VecDeque<NodeId>,
    /// When a stream to somebody last ended.
    pub past: BTreeMap<NodeId, Mono>,
    /// Bytes that others gave it.
    pub gave: BTreeMap<NodeId, u64>,
    pub banned: BTreeSet<NodeId>,
    /// Peers with streams, in the order in which they came, numbered.
    pub crowd: VecDeque<(u64, NodeId)>,
    pub crowd_count: u64,
    pub ticks: u64,
    /// What the line had done at the last tick.
    pub line_busy: Duration,
    /// When it last let a peer go for another.
    pub evicted_at: Mono,
    pub looked_up_at: Option<Mono>,
    /// It leaves when it has sent so much.
    pub leaves_after_bytes: Option<u64>,
    pub tally: Tally,
}

/// What happened to a node.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub entered_at: Mono,
    pub done_at: Option<Mono>,
    pub received_bytes: u64,
    pub duplicate_bytes: u64,
    pub wrong_bytes: u64,
    pub chokes: u64,
}

impl Node {
    pub fn new(manner: Manner, have: HaveBitmap, mode: SwarmMode, seed: u64) -> Self {
        Self {
            manner,
            here: false,
            have,
            sched: None,
            poll_at: None,
            slots_used: Vec::new(),
            asks: BTreeMap::new(),
            serves: BTreeMap::new(),
            choker: Choker::new(seed),
            slots: Slots::new(mode),
            offers: None,
            news: Vec::new(),
            news_due: false,
            known: VecDeque::new(),
            past: BTreeMap::new(),
            gave: BTreeMap::new(),
            banned: BTreeSet::new(),
            crowd: VecDeque::new(),
            crowd_count: 0,
            ticks: 0,
            line_busy: Duration::ZERO,
            evicted_at: Mono::default(),
            looked_up_at: None,
            leaves_after_bytes: None,
            tally: Tally::default(),
        }
    }

    /// It wants the file and has it.
    pub fn is_done(&self) -> bool {
        self.have.is_complete()
    }

    /// It is there, and what it has is what it says.
    pub fn gives_honestly(&self) -> bool {
        self.here && self.manner == Manner::Honest
    }
}

/// A stream: `asker` asks `server` for chunks.
pub struct Stream {
    pub asker: NodeId,
    pub server: NodeId,
    pub slot: PeerSlot,
    pub open: bool,
    // What the server knows.
    pub joined_at: Option<Mono>,
    pub choked: bool,
    pub interested: bool,
    /// It has not said so: what it had when it joined leaves no doubt.
    pub presumed: bool,
    /// Choked while a chunk is being written: these are refused when it is out.
    pub refused: Option<VecDeque<u32>>,
    pub taken_bytes: u64,
    pub sent_at: Mono,
    pub others_told: u64,
    /// Asked while choked.
    pub rude: u32,
    // What the asker knows.
    pub ready: bool,
    pub chokes_asker: bool,
    /// Asked and not answered.
    pub asked: BTreeSet<u32>,
    /// The same, void since the server choked: what it has not refused when it serves again was on its way, and comes.
    pub void: BTreeSet<u32>,
    pub gives: Rate,
    pub useful_at: Mono,
    /// What the server said it has; kept when things are checked.
    pub told: Option<HaveBitmap>,
}

impl Stream {
    pub fn new(asker: NodeId, server: NodeId, slot: PeerSlot, now: Mono) -> Self {
        Self {
            asker,
            server,
            slot,
            open: true,
            joined_at: None,
            choked: true,
            interested: false,
            presumed: true,
            refused: None,
            taken_bytes: 0,
            sent_at: now,
            others_told: 0,
            rude: 0,
            ready: false,
            chokes_asker: true,
            asked: BTreeSet::new(),
            void: BTreeSet::new(),
            gives: Rate::new(),
            useful_at: now,
            told: None,
        }
    }
}
