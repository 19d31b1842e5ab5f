//! What `why` returns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a file cannot be had, and all that was seen on the way to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyReport {
    /// What was asked for.
    pub address: String,
    /// What was seen, in the order it came.
    pub steps: Vec<WhyStep>,
    /// The cause, for programs.
    pub cause: WhyCause,
    /// The cause, in words.
    pub what: String,
    /// What to do.
    pub next: String,
    /// How long all of it took.
    pub took_ms: u64,
}

/// What stands between this node and a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhyCause {
    /// Nothing: somebody gives it.
    None,
    /// It is here already, whole.
    Here,
    /// This node is in no network.
    NoNetwork,
    /// This node is connected to nobody.
    NoPeers,
    /// Nobody is known to have it.
    Unknown,
    /// It was published, and nobody provides it any more.
    NoProviders,
    /// None of its providers can be reached.
    ProvidersDown,
    /// Its providers do not have it any more.
    ProvidersLack,
    /// Its providers send what is not the file's.
    ProvidersLie,
    /// Its providers serve others first.
    ProvidersBusy,
    /// Its providers are connected and do not answer as they should.
    ProvidersSilent,
    /// There is no room for it here.
    NoRoom,
    /// The link has another length than the file.
    WrongSize,
    /// The time was over before the cause was found.
    OutOfTime,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyStep {
    /// What.
    pub kind: WhyKind,
    /// What came of it.
    pub outcome: WhyOutcome,
    /// The peer that it is about.
    pub peer: Option<String>,
    /// Leading bits that the peer's place in the keyspace shares with the file's, of a hop.
    pub shared_bits: Option<u32>,
    /// What was seen, in words.
    pub what: String,
    /// How long it took.
    pub took_ms: u64,
}

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhyKind {
    /// What this node has of the file.
    Here,
    /// How this node stands in the network.
    Network,
    /// The lookup of the peers closest to the address.
    Lookup,
    /// What one of them says.
    Hop,
    /// The metadata record.
    Record,
    /// A peer that is said to have the file.
    Provider,
    /// A dial to an address of a peer.
    Dial,
    /// A provider's manifest.
    Manifest,
    /// A chunk of a provider's, taken at random.
    Chunk,
    /// Room for the file.
    Room,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyOutcome {
    /// As it should be.
    Ok,
    /// Nothing, which need not be wrong.
    Nothing,
    /// It failed.
    Failed,
}
