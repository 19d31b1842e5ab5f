//! What calls about limits, swarms and seeding say and return.

use std::num::NonZeroU64;

use casnode_dht::Bandwidth;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::choke::SwarmMode;

/// The most that goes one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimit {
    /// As much as the line takes.
    Unlimited,
    /// This many bytes a second, [`RateLimit::MIN_BYTES_PER_S`] at least.
    BytesPerS(NonZeroU64),
}

impl RateLimit {
    /// The lowest limit that makes sense.
    pub const MIN_BYTES_PER_S: u64 = Bandwidth::MIN_BYTES_PER_S;
}

/// The most that goes one way.
// How `RateLimit` is described: its number has no schema.
#[derive(ToSchema)]
#[schema(as = RateLimit)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "its schema is what is wanted")]
enum JsonRateLimit {
    /// As much as the line takes.
    Unlimited,
    /// This many bytes a second, at least 1.
    BytesPerS(u64),
}

/// What is to be changed of a node's limits; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsChange {
    /// The most that is sent.
    #[schema(value_type = Option<JsonRateLimit>)]
    pub up: Option<RateLimit>,
    /// The most that is taken.
    #[schema(value_type = Option<JsonRateLimit>)]
    pub down: Option<RateLimit>,
    /// Whether peers on this machine and on private networks are held back as well.
    pub local: Option<bool>,
}

/// A node's limits, and what flows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsReport {
    /// The most that is sent in a second; absent: no limit.
    pub up_bytes_per_s: Option<u64>,
    /// The most that is taken in a second; absent: no limit.
    pub down_bytes_per_s: Option<u64>,
    /// Whether peers on this machine and on private networks are held back as well.
    pub local: bool,
    /// Bytes a second that were sent just now.
    pub up_now_bytes_per_s: u64,
    /// Bytes a second that were taken just now.
    pub down_now_bytes_per_s: u64,
    /// Bytes sent since the node's start.
    pub up_bytes: u64,
    /// Bytes taken since the node's start.
    pub down_bytes: u64,
}

/// A file's swarm, as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwarmReport {
    /// The file.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Its chunks.
    pub chunks: u32,
    /// Chunks that are here.
    pub chunks_here: u32,
    /// Whether its peers owe each other anything.
    pub mode: SwarmMode,
    /// How often the rarest chunk is there, this node's own copy counted; the part after the point is the share of
    /// chunks that are there once more.
    pub copies: f64,
    /// Bytes of it that were sent since the swarm was last without anybody.
    pub up_bytes: u64,
    /// Bytes of it that were fetched since then.
    pub down_bytes: u64,
    /// Its chunks in order, so many to a cell.
    pub map: ChunkMap,
    /// For how long it is served.
    pub seed: SeedReport,
    /// Everybody of the swarm that this node has a stream with.
    pub peers: Vec<SwarmPeer>,
}

/// A file's chunks, as they are drawn: a long file's are summed up, so that a map has [`ChunkMap::MAX_CELLS`] cells at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkMap {
    /// Chunks of each cell but the last, which has what is left.
    pub chunks_per_cell: u32,
    /// Of each cell, the chunks that are here.
    pub here: Vec<u32>,
    /// Of each cell, how often its rarest chunk is known to be there, this node's own copy counted.
    pub copies: Vec<u32>,
}

/// For how long a file is served, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeedReport {
    /// `none`, `until-exit`, a span like `30m`, `ratio=1.5` or `forever`.
    pub policy: String,
    /// When the file was whole, milliseconds since 1970; absent: it is not, or it was stored here.
    pub finished_unix_ms: Option<u64>,
    /// Bytes of it that were ever sent to others.
    pub uploaded_bytes: u64,
    /// The same as a part of the file's length.
    pub ratio: f64,
    /// How long it is served yet; absent where no time is set.
    pub left_ms: Option<u64>,
    /// How many bytes are sent yet; absent where no ratio is set.
    pub left_bytes: Option<u64>,
    /// It is served no more.
    pub over: bool,
}

/// A peer of a swarm. Rates are averages of the last 20 s; bytes are of this swarm alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwarmPeer {
    /// Its peer id.
    pub peer: String,
    /// Where it is connected.
    pub addr: Option<String>,
    /// `tcp` or `quic`.
    pub transport: Option<String>,
    /// What that connection is encrypted with, e.g. `tls13-aes-128-gcm`; absent: not known.
    pub cipher: Option<String>,
    /// Bytes a second sent to it.
    pub up_bytes_per_s: u64,
    /// Bytes a second that it sends.
    pub down_bytes_per_s: u64,
    /// Bytes sent to it.
    pub up_bytes: u64,
    /// Bytes that it sent.
    pub down_bytes: u64,
    /// Chunks that it has; absent: it has not said.
    pub have_chunks: Option<u32>,
    /// This node serves it nothing at present; absent: it asks this node for nothing.
    pub choked_by_us: Option<bool>,
    /// It serves this node nothing at present; absent: this node asks it for nothing.
    pub chokes_us: Option<bool>,
    /// It wants chunks of this node.
    pub interested_in_us: bool,
    /// It has chunks that this node wants.
    pub interests_us: bool,
    /// It was asked, and has sent nothing for a minute.
    pub snubs_us: bool,
}

#[cfg(test)]
mod tests;
