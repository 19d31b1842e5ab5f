//! What a client may ask of a node and what it hears back.
//!
//! The same types serve a caller in the same process and one behind HTTP (`node/src/http`). A call is one [`Request`],
//! any number of [`Event`]s, and one [`Outcome`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[cfg(doc)]
use super::Request;
use super::{ApiError, Response};

/// Version of these messages. A client and a daemon of different versions refuse each other with advice.
pub const API_VERSION: u32 = 8;

/// Files that a report names; it counts the others.
pub const MAX_LISTED: usize = 500;

/// Paths of one [`Request::StoreMany`]. With the longest paths it fits one message, and the small files among them take
/// 32 MiB of memory at most.
pub const MAX_STORE_PATHS: usize = 512;

/// What a call is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for a first connection to the network.
    Connecting,
    /// Finding out what is in a folder, or whether a file has room in the store.
    Planning,
    /// Reading, hashing and storing a file.
    Importing,
    /// Telling the DHT about it.
    Publishing,
    /// Looking for providers and the manifest.
    Finding,
    /// Fetching chunks.
    Fetching,
    /// Checking bytes that are already here.
    Verifying,
    /// Fetching what was damaged.
    Repairing,
    /// Giving back space.
    Collecting,
    /// Serving to others what was fetched.
    Seeding,
}

/// Progress of a call; the newest one replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
    /// Providers connected (fetching) or found (finding).
    pub sources: u32,
    /// What is being waited for and until when, in words; empty when nothing is.
    pub detail: String,
}

/// What a caller hears before the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// Something the person should know although the call goes on.
    Warning {
        /// The sentence.
        message: String,
    },
}

/// The end of a call.
pub type Outcome = Result<Response, ApiError>;
