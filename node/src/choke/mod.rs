//! Whom this node sends chunks: choking, as in BEP 3 and its successors, and super-seeding.
//!
//! [`Choker`] decides whose turn it is, [`Slots`] how many have one at a time, [`Offers`] what a sole seed tells whom.
//!
//! Pure decision logic: time comes in as [`Mono`](crate::sched::Mono), randomness from a seed. `docs/SCHEDULING.md`
//! states the rules.

mod choker;
mod line;
mod offers;
mod rate;
mod slots;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use choker::{Choker, ROUND_EVERY};
pub use offers::Offers;
pub use rate::Rate;
pub use slots::{Load, Slots};

/// Whether the peers of a swarm owe each other anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum SwarmMode {
    /// Strangers: who gives gets.
    #[default]
    Fair,
    /// One owner's machines: load is spread, and nobody owes anybody.
    Trusted,
}

/// One stream that may be served, as the choker sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The stream.
    pub id: u64,
    /// Its swarm: any number, one for each.
    pub swarm: u64,
    /// The swarm's mode.
    pub mode: SwarmMode,
    /// It wants something that is here.
    pub interested: bool,
    /// What its peer sends this node in this swarm: bytes a second over the last 20 s.
    pub gives_per_s: u64,
    /// What this node has sent it in all.
    pub taken_bytes: u64,
    /// How many chunks its peer has.
    pub has_chunks: u32,
    /// What its peer has sent this node in this swarm, in all.
    pub gave_bytes: u64,
    /// This node has everything of the swarm.
    pub we_seed: bool,
    /// It is asked by this node, and has sent nothing for a minute.
    pub snubs_us: bool,
    /// When the stream joined.
    pub joined: crate::sched::Mono,
}

/// Whose state changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Streams to be unchoked.
    pub unchoke: Vec<u64>,
    /// Streams to be choked.
    pub choke: Vec<u64>,
}
