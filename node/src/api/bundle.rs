//! Many files of one call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, ProviderUse};

/// Files of one [`super::Request::GetMany`].
pub const MAX_LISTED_FILES: usize = 16_384;

/// Bytes of their paths in all, about an eighth of what a message holds: as JSON each may take six.
pub const MAX_LISTED_PATH_BYTES: usize = 2 << 20;

/// A file of a list, as `b3sum` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedFile {
    /// 64 hex digits.
    pub address: String,
    /// Its place in the folder: relative, without `..`.
    pub path: String,
}

/// What became of a file of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FetchedState {
    /// It came from the network.
    Fetched,
    /// It was written from what was here, or was there already.
    Here,
    /// It was not written.
    Failed,
}

/// A file of a list in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchedFile {
    /// What was asked for.
    pub address: String,
    /// Where it is, or would be.
    pub path: String,
    /// Its length; 0 when it is not there.
    pub bytes: u64,
    /// What became of it.
    pub state: FetchedState,
    /// Why it is not there.
    pub error: Option<ApiError>,
}

/// What `get --list` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListReport {
    /// Every file of the list, in its order.
    pub files: Vec<FetchedFile>,
    /// Files that came from the network.
    pub fetched: u64,
    /// Files that were here.
    pub here: u64,
    /// Files that were not written.
    pub failed: u64,
    /// Bytes of all files that are there now.
    pub bytes: u64,
    /// Files that are kept where they were written now: the store refers to them, and they must stay there unchanged.
    pub kept_in_place: u64,
    /// Wall time.
    pub seconds: f64,
    /// Who sent what, of the files that came many at a time.
    pub providers: Vec<ProviderUse>,
}

#[cfg(test)]
mod tests;
